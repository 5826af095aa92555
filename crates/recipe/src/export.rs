//! What a run leaves of the tuned model.

crate::kind::words! {
    /// A form of the tuned model.
    pub enum Export {
        /// The adapter, as PEFT loads it; after one LoRA stage over the base.
        Adapter = "adapter",
        /// The whole model in safetensors, f32, with its tokenizer.
        Merged = "merged",
        /// GGUF of f32 numbers.
        GgufF32 = "gguf:f32",
        /// GGUF of f16 numbers.
        GgufF16 = "gguf:f16",
        /// GGUF of bf16 numbers.
        GgufBf16 = "gguf:bf16",
        /// GGUF of blocks of 8 bits.
        GgufQ8 = "gguf:q8_0",
        /// GGUF of blocks of 4 bits.
        GgufQ4 = "gguf:q4_0",
    }
}
