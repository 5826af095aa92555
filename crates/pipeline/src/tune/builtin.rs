//! Trials by Temper's own training: each a run in its folder, judged by what steers, never by the test rows.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use temper_recipe::Recipe;
use temper_run::write_atomic;
use temper_search::{Point, Space};
use temper_train::Progress;

use super::measure::high_of;
use super::space::sets;
use super::trainer::{Assignment, Ended, Heard, Signal, Trainer};
use crate::checkpoints::io;
use crate::run::{Event, Interrupt, Options, run};
use crate::{PipelineError, Prepared, prepare};

/// The rise of the loss of general text, in percent: the largest of the watched suites.
pub const FORGETTING: &str = "forgetting";
/// The loss on the last stage's validation rows.
pub const VALIDATION_LOSS: &str = "validation_loss";
/// What completions of the last stage's validation prompts earn, where it reinforces.
pub const REWARD: &str = "reward";

/// What a last stage that reinforces shows besides, at its best validation: what the validation earned, and how far the policy had
/// moved.
pub const SIGNALS: [&str; 7] = [REWARD, "greedy_reward", "greedy_solved", "completion_length", "cut", "kl", "entropy"];

/// How long a folder that another process writes in is left alone.
const BUSY: Duration = Duration::from_secs(1);

/// Temper's own training.
pub struct Builtin<'a> {
    /// The recipe's file.
    pub recipe: PathBuf,
    /// What was laid over it.
    pub sets: Vec<String>,
    /// What is searched.
    pub space: &'a Space,
    /// Lengths at which a trial is measured, in thousandths of the full one.
    pub rungs: Vec<u64>,
    /// Whether what single rows and items measured is asked for, too.
    pub items: bool,
    /// Threads, network, cache, and the user's own interrupt.
    pub options: Options,
    /// Told of all that happens within a trial.
    pub hear: &'a (dyn Fn(&Event) + Sync),
}

impl Builtin<'_> {
    /// The recipe of a trial with its rows read; it has no test rows left to be judged by.
    ///
    /// # Errors
    /// The recipe's problems as [`Ended::Failed`] would say them, or as [`prepare`].
    pub fn prepare(&self, point: &Point, seed: u64, folder: &Path) -> Result<Result<Prepared, String>, PipelineError> {
        let mut own = match sets(self.space, point) {
            Ok(sets) => sets,
            Err(error) => return Ok(Err(error.to_string())),
        };
        own.extend(["tune=".to_owned(), format!("seed={seed}"), format!("output={}", folder.display())]);
        // What the trial sets stands in the place of what the user set.
        let path = |set: &str| set.split('=').next().unwrap_or(set).replace('[', ".").replace(']', "");
        let taken: Vec<String> = own.iter().map(|set| path(set)).collect();
        let free = |set: &&String| !taken.contains(&path(set)) && !path(set).starts_with("tune.");
        let mut all: Vec<String> = self.sets.iter().filter(free).cloned().collect();
        all.extend(own);
        let (recipe, notes) = match Recipe::load(&self.recipe, &all) {
            Ok(read) => read,
            Err(errors) => return Ok(Err(errors.to_string())),
        };
        let mut prepared = match prepare(recipe, notes, &self.options, &mut |event| (self.hear)(event)) {
            Ok(prepared) => prepared,
            Err(error) if error.is_bad_input() => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        prepared.recipe.export.value.clear();
        prepared.provenance.no_samples = true;
        let last = prepared.stages.len() - 1;
        let steps = prepared.stages[last].settings.learning_rate.steps;
        let at = |rung: &u64| (steps as u64 * rung).div_ceil(1000) as usize;
        let rungs: Vec<usize> = self.rungs.iter().map(at).filter(|&step| step < steps).collect();
        // A checkpoint only where it stops: at a rung, or when the user asks.
        prepared.parts[last].save_steps.value = (steps as u64).max(1);
        prepared.parts[last].keep_checkpoints.value = 1;
        prepared.stages[last].settings.stops.early_stopping_patience = 0;
        prepared.stages[last].settings.eval_at = if rungs.is_empty() { vec![steps] } else { rungs };
        Ok(Ok(prepared))
    }
}

