//! Whether a trial is worth going on with, when there are several objectives and constraints.
//!
//! Every rule is a function of the [`History`] alone. It remembers nothing itself, so that nothing is lost with a process, and a
//! decision that is asked for again over the same history is the same. What a rule compares are reports at equal steps, at the
//! [`Rungs`]; the directions are those of the study's goals; a trial that breaks a constraint stands behind all that hold them, and
//! before those that break them by more.
//!
//! | what comes | what it means |
//! |---|---|
//! | a report between rungs | it is kept, and counts for [`Extrapolation`] and [`Hopeless`]; no trials are compared there |
//! | a report at the full budget or beyond | nothing is left to decide: the trial goes on to its end |
//! | an objective that is NaN, infinite or missing | the report stands behind all others of its rung, whatever its other values: it is never promoted, nor the best of anything; [`Hopeless`] ends the trial |
//! | a constraint that is NaN or missing | broken without bound: behind all that break it by a finite amount |
//! | a rung that a trial skipped | it is not compared there, and counts neither for nor against others; at its next rung it is |
//! | a report at a lower step than the last one, or after the end of its trial | it takes its place by step, as if it had come in time: others are compared with it from then on; its own trial is judged by its highest step |
//! | a second report of one step | it does not count: the first one stays |
//! | a report of a trial that has ended | the answer is [`Decision::Stop`]: whoever still works on it is to end |
//! | a report of a paused trial | the answer is [`Decision::Pause`]: whoever takes it up is told so by [`Stopping::resume`] |
//! | a paused trial that no rule paused | it was interrupted: it is gone on with before any other |

mod asha;
mod curve;
mod extrapolation;
mod hopeless;
mod hyperband;
mod median;
mod order;
mod paired;
mod rungs;
mod together;

pub use asha::{Asha, Mode};
pub use curve::{Curve, Forecast};
pub use extrapolation::Extrapolation;
pub use hopeless::{Divergence, Hopeless};
pub use hyperband::Hyperband;
pub use median::Median;
pub use paired::{Paired, p_worse};
pub use rungs::Rungs;
pub use together::Together;

use crate::history::History;
use crate::trial::{State, Trial};

/// What is to be done with a trial that has just reported.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It stops here, and may be gone on with from its checkpoint.
    Pause {
        /// Why, in one line.
        reason: String,
    },
    /// It ends here.
    Stop {
        /// Why, in one line.
        reason: String,
    },
}

/// What cannot be a rule.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum StoppingError {
    /// A reduction that reduces nothing.
    #[error("reduction: expected at least 2, got {0}")]
    Reduction(u64),
    /// A first rung that is not within the budget.
    #[error("minimum: expected a first rung from 1 to the full budget {full}, got {minimum}")]
    Minimum {
        /// The first rung that was asked for.
        minimum: u64,
        /// The full budget.
        full: u64,
    },
    /// Steps that are no rungs.
    #[error("rungs: expected steps above 0, each above the one before it, got {0:?}")]
    Rungs(Vec<u64>),
    /// A probability that is none.
    #[error("{name}: expected a probability above 0 and below 1, got {got}")]
    Probability {
        /// Which one.
        name: &'static str,
        /// What was given.
        got: f64,
    },
    /// Rules that do not go together.
    #[error("rules: {0}")]
    Rules(String),
}

/// Decides whether trials go on.
pub trait Stopping: Send + Sync {
    /// What the user calls it.
    fn name(&self) -> &'static str;

    /// The steps at which trials are to report: the last one is the full budget.
    fn rungs(&self) -> &Rungs;

    /// What is to be done with `trial`, whose last report has just come and is in `history`.
    fn decide(&self, history: &History, trial: &Trial) -> Decision;

    /// Whether the rule ever pauses.
    fn pauses(&self) -> bool {
        false
    }

    /// A paused trial that has become worth going on with; none: begin a new one. When `closing`, no new trial may begin: then each
    /// rung sends on one trial at least, so that the study ends with a result, and none means that the study is at its end.
    ///
    /// With a rule that never pauses, a paused trial was interrupted, and goes on.
    fn resume(&self, history: &History, _closing: bool) -> Option<u64> {
        first_paused(history)
    }
}

/// The first paused trial of all.
fn first_paused(history: &History) -> Option<u64> {
    history.trials().iter().find(|trial| trial.state == State::Paused).map(|trial| trial.number)
}

/// The decision where there is none to be made: the trial has ended, or is paused.
fn settled(trial: &Trial) -> Option<Decision> {
    let because = trial.reason.as_deref().map(|reason| format!(": {reason}")).unwrap_or_default();
    match trial.state {
        State::Running | State::Stale => None,
        State::Paused => Some(Decision::Pause { reason: format!("it is paused{because}") }),
        State::Complete => Some(Decision::Stop { reason: "it has had its full budget".into() }),
        State::Pruned => Some(Decision::Stop { reason: format!("it was stopped before{because}") }),
        State::Failed => Some(Decision::Stop { reason: format!("it has failed{because}") }),
    }
}

/// The trial's report at a rung below the full budget, when that is its last one: what there is to judge.
fn standing<'a>(rungs: &Rungs, trial: &'a Trial) -> Option<&'a crate::trial::Report> {
    trial.last().filter(|last| rungs.decides(last.step))
}

/// The probability that a standard normal number is above `z`; with all its digits in the far tail, too.
fn above(z: f64) -> f64 {
    0.5 * libm::erfc(z * std::f64::consts::FRAC_1_SQRT_2)
}

/// Checks a probability.
fn probability(name: &'static str, got: f64) -> Result<f64, StoppingError> {
    if got > 0.0 && got < 1.0 { Ok(got) } else { Err(StoppingError::Probability { name, got }) }
}

#[cfg(test)]
mod tests;
