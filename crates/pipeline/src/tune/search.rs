//! The search itself: which trial is next, carried out, reported and ended, by one worker among any number of them.
//!
//! All that is decided is decided from the store's history, so that a worker that is killed takes nothing with it but the steps
//! since its trial's last checkpoint.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use temper_search::sampler::{Ask, Sampler};
use temper_search::stopping::{Decision, Stopping};
use temper_search::store::{self, Begun, Beside, Lease, Outcome, Spent, Store, Wrote};
use temper_search::{Goals, History, Measured, Point, Report, State};

use super::clock::Clock;
use super::measure::{Measures, SECONDS, TOKENS};
use super::plan::Budget;
use super::space::rounded;
use super::trainer::{Assignment, Ended, Heard, Signal, Trainer};
use crate::PipelineError;
use crate::run::Interrupt;

/// How long a worker waits for another's trial to become one that it can go on with.
const WAIT: Duration = Duration::from_millis(500);
/// Failures in a row after which a search ends: then it is not the values that are at fault.
const FAILURES: usize = 3;
/// Workers that may be lost with a trial, without a report between, before it is failed: it is what ends them.
const LOSSES: u32 = 10;
/// Why a trial is paused that the user stopped, or the clock.
const INTERRUPTED: &str = "interrupted";

/// What is told of a search as it goes.
#[derive(Clone, Debug)]
pub enum Told {
    /// A trial begins, or is gone on with.
    Began {
        /// Its number.
        number: u64,
        /// Whether it had begun before.
        again: bool,
        /// What chose its values, where it is new.
        reason: Option<String>,
    },
    /// It is so far.
    Progress {
        /// Its number.
        number: u64,
        /// Share of its full length.
        share: f64,
    },
    /// It was measured, and what follows.
    Reported {
        /// Its number.
        number: u64,
        /// What was measured.
        report: Report,
        /// What follows.
        decision: Decision,
    },
    /// It ended, or was paused.
    Ended {
        /// Its number.
        number: u64,
        /// Where it stands now.
        state: State,
        /// Why.
        reason: Option<String>,
    },
    /// A finalist is trained under another seed.
    Repeats {
        /// Its number.
        number: u64,
        /// The seed.
        seed: u64,
    },
    /// Nothing new begins any more.
    Closing {
        /// Why.
        reason: String,
    },
}

/// How a worker's part in a search ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Over {
    /// Nothing is left to be done within the budget.
    Done,
    /// The user stopped it; the same command goes on.
    Interrupted,
}

/// What a trial takes at its full length, and what is kept back for the finalists and the test rows: as planned, and by the clock as soon
/// as there is something to go by.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pace {
    /// Seconds of a trial at its full length.
    pub seconds: f64,
    /// Its tokens.
    pub tokens: u64,
    /// Trials at the end.
    pub repeats: u64,
    /// Seconds of the test rows.
    pub judged: f64,
}

/// The most of the time that is kept back for the end. A decision: an answer from few trials is worth little, however sure it is.
const MOST_KEPT: f64 = 0.5;
/// Full lengths trained in all, from which on the clock is believed and not the plan.
const ENOUGH: f64 = 0.25;

impl Pace {
    /// The pace that the trials so far show; the plan's where they show nothing yet.
    pub fn seen(self, store: &mut Store) -> Result<Self, store::StoreError> {
        let spent: BTreeMap<u64, Spent> = store.spent()?.into_iter().collect();
        let (mut seconds, mut lengths) = (0.0, 0.0);
        for trial in store.history().trials() {
            let (Some(last), Some(spent)) = (trial.last(), spent.get(&trial.number)) else { continue };
            // What runs now is further than its last report.
            if trial.state != State::Running {
                seconds += spent.seconds;
                lengths += last.step as f64 / 1000.0;
            }
        }
        if lengths < ENOUGH {
            return Ok(self);
        }
        let now = seconds / lengths;
        let slower = if self.seconds > 0.0 { now / self.seconds } else { 1.0 };
        Ok(Self { seconds: now, judged: self.judged * slower, ..self })
    }

