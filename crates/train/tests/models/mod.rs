//! The models that the test files share: the real one, and a tiny one of seeded weights.
#![allow(dead_code, reason = "each test file uses a part")]

pub mod gradients;
pub mod waves;

use temper_data::Example;
use temper_kernels::{Cpu, Device};
use temper_model::{
    Activation, Checkpoint, Design, LINEAR_MODULES, LayerKind, Llama, LlamaConfig, LoraSettings, Purpose, Tuning,
    Workspace,
};
use temper_run::Random;

pub fn checkpoint() -> Checkpoint {
    let path = std::env::var("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it");
    Checkpoint::open(path.as_ref()).unwrap()
}

/// SmolLM2-135M-Instruct.
pub fn real(tuning: &Tuning) -> Llama<Cpu> {
    let checkpoint = checkpoint();
    Llama::load(Cpu::new(2), checkpoint.config(), tuning, |name, shape| checkpoint.stored(name, shape)).unwrap()
}

/// Adapters on every linear.
pub fn lora(rank: usize, alpha: f32) -> Tuning {
    Tuning::Lora(LoraSettings::new(rank, alpha, LINEAR_MODULES.map(str::to_owned).to_vec()))
}

/// Adapters on some linears, by PEFT's rule.
pub fn lora_on(targets: &[&str]) -> Tuning {
    Tuning::Lora(LoraSettings::new(2, 3.0, targets.iter().map(|&t| t.to_owned()).collect()))
}

pub fn workspace<D: Device>(model: &Llama<D>, purpose: Purpose, tokens: usize) -> Workspace<D::Buffer> {
    Workspace::allocate(model.device(), model.config(), model.adapter_space(), purpose, tokens)
}

/// `count` numbers in [-bound, bound), a function of the name.
fn uniform(name: &str, count: usize, bound: f64) -> Vec<f32> {
    let stream = Random::new(0, name);
    (0..count as u64).map(|i| ((2.0 * stream.unit(i) - 1.0) * bound) as f32).collect()
}

/// Two layers, grouped heads, widths of which no two are equal.
pub const TINY: LlamaConfig = LlamaConfig {
    vocab_size: 19,
    hidden_size: 12,
    intermediate_size: 20,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 4,
    rope_theta: 100.0,
    rms_norm_eps: 1e-3,
    tie_word_embeddings: false,
    max_position_embeddings: 16,
    bos_token_id: None,
    eos_token_ids: vec![],
    pad_token_id: None,
    design: Design::LLAMA,
};

/// Its weights, large enough that attention, gates and softmax are far from linear.
pub fn tiny_weight(name: &str, shape: &[usize]) -> Vec<f32> {
    match shape {
        [width] => uniform(name, *width, 0.5).iter().map(|w| 1.0 + w).collect(),
        _ => uniform(name, shape.iter().product(), 2.0 / (shape[1] as f64).sqrt()),
    }
}

/// Two designs that between them differ from Llama in everything: biases, norms of heads, a layer without rotation, windows of
/// three; and all that is Gemma's, with a window and rotary frequencies of its own in one of two layers.
pub fn designs() -> [(&'static str, Design); 2] {
    let slides = LayerKind { window: Some(3), rope: true };
    let biased = Design {
        qkv_bias: true,
        o_bias: true,
        mlp_bias: true,
        qk_norm: true,
        layers: vec![slides, LayerKind { window: None, rope: false }],
        ..Design::LLAMA
    };
    let gemma = Design {
        qk_norm: true,
        branch_norms: true,
        norm_offset: true,
        activation: Activation::GeluTanh,
        scale_embedding: true,
        query_pre_attn_scalar: Some(7.0),
        rope_local_theta: Some(10.0),
        layers: vec![LayerKind::FULL, slides],
        ..Design::LLAMA
    };
    [("biases, norms of heads, NoPE", biased), ("Gemma's", gemma)]
}

/// [`TINY`]; adapters are away from zero, so that every gradient is.
pub fn tiny<D: Device>(device: D, tied: bool, tuning: &Tuning) -> Llama<D> {
    tiny_of(device, &LlamaConfig { tie_word_embeddings: tied, ..TINY }, tuning)
}

/// The same of another configuration.
pub fn tiny_of<D: Device>(device: D, config: &LlamaConfig, tuning: &Tuning) -> Llama<D> {
    let weight = |name: &str, shape: &[usize]| Ok::<_, std::convert::Infallible>(tiny_weight(name, shape));
    let Ok(model) = Llama::load(device, config, tuning, weight);
    for (name, adapter) in model.adapters() {
        let values = uniform(&name, adapter.value.len(), 2.0 / (adapter.value.cols() as f64).sqrt());
        model.device().write(&adapter.value, &values);
    }
    model
}

/// Rows for the tiny model, each with the number of its source: lengths from 1 (nothing to predict) to 7, untrained
/// tokens among the trained, weights that sum to 8, so that a weight over their sum is exact in f32.
pub fn tiny_rows() -> Vec<(u16, Example)> {
    let draw = Random::new(0, "ids");
    let weights: [&[f32]; 5] = [
        &[0.0, 0.5, 1.0, 0.0, 0.25, 0.5, 0.25],
        &[0.0, 0.0, 2.0],
        &[0.0],
        &[0.0, 0.25, 0.25, 0.5, 0.0],
        &[0.0, 1.5, 0.5, 0.5],
    ];
    let row = |(r, weights): (usize, &&[f32])| {
        let ids = (0..weights.len()).map(|i| draw.within(r as u64).below(i as u64, 19) as u32).collect();
        ((r % 2) as u16, Example { ids, weights: weights.to_vec(), row: r })
    };
    weights.iter().enumerate().map(row).collect()
}

/// The rows as [`temper_data::micro_batches`] takes them.
pub fn borrowed(rows: &[(u16, Example)]) -> Vec<(u16, &Example)> {
    rows.iter().map(|(source, row)| (*source, row)).collect()
}
