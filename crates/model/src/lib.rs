//! Architectures, weights in and out, adapters, generation.

mod adapter;
mod beginnings;
mod checkpoint;
mod config;
mod export;
mod fused;
mod generate;
mod gguf;
mod linear;
mod llama;
mod parameters;
mod prefixes;
mod safetensors;
mod sampling;
mod source;
mod stored;
mod weight_file;
mod workspace;

pub use adapter::{Adapter, AdapterConfig, AdapterModule, AdapterTable, BaseRecord, read_adapter, write_adapter};
pub use beginnings::Beginnings;
pub use checkpoint::{Checkpoint, WeightsError};
pub use config::LlamaConfig;
pub use export::{Dtype, write_model, write_model_in_shards, write_tensors};
pub use generate::{Finish, GenerateError, Generated, generate};
pub use gguf::{GgufAbout, gguf_vocab, write_gguf};
pub use linear::Noise;
pub use llama::{KvCache, Llama, Tokens};
pub use parameters::{AdapterInit, AdapterSpace, Dropout, LINEAR_MODULES, LoraSettings, Parameter, TABLES, Tuning};
pub use safetensors::TensorFile;
pub use sampling::Sampling;
pub use source::{Download, ResolvedBase, SourceError, default_cache_dir, hub_location, resolve_base, resolve_rows};
pub use stored::Stored;
pub use temper_kernels::Encoding;
pub use temper_text::GgufVocab;
pub use workspace::{LOGIT_ROWS, Purpose, Workspace};
