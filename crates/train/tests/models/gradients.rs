//! The gradient of the tiny model on some device, held against the reference device in f64.

use temper_data::{MicroBatch, micro_batches};
use temper_kernels::{Device, Reference};
use temper_model::{Llama, LlamaConfig, Purpose, Tuning, Workspace};
use temper_train::{AdamWSettings, Optimizer, step};

use super::{TINY, borrowed, designs, lora, lora_on, tiny_of, tiny_rows, workspace};

/// What is trained, and whether the head is tied to the embedding.
pub fn cases() -> [(&'static str, bool, Tuning); 7] {
    [
        ("full rank, untied head", false, Tuning::Full),
        ("full rank, tied head", true, Tuning::Full),
        ("LoRA, untied head", false, lora(2, 3.0)),
        ("LoRA, tied head", true, lora(2, 3.0)),
        ("LoRA on the last linear", false, lora_on(&["layers.1.mlp.down_proj"])),
        ("LoRA on the upper layer's attention", false, lora_on(&["layers.1.self_attn.q_proj"])),
        (
            "LoRA, other linears in each layer",
            false,
            lora_on(&["0.self_attn.o_proj", "1.mlp.gate_proj", "1.mlp.up_proj"]),
        ),
    ]
}

/// Several rows in each of two micro-batches.
pub fn batches() -> Vec<MicroBatch> {
    let batches = micro_batches(&borrowed(&tiny_rows()), 12);
    assert_eq!(batches.iter().map(|b| b.segments.len()).collect::<Vec<_>>(), [2, 3]);
    batches
}

/// Fills the gradients by a step of rate zero, which leaves the weights as they are.
pub fn fill_gradients<D: Device>(model: &Llama<D>, ws: &Workspace<D::Buffer>, batches: &[MicroBatch]) {
    let settings = AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.0, max_grad_norm: 0.0 };
    step(model, ws, &mut Optimizer::new(model, settings), batches, 0.0).unwrap();
}

/// Every gradient of a step on the device is the reference device's in f64, relative to the largest of each tensor.
/// Measured on the CPU device: at most 1.5e-6 at full rank, 7.9e-6 with adapters; allowed: 3e-5.
pub fn gradients_are_those_of_the_reference<D: Device>(device: impl Fn() -> D) {
    let batches = batches();
    let plain = cases().map(|(case, tied, tuning)| (case, LlamaConfig { tie_word_embeddings: tied, ..TINY }, tuning));
    let others = designs().into_iter().flat_map(|(case, design)| {
        let config = LlamaConfig { design, ..TINY };
        [Tuning::Full, lora(2, 3.0)].map(|tuning| (case, config.clone(), tuning))
    });
    for (case, config, tuning) in plain.into_iter().chain(others) {
        let (fast, slow) = (tiny_of(device(), &config, &tuning), tiny_of(Reference::<f64>::new(), &config, &tuning));
        fill_gradients(&fast, &workspace(&fast, Purpose::Train, 12), &batches);
        fill_gradients(&slow, &workspace(&slow, Purpose::Train, 12), &batches);
        for ((name, fast_p), (_, slow_p)) in fast.trained().iter().zip(slow.trained()) {
            let got = fast.device().read(fast_p.gradient.as_ref().unwrap());
            let expected = slow.device().read(slow_p.gradient.as_ref().unwrap());
            let scale = expected.iter().fold(0.0f32, |a, g| a.max(g.abs()));
            for (k, (got, expected)) in got.iter().zip(&expected).enumerate() {
                let error = (got - expected).abs() / scale;
                assert!(error < 3e-5, "{case}: {name}[{k}]: got {got:e}, reference {expected:e}");
            }
        }
    }
}
