//! A model that answers every chat prompt with the same words, so that a test knows what must come.

use temper_model::{Checkpoint, Dtype, LlamaConfig, write_model};
use temper_text::{Message, Renderer, Specials, Tokenizer};

use super::{Folder, gguf};

/// The tokenizer and template are the real model's. All matrices of the one block are zero; each token of the script is
/// embedded on an axis of its own, and along this axis the head has the token that follows it.
pub struct Scripted {
    pub answer: &'static str,
    /// Begins the answer again in place of ending it.
    pub endless: bool,
    pub context: usize,
}

const WIDTH: usize = 32;

impl Scripted {
    pub fn saying(answer: &'static str) -> Self {
        Self { answer, endless: false, context: 2048 }
    }

    /// Writes the folder `model` and gives its path.
    pub fn write(&self, folder: &Folder) -> String {
        let real = Checkpoint::open(gguf().as_ref()).unwrap();
        let tokenizer = Tokenizer::from_gguf(&real.gguf_vocab().unwrap().unwrap()).unwrap();
        let words = tokenizer.encode(self.answer, Specials::AsText);
        let end = if self.endless { words[0] } else { tokenizer.eos().unwrap() };
        let renderer = Renderer::new(tokenizer, None).unwrap();
        let before = *renderer.prompt(&[Message::new("user", "x")]).unwrap().last().unwrap();
        let script: Vec<u32> = [before].into_iter().chain(words).collect();
        let distinct: std::collections::HashSet<u32> = script.iter().copied().collect();
        assert!(distinct.len() == script.len() && script.len() <= WIDTH, "a token can be followed by one other only");

        let config = LlamaConfig {
            hidden_size: WIDTH,
            intermediate_size: 8,
            num_hidden_layers: 1,
            num_attention_heads: 1,
            num_key_value_heads: 1,
            head_dim: 8,
            tie_word_embeddings: false,
            max_position_embeddings: self.context,
            ..LlamaConfig::smollm2_135m()
        };
        let following: Vec<u32> = script[1..].iter().copied().chain([end]).collect();
        let on_axes = |mut values: Vec<f32>, tokens: &[u32]| {
            tokens.iter().enumerate().for_each(|(axis, &token)| values[token as usize * WIDTH + axis] = 1.0);
            values
        };
        let tensors = config.tensor_shapes().into_iter().map(|(name, shape)| {
            let zeros = vec![0.0; shape.iter().product()];
            let values = match name.as_str() {
                "model.embed_tokens.weight" => on_axes(zeros, &script),
                "lm_head.weight" => on_axes(zeros, &following),
                name if name.contains("norm") => vec![1.0; zeros.len()],
                _ => zeros,
            };
            (name, shape, values)
        });
        let path = folder.path("model");
        write_model(&path, &config, tensors, Dtype::F32, &[]).unwrap();
        renderer.tokenizer().save(&path).unwrap();
        path.display().to_string()
    }
}
