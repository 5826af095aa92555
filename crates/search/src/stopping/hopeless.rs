//! What nothing will come of.

use super::extrapolation::{Axis, forecast};
use super::{Decision, Rungs, Stopping, StoppingError, probability, settled};
use crate::goals::Direction;
use crate::history::History;
use crate::trial::{Report, Trial};

/// A loss that has left the ground.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Divergence {
    /// Which objective: its index in the goals.
    pub objective: usize,
    /// The value before training, where it is known; none: that of the trial's first report.
    pub start: Option<f64>,
    /// By how much of the start's size a value may be worse than the start; above 0. A loss that may double: 1.
    pub factor: f64,
}

/// Ends a trial, at any report, when
/// - an objective is NaN, infinite or missing;
/// - a [`Divergence`] is met, of those that are watched;
/// - at a rung, the probability that a constraint which is broken holds at the full budget is below `threshold`, by the
///   forecast that [`Extrapolation`](super::Extrapolation) makes too; it takes three reports.
#[derive(Clone, Debug)]
pub struct Hopeless {
    rungs: Rungs,
    divergences: Vec<Divergence>,
    threshold: f64,
}

impl Hopeless {
    /// A threshold of 0.01 is careful: other rules put a trial that breaks a constraint behind anyhow.
    ///
    /// # Errors
    /// [`StoppingError`] when `threshold` is no probability, or a factor is not above 0.
    pub fn new(rungs: Rungs, divergences: Vec<Divergence>, threshold: f64) -> Result<Self, StoppingError> {
        if let Some(wrong) = divergences.iter().find(|one| one.factor.is_nan() || one.factor <= 0.0) {
            return Err(StoppingError::Rules(format!("expected a divergence by more than 0, got {}", wrong.factor)));
        }
        Ok(Self { rungs, divergences, threshold: probability("threshold", threshold)? })
    }

    fn diverged(&self, history: &History, trial: &Trial, last: &Report) -> Option<String> {
        let goals = history.goals();
        self.divergences.iter().find_map(|watched| {
            let value = |report: &Report| report.measured.values.get(watched.objective).copied();
            let objective = goals.objectives.get(watched.objective)?;
            let (start, now) = (watched.start.or_else(|| value(trial.reports.first()?))?, value(last)?);
            let loss = |value: f64| if objective.direction == Direction::Minimize { value } else { -value };
            let worse = loss(now) - loss(start) > watched.factor * start.abs();
            worse.then(|| format!("{} is {now:.4} at step {}, far off its start {start:.4}", objective.name, last.step))
        })
    }

    fn broken(&self, history: &History, trial: &Trial, last: &Report) -> Option<String> {
        history.goals().constraints.iter().enumerate().find_map(|(index, name)| {
            let now = last.measured.constraints.get(index).copied().filter(|now| *now > 0.0)?;
            let chance = forecast(history, trial, Axis::Constraint(index), self.rungs.full())?.below(0.0);
            (chance < self.threshold).then(|| {
                let percent = 100.0 * chance;
                format!("{name} is broken by {now:.4} at step {}, and holds at the end with {percent:.1} %", last.step)
            })
        })
    }
}

impl Stopping for Hopeless {
    fn name(&self) -> &'static str {
        "hopeless"
    }

    fn rungs(&self) -> &Rungs {
        &self.rungs
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        if let Some(decision) = settled(trial) {
            return decision;
        }
        let Some(last) = trial.last() else { return Decision::Continue };
        let goals = history.goals();
        if !goals.is_sound(&last.measured) {
            let values = &last.measured.values;
            let wrong =
                (0..goals.objectives.len()).find(|&index| values.get(index).is_none_or(|value| !value.is_finite()));
            let name = wrong.map_or("values", |index| &goals.objectives[index].name);
            let got = wrong.and_then(|index| values.get(index)).map_or("missing".into(), f64::to_string);
            return Decision::Stop { reason: format!("{name} is {got} at step {}", last.step) };
        }
        let beyond_recovery = || self.rungs.decides(last.step).then(|| self.broken(history, trial, last)).flatten();
        match self.diverged(history, trial, last).or_else(beyond_recovery) {
            Some(reason) => Decision::Stop { reason },
            None => Decision::Continue,
        }
    }
}
