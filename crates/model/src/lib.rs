//! Architectures, weights in and out, adapters, generation.

mod checkpoint;
mod config;
mod encoding;
mod gguf;

pub use checkpoint::{Checkpoint, WeightsError};
pub use config::LlamaConfig;
pub use encoding::Encoding;
