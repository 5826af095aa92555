//! The answer of a study: its front, one recommendation and why, and how sure that is.

use std::collections::BTreeMap;

use serde::Serialize;
use temper_search::{Direction, Goals, History, Measured, State, Trial};

/// A trial that was trained again under other seeds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Repeated {
    /// Its number.
    pub number: u64,
    /// Of each seed, the first that of the search, what was measured at its full length; none where it failed.
    pub runs: Vec<(u64, Option<Measured>)>,
}

/// What a study recommends.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Answer {
    /// Numbers of the trials that nothing dominates, by the first objective, the best first.
    pub front: Vec<u64>,
    /// The recommended trial; none where none came to its full length.
    pub recommended: Option<u64>,
    /// Why.
    pub reason: String,
    /// Whether the recommended one keeps every constraint.
    pub feasible: bool,
    /// Standard deviation of each objective over seeds, pooled over the trials that were repeated; empty where none was.
    pub noise: Vec<f64>,
}

/// How many standard deviations of the difference of two means still count as alike.
const ALIKE: f64 = 1.0;

/// The means over seeds of the trials that came to their full length.
fn means<'h>(history: &'h History, repeated: &[Repeated]) -> Vec<(&'h Trial, Measured, usize)> {
    let finished = history.trials().iter().filter(|trial| trial.state == State::Complete);
    let measured = finished.filter_map(|trial| Some((trial, trial.result.clone()?)));
    measured
        .map(|(trial, own)| {
            let runs = repeated.iter().find(|repeated| repeated.number == trial.number).map_or(&[][..], |r| &r.runs);
            let all: Vec<&Measured> = runs.iter().filter_map(|(_, measured)| measured.as_ref()).collect();
            if all.len() < 2 {
                return (trial, own, 1);
            }
            let mean = |of: &dyn Fn(&Measured) -> &[f64], index: usize| {
                all.iter().map(|measured| of(measured).get(index).copied().unwrap_or(f64::NAN)).sum::<f64>()
                    / all.len() as f64
            };
            let mean = Measured {
                values: (0..own.values.len()).map(|index| mean(&|m| &m.values, index)).collect(),
                constraints: (0..own.constraints.len()).map(|index| mean(&|m| &m.constraints, index)).collect(),
            };
            (trial, mean, all.len())
        })
        .collect()
}

/// Standard deviation of each objective over seeds, pooled over the trials.
fn noise(goals: &Goals, repeated: &[Repeated]) -> Vec<f64> {
    let deviation = |objective: usize| {
        let (mut squares, mut freedom) = (0.0, 0.0);
        for one in repeated {
            let runs = one.runs.iter().filter_map(|(_, measured)| measured.as_ref());
            let values: Vec<f64> =
                runs.filter_map(|m| m.values.get(objective).copied()).filter(|v| v.is_finite()).collect();
            if values.len() > 1 {
                let mean = values.iter().sum::<f64>() / values.len() as f64;
                squares += values.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
                freedom += values.len() as f64 - 1.0;
            }
        }
        (freedom > 0.0).then(|| (squares / freedom).sqrt())
    };
    let all: Option<Vec<f64>> = (0..goals.objectives.len()).map(deviation).collect();
    all.unwrap_or_default()
}

