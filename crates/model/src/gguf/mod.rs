//! Llama models in GGUF files: metadata to [`LlamaConfig`] and tokenizer, tensors under their Hugging Face names.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use temper_text::GgufVocab;

use crate::Encoding;
use crate::checkpoint::WeightsError;
use crate::config::LlamaConfig;
use read::{Container, Value};
pub use write::{GgufAbout, write_gguf};

/// An open GGUF file of a Llama-family model.
#[derive(Debug)]
pub(crate) struct Gguf {
    container: Container,
    config: LlamaConfig,
    /// Hugging Face name to GGUF name; tensors that have no counterpart keep their own name.
    names: BTreeMap<String, String>,
}

impl Gguf {
    /// Opens the file, checks its header and reads the model's shape.
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let container = Container::open(path)?;
        let config = read_config(&container)?;
        let names = container.tensors.keys().map(|n| (hf_name(n).unwrap_or_else(|| n.clone()), n.clone())).collect();
        Ok(Self { container, config, names })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.container.file.path
    }

    pub(crate) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.names.keys().map(String::as_str)
    }

    /// Shape, row-major, and storage of a tensor.
    pub(crate) fn info(&self, name: &str) -> Option<(&[usize], Encoding)> {
        let info = self.container.tensors.get(self.names.get(name)?)?;
        Some((&info.shape, info.encoding))
    }

    /// The rows of a tensor as they are stored, but those of query and key projections in Hugging Face order; `None` where
    /// there is no such tensor.
    ///
    /// The converter to GGUF interleaves the two rotary halves of each head: its row `2 i + b` of a head is row
    /// `b head_dim/2 + i` of the original (`LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`).
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Vec<u8>>, WeightsError> {
        let Some(info) = self.names.get(name).and_then(|n| self.container.tensors.get(n)) else { return Ok(None) };
        let bytes = self.container.read(info)?;
        let head_dim = self.config.head_dim;
        let permuted = name.ends_with(".self_attn.q_proj.weight") || name.ends_with(".self_attn.k_proj.weight");
        if !permuted || !info.shape[0].is_multiple_of(head_dim) {
            return Ok(Some(bytes));
        }
        let (half, row_bytes) = (head_dim / 2, bytes.len() / info.shape[0]);
        let stored = |row: usize| {
            let (head, within) = (row / head_dim, row % head_dim);
            head * head_dim + 2 * (within % half) + within / half
        };
        let rows = (0..info.shape[0]).flat_map(|row| &bytes[stored(row) * row_bytes..][..row_bytes]);
        Ok(Some(rows.copied().collect()))
    }

    /// The licence as the file declares it.
    pub(crate) fn licence(&self) -> Option<String> {
        match self.container.metadata.get("general.license") {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        }
    }

    /// The tokenizer's metadata, unchanged.
    pub(crate) fn vocab(&self) -> Result<GgufVocab, WeightsError> {
        read_vocab(self.path(), &self.container.metadata)
    }
}

/// The tokenizer's metadata of a GGUF file, unchanged, whatever model it holds.
///
/// # Errors
/// When the file is no GGUF file, or the entries are missing or of the wrong type.
pub fn gguf_vocab(path: &Path) -> Result<GgufVocab, WeightsError> {
    read_vocab(path, &read::metadata(path)?)
}

fn read_vocab(path: &Path, entries: &BTreeMap<String, Value>) -> Result<GgufVocab, WeightsError> {
    let mut meta = Metadata { path, entries, problems: Vec::new() };
    let model = meta.text("tokenizer.ggml.model").unwrap_or_default();
    let vocab = GgufVocab {
        model: model.clone(),
        pre: meta.text("tokenizer.ggml.pre").unwrap_or_default(),
        tokens: meta.texts("tokenizer.ggml.tokens"),
        token_types: match entries.get("tokenizer.ggml.token_type") {
            Some(Value::Ints(types)) if types.iter().all(|t| i32::try_from(*t).is_ok()) => {
                types.iter().map(|&t| t as i32).collect()
            }
            other => meta.wrong("tokenizer.ggml.token_type", "an array of int32", other),
        },
        merges: if model == "gpt2" { meta.texts("tokenizer.ggml.merges") } else { Vec::new() },
        scores: match entries.get("tokenizer.ggml.scores") {
            Some(Value::Floats(scores)) => scores.clone(),
            _ if model != "llama" => Vec::new(),
            other => meta.wrong("tokenizer.ggml.scores", "an array of float32", other),
        },
        add_space_prefix: meta.flag("tokenizer.ggml.add_space_prefix", true),
        bos_id: meta.token("tokenizer.ggml.bos_token_id"),
        eos_id: meta.token("tokenizer.ggml.eos_token_id"),
        unk_id: meta.token("tokenizer.ggml.unknown_token_id"),
        pad_id: meta.token("tokenizer.ggml.padding_token_id"),
        // llama.cpp adds one to SentencePiece vocabularies that do not say.
        add_bos: meta.flag("tokenizer.ggml.add_bos_token", model == "llama"),
        chat_template: meta.text("tokenizer.chat_template"),
    };
    meta.refuse_if_any()?;
    Ok(vocab)
}

