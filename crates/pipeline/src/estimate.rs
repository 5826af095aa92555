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
mod pieces;
mod rates;
mod rollouts;

use serde::Serialize;
use serde_json::json;
use temper_data::{DataError, MicroBatch, PairBatch, Target};
use temper_kernels::{Cpu, Precision};
use temper_model::{
    AdapterSpace, Beginnings, Checkpoint, Encoding, LOGIT_ROWS, LlamaConfig, Purpose, Tuning, Workspace,
};
use temper_train::{Batches, FitSettings, OptimizerSettings};

use self::judging::Judging;
use self::pieces::{ForwardRate, decode_step, forward_rate, layer_parameters, training_step};
pub use self::pieces::{measure_products, measure_training};
pub(crate) use self::rates::Rates;
use crate::cache::Kind;
use crate::export;
use crate::frozen;
use crate::identity::base_ingredients;
use crate::prepare::{Prepared, PreparedStage};
use crate::reference::{Pairs, References};
use crate::saving::{self, Saved, validations};

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
                    let scoring = r.scored * forward.token + (r.asked + r.trained) * forward.row;
                    let training = r.passes * pass + scoring + r.sampled.seconds(forward.token, decode);
                    let looked_at = watched as f64 * (forward.token + forward.row);
                    StageSeconds {
                        training: training + optimizer_seconds(config, stage, gflops),
                        validation: r.validated.seconds(forward.token, decode) + validations(stage) as f64 * looked_at,
                    }
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
                let decoded = |d: rollouts::Decoding| {
                    seconds(2.0, d.prompts as usize, 0) + decoding((PLACES as f64 * d.steps) as usize)
                };
                return StageSeconds {
                    training: seconds(per_weight, (r.passes * r.of_round) as usize, r.trained as usize)
                        + seconds(2.0, r.scored as usize, (r.asked + r.trained) as usize)
                        + decoded(r.sampled)
                        + ROUGH * optimizer_seconds(config, stage, gflops),
                    validation: decoded(r.validated),
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
        Ok(Batches::Rollouts(..) | Batches::Told) | Err(_) => Vec::new(),
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
