//! Rewards put to the test before a model is trained on them: `temper reward test`.
//!
//! Each row is scored with the completions that it has and with probes made of it: its own reference, another row's,
//! rubbish, long rubbish, and nothing. All are scored twice, the second time in another order and in batches of another
//! size.

mod checks;
mod form;
mod rows;
mod statistics;

use serde::Serialize;
use serde_json::Value;
use temper_run::Random;

use crate::answer::field;
use crate::error::Error;
use crate::rewards::Rewards;
use crate::sample::Sample;
use crate::scored::{Counts, SampleScore};
use crate::template::{fill, plain};

pub(crate) use form::form;
pub use rows::{Completion, TrialRow};
pub use statistics::{Interval, area_under_curve, quantile, rank_correlation};

/// Samples of the second scoring's batches: another number than any usual one.
const SECOND_BATCH: usize = 7;
/// Text that answers nothing.
const RUBBISH: &str = "Lorem ipsum dolor sit amet, consectetur adipiscing elit.";
/// How often long rubbish repeats it.
const LONG: usize = 20;

/// How a trial is made.
#[derive(Debug, Clone)]
pub struct TrialSettings {
    /// Seed of the second order.
    pub seed: u64,
    /// What a right completion looks like, with `{reference_answer}` or another field of the row in its place. None:
    /// the row's own `reference_completion`, or the form that the rewards ask for, or the reference alone.
    pub reference_as: Option<String>,
    /// Samples of the first scoring's batches.
    pub batch: usize,
}

/// What a trial found.
#[derive(Debug, Clone, Serialize)]
pub struct Trial {
    /// Rows.
    pub rows: usize,
    /// Completions that the rows came with.
    pub completions: usize,
    /// Each reward, and the total last.
    pub table: Vec<Line>,
    /// The checks with their verdicts.
    pub findings: Vec<Finding>,
}

/// One line of the table: means over the samples of a kind that have a score.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Line {
    /// The reward's name, or `total`.
    pub name: String,
    /// Whether it is held out of the total.
    pub held_out: bool,
    /// Of the completions that the rows came with.
    pub completions: Option<f64>,
    /// Of the references.
    pub reference: Option<f64>,
    /// Of other rows' references.
    pub other: Option<f64>,
    /// Of rubbish.
    pub rubbish: Option<f64>,
    /// Of long rubbish.
    pub long_rubbish: Option<f64>,
    /// Of the empty completion.
    pub empty: Option<f64>,
    /// How the samples of both scorings came out.
    pub counts: Counts,
    /// Median of the seconds of a request; of a sample, for what Temper computes itself.
    pub median_seconds: Option<f64>,
    /// The 95 % point of these.
    pub p95_seconds: Option<f64>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// It cannot be told from these rows.
    Unknown,
    /// To be looked at.
    Warning,
    /// Not to be trained on.
    Error,
}

/// What one check found.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check.
    pub check: &'static str,
    /// Its verdict.
    pub verdict: Verdict,
    /// What was found, in a sentence.
    pub found: String,
    /// What to do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<&'static str>,
    /// The number behind it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interval: Option<Interval>,
}

/// What a sample of a trial is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// It came with the row.
    Given,
    Reference,
    Other,
    Rubbish,
    LongRubbish,
    Empty,
}

/// A sample of a trial that owns its text.
struct Tried<'r> {
    id: String,
    row: usize,
    kind: Kind,
    of: &'r TrialRow,
    text: String,
    tokens: Option<usize>,
    cut: bool,
    good: Option<bool>,
}

impl Tried<'_> {
    fn sample(&self) -> Sample<'_> {
        Sample {
            id: &self.id,
            prompt: &self.of.prompt,
            completion: &self.text,
            row: &self.of.row,
            tokens: self.tokens.unwrap_or_else(|| self.text.split_whitespace().count()),
            cut: self.cut,
        }
    }
}

/// What both scorings gave, in the order of the samples.
struct Scores {
    first: Vec<SampleScore>,
    second: Vec<SampleScore>,
    /// The place of each sample in the second scoring.
    places: Vec<usize>,
    /// By reward: seconds of requests.
    seconds: Vec<Vec<f64>>,
    counts: Vec<Counts>,
}

/// Tries rewards on rows. They should be [tolerant](Rewards::tolerant), so that failures are counted here and end
/// nothing.
///
/// # Errors
/// When a reward breaks its contract.
pub fn try_rewards(rewards: &Rewards, rows: &[TrialRow], settings: &TrialSettings) -> Result<Trial, Error> {
    let tried = samples(rows, settings, rewards.form());
    let scores = score(rewards, &tried, settings)?;
    let mut table: Vec<Line> = Vec::new();
    for (place, (name, held_out)) in rewards.names().zip(rewards.held_out()).enumerate() {
        let score = |score: &SampleScore| score.parts[place].outcome.score();
        let mut line = line(name, &tried, &scores.first, score);
        line.held_out = held_out;
        line.counts = scores.counts[place].clone();
        line.median_seconds = quantile(&scores.seconds[place], 0.5);
        line.p95_seconds = quantile(&scores.seconds[place], 0.95);
        table.push(line);
    }
    table.push(line("total", &tried, &scores.first, |score| score.total));
    let findings = checks::all(rewards, rows, &tried, &scores, &table);
    let completions = rows.iter().map(|row| row.completions.len()).sum();
    Ok(Trial { rows: rows.len(), completions, table, findings })
}

