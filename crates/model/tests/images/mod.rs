//! Small weight files built byte by byte, for tests that damage them.
#![allow(dead_code)]

use serde_json::{Value, json};

/// A GGUF file under construction.
pub struct GgufImage {
    pub version: u32,
    /// Key, type code, bytes of the value.
    pub metadata: Vec<(String, u32, Vec<u8>)>,
    /// Name, dimensions fastest first, type code, data.
    pub tensors: Vec<(String, Vec<u64>, u32, Vec<u8>)>,
}

pub fn text(s: &str) -> Vec<u8> {
    [&(s.len() as u64).to_le_bytes()[..], s.as_bytes()].concat()
}

impl GgufImage {
    /// A whole Llama model: 1 block, width 32, 2 query heads and 1 key head of 4, inner width 64, vocabulary 3; all f32. Value
    /// `i` of the `t`-th tensor is `t + i / 1024`.
    pub fn tiny() -> Self {
        let int = |key: &str, n: u32| (key.to_owned(), 4, n.to_le_bytes().to_vec());
        let float = |key: &str, x: f32| (key.to_owned(), 6, x.to_le_bytes().to_vec());
        let string = |key: &str, s: &str| (key.to_owned(), 8, text(s));
        let array = |key: &str, code: u32, n: u64, bytes: Vec<u8>| {
            (key.to_owned(), 9, [&code.to_le_bytes()[..], &n.to_le_bytes(), &bytes].concat())
        };
        let metadata = vec![
            string("general.architecture", "llama"),
            string("general.license", "apache-2.0"),
            int("llama.block_count", 1),
            int("llama.embedding_length", 32),
            int("llama.feed_forward_length", 64),
            int("llama.attention.head_count", 2),
            int("llama.attention.head_count_kv", 1),
            int("llama.attention.key_length", 4),
            int("llama.attention.value_length", 4),
            int("llama.context_length", 16),
            float("llama.rope.freq_base", 10_000.0),
            float("llama.attention.layer_norm_rms_epsilon", 1e-5),
            string("tokenizer.ggml.model", "gpt2"),
            array("tokenizer.ggml.tokens", 8, 3, [text("a"), text("b"), text("ab")].concat()),
            array("tokenizer.ggml.token_type", 5, 3, [1i32, 1, 1].iter().flat_map(|t| t.to_le_bytes()).collect()),
            array("tokenizer.ggml.merges", 8, 1, text("a b")),
            (String::from("tokenizer.ggml.add_bos_token"), 7, vec![0]),
        ];
        let shapes: [(&str, &[u64]); 11] = [
            ("token_embd.weight", &[32, 3]),
            ("blk.0.attn_norm.weight", &[32]),
            ("blk.0.attn_q.weight", &[32, 8]),
            ("blk.0.attn_k.weight", &[32, 4]),
            ("blk.0.attn_v.weight", &[32, 4]),
            ("blk.0.attn_output.weight", &[8, 32]),
            ("blk.0.ffn_norm.weight", &[32]),
            ("blk.0.ffn_gate.weight", &[32, 64]),
            ("blk.0.ffn_up.weight", &[32, 64]),
            ("blk.0.ffn_down.weight", &[64, 32]),
            ("output_norm.weight", &[32]),
        ];
        let tensors = shapes.iter().enumerate().map(|(t, (name, dims))| {
            let values = (0..dims.iter().product::<u64>()).map(|i| t as f32 + i as f32 / 1024.0);
            (name.to_string(), dims.to_vec(), 0, values.flat_map(f32::to_le_bytes).collect())
        });
        Self { version: 3, metadata, tensors: tensors.collect() }
    }

    pub fn set(mut self, key: &str, code: u32, bytes: Vec<u8>) -> Self {
        self.metadata.retain(|(k, ..)| k != key);
        self.metadata.push((key.to_owned(), code, bytes));
        self
    }

    pub fn header(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(self.version.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, code, bytes) in &self.metadata {
            out.extend(text(key));
            out.extend(code.to_le_bytes());
            out.extend(bytes);
        }
        let mut offset = 0u64;
        for (name, dims, code, data) in &self.tensors {
            out.extend(text(name));
            out.extend((dims.len() as u32).to_le_bytes());
            dims.iter().for_each(|d| out.extend(d.to_le_bytes()));
            out.extend(code.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + data.len() as u64).next_multiple_of(32);
        }
        out
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = self.header();
        for (.., data) in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(data);
        }
        out
    }
}

/// A `.safetensors` image: header as given, then the data.
pub fn safetensors_image(header: &Value, data: &[u8]) -> Vec<u8> {
    let header = header.to_string();
    [&(header.len() as u64).to_le_bytes()[..], header.as_bytes(), data].concat()
}

/// The shape of [`GgufImage::tiny`] as a `config.json`.
pub fn tiny_config() -> Value {
    json!({
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "vocab_size": 3, "hidden_size": 32,
        "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 4,
        "hidden_act": "silu", "rope_theta": 10000.0, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
        "max_position_embeddings": 16
    })
}
