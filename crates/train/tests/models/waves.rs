//! The tiny model of TRL's goldens: its weights are a formula, which `tests/golden/preference/dpo.py` writes alike.

use temper_kernels::{Cpu, Device};
use temper_model::{Llama, LlamaConfig, Tuning};

/// Numbers of tensor `t` as dpo.py makes them.
fn wave(count: usize, t: usize, a: f64) -> Vec<f64> {
    let of = |k: f64| a * (0.37 * k + 0.0031 * k * k + 1.7 * t as f64).sin();
    (0..count).map(|k| of(k as f64)).collect()
}

pub fn model(tuning: &Tuning) -> Llama<Cpu> {
    let config = LlamaConfig {
        vocab_size: 24,
        hidden_size: 16,
        intermediate_size: 24,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        head_dim: 4,
        rms_norm_eps: 1e-5,
        max_position_embeddings: 32,
        ..super::TINY
    };
    let mut names: Vec<String> = config.tensor_shapes().into_iter().map(|(name, _)| name).collect();
    names.sort();
    let weight = |name: &str, shape: &[usize]| {
        let t = names.iter().position(|n| n == name).unwrap();
        let values = match shape {
            [width] => wave(*width, t, 0.3).into_iter().map(|w| 1.0 + w).collect(),
            _ => wave(shape.iter().product(), t, 2.0 / (shape[1] as f64).sqrt()),
        };
        Ok::<_, std::convert::Infallible>(values.into_iter().map(|w| w as f32).collect::<Vec<f32>>())
    };
    let Ok(model) = Llama::load(Cpu::new(2), &config, tuning, weight);
    let mut adapters = model.adapters();
    adapters.sort_by(|(a, _), (b, _)| a.cmp(b));
    for (t, (_, a)) in adapters.iter().filter(|(name, _)| name.ends_with("lora_A.weight")).enumerate() {
        let values: Vec<f32> = wave(a.value.len(), t, 0.5).into_iter().map(|w| w as f32).collect();
        model.device().write(&a.value, &values);
    }
    model
}
