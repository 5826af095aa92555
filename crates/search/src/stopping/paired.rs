//! Worse than the best on the same items, beyond what noise would do.

use super::order::{Entry, at_rung, ranks};
use super::{Decision, Rungs, Stopping, StoppingError, above, probability, settled, standing};
use crate::goals::Direction;
use crate::history::History;
use crate::trial::{Report, Trial};

/// With fewer pairs that differ, nothing is tested: the test's level has been measured down to here. (Of right and wrong answers,
/// any number of those that agree say nothing.)
const PAIRS: usize = 10;

/// Ends a trial at a rung when a member of the front of the feasible trials there beats it on the same items: significantly on one
/// objective, and on no other is the trial's mean the better one.
///
/// The test is one-sided and paired, [`p_worse`]. It is done on every objective whose items both trials report, as many of each, and
/// against every member of the front, which was chosen from all others: `level` is divided by the number of objectives and of
/// other feasible trials at the rung (Bonferroni), so that it bounds the probability to end, at one rung, a trial that is as good as all
/// others. It is said of the items, not of the seeds: what another seed would have given is not in it.
#[derive(Clone, Debug)]
pub struct Paired {
    rungs: Rungs,
    level: f64,
}

impl Paired {
    /// A level of 0.05 is usual.
    ///
    /// # Errors
    /// [`StoppingError`] when `level` is no probability.
    pub fn new(rungs: Rungs, level: f64) -> Result<Self, StoppingError> {
        Ok(Self { rungs, level: probability("level", level)? })
    }
}

impl Stopping for Paired {
    fn name(&self) -> &'static str {
        "paired"
    }

    fn rungs(&self) -> &Rungs {
        &self.rungs
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        if let Some(decision) = settled(trial) {
            return decision;
        }
        let Some(own) = standing(&self.rungs, trial) else { return Decision::Continue };
        let goals = history.goals();
        let sound = |entry: &Entry<'_>| {
            goals.is_sound(&entry.report.measured)
                && goals.is_feasible(&entry.report.measured)
                && entry.trial.number != trial.number
        };
        let others: Vec<Entry<'_>> = at_rung(history, own.step).into_iter().filter(sound).collect();
        let level = self.level / (others.len() * goals.objectives.len()) as f64;
        let front = others.iter().zip(ranks(goals, &others)).filter(|(_, rank)| *rank == 0).map(|(entry, _)| entry);
        let losses = goals.losses(&own.measured);
        for best in front {
            let theirs = goals.losses(&best.report.measured);
            if losses.iter().zip(&theirs).any(|(own, theirs)| own < theirs) {
                continue;
            }
            for (axis, objective) in goals.objectives.iter().enumerate() {
                let Some(excess) = excesses(own, best.report, axis, objective.direction) else { continue };
                let Some(p) = p_worse(&excess).filter(|p| *p < level) else { continue };
                return Decision::Stop {
                    reason: format!(
                        "{} is worse than trial {}'s on {} items at step {}: p = {p:.2e}, below {level:.2e}",
                        objective.name,
                        best.trial.number,
                        excess.len(),
                        own.step
                    ),
                };
            }
        }
        Decision::Continue
    }
}

/// By how much `own` loses against `best` on each item; none where they did not report the same number of items. Pairs of which one
/// is no finite number are left out.
fn excesses(own: &Report, best: &Report, axis: usize, direction: Direction) -> Option<Vec<f64>> {
    let (own, best) = (own.items.get(axis)?, best.items.get(axis)?);
    if own.len() != best.len() {
        return None;
    }
    let sign = if direction == Direction::Minimize { 1.0 } else { -1.0 };
    let excess = own.iter().zip(best).map(|(own, best)| sign * (own - best));
    Some(excess.filter(|excess| excess.is_finite()).collect())
}

