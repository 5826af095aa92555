//! How rows are cut into micro-batches changes nothing: not the loss, not the gradient, not the weights after steps.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod models;

use models::{borrowed, checkpoint, lora, real, tiny, tiny_rows, workspace};
use temper_data::{Example, MicroBatch, micro_batches};
use temper_kernels::{Device, Reference};
use temper_model::{Llama, Purpose, Tuning, Workspace};
use temper_text::{Specials, Tokenizer};
use temper_train::{AdamWSettings, LossSum, Optimizer, StepOutcome, evaluate, step};

/// Decay and clipping on: the norm that clips is that of the whole step.
const SETTINGS: AdamWSettings =
    AdamWSettings { beta1: 0.9, beta2: 0.999, epsilon: 1e-8, weight_decay: 0.1, max_grad_norm: 0.1 };
const STEPS: usize = 4;
const LEARNING_RATE: f64 = 1e-3;

/// Six rows of 2 to 32 tokens, of two sources; the second source's tokens weigh 2.5, and every fourth is not trained.
fn real_rows() -> Vec<(u16, Example)> {
    let tokenizer = Tokenizer::from_gguf(&checkpoint().gguf_vocab().unwrap().unwrap()).unwrap();
    let texts = [
        "Hello world",
        "Photosynthesis is the process by which plants turn light into sugar.",
        "Diagnosis: Type 2 diabetes mellitus with diabetic chronic kidney disease\nCategory: Endocrine",
        "It was the best of times, it was the worst of times, it was the age of wisdom, it was the age of foolishness,",
        "In 2024, aspirin (acetylsalicylic acid) is used to treat pain.",
        "The quick brown fox jumps over the lazy dog.",
    ];
    let row = |(r, text): (usize, &&str)| {
        let ids = tokenizer.encode(text, Specials::Parse);
        let source = (r % 2) as u16;
        let weight = |i: usize| match (i, source) {
            (0, _) => 0.0,
            (i, 1) if i % 4 == 0 => 0.0,
            (_, 1) => 2.5,
            _ => 1.0,
        };
        (source, Example { weights: (0..ids.len()).map(weight).collect(), ids, row: r })
    };
    texts.iter().enumerate().map(row).collect()
}

fn relative(got: f64, expected: f64) -> f64 {
    (got - expected).abs() / expected.abs()
}

/// A row's loss among others in one micro-batch, against the row alone; and all of them against the sum. Relative:
/// measured 0 and 1.4e-8; allowed 1e-6 and 5e-7.
#[test]
fn the_packed_loss_is_the_sum_of_the_rows_losses() {
    let model = real(&Tuning::Frozen);
    let ws = workspace(&model, Purpose::Infer, 128);
    let loss = |batch: &MicroBatch| evaluate(&model, &ws, true, std::slice::from_ref(batch));
    let rows = real_rows();
    let packed = micro_batches(&borrowed(&rows), 128).remove(0);
    assert_eq!(packed.segments.len(), rows.len(), "one micro-batch holds them all");
    let mut sum = LossSum::default();
    for segment in &packed.segments {
        let (source, row) = rows.iter().find(|(_, row)| row.ids == packed.ids[segment.clone()]).unwrap();
        let alone = loss(&micro_batches(&[(*source, row)], 128)[0]);
        let mut among = packed.clone();
        among.targets.retain(|target| segment.contains(&(target.row as usize)));
        let among = loss(&among);
        assert_eq!(among.weight, alone.weight);
        assert!(relative(among.nll, alone.nll) < 1e-6, "among others {}, alone {}", among.nll, alone.nll);
        sum = LossSum { nll: sum.nll + alone.nll, weight: sum.weight + alone.weight };
    }
    let packed = loss(&packed);
    assert_eq!(packed.weight, sum.weight);
    assert!(relative(packed.nll, sum.nll) < 5e-7, "packed {}, row by row {}", packed.nll, sum.nll);
}

/// The outcome of each of [`STEPS`] steps, and the trained weights before and after all.
struct Trained {
    outcomes: Vec<StepOutcome>,
    before: Vec<Vec<f32>>,
    after: Vec<Vec<f32>>,
}

fn train<D: Device>(model: &Llama<D>, ws: &Workspace<D::Buffer>, batches: &[MicroBatch]) -> Trained {
    let weights = || model.trained().iter().map(|(_, p)| model.device().read(&p.value)).collect();
    let before = weights();
    let mut optimizer = Optimizer::new(model, SETTINGS);
    let outcomes = (0..STEPS).map(|_| step(model, ws, &mut optimizer, batches, LEARNING_RATE).unwrap()).collect();
    Trained { outcomes, before, after: weights() }
}

/// One micro-batch, several of unlike size, each row alone.
fn splits(rows: &[(u16, Example)], sizes: [usize; 3], counts: [usize; 3]) -> [Vec<MicroBatch>; 3] {
    let splits = sizes.map(|size| micro_batches(&borrowed(rows), size));
    assert_eq!(splits.each_ref().map(Vec::len), counts);
    splits
}

