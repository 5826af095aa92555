//! Decoders in GGUF files: metadata to [`LlamaConfig`] and tokenizer, tensors under their Hugging Face names.

mod read;
mod write;

use std::collections::BTreeMap;
use std::path::Path;

use temper_text::GgufVocab;

use crate::Encoding;
use crate::checkpoint::WeightsError;
use crate::config::{Design, LayerKind, LlamaConfig};
use crate::family::{Family, GGUF_ARCHITECTURES};
use crate::rope::RopeScaling;
use read::{Container, Value};
pub use write::{GgufAbout, write_gguf};

/// An open GGUF file of a decoder.
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
        let hf = |name: &String| (hf_name(name, &config.design).unwrap_or_else(|| name.clone()), name.clone());
        let names = container.tensors.keys().map(hf).collect();
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

    /// The rows of a tensor as they are stored, but those of query and key projections in Hugging Face order, and norms as
    /// Hugging Face has them; `None` where there is no such tensor.
    ///
    /// The converter of Llama's architecture interleaves the two rotary halves of each head: its row `2 i + b` of a head is row
    /// `b head_dim/2 + i` of the original (`LlamaModel.permute` in llama.cpp's `convert_hf_to_gguf.py`). Norms that
    /// multiply by one plus their weight are stored with the one added (`norm_shift` there).
    pub(crate) fn tensor(&self, name: &str) -> Result<Option<Vec<u8>>, WeightsError> {
        let Some(info) = self.names.get(name).and_then(|n| self.container.tensors.get(n)) else { return Ok(None) };
        let bytes = self.container.read(info)?;
        let design = &self.config.design;
        if design.norm_offset && name.ends_with("norm.weight") {
            if info.encoding != Encoding::F32 {
                let what = format!("tensor `{name}`: the type of a norm");
                return Err(WeightsError::unsupported(self.path(), what, info.encoding.to_string(), "F32"));
            }
            let values = info.encoding.decode(&bytes, info.shape[0]);
            return Ok(Some(values.into_iter().flat_map(|weight| (weight - 1.0).to_le_bytes()).collect()));
        }
        let head_dim = self.config.head_dim;
        let interleaved = matches!(design.family, Family::Llama | Family::Mistral | Family::SmolLm3);
        let turned = [".self_attn.q_proj.", ".self_attn.k_proj."].iter().any(|projection| name.contains(projection));
        if !interleaved || !turned || !info.shape[0].is_multiple_of(head_dim) {
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

/// Model metadata, keys `ARCHITECTURE.*`: `docs/gguf.md` of ggml, section "LLM", and `llama-arch.cpp` of llama.cpp.
fn read_config(container: &Container) -> Result<LlamaConfig, WeightsError> {
    let mut meta = Metadata { path: &container.file.path, entries: &container.metadata, problems: Vec::new() };
    let architecture = meta.text("general.architecture").unwrap_or_default();
    let Some(family) = Family::of_gguf(&architecture) else {
        let what = "metadata `general.architecture`";
        return Err(WeightsError::unsupported(&container.file.path, what, architecture, GGUF_ARCHITECTURES));
    };
    let key = |name: &str| format!("{}.{name}", family.gguf());

    let heads = meta.size(&key("attention.head_count"), None);
    let hidden_size = meta.size(&key("embedding_length"), None);
    let head_dim = meta.size(&key("attention.key_length"), hidden_size.checked_div(heads));
    for name in ["attention.value_length", "rope.dimension_count"] {
        let size = meta.size(&key(name), Some(head_dim));
        if size != head_dim {
            meta.problems.push(format!("{}: expected the head width {head_dim}, got {size}", key(name)));
        }
    }
    let embedding_rows = container.tensors.get("token_embd.weight").map(|t| t.shape[0]);
    let num_hidden_layers = meta.size(&key("block_count"), None);
    let rope_theta = meta.number(&key("rope.freq_base"), Some(10_000.0));
    let mut config = LlamaConfig {
        vocab_size: meta.size(&key("vocab_size"), embedding_rows),
        hidden_size,
        intermediate_size: meta.size(&key("feed_forward_length"), None),
        num_hidden_layers,
        num_attention_heads: heads,
        num_key_value_heads: meta.size(&key("attention.head_count_kv"), Some(heads)),
        head_dim,
        rope_theta,
        rms_norm_eps: meta.number(&key("attention.layer_norm_rms_epsilon"), None),
        tie_word_embeddings: !container.tensors.contains_key("output.weight"),
        max_position_embeddings: meta.size(&key("context_length"), None),
        bos_token_id: meta.token("tokenizer.ggml.bos_token_id"),
        eos_token_ids: meta.token("tokenizer.ggml.eos_token_id").into_iter().collect(),
        pad_token_id: meta.token("tokenizer.ggml.padding_token_id"),
        design: family.design(),
    };
    read_design(&mut meta, container, &mut config);
    if meta.problems.is_empty() {
        meta.problems = config.problems();
    }
    if meta.problems.is_empty() && container.tensors.contains_key("rope_freqs.weight") {
        match llama3_scaling(container, &config)? {
            Some(scaling) => config.design.rope_scaling = scaling,
            None => meta.problems.push(
                "tensor `rope_freqs.weight`: expected the factors of Llama 3.1's scaled rotary frequencies, got others"
                    .to_owned(),
            ),
        }
    }
    meta.refuse_if_any()?;
    Ok(config)
}

/// In what the file's model differs from Llama: what its metadata says, and what llama.cpp knows of the architecture.
fn read_design(meta: &mut Metadata<'_>, container: &Container, config: &mut LlamaConfig) {
    let family = config.design.family;
    let key = |name: &str| format!("{}.{name}", family.gguf());
    // What would change the computation and is not built.
    for (name, harmless) in [
        ("rope.scale_linear", Value::Float(1.0)),
        ("rope.scaling.attn_factor", Value::Float(1.0)),
        ("expert_count", Value::Int(0)),
        ("attn_logit_softcapping", Value::Float(0.0)),
        ("final_logit_softcapping", Value::Float(0.0)),
        ("attention.scale", Value::Float(0.0)),
        ("attention.causal", Value::Bool(true)),
        ("embedding_scale", Value::Float(1.0)),
        ("residual_scale", Value::Float(1.0)),
        ("logit_scale", Value::Float(1.0)),
    ] {
        if let Some(value) = container.metadata.get(&key(name)).filter(|v| **v != harmless) {
            meta.problems.push(format!("{}: not supported, got {}", key(name), value.describe()));
        }
    }
    let factor = meta.number(&key("rope.scaling.factor"), Some(1.0));
    match meta.text(&key("rope.scaling.type")).as_deref() {
        None | Some("none") if factor == 1.0 => {}
        None | Some("linear") => config.design.rope_scaling = RopeScaling::Linear { factor },
        Some(other) => {
            meta.problems.push(format!("{}: expected none or linear, got {other}", key("rope.scaling.type")));
        }
    }
    let has = |part: &str| container.tensors.contains_key(&format!("blk.0.{part}.bias"));
    if matches!(family, Family::Llama | Family::Qwen3 | Family::SmolLm3 | Family::Gemma3) {
        let attention = has("attn_q") && has("attn_output");
        (config.design.qkv_bias, config.design.o_bias) = (attention, attention);
    }
    config.design.mlp_bias = matches!(family, Family::Llama | Family::SmolLm3) && has("ffn_gate") && has("ffn_down");

    let window_key = key("attention.sliding_window");
    let window = container.metadata.contains_key(&window_key).then(|| meta.size(&window_key, None));
    let layers = 0..config.num_hidden_layers.min(1 << 12);
    match family {
        // Mistral's files say `llama`.
        Family::Llama | Family::Mistral => {
            if window.is_some() {
                config.design.family = Family::Mistral;
                config.design.layers = layers.map(|_| LayerKind { window, rope: true }).collect();
            }
        }
        Family::Qwen2 | Family::Qwen3 => {
            if window.is_some() {
                meta.problems.push(format!("{window_key}: not supported in this architecture"));
            }
        }
        // llama.cpp: `n_no_rope_layer_step`.
        Family::SmolLm3 => {
            let kind = |i: usize| LayerKind { window: None, rope: !(i + 1).is_multiple_of(4) };
            config.design.layers = layers.map(kind).collect();
        }
        Family::Gemma3 => {
            let window = Some(meta.size(&window_key, None));
            let pattern = meta.size(&key("attention.sliding_window_pattern"), Some(6)).max(1);
            let kind = |i: usize| {
                let slides = !(i + 1).is_multiple_of(pattern);
                LayerKind { window: window.filter(|_| slides), rope: true }
            };
            config.design.layers = layers.map(kind).collect();
            config.design.rope_local_theta = Some(meta.number(&key("rope.freq_base_swa"), Some(10_000.0)));
            // llama.cpp: `f_attention_scale`, by the width of a head but in the model of 62 layers (27B).
            let of_hidden = config.hidden_size.checked_div(config.num_attention_heads).unwrap_or(0);
            let scalar = if config.num_hidden_layers == 62 { of_hidden } else { config.head_dim };
            config.design.query_pre_attn_scalar = Some(scalar as f64);
        }
    }
}

/// The scaling by whose factors the file's `rope_freqs.weight` divides the frequencies: `factor` is the largest of them, the
/// rest as in all models of Llama 3.1 and 3.2.
fn llama3_scaling(container: &Container, config: &LlamaConfig) -> Result<Option<RopeScaling>, WeightsError> {
    let Some(info) = container.tensors.get("rope_freqs.weight").filter(|info| info.encoding == Encoding::F32) else {
        return Ok(None);
    };
    let factors = info.encoding.decode(&container.read(info)?, config.head_dim / 2);
    let factor = f64::from(factors.iter().copied().fold(0.0, f32::max));
    let scaling = RopeScaling::Llama3 {
        factor,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_max_position_embeddings: 8192,
    };
    let [(plain, _), (scaled, _)] =
        [RopeScaling::Default, scaling].map(|scaling| scaling.frequencies(config.rope_theta, config.head_dim));
    let is_near =
        |((plain, scaled), &factor): ((&f64, &f64), &f32)| (plain / scaled / f64::from(factor) - 1.0).abs() < 1e-4;
    let agree = factors.len() == plain.len() && plain.iter().zip(&scaled).zip(&factors).all(is_near);
    Ok((factor >= 1.0 && factor.is_finite() && agree).then_some(scaling))
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

/// The Hugging Face name of a GGUF tensor; `None` for one that has no counterpart.
fn hf_name(name: &str, design: &Design) -> Option<String> {
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
        "attn_q_norm" => "self_attn.q_norm",
        "attn_k_norm" => "self_attn.k_norm",
        "ffn_norm" if design.branch_norms => "pre_feedforward_layernorm",
        "post_attention_norm" if design.branch_norms => "post_attention_layernorm",
        "post_ffw_norm" if design.branch_norms => "post_feedforward_layernorm",
        "ffn_norm" => "post_attention_layernorm",
        "ffn_gate" => "mlp.gate_proj",
        "ffn_up" => "mlp.up_proj",
        "ffn_down" => "mlp.down_proj",
        _ => return None,
    };
    Some(format!("model.layers.{layer}.{part}.{kind}"))
}
