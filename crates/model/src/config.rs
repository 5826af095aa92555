//! The shape of a Llama-family decoder, from `config.json` of a Hugging Face folder or from GGUF metadata.

use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::checkpoint::WeightsError;

/// Shape and constants of a Llama-family decoder. Field names are those of transformers' `LlamaConfig`.
///
/// Every value that a [`Checkpoint`](crate::Checkpoint) hands out has passed [`LlamaConfig::problems`].
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LlamaConfig {
    /// Rows of the embedding table.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width of the gated feed-forward layer.
    pub intermediate_size: usize,
    /// Number of blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides the query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; even. Need not be `hidden_size / num_attention_heads`.
    pub head_dim: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// The output head is the embedding table.
    pub tie_word_embeddings: bool,
    /// Longest sequence the model was made for, in tokens.
    pub max_position_embeddings: usize,
    /// First token of a sequence, where given.
    pub bos_token_id: Option<u32>,
    /// Tokens that end a sequence; empty where none is given.
    pub eos_token_ids: Vec<u32>,
    /// Filler token, where given. May equal an end token: never recognise padding by its id.
    pub pad_token_id: Option<u32>,
}

impl LlamaConfig {
    /// The shape of SmolLM2-135M-Instruct, as its published files give it: what the tests and `temper bench` run on.
    pub fn smollm2_135m() -> Self {
        Self {
            vocab_size: 49_152,
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            head_dim: 64,
            rope_theta: 100_000.0,
            rms_norm_eps: 1e-5,
            tie_word_embeddings: true,
            max_position_embeddings: 8192,
            bos_token_id: Some(1),
            eos_token_ids: vec![2],
            pad_token_id: Some(2),
        }
    }

