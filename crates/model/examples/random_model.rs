//! A small model of random weights behind the tokenizer of another: what a pretraining begins with.
//!
//! usage: random_model TOKENIZER.gguf FOLDER. Four blocks of width 128, a tied head; matrices of the deviation 0.02 of Llama's
//! initialisation. The same numbers each time.
#![allow(clippy::print_stderr, reason = "a command-line tool")]

use std::error::Error;
use std::path::Path;

use temper_model::{Checkpoint, Dtype, LlamaConfig, write_model};
use temper_run::Random;
use temper_text::Tokenizer;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [like, folder] = &arguments[..] else { return Err("usage: random_model TOKENIZER.gguf FOLDER".into()) };
    let like = Checkpoint::open(Path::new(like))?;
    let config = LlamaConfig {
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 32,
        max_position_embeddings: 512,
        tie_word_embeddings: true,
        ..like.config().clone()
    };
    let tensors = config.tensor_shapes().into_iter().map(|(name, shape)| {
        let (stream, bound) = (Random::new(1, &name), 0.02 * 3f64.sqrt());
        let value = |i: u64| if shape.len() == 1 { 1.0 } else { ((2.0 * stream.unit(i) - 1.0) * bound) as f32 };
        let values = (0..shape.iter().product::<usize>() as u64).map(value).collect();
        (name, shape, values)
    });
    let folder = Path::new(folder);
    write_model(folder, &config, tensors, Dtype::F32, &[])?;
    let vocabulary = like.gguf_vocab()?.ok_or("the tokenizer is read from a GGUF file")?;
    Tokenizer::from_gguf(&vocabulary)?.save(folder)?;
    eprintln!("wrote {}", folder.display());
    Ok(())
}