/// Largest relative difference of a step's loss, of its source's sums and of its gradient norm; and the distance of the
/// weights after all steps over the way that training moved them.
fn differences(a: &Trained, b: &Trained) -> (f64, f64, f64) {
    let (mut loss, mut norm) = (0.0f64, 0.0f64);
    for (a, b) in a.outcomes.iter().zip(&b.outcomes) {
        loss = loss.max(relative(a.loss(), b.loss()));
        norm = norm.max(relative(a.gradient_norm, b.gradient_norm));
        for (a, b) in a.by_source.iter().zip(&b.by_source) {
            assert_eq!(a.weight, b.weight);
            loss = loss.max(relative(a.nll, b.nll));
        }
        assert_eq!((a.processed_tokens, a.trained_tokens), (b.processed_tokens, b.trained_tokens));
    }
    let distance = |a: &[Vec<f32>], b: &[Vec<f32>]| {
        a.iter().flatten().zip(b.iter().flatten()).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
    };
    (loss, norm, distance(&a.after, &b.after) / distance(&b.before, &b.after))
}

/// transformers#35203: an accumulated step is divided once, by all its trained tokens. In f64, where rounding cannot hide
/// a fault (losses and weights are read as f32). Relative: measured loss 0, gradient norm 2.2e-15, weights 0; allowed 1e-7,
/// 1e-12, 1e-6.
#[test]
fn accumulation_equals_one_batch_transformers_35203() {
    let rows = tiny_rows();
    for tuning in [Tuning::Full, lora(2, 3.0)] {
        let run = |batches: &Vec<MicroBatch>| {
            let model = tiny(Reference::<f64>::new(), true, &tuning);
            train(&model, &workspace(&model, Purpose::Train, 32), batches)
        };
        let splits = splits(&rows, [32, 8, 1], [1, 3, 5]);
        let [one, several, single] = splits.each_ref().map(run);
        assert!(one.outcomes[0].gradient_norm > SETTINGS.max_grad_norm, "clipping is at work");
        for other in [several, single] {
            let (loss, norm, weights) = differences(&other, &one);
            assert!(loss < 1e-7 && norm < 1e-12 && weights < 1e-6, "loss {loss:e}, norm {norm:e}, weights {weights:e}");
        }
    }
}

/// Rows that begin alike share the rows of their beginning where they share a micro-batch; trained alone they cannot. Targets
/// lie in the shared part, at its end, where one row predicts another token for each, and behind it. In f64, with the
/// tolerances of the test above.
#[test]
fn rows_that_begin_alike_train_as_each_alone() {
    let row = |(r, ids): (usize, &[u32])| {
        let weights = (0..ids.len()).map(|i| if i > 2 { 1.0 + (r % 3) as f32 / 2.0 } else { 0.0 }).collect();
        ((r % 2) as u16, Example { weights, ids: ids.to_vec(), row: r })
    };
    let ids: [&[u32]; 5] =
        [&[1, 2, 3, 4, 5, 6], &[1, 2, 3, 4, 5, 7, 8], &[1, 2, 3, 4, 5, 7, 9], &[1, 2, 3, 4, 5], &[4, 3, 2, 1, 9]];
    let rows: Vec<(u16, Example)> = ids.into_iter().enumerate().map(row).collect();
    for tuning in [Tuning::Full, lora(2, 3.0)] {
        let run = |batches: &Vec<MicroBatch>| {
            let model = tiny(Reference::<f64>::new(), true, &tuning);
            train(&model, &workspace(&model, Purpose::Train, 32), batches)
        };
        let splits = splits(&rows, [32, 14, 1], [1, 3, 5]);
        let [one, several, single] = splits.each_ref().map(run);
        for other in [several, one] {
            let (loss, norm, weights) = differences(&other, &single);
            assert!(loss < 1e-7 && norm < 1e-12 && weights < 1e-6, "loss {loss:e}, norm {norm:e}, weights {weights:e}");
        }
    }
}

/// The same on the real model, f32 on the CPU device. Relative: measured loss 1.8e-6, gradient norm 4.1e-6, weights 1.6e-4
/// (AdamW divides by the root of the square, so a gradient that is nearly zero moves its weight as far as any other);
/// allowed 8e-6, 2e-5, 1e-3.
#[test]
fn accumulation_equals_one_batch_on_the_real_model() {
    let rows = real_rows();
    let run = |batches: &Vec<MicroBatch>| {
        let model = real(&lora(4, 8.0));
        model.init_adapters(1);
        train(&model, &workspace(&model, Purpose::Train, 128), batches)
    };
    let splits = splits(&rows, [128, 36, 1], [1, 3, 6]);
    let [one, several, single] = splits.each_ref().map(run);
    for other in [several, single] {
        let (loss, norm, weights) = differences(&other, &one);
        assert!(loss < 8e-6 && norm < 2e-5 && weights < 1e-3, "loss {loss:e}, norm {norm:e}, weights {weights:e}");
    }
}
