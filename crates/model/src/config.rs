//! The shape of a decoder, from `config.json` of a Hugging Face folder (`config/hf.rs`) or from GGUF metadata (`gguf`).
//!
//! What models of one kind share with Llama is sizes; where they differ is [`Design`], by data: the code that computes asks it
//! for biases, norms and windows and never for a model's name.

mod hf;

use serde::Serialize;

use crate::family::Family;
use crate::rope::RopeScaling;

/// The gate of the feed-forward layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Activation {
    /// `x sigmoid(x)`.
    Silu,
    /// GELU in its tanh form.
    GeluTanh,
}

/// How one layer attends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LayerKind {
    /// How many tokens a token sees at most, itself among them; none for all before it.
    pub window: Option<usize>,
    /// Whether queries and keys are turned by their positions.
    pub rope: bool,
}

impl LayerKind {
    /// Sees everything before it, with rotary embedding.
    pub const FULL: Self = Self { window: None, rope: true };
}

/// In what a decoder differs from Llama. [`Design::LLAMA`] is the plain one.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Design {
    /// Whose names and files it has; nothing that is computed depends on it.
    pub family: Family,
    /// Scaling of the rotary frequencies.
    pub rope_scaling: RopeScaling,
    /// Layers with a window have rotary frequencies of this base, not scaled; none: those of all layers.
    pub rope_local_theta: Option<f64>,
    /// Query, key and value projections have biases.
    pub qkv_bias: bool,
    /// The output projection of attention has a bias.
    pub o_bias: bool,
    /// The three projections of the feed-forward layer have biases.
    pub mlp_bias: bool,
    /// Each head of queries and keys goes through an RMSNorm before it is turned.
    pub qk_norm: bool,
    /// What attention and feed-forward give goes through an RMSNorm before it is added to the residual stream.
    pub branch_norms: bool,
    /// Norms multiply by one plus their weight.
    pub norm_offset: bool,
    /// The gate.
    pub activation: Activation,
    /// Embeddings are multiplied by `sqrt(hidden_size)`.
    pub scale_embedding: bool,
    /// Attention's scores are divided by the root of this; none: of the head's width.
    pub query_pre_attn_scalar: Option<f64>,
    /// Each layer's kind; layers behind the end are [`LayerKind::FULL`], and where all are, it is empty.
    pub layers: Vec<LayerKind>,
}

impl Design {
    /// Llama's own.
    pub const LLAMA: Self = Self {
        family: Family::Llama,
        rope_scaling: RopeScaling::Default,
        rope_local_theta: None,
        qkv_bias: false,
        o_bias: false,
        mlp_bias: false,
        qk_norm: false,
        branch_norms: false,
        norm_offset: false,
        activation: Activation::Silu,
        scale_embedding: false,
        query_pre_attn_scalar: None,
        layers: Vec::new(),
    };
}

/// Shape and constants of a decoder. Field names are those of transformers' `LlamaConfig`.
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
    /// In what it differs from Llama.
    pub design: Design,
}

