//! What better means: directions, constraints, and who beats whom.

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::trial::Measured;

/// Which way an objective is better.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Lower.
    Minimize,
    /// Higher.
    Maximize,
}

/// An axis on which trials are compared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objective {
    /// What it is called.
    pub name: String,
    /// Which way it is better.
    pub direction: Direction,
}

/// "loss (minimize)".
impl fmt::Display for Objective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let direction = match self.direction {
            Direction::Minimize => "minimize",
            Direction::Maximize => "maximize",
        };
        write!(f, "{} ({direction})", self.name)
    }
}

/// What a study seeks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Goals {
    /// At least one.
    pub objectives: Vec<Objective>,
    /// Names of what must be at most 0.
    pub constraints: Vec<String>,
}

impl Goals {
    /// One objective, nothing else.
    pub fn minimize(name: &str) -> Self {
        let objective = Objective { name: name.to_owned(), direction: Direction::Minimize };
        Self { objectives: vec![objective], constraints: Vec::new() }
    }

    /// The objectives as losses: lower is better, and what is missing or no finite number is the worst there is. An infinity is
    /// broken whichever way it points: no measurement is better than all others by any measure.
    pub fn losses(&self, measured: &Measured) -> Vec<f64> {
        let loss = |(index, objective): (usize, &Objective)| {
            let value = measured.values.get(index).copied().unwrap_or(f64::NAN);
            let loss = if objective.direction == Direction::Minimize { value } else { -value };
            if loss.is_finite() { loss } else { f64::INFINITY }
        };
        self.objectives.iter().enumerate().map(loss).collect()
    }

    /// Whether every objective is there and a finite number. What is not is broken: it stands behind all that is, whatever its other
    /// values, and is never on a front.
    pub fn is_sound(&self, measured: &Measured) -> bool {
        measured.values.len() == self.objectives.len() && measured.values.iter().all(|value| value.is_finite())
    }

    /// By how much the constraints are broken, all together: 0 where all hold. A constraint that is missing or no number is
    /// broken without bound.
    pub fn violation(&self, measured: &Measured) -> f64 {
        let broken = |index: usize| match measured.constraints.get(index) {
            Some(value) if !value.is_nan() => value.max(0.0),
            _ => f64::INFINITY,
        };
        (0..self.constraints.len()).map(broken).sum()
    }

    /// Whether all constraints hold.
    pub fn is_feasible(&self, measured: &Measured) -> bool {
        self.violation(measured) == 0.0
    }

    /// Ranks of measurements, 0 first: those that nothing dominates are of rank 0, without them of rank 1, and so on. What is
    /// feasible dominates what is not; of two that are not, the one that is broken by less (Deb et al., NSGA-II, 2002,
    /// section VI: constrained domination). What is not sound ([`Self::is_sound`]) is on one rank behind all that is.
    pub fn ranks(&self, all: &[&Measured]) -> Vec<usize> {
        let sound: Vec<usize> = (0..all.len()).filter(|&index| self.is_sound(all[index])).collect();
        let of_sound = self.ranks_of_sound(&sound.iter().map(|&index| all[index]).collect::<Vec<_>>());
        let behind = of_sound.iter().max().map_or(0, |last| last + 1);
        let mut ranks = vec![behind; all.len()];
        for (index, rank) in sound.into_iter().zip(of_sound) {
            ranks[index] = rank;
        }
        ranks
    }

    /// The sound ones that nothing beats, as indices: the front.
    pub fn front(&self, all: &[&Measured]) -> Vec<usize> {
        let ranks = self.ranks(all);
        (0..all.len()).filter(|&index| ranks[index] == 0 && self.is_sound(all[index])).collect()
    }

