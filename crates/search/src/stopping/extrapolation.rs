//! Unlikely to beat the best by the time it is done.

use temper_run::Random;

use super::curve::{Curve, Forecast};
use super::{Decision, Rungs, Stopping, StoppingError, probability, settled, standing};
use crate::goals::{Goals, dominates};
use crate::history::History;
use crate::trial::{Measured, State, Trial};

/// Draws from a forecast: enough for a probability of a few hundredths.
const DRAWS: u64 = 1000;
/// Of how many finished trials, the last ones, the curves are learned from.
const TEACHERS: usize = 50;
/// As how many finished trials the model's own word counts for how far off its forecasts are.
const TRUST: f64 = 4.0;
/// How many standard deviations off a forecast counts for at most.
const FURTHEST: f64 = 4.0;

/// Ends a trial at a rung when the probability is below `threshold` that, at the full budget, it holds all constraints and no finished
/// feasible trial dominates it. Each objective and constraint is forecast from all reports of the trial ([`Curve`]); it needs three.
///
/// The forecasts are made with what the study's finished trials teach, of the shapes of their curves and of how far off the
/// same forecast would have been for each of them: by that much they are moved and widened. While no trial is finished and
/// feasible, no trial is ended.
#[derive(Clone, Debug)]
pub struct Extrapolation {
    rungs: Rungs,
    threshold: f64,
}

impl Extrapolation {
    /// A threshold of 0.05 is usual.
    ///
    /// # Errors
    /// [`StoppingError`] when `threshold` is no probability.
    pub fn new(rungs: Rungs, threshold: f64) -> Result<Self, StoppingError> {
        Ok(Self { rungs, threshold: probability("threshold", threshold)? })
    }

    /// What the objectives, as losses, and then the constraints are believed to be at the full budget; none with fewer than three reports.
    pub fn forecasts(&self, history: &History, trial: &Trial) -> Option<Vec<Forecast>> {
        axes(history.goals()).map(|axis| forecast(history, trial, axis, self.rungs.full())).collect()
    }

    /// The probability that the trial ends on the front; none where that cannot be told.
    pub fn chance(&self, history: &History, trial: &Trial) -> Option<f64> {
        let goals = history.goals();
        let feasible = |(_, result): (&Trial, &Measured)| goals.is_feasible(result).then(|| goals.losses(result));
        let front: Vec<Vec<f64>> = finished(history).filter_map(feasible).collect();
        if front.is_empty() {
            return None;
        }
        let forecasts = self.forecasts(history, trial)?;
        let random = Random::new(trial.number, "search.extrapolation");
        // The axes are drawn one by one: what they have in common beyond the trial itself is not known.
        let wins = |draw: &u64| {
            let place = |(axis, forecast): (usize, &Forecast)| forecast.draw(random.within(axis as u64).within(*draw));
            let drawn: Vec<f64> = forecasts.iter().enumerate().map(place).collect();
            let (losses, constraints) = drawn.split_at(goals.objectives.len());
            constraints.iter().all(|value| *value <= 0.0) && !front.iter().any(|best| dominates(best, losses))
        };
        Some((0..DRAWS).filter(wins).count() as f64 / DRAWS as f64)
    }
}

impl Stopping for Extrapolation {
    fn name(&self) -> &'static str {
        "extrapolation"
    }

    fn rungs(&self) -> &Rungs {
        &self.rungs
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        if let Some(decision) = settled(trial) {
            return decision;
        }
        let Some(last) = standing(&self.rungs, trial) else { return Decision::Continue };
        match self.chance(history, trial) {
            Some(chance) if chance < self.threshold => Decision::Stop {
                reason: format!(
                    "at step {} the chance to end on the front is {:.1} %, below {:.1} %",
                    last.step,
                    100.0 * chance,
                    100.0 * self.threshold
                ),
            },
            _ => Decision::Continue,
        }
    }
}

/// What is forecast: objectives, as losses, then constraints.
#[derive(Clone, Copy, Debug)]
pub(super) enum Axis {
    Objective(usize),
    Constraint(usize),
}

fn axes(goals: &Goals) -> impl Iterator<Item = Axis> {
    let objectives = (0..goals.objectives.len()).map(Axis::Objective);
    objectives.chain((0..goals.constraints.len()).map(Axis::Constraint))
}

impl Axis {
    fn of(self, goals: &Goals, measured: &Measured) -> f64 {
        match self {
            Self::Objective(index) => goals.losses(measured)[index],
            Self::Constraint(index) => measured.constraints.get(index).copied().unwrap_or(f64::NAN),
        }
    }
}

/// What an axis of `trial` will be at the full budget, from its finite reports and from the finished trials; none with fewer than
/// three of them.
pub(super) fn forecast(history: &History, trial: &Trial, axis: Axis, full: u64) -> Option<Forecast> {
    let goals = history.goals();
    let upto = |trial: &Trial, step: u64| -> Vec<(f64, f64)> {
        let reports = trial.reports.iter().filter(|report| report.step <= step);
        let points = reports.map(|report| (report.step as f64 / full as f64, axis.of(goals, &report.measured)));
        points.filter(|(_, value)| value.is_finite()).collect()
    };
    let step = trial.last()?.step.min(full);
    let own = upto(trial, step);
    let teachers = finished(history).rev().map(|(teacher, result)| (teacher, axis.of(goals, result)));
    let teachers: Vec<(&Trial, f64)> = teachers.filter(|(_, end)| end.is_finite()).take(TEACHERS).collect();
    let whole = |&(teacher, end): &(&Trial, f64)| {
        let mut points = upto(teacher, step.min(full - 1));
        points.push((1.0, end));
        points
    };
    let curves: Vec<Vec<(f64, f64)>> = teachers.iter().map(whole).collect();
    let curve = Curve::learned(curves.iter().map(Vec::as_slice));
    // How far off the same forecast would have been, in its standard deviations. One that is far off, as where a run broke down
    // late, is not to teach that anything may happen.
    let off = |&(teacher, end): &(&Trial, f64)| {
        let forecast = curve.forecast(&upto(teacher, step), 1.0)?;
        Some(((end - forecast.mean()) / forecast.deviation()).clamp(-FURTHEST, FURTHEST))
    };
    let off: Vec<f64> = teachers.iter().filter_map(off).collect();
    let count = TRUST + off.len() as f64;
    let bias = off.iter().sum::<f64>() / count;
    let spread = ((TRUST + off.iter().map(|off| (off - bias).powi(2)).sum::<f64>()) / count).sqrt();
    let forecast = curve.forecast(&own, 1.0)?;
    Some(forecast.adjusted(bias * forecast.deviation(), spread))
}

/// The trials that had their full budget and ended with finite objectives, and with which.
fn finished(history: &History) -> impl DoubleEndedIterator<Item = (&Trial, &Measured)> {
    let complete = history.trials().iter().filter(|trial| trial.state == State::Complete);
    let results = complete.filter_map(|trial| Some((trial, trial.result.as_ref()?)));
    results.filter(|(_, result)| history.goals().is_sound(result))
}
