//! How the frozen weights of a quantised base lie in memory.

crate::kind::words! {
    /// How weights that are not trained lie in memory. The numbers that training gives do not depend on it.
    pub enum FrozenWeights {
        /// As the numbers that products multiply, in both orders that training reads them in, mapped from the cache.
        Decoded = "decoded",
        /// In the quantised blocks of their file, decoded anew by each product.
        AsStored = "as_stored",
    }
}