impl Answer {
    /// Of a study so far.
    ///
    /// Recommended is, of the trials that came to their full length and keep every constraint, the best by the first objective;
    /// where others are as good as it by what seeds alone change (one standard deviation of the difference of two means), the best
    /// of these by the second. Without one that keeps the constraints, it is the one that breaks them least.
    pub fn of(history: &History, repeated: &[Repeated]) -> Self {
        let goals = history.goals();
        let means = means(history, repeated);
        let noise = noise(goals, repeated);
        let measured: Vec<&Measured> = means.iter().map(|(_, mean, _)| mean).collect();
        let losses: Vec<Vec<f64>> = measured.iter().map(|mean| goals.losses(mean)).collect();
        let first = |index: &usize| losses[*index][0];
        let mut front = goals.front(&measured);
        front.sort_by(|a, b| first(a).total_cmp(&first(b)));
        let numbers = front.iter().map(|&index| means[index].0.number).collect();
        let none = |reason: &str| Self {
            front: Vec::new(),
            recommended: None,
            reason: reason.to_owned(),
            feasible: false,
            noise: Vec::new(),
        };
        let Some(&best) = front.first() else {
            return none(match means.len() {
                0 => "no trial has come to its full length",
                _ => "no trial that came to its full length has a number on every objective",
            });
        };
        if !goals.is_feasible(measured[best]) {
            return Self {
                front: numbers,
                recommended: Some(means[best].0.number),
                reason: format!("no trial keeps every constraint: {} breaks them least", means[best].0.number),
                feasible: false,
                noise,
            };
        }
        // What is alike by the first objective is decided by the second.
        let width = |a: usize, b: usize| {
            let runs = |index: usize| 1.0 / means[index].2 as f64;
            noise.first().map_or(0.0, |deviation| ALIKE * deviation * (runs(a) + runs(b)).sqrt())
        };
        let alike: Vec<usize> =
            front.iter().copied().filter(|&other| first(&other) <= first(&best) + width(best, other)).collect();
        let chosen = match losses[best].len() {
            1 => best,
            _ => alike.iter().copied().min_by(|a, b| losses[*a][1].total_cmp(&losses[*b][1])).unwrap_or(best),
        };
        let names: Vec<&str> = goals.objectives.iter().map(|objective| objective.name.as_str()).collect();
        let said = |index: usize| {
            let values = names.iter().zip(&measured[index].values);
            values.map(|(name, value)| format!("{name} {value:.4}")).collect::<Vec<_>>().join(", ")
        };
        let constraints = if goals.constraints.is_empty() { "" } else { " of those that keep every constraint" };
        let reason = if chosen == best {
            format!("trial {}: {}, the best {}{constraints}", means[best].0.number, said(best), names[0])
        } else {
            format!(
                "trial {}: {}; trial {} has {}, and {} alone differs so much between seeds, so that {} decides",
                means[chosen].0.number,
                said(chosen),
                means[best].0.number,
                said(best),
                names[0],
                names[1]
            )
        };
        Self { front: numbers, recommended: Some(means[chosen].0.number), reason, feasible: true, noise }
    }

    /// Trials to be trained again under other seeds: those that could be recommended, the first of them first, the recipe's own with
    /// them.
    pub fn finalists(history: &History, count: usize) -> Vec<u64> {
        let mut left = history.clone();
        let mut chosen = Vec::new();
        let feasible = |history: &History, number: u64| {
            let result = history.trial(number).and_then(|trial| trial.result.as_ref());
            result.is_some_and(|result| history.goals().is_feasible(result))
        };
        while chosen.len() < count {
            let Some(next) = Self::of(&left, &[]).recommended else { break };
            // A trial that breaks a constraint is worth repeating only where none keeps them.
            if !chosen.is_empty() && !feasible(&left, next) {
                break;
            }
            chosen.push(next);
            if let Some(trial) = left.trial(next).cloned() {
                left.put(Trial { state: State::Failed, result: None, ..trial });
            }
        }
        let complete = history.trial(0).is_some_and(|own| own.state == State::Complete);
        if !chosen.is_empty() && complete && !chosen.contains(&0) {
            chosen.push(0);
        }
        chosen
    }
}

/// By how much the recommended trial is better than the recipe's own on one objective, over the seeds both have.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Lead {
    /// The objective.
    pub objective: String,
    /// Mean of recommended minus own; lower or higher is better as the objective says.
    pub difference: f64,
    /// Its 95 % interval by Student's t over paired seeds; none with fewer than two.
    pub interval: Option<(f64, f64)>,
    /// Whether that is better.
    pub better: bool,
    /// Seeds in pairs.
    pub seeds: usize,
}

/// The lead of `number` over trial 0 on validation. It is biased by the search, which chose the best of many on the same rows: the test
/// rows say more.
pub fn leads(history: &History, repeated: &[Repeated], number: u64) -> Vec<Lead> {
    let runs = |number: u64| -> BTreeMap<u64, Measured> {
        let repeated = repeated.iter().find(|one| one.number == number);
        let runs = repeated.into_iter().flat_map(|one| &one.runs);
        let mut runs: BTreeMap<u64, Measured> =
            runs.filter_map(|(seed, measured)| Some((*seed, measured.clone()?))).collect();
        if runs.is_empty()
            && let Some(result) = history.trial(number).and_then(|trial| trial.result.clone())
        {
            runs.insert(0, result);
        }
        runs
    };
    let (own, theirs) = (runs(0), runs(number));
    let objectives = history.goals().objectives.iter().enumerate();
    objectives
        .filter_map(|(index, objective)| {
            let pairs: Vec<f64> = theirs
                .iter()
                .filter_map(|(seed, one)| Some(one.values.get(index)? - own.get(seed)?.values.get(index)?))
                .filter(|difference| difference.is_finite())
                .collect();
            let n = pairs.len() as f64;
            let difference = pairs.iter().sum::<f64>() / n;
            if pairs.is_empty() {
                return None;
            }
            let interval = (pairs.len() > 1).then(|| {
                let variance = pairs.iter().map(|d| (d - difference).powi(2)).sum::<f64>() / (n - 1.0);
                let half = student_95(pairs.len() - 1) * (variance / n).sqrt();
                (difference - half, difference + half)
            });
            let better = match objective.direction {
                Direction::Minimize => difference < 0.0,
                Direction::Maximize => difference > 0.0,
            };
            Some(Lead { objective: objective.name.clone(), difference, interval, better, seeds: pairs.len() })
        })
        .collect()
}

