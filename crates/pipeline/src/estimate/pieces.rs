//! Pieces of the real shape, timed: products, a few layers of a training step, a forward, a step of decoding.

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use temper_data::{MicroBatch, Target};
use temper_kernels::{Cpu, Device, Tensor, Write};
use temper_model::{Encoding, Llama, LlamaConfig, Purpose, Sampling, Stored, Tuning, Workspace, generate};
use temper_train::{Optimizer, OptimizerSettings, evaluate, step};

use super::{PLACES, STEP_SECONDS};
use crate::judge::BATCH_TOKENS;

/// Rows of the vocabulary in the stand-in models: the head's time is proportional to them.
const VOCABULARY: usize = 16_384;
/// Bytes of weights at which decoding reads memory rather than a cache.
const BEYOND_CACHES: usize = 160 << 20;

/// The rate of the device's products of the shape of a block, in 10^9 operations a second, over about 0.2 seconds.
pub fn measure_products(device: &Cpu) -> f64 {
    let (m, n, k) = (512, 1536, 576);
    let [x, w, y] = [(m, k), (n, k), (m, n)].map(|(r, c)| device.upload(r, c, &vec![0.5; r * c]));
    device.linear(&x, &w, 1.0, Write::Set, &y);
    let start = Instant::now();
    let mut products = 0.0;
    while start.elapsed().as_secs_f64() < 0.2 {
        device.linear(&x, &w, 1.0, Write::Set, &y);
        products += 1.0;
    }
    products * 2.0 * (m * n * k) as f64 / start.elapsed().as_secs_f64() / 1e9
}

/// A model of the base's widths with `layers` layers and stand-in weights, of which those that are frozen stay quantised where an
/// encoding is given.
fn stand_in(
    device: Cpu,
    (config, frozen): (&LlamaConfig, Option<Encoding>),
    tuning: &Tuning,
    layers: usize,
    positions: usize,
) -> Llama<Cpu> {
    let config = LlamaConfig {
        num_hidden_layers: layers,
        vocab_size: config.vocab_size.min(VOCABULARY),
        max_position_embeddings: positions,
        bos_token_id: None,
        eos_token_ids: Vec::new(),
        pad_token_id: None,
        ..config.clone()
    };
    // Small numbers of both signs, in the cheapest way that is not constant.
    let weights = |_: &str, shape: &[usize]| -> Result<Stored, std::convert::Infallible> {
        let count: usize = shape.iter().product();
        if shape.len() == 1 {
            return Ok(Stored::Values(vec![1.0; count]));
        }
        Ok(match frozen.filter(|encoding| shape[1].is_multiple_of(encoding.block().0)) {
            // Scales and minima of 6e-4.
            Some(encoding) => Stored::Encoded { encoding, bytes: vec![0x11; shape[0] * encoding.row_bytes(shape[1])] },
            None => Stored::Values(
                (0..count as u32).map(|i| (i.wrapping_mul(2_654_435_769) as i32) as f32 * 1e-11).collect(),
            ),
        })
    };
    let Ok(model) = Llama::load(device, &config, tuning, weights);
    model.init_adapters(0);
    model
}

/// The fastest of some calls, after one that warms up: what other work takes away is not the run's own cost.
fn fastest(calls: usize, mut call: impl FnMut()) -> f64 {
    call();
    let time = |_| {
        let start = Instant::now();
        call();
        start.elapsed().as_secs_f64()
    };
    (0..calls).map(time).fold(f64::INFINITY, f64::min)
}

/// Seconds of a step of `batches`, by layer and for the rest, scaled to the base's vocabulary.
pub(super) fn training_step(
    device: Cpu,
    (config, frozen): (&LlamaConfig, Option<Encoding>),
    (tuning, purpose): (&Tuning, Purpose),
    batches: &[MicroBatch],
    layers: usize,
) -> f64 {
    let vocabulary = config.vocab_size.min(VOCABULARY) as u32;
    let longest = batches.iter().map(|b| b.ids.len()).max().unwrap_or(1);
    let positions = batches.iter().flat_map(|b| &b.positions).max().map_or(1, |&p| p as usize + 1);
    let mut batches = batches.to_vec();
    for batch in &mut batches {
        batch.ids.iter_mut().for_each(|id| *id %= vocabulary);
        batch.targets.iter_mut().for_each(|target| target.token %= vocabulary);
    }
    let time = |layers: usize| {
        let model = stand_in(device, (config, frozen), tuning, layers, positions);
        let ws = Workspace::allocate(&device, model.config(), model.adapter_space(), purpose, longest);
        let mut optimizer = Optimizer::new(&model, OptimizerSettings::default());
        fastest(2, || {
            // A loss of stand-in weights is finite; if it were not, the time would still be that of the step.
            let _ = step(&model, &ws, &mut optimizer, &batches, 1e-6);
        })
    };
    let layers = layers.min(config.num_hidden_layers);
    if layers < 2 {
        return time(1) * config.num_hidden_layers as f64;
    }
    let (one, several) = (time(1), time(layers));
    let layer = ((several - one) / (layers - 1) as f64).max(0.0);
    let rest = (one - layer).max(0.0) * config.vocab_size as f64 / f64::from(vocabulary);
    layer * config.num_hidden_layers as f64 + rest
}