    /// Seconds that are kept back of so many.
    pub fn kept_back(&self, budget: f64) -> f64 {
        (self.repeats as f64 * self.seconds + self.judged).min(MOST_KEPT * budget)
    }
}

/// A worker's part in a search.
pub struct Search<'a> {
    /// Where trials are kept.
    pub store: Store,
    /// Carries them out.
    pub trainer: &'a dyn Trainer,
    /// Chooses their values.
    pub sampler: &'a dyn Sampler,
    /// Ends or pauses them.
    pub stopping: &'a dyn Stopping,
    /// Makes values of their metrics.
    pub measures: &'a Measures,
    /// Of what is drawn, and of the trials.
    pub seed: u64,
    /// The study's folder.
    pub folder: PathBuf,
    /// When it ends.
    pub budget: Budget,
    /// The study's time.
    pub clock: Clock,
    /// What a trial takes, and what comes after the search, as planned.
    pub planned: Pace,
    /// The same by the clock.
    pub pace: Pace,
    /// Trials in a row that add nothing to the front, after which it ends; 0: never.
    pub patience: u64,
    /// The user's own.
    pub interrupt: Option<Interrupt>,
    /// Told of all that happens.
    pub tell: &'a (dyn Fn(&Told, &Store) + Sync),
}

/// The folder of a trial.
pub fn trial_folder(study: &Path, number: u64) -> PathBuf {
    study.join("trials").join(format!("{number:04}"))
}

/// A trial that is this worker's.
struct Held {
    lease: Lease,
    point: Point,
    /// Its last checkpoint where it is gone on with; empty where none was told of.
    resume: Option<String>,
}

