//! What a run takes: memory and disk by arithmetic, time by measuring pieces of the real shape.
//!
//! Time. A model of one layer and one of a few layers, with the base's widths and stand-in weights, train on micro-batches
//! of the stage's own schedule. The difference is what a layer takes, adapters, attention, norms and optimiser included;
//! what is left of the small model is head and embedding. A base of L layers takes the rest once and the layer L times. In
//! the same way a forward alone (validation, judgement) and a step of decoding are measured. Only the weights are not
//! real, and no operation's time depends on them.
//!
//! Where the products alone say that all of it takes less than [`SHORT_SECONDS`], that is the estimate, and called rough: a
//! measurement would take as long as what it measures.
//!
//! Speeds that were measured before are kept in the cache; `temper plan` measures anew.
//!
//! Written answers are counted at their longest; the model may end them earlier.

mod judging;
mod rates;
mod rollouts;

use std::ops::ControlFlow;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;
use temper_data::{DataError, MicroBatch, PairBatch, Target};
use temper_kernels::{Cpu, Device, Precision, Tensor, Write};
use temper_model::{
    AdapterSpace, Beginnings, Checkpoint, Encoding, LOGIT_ROWS, Llama, LlamaConfig, Purpose, Sampling, Stored, Tuning,
    Workspace, generate,
};
use temper_train::{Batches, FitSettings, Optimizer, OptimizerSettings, evaluate, step};

use self::judging::Judging;
pub(crate) use self::rates::Rates;
use crate::cache::Kind;
use crate::export;
use crate::frozen;
use crate::identity::base_ingredients;
use crate::judge::BATCH_TOKENS;
use crate::prepare::{Prepared, PreparedStage};
use crate::reference::{Pairs, References};
use crate::saving::{self, Saved, validations};

/// Rows of the vocabulary in the stand-in models: the head's time is proportional to them.
const VOCABULARY: usize = 16_384;
/// Bytes of weights at which decoding reads memory rather than a cache.
const BEYOND_CACHES: usize = 160 << 20;
/// Sequences that `generate` decodes together, and tokens of one of its passes.
const PLACES: usize = 32;
const PASS_TOKENS: usize = 256;
/// Seconds that one measured training step may take; a larger one is measured on part of its rows.
const STEP_SECONDS: f64 = 0.5;

/// Work of fewer seconds is not measured.
const SHORT_SECONDS: f64 = 20.0;
/// What surrounds the products of a step, in a rough estimate: attention, norms, optimiser (0.28 to 0.55 s of 5.1 s in the
/// profile of a full step, more where rows are short), and products that are small.
const ROUGH: f64 = 1.35;

/// What a whole run takes.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct RunEstimate {
    /// Wall time of training, validation, judgement, and of opening and saving models.
    pub seconds: f64,
    /// Of that, validation losses while training.
    pub validation_seconds: f64,
    /// Of that, both axes of the judgement.
    pub judgement_seconds: f64,
    /// Of that, opening models and writing checkpoints, best weights, results and the tuned model.
    pub saving_seconds: f64,
    /// The times of computing are from products alone, since all of it is short.
    pub rough: bool,
    /// Bytes of memory at the highest point.
    pub memory_bytes: usize,
    /// Of these, bytes that are mapped from the cache: the packed weights of a frozen base. They belong to the system, which
    /// may drop them and read them again; runs at the same time share them.
    pub mapped_bytes: usize,
    /// Bytes of the run folder: checkpoints, and what the recipe's `export` asks for.
    pub disk_bytes: usize,
    /// Bytes of the packed weights in the cache folder, there or to be written.
    pub cache_bytes: usize,
    /// Tokens of training that go through the model.
    pub processed_tokens: usize,
    /// Tokens of training that carry loss.
    pub trained_tokens: usize,
}

/// Seconds of one stage.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct StageSeconds {
    pub training: f64,
    pub validation: f64,
}

