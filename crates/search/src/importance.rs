//! Which parameters an objective depends on: functional analysis of variance over a random forest.
//!
//! A forest is fitted to what the trials measured, as a function over the unit scales of the space. The *share* of a parameter is
//! that part of the forest's variance over the space which is left when all other parameters are averaged out: its main effect
//! (Hutter, Hoos and Leyton-Brown, An Efficient Approach for Assessing Hyperparameter Importance, ICML 2014). What the shares
//! leave of 1 is interactions. Of two methods this one answers the question that people ask ("what does the result depend
//! on?"): PED-ANOVA (Watanabe, Bansal and Hutter, IJCAI 2023) tells what the best tenth of the trials has in common, and with the
//! few dozen trials of a study that tenth is a handful; nor does it say when nothing can be told.
//!
//! - A parameter that is not active in a trial has no effect there: each tree draws its coordinate evenly, as the space
//!   would, so that a conditional parameter is weighed with how often it is active. The parts of a simplex are one entry.
//! - Trees come in bags, each over one resample of the trials: the deviation of the shares between bags is the bootstrap's
//!   standard error (bags: Athey, Tibshirani and Wager, Generalized Random Forests, 2019, section 4.1).
//! - The forest must predict trials that its trees have not seen; where it does not, there is no answer.
//! - Few trials of a study with early stopping come to their end. Where they are too few, all are compared at the
//!   highest step at which enough of them reported.
//! - A loss of infinity, or far beyond the others, is bad but not that much worse: it is brought to the fence and counted.
//!
//! Beside Optuna 5.0.0 on equal data, two functions whose shares are known (`additive` and `conditional` of the tests), 100 trials;
//! its shares are scaled to the sum 1, its fANOVA weighs a logarithmic range by plain numbers and leaves conditional
//! parameters out:
//!
//! | share of | truth | here | its fANOVA | its PED-ANOVA |
//! |---|---|---|---|---|
//! | rate, logarithmic | 0.56 | 0.61 ± 0.05 | 0.17 | 0.70 |
//! | share | 0.25 | 0.22 ± 0.03 | 0.57 | 0.19 |
//! | mode | 0.19 | 0.15 ± 0.04 | 0.24 | 0.07 |
//! | idle | 0 | 0.00 ± 0.00 | 0.03 | 0.05 |
//! | mode, which rank depends on | 0.6 | 0.61 ± 0.01 | 0.79 | 0.95 |
//! | rank | 0.2 | 0.21 ± 0.01 | absent | 0.00 |
//! | idle | 0 | 0.00 ± 0.01 | 0.21 | 0.05 |

mod forest;

use forest::Forest;
use serde::Serialize;

use crate::goals::Direction;
use crate::history::History;
use crate::space::Space;
use crate::trial::{Measured, State, Trial};

/// Trials that an answer takes, at least; and at least this many a parameter.
const FEWEST: usize = 16;
const FEWEST_A_PARAMETER: usize = 3;
/// What the forest must explain of trials that it has not seen; of a worse fit the shares are mostly noise.
const EXPLAINED: f64 = 0.25;
/// Tukey's outer fence: this many times the middle half's width beyond it.
const FENCE: f64 = 3.0;

/// What an objective depends on.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Importance {
    /// Each parameter that can vary, the parts of a simplex as one; the largest share first.
    pub shares: Vec<Share>,
    /// What the forest explains of the differences between trials that it has not seen: 1 is all, 0 is no better than the mean.
    pub explained: f64,
    /// The trials that this rests on.
    pub trials: usize,
    /// The step at which they are compared; none: at their end.
    pub step: Option<u64>,
    /// Trials with a measurement there that is no number, or whose values are no longer in the space.
    pub left_out: usize,
    /// Infinite values and values beyond the fence, which were brought to it.
    pub clipped: usize,
}

/// The part that one parameter has.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Share {
    /// The parameter, or the simplex.
    pub name: String,
    /// Its main effect: a share of the variance, 0 to 1.
    pub share: f64,
    /// One standard error of it.
    pub error: f64,
}

/// Why the importance cannot be told.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum Untold {
    /// Too few trials have a number.
    #[error("not enough trials: {have} can be compared, {needed} are needed")]
    TooFew {
        /// The most that can be compared, at their end or at one step.
        have: usize,
        /// How many it takes with this space.
        needed: usize,
    },
    /// No parameter can vary.
    #[error("the space has one point")]
    OnePoint,
    /// Nothing differs.
    #[error("all {trials} trials measured the same")]
    Alike {
        /// How many.
        trials: usize,
    },
    /// The parameters do not predict the objective.
    #[error(
        "the parameters do not tell: of {trials} trials that it had not seen, a forest explained {:.0} % of the differences",
        100.0 * explained
    )]
    Unexplained {
        /// How many.
        trials: usize,
        /// As [`Importance::explained`]; below 0 where the mean would have been the better guess.
        explained: f64,
    },
}