    /// Everything that is wrong with these numbers; empty when they describe a model that can be built.
    ///
    /// The upper bounds are several times those of the largest published models; they stop a damaged file from asking for
    /// absurd memory.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = Vec::new();
        for (name, value, most) in [
            ("vocab_size", self.vocab_size, 1 << 22),
            ("hidden_size", self.hidden_size, 1 << 17),
            ("intermediate_size", self.intermediate_size, 1 << 20),
            ("num_hidden_layers", self.num_hidden_layers, 1 << 10),
            ("num_attention_heads", self.num_attention_heads, 1 << 12),
            ("num_key_value_heads", self.num_key_value_heads, 1 << 12),
            ("head_dim", self.head_dim, 1 << 12),
            ("max_position_embeddings", self.max_position_embeddings, 1 << 28),
        ] {
            if !(1..=most).contains(&value) {
                problems.push(format!("{name}: expected 1 to {most}, got {value}"));
            }
        }
        let (heads, kv_heads) = (self.num_attention_heads, self.num_key_value_heads);
        if kv_heads > 0 && !heads.is_multiple_of(kv_heads) {
            problems.push(format!(
                "num_key_value_heads: expected a divisor of num_attention_heads {heads}, got {kv_heads}"
            ));
        }
        if !self.head_dim.is_multiple_of(2) {
            problems.push(format!("head_dim: expected an even number (rotary pairs), got {}", self.head_dim));
        }
        if !(self.rope_theta.is_finite() && self.rope_theta >= 1.0) {
            problems.push(format!("rope_theta: expected a finite number of at least 1, got {}", self.rope_theta));
        }
        if !(self.rms_norm_eps > 0.0 && self.rms_norm_eps < 0.1) {
            problems.push(format!("rms_norm_eps: expected above 0 and below 0.1, got {}", self.rms_norm_eps));
        }
        let ids = [("bos_token_id", self.bos_token_id), ("pad_token_id", self.pad_token_id)];
        let ids = ids.into_iter().filter_map(|(name, id)| Some((name, id?)));
        for (name, id) in ids.chain(self.eos_token_ids.iter().map(|&id| ("eos_token_id", id))) {
            if id as usize >= self.vocab_size {
                problems.push(format!("{name}: expected below vocab_size {}, got {id}", self.vocab_size));
            }
        }
        problems
    }

    /// Names (as in a Hugging Face checkpoint) and shapes, row-major `[out, in]`, of all weights, in the order of the forward
    /// pass.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner) = (self.hidden_size, self.intermediate_size);
        let q = self.num_attention_heads * self.head_dim;
        let kv = self.num_key_value_heads * self.head_dim;
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            for (name, shape) in [
                ("input_layernorm", vec![hidden]),
                ("self_attn.q_proj", vec![q, hidden]),
                ("self_attn.k_proj", vec![kv, hidden]),
                ("self_attn.v_proj", vec![kv, hidden]),
                ("self_attn.o_proj", vec![hidden, q]),
                ("post_attention_layernorm", vec![hidden]),
                ("mlp.gate_proj", vec![inner, hidden]),
                ("mlp.up_proj", vec![inner, hidden]),
                ("mlp.down_proj", vec![hidden, inner]),
            ] {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape));
            }
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// Reads `config.json`. `has_head` says whether the weights hold `lm_head.weight`: it decides about tied embeddings where
    /// the file does not.
    ///
    /// Absent optional keys take the defaults of transformers' `LlamaConfig`. What would change the computation and is not
    /// built (other architectures, scaled rotary frequencies, biases, other activations, quantised weights) is refused.
    ///
    /// # Errors
    /// All problems of the file at once.
    pub(crate) fn from_hf(file: &Path, text: &str, has_head: bool) -> Result<Self, WeightsError> {
        let refuse = |problems| WeightsError::Config { file: file.to_owned(), problems };
        let config: Map<String, Value> = serde_json::from_str(text).map_err(|e| refuse(vec![e.to_string()]))?;
        let mut fields = Fields { config: &config, problems: Vec::new() };

        match config.get("architectures") {
            Some(Value::Array(names)) if names.iter().any(|n| n == "LlamaForCausalLM") => {}
            None if config.get("model_type").is_some_and(|t| t == "llama") => {}
            other => {
                let got = other.or(config.get("model_type")).map_or("nothing".to_owned(), Value::to_string);
                fields.problems.push(format!("architectures: expected LlamaForCausalLM, got {got}"));
                return Err(refuse(fields.problems));
            }
        }
        fields.only("hidden_act", &[json!("silu")]);
        fields.only("attention_bias", &[json!(false)]);
        fields.only("mlp_bias", &[json!(false)]);
        fields.only("quantization_config", &[]);
        let rope_theta = fields.rope_theta();

        let heads = fields.size("num_attention_heads", None);
        let hidden_size = fields.size("hidden_size", None);
        let config = Self {
            vocab_size: fields.size("vocab_size", None),
            hidden_size,
            intermediate_size: fields.size("intermediate_size", None),
            num_hidden_layers: fields.size("num_hidden_layers", None),
            num_attention_heads: heads,
            num_key_value_heads: fields.size("num_key_value_heads", Some(heads)),
            head_dim: fields.size("head_dim", hidden_size.checked_div(heads)),
            rope_theta,
            rms_norm_eps: fields.number("rms_norm_eps", 1e-6),
            tie_word_embeddings: match config.get("tie_word_embeddings") {
                None | Some(Value::Null) => !has_head,
                Some(Value::Bool(tied)) => *tied,
                Some(other) => {
                    fields.problems.push(format!("tie_word_embeddings: expected true or false, got {other}"));
                    false
                }
            },
            max_position_embeddings: fields.size("max_position_embeddings", Some(2048)),
            bos_token_id: fields.tokens("bos_token_id").first().copied(),
            eos_token_ids: fields.tokens("eos_token_id"),
            pad_token_id: fields.tokens("pad_token_id").first().copied(),
        };
        if fields.problems.is_empty() {
            fields.problems = config.problems();
        }
        if fields.problems.is_empty() { Ok(config) } else { Err(refuse(fields.problems)) }
    }

    /// The content of a `config.json` that transformers (4 and 5) loads. `dtype` is its name for the stored type, such as
    /// `bfloat16`.
    pub(crate) fn to_hf(&self, dtype: &str) -> Value {
        let eos = match self.eos_token_ids.as_slice() {
            [] => Value::Null,
            [one] => json!(one),
            several => json!(several),
        };
        json!({
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "vocab_size": self.vocab_size,
            "hidden_size": self.hidden_size,
            "intermediate_size": self.intermediate_size,
            "num_hidden_layers": self.num_hidden_layers,
            "num_attention_heads": self.num_attention_heads,
            "num_key_value_heads": self.num_key_value_heads,
            "head_dim": self.head_dim,
            "hidden_act": "silu",
            "attention_bias": false,
            "mlp_bias": false,
            "rope_theta": self.rope_theta,
            "rms_norm_eps": self.rms_norm_eps,
            "tie_word_embeddings": self.tie_word_embeddings,
            "max_position_embeddings": self.max_position_embeddings,
            "bos_token_id": self.bos_token_id,
            "eos_token_id": eos,
            "pad_token_id": self.pad_token_id,
            "torch_dtype": dtype,
        })
    }
}