    fn ranks_of_sound(&self, all: &[&Measured]) -> Vec<usize> {
        let losses: Vec<Vec<f64>> = all.iter().map(|measured| self.losses(measured)).collect();
        let violations: Vec<f64> = all.iter().map(|measured| self.violation(measured)).collect();
        // In this order nothing is beaten by what comes after it, so that each has its rank from those before it alone; and what is
        // beaten by one of a rank is beaten by one of each rank before, so that its own is found by halving (ENS-BS: Zhang et al.,
        // An Efficient Approach to Nondominated Sorting, 2015).
        let mut order: Vec<usize> = (0..all.len()).collect();
        order.sort_by(|&a, &b| {
            // None of these is NaN; and 0 and -0 are one number to `dominates`.
            let strength = |index: usize| std::iter::once(&violations[index]).chain(&losses[index]);
            strength(a).partial_cmp(strength(b)).unwrap_or(Ordering::Equal)
        });
        let beats = |a: usize, b: usize| match violations[b] == 0.0 {
            true => dominates(&losses[a], &losses[b]),
            false => violations[a] < violations[b],
        };
        let mut ranks = vec![0; all.len()];
        let mut fronts: Vec<Vec<usize>> = Vec::new();
        for one in order {
            let rank = fronts.partition_point(|front| front.iter().rev().any(|&other| beats(other, one)));
            if rank == fronts.len() {
                fronts.push(Vec::new());
            }
            fronts[rank].push(one);
            ranks[one] = rank;
        }
        ranks
    }
}

/// Whether `a` is at least as good on every axis and better on one. Both are losses.
pub fn dominates(a: &[f64], b: &[f64]) -> bool {
    a.iter().zip(b).all(|(a, b)| a <= b) && a.iter().zip(b).any(|(a, b)| a < b)
}

/// The volume between the losses of `points` and `reference`, counted once: points beyond the reference add nothing. Exact, by slices
/// along the last axis (Zitzler, 1999); for the few objectives and points of a study.
pub fn hypervolume(points: &[Vec<f64>], reference: &[f64]) -> f64 {
    let inside: Vec<&[f64]> = points
        .iter()
        .map(Vec::as_slice)
        .filter(|point| point.iter().zip(reference).all(|(value, bound)| value < bound))
        .collect();
    volume(inside, reference)
}