impl Trainer for Builtin<'_> {
    fn name(&self) -> String {
        "builtin".to_owned()
    }

    fn carry_out(
        &self,
        assignment: &Assignment<'_>,
        hear: &mut dyn FnMut(Heard) -> Signal,
    ) -> Result<Ended, PipelineError> {
        let folder = assignment.folder.join(format!("seed-{}", assignment.seed));
        let mut prepared = match self.prepare(assignment.point, assignment.seed, &folder)? {
            Ok(prepared) => prepared,
            Err(reason) => return Ok(Ended::Failed(reason)),
        };
        // The run would judge by the test rows.
        let evaluation = prepared.recipe.evaluation.take();
        let resume = assignment.resume.is_some() && folder.join("recipe.json").is_file();
        if !resume && folder.exists() {
            // It was lost before its first step.
            fs::remove_dir_all(&folder).map_err(io("remove", &folder))?;
        }
        let kept = self.items.then(|| assignment.folder.join(format!("items-{}.json", assignment.seed)));
        let asked = Arc::new(AtomicBool::new(false));
        let (ours, users) = (Arc::clone(&asked), self.options.interrupt.clone());
        let interrupt =
            Interrupt::when(move || ours.load(Ordering::Relaxed) || users.as_ref().is_some_and(Interrupt::asked));
        let options = Options { resume, overwrite: false, interrupt: Some(interrupt), ..self.options.clone() };
        let stage = prepared.stages.len() - 1;
        let steps = prepared.stages[stage].settings.learning_rate.steps;
        let seen = RefCell::new(Seen::of(&folder, stage, resume, kept.as_deref()));
        let ended = run(&prepared, &options, &mut |event| {
            (self.hear)(event);
            let mut seen = seen.borrow_mut();
            seen.hear(stage, event);
            let heard = match event {
                // What it had measured when it was lost may not have been told.
                Event::Resumed { stage: of, step, .. } if *of == stage && *step > 0 => {
                    let Some(share) = seen.validated(*step as u64).map(|step| step as f64 / steps as f64) else {
                        return;
                    };
                    seen.measured(share)
                }
                Event::Train { stage: of, progress: Progress::Step(report), .. } if *of == stage => {
                    Heard::Progress { share: report.step as f64 / steps as f64, tokens: seen.tokens() }
                }
                Event::Train { stage: of, progress: Progress::Validation { step, .. }, .. }
                    if *of == stage && *step > 0 =>
                {
                    // Where it cannot be kept, a trial that is gone on with is paired by what it measures then.
                    let _ = seen.keep_items(kept.as_deref());
                    seen.measured(*step as f64 / steps as f64)
                }
                _ => return,
            };
            if hear(heard) != Signal::GoOn {
                asked.store(true, Ordering::Relaxed);
            }
        });
        prepared.recipe.evaluation = evaluation;
        match ended {
            Ok(summary) => match summary.stages.last().and_then(|last| last.stopped.as_ref()) {
                Some(stop) => Ok(Ended::Hopeless(stop.reason())),
                None => {
                    // Where it had ended before, but not been told of.
                    hear(seen.borrow().measured(1.0));
                    Ok(Ended::Complete)
                }
            },
            // Another process is at it still, whose lease ran out: it is left alone for now.
            Err(PipelineError::Run(temper_run::RunError::Busy { .. })) => {
                std::thread::sleep(BUSY);
                Ok(Ended::Asked)
            }
            Err(PipelineError::Interrupted { .. }) => Ok(Ended::Asked),
            Err(
                error
                @ (PipelineError::NothingGained { .. } | PipelineError::Train { .. } | PipelineError::Gate { .. }),
            ) => Ok(Ended::Hopeless(error.to_string().lines().next().unwrap_or_default().to_owned())),
            Err(error) if error.is_bad_input() => Ok(Ended::Failed(error.to_string())),
            Err(error) => Err(error),
        }
    }

    fn tidy(&self, folder: &Path, keep_result: bool) -> Result<(), PipelineError> {
        for seed in fs::read_dir(folder).into_iter().flatten().flatten() {
            let checkpoints = seed.path().join("checkpoints");
            for stage in fs::read_dir(&checkpoints).into_iter().flatten().flatten() {
                for found in fs::read_dir(stage.path()).into_iter().flatten().flatten() {
                    let path = found.path();
                    if path.is_dir() && !(keep_result && found.file_name() == "result") {
                        fs::remove_dir_all(&path).map_err(io("remove", &path))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// What the stages of a run have shown, the last one by its steps.
#[derive(Debug, Default)]
struct Seen {
    /// Tokens of the stages before. A stage that was taken from the cache costs nothing.
    before: u64,
    /// Tokens of each step.
    tokens: BTreeMap<u64, u64>,
    /// Rise of the loss of each watched suite in percent and the upper end of its interval, by step.
    general: BTreeMap<u64, BTreeMap<String, (f64, f64)>>,
    /// Validation losses, by step; 0 is the start.
    validation: BTreeMap<u64, f64>,
    /// What a stage that reinforces showed, by step.
    signals: BTreeMap<u64, BTreeMap<&'static str, f64>>,
    /// What was measured of single rows and items, by step and metric; none where nobody asks.
    items: Option<BTreeMap<u64, BTreeMap<String, Vec<f64>>>>,
}

impl Seen {
    /// What a run has shown before it is gone on with; of single items, what was kept of them.
    fn of(folder: &Path, stage: usize, resume: bool, items: Option<&Path>) -> Self {
        let items = items.map(|file| {
            let text = if resume { fs::read_to_string(file).unwrap_or_default() } else { String::new() };
            serde_json::from_str(&text).unwrap_or_default()
        });
        let mut seen = Self { items, ..Self::default() };
        let text = if resume { fs::read_to_string(folder.join("metrics.jsonl")) } else { Ok(String::new()) };
        let text = text.unwrap_or_default();
        for line in text.lines().filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
            let (step, ours) = (line["step"].as_u64().unwrap_or(0), line["stage"] == stage + 1);
            let number = |name: &str| line[name].as_f64().unwrap_or(f64::NAN);
            match line["event"].as_str() {
                Some("general") if ours => {
                    let suite = line["suite"].as_str().unwrap_or_default();
                    seen.general(step, suite, (number("relative"), number("high")));
                }
                Some("validation") if ours => drop(seen.validation.insert(step, number("loss"))),
                Some("step") => {
                    seen.step(ours, step, line["processed_tokens"].as_u64().unwrap_or(0));
                    seen.signal(ours, step, &line);
                }
                Some("reward") => seen.signal(ours, step, &line),
                _ => {}
            }
        }
        seen
    }

    fn hear(&mut self, stage: usize, event: &Event) {
        match event {
            Event::Resumed { stage: of, step, .. } if *of == stage => self.back_to(*step as u64),
            Event::General { stage: of, general } if *of == stage => {
                self.general(general.step as u64, &general.suite, (general.relative, general.high));
                let percent = general.by_item.iter().map(|rise| 100.0 * rise).collect();
                self.item(general.step as u64, &general.suite, percent);
            }
            Event::Train { stage: of, progress: Progress::Step(report), .. } => {
                self.step(*of == stage, report.step as u64, report.processed_tokens as u64);
                if let Some(policy) = &report.policy {
                    let line = serde_json::to_value(policy).unwrap_or_default();
                    self.signal(*of == stage, report.step as u64, &line);
                }
            }
            Event::Reward { stage: of, validation } => {
                let line = serde_json::to_value(validation).unwrap_or_default();
                self.signal(*of == stage, validation.step as u64, &line);
                let earned = validation.items.iter().map(|loss| -loss).collect();
                if *of == stage {
                    self.item(validation.step as u64, REWARD, earned);
                }
            }
            Event::Train { stage: of, progress: Progress::Validation { step, loss, items, .. }, .. }
                if *of == stage =>
            {
                self.validation.insert(*step as u64, *loss);
                self.item(*step as u64, VALIDATION_LOSS, items.clone());
            }
            _ => {}
        }
    }

    /// Forgets what came after a step from which the stage goes on.
    fn back_to(&mut self, step: u64) {
        self.tokens.retain(|&at, _| at <= step);
        self.general.retain(|&at, _| at <= step);
        self.validation.retain(|&at, _| at <= step);
        self.signals.retain(|&at, _| at <= step);
        self.items.iter_mut().for_each(|items| items.retain(|&at, _| at <= step));
    }

    fn step(&mut self, ours: bool, step: u64, tokens: u64) {
        if ours {
            self.tokens.insert(step, tokens);
        } else {
            self.before += tokens;
        }
    }

    /// The numbers of a line that are signals.
    fn signal(&mut self, ours: bool, step: u64, line: &serde_json::Value) {
        let found = SIGNALS.into_iter().filter_map(|name| Some((name, line[name].as_f64()?)));
        if ours {
            self.signals.entry(step).or_default().extend(found);
        }
    }

    fn general(&mut self, step: u64, suite: &str, (relative, high): (f64, f64)) {
        self.general.entry(step).or_default().insert(suite.to_owned(), (100.0 * relative, 100.0 * high));
    }

    /// Of the start nothing is compared, and what is no number cannot be.
    fn item(&mut self, step: u64, metric: &str, items: Vec<f64>) {
        if let Some(all) = &mut self.items
            && step > 0
            && items.iter().all(|item| item.is_finite())
        {
            all.entry(step).or_default().insert(metric.to_owned(), items);
        }
    }

    /// Keeps what was measured of single items for when the trial is gone on with; it is no part of a run's log.
    fn keep_items(&self, file: Option<&Path>) -> Result<(), PipelineError> {
        let Some(file) = file else { return Ok(()) };
        Ok(write_atomic(file, serde_json::to_string(&self.items).unwrap_or_default().as_bytes())?)
    }

    /// The last step up to `step`, but for the start, of which there is a validation.
    fn validated(&self, step: u64) -> Option<u64> {
        self.validation.range(1..=step).next_back().map(|(step, _)| *step)
    }

    fn tokens(&self) -> u64 {
        self.before + self.tokens.values().sum::<u64>()
    }

    /// What the run would leave if it ended now: its lowest validation; its last one where none was below the start.
    fn measured(&self, share: f64) -> Heard {
        let lowest = self.validation.iter().filter(|(_, loss)| !loss.is_nan()).min_by(|a, b| a.1.total_cmp(b.1));
        let left = lowest.filter(|(step, _)| **step > 0).or(self.validation.last_key_value());
        let (step, loss) = left.map_or((0, f64::NAN), |(step, loss)| (*step, *loss));
        let mut items = self.items.as_ref().and_then(|items| items.get(&step)).cloned().unwrap_or_default();
        let mut metrics = BTreeMap::from([(VALIDATION_LOSS.to_owned(), loss)]);
        let signals = self.signals.get(&step).into_iter().flatten();
        metrics.extend(signals.map(|(name, value)| ((*name).to_owned(), *value)));
        let general = self.general.get(&step).into_iter().flatten();
        for (suite, (rise, high)) in general {
            metrics.insert(suite.clone(), *rise);
            metrics.insert(high_of(suite), *high);
            let worst = metrics.entry(FORGETTING.to_owned()).or_insert(*rise);
            *worst = worst.max(*rise);
        }
        // The largest of several suites is that of one in one trial, and of another in the next.
        let suites = self.general.get(&step).map_or(0, BTreeMap::len);
        let only = self.general.get(&step).and_then(|suites| suites.keys().next()).filter(|_| suites == 1);
        if let Some(rises) = only.and_then(|suite| items.get(suite)).cloned() {
            items.insert(FORGETTING.to_owned(), rises);
        }
        Heard::Measured { share, metrics, items }
    }
}