/// Reads fields and collects what is wrong with them.
struct Fields<'a> {
    config: &'a Map<String, Value>,
    problems: Vec<String>,
}

impl<'a> Fields<'a> {
    /// The value, or `None` where it is absent or null.
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.config.get(name).filter(|v| !v.is_null())
    }

    fn size(&mut self, name: &str, default: Option<usize>) -> usize {
        match (self.get(name), default) {
            (None, Some(default)) => return default,
            (None, None) => self.problems.push(format!("{name}: missing")),
            (Some(value), _) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
                Some(n) => return n,
                None => self.problems.push(format!("{name}: expected a whole number, got {value}")),
            },
        }
        0
    }

    fn number(&mut self, name: &str, default: f64) -> f64 {
        let Some(value) = self.get(name) else { return default };
        value.as_f64().unwrap_or_else(|| {
            self.problems.push(format!("{name}: expected a number, got {value}"));
            default
        })
    }

    /// Token ids: absent, one, or a list. Old Llama files say -1 for "none".
    fn tokens(&mut self, name: &str) -> Vec<u32> {
        let values = match self.get(name) {
            None => return Vec::new(),
            Some(value) if *value == -1 => return Vec::new(),
            Some(Value::Array(list)) => list.clone(),
            Some(one) => vec![one.clone()],
        };
        let ids: Vec<u32> = values.iter().filter_map(|v| v.as_u64()?.try_into().ok()).collect();
        if ids.len() < values.len() {
            self.problems.push(format!("{name}: expected token ids, got {}", Value::from(values)));
        }
        ids
    }

    /// Refuses a field that is there with a value other than these.
    fn only(&mut self, name: &str, allowed: &[Value]) {
        if let Some(value) = self.get(name).filter(|v| !allowed.contains(v)) {
            let expected = allowed.first().map_or("nothing".to_owned(), Value::to_string);
            self.problems.push(format!("{name}: only {expected} is supported, got {value}"));
        }
    }

    /// The rotary base: `rope_theta` at the top (transformers 4) or in `rope_parameters` (transformers 5).
    fn rope_theta(&mut self) -> f64 {
        self.only("partial_rotary_factor", &[json!(1), json!(1.0)]);
        let mut theta = self.number("rope_theta", 10_000.0);
        for name in ["rope_scaling", "rope_parameters"] {
            let Some(value) = self.get(name).cloned() else { continue };
            let kind = value.get("rope_type").or(value.get("type")).unwrap_or(&Value::Null);
            let partial = value.get("partial_rotary_factor").is_some_and(|f| f.as_f64() != Some(1.0));
            if !value.is_object() || !(kind.is_null() || kind == "default") || partial {
                self.problems.push(format!("{name}: only null or type `default` is supported, got {value}"));
            } else if let Some(inner) = value.get("rope_theta") {
                match inner.as_f64() {
                    Some(number) => theta = number,
                    None => self.problems.push(format!("{name}.rope_theta: expected a number, got {inner}")),
                }
            }
        }
        theta
    }
}