fn line(name: &str, tried: &[Tried<'_>], scores: &[SampleScore], of: impl Fn(&SampleScore) -> Option<f64>) -> Line {
    let mean = |kind: Kind| {
        let scores =
            tried.iter().zip(scores).filter(|(tried, _)| tried.kind == kind).filter_map(|(_, score)| of(score));
        let scores: Vec<f64> = scores.collect();
        (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
    };
    Line {
        name: name.to_owned(),
        completions: mean(Kind::Given),
        reference: mean(Kind::Reference),
        other: mean(Kind::Other),
        rubbish: mean(Kind::Rubbish),
        long_rubbish: mean(Kind::LongRubbish),
        empty: mean(Kind::Empty),
        ..Line::default()
    }
}

/// The completions of the rows and the probes made of them.
fn samples<'r>(rows: &'r [TrialRow], settings: &TrialSettings, form: Option<&str>) -> Vec<Tried<'r>> {
    let references: Vec<Option<String>> = rows.iter().map(|row| reference(row, settings, form)).collect();
    let mut all = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let mut add = |kind: Kind, name: String, text: String, given: Option<&Completion>| {
            all.push(Tried {
                id: format!("{}/{name}", row.id),
                row: index,
                kind,
                of: row,
                text,
                tokens: given.and_then(|given| given.tokens),
                cut: given.is_some_and(|given| given.cut),
                good: given.and_then(|given| given.good),
            });
        };
        for (number, given) in row.completions.iter().enumerate() {
            add(Kind::Given, number.to_string(), given.text.clone(), Some(given));
        }
        if let Some(reference) = &references[index] {
            add(Kind::Reference, "reference".to_owned(), reference.clone(), None);
            // The next row whose reference is another one.
            let further = (1..rows.len()).filter_map(|step| references[(index + step) % rows.len()].as_ref());
            if let Some(other) = further.into_iter().find(|other| *other != reference) {
                add(Kind::Other, "other".to_owned(), other.clone(), None);
            }
        }
        add(Kind::Rubbish, "rubbish".to_owned(), RUBBISH.to_owned(), None);
        add(Kind::LongRubbish, "long-rubbish".to_owned(), [RUBBISH; LONG].join(" "), None);
        add(Kind::Empty, "empty".to_owned(), String::new(), None);
    }
    all
}

/// What a right completion of a row is, as far as row, settings and rewards say.
fn reference(row: &TrialRow, settings: &TrialSettings, form: Option<&str>) -> Option<String> {
    // Of several that are right the first.
    let first = |value: &Value| value.as_array().map_or(Some(plain(value)), |all| all.first().map(plain));
    let filled = |template: &str| fill(template, |name| field(&row.row, name).and_then(first)).ok();
    match &settings.reference_as {
        Some(template) => filled(template),
        None => field(&row.row, "reference_completion")
            .and_then(first)
            .or_else(|| form.and_then(filled))
            .or_else(|| field(&row.row, "reference_answer").and_then(first)),
    }
}

fn score(rewards: &Rewards, tried: &[Tried<'_>], settings: &TrialSettings) -> Result<Scores, Error> {
    let order = Random::new(settings.seed, "reward test").permutation(tried.len());
    let mut places = vec![0; tried.len()];
    for (place, &index) in order.iter().enumerate() {
        places[index] = place;
    }
    let count = rewards.names().count();
    let mut scores = Scores {
        first: Vec::new(),
        second: Vec::new(),
        places,
        seconds: vec![Vec::new(); count],
        counts: vec![Counts::default(); count],
    };
    let straight: Vec<usize> = (0..tried.len()).collect();
    for (order, batch, second) in [(&straight, settings.batch, false), (&order, SECOND_BATCH, true)] {
        for chunk in order.chunks(batch.max(1)) {
            let samples: Vec<Sample<'_>> = chunk.iter().map(|&index| tried[index].sample()).collect();
            let scored = rewards.score(&samples)?;
            for (place, summary) in scored.rewards.iter().enumerate() {
                match summary.seconds.is_empty() {
                    true => scores.seconds[place].push(summary.elapsed / samples.len() as f64),
                    false => scores.seconds[place].extend(&summary.seconds),
                }
                scores.counts[place].add(&summary.counts);
            }
            if second { &mut scores.second } else { &mut scores.first }.extend(scored.samples);
        }
    }
    // The second scoring, in the order of the first.
    scores.second = scores.places.iter().map(|&place| scores.second[place].clone()).collect();
    Ok(scores)
}
