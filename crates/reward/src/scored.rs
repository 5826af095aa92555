//! What scoring gives: a total per sample, its parts, and what failed.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use serde_json::{Map, Value};

/// The scores of a batch, in its order.
#[derive(Debug, Clone, Serialize)]
pub struct Scored {
    /// One per sample, in order.
    pub samples: Vec<SampleScore>,
    /// One per reward, in the recipe's order.
    pub rewards: Vec<Summary>,
}

/// The score of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SampleScore {
    /// The sum of weight * score over the rewards that count, or a closed gate's value. None: nothing could be said,
    /// because all that count abstained, or one failed whose `on_failure` is `exclude`.
    pub total: Option<f64>,
    /// What each reward said, in the recipe's order.
    pub parts: Vec<Part>,
    /// The place in `parts` of the gate that is closed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub closed: Option<usize>,
}

/// What one reward said of one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Part {
    /// How it came out.
    #[serde(flatten)]
    pub outcome: Outcome,
    /// Scores within the score that a program, a Lambda or a service told.
    #[serde(skip_serializing_if = "Map::is_empty")]
    pub details: Map<String, Value>,
}

/// How a reward came out for a sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A finite number.
    Score(f64),
    /// It says that it does not apply to this sample (`None`); the other rewards decide.
    Abstained,
    /// It could not say.
    Failed(Failure),
}

impl Outcome {
    /// The score, if there is one.
    pub fn score(&self) -> Option<f64> {
        match self {
            Self::Score(score) => Some(*score),
            _ => None,
        }
    }
}

/// A failure on one sample.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Failure {
    /// Which kind.
    pub kind: FailureKind,
    /// What happened, in one line.
    pub message: String,
}

/// The kinds of failures.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The function raised an error, or the verifier could not read the row's reference.
    Error,
    /// The process ended.
    Crash,
    /// No answer in time.
    Timeout,
    /// NaN or infinite.
    NotFinite,
    /// A text, a list, a truth value: no number.
    NotANumber,
    /// An answer for a list of samples that leaves this one out.
    Missing,
    /// The reply is longer than `max_output_bytes`.
    TooLarge,
    /// The reply is not of the protocol.
    BadReply,
    /// The service could not be reached, or answered with an error.
    Unreachable,
}

impl FailureKind {
    /// Its name, as in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Crash => "crash",
            Self::Timeout => "timeout",
            Self::NotFinite => "not_finite",
            Self::NotANumber => "not_a_number",
            Self::Missing => "missing",
            Self::TooLarge => "too_large",
            Self::BadReply => "bad_reply",
            Self::Unreachable => "unreachable",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// How one reward fared on a batch.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Summary {
    /// The reward's name.
    pub name: String,
    /// How its samples came out.
    pub counts: Counts,
    /// The mean of its scores; none where there are none.
    pub mean: Option<f64>,
    /// Their standard deviation (of the batch, divided by n).
    pub deviation: Option<f64>,
    /// Seconds that each request took, in the order in which they were sent; empty for what Temper computes itself.
    pub seconds: Vec<f64>,
    /// Seconds that the reward took for the batch.
    pub elapsed: f64,
}

/// How many samples came out how.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// With a score.
    pub scored: usize,
    /// Abstained.
    pub abstained: usize,
    /// Failed, by kind.
    pub failed: BTreeMap<FailureKind, usize>,
    /// Of those with a score: no answer was found in the completion, which scores 0.
    pub unanswered: usize,
    /// Of all: the gate was closed.
    pub closed: usize,
}

impl Counts {
    /// Failed, of whatever kind.
    pub fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    /// Adds those of another batch.
    pub(crate) fn add(&mut self, other: &Self) {
        self.scored += other.scored;
        self.abstained += other.abstained;
        self.unanswered += other.unanswered;
        self.closed += other.closed;
        for (kind, count) in &other.failed {
            *self.failed.entry(*kind).or_default() += count;
        }
    }
}
