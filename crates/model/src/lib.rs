//! Architectures, weights in and out, adapters, generation.