/// Model metadata, keys `llama.*`: `docs/gguf.md` of ggml, section "LLM".
fn read_config(container: &Container) -> Result<LlamaConfig, WeightsError> {
    let mut meta = Metadata { path: &container.file.path, entries: &container.metadata, problems: Vec::new() };
    let architecture = meta.text("general.architecture").unwrap_or_default();
    if architecture != "llama" {
        let what = "metadata `general.architecture`";
        return Err(WeightsError::unsupported(&container.file.path, what, architecture, "llama"));
    }
    // What would change the computation and is not built.
    for (key, harmless) in [
        ("llama.rope.scaling.type", Value::Text("none".to_owned())),
        ("llama.rope.scale_linear", Value::Float(1.0)),
        ("llama.rope.scaling.factor", Value::Float(1.0)),
        ("llama.expert_count", Value::Int(0)),
    ] {
        if let Some(value) = container.metadata.get(key).filter(|v| **v != harmless) {
            meta.problems.push(format!("{key}: not supported, got {}", value.describe()));
        }
    }
    if container.tensors.contains_key("rope_freqs.weight") {
        meta.problems.push("tensor `rope_freqs.weight`: scaled rotary frequencies are not supported".to_owned());
    }

    let heads = meta.size("llama.attention.head_count", None);
    let hidden_size = meta.size("llama.embedding_length", None);
    let head_dim = meta.size("llama.attention.key_length", hidden_size.checked_div(heads));
    for key in ["llama.attention.value_length", "llama.rope.dimension_count"] {
        let size = meta.size(key, Some(head_dim));
        if size != head_dim {
            meta.problems.push(format!("{key}: expected the head width {head_dim}, got {size}"));
        }
    }
    let embedding_rows = container.tensors.get("token_embd.weight").map(|t| t.shape[0]);
    let config = LlamaConfig {
        vocab_size: meta.size("llama.vocab_size", embedding_rows),
        hidden_size,
        intermediate_size: meta.size("llama.feed_forward_length", None),
        num_hidden_layers: meta.size("llama.block_count", None),
        num_attention_heads: heads,
        num_key_value_heads: meta.size("llama.attention.head_count_kv", Some(heads)),
        head_dim,
        rope_theta: meta.number("llama.rope.freq_base", Some(10_000.0)),
        rms_norm_eps: meta.number("llama.attention.layer_norm_rms_epsilon", None),
        tie_word_embeddings: !container.tensors.contains_key("output.weight"),
        max_position_embeddings: meta.size("llama.context_length", None),
        bos_token_id: meta.token("tokenizer.ggml.bos_token_id"),
        eos_token_ids: meta.token("tokenizer.ggml.eos_token_id").into_iter().collect(),
        pad_token_id: meta.token("tokenizer.ggml.padding_token_id"),
    };
    if meta.problems.is_empty() {
        meta.problems = config.problems();
    }
    meta.refuse_if_any()?;
    Ok(config)
}

/// Reads metadata and collects what is wrong with it.
struct Metadata<'a> {
    path: &'a Path,
    entries: &'a BTreeMap<String, Value>,
    problems: Vec<String>,
}

impl Metadata<'_> {
    fn wrong<T: Default>(&mut self, key: &str, expected: &str, got: Option<&Value>) -> T {
        self.problems.push(match got {
            None => format!("{key}: missing"),
            Some(value) => format!("{key}: expected {expected}, got {}", value.describe()),
        });
        T::default()
    }

    fn size(&mut self, key: &str, default: Option<usize>) -> usize {
        match (self.entries.get(key), default) {
            (None, Some(default)) => default,
            (Some(Value::Int(n)), _) if usize::try_from(*n).is_ok() => *n as usize,
            (other, _) => self.wrong(key, "a whole number", other),
        }
    }

    fn number(&mut self, key: &str, default: Option<f64>) -> f64 {
        match (self.entries.get(key), default) {
            (None, Some(default)) => default,
            (Some(Value::Float(x)), _) => *x,
            (other, _) => self.wrong(key, "a floating-point number", other),
        }
    }

    fn flag(&mut self, key: &str, default: bool) -> bool {
        match self.entries.get(key) {
            None => default,
            Some(Value::Bool(flag)) => *flag,
            other => self.wrong(key, "a boolean", other),
        }
    }

    fn token(&mut self, key: &str) -> Option<u32> {
        match self.entries.get(key) {
            None => None,
            Some(Value::Int(id)) if u32::try_from(*id).is_ok() => Some(*id as u32),
            other => self.wrong(key, "a token id", other),
        }
    }

    fn text(&mut self, key: &str) -> Option<String> {
        match self.entries.get(key) {
            None => None,
            Some(Value::Text(text)) => Some(text.clone()),
            other => self.wrong(key, "a string", other),
        }
    }

    fn texts(&mut self, key: &str) -> Vec<String> {
        match self.entries.get(key) {
            Some(Value::Texts(texts)) => texts.clone(),
            other => self.wrong(key, "an array of strings", other),
        }
    }

    fn refuse_if_any(self) -> Result<(), WeightsError> {
        if self.problems.is_empty() {
            return Ok(());
        }
        Err(WeightsError::Config { file: self.path.to_owned(), problems: self.problems })
    }
}

/// The Hugging Face name of a llama-arch GGUF tensor; `None` for one that has no counterpart.
fn hf_name(name: &str) -> Option<String> {
    match name {
        "token_embd.weight" => return Some("model.embed_tokens.weight".to_owned()),
        "output_norm.weight" => return Some("model.norm.weight".to_owned()),
        "output.weight" => return Some("lm_head.weight".to_owned()),
        _ => {}
    }
    let (layer, part) = name.strip_prefix("blk.")?.split_once('.')?;
    let layer: usize = layer.parse().ok()?;
    let (part, kind) = part.split_once('.')?;
    let part = match part {
        "attn_norm" => "input_layernorm",
        "attn_q" => "self_attn.q_proj",
        "attn_k" => "self_attn.k_proj",
        "attn_v" => "self_attn.v_proj",
        "attn_output" => "self_attn.o_proj",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}
