//! Carrying a prepared recipe out: stages in order, checkpoints, the judgement, the run folder.
//!
//! The folder: `plan.json`, `metrics.jsonl` (a line per step), `events.jsonl`, `checkpoints/stage-N/{best,last}`,
//! `adapter/` (PEFT, where one LoRA stage was run), `merged/` (safetensors), `judgement.json`.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Instant;

use serde::Serialize;
use temper_eval::compare::Comparison;
use temper_kernels::Cpu;
use temper_model::{Llama, Purpose, Tuning, WeightsError, Workspace};
use temper_run::{Existing, JsonLog, RunDir};
use temper_train::{FitOutcome, Progress, TrainError, fit};

use crate::judge::{Models, Split, judge};
use crate::prepare::{Options, Prepared, PreparedStage};
use crate::{PipelineError, snapshot};

/// What a run tells as it goes; each also becomes a line of `events.jsonl`, but for pieces of downloads and of
/// evaluations.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A piece of a download has come.
    Download {
        /// What is fetched.
        what: String,
        /// Bytes here.
        done: u64,
        /// Bytes in all, where known.
        total: Option<u64>,
    },
    /// A stage begins.
    Stage {
        /// From 0.
        index: usize,
        /// Stages in all.
        of: usize,
        /// `sft` or `cpt`.
        kind: String,
        /// Optimiser steps.
        steps: usize,
    },
    /// A step or a validation.
    Train {
        /// Stage, from 0.
        stage: usize,
        /// Steps of the stage.
        of: usize,
        /// What happened.
        progress: Progress,
    },
    /// Part of an evaluation is done.
    Evaluating {
        /// The suite.
        suite: String,
        /// `base` or `tuned`.
        side: &'static str,
        /// Items done.
        done: usize,
        /// Items in all.
        total: usize,
    },
    /// Something to know.
    Warning {
        /// What.
        message: String,
    },
    /// A file or folder was written.
    Saved {
        /// What it is.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
}

/// What a run gave.
#[derive(Debug, Serialize)]
pub struct Summary {
    /// The run folder.
    pub folder: PathBuf,
    /// Each stage.
    pub stages: Vec<FitOutcome>,
    /// Both axes; none without an `evaluation` in the recipe.
    pub comparison: Option<Comparison>,
    /// Wall time of the whole run.
    pub seconds: f64,
}

/// Trains, judges and writes. The test set is read here once, after the last step.
///
/// # Errors
/// [`PipelineError`]. What was saved before stays in the run folder.
pub fn run(prepared: &Prepared, options: &Options, on_event: &mut dyn FnMut(&Event)) -> Result<Summary, PipelineError> {
    let start = Instant::now();
    let recipe = &prepared.recipe;
    let existing = if options.overwrite { Existing::MoveAside } else { Existing::Refuse };
    let folder = RunDir::create(&recipe.output.value, existing)?;
    folder.write_json("plan.json", &prepared.plan())?;
    let mut metrics = folder.log("metrics.jsonl")?;
    let mut events = folder.log("events.jsonl")?;
    let mut tell = |event: Event| {
        let quiet = matches!(event, Event::Download { .. } | Event::Evaluating { .. } | Event::Train { .. });
        on_event(&event);
        if quiet { Ok(()) } else { events.append(&event) }
    };

    let checkpoint = &prepared.base.checkpoint;
    let mut start_weights: Option<HashMap<String, Vec<f32>>> = None;
    let mut outcomes = Vec::new();
    let mut tuned: Option<Llama<Cpu>> = None;
    for (index, stage) in prepared.stages.iter().enumerate() {
        let (of, kind) = (prepared.stages.len(), recipe.stages[index].kind.value.to_string());
        tell(Event::Stage { index, of, kind, steps: stage.settings.learning_rate.steps })?;
        if let Some(before) = tuned.take() {
            start_weights = Some(snapshot::merged(&before));
        }
        let read = |name: &str, shape: &[usize]| match &start_weights {
            Some(weights) => weights.get(name).cloned().ok_or_else(|| WeightsError::MissingTensor {
                file: recipe.output.value.clone(),
                tensor: name.to_owned(),
                expected: shape.to_vec(),
            }),
            None => checkpoint.tensor(name, shape),
        };
        let mut model = Llama::load(prepared.device, checkpoint.config(), &stage.tuning, read)?;
        model.init_adapters(recipe.seed.value);
        let checkpoints = folder.path().join("checkpoints").join(format!("stage-{}", index + 1));
        std::fs::create_dir_all(&checkpoints).map_err(|source| temper_run::RunError::Io {
            action: "create",
            path: checkpoints.clone(),
            source,
        })?;
        let outcome = train(prepared, stage, index, &model, &checkpoints, &mut metrics, &mut tell)?;
        average(stage, &mut model, read)?;
        outcomes.push(outcome);
        tuned = Some(model);
    }

    let Some(tuned) = tuned else {
        return Ok(Summary { folder: folder.path().to_owned(), stages: outcomes, comparison: None, seconds: 0.0 });
    };
    save_result(prepared, &tuned, folder.path(), &mut tell)?;
    let comparison = match &recipe.evaluation {
        None => None,
        Some(_) => {
            // One LoRA stage: the base is the same model with its adapters off.
            let own_base = prepared.stages.len() == 1 && matches!(prepared.stages[0].tuning, Tuning::Lora(_));
            let loaded = if own_base { None } else { Some(load_base(prepared)?) };
            let models = Models { base: loaded.as_ref().unwrap_or(&tuned), tuned: &tuned };
            let comparison = judge(prepared, models, Split::Test, &mut *on_event)?;
            folder.write_json("judgement.json", &comparison)?;
            Some(comparison)
        }
    };
    let seconds = start.elapsed().as_secs_f64();
    let summary = Summary { folder: folder.path().to_owned(), stages: outcomes, comparison, seconds };
    folder.write_json("summary.json", &summary)?;
    Ok(summary)
}