fn volume(mut points: Vec<&[f64]>, reference: &[f64]) -> f64 {
    let last = reference.len() - 1;
    points.sort_by(|a, b| a[last].total_cmp(&b[last]));
    if last == 0 {
        return points.first().map_or(0.0, |best| reference[0] - best[0]);
    }
    if last == 1 {
        // From below along the second axis, each point adds the strip that is left of all before it.
        let mut edge = reference[0];
        return points.iter().fold(0.0, |sum, point| {
            let width = (edge - point[0]).max(0.0);
            edge = edge.min(point[0]);
            sum + width * (reference[1] - point[1])
        });
    }
    (0..points.len()).fold(0.0, |sum, index| {
        let top = points.get(index + 1).map_or(reference[last], |next| next[last]);
        let depth = top - points[index][last];
        if depth <= 0.0 {
            return sum;
        }
        let slice = points[..=index].iter().map(|point| &point[..last]).collect();
        sum + depth * volume(slice, &reference[..last])
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn measured(values: &[f64], constraints: &[f64]) -> Measured {
        Measured { values: values.to_vec(), constraints: constraints.to_vec() }
    }

    fn two_axes() -> Goals {
        let objective = |name: &str, direction| Objective { name: name.into(), direction };
        Goals {
            objectives: vec![objective("loss", Direction::Minimize), objective("kept", Direction::Maximize)],
            constraints: vec!["floor".into()],
        }
    }

    #[test]
    fn ranks_put_what_holds_before_what_does_not_and_numbers_before_none() {
        let all = [
            measured(&[1.0, 1.0], &[0.0]),
            measured(&[2.0, 2.0], &[-1.0]),
            measured(&[2.0, 1.0], &[0.0]),
            measured(&[0.0, 9.0], &[0.5]),
            measured(&[0.0, 9.0], &[f64::NAN]),
            measured(&[f64::NAN, 3.0], &[0.0]),
        ];
        let ranks = two_axes().ranks(&all.iter().collect::<Vec<_>>());
        // The last one has the highest second value, and no loss.
        assert_eq!(ranks, [0, 0, 1, 2, 3, 4]);
    }

    #[test]
    fn an_infinity_is_broken_on_the_good_side_too() {
        let goals = two_axes();
        let sound = measured(&[1.0, 1.0], &[0.0]);
        for broken in [
            measured(&[f64::NEG_INFINITY, 9.0], &[0.0]),
            measured(&[0.0, f64::INFINITY], &[0.0]),
            measured(&[f64::INFINITY, 9.0], &[0.0]),
            measured(&[0.0], &[0.0]),
        ] {
            assert!(goals.losses(&broken).contains(&f64::INFINITY), "{broken:?}");
            assert_eq!(goals.ranks(&[&broken, &sound]), [1, 0], "{broken:?}");
            assert_eq!(goals.front(&[&broken, &sound]), [1], "{broken:?}");
            assert_eq!(goals.front(&[&broken]), [0; 0], "alone it is no front either: {broken:?}");
        }
    }

    #[test]
    fn ranks_are_those_of_peeling_front_after_front() {
        let random = temper_run::Random::new(1, "test");
        for (round, objectives) in [1usize, 2, 3].into_iter().enumerate() {
            // On a coarse grid, so that many are equal on some axis or on all, a third breaks the constraint, and some are no numbers.
            let value = |stream: temper_run::Random, index: u64| match stream.below(index, 9) {
                8 => f64::NAN,
                value => value as f64,
            };
            let all: Vec<Measured> = (0..120)
                .map(|index| {
                    let stream = random.within(round as u64).within(index);
                    let values: Vec<f64> = (0..objectives).map(|axis| value(stream, axis as u64)).collect();
                    measured(&values, &[stream.below(9, 9) as f64 - 5.0])
                })
                .collect();
            let objective = |index: usize| Objective {
                name: index.to_string(),
                direction: if index == 1 { Direction::Maximize } else { Direction::Minimize },
            };
            let goals =
                Goals { objectives: (0..objectives).map(objective).collect(), constraints: vec!["floor".into()] };
            let beats = |a: &Measured, b: &Measured| match (goals.violation(a), goals.violation(b)) {
                _ if !goals.is_sound(a) || !goals.is_sound(b) => goals.is_sound(a) && !goals.is_sound(b),
                (0.0, 0.0) => dominates(&goals.losses(a), &goals.losses(b)),
                (a, b) => a < b,
            };
            let mut expected = vec![usize::MAX; all.len()];
            for rank in 0..all.len() {
                let left: Vec<usize> = (0..all.len()).filter(|&one| expected[one] == usize::MAX).collect();
                for &one in left.iter().filter(|&&one| !left.iter().any(|&other| beats(&all[other], &all[one]))) {
                    expected[one] = rank;
                }
            }
            assert_eq!(goals.ranks(&all.iter().collect::<Vec<_>>()), expected);
        }
    }

    #[test]
    fn hypervolume_is_that_of_boxes_counted_by_hand() {
        assert_eq!(hypervolume(&[vec![0.25]], &[1.0]), 0.75);
        let points = [vec![1.0, 3.0], vec![2.0, 1.0], vec![3.0, 3.0], vec![9.0, 0.0]];
        assert_eq!(hypervolume(&points, &[4.0, 4.0]), 3.0 + 2.0 * 3.0 - 2.0);
        let cubes = [vec![0.0, 0.0, 1.0], vec![1.0, 1.0, 0.0]];
        assert_eq!(hypervolume(&cubes, &[2.0, 2.0, 2.0]), 4.0 + 2.0 - 1.0);
        assert_eq!(hypervolume(&[], &[2.0, 2.0, 2.0]), 0.0);
    }
}
