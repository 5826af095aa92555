//! The rewards of a recipe: opened once, asked batch by batch, summed.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

use serde_json::Map;
use temper_recipe::{OnFailure, Reward, SandboxMode, ScoredBy};

use crate::code::UnitTests;
use crate::error::Error;
use crate::judge::Judge;
use crate::program::{Answered, Program};
use crate::reply::scored;
use crate::sample::Sample;
use crate::sandbox;
use crate::scored::{Counts, Failure, Outcome, Part, SampleScore, Scored, Summary};
use crate::service::Service;
use crate::trial::form;
use crate::verify::Verifier;

/// Over how many of the last samples `max_error_rate` is a share.
const WINDOW: usize = 200;

/// The rewards of a stage, ready to score; shared between threads as it is. Processes that it started end with it.
#[derive(Debug)]
pub struct Rewards {
    all: Vec<Opened>,
    /// What a right completion looks like, where they tell.
    form: Option<String>,
}

#[derive(Debug)]
struct Opened {
    rule: Rule,
    scorer: Scorer,
    /// Whether each of the last samples failed, the newest last.
    recent: Mutex<VecDeque<bool>>,
}

/// What a reward's score does to the total.
#[derive(Debug, Clone)]
struct Rule {
    name: String,
    weight: f64,
    gate: Option<Gate>,
    held_out: bool,
    on_failure: OnFailure,
    max_error_rate: f64,
}

#[derive(Debug, Clone, Copy)]
struct Gate {
    threshold: f64,
    value: f64,
}

#[derive(Debug)]
enum Scorer {
    Verifier(Box<Verifier>),
    UnitTests(Box<UnitTests>),
    Program(Box<Program>),
    Service(Box<Service>),
    Judge(Box<Judge>),
}

/// What a reward said of all samples.
struct Said {
    parts: Vec<Part>,
    seconds: Vec<f64>,
    unanswered: usize,
    elapsed: f64,
}

impl Rewards {
    /// Makes the rewards of a recipe ready: reads patterns, schemas and prompts, starts programs, tries the sandbox.
    /// `folder`, which is made where it is not there, holds the programs' logs (`NAME.log`) and what runs in a sandbox.
    ///
    /// # Errors
    /// What is wrong with the first reward that cannot be opened.
    pub fn open(rewards: &[Reward], seed: u64, folder: &Path) -> Result<Self, Error> {
        std::fs::create_dir_all(folder).map_err(|source| Error::Io {
            action: "create",
            path: folder.to_owned(),
            source,
        })?;
        let folder: PathBuf = std::path::absolute(folder).map_err(|source| Error::Io {
            action: "find",
            path: folder.to_owned(),
            source,
        })?;
        let all = rewards.iter().map(|reward| {
            let scorer = match &reward.by.value {
                ScoredBy::Verifier(kind) => match Verifier::open(*kind, reward)? {
                    Some(verifier) => Scorer::Verifier(Box::new(verifier)),
                    None => Scorer::UnitTests(Box::new(UnitTests::open(reward, seed, &folder)?)),
                },
                ScoredBy::Program(file) => Scorer::Program(Box::new(Program::open(reward, file, seed, &folder)?)),
                ScoredBy::Url(url) => Scorer::Service(Box::new(Service::open(reward, url)?)),
                ScoredBy::Judge(base) => Scorer::Judge(Box::new(Judge::open(reward, base, seed)?)),
            };
            Ok(Opened { rule: Rule::of(reward), scorer, recent: Mutex::default() })
        });
        Ok(Self { all: all.collect::<Result<_, Error>>()?, form: form(rewards) })
    }