/// Seconds of a forward alone: for each token through all layers, and for each row through the head.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
pub(super) struct ForwardRate {
    pub token: f64,
    pub row: f64,
}

/// Over rows of 64 tokens, all of them asked.
pub(super) fn forward_rate(device: Cpu, config: &LlamaConfig, gflops: f64) -> ForwardRate {
    let per_layer = layer_parameters(config);
    let most = (STEP_SECONDS * 0.3 * gflops * 1e9 / (2.0 * 3.0 * per_layer as f64)) as usize;
    let tokens = (most / 64 * 64).clamp(64, BATCH_TOKENS / 2);
    let batch = even_batch(tokens, 64);
    let time = |layers: usize| {
        let model = stand_in(device, (config, None), &Tuning::Frozen, layers, 64);
        let ws = Workspace::allocate(&device, model.config(), [0; 4], Purpose::Infer, tokens);
        fastest(2, || {
            evaluate(&model, &ws, false, std::slice::from_ref(&batch));
        })
    };
    let (one, three) = (time(1), time(3));
    // Other work can spoil a difference until nothing is left of it: no layer is faster than its products.
    let least = 2.0 * per_layer as f64 * tokens as f64 / (gflops * 1e9);
    let layer = ((three - one) / 2.0).max(least);
    let head = (one - layer).max(0.0) * config.vocab_size as f64 / config.vocab_size.min(VOCABULARY) as f64;
    ForwardRate {
        token: layer * config.num_hidden_layers as f64 / tokens as f64,
        row: head / batch.targets.len() as f64,
    }
}

/// A batch of rows of `length` tokens, every one a target.
fn even_batch(tokens: usize, length: usize) -> MicroBatch {
    let id = |i: usize| (i % 97) as u32;
    let target = |i: usize| Target { row: i as u32 - 1, token: id(i), weight: 1.0, source: 0 };
    MicroBatch {
        ids: (0..tokens).map(id).collect(),
        positions: (0..tokens).map(|i| (i % length) as u32).collect(),
        segments: (0..tokens / length).map(|row| row * length..(row + 1) * length).collect(),
        rows: (0..(tokens / length) as u32).collect(),
        targets: (0..tokens).filter(|i| i % length > 0).map(target).collect(),
    }
}

pub(super) fn layer_parameters(config: &LlamaConfig) -> usize {
    let heads = config.heads();
    config.hidden_size * (heads.row_width() + heads.query_width() + 3 * config.intermediate_size)
}

/// Seconds of one step of decoding, [`PLACES`] sequences at once.
pub(super) fn decode_step(device: Cpu, config: &LlamaConfig) -> f64 {
    let layers = BEYOND_CACHES.div_ceil(4 * layer_parameters(config)).clamp(1, config.num_hidden_layers);
    let (prompt, positions) = (4, 64);
    let model = stand_in(device, (config, None), &Tuning::Frozen, layers, positions);
    let prompts = vec![(0..prompt).map(|i| i as u32).collect::<Vec<u32>>(); PLACES];
    let time =
        |new: usize| {
            fastest(2, || {
                // Prompt and answer fit the positions above, the only way in which this can fail.
                let _ = generate(&model, false, &prompts, new, &[], &Sampling::GREEDY, &mut |_, _, _| {
                    ControlFlow::Continue(())
                });
            })
        };
    let step = ((time(9) - time(1)) / 8.0).max(0.0);
    let hidden = Tensor::new(device.zeros(PLACES * config.hidden_size), 0, PLACES, config.hidden_size);
    let ws = Workspace::allocate(&device, model.config(), [0; 4], Purpose::Infer, PLACES);
    let head = fastest(3, || {
        device.linear_logprob(&hidden, &model.head().value, &[], &ws.logits[0], None);
    });
    let layer = ((step - head) / layers as f64).max(0.0);
    layer * config.num_hidden_layers as f64 + head * config.vocab_size as f64 / model.config().vocab_size as f64
}

/// Tokens a second of a short training step (LoRA of rank 16 on all linears) of this shape.
pub fn measure_training(device: Cpu, config: &LlamaConfig, tuning: &Tuning, gflops: f64) -> f64 {
    let per_layer = 4.0 * 4.0 * layer_parameters(config) as f64 / (gflops * 1e9);
    let tokens = ((STEP_SECONDS / per_layer) as usize / 64 * 64).clamp(64, 512);
    let batch = even_batch(tokens, 64);
    tokens as f64 / training_step(device, (config, None), (tuning, Purpose::Train), std::slice::from_ref(&batch), 4)
}
