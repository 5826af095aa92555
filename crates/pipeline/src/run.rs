//! Carrying a prepared recipe out: stages in order, the judgement, the run folder.
//!
//! The folder: `recipe.json` (the resolved recipe), `plan.json`, `self.jsonl` (what the base wrote for `path: self`),
//! `metrics.jsonl` (a line per step), `events.jsonl`, `tensorboard/`, `checkpoints/stage-N/`, `adapter/` (PEFT, where one
//! LoRA stage was run), `merged/` (safetensors), `gguf-TYPE/`, `judgement_items.jsonl`, `judgement.json`, a model card
//! beside each model, `report.html`, and at the very end `summary.json`. A run that was stopped goes on from what of this
//! is there.

use std::cell::RefCell;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use serde::Serialize;
use temper_eval::compare::Comparison;
use temper_kernels::Cpu;
use temper_model::{Llama, Tuning};
use temper_report::RunFolder;
use temper_run::{Existing, RunDir, utc_now, write_atomic};
use temper_train::{FitOutcome, Progress};

use crate::advise::with_advice;
use crate::board::Board;
use crate::cache::{Cache, Kind};
use crate::checkpoints::{Checkpoints, Finished, Skipped};
use crate::choice::Choice;
use crate::identity::{ingredients, stage_keys};
use crate::judge::{Models, Scored, Split, judge};
use crate::phases::Phase;
use crate::prepare::Prepared;
use crate::resume::Change;
use crate::rft::{Alarm, Baseline, RewardValidation, RoundReport};
use crate::self_data::{OwnRows, SelfReport};
use crate::stage::Workshop;
use crate::start::{Start, load, load_result, result_of, start_of};
use crate::watch::{General, WatchState};
use crate::{PipelineError, export};

/// Asks training to end after the step at hand.
#[derive(Clone)]
pub struct Interrupt(Arc<dyn Fn() -> bool + Send + Sync>);

impl Interrupt {
    /// It asks while this says so.
    pub fn when(asked: impl Fn() -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(asked))
    }

    /// Whether it asks.
    pub fn asked(&self) -> bool {
        (self.0)()
    }
}

impl From<&'static AtomicBool> for Interrupt {
    fn from(flag: &'static AtomicBool) -> Self {
        Self::when(|| flag.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Interrupt(asked: {})", self.asked())
    }
}

/// What the caller decides, as against the recipe.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Threads; 0 is as many as the machine has.
    pub threads: usize,
    /// Forbids the network.
    pub offline: bool,
    /// Moves an older run in the output folder aside instead of refusing.
    pub overwrite: bool,
    /// Goes on with the run that is in the output folder.
    pub resume: bool,
    /// What is not as it was when the run that is resumed began ([`crate::changes`]): accepted by the caller, and recorded.
    pub changes: Vec<Change>,
    /// Lets the base write the rows of `path: self` where they are not cached; if not, the plan assumes them, and cannot
    /// be carried out.
    pub write_self: bool,
    /// What earlier runs computed, to reuse and to add to.
    pub cache: Option<Cache>,
    /// Measures speeds anew where the cache has them.
    pub measure: bool,
    /// When the command began; none: when the recipe was prepared.
    pub begun: Option<Instant>,
    /// When the run began, as [`Provenance`](crate::Provenance) records it: the day that a chat template prints; none: now.
    pub began: Option<String>,
    /// Ends training after the step at hand, with a checkpoint.
    pub interrupt: Option<Interrupt>,
}