/// The 97.5 % point of Student's t (any table of it; beyond 10 degrees of freedom by the expansion of Cornish and Fisher).
fn student_95(freedom: usize) -> f64 {
    const TABLE: [f64; 10] = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228];
    let z: f64 = 1.959_964;
    let n = freedom as f64;
    TABLE.get(freedom.saturating_sub(1)).copied().unwrap_or(z + (z.powi(3) + z) / (4.0 * n))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use temper_search::{Domain, Goals, Objective, Parameter, Point, Space};

    use super::*;

    fn history(results: &[(f64, f64, f64)]) -> History {
        let objective = |name: &str| Objective { name: name.into(), direction: Direction::Minimize };
        let goals =
            Goals { objectives: vec![objective("loss"), objective("forgetting")], constraints: vec!["floor".into()] };
        let space = Space::new(vec![Parameter::new("x", Domain::float(0.0, 1.0))], vec![], vec![]).unwrap();
        let mut history = History::new(space, goals);
        for (number, (loss, forgetting, floor)) in results.iter().enumerate() {
            let result = Some(Measured { values: vec![*loss, *forgetting], constraints: vec![*floor] });
            let trial = Trial::new(number as u64, Point::from([("x".into(), 0.5.into())]));
            history.put(Trial { state: State::Complete, result, ..trial });
        }
        history
    }

    #[test]
    fn the_best_that_keeps_the_floor_is_recommended_and_the_front_is_told() {
        let history = history(&[(2.0, 0.5, -1.0), (1.0, 3.0, 0.5), (1.2, 1.5, -0.5), (1.5, 0.1, -1.0)]);
        let answer = Answer::of(&history, &[]);
        assert_eq!((answer.recommended, answer.feasible), (Some(2), true));
        assert_eq!(answer.front, [2, 3]);
        assert!(answer.reason.contains("trial 2: loss 1.2000, forgetting 1.5000"), "{}", answer.reason);
        assert_eq!(Answer::finalists(&history, 2), [2, 3, 0]);
    }

    #[test]
    fn where_none_keeps_the_floor_that_is_said() {
        let answer = Answer::of(&history(&[(2.0, 9.0, 3.0), (3.0, 5.0, 0.5)]), &[]);
        assert_eq!((answer.recommended, answer.feasible), (Some(1), false));
        assert!(answer.reason.starts_with("no trial keeps every constraint"));
        assert_eq!(Answer::of(&history(&[]), &[]).recommended, None);
    }

    #[test]
    fn an_infinity_on_the_good_side_is_neither_recommended_nor_on_the_front() {
        let broken = f64::NEG_INFINITY;
        let answer = Answer::of(&history(&[(2.0, 0.5, -1.0), (broken, 0.1, -1.0), (1.0, broken, -1.0)]), &[]);
        assert_eq!((answer.recommended, answer.front), (Some(0), vec![0]));
        assert_eq!(Answer::finalists(&history(&[(2.0, 0.5, -1.0), (broken, 0.1, -1.0)]), 2), [0]);
        let answer = Answer::of(&history(&[(broken, 0.5, -1.0)]), &[]);
        assert_eq!((answer.recommended, answer.front), (None, vec![]));
        assert!(answer.reason.contains("has a number on every objective"), "{}", answer.reason);
    }

    #[test]
    fn what_seeds_alone_change_does_not_decide() {
        let history = history(&[(2.0, 0.5, -1.0), (1.00, 3.0, -1.0), (1.05, 0.2, -1.0)]);
        let run =
            |seed, loss, forgetting| (seed, Some(Measured { values: vec![loss, forgetting], constraints: vec![-1.0] }));
        let repeated = [
            Repeated { number: 1, runs: vec![run(1, 1.00, 3.0), run(2, 1.20, 3.0)] },
            Repeated { number: 2, runs: vec![run(1, 1.05, 0.2), run(2, 1.25, 0.2)] },
            Repeated { number: 0, runs: vec![run(1, 2.0, 0.5), run(2, 2.2, 0.5)] },
        ];
        let answer = Answer::of(&history, &repeated);
        assert_eq!(answer.recommended, Some(2), "{}", answer.reason);
        assert!(answer.reason.contains("forgetting decides"), "{}", answer.reason);
        let lead = &leads(&history, &repeated, 2)[0];
        assert!(lead.better && lead.seeds == 2 && (lead.difference + 0.95).abs() < 1e-12, "{lead:?}");
    }
}
