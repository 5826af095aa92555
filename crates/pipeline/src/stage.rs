//! One stage: start weights + data + settings + seed -> a result folder. Its checkpoints make it exact to resume.

use std::collections::HashMap;
use std::path::Path;

use serde::Serialize;
use temper_kernels::{Cpu, Device};
use temper_model::{Llama, Tuning, WeightsError, Workspace};
use temper_run::JsonLog;
use temper_train::{Fit, Progress};

use crate::cache::{Kept, Kind};
use crate::checkpoints::{Checkpoints, Finished, MIXED, Restored};
use crate::choice::Choice;
use crate::identity::{base_ingredients, hashes_of, trunk_ingredients};
use crate::prepare::{Prepared, PreparedStage};
use crate::reference::references;
use crate::rft::{Baseline, RewardValidation, RoundReport, Rounds, measured};
use crate::run::{Event, Options};
use crate::start::{Start, load, result_of};
use crate::watch::{General, WatchState};
use crate::{PipelineError, snapshot};

/// A line of `metrics.jsonl`.
#[derive(Serialize)]
struct Line<'a, T> {
    /// The stage, from 1.
    stage: usize,
    #[serde(flatten)]
    record: &'a T,
}

/// What is told beside steps and validations is a line like any other.
#[derive(Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
enum Record<'a> {
    General(&'a General),
    Round(&'a RoundReport),
    Reward(&'a RewardValidation),
    Baseline {
        step: usize,
        #[serde(flatten)]
        baseline: &'a Baseline,
    },
}

/// What a stage is carried out with.
pub(crate) struct Workshop<'a> {
    pub prepared: &'a Prepared,
    pub options: &'a Options,
    /// The run folder.
    pub run: &'a Path,
    pub metrics: &'a mut JsonLog,
    /// `metrics.jsonl`.
    pub metrics_path: &'a Path,
    pub tell: &'a mut dyn FnMut(Event) -> Result<(), temper_run::RunError>,
}

impl Workshop<'_> {
    /// Trains stage `index` from `start`, or goes on from its newest whole checkpoint, and writes its result folder. The keys
    /// are those of the stage and of the one before.
    pub fn train(
        &mut self,
        index: usize,
        (key, before): (&str, Option<&str>),
        start: &Start<'_>,
        mut watched: WatchState,
        checkpoints: &Checkpoints,
    ) -> Result<Finished, PipelineError> {
        let prepared = self.prepared;
        let (stage, recipe) = (&prepared.stages[index], &prepared.parts[index]);
        prepared.phases.lap("run folder");
        let mut model = load(prepared, start, &stage.tuning)?;
        if let Some(message) = prepared.packed_problem() {
            (self.tell)(Event::Warning { message })?;
        }
        prepared.phases.lap("weights");
        let continued = stage.adapter.as_ref().filter(|adapter| !adapter.merge);
        match continued {
            Some(adapter) => drop(model.load_adapter(&adapter.path)?),
            None => model.init_adapters(prepared.recipe.seed.value),
        }
        let space = model.adapter_space();
        let tokens = prepared.tokens_together(stage);
        let workspace = Workspace::allocate(model.device(), model.config(), space, stage.purpose, tokens);
        let made = (&model, &workspace);
        let references = references(prepared, index, before, start, made, checkpoints.dir(), self.tell)?;
        let mut fit = Fit::new(&model, &workspace, stage.settings.clone(), stage.validation_batches(&references)?);
        let of = stage.settings.learning_rate.steps;
        prepared.phases.lap("workspace");
        let trunk =
            stage.settings.learning_rate.stable_end().map(|end| (end, trunk_ingredients(prepared, index, before)));
        self.branch(index, key, trunk.as_ref(), checkpoints)?;
        let mut key = key;
        let Restored { from: resumed, skipped } = checkpoints.restore(&mut fit)?;
        let began = metrics_length(self.metrics_path, index);
        let mut rounds = Rounds::of(prepared, index, made, start, self.run)?;
        if let Some(rounds) = &mut rounds {
            rounds.restore(resumed.as_ref().and_then(|(_, state)| state.rounds.clone()), self.run)?;
        }
        if let Some((path, state)) = resumed {
            watched = state.watch;
            if state.key != key {
                key = MIXED;
            }
            *self.metrics = JsonLog::resume(self.metrics_path, Some(state.metrics_bytes))?;
            (self.tell)(Event::Resumed { stage: index, step: state.fit.step, path: Some(path), skipped })?;
        } else if self.options.resume {
            *self.metrics = JsonLog::resume(self.metrics_path, Some(began))?;
            (self.tell)(Event::Resumed { stage: index, step: 0, path: None, skipped })?;
        }

        let watched_key = prepared.watch.ingredients(prepared, tokens);
        // Before its first step a stage over the base is the base: fresh adapters add nothing.
        // Of pairs it has more to say than a loss.
        let is_base = matches!(start, Start::Base(_)) && stage.reference.is_none() && continued.is_none();
        if let Some(rounds) = rounds.as_ref().filter(|_| fit.state().step == 0) {
            self.baseline(index, rounds, is_base)?;
        }
        let is_base = is_base && rounds.is_none();
        let start_key = is_base.then(|| validation_ingredients(prepared, index, tokens));
        let start_loss: Option<f64> = start_key.as_ref().and_then(|key| prepared.kept().get(Kind::Scores, key));
        loop {
            let before = fit.state().clone();
            // The step that is about to be validated is a moment to look at the general text too.
            if before.validation_due {
                let step = before.step;
                let renderer = &prepared.base.renderer;
                // What is known of the base says nothing of a stage that begins with an adapter.
                let kept = if stage.adapter.is_some() { Kept(None) } else { prepared.kept() };
                let key = &watched_key;
                let (lines, stop) = prepared.watch.look(&mut watched, &model, &workspace, renderer, step, kept, key)?;
                for general in &lines {
                    self.metrics.append(&Line { stage: index + 1, record: &Record::General(general) })?;
                    (self.tell)(Event::General { stage: index, general: general.clone() })?;
                }
                prepared.phases.lap("base: general text");
                stop.filter(|_| step < of).into_iter().for_each(|stop| fit.stop(stop));
            }
            let begun = prepared.phases.elapsed();
            let known = start_loss.filter(|_| before.validation_due && before.step == 0);
            let progress = match (known, &mut rounds) {
                (Some(loss), _) => Ok(Some(fit.know(loss, Vec::new()))),
                (None, Some(rounds)) if before.validation_due => {
                    let validation = rounds.validate(before.step, self.tell)?;
                    self.metrics.append(&Line { stage: index + 1, record: &Record::Reward(&validation) })?;
                    let progress = fit.know(validation.loss(), validation.items.clone());
                    (self.tell)(Event::Reward { stage: index, validation })?;
                    Ok(Some(progress))
                }
                (None, Some(rounds)) => fit.advance(|step| rounds.batches(step, self.tell)),
                (None, None) => fit.advance(|step| stage.batches(step, &references)),
            };
            let progress =
                progress.map_err(|error| PipelineError::Train { stage: index, step: before.step + 1, error })?;
            for report in rounds.iter_mut().flat_map(Rounds::reports) {
                self.metrics.append(&Line { stage: index + 1, record: &Record::Round(&report) })?;
                (self.tell)(Event::Round { stage: index, report })?;
            }
            for alarm in
                rounds.iter_mut().flat_map(|rounds| progress.iter().flat_map(|p| rounds.hear(p)).collect::<Vec<_>>())
            {
                let (seen, advice) = alarm.advice();
                let (seen, advice) = (seen.to_owned(), advice.to_owned());
                (self.tell)(Event::Alarm { stage: index, step: fit.state().step, alarm, seen, advice })?;
            }
            let Some(progress) = progress else { break };
            self.metrics.append(&Line { stage: index + 1, record: &progress })?;
            if let (Progress::Validation { step: 0, loss, .. }, None, Some(key)) = (&progress, known, &start_key)
                && loss.is_finite()
            {
                prepared.kept().put(Kind::Scores, key, loss);
            }
            if let Progress::Validation { best: true, step, .. } = progress
                && step > 0
            {
                prepared.save(&model, &stage.tuning, 1.0, &checkpoints.best(step))?;
            }
            let step = matches!(progress, Progress::Step(_));
            (self.tell)(Event::Train { stage: index, of, progress })?;
            prepared.phases.lap(if step { "first step" } else { "base: validation" });
            if let Some(phases) = step.then(|| prepared.phases.end()).flatten() {
                (self.tell)(Event::FirstStep { begun, done: prepared.phases.elapsed(), phases })?;
            }

            let state = fit.state();
            let over = state.stopped.is_some() || state.step == of;
            let trunk = trunk.as_ref().filter(|(end, _)| state.step == *end && state.stopped.is_none() && key != MIXED);
            let due = over || trunk.is_some() || state.step.is_multiple_of(recipe.save_steps.value as usize);
            let asked = self.options.interrupted();
            if !state.validation_due && state.step > 0 && (due || asked) {
                let bytes = self.metrics.sync()?;
                let keep = recipe.keep_checkpoints.value as usize;
                let rounds = rounds.as_mut().map(|rounds| rounds.state(fit.state().step)).transpose()?;
                checkpoints.save(&fit, key, (&watched, rounds), bytes, keep)?;
                if let (Some((end, ingredients)), Some(cache)) = (trunk, &self.options.cache) {
                    let lines = stage_lines(self.metrics_path, index)?;
                    // A cache that cannot be written costs a later run time, not this one its result.
                    if let Err(error) = cache.store_trunk(ingredients, checkpoints, *end, &lines) {
                        (self.tell)(Event::Warning { message: format!("the stable part was not cached: {error}") })?;
                    }
                }
            }
            if asked && !state.validation_due {
                return Err(PipelineError::Interrupted { step: state.step, of });
            }
        }

        let outcome = fit.outcome();
        // Its moments are not needed any more.
        drop(fit);
        if let Some(stop) = &outcome.stopped {
            let reason = if stage.rft.is_some() { stop.reason_by_reward() } else { stop.reason() };
            let advice = stop.advice().to_owned();
            (self.tell)(Event::Stopped { stage: index, step: outcome.steps, reason: reason.clone(), advice })?;
            // Without validation rows a stop by a floor leaves the last weights, which are worth looking at.
            let nothing = outcome.best.map_or(stop.weights_are_lost(), |best| best.step == 0);
            if nothing && stage.after_lora.is_none() {
                let hint = stop.advice();
                return Err(PipelineError::NothingGained { stage: index, step: outcome.steps, reason, hint });
            }
        }
        if stage.settings.stops.flat_gain > 0.0 && outcome.stopped.is_none() {
            let message = "LoRA's gain was not flat when its steps ended; full rank goes on all the same".to_owned();
            (self.tell)(Event::Warning { message })?;
        }
        match outcome.best {
            Some(best) if best.step == 0 && stage.after_lora.is_some() => {}
            Some(best) if best.step == 0 => {
                let never = match stage.rft {
                    Some(_) => "the validation reward never rose above",
                    None => "the validation loss never fell below",
                };
                let message = format!("{never} that of the start; the last weights are taken");
                (self.tell)(Event::Warning { message })?;
            }
            Some(best) if best.step < outcome.steps || outcome.stopped.is_some() => {
                snapshot::restore(&model, &checkpoints.best(best.step))?;
            }
            _ => {}
        }
        average_with_start(stage, &mut model, start)?;
        let choice = match (stage.after_lora, outcome.best) {
            (None, _) => None,
            (Some(_), Some(best)) if best.step > 0 => {
                let before = result_of(prepared, self.run, index - 1)?;
                let earlier = load(prepared, &before, &Tuning::Frozen)?;
                let rows = stage.validation_batches(&references)?;
                Some(Choice::between(&earlier, &model, &workspace, &rows, prepared.recipe.seed.value)?)
            }
            (Some(_), _) => Some(Choice::NOTHING_GAINED),
        };
        let lines = stage_lines(self.metrics_path, index)?;
        let finished = Finished::new(key, outcome, watched, lines, choice);
        checkpoints.finish(&finished, |weights| prepared.save(&model, &stage.tuning, 1.0, weights))?;
        Ok(finished)
    }

    /// Looks at what a stage that reinforces starts from, and ends the run where that is not worth it.
    fn baseline(&mut self, index: usize, rounds: &Rounds<'_>, of_base: bool) -> Result<(), PipelineError> {
        let baseline = match self.prepared.baseline().filter(|_| of_base) {
            Some(baseline) => baseline,
            None => measured(self.prepared, index, of_base, || rounds.baseline(self.tell))?,
        };
        // Metrics are numbers, which a cache hands on to runs that keep texts out.
        let numbers = baseline.clone().without_texts();
        self.metrics.append(&Line { stage: index + 1, record: &Record::Baseline { step: 0, baseline: &numbers } })?;
        let told = if self.prepared.provenance.no_samples { numbers } else { baseline.clone() };
        (self.tell)(Event::Baseline { stage: index, baseline: told })?;
        baseline.gate(index, &self.prepared.stages[index])
    }

    /// Takes over the stable part of a WSD stage, up to the step at which this one's decay begins, where an earlier run made
    /// it and this one has not begun.
    fn branch(
        &mut self,
        index: usize,
        key: &str,
        trunk: Option<&(usize, serde_json::Value)>,
        checkpoints: &Checkpoints,
    ) -> Result<(), PipelineError> {
        let (Some((end, ingredients)), Some(cache)) = (trunk, &self.options.cache) else { return Ok(()) };
        if checkpoints.is_begun()? {
            return Ok(());
        }
        let began = metrics_length(self.metrics_path, index);
        *self.metrics = JsonLog::resume(self.metrics_path, Some(began))?;
        let (mut told, metrics) = (Vec::new(), &mut *self.metrics);
        let mut bytes = |lines: &[serde_json::Value]| -> Result<u64, PipelineError> {
            for line in lines {
                let mut line = line.clone();
                line["stage"] = (index + 1).into();
                metrics.append(&line)?;
                told.push(line);
            }
            Ok(metrics.sync()?)
        };
        if let Some(step) = cache.fetch_trunk(ingredients, *end, checkpoints, key, &mut bytes)? {
            let from = cache.folder(Kind::Trunks).display().to_string();
            (self.tell)(Event::Branched { stage: index, step, from, lines: told })?;
        }
        Ok(())
    }
}