/// What was measured for a recipe.
#[derive(Clone, Debug, Default)]
pub(crate) struct Measured {
    /// Of products in the run's precision.
    pub gflops: f64,
    /// Of f32 products, where the run's are bf16 and that is not the faster here.
    pub gflops_in_f32: Option<f64>,
    pub stages: Vec<StageSeconds>,
    pub judgement: f64,
    pub saving: f64,
    /// Seconds in which the base writes the rows of each `path: self`; 0 where they are there.
    pub writing: Vec<f64>,
    pub rough: bool,
    judging: Judging,
}

/// Numbers of a model of that shape.
pub fn parameters(config: &LlamaConfig) -> usize {
    config.tensor_shapes().iter().map(|(_, shape)| shape.iter().product::<usize>()).sum()
}

fn adapter_space(config: &LlamaConfig, tuning: &Tuning) -> AdapterSpace {
    match tuning {
        Tuning::Lora(lora) => lora.space(config),
        Tuning::Full | Tuning::Frozen => AdapterSpace::default(),
    }
}

/// Bytes of a packed number.
fn packed(device: &Cpu) -> usize {
    match device.precision() {
        Precision::F32 => 4,
        Precision::Bf16 => 2,
    }
}

/// Bytes of training at micro-batches of `tokens` tokens: what is trained in f32 with its gradient and moments, the
/// weights that products read, rotary tables, activations. A frozen weight is packed twice, for the forward and for the
/// backward; a trained one is packed for each product, the widest of a block or, where it is packed as a whole, the head taking the
/// most.
pub fn training_memory(
    device: &Cpu,
    config: &LlamaConfig,
    (tuning, purpose): (&Tuning, Purpose),
    optimizer: &OptimizerSettings,
    tokens: usize,
) -> usize {
    let read = match tuning {
        Tuning::Full => {
            let (head, widest) =
                (config.vocab_size * config.hidden_size, 2 * config.intermediate_size * config.hidden_size);
            if device.packs_by_parts(head, LOGIT_ROWS) { widest } else { head.max(widest) }
        }
        Tuning::Lora(_) | Tuning::Frozen => 2 * parameters(config),
    };
    memory_reading(packed(device) * read, device, config, (tuning, purpose), optimizer, tokens)
}

/// [`training_memory`] where what products read takes `read` bytes.
fn memory_reading(
    read: usize,
    device: &Cpu,
    config: &LlamaConfig,
    (tuning, purpose): (&Tuning, Purpose),
    optimizer: &OptimizerSettings,
    tokens: usize,
) -> usize {
    let tables = 4 * config.rotary_numbers();
    let trained = 2 * tuning.numbers(config) + optimizer.moments(config, tuning) + optimizer.scratch(config, tuning);
    let weights = 4 * trained + read + tables;
    weights + Workspace::bytes(device, config, adapter_space(config, tuning), purpose, tokens)
}

/// [`training_memory`] of a stage over a checkpoint, whose weights stay as they are stored where the stage trains over them and
/// `as_stored` says so.
pub(crate) fn memory_over(
    device: &Cpu,
    (checkpoint, as_stored): (&Checkpoint, bool),
    stage: &PreparedStage,
    tokens: usize,
) -> usize {
    let (config, kind, optimizer) = (checkpoint.config(), (&stage.tuning, stage.purpose), &stage.settings.optimizer);
    if as_stored && stage.trains_over_base() {
        let read = frozen::bytes(device, checkpoint, &stage.tuning);
        return memory_reading(read, device, config, kind, optimizer, tokens);
    }
    training_memory(device, config, kind, optimizer, tokens)
}

