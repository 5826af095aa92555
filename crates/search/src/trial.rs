//! What is known of one trial.

use serde::{Deserialize, Serialize};

use crate::space::Point;

/// Where a trial stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// A worker has it.
    Running,
    /// Stopped at a rung; its checkpoint waits to be gone on with.
    Paused,
    /// Its worker's lease ran out; whoever takes it over goes on from its last checkpoint.
    Stale,
    /// Carried through to its full budget.
    Complete,
    /// Ended before its full budget, as not worth going on with.
    Pruned,
    /// Ended without a result: an error, or a value that is no number.
    Failed,
}

impl State {
    /// Whether nothing more comes of it.
    pub fn is_finished(self) -> bool {
        matches!(self, Self::Complete | Self::Pruned | Self::Failed)
    }
}

/// What was measured of a trial, at one step or at its end.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The objectives, in the order of the study's [`Goals`](crate::Goals). NaN and the infinities are kept as they came.
    pub values: Vec<f64>,
    /// The constraints, in the order of the goals: at most 0 where it holds; NaN counts as broken.
    pub constraints: Vec<f64>,
}

/// A measurement on the way.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Budget spent by then, in the study's unit (steps, tokens); above 0.
    pub step: u64,
    /// What was measured there.
    pub measured: Measured,
    /// For each objective, what was measured of single items (such as rows of the validation set), in the same order in every
    /// trial and in the objective's direction; empty where that is not known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub items: Vec<Vec<f64>>,
}

impl Report {
    /// Without single items.
    pub fn new(step: u64, measured: Measured) -> Self {
        Self { step, measured, items: Vec::new() }
    }
}

/// One trial.
#[derive(Clone, Debug, PartialEq)]
pub struct Trial {
    /// From 0, in the order in which they were asked for.
    pub number: u64,
    /// Where it stands.
    pub state: State,
    /// Its values.
    pub point: Point,
    /// What was measured on the way, by rising step; the first report of a step counts.
    pub reports: Vec<Report>,
    /// What was measured at its end. Of a pruned trial: its last report. Of a failed one: nothing.
    pub result: Option<Measured>,
    /// Why it was pruned or failed.
    pub reason: Option<String>,
}

impl Trial {
    /// A trial that has just begun.
    pub fn new(number: u64, point: Point) -> Self {
        Self { number, state: State::Running, point, reports: Vec::new(), result: None, reason: None }
    }

    /// Puts a report in its place by step, in whatever order reports come. Whether it counts: the first one of a step does.
    pub fn put(&mut self, report: Report) -> bool {
        match self.reports.binary_search_by_key(&report.step, |earlier| earlier.step) {
            Ok(_) => false,
            Err(place) => {
                self.reports.insert(place, report);
                true
            }
        }
    }

    /// The report of the highest step.
    pub fn last(&self) -> Option<&Report> {
        self.reports.last()
    }

    /// The report at `step`.
    pub fn at(&self, step: u64) -> Option<&Report> {
        self.reports.iter().find(|report| report.step == step)
    }
}
