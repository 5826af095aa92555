//! The weights that a stage starts from, and those that a run ends with: as they are stored, never as a device holds them.
//!
//! A device rounds frozen weights to its precision. What is saved, and what the next stage starts from, is therefore not
//! read back from it: it is the stored weights, with stored adapters merged in f32.

use std::collections::HashMap;
use std::path::Path;

use temper_kernels::{Cpu, Precision};
use temper_model::{Adapter, AdapterModule, Checkpoint, Llama, LlamaConfig, Tuning, WeightsError, read_adapter};
use temper_recipe::FullStart;

use crate::PipelineError;
use crate::checkpoints::{Checkpoints, Finished, weights};
use crate::prepare::{Prepared, PreparedStage};

/// The weights that a stage starts from.
pub(crate) enum Start<'p> {
    /// The recipe's base.
    Base(&'p Checkpoint),
    /// What a full-rank stage left.
    Folder(Box<Checkpoint>),
    /// Weights with an adapter merged in.
    Merged(Box<Merged<'p>>),
    /// `a + weight * (b - a)`, of two sets of weights.
    Averaged(Box<(Start<'p>, Start<'p>, f32)>),
}

/// Weights, and the adapter that a stage trained over them. They are merged as they are read, one at a time.
pub(crate) struct Merged<'p> {
    start: Start<'p>,
    modules: HashMap<String, AdapterModule>,
    /// By name; a tied head is the embedding.
    tables: HashMap<String, Vec<f32>>,
    rank: usize,
    scale: f32,
    /// In f32, whatever the run's precision.
    device: Cpu,
}

impl Start<'_> {
    /// A weight by its HF name and shape.
    pub fn read(&self, name: &str, shape: &[usize]) -> Result<Vec<f32>, WeightsError> {
        match self {
            Self::Base(checkpoint) => checkpoint.tensor(name, shape),
            Self::Folder(checkpoint) => checkpoint.tensor(name, shape),
            Self::Merged(merged) => {
                if let Some(table) = merged.tables.get(name) {
                    return Ok(table.clone());
                }
                let weight = merged.start.read(name, shape)?;
                let module = name.strip_suffix(".weight").and_then(|module| merged.modules.get(module));
                let merge = |m: &AdapterModule| m.merge(&merged.device, merged.rank, merged.scale, &weight);
                Ok(module.map(merge).unwrap_or(weight))
            }
            Self::Averaged(line) => {
                let (a, b, weight) = &**line;
                let (a, b) = (a.read(name, shape)?, b.read(name, shape)?);
                Ok(a.iter().zip(&b).map(|(a, b)| a + weight * (b - a)).collect())
            }
        }
    }
}

impl<'p> Merged<'p> {
    /// `start` with `scale` times the adapter of the folder `dir`, whose modules must be weights of the base, of its shapes.
    pub(crate) fn new(
        config: &LlamaConfig,
        device: Cpu,
        scale: f64,
        start: Start<'p>,
        dir: &Path,
    ) -> Result<Self, WeightsError> {
        let mut adapter = read_adapter(dir)?;
        adapter.fit(config, dir)?;
        let Adapter { config, modules, tables } = adapter;
        let modules: HashMap<String, AdapterModule> = modules.into_iter().map(|m| (m.module.clone(), m)).collect();
        let tables = tables.into_iter().map(|table| (table.name, table.values)).collect();
        let scale = config.lora.scale() * scale as f32;
        let device = device.with_precision(Precision::F32);
        Ok(Self { start, modules, tables, rank: config.lora.rank, scale, device })
    }
}

/// What stage `index` of the run in the folder `run` starts from; the stages before it are finished.
pub(crate) fn start_of<'p>(prepared: &'p Prepared, run: &Path, index: usize) -> Result<Start<'p>, PipelineError> {
    match (index, prepared.stages[index].after_lora) {
        (0, _) => Ok(first(prepared)?),
        (_, Some(FullStart::Start)) => start_of(prepared, run, index - 1),
        _ => result_of(prepared, run, index - 1),
    }
}

/// What the run in the folder `run` has made once stage `index` is finished: the result of the stage, or, where that was no
/// better than what it was to better, of the one before.
pub(crate) fn result_of<'p>(prepared: &'p Prepared, run: &Path, index: usize) -> Result<Start<'p>, PipelineError> {
    let result = Checkpoints::open(run, index)?.result();
    if index > 0 && !Finished::read(&result, None).is_none_or(|finished| finished.is_taken()) {
        return result_of(prepared, run, index - 1);
    }
    let stage = &prepared.stages[index];
    start_after(prepared, stage, stage.weight_average, start_of(prepared, run, index)?, &result)
}

/// What the first stage starts from: the base, or the base with an adapter that the recipe merges into it.
fn first(prepared: &Prepared) -> Result<Start<'_>, WeightsError> {
    let base = Start::Base(&prepared.base.checkpoint);
    match prepared.stages.first().and_then(|stage| stage.adapter.as_ref()) {
        Some(adapter) if adapter.merge => {
            let config = prepared.base.checkpoint.config();
            Ok(Start::Merged(Box::new(Merged::new(config, prepared.device, 1.0, base, &adapter.path)?)))
        }
        _ => Ok(base),
    }
}

/// A model over the weights that a stage starts from.
pub(crate) fn load(prepared: &Prepared, start: &Start<'_>, tuning: &Tuning) -> Result<Llama<Cpu>, WeightsError> {
    match start {
        Start::Base(_) => prepared.load_base(tuning),
        Start::Folder(_) | Start::Merged(_) | Start::Averaged(_) => {
            let read = |name: &str, shape: &[usize]| start.read(name, shape);
            Llama::load(prepared.device, prepared.base.checkpoint.config(), tuning, read)
        }
    }
}

/// The model that a finished stage gave, on the run's device; its adapter counts `scale` times. Fresh, resumed and cached runs all read it from the result
/// folder, so that they cannot differ.
pub(crate) fn load_result(
    prepared: &Prepared,
    stage: &PreparedStage,
    scale: f64,
    start: &Start<'_>,
    result: &Path,
) -> Result<Llama<Cpu>, PipelineError> {
    if matches!(stage.tuning, Tuning::Lora(_)) {
        let mut model = load(prepared, start, &stage.tuning)?;
        model.load_adapter(&weights(result))?;
        model.scale_adapters(scale as f32);
        return Ok(model);
    }
    let checkpoint = Checkpoint::open(&weights(result))?;
    let read = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape);
    Ok(Llama::load(prepared.device, prepared.base.checkpoint.config(), &Tuning::Frozen, read)?)
}

/// What a finished stage made of its start: the start of the stage after it, or the result of the run. An adapter counts
/// `scale` times.
pub(crate) fn start_after<'p>(
    prepared: &'p Prepared,
    stage: &PreparedStage,
    scale: f64,
    start: Start<'p>,
    result: &Path,
) -> Result<Start<'p>, PipelineError> {
    let dir = weights(result);
    Ok(match &stage.tuning {
        Tuning::Lora(_) => {
            let config = prepared.base.checkpoint.config();
            Start::Merged(Box::new(Merged::new(config, prepared.device, scale, start, &dir)?))
        }
        Tuning::Full | Tuning::Frozen => Start::Folder(Box::new(Checkpoint::open(&dir)?)),
    })
}
