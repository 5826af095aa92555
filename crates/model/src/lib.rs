//! Architectures, weights in and out, adapters, generation.

mod adapter;
mod checkpoint;
mod config;
mod encoding;
mod export;
mod gguf;
mod safetensors;
mod source;
mod weight_file;

pub use adapter::{AdapterConfig, AdapterModule, read_adapter, write_adapter};
pub use checkpoint::{Checkpoint, WeightsError};
pub use config::LlamaConfig;
pub use encoding::Encoding;
pub use export::{Dtype, write_model};
pub use source::{Download, ResolvedBase, SourceError, default_cache_dir, resolve_base};