impl Options {
    pub(crate) fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::asked)
    }
}

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
    /// The base writes rows of `path: self`.
    Writing {
        /// Rows written.
        done: usize,
        /// Rows to write.
        of: usize,
    },
    /// The rows of a `path: self`, filtered.
    Written {
        /// What was written and kept.
        report: SelfReport,
    },
    /// A stage begins.
    Stage {
        /// From 0.
        index: usize,
        /// Stages in all.
        of: usize,
        /// `sft`, `cpt` or `dpo`.
        kind: String,
        /// Optimiser steps.
        steps: usize,
    },
    /// The first step that this process made is done.
    FirstStep {
        /// Seconds from the command to the beginning of that step.
        begun: f64,
        /// Seconds from the command to its end.
        done: f64,
        /// What was done before it, and the step itself.
        phases: Vec<Phase>,
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
    /// A run goes on where it was stopped.
    Resumed {
        /// Stage, from 0.
        stage: usize,
        /// Steps that need not be made again.
        step: usize,
        /// The checkpoint that was taken; none at the start of the stage.
        path: Option<PathBuf>,
        /// Newer checkpoints that could not be used.
        skipped: Vec<Skipped>,
    },
    /// The run goes on with another recipe or on another machine than it began with.
    Changed {
        /// What differs.
        changes: Vec<Change>,
    },
    /// A finished stage was there already.
    Reused {
        /// Stage, from 0.
        stage: usize,
        /// Its key.
        key: String,
        /// `this run`, or the folder of the cache.
        from: String,
    },
    /// The first steps of a WSD stage were there already: those of another length of the same run.
    Branched {
        /// Stage, from 0.
        stage: usize,
        /// Steps that need not be made again.
        step: usize,
        /// The folder of the cache.
        from: String,
        /// Their lines of `metrics.jsonl`, which is where they are kept.
        #[serde(skip)]
        lines: Vec<serde_json::Value>,
    },
    /// Held-out text was scored while training.
    General {
        /// Stage, from 0.
        stage: usize,
        /// What came out.
        general: General,
    },
    /// What a stage that reinforces starts from.
    Baseline {
        /// Stage, from 0.
        stage: usize,
        /// What came out.
        baseline: Baseline,
    },
    /// A round was sampled and scored.
    Round {
        /// Stage, from 0.
        stage: usize,
        /// What came out.
        report: RoundReport,
    },
    /// Validation prompts were answered and scored.
    Reward {
        /// Stage, from 0.
        stage: usize,
        /// What came out.
        validation: RewardValidation,
    },
    /// Reinforcement goes wrong.
    Alarm {
        /// Stage, from 0.
        stage: usize,
        /// Steps made.
        step: usize,
        /// Which.
        alarm: Alarm,
        /// What was seen.
        seen: String,
        /// What to do.
        advice: String,
    },
    /// A stage ended before its last step.
    Stopped {
        /// Stage, from 0.
        stage: usize,
        /// Steps made.
        step: usize,
        /// Why.
        reason: String,
        /// What to change.
        advice: String,
    },
    /// Whether a later part of a stage is taken in place of the one before.
    Chosen {
        /// Stage, from 0.
        stage: usize,
        /// What was decided, and by what.
        choice: Choice,
        /// In one line.
        reason: String,
    },
    /// A checkpoint is tried.
    Probing {
        /// Its name.
        name: String,
        /// How far it has been trained.
        kind: String,
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
    /// Of each stage that was to better the one before, whether it did.
    pub choices: Vec<Option<Choice>>,
    /// Both axes; none without an `evaluation` in the recipe.
    pub comparison: Option<Comparison>,
    /// What the tuned model scored on each suite, the domain first, to be held against other runs.
    #[serde(skip)]
    pub(crate) scores: Vec<Scored>,
    /// Wall time of the whole run.
    pub seconds: f64,
    /// When it came to its end: a date in UTC, as RFC 3339 writes it.
    pub ended: String,
}

/// Trains, judges and writes. The test set is read here once, after the last step.
///
/// # Errors
/// [`PipelineError`]. What was saved before stays in the run folder.
pub fn run(prepared: &Prepared, options: &Options, on_event: &mut dyn FnMut(&Event)) -> Result<Summary, PipelineError> {
    let begun = Instant::now();
    let recipe = &prepared.recipe;
    if let Some(own) = prepared.own_rows.iter().find(|own| !own.report.written) {
        return Err(PipelineError::Unfit {
            path: own.report.setting.clone(),
            problem: "the base has not written these rows: they are assumed, for a plan".to_owned(),
            hint: "prepare with `write_self`".to_owned(),
        });
    }
    crate::checks::refuse(&prepared.parts, &prepared.checks)?;
    let folder = if options.resume {
        RunDir::open(&recipe.output.value)?
    } else {
        let existing = if options.overwrite { Existing::MoveAside } else { Existing::Refuse };
        RunDir::create(&recipe.output.value, existing)?
    };
    if !options.resume || !options.changes.is_empty() {
        let pinned = recipe.clone().absolute().map_err(crate::checkpoints::io("find", Path::new(".")))?;
        // The recipe last: where it is, the plan is too, and the run can be resumed.
        folder.write_json("plan.json", &prepared.plan())?;
        folder.write_json("recipe.json", &pinned)?;
    }
    let metrics_path = folder.path().join("metrics.jsonl");
    let mut metrics = folder.resume_log("metrics.jsonl", (!options.resume).then_some(0))?;
    let mut events = folder.resume_log("events.jsonl", None)?;
    let board = RefCell::new(Board::new(folder.path(), &prepared.stages));
    let mut tell = |event: Event| {
        board.borrow_mut().hear(&event)?;
        let quiet = matches!(
            event,
            Event::Download { .. } | Event::Evaluating { .. } | Event::Train { .. } | Event::Round { .. }
        );
        on_event(&event);
        if quiet { Ok(()) } else { events.append(&event) }
    };

    if !options.changes.is_empty() {
        tell(Event::Changed { changes: options.changes.clone() })?;
    }
    for (index, own) in prepared.own_rows.iter().enumerate() {
        write_atomic(&folder.path().join(OwnRows::file_name(index)), own.kept.as_bytes())?;
        write_atomic(&folder.path().join(OwnRows::dropped_name(index)), own.dropped.as_bytes())?;
        tell(Event::Written { report: own.report.clone() })?;
    }
    let keys = stage_keys(prepared);
    let mut watched = WatchState::default();
    let (mut outcomes, mut choices, mut taken) = (Vec::new(), Vec::new(), true);
    for (index, (stage, key)) in prepared.stages.iter().zip(&keys).enumerate() {
        let (of, kind) = (prepared.stages.len(), prepared.parts[index].kind.value.to_string());
        tell(Event::Stage { index, of, kind, steps: stage.settings.learning_rate.steps })?;
        let checkpoints = Checkpoints::open(folder.path(), index)?;
        let result = checkpoints.result();
        let own = Finished::read(&result, None);
        let finished = match (own, &options.cache) {
            (Some(finished), _) => {
                tell(Event::Reused { stage: index, key: key.clone(), from: "this run".to_owned() })?;
                finished
            }
            (None, Some(cache)) if cache.fetch_stage(key, &result)? => {
                tell(Event::Reused {
                    stage: index,
                    key: key.clone(),
                    from: cache.folder(Kind::Stages).display().to_string(),
                })?;
                let finished = Finished::read(&result, Some(key)).ok_or_else(|| PipelineError::Unfit {
                    path: cache.folder(Kind::Stages).display().to_string(),
                    problem: format!("the entry {key} cannot be read"),
                    hint: "remove it, or run with --no-cache".to_owned(),
                })?;
                for line in &finished.metrics {
                    board.borrow_mut().line(index, line)?;
                    let mut line = line.clone();
                    line["stage"] = (index + 1).into();
                    metrics.append(&line)?;
                }
                finished
            }
            (None, cache) => {
                let mut workshop = Workshop {
                    prepared,
                    options,
                    run: folder.path(),
                    metrics: &mut metrics,
                    metrics_path: &metrics_path,
                    tell: &mut tell,
                };
                let before = index.checked_sub(1).map(|before| keys[before].as_str());
                let start = start_of(prepared, folder.path(), index)?;
                let finished = workshop.train(index, (key, before), &start, watched, &checkpoints)?;
                if let Some(cache) = cache.as_ref().filter(|_| finished.key == *key) {
                    // A cache that cannot be written costs a later run time, not this one its result.
                    if let Err(error) = cache.store_stage(key, &ingredients(prepared, index, before), &result) {
                        tell(Event::Warning { message: format!("the stage was not cached: {error}") })?;
                    }
                }
                finished
            }
        };
        watched = finished.watch.clone();
        taken = finished.is_taken();
        if let Some(choice) = &finished.choice {
            tell(Event::Chosen { stage: index, choice: choice.clone(), reason: choice.reason() })?;
        }
        choices.push(finished.choice);
        outcomes.push(finished.outcome);
    }

    // A recipe has at least one stage.
    let last = prepared.stages.len() - 1;
    let (stage, result) = (&prepared.stages[last], result_of(prepared, folder.path(), last)?);
    let tuned = if taken {
        let start = start_of(prepared, folder.path(), last)?;
        load_result(prepared, stage, stage.weight_average, &start, &Checkpoints::open(folder.path(), last)?.result())?
    } else {
        load(prepared, &result, &Tuning::Frozen)?
    };
    save_result(prepared, &tuned, &result, folder.path(), &mut tell)?;
    let (comparison, scores) = match &recipe.evaluation {
        None => (None, Vec::new()),
        Some(_) => {
            let own_base = prepared.tuned_holds_base();
            let loaded = if own_base { None } else { Some(prepared.load_base(&Tuning::Frozen)?) };
            let models = Models { base: loaded.as_ref().unwrap_or(&tuned), tuned: &tuned };
            let texts = !prepared.provenance.no_samples;
            let judged = judge(prepared, models, Split::Test, texts, &mut *on_event)?;
            folder.write_lines("judgement_items.jsonl", &judged.items)?;
            folder.write_json("judgement.json", &judged.comparison)?;
            (Some(judged.comparison), judged.scores)
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let ended = utc_now();
    let summary = Summary {
        folder: folder.path().to_owned(),
        stages: outcomes,
        choices,
        comparison,
        scores,
        seconds,
        ended: ended.clone(),
    };
    // The summary last: where it is, nothing is left to do.
    let finished = RunFolder::read(folder.path())?.finished(seconds, ended);
    finished.write_cards()?;
    let texts = !prepared.provenance.no_samples;
    with_advice(finished, texts)?.write_report(&folder.path().join("report.html"), texts)?;
    folder.write_json("summary.json", &summary)?;
    Ok(summary)
}

/// What the recipe's `export` asks for. `merged`: the same weights as `tuned`, unrounded.
fn save_result(
    prepared: &Prepared,
    tuned: &Llama<Cpu>,
    merged: &Start<'_>,
    folder: &Path,
    tell: &mut dyn FnMut(Event) -> Result<(), temper_run::RunError>,
) -> Result<(), PipelineError> {
    let asked = &prepared.recipe.export.value;
    if let Some(stage) = prepared.stages.first().filter(|_| export::saves_adapter(prepared)) {
        let path = folder.join("adapter");
        prepared.save(tuned, &stage.tuning, stage.weight_average, &path)?;
        tell(Event::Saved { what: "PEFT adapter", path })?;
    }
    for (what, form) in asked.iter().filter_map(|asked| export::form(*asked)) {
        let path = export::write(&prepared.base, merged, form, &prepared.recipe.name.value, folder)?;
        tell(Event::Saved { what, path })?;
    }
    Ok(())
}