/// The one-sided p-value of the mean of paired differences being above 0, by the t test with Johnson's correction for
/// skewness (Johnson, Journal of the American Statistical Association, 1978, modified t of section 2). None where fewer than ten
/// are not 0.
///
/// A test of the mean, since it is a mean over items by which trials are ranked: a test of signs or ranks can call the one worse
/// whose mean is better. Where all differences are equal, p is 0 above 0 and else 1.
pub fn p_worse(differences: &[f64]) -> Option<f64> {
    if differences.iter().filter(|value| **value != 0.0).count() < PAIRS {
        return None;
    }
    let count = differences.len() as f64;
    let mean = differences.iter().sum::<f64>() / count;
    let moment = |power: i32| differences.iter().map(|value| (value - mean).powi(power)).sum::<f64>();
    let variance = moment(2) / (count - 1.0);
    if variance <= f64::EPSILON * f64::EPSILON * mean * mean {
        return Some(if mean > 0.0 { 0.0 } else { 1.0 });
    }
    let third = moment(3) * count / ((count - 1.0) * (count - 2.0));
    let shifted = mean + third / (6.0 * variance * count) + third * mean * mean / (3.0 * variance * variance);
    // The correction is a series about a mean of 0: where it turns the sign of the mean it says nothing.
    let corrected = if shifted * mean > 0.0 { shifted } else { mean };
    let t = corrected / (variance / count).sqrt();
    Some(above(as_normal(t, count - 1.0)))
}

/// The normal number that has the tail of Student's `t` (Wallace, Annals of Mathematical Statistics, 1959, section 3).
fn as_normal(t: f64, freedom: f64) -> f64 {
    let z = (freedom * (t * t / freedom).ln_1p()).sqrt() * (8.0 * freedom + 1.0) / (8.0 * freedom + 3.0);
    z.copysign(t)
}

#[cfg(test)]
mod tests {
    use temper_run::Random;

    use super::*;

    #[test]
    fn tails_of_t_are_those_of_the_tables() {
        // Quantiles of Student's t (any table): 5 % and 0.1 % at 9, 29 and 100 degrees of freedom.
        for (freedom, five, tenth) in [(9.0, 1.8331, 4.2968), (29.0, 1.6991, 3.3962), (100.0, 1.6602, 3.1737)] {
            assert!((above(as_normal(five, freedom)) - 0.05).abs() < 2e-4, "{freedom}");
            assert!((above(as_normal(tenth, freedom)) / 0.001 - 1.0).abs() < 0.05, "{freedom}");
        }
    }

    #[test]
    fn the_level_holds_for_skew_differences_too() {
        // Shares of p below 5 % where the true mean is 0, over 4,000 samples: one standard deviation is 0.35 %.
        let random = Random::new(1, "test");
        let share = |count: u64, draw: &dyn Fn(Random, u64) -> f64| {
            let rejected = (0..4000).filter(|&sample| {
                let differences: Vec<f64> = (0..count).map(|index| draw(random.within(sample), index)).collect();
                p_worse(&differences).is_some_and(|p| p < 0.05)
            });
            rejected.count() as f64 / 4000.0
        };
        let exponential = |stream: Random, index: u64| -(1.0 - stream.unit(index)).ln() - 1.0;
        for count in [10, 30, 100, 300] {
            let even = share(count, &|stream, index| stream.unit(index) - 0.5);
            let right = share(count, &exponential);
            let left = share(count, &|stream, index| -exponential(stream, index));
            // Right or wrong answers: each of the two alone is right in a tenth of the items.
            let wrong = share(count, &|stream, index| match (stream.unit(index) * 10.0) as u8 {
                0 => 1.0,
                1 => -1.0,
                _ => 0.0,
            });
            for rejected in [even, right, left, wrong] {
                assert!(rejected < 0.08, "{count}: {even} {right} {left} {wrong}");
            }
        }
    }

    #[test]
    fn a_difference_is_found_and_few_pairs_are_not_tested() {
        let noise = |index: u64| Random::new(3, "test").unit(index) - 0.5;
        let worse: Vec<f64> = (0..100).map(|index| 0.2 + noise(index)).collect();
        assert!(p_worse(&worse).unwrap() < 1e-6);
        assert!(p_worse(&worse.iter().map(|value| -value).collect::<Vec<_>>()).unwrap() > 0.999);
        assert_eq!(p_worse(&worse[..9]), None);
        assert_eq!(p_worse(&[0.5; 10]), Some(0.0));
        assert_eq!(p_worse(&[-0.5; 10]), Some(1.0));
        assert_eq!(p_worse(&[0.0; 100]), None);
    }
}
