//! What a run writes and reads beside its computing: bytes by arithmetic, seconds a byte by measuring the disk and the reader.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::{Deserialize, Serialize};
use serde_json::json;
use temper_model::{Checkpoint, LlamaConfig};
use temper_run::sha256_file;

use crate::estimate::{Rates, parameters};
use crate::export::model_bytes;
use crate::prepare::{Prepared, PreparedStage};

/// Bytes that the disk is measured with.
const SAMPLE: usize = 128 << 20;
/// Up to so many bytes, writing is not worth a measurement: a second on a slow disk.
const LITTLE: usize = 64 << 20;

/// Bytes of a stage's checkpoints, best weights and result.
pub(crate) struct Saved {
    /// Of the folder when the stage is done.
    pub kept: usize,
    /// Written and synced.
    pub written: usize,
    /// Of these, hashed.
    pub hashed: usize,
    /// Of the result, which is copied into the stage cache.
    result: usize,
}

impl Saved {
    /// A checkpoint holds the trained weights and their moments, and is hashed. The best weights are written
    /// at every validation, if each is the best so far; those stay that a kept checkpoint refers to. The result is
    /// written once.
    pub fn of(stage: &PreparedStage, recipe: &temper_recipe::Stage, config: &LlamaConfig) -> Self {
        let steps = stage.settings.learning_rate.steps;
        let every = (recipe.save_steps.value as usize).max(1);
        let mut saves: Vec<usize> = (1..=steps / every).map(|n| n * every).collect();
        if !steps.is_multiple_of(every) {
            saves.push(steps);
        }
        let kept = &saves[saves.len().saturating_sub((recipe.keep_checkpoints.value as usize).max(1))..];
        let mut bests: Vec<usize> = kept.iter().map(|&step| stage.settings.last_validated(step)).collect();
        bests.dedup();
        let bests = if stage.validation.is_some() { bests.iter().filter(|&&step| step > 0).count() } else { 0 };
        // The first validation is that of the start.
        let bests_written = validations(stage).saturating_sub(1);
        let weights = 4 * stage.tuning.numbers(config);
        let checkpoint = weights + 4 * stage.settings.optimizer.moments(config, &stage.tuning);
        Self {
            kept: checkpoint * kept.len() + weights * (bests + 1),
            written: checkpoint * saves.len() + weights * (bests_written + 1),
            hashed: checkpoint * saves.len(),
            result: weights,
        }
    }
}

/// Validations of a stage: before the first step, at intervals, and after the last.
pub(crate) fn validations(stage: &PreparedStage) -> usize {
    if stage.validation.is_none() { 0 } else { 1 + stage.settings.validations() }
}

/// Seconds a byte.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
struct Disk {
    /// Of writing and syncing.
    write: f64,
    /// Of reading back and hashing.
    hash: f64,
}

/// Seconds in which the run opens its models and writes all that it writes. The disk is measured with a file of
/// [`SAMPLE`] bytes beside the output, which is removed at once; where that cannot be written, as where there is little to
/// write, the disk's part is left out: the run will fail there, or take no time.
pub(crate) fn seconds(prepared: &Prepared, rates: &Rates<'_>) -> f64 {
    let config = prepared.base.checkpoint.config();
    let judged = prepared.recipe.evaluation.is_some();
    // Each weight once for each model, to be merged and written.
    let models = model_bytes(prepared);
    let (mut written, mut hashed, mut loads) = (models.iter().sum::<usize>(), 0, models.len());
    for (index, (stage, recipe)) in prepared.stages.iter().zip(&prepared.parts).enumerate() {
        let saved = Saved::of(stage, recipe, config);
        written += saved.written + if prepared.cache.is_some() { saved.result } else { 0 };
        hashed += saved.hashed;
        // A base that is only read is mapped from the cache.
        let mapped = prepared.cache.is_some() && prepared.trains_over_base(index);
        loads += usize::from(!mapped);
    }
    loads += usize::from(judged && !(prepared.leaves_adapter() && prepared.cache.is_some()));
    loads += usize::from(judged && prepared.cache.is_none());
    let folder = folder_above(&prepared.recipe.output.value);
    let disk = if written <= LITTLE { None } else { rates.get("a disk", json!([folder]), || measure(&folder).ok()) };
    let Disk { write, hash } = disk.unwrap_or_default();
    let base: Vec<&String> = prepared.base.resolved.sha256s.iter().map(|(_, hash)| hash).collect();
    let load = rates.get("loading", json!(base), || loading(&prepared.base.checkpoint));
    written as f64 * write + hashed as f64 * hash + loads as f64 * load
}

/// The nearest folder above `output` that is there before the run as after it.
fn folder_above(output: &Path) -> PathBuf {
    let output = std::path::absolute(output).unwrap_or_else(|_| output.to_owned());
    let above = output.ancestors().skip(1).find(|folder| folder.is_dir());
    above.map_or_else(|| PathBuf::from("."), Path::to_owned)
}

fn measure(folder: &Path) -> std::io::Result<Disk> {
    let path = folder.join(format!(".temper-disk-{}.tmp", std::process::id()));
    let measured = (|| {
        // Not constant, so that no file system stores it smaller.
        let sample: Vec<u8> = (0..SAMPLE as u32).map(|i| (i.wrapping_mul(2_654_435_769) >> 24) as u8).collect();
        let start = Instant::now();
        let mut file = File::create_new(&path)?;
        file.write_all(&sample)?;
        file.sync_all()?;
        let write = start.elapsed().as_secs_f64();
        let start = Instant::now();
        sha256_file(&path).map_err(std::io::Error::other)?;
        Ok(Disk { write: write / SAMPLE as f64, hash: start.elapsed().as_secs_f64() / SAMPLE as f64 })
    })();
    // The first error is the one that counts.
    let _ = std::fs::remove_file(&path);
    measured
}

/// Seconds of reading a model, from its largest weight.
fn loading(checkpoint: &Checkpoint) -> f64 {
    let config = checkpoint.config();
    let start = Instant::now();
    let shape = [config.vocab_size, config.hidden_size];
    // A weight that cannot be read is refused where the run reads it.
    let _ = checkpoint.tensor("model.embed_tokens.weight", &shape);
    start.elapsed().as_secs_f64() * parameters(config) as f64 / (shape[0] * shape[1]) as f64
}