    /// Scores a batch; the order is kept. What fails on a sample is told in its parts. Rewards work side by side.
    ///
    /// # Errors
    /// When a reward breaks its contract, when it failed on more samples than the recipe allows, or on one that it must
    /// not fail on. No two samples may have one id.
    pub fn score(&self, samples: &[Sample<'_>]) -> Result<Scored, Error> {
        distinct(samples)?;
        // Side by side: most wait for a process or a network. What Temper computes itself takes no thread.
        let said = thread::scope(|scope| {
            let begun: Vec<_> = self
                .all
                .iter()
                .map(|opened| match opened.scorer {
                    Scorer::Verifier(_) => None,
                    _ => Some(scope.spawn(|| opened.ask(samples))),
                })
                .collect();
            let finish = |(opened, begun): (&Opened, Option<thread::ScopedJoinHandle<'_, _>>)| match begun {
                None => opened.ask(samples),
                Some(begun) => begun.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)),
            };
            self.all.iter().zip(begun).map(finish).collect::<Result<Vec<Said>, Error>>()
        })?;
        for (opened, said) in self.all.iter().zip(&said) {
            opened.trusted(samples, &said.parts)?;
        }
        let mut summaries: Vec<Summary> =
            self.all.iter().zip(&said).map(|(opened, said)| summary(&opened.rule.name, said)).collect();
        let mut parts: Vec<_> = said.into_iter().map(|said| said.parts.into_iter()).collect();
        let scores = samples.iter().map(|_| {
            let parts: Vec<Part> = parts.iter_mut().filter_map(Iterator::next).collect();
            let (total, closed) = self.total(&parts);
            if let Some(place) = closed {
                summaries[place].counts.closed += 1;
            }
            SampleScore { total, parts, closed }
        });
        let samples = scores.collect();
        Ok(Scored { samples, rewards: summaries })
    }

    /// The total of a sample, and the place of the gate that is closed.
    ///
    /// A closed gate decides, the first one first. Else a failure of a reward that counts leaves nothing to say, unless
    /// it counts as 0; and so do abstentions where nothing else is there.
    fn total(&self, parts: &[Part]) -> (Option<f64>, Option<usize>) {
        let counted = || self.all.iter().zip(parts).enumerate().filter(|(_, (opened, _))| !opened.rule.held_out);
        for (place, (opened, part)) in counted() {
            if let (Some(gate), Some(score)) = (opened.rule.gate, opened.rule.score(part))
                && score <= gate.threshold
            {
                return (Some(gate.value), Some(place));
            }
        }
        let mut total = None;
        for (_, (opened, part)) in counted() {
            match (&part.outcome, opened.rule.score(part)) {
                (_, Some(score)) => *total.get_or_insert(0.0) += opened.rule.weight * score,
                (Outcome::Abstained, _) => {}
                (_, None) => return (None, None),
            }
        }
        // Weights and scores are finite; their sum may still be too large for a number.
        (total.filter(|total: &f64| total.is_finite()), None)
    }

    /// The same rewards, by which failures end nothing: they are told, and the sample has no total.
    pub fn tolerant(mut self) -> Self {
        for opened in &mut self.all {
            opened.rule.max_error_rate = 1.0;
            if opened.rule.on_failure == OnFailure::Fail {
                opened.rule.on_failure = OnFailure::Exclude;
            }
        }
        self
    }

    /// The names of the rewards, in the order of the parts of a score.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.all.iter().map(|opened| opened.rule.name.as_str())
    }

    /// For each reward whether it is held out: shown, and never part of the total.
    pub fn held_out(&self) -> impl Iterator<Item = bool> {
        self.all.iter().map(|opened| opened.rule.held_out)
    }

    /// For each reward whether a model judges: its scores may differ a little from one time to the next.
    pub fn judged(&self) -> impl Iterator<Item = bool> {
        self.all.iter().map(|opened| matches!(opened.scorer, Scorer::Judge(_)))
    }

    /// What a right completion looks like, with fields of the row in braces; none where the rewards do not tell.
    pub(crate) fn form(&self) -> Option<&str> {
        self.form.as_deref()
    }

    /// What the user should know of how they run: parts of a sandbox that are lacking. `rewards` are those that were
    /// opened.
    pub fn notes(rewards: &[Reward]) -> Vec<String> {
        let boxed = |reward: &&Reward| reward.sandbox.as_ref().is_some_and(|mode| mode.value != SandboxMode::Off);
        let lacking = |reward: &Reward| {
            let lacking = sandbox::parts().lacking();
            (!lacking.is_empty())
                .then(|| format!("reward `{}`: in its sandbox {}", reward.name.value, lacking.join("; ")))
        };
        rewards.iter().filter(boxed).filter_map(lacking).collect()
    }
}

impl Rule {
    fn of(reward: &Reward) -> Self {
        let value = |field: &Option<temper_recipe::Valued<f64>>| field.as_ref().map_or(0.0, |field| field.value);
        let gate = Gate { threshold: value(&reward.threshold), value: value(&reward.gate_value) };
        Self {
            name: reward.name.value.clone(),
            weight: reward.weight.value,
            gate: reward.gate.value.then_some(gate),
            held_out: reward.held_out.value,
            on_failure: reward.on_failure.value,
            max_error_rate: reward.max_error_rate.value,
        }
    }