impl Search<'_> {
    /// Works until nothing is left to be done, the budget is spent or the user stops it.
    ///
    /// # Errors
    /// What concerns the machine or the store; the trial at hand can be taken over. And where one trial after the other fails.
    pub fn work(&mut self) -> Result<Over, PipelineError> {
        let (mut closing, mut unaffordable) = (false, false);
        self.store.refresh()?;
        // What had failed before this command has been looked at, and may be mended.
        let trials = self.store.history().trials().iter();
        let before: Vec<u64> = trials.filter(|trial| trial.state.is_finished()).map(|trial| trial.number).collect();
        loop {
            if self.interrupted() {
                return Ok(Over::Interrupted);
            }
            self.store.refresh()?;
            self.clock.keep(&mut self.store)?;
            self.refuse_failures(&before)?;
            if let Some(reason) = self.spent()? {
                if !closing {
                    self.told(&Told::Closing { reason });
                }
                closing = true;
            }
            if self.out_of_time() {
                return Ok(Over::Done);
            }
            if unaffordable {
                // The trial that waits is for the same command with a higher limit.
                match self.others_work() {
                    true => std::thread::sleep(WAIT),
                    false => return Ok(Over::Done),
                }
                continue;
            }
            match self.next(&mut closing)? {
                Some(held) => unaffordable = !self.carry(held)?,
                None if self.others_work() => std::thread::sleep(WAIT),
                None if closing => return Ok(Over::Done),
                None => closing = true,
            }
        }
    }

    /// The trial that is next: one that was lost, one that has become worth going on with, else a new one.
    fn next(&mut self, closing: &mut bool) -> Result<Option<Held>, PipelineError> {
        let again = |claimed: store::Claimed| Held {
            lease: claimed.lease,
            point: claimed.point,
            resume: Some(claimed.checkpoint.map_or(String::new(), |(_, path)| path)),
        };
        if let Some(claimed) = self.store.take_over(LOSSES)? {
            return Ok(Some(again(claimed)));
        }
        // The recipe's own values first: all else is measured by them.
        let fresh = self.store.history().trials().is_empty();
        while let Some(number) = self.stopping.resume(self.store.history(), *closing).filter(|_| !fresh) {
            if let Some(claimed) = self.store.resume(number)? {
                return Ok(Some(again(claimed)));
            }
            // Another worker was first.
            self.store.refresh()?;
        }
        if *closing {
            return Ok(None);
        }
        let budget = self.budget.trials.map_or_else(store::Budget::unlimited, store::Budget::trials);
        let (sampler, seed, trials) = (self.sampler, self.seed, self.budget.trials);
        let mut reason = None;
        let begun = self.store.begin(&budget, |history, number| {
            let ask = Ask { history, number, seed, budget: trials };
            reason = Some(sampler.reason(&ask));
            sampler.suggest(&ask).map(|point| rounded(history.space(), point))
        })?;
        let why = match begun {
            Begun::Trial(lease, point) => {
                let number = lease.number;
                self.told(&Told::Began { number, again: false, reason });
                return Ok(Some(Held { lease, point, resume: None }));
            }
            Begun::Enough => "all trials have begun",
            Begun::Exhausted => "every point of the space has been tried",
        };
        self.told(&Told::Closing { reason: why.to_owned() });
        *closing = true;
        self.next(closing)
    }

    /// Carries a trial out until it ends or is paused; whether there is money for it.
    fn carry(&mut self, held: Held) -> Result<bool, PipelineError> {
        let Held { lease, point, resume } = held;
        let number = lease.number;
        if resume.is_some() {
            self.told(&Told::Began { number, again: true, reason: None });
        }
        let folder = trial_folder(&self.folder, number);
        fs::create_dir_all(&folder).map_err(crate::checkpoints::io("create", &folder))?;
        let before = self.store.spent()?.into_iter().find(|(of, _)| *of == number).map_or(Spent::default(), |(_, s)| s);
        let pulse = self.store.keep(&lease)?;
        let (begun, trainer) = (Instant::now(), self.trainer);
        let mut tokens = before.tokens;
        let mut decided = None;
        let mut failure = None;
        let assignment =
            Assignment { number, folder: &folder, point: &point, seed: self.seed, resume: resume.as_deref() };
        let ended = trainer.carry_out(&assignment, &mut |heard| {
            let spent = |tokens| Spent { tokens, seconds: before.seconds + begun.elapsed().as_secs_f64() };
            match heard {
                Heard::Progress { share, tokens: now } => {
                    tokens = now;
                    pulse.spend(spent(tokens));
                    self.told(&Told::Progress { number, share });
                    match (pulse.is_lost(), self.out_of_time()) {
                        (true, _) => Signal::Leave,
                        (false, true) => Signal::Pause,
                        (false, false) => Signal::GoOn,
                    }
                }
                Heard::Checkpoint(path) => {
                    let step = self.store.history().trial(number).and_then(|trial| trial.last()).map_or(0, |r| r.step);
                    self.store
                        .set_artifact(&lease, "checkpoint", step, &path)
                        .err()
                        .into_iter()
                        .for_each(|e| failure = Some(e));
                    Signal::GoOn
                }
                Heard::Measured { share, metrics, items } => {
                    match self.report(&lease, share, (metrics, items), spent(tokens)) {
                        Ok(None) => {
                            decided = Some(Decision::Pause { reason: "another worker has it".to_owned() });
                            Signal::Leave
                        }
                        Ok(Some(decision)) => {
                            let signal = match &decision {
                                Decision::Continue => Signal::GoOn,
                                Decision::Pause { .. } => Signal::Pause,
                                Decision::Stop { .. } => Signal::Stop,
                            };
                            decided = (signal != Signal::GoOn).then_some(decision);
                            signal
                        }
                        Err(error) => {
                            failure = Some(error);
                            Signal::Leave
                        }
                    }
                }
            }
        });
        let spent = Spent { tokens, seconds: before.seconds + begun.elapsed().as_secs_f64() };
        if let Some(error) = failure {
            return Err(error.into());
        }
        let ended = ended?;
        let unaffordable = match &ended {
            Ended::Unaffordable(reason) => Some(reason.clone()),
            _ => None,
        };
        self.end(&lease, ended, decided, spent, &folder)?;
        if let Some(reason) = &unaffordable {
            self.told(&Told::Closing { reason: reason.clone() });
        }
        Ok(unaffordable.is_none())
    }

    /// Writes a measurement, and decides; none where another worker has the trial.
    fn report(
        &mut self,
        lease: &Lease,
        share: f64,
        (mut metrics, items): (BTreeMap<String, f64>, BTreeMap<String, Vec<f64>>),
        spent: Spent,
    ) -> Result<Option<Decision>, store::StoreError> {
        metrics.entry(SECONDS.to_owned()).or_insert(spent.seconds);
        metrics.entry(TOKENS.to_owned()).or_insert(spent.tokens as f64);
        let step = ((1000.0 * share + 1e-6) as u64).clamp(1, 1000);
        let last = self.store.history().trial(lease.number).and_then(|trial| trial.last()).map_or(0, |last| last.step);
        // What was measured between two rungs is told for the rung that it came after, if that was not told of yet.
        let rung = self.stopping.rungs().steps().iter().copied().rfind(|rung| *rung <= step);
        let step = rung.filter(|rung| *rung > last).unwrap_or(step);
        // What is told once more by a trial that is gone on with has been decided.
        if step <= last {
            return Ok(Some(Decision::Continue));
        }
        let measured = self.measures.measured(&metrics);
        let report = Report { items: self.measures.items(&items), ..Report::new(step, measured) };
        if let Wrote::Lost(_) = self.store.report(lease, &report, &Beside { spent, ..Beside::default() })? {
            return Ok(None);
        }
        self.clock.keep(&mut self.store)?;
        self.store.refresh()?;
        let history = self.store.history();
        let decision = match history.trial(lease.number) {
            // The recipe's own values go their full length: all else is measured by them.
            Some(trial) if lease.number > 0 && step < 1000 => self.stopping.decide(history, trial),
            _ => Decision::Continue,
        };
        self.told(&Told::Reported { number: lease.number, report, decision: decision.clone() });
        Ok(Some(decision))
    }

    /// Writes that a trial waits.
    fn pause(&mut self, lease: &Lease, reason: &str, spent: Spent) -> Result<(), PipelineError> {
        self.store.pause(lease, reason, spent)?;
        self.store.refresh()?;
        let reason = Some(reason.to_owned());
        self.told(&Told::Ended { number: lease.number, state: State::Paused, reason });
        Ok(())
    }

    /// Writes how a trial ended.
    fn end(
        &mut self,
        lease: &Lease,
        ended: Ended,
        decided: Option<Decision>,
        spent: Spent,
        folder: &Path,
    ) -> Result<(), PipelineError> {
        let number = lease.number;
        let last = self.store.history().trial(number).and_then(|trial| trial.last()).map(|last| last.measured.clone());
        let outcome = match (ended, decided) {
            (Ended::Complete, _) => match last {
                Some(measured) => Outcome::Complete(measured),
                None => Outcome::Failed { reason: "it ended without a measurement".to_owned() },
            },
            (Ended::Asked, Some(Decision::Stop { reason })) | (Ended::Hopeless(reason), _) => match last {
                Some(_) => Outcome::Pruned { reason },
                None => Outcome::Failed { reason },
            },
            (Ended::Failed(reason), _) => Outcome::Failed { reason },
            (Ended::Unaffordable(reason), _) => return self.pause(lease, &reason, spent),
            (Ended::Asked, Some(Decision::Pause { reason })) => return self.pause(lease, &reason, spent),
            (Ended::Asked, _) => return self.pause(lease, INTERRUPTED, spent),
        };
        self.store.tell(lease, &outcome, spent)?;
        self.store.refresh()?;
        let (state, reason) = match self.store.history().trial(number) {
            Some(trial) => (trial.state, trial.reason.clone()),
            None => (State::Failed, None),
        };
        self.trainer.tidy(folder, state == State::Complete)?;
        self.told(&Told::Ended { number, state, reason });
        Ok(())
    }

    /// Why nothing new is to begin: the budget, or nothing gained for long.
    fn spent(&mut self) -> Result<Option<String>, PipelineError> {
        if self.store.history().trials().is_empty() {
            // The recipe's own values are always tried.
            return Ok(None);
        }
        self.pace = self.planned.seen(&mut self.store)?;
        if let Some(most) = self.budget.seconds
            && self.clock.seconds() > most - self.pace.kept_back(most) - self.pace.seconds
        {
            return Ok(Some(
                "what is left of the time is for the trials that have begun, and the finalists".to_owned(),
            ));
        }
        if let Some(most) = self.budget.tokens {
            let tokens: u64 = self.store.spent()?.iter().map(|(_, spent)| spent.tokens).sum();
            if tokens + (self.pace.repeats + 1) * self.pace.tokens > most {
                return Ok(Some(format!("{tokens} tokens are spent, and the rest is for the trials that have begun")));
            }
        }
        let history = self.store.history();
        let barren = unproductive(history);
        Ok((self.patience > 0 && barren >= self.patience)
            .then(|| format!("the last {barren} trials added nothing to the front")))
    }

    /// Whether what is left of the time is the finalists'.
    fn out_of_time(&self) -> bool {
        self.budget.seconds.is_some_and(|most| self.clock.seconds() > most - self.pace.kept_back(most))
    }

    fn interrupted(&self) -> bool {
        self.interrupt.as_ref().is_some_and(Interrupt::asked)
    }

    /// Whether another worker has a trial.
    fn others_work(&self) -> bool {
        self.store.history().trials().iter().any(|trial| matches!(trial.state, State::Running | State::Stale))
    }

    /// Ends a search in which one trial after the other fails, those aside that had finished `before`.
    fn refuse_failures(&self, before: &[u64]) -> Result<(), PipelineError> {
        let trials = self.store.history().trials().iter().rev();
        let finished = trials.filter(|trial| trial.state.is_finished() && !before.contains(&trial.number));
        let failed: Vec<_> = finished.take(FAILURES).take_while(|trial| trial.state == State::Failed).collect();
        // Values that a program says it cannot train are the space's fault, not the program's.
        let named = |reason: &str| reason.contains("`fail_codes`");
        if failed.len() < FAILURES || failed.iter().any(|trial| trial.reason.as_deref().is_some_and(named)) {
            return Ok(());
        }
        let last = failed.first().and_then(|trial| trial.reason.clone()).unwrap_or_default();
        Err(PipelineError::Unfit {
            path: "tune".to_owned(),
            problem: format!("the last {FAILURES} trials failed; trial {}: {last}", failed[0].number),
            hint:
                "mend that, and the same command goes on with new trials; `tune.space` may hold what cannot be trained"
                    .to_owned(),
        })
    }

    fn told(&self, told: &Told) {
        (self.tell)(told, &self.store);
    }
}

/// How many of the last finished trials added nothing to the front of those that came to their full length.
fn unproductive(history: &History) -> u64 {
    let goals: &Goals = history.goals();
    let finished: Vec<_> = history.trials().iter().filter(|trial| trial.state.is_finished()).collect();
    let complete: Vec<(u64, &Measured)> = finished
        .iter()
        .filter(|trial| trial.state == State::Complete)
        .filter_map(|trial| Some((trial.number, trial.result.as_ref()?)))
        .collect();
    let front = goals.front(&complete.iter().map(|(_, measured)| *measured).collect::<Vec<_>>());
    let newest = front.into_iter().map(|place| complete[place].0).max();
    finished.iter().filter(|trial| newest.is_none_or(|newest| trial.number > newest)).count() as u64
}
