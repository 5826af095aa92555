//! The gradient of a whole Llama: a tiny one, the weighted cross-entropy of packed rows in two micro-batches.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use std::cell::RefCell;

use models::gradients::{batches, cases, fill_gradients, gradients_are_those_of_the_reference};
use models::{TINY, designs, lora, lora_on, tiny, tiny_of, workspace};
use temper_data::MicroBatch;
use temper_kernels::{Cpu, Device, Profiled, Reference, Segment};
use temper_model::{Llama, LlamaConfig, Purpose, Tokens, Tuning, Workspace};

/// `sum(weight * nll) / sum(weight)` in f64, the softmax written out here.
fn loss(model: &Llama<Reference<f64>>, ws: &Workspace<RefCell<Vec<f64>>>, batches: &[MicroBatch]) -> f64 {
    let (d, width) = (model.device(), model.config().hidden_size);
    let head = d.read_exact(&model.head().value);
    let (mut sum, mut total) = (0.0, 0.0);
    for batch in batches {
        let segments: Vec<Segment> = batch.segments.iter().cloned().map(Segment::alone).collect();
        let tokens = Tokens { ids: &batch.ids, positions: &batch.positions, segments: &segments };
        let hidden = d.read_exact(&model.forward(ws, tokens, true));
        for target in &batch.targets {
            let h = &hidden[target.row as usize * width..][..width];
            let logits: Vec<f64> = head.chunks(width).map(|w| w.iter().zip(h).map(|(a, b)| a * b).sum()).collect();
            let log_sum = logits.iter().map(|z| z.exp()).sum::<f64>().ln();
            sum += f64::from(target.weight) * (log_sum - logits[target.token as usize]);
            total += f64::from(target.weight);
        }
    }
    sum / total
}

/// Every element of everything trained, against `(f(x + h) - f(x - h)) / 2h` with h = 1e-5, relative to the largest
/// gradient of its tensor. Measured: at most 3.5e-9 at full rank, 3.9e-8 with adapters; allowed: 1e-7.
#[test]
fn every_gradient_is_the_central_difference_in_f64() {
    let batches = batches();
    for (case, tied, tuning) in cases() {
        let model = tiny(Reference::<f64>::new(), tied, &tuning);
        let ws = workspace(&model, Purpose::Train, 12);
        fill_gradients(&model, &ws, &batches);
        let trained = model.trained();
        // 7 linears and 2 norms a layer, embedding, last norm, head; or A and B of each adapted linear.
        let tensors = match &tuning {
            Tuning::Lora(lora) if lora.targets.len() == 7 => 2 * 14,
            Tuning::Lora(lora) => 2 * lora.targets.len(),
            _ => 2 * 9 + 2 + usize::from(!tied),
        };
        assert_eq!(trained.len(), tensors, "{case}");
        hold_gradients(case, &model, &ws, &batches, 1e-7);
    }
}

/// The same for models that differ from Llama, every weight and bias at full rank, every adapter. Measured: at most 9.5e-8 of
/// the largest of a tensor, where that is small; allowed: 4e-7.
#[test]
fn every_gradient_of_other_designs_is_the_central_difference_in_f64() {
    let batches = batches();
    for (design_name, design) in designs() {
        for (tied, tuning) in [(true, Tuning::Full), (false, lora(2, 3.0))] {
            let config = LlamaConfig { tie_word_embeddings: tied, design: design.clone(), ..TINY };
            let model = tiny_of(Reference::<f64>::new(), &config, &tuning);
            let ws = workspace(&model, Purpose::Train, 12);
            fill_gradients(&model, &ws, &batches);
            let expected = if tuning == Tuning::Full { config.tensor_shapes().len() } else { 2 * 14 };
            assert_eq!(model.trained().len(), expected, "{design_name}");
            hold_gradients(design_name, &model, &ws, &batches, 4e-7);
        }
    }
}

/// Every gradient against the central difference, relative to the largest of its tensor.
fn hold_gradients(
    case: &str,
    model: &Llama<Reference<f64>>,
    ws: &Workspace<RefCell<Vec<f64>>>,
    batches: &[MicroBatch],
    allowed: f64,
) {
    let d = *model.device();
    for (name, parameter) in model.trained() {
        let start = d.read_exact(&parameter.value);
        let gradient = d.read_exact(parameter.gradient.as_ref().unwrap());
        let scale = gradient.iter().fold(0.0f64, |a, g| a.max(g.abs()));
        // The smallest is that of a query's bias before its norm, 3.3e-4.
        assert!(scale > 1e-4, "{case}: the gradient of {name} is nearly zero everywhere: {scale:e}");
        let at = |k: usize, value: f64| {
            let mut moved = start.clone();
            moved[k] = value;
            d.copy(&d.upload_exact(parameter.value.rows(), parameter.value.cols(), &moved), &parameter.value);
            loss(model, ws, batches)
        };
        for (k, gradient) in gradient.iter().enumerate() {
            let h = 1e-5;
            let numeric = (at(k, start[k] + h) - at(k, start[k] - h)) / (2.0 * h);
            let error = (numeric - gradient).abs() / scale;
            assert!(error < allowed, "{case}: {name}[{k}]: {gradient:e}, central difference {numeric:e}");
        }
        at(0, start[0]);
    }
}

/// The same gradients in f32 on the CPU device.
#[test]
fn the_cpu_has_the_gradients_of_the_reference() {
    gradients_are_those_of_the_reference(|| Cpu::new(2));
}

/// How often each operation of a backward runs, by what is trained: nothing below the lowest part that is.
#[test]
fn no_backward_below_the_lowest_part_that_is_trained() {
    let counts = |targets: &[&str]| {
        let model = tiny(Profiled::new(Reference::<f64>::new()), false, &lora_on(targets));
        let ws = workspace(&model, Purpose::Train, 12);
        let batches = &batches()[..1];
        model.device().take();
        fill_gradients(&model, &ws, batches);
        let log = model.device().take();
        let calls = |name: &str| log.iter().filter(|((n, _), _)| *n == name).map(|(_, m)| m.calls).sum::<usize>();
        // Each adapter's two products by weights; through the frozen weights, and with that or by itself through B.
        [
            "linear backward weight",
            "linear backward input",
            "swiglu backward",
            "attention backward",
            "rms_norm backward",
        ]
        .map(calls)
    };
    assert_eq!(counts(&["layers.1.mlp.down_proj"]), [2, 1, 0, 0, 1]);
    assert_eq!(counts(&["layers.1.mlp.gate_proj"]), [2, 2, 1, 0, 1]);
    assert_eq!(counts(&["layers.1.self_attn.o_proj"]), [2, 3, 1, 0, 2]);
    assert_eq!(counts(&["layers.1.self_attn.v_proj"]), [2, 4, 1, 1, 2]);
    assert_eq!(counts(&["layers.0.mlp.down_proj"]), [2, 5, 1, 1, 3]);
    assert_eq!(counts(&["down_proj"]), [4, 5, 1, 1, 3]);
}