/// What objective number `objective` depends on. The same history gives the same answer.
///
/// # Errors
/// [`Untold`] where it cannot be told.
pub fn importance(history: &History, objective: usize) -> Result<Importance, Untold> {
    let space = history.space();
    let groups = groups(space);
    if groups.is_empty() {
        return Err(Untold::OnePoint);
    }
    let free = groups.iter().map(|group| group.parameters.len()).sum::<usize>();
    let needed = FEWEST.max(FEWEST_A_PARAMETER * free);
    let (step, found) = comparable(history, objective, needed)?;
    let (values, clipped) = fenced(&found.values);
    if values.iter().all(|value| *value == values[0]) {
        return Err(Untold::Alike { trials: values.len() });
    }
    let forest = Forest::fit(space, &found.places, &values);
    let explained = forest.explained(&found.places, &values);
    if explained < EXPLAINED {
        return Err(Untold::Unexplained { trials: values.len(), explained });
    }
    let mut shares = forest.shares(&groups, values.len());
    shares.sort_by(|a, b| b.share.total_cmp(&a.share));
    Ok(Importance { shares, explained, trials: values.len(), step, left_out: found.left_out, clipped })
}

/// Parameters that are looked at as one.
struct Group {
    name: String,
    parameters: Vec<usize>,
}

/// The parts of a simplex are of one group, every other parameter is one; without those that have one value only.
fn groups(space: &Space) -> Vec<Group> {
    let parameters = space.parameters();
    let parts: usize = space.simplexes().iter().map(|simplex| simplex.shares().count() - 1).sum();
    let own = parameters.len() - parts;
    let single = |index: usize| Group { name: parameters[index].name.clone(), parameters: vec![index] };
    let mut groups: Vec<Group> =
        (0..own).filter(|&index| parameters[index].domain.cells() != Some(1)).map(single).collect();
    let mut next = own;
    for simplex in space.simplexes() {
        let end = next + simplex.shares().count() - 1;
        // Parts are named after their simplex: `mix/1`.
        let part = &parameters[next].name;
        let name = part.rsplit_once('/').map_or(part.as_str(), |(name, _)| name).to_owned();
        groups.push(Group { name, parameters: (next..end).collect() });
        next = end;
    }
    groups
}

/// Trials that can be compared.
#[derive(Default)]
struct Found {
    places: Vec<Vec<f64>>,
    values: Vec<f64>,
    left_out: usize,
}

/// What trials measured at their end, or, where too few came to it, at the highest step at which enough reported.
fn comparable(history: &History, objective: usize, needed: usize) -> Result<(Option<u64>, Found), Untold> {
    let all = || history.trials().iter().zip(history.coordinates());
    let find = |measured: &dyn Fn(&Trial) -> Option<f64>| {
        let mut found = Found::default();
        for (trial, place) in all() {
            match measured(trial) {
                Some(value) if !value.is_nan() && history.space().check_point(&trial.point).is_ok() => {
                    found.places.push(place.clone());
                    found.values.push(value);
                }
                Some(_) => found.left_out += 1,
                None => {}
            }
        }
        found
    };
    // An infinity is broken whichever way it points.
    let broken = match history.goals().objectives[objective].direction {
        Direction::Minimize => f64::INFINITY,
        Direction::Maximize => f64::NEG_INFINITY,
    };
    let value = |measured: &Measured| match measured.values.get(objective) {
        Some(value) if value.is_infinite() => broken,
        value => value.copied().unwrap_or(f64::NAN),
    };
    let ends = find(&|trial| match trial.state {
        State::Complete => Some(trial.result.as_ref().map_or(f64::NAN, value)),
        State::Failed => Some(f64::NAN),
        _ => None,
    });
    let mut most = ends.values.len();
    if most >= needed {
        return Ok((None, ends));
    }
    let mut steps: Vec<u64> = all().flat_map(|(trial, _)| trial.reports.iter().map(|report| report.step)).collect();
    steps.sort_unstable();
    steps.dedup();
    for step in steps.into_iter().rev() {
        let there = find(&|trial| trial.at(step).map(|report| value(&report.measured)));
        most = most.max(there.values.len());
        if there.values.len() >= needed {
            return Ok((Some(step), there));
        }
    }
    Err(Untold::TooFew { have: most, needed })
}

/// The values with those beyond the fences brought to them, and how many.
fn fenced(values: &[f64]) -> (Vec<f64>, usize) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let finite: Vec<f64> = sorted.iter().copied().filter(|value| value.is_finite()).collect();
    let (Some(&lowest), Some(&highest)) = (finite.first(), finite.last()) else {
        // Infinities alone: which sign they have is all that there is.
        return (values.iter().map(|value| value.signum()).collect(), values.len());
    };
    let quarter = |share: f64| finite[((finite.len() - 1) as f64 * share).round() as usize];
    let (low, high) = (quarter(0.25), quarter(0.75));
    let width = high - low;
    let (mut floor, mut ceiling) = (low - FENCE * width, high + FENCE * width);
    if !(width > 0.0 && width.is_finite()) {
        // Half of the values are one and the same, and no fence follows from them.
        (floor, ceiling) = (lowest, highest);
    }
    let clamped = values.iter().map(|value| value.clamp(floor, ceiling)).collect();
    (clamped, values.iter().filter(|value| !(floor..=ceiling).contains(value)).count())
}

#[cfg(test)]
mod tests;
