//! Files to rows to packed batches; the mix.