/// `weight_average` of a full-rank stage: `start + a * (tuned - start)`. That of an adapter is a factor on its scale.
fn average_with_start(stage: &PreparedStage, model: &mut Llama<Cpu>, start: &Start<'_>) -> Result<(), WeightsError> {
    let a = stage.weight_average as f32;
    if a == 1.0 || matches!(stage.tuning, Tuning::Lora(_)) {
        return Ok(());
    }
    let shapes: HashMap<_, _> = model.config().tensor_shapes().into_iter().collect();
    for (name, parameter) in model.weights() {
        let before = start.read(&name, &shapes[&name])?;
        let tuned = model.device().read(&parameter.value);
        let mixed: Vec<f32> = before.iter().zip(&tuned).map(|(&s, &t)| s + a * (t - s)).collect();
        model.device().write(&parameter.value, &mixed);
    }
    Ok(())
}

/// What the validation loss of stage `index` before its first step depends on, where it starts from the base. The rank of
/// adapters is not in it: they add zeros.
fn validation_ingredients(prepared: &Prepared, index: usize, tokens: usize) -> serde_json::Value {
    let (stage, recipe) = (&prepared.stages[index], &prepared.parts[index]);
    let of = serde_json::json!({
        "validation": recipe.validation.as_ref().map(|path| hashes_of(prepared, &path.path)),
        "mode": if matches!(stage.tuning, Tuning::Full) { "full" } else { "lora" },
        "max_length": recipe.max_length.value,
        "micro_batch_tokens": stage.micro_batch_tokens,
        "tokens_together": tokens,
    });
    base_ingredients(prepared, "validation loss of the base, before training", of)
}

/// The stage's own lines of `metrics.jsonl`.
fn stage_lines(path: &Path, index: usize) -> Result<Vec<serde_json::Value>, PipelineError> {
    let text = std::fs::read_to_string(path).map_err(crate::checkpoints::io("read", path))?;
    let lines = text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    Ok(lines.filter(|line| line["stage"] == index + 1).collect())
}

/// Bytes of `metrics.jsonl` before the first line of stage `index`.
fn metrics_length(path: &Path, index: usize) -> u64 {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    let of_stage = |line: &str| serde_json::from_str::<serde_json::Value>(line).is_ok_and(|v| v["stage"] == index + 1);
    text.split_inclusive('\n').take_while(|line| !of_stage(line)).map(|line| line.len() as u64).sum()
}