/// The widest head: what attention over a cache holds at once.
const WIDEST_HEAD: usize = 256;

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
            design: Design::LLAMA,
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
            ("head_dim", self.head_dim, WIDEST_HEAD),
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
        problems.extend(self.design.problems());
        let ids = [("bos_token_id", self.bos_token_id), ("pad_token_id", self.pad_token_id)];
        let ids = ids.into_iter().filter_map(|(name, id)| Some((name, id?)));
        for (name, id) in ids.chain(self.eos_token_ids.iter().map(|&id| ("eos_token_id", id))) {
            if id as usize >= self.vocab_size {
                problems.push(format!("{name}: expected below vocab_size {}, got {id}", self.vocab_size));
            }
        }
        problems
    }

    /// How layer `i` attends.
    pub fn layer(&self, i: usize) -> LayerKind {
        self.design.layers.get(i).copied().unwrap_or(LayerKind::FULL)
    }

    /// The names of a layer's norms of whole rows, within the layer: before attention, before the feed-forward layer, and
    /// where there are such, behind either.
    pub(crate) fn norm_names(&self) -> ([&'static str; 2], Option<[&'static str; 2]>) {
        if self.design.branch_norms {
            let behind = ["post_attention_layernorm", "post_feedforward_layernorm"];
            (["input_layernorm", "pre_feedforward_layernorm"], Some(behind))
        } else {
            (["input_layernorm", "post_attention_layernorm"], None)
        }
    }

    /// Names (as in a Hugging Face checkpoint) and shapes, row-major `[out, in]`, of all weights, in the order of the forward
    /// pass.
    pub fn tensor_shapes(&self) -> Vec<(String, Vec<usize>)> {
        let (hidden, inner, design) = (self.hidden_size, self.intermediate_size, &self.design);
        let q = self.num_attention_heads * self.head_dim;
        let kv = self.num_key_value_heads * self.head_dim;
        let ([before_attention, before_mlp], behind) = self.norm_names();
        let (head_norm, row_norm) = (vec![self.head_dim], vec![hidden]);
        let [behind_attention, behind_mlp] = [0, 1].map(|i| behind.map(|names| (names[i], row_norm.clone(), false)));
        let of_heads = ["self_attn.q_norm", "self_attn.k_norm"].map(|name| (name, head_norm.clone(), false));
        // Name, shape of the weight, and whether a bias stands beside it.
        let mut parts = vec![
            (before_attention, row_norm.clone(), false),
            ("self_attn.q_proj", vec![q, hidden], design.qkv_bias),
            ("self_attn.k_proj", vec![kv, hidden], design.qkv_bias),
            ("self_attn.v_proj", vec![kv, hidden], design.qkv_bias),
        ];
        parts.extend(of_heads.into_iter().filter(|_| design.qk_norm));
        parts.push(("self_attn.o_proj", vec![hidden, q], design.o_bias));
        parts.extend(behind_attention);
        parts.extend([
            (before_mlp, row_norm.clone(), false),
            ("mlp.gate_proj", vec![inner, hidden], design.mlp_bias),
            ("mlp.up_proj", vec![inner, hidden], design.mlp_bias),
            ("mlp.down_proj", vec![hidden, inner], design.mlp_bias),
        ]);
        parts.extend(behind_mlp);
        let mut shapes = vec![("model.embed_tokens.weight".to_owned(), vec![self.vocab_size, hidden])];
        for layer in 0..self.num_hidden_layers {
            for (name, shape, bias) in &parts {
                shapes.push((format!("model.layers.{layer}.{name}.weight"), shape.clone()));
                if *bias {
                    shapes.push((format!("model.layers.{layer}.{name}.bias"), vec![shape[0]]));
                }
            }
        }
        shapes.push(("model.norm.weight".to_owned(), vec![hidden]));
        if !self.tie_word_embeddings {
            shapes.push(("lm_head.weight".to_owned(), vec![self.vocab_size, hidden]));
        }
        shapes
    }

    /// The bases of the rotary tables with their scaling: of all layers, and of those with a window where they have their own.
    pub(crate) fn rotations(&self) -> Vec<(f64, RopeScaling)> {
        let local = self.design.rope_local_theta.map(|theta| (theta, RopeScaling::Default));
        [(self.rope_theta, self.design.rope_scaling)].into_iter().chain(local).collect()
    }

    /// Numbers of the tables of cosines and sines that a model of this shape keeps.
    pub fn rotary_numbers(&self) -> usize {
        self.rotations().len() * self.max_position_embeddings * self.head_dim
    }
}

impl Design {
    /// What is wrong with these numbers.
    fn problems(&self) -> Vec<String> {
        let mut problems = self.rope_scaling.problems();
        let positive = |x: f64| x.is_finite() && x > 0.0;
        if let Some(theta) = self.rope_local_theta.filter(|&theta| !(theta.is_finite() && theta >= 1.0)) {
            problems.push(format!("rope_local_base_freq: expected a finite number of at least 1, got {theta}"));
        }
        if let Some(scalar) = self.query_pre_attn_scalar.filter(|&scalar| !positive(scalar)) {
            problems.push(format!("query_pre_attn_scalar: expected a finite number above 0, got {scalar}"));
        }
        if self.layers.iter().any(|layer| layer.window == Some(0)) {
            problems.push("sliding_window: expected at least 1, got 0".to_owned());
        }
        problems
    }
}
