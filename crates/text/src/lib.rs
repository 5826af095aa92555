//! Tokenizer, chat template, rendering: messages to tokens and what is trained.

mod gguf_vocab;

pub use gguf_vocab::GgufVocab;
