//! The families of decoders that can be read and written, by the names that files give them.
//!
//! Only the readers and writers of files look at a family; what a model computes stands in [`Design`].

use serde::Serialize;

use crate::config::{Activation, Design};

/// A family of decoders, as transformers divides them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Family {
    /// Llama 2 and 3, SmolLM2, and all that publish themselves as Llama.
    Llama,
    /// Mistral 7B and its like, with a sliding window in every layer where there is one.
    Mistral,
    /// Qwen2 and Qwen2.5: biases of query, key and value.
    Qwen2,
    /// Qwen3: norms of query and key heads.
    Qwen3,
    /// SmolLM3: layers without rotary embedding.
    SmolLm3,
    /// Gemma 3, text only.
    Gemma3,
}

/// For refusals.
pub(crate) const ARCHITECTURES: &str =
    "LlamaForCausalLM, MistralForCausalLM, Qwen2ForCausalLM, Qwen3ForCausalLM, SmolLM3ForCausalLM, Gemma3ForCausalLM";
/// For refusals. Mistral's files say `llama`.
pub(crate) const GGUF_ARCHITECTURES: &str = "llama, qwen2, qwen3, smollm3 and gemma3";

impl Family {
    const ALL: [Self; 6] = [Self::Llama, Self::Mistral, Self::Qwen2, Self::Qwen3, Self::SmolLm3, Self::Gemma3];

    /// The class in transformers: `architectures` of `config.json`.
    pub const fn architecture(self) -> &'static str {
        match self {
            Self::Llama => "LlamaForCausalLM",
            Self::Mistral => "MistralForCausalLM",
            Self::Qwen2 => "Qwen2ForCausalLM",
            Self::Qwen3 => "Qwen3ForCausalLM",
            Self::SmolLm3 => "SmolLM3ForCausalLM",
            Self::Gemma3 => "Gemma3ForCausalLM",
        }
    }

    /// `model_type` of `config.json`.
    pub const fn model_type(self) -> &'static str {
        match self {
            Self::Llama => "llama",
            Self::Mistral => "mistral",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Gemma3 => "gemma3_text",
        }
    }

    /// `general.architecture` of a GGUF file, and what its keys begin with.
    pub const fn gguf(self) -> &'static str {
        match self {
            Self::Llama | Self::Mistral => "llama",
            Self::Qwen2 => "qwen2",
            Self::Qwen3 => "qwen3",
            Self::SmolLm3 => "smollm3",
            Self::Gemma3 => "gemma3",
        }
    }

    /// The family of this architecture and model type, as far as they are given; they must agree.
    pub(crate) fn of(architecture: Option<&str>, model_type: Option<&str>) -> Option<Self> {
        let is = |family: &&Self| {
            architecture.is_none_or(|name| name == family.architecture())
                && model_type.is_none_or(|name| name == family.model_type())
        };
        Self::ALL.iter().find(is).copied().filter(|_| architecture.or(model_type).is_some())
    }

    /// The family of a GGUF file.
    pub(crate) fn of_gguf(architecture: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.gguf() == architecture)
    }

    /// What all models of the family have in common.
    pub(crate) fn design(self) -> Design {
        let design = Design { family: self, ..Design::LLAMA };
        match self {
            Self::Llama | Self::Mistral | Self::SmolLm3 => design,
            Self::Qwen2 => Design { qkv_bias: true, ..design },
            Self::Qwen3 => Design { qk_norm: true, ..design },
            Self::Gemma3 => Design {
                qk_norm: true,
                branch_norms: true,
                norm_offset: true,
                activation: Activation::GeluTanh,
                scale_embedding: true,
                ..design
            },
        }
    }

    /// Width of a head where `config.json` does not say; none for `hidden_size / num_attention_heads`.
    pub(crate) const fn head_dim(self) -> Option<usize> {
        match self {
            Self::Qwen3 => Some(128),
            Self::Gemma3 => Some(256),
            _ => None,
        }
    }

    /// Base of the rotary frequencies where `config.json` does not say.
    pub(crate) const fn rope_theta(self) -> f64 {
        match self {
            Self::SmolLm3 => 2_000_000.0,
            Self::Gemma3 => 1_000_000.0,
            _ => 10_000.0,
        }
    }
}
