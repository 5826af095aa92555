//! The recipe: its types, its strict reader, its errors.