    /// The score by which a part counts.
    fn score(&self, part: &Part) -> Option<f64> {
        match &part.outcome {
            Outcome::Score(score) => Some(*score),
            Outcome::Failed(_) if self.on_failure == OnFailure::Zero => Some(0.0),
            Outcome::Failed(_) | Outcome::Abstained => None,
        }
    }
}

impl Opened {
    fn ask(&self, samples: &[Sample<'_>]) -> Result<Said, Error> {
        let begun = Instant::now();
        let mut unanswered = 0;
        let (parts, seconds): Answered = match &self.scorer {
            Scorer::Verifier(verifier) => {
                let part = |sample: &Sample<'_>| match verifier.score(sample) {
                    Ok(Some(score)) => scored(score),
                    Ok(None) => {
                        unanswered += 1;
                        scored(0.0)
                    }
                    Err(failure) => Part { outcome: Outcome::Failed(failure), details: Map::new() },
                };
                (samples.iter().map(part).collect(), Vec::new())
            }
            Scorer::UnitTests(tests) => tests.score(samples),
            Scorer::Program(program) => program.score(samples)?,
            Scorer::Service(service) => service.score(samples)?,
            Scorer::Judge(judge) => judge.score(samples),
        };
        Ok(Said { parts, seconds, unanswered, elapsed: begun.elapsed().as_secs_f64() })
    }

    /// Whether what failed leaves the rest to be trusted.
    fn trusted(&self, samples: &[Sample<'_>], parts: &[Part]) -> Result<(), Error> {
        let mut recent = self.recent.lock().unwrap_or_else(PoisonError::into_inner);
        let mut last: Option<&Failure> = None;
        for (sample, part) in samples.iter().zip(parts) {
            let failure = match &part.outcome {
                Outcome::Failed(failure) => Some(failure),
                _ => None,
            };
            if let Some(failure) = failure
                && self.rule.on_failure == OnFailure::Fail
            {
                return Err(Error::Failed {
                    reward: self.rule.name.clone(),
                    sample: sample.id.to_owned(),
                    kind: failure.kind,
                    message: failure.message.clone(),
                });
            }
            if recent.len() == WINDOW {
                recent.pop_front();
            }
            recent.push_back(failure.is_some());
            last = failure.or(last);
            let failed = recent.iter().filter(|failed| **failed).count();
            // Of the whole window also while it fills: the first failure of a run is no rate.
            if let Some(last) = last
                && failed as f64 > self.rule.max_error_rate * WINDOW as f64
            {
                return Err(Error::TooManyFailures {
                    reward: self.rule.name.clone(),
                    failed,
                    of: recent.len(),
                    rate: self.rule.max_error_rate,
                    kind: last.kind,
                    message: last.message.clone(),
                });
            }
        }
        Ok(())
    }
}

fn distinct(samples: &[Sample<'_>]) -> Result<(), Error> {
    let mut ids: Vec<&str> = samples.iter().map(|sample| sample.id).collect();
    ids.sort_unstable();
    match ids.windows(2).find(|pair| pair[0] == pair[1]) {
        None => Ok(()),
        Some(pair) => Err(Error::Unfit {
            path: "rewards".to_owned(),
            problem: format!("two samples have the id `{}`", pair[0]),
            hint: "scores are matched by id: give each its own".to_owned(),
        }),
    }
}

fn summary(name: &str, said: &Said) -> Summary {
    let mut counts = Counts { unanswered: said.unanswered, ..Counts::default() };
    let mut scores = Vec::new();
    for part in &said.parts {
        match &part.outcome {
            Outcome::Score(score) => scores.push(*score),
            Outcome::Abstained => counts.abstained += 1,
            Outcome::Failed(failure) => *counts.failed.entry(failure.kind).or_default() += 1,
        }
    }
    counts.scored = scores.len();
    let count = scores.len() as f64;
    let mean = (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / count);
    let deviation = mean.map(|mean| (scores.iter().map(|score| (score - mean).powi(2)).sum::<f64>() / count).sqrt());
    Summary { name: name.to_owned(), counts, mean, deviation, seconds: said.seconds.clone(), elapsed: said.elapsed }
}