/// The base, not to be trained.
pub(crate) fn load_base(prepared: &Prepared) -> Result<Llama<Cpu>, WeightsError> {
    let checkpoint = &prepared.base.checkpoint;
    let read = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape);
    Llama::load(prepared.device, checkpoint.config(), &Tuning::Frozen, read)
}

/// One stage's loop. Ends with the best weights where validation chose some, else with the last.
fn train(
    prepared: &Prepared,
    stage: &PreparedStage,
    index: usize,
    model: &Llama<Cpu>,
    checkpoints: &Path,
    metrics: &mut JsonLog,
    tell: &mut dyn FnMut(Event) -> Result<(), temper_run::RunError>,
) -> Result<FitOutcome, PipelineError> {
    enum Stop {
        Train(TrainError),
        Other(PipelineError),
    }
    impl From<TrainError> for Stop {
        fn from(error: TrainError) -> Self {
            Self::Train(error)
        }
    }
    let (device, config) = (model.device(), model.config());
    let ws = Workspace::allocate(device, config, model.adapter_widths(), Purpose::Train, stage.workspace_tokens());
    let of = stage.settings.learning_rate.steps;
    let base = prepared.recipe.base.source.value.to_string();
    let save = |name: &str| snapshot::save(model, &stage.tuning, 1.0, &base, &checkpoints.join(name));
    let mut step = 0;
    let on_progress = |progress: &Progress| -> Result<(), Stop> {
        let kept = |e: PipelineError| Stop::Other(e);
        metrics.append(progress).map_err(|e| kept(e.into()))?;
        match progress {
            Progress::Step(report) => step = report.step,
            Progress::Validation { best: true, step: done, .. } if *done > 0 => {
                save("best").map_err(|e| kept(e.into()))?
            }
            Progress::Validation { .. } => {}
        }
        tell(Event::Train { stage: index, of, progress: progress.clone() }).map_err(|e| kept(e.into()))
    };
    let validation = stage.validation_batches();
    let result = fit(model, &ws, &stage.settings, |s| stage.batches(s), &validation, on_progress);
    let outcome = result.map_err(|stop| match stop {
        Stop::Train(error) => PipelineError::Train { stage: index, step: step + 1, error },
        Stop::Other(error) => error,
    })?;
    save("last")?;
    match outcome.best {
        Some(best) if best.step == 0 => tell(Event::Warning {
            message: "the validation loss never fell below that of the start; the last weights are taken".to_owned(),
        })?,
        Some(best) if best.step < of => snapshot::restore(model, &checkpoints.join("best"))?,
        _ => {}
    }
    Ok(outcome)
}

/// `weight_average`: `start + a * (tuned - start)`.
fn average(
    stage: &PreparedStage,
    model: &mut Llama<Cpu>,
    start: impl Fn(&str, &[usize]) -> Result<Vec<f32>, WeightsError>,
) -> Result<(), WeightsError> {
    let a = stage.weight_average;
    if a == 1.0 {
        return Ok(());
    }
    if matches!(stage.tuning, Tuning::Lora(_)) {
        model.scale_adapters(a as f32);
        return Ok(());
    }
    use temper_kernels::Device;
    let shapes: HashMap<_, _> = model.config().tensor_shapes().into_iter().collect();
    for (name, parameter) in model.weights() {
        let before = start(&name, &shapes[&name])?;
        let tuned = model.device().read(&parameter.value);
        let mixed: Vec<f32> = before.iter().zip(&tuned).map(|(&s, &t)| s + a as f32 * (t - s)).collect();
        model.device().write(&parameter.value, &mixed);
    }
    Ok(())
}

/// The adapter and the merged model, the latter with its tokenizer.
fn save_result(
    prepared: &Prepared,
    tuned: &Llama<Cpu>,
    folder: &Path,
    tell: &mut dyn FnMut(Event) -> Result<(), temper_run::RunError>,
) -> Result<(), PipelineError> {
    if let [stage] = &prepared.stages[..]
        && matches!(stage.tuning, Tuning::Lora(_))
    {
        let path = folder.join("adapter");
        let base = prepared.recipe.base.source.value.to_string();
        snapshot::save(tuned, &stage.tuning, stage.weight_average, &base, &path)?;
        tell(Event::Saved { what: "PEFT adapter", path })?;
    }
    let path = folder.join("merged");
    snapshot::save_merged(tuned, &[], &path)?;
    prepared.base.renderer.tokenizer().save(&path)?;
    tell(Event::Saved { what: "merged model", path })?;
    Ok(())
}