/// [`training_memory`] of a stage of a recipe.
pub(crate) fn stage_memory(prepared: &Prepared, stage: &PreparedStage) -> usize {
    let over = (&prepared.base.checkpoint, prepared.keeps_as_stored());
    memory_over(&prepared.device, over, stage, prepared.tokens_together(stage))
}

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
fn training_step(
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
struct ForwardRate {
    token: f64,
    row: f64,
}

/// Over rows of 64 tokens, all of them asked.
fn forward_rate(device: Cpu, config: &LlamaConfig, gflops: f64) -> ForwardRate {
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

fn layer_parameters(config: &LlamaConfig) -> usize {
    let heads = config.heads();
    config.hidden_size * (heads.row_width() + heads.query_width() + 3 * config.intermediate_size)
}

/// Seconds of one step of decoding, [`PLACES`] sequences at once.
fn decode_step(device: Cpu, config: &LlamaConfig) -> f64 {
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

impl Measured {
    /// Measures what the recipe's stages and judgement need, some seconds in all.
    pub fn of(prepared: &Prepared) -> Self {
        let (device, config) = (prepared.device, prepared.base.checkpoint.config());
        let rates = Rates::of(prepared);
        let gflops = rates.get("products", json!([]), || measure_products(&device));
        let slower = device.precision() == Precision::Bf16 && !device.gains_by_bf16();
        let in_f32 = || measure_products(&device.with_precision(Precision::F32));
        let gflops_in_f32 = slower.then(|| rates.get("products in f32", json!([]), in_f32));
        let key = base_ingredients(prepared, "tokens of the judgement", Judging::ingredients(prepared));
        let (mut judging, of_base) = prepared.kept().or(Kind::Rows, &key, || Judging::of(prepared)).unwrap_or_default();
        let known = crate::judge::base_is_known(prepared).unwrap_or_default();
        for (index, suite) in of_base.into_iter().enumerate() {
            if !known.get(index).is_some_and(|&known| known) {
                judging.add(suite);
            }
        }
        let saving = saving::seconds(prepared, &rates);
        let rough = Self { gflops_in_f32, saving, ..Self::rough(prepared, gflops, judging) };
        let stages = rough.stages.iter().map(|s| s.training + s.validation).sum::<f64>();
        if stages + rough.judgement + rough.writing.iter().sum::<f64>() < SHORT_SECONDS {
            return rough;
        }
        let shape = format!("{config:?}");
        let reinforces = prepared.stages.iter().any(|stage| stage.rft.is_some());
        let validating = prepared.stages.iter().any(|stage| stage.validation.is_some() || stage.reference.is_some());
        let writing: Vec<(usize, usize)> = prepared.own_rows.iter().map(|own| own.report.to_write()).collect();
        let writes = writing.iter().any(|(_, answers)| *answers > 0);
        let forward = if validating || reinforces || judging.tokens > 0 || writes {
            rates.get("a forward", json!([shape]), || forward_rate(device, config, gflops))
        } else {
            ForwardRate::default()
        };
        let decode = if judging.decode_steps > 0 || writes || reinforces {
            rates.get("a step of decoding", json!([shape]), || decode_step(device, config))
        } else {
            0.0
        };
        // Near the end of each part fewer are decoded together than here, which takes some percent more.
        let writing = writing
            .iter()
            .map(|&(prompts, answers)| prompts as f64 * forward.token + answers as f64 / PLACES as f64 * decode);
        let writing = writing.collect();
        let watched = prepared.watch.tokens(&prepared.base.renderer).unwrap_or_default();
        let kept =
            prepared.keeps_as_stored().then(|| frozen::kept(&prepared.base.checkpoint, &Tuning::Frozen).encoding);
        let of_base = (config, kept.flatten());
        let seconds =
            |(index, stage): (usize, &PreparedStage)| match rollouts::rounds(prepared, index, validations(stage)) {
                Some(r) => {
                    let batches = rollouts::stand_ins(prepared, index);
                    let pass = step_seconds(&rates, of_base, stage, gflops, batches, r.of_round);
                    let scoring = (r.scored + r.prompts) * forward.token + (r.asked + r.trained) * forward.row;
                    let training = r.passes * pass + scoring + r.decode_steps * decode;
                    StageSeconds { training: training + optimizer_seconds(config, stage, gflops), validation: 0.0 }
                }
                None => stage_seconds(&rates, of_base, stage, watched, gflops, forward),
            };
        let stages = prepared.stages.iter().enumerate().map(seconds).collect();
        let judgement = judging.tokens as f64 * forward.token
            + judging.rows as f64 * forward.row
            + judging.decode_steps as f64 * decode;
        Self { gflops, gflops_in_f32, stages, judgement, saving, writing, rough: false, judging }
    }

    /// From the products alone (Kaplan et al. 2020): 2 operations a weight and token forward, 2 for the gradient by the
    /// input, 2 more for that by a trained weight; the head only where something is asked.
    fn rough(prepared: &Prepared, gflops: f64, judging: Judging) -> Self {
        let config = prepared.base.checkpoint.config();
        let head = (config.vocab_size * config.hidden_size) as f64;
        let blocks = (layer_parameters(config) * config.num_hidden_layers) as f64;
        let seconds = |per_weight: f64, tokens: usize, rows: usize| {
            per_weight * (blocks * tokens as f64 + head * rows as f64) / (gflops * 1e9) * ROUGH
        };
        // A step of decoding reads every weight for few rows: half the rate of products at best.
        let decoding = |tokens: usize| seconds(2.0, 2 * tokens, 2 * tokens);
        let of_stage = |(index, stage): (usize, &PreparedStage)| {
            let full = matches!(stage.tuning, Tuning::Full);
            if let Some(r) = rollouts::rounds(prepared, index, validations(stage)) {
                let per_weight = if full { 6.0 } else { 4.0 };
                return StageSeconds {
                    training: seconds(per_weight, (r.passes * r.of_round) as usize, r.trained as usize)
                        + seconds(2.0, (r.scored + r.prompts) as usize, (r.asked + r.trained) as usize)
                        + decoding((PLACES as f64 * r.decode_steps) as usize)
                        + ROUGH * optimizer_seconds(config, stage, gflops),
                    validation: 0.0,
                };
            }
            let drawn = |of: fn(&temper_data::Units<usize>) -> usize| {
                stage.schedule.shares().sources.iter().map(|s| of(&s.drawn)).sum::<usize>()
            };
            let (tokens, rows) = (drawn(|u| u.processed_tokens), drawn(|u| u.trained_tokens));
            let validation =
                stage.validation.as_ref().map_or((0, 0), |v| (v.report.processed_tokens, v.report.trained_tokens));
            // Pairs go through the head once more, and are scored by the reference before.
            let scored = Pairs::of(stage).map_or(0.0, |pairs| {
                let (of_pairs, trained) = pairs.tokens();
                seconds(2.0, 0, rows) + seconds(2.0, of_pairs, trained)
            });
            StageSeconds {
                training: seconds(if full { 6.0 } else { 4.0 }, tokens, rows)
                    + scored
                    + ROUGH * optimizer_seconds(config, stage, gflops),
                validation: validations(stage) as f64 * seconds(2.0, validation.0, validation.1),
            }
        };
        let judgement = seconds(2.0, judging.tokens, judging.rows) + decoding(PLACES * judging.decode_steps);
        let writing = prepared.own_rows.iter().map(|own| own.report.to_write());
        let writing = writing.map(|(prompts, answers)| seconds(2.0, prompts, 0) + decoding(answers)).collect();
        let stages = prepared.stages.iter().enumerate().map(of_stage).collect();
        Self { gflops, stages, judgement, writing, rough: true, judging, ..Self::default() }
    }
}

/// Seconds that a stage's optimiser takes for products: a step's, whatever its tokens.
fn optimizer_seconds(config: &LlamaConfig, stage: &PreparedStage, gflops: f64) -> f64 {
    let FitSettings { learning_rate, optimizer, .. } = &stage.settings;
    learning_rate.steps as f64 * optimizer.operations(config, &stage.tuning) / (gflops * 1e9)
}

fn stage_seconds(
    rates: &Rates<'_>,
    (config, kept): (&LlamaConfig, Option<Encoding>),
    stage: &PreparedStage,
    watched: usize,
    gflops: f64,
    forward: ForwardRate,
) -> StageSeconds {
    let steps = stage.settings.learning_rate.steps;
    // The step of the usual size, of at most 64 that are looked at.
    let looked_at: Vec<usize> = (1..=steps).step_by(steps.div_ceil(64).max(1)).collect();
    let sizes: Vec<usize> = looked_at.iter().map(|&s| tokens(&batches_of(stage, s))).collect();
    let all: usize = stage.schedule.shares().sources.iter().map(|s| s.drawn.processed_tokens).sum();
    let mean = all as f64 / steps.max(1) as f64;
    let usual = (0..sizes.len()).min_by_key(|&i| (sizes[i] as f64 - mean).abs() as usize).unwrap_or(0);
    let batches = batches_of(stage, looked_at[usual]);
    let mut training = step_seconds(rates, (config, kept), stage, gflops, batches, all as f64)
        + optimizer_seconds(config, stage, gflops);
    if let Some(pairs) = Pairs::of(stage) {
        // The head once more, for the log-probabilities that decide the gradient; and the reference, once a pair.
        let rows: usize = stage.schedule.shares().sources.iter().map(|s| s.drawn.trained_tokens).sum();
        let (scored, asked) = pairs.tokens();
        training += scored as f64 * forward.token + (rows + asked) as f64 * forward.row;
    }

    let validation = rows_of_batches(stage.validation_batches(&References::default()));
    let rows: usize = validation.iter().map(|batch| batch.targets.len()).sum();
    let rows_of =
        |batch: &MicroBatch| batch.segments.iter().map(|rows| batch.ids[rows.clone()].to_vec()).collect::<Vec<_>>();
    let laid: Vec<Vec<u32>> = validation.iter().flat_map(rows_of).collect();
    let once = (Beginnings::rows(&laid) + watched) as f64 * forward.token + (rows + watched) as f64 * forward.row;
    StageSeconds { training, validation: validations(stage) as f64 * once }
}

/// Seconds of a step over `all` tokens, by one over these rows, or part of them.
fn step_seconds(
    rates: &Rates<'_>,
    (config, kept): (&LlamaConfig, Option<Encoding>),
    stage: &PreparedStage,
    gflops: f64,
    mut batches: Vec<MicroBatch>,
    all: f64,
) -> f64 {
    // So many layers and rows as the time allows.
    let per_weight = if matches!(stage.tuning, Tuning::Full) { 6.0 } else { 4.0 };
    let cost = |tokens: usize, layers: usize| {
        per_weight * (layer_parameters(config) * tokens * layers) as f64 / (gflops * 1e9)
    };
    let layers = (2..=4).rev().find(|&layers| cost(tokens(&batches), layers) < STEP_SECONDS).unwrap_or(2);
    while batches.len() > 1 && cost(tokens(&batches), layers) > STEP_SECONDS {
        batches.pop();
    }
    if let [batch] = &mut batches[..] {
        while batch.segments.len() > 1 && cost(batch.ids.len(), layers) > 2.0 * STEP_SECONDS {
            let keep = batch.segments[batch.segments.len() / 2 - 1].end;
            batch.segments.retain(|segment| segment.end <= keep);
            batch.rows.truncate(batch.segments.len());
            batch.ids.truncate(keep);
            batch.positions.truncate(keep);
            batch.targets.retain(|target| (target.row as usize) < keep);
        }
    }
    let rows: Vec<_> = batches.iter().map(|batch| (&batch.segments, batch.targets.len())).collect();
    let kind = (&stage.tuning, stage.purpose);
    let frozen = kept.filter(|_| stage.trains_over_base());
    let mut key = json!([format!("{config:?}"), format!("{kind:?}"), rows, layers]);
    if let (Some(encoding), Some(key)) = (frozen, key.as_array_mut()) {
        key.push(json!(encoding.to_string()));
    }
    let step = || training_step(rates.device, (config, frozen), kind, &batches, layers);
    rates.get("a training step", key, step) * all / tokens(&batches).max(1) as f64
}

fn batches_of(stage: &PreparedStage, step: usize) -> Vec<MicroBatch> {
    rows_of_batches(stage.batches(step, &References::default()))
}

/// Batches as rows, the worse answer of a pair as one of its own: what it sees of the prompt takes little time. Rows that
/// cannot be read any more are the run's to tell.
fn rows_of_batches(batches: Result<Batches, DataError>) -> Vec<MicroBatch> {
    let rows = |batch: PairBatch| {
        let targets = batch.pairs.iter().flat_map(|pair| pair.targets.iter().flatten());
        let target = |&(row, token): &(u32, u32)| Target { row, token, weight: 1.0, source: 0 };
        let mut targets: Vec<Target> = targets.map(target).collect();
        targets.sort_by_key(|target| target.row);
        let segments: Vec<_> =
            batch.segments.into_iter().map(|(rows, _)| rows).filter(|rows| !rows.is_empty()).collect();
        let rows = (0..segments.len() as u32).collect();
        MicroBatch { ids: batch.ids, positions: batch.positions, segments, rows, targets }
    };
    match batches {
        Ok(Batches::Tokens(batches)) => batches,
        Ok(Batches::Pairs(batches)) => batches.into_iter().map(rows).collect(),
        Ok(Batches::Rollouts(_) | Batches::Told) | Err(_) => Vec::new(),
    }
}

fn tokens(batches: &[MicroBatch]) -> usize {
    batches.iter().map(|batch| batch.ids.len()).sum()
}

/// The whole run, from what was measured and counted.
pub(crate) fn of_run(prepared: &Prepared, measured: &Measured) -> RunEstimate {
    let (device, config) = (&prepared.device, prepared.base.checkpoint.config());
    let parameters = parameters(config);
    let (mut memory, mut run) = (0, RunEstimate::default());
    let mut disk: usize = export::model_bytes(prepared).iter().sum();
    for ((stage, recipe), seconds) in prepared.stages.iter().zip(&prepared.parts).zip(&measured.stages) {
        memory = memory.max(stage_memory(prepared, stage));
        run.seconds += seconds.training + seconds.validation;
        run.validation_seconds += seconds.validation;
        disk += Saved::of(stage, recipe, config).kept;
        if export::saves_adapter(prepared) {
            disk += 4 * stage.tuning.numbers(config);
        }
        for source in &stage.schedule.shares().sources {
            run.processed_tokens += source.drawn.processed_tokens;
            run.trained_tokens += source.drawn.trained_tokens;
        }
    }
    if prepared.recipe.evaluation.is_some() {
        let decoded = packed(device) * parameters;
        let kept = || frozen::bytes(device, &prepared.base.checkpoint, &Tuning::Frozen);
        let base = if prepared.keeps_as_stored() { kept() } else { decoded };
        let tuned = match (prepared.tuned_holds_base(), prepared.leaves_adapter()) {
            (true, _) => 0,
            (false, true) => base,
            (false, false) => decoded,
        };
        memory = memory.max(base + tuned + measured.judging.memory(device, config));
    }
    // The judgement reads the base, too.
    let frozen = prepared.recipe.evaluation.is_some() || prepared.trains_over_base(0);
    let packs = prepared.cache.is_some() && frozen && !prepared.keeps_as_stored();
    run.mapped_bytes = if packs { crate::packed::packed_bytes(device, config) } else { 0 };
    run.cache_bytes = run.mapped_bytes;
    run.rough = measured.rough;
    run.judgement_seconds = measured.judgement;
    run.saving_seconds = measured.saving;
    run.seconds += measured.judgement + measured.saving;
    run.memory_bytes = memory;
    run.disk_bytes = disk;
    run
}

/// Tokens a second of a short training step (LoRA of rank 16 on all linears) of this shape.
pub fn measure_training(device: Cpu, config: &LlamaConfig, tuning: &Tuning, gflops: f64) -> f64 {
    let per_layer = 4.0 * 4.0 * layer_parameters(config) as f64 / (gflops * 1e9);
    let tokens = ((STEP_SECONDS / per_layer) as usize / 64 * 64).clamp(64, 512);
    let batch = even_batch(tokens, 64);
    tokens as f64 / training_step(device, (config, None), (tuning, Purpose::Train), std::slice::from_ref(&batch), 4)
}
