//! What a trial means to a sampler.

use std::borrow::Cow;

use super::forecast::Forecast;
use crate::goals::{Goals, dominates};
use crate::history::History;
use crate::trial::{Measured, State, Trial};

/// How far the result of a trial can be relied on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Standing {
    /// Carried through: it means what it says.
    Whole,
    /// Not carried through, or not yet, but others have shown how it goes on from its last report: it counts as what is expected
    /// of it at its end.
    Expected,
    /// Pruned, or paused or running with a report, and nothing is known of the way from there: it counts by its last report, behind every
    /// trial that was carried through, and behind those that came further.
    Part {
        /// The step of that report; 0 of a pruned trial that kept none.
        step: u64,
    },
    /// Failed: nobody wants to be there again.
    Failed,
    /// Under way, and nothing is known of it yet: others are not to go to the same place.
    Pending,
}

/// One trial as a sampler sees it.
#[derive(Clone, Debug)]
pub(super) struct Seen<'a> {
    /// Coordinates, NaN where a parameter is not active.
    pub at: &'a [f64],
    /// What its numbers are worth.
    pub standing: Standing,
    /// Lower is better; none of these is NaN. Empty where nothing was measured.
    pub losses: Vec<f64>,
    /// By how much constraints are broken together, each in the unit of how far it is broken in the middle; 0: feasible. Without
    /// bound where an objective is no finite number.
    pub violation: f64,
    /// What was measured, or is expected.
    pub measured: Option<Cow<'a, Measured>>,
}

/// All trials, in their order.
pub(super) fn seen(history: &History) -> Vec<Seen<'_>> {
    let all = history.trials().iter().zip(history.coordinates());
    let forecast = Forecast::of(history);
    let mut all: Vec<Seen<'_>> = all.map(|(trial, at)| one(history.goals(), &forecast, trial, at)).collect();
    let constraints = history.goals().constraints.len();
    if constraints > 1 {
        let units: Vec<f64> = (0..constraints).map(|index| unit(&all, index)).collect();
        for seen in all.iter_mut().filter(|seen| seen.violation.is_finite()) {
            let broken = seen.measured.iter().flat_map(|measured| &measured.constraints);
            seen.violation = broken.zip(&units).map(|(by, unit)| by.max(0.0) / unit).sum();
        }
    }
    all
}

/// How far a constraint is broken in the middle of those that break it: constraints are measured in units of their own, and the sum of
/// them as they are would be that of the one with the largest numbers.
fn unit(all: &[Seen<'_>], constraint: usize) -> f64 {
    let broken = all.iter().filter_map(|seen| seen.measured.as_ref()?.constraints.get(constraint).copied());
    let mut broken: Vec<f64> = broken.filter(|by| by.is_finite() && *by > 0.0).collect();
    broken.sort_by(f64::total_cmp);
    broken.get(broken.len() / 2).copied().unwrap_or(1.0)
}

fn one<'a>(goals: &Goals, forecast: &Forecast, trial: &'a Trial, at: &'a [f64]) -> Seen<'a> {
    let reported = trial.last().map(|report| (report.step, &report.measured));
    let (standing, measured) = match (trial.state, &trial.result, reported) {
        (State::Failed, ..) | (State::Complete | State::Pruned, None, None) => (Standing::Failed, None),
        (State::Complete, Some(result), _) => (Standing::Whole, Some(result)),
        (State::Pruned, Some(result), reported) => {
            (Standing::Part { step: reported.map_or(0, |(step, _)| step) }, Some(result))
        }
        (_, _, Some((step, measured))) => (Standing::Part { step }, Some(measured)),
        (State::Running | State::Paused | State::Stale, _, None) => (Standing::Pending, None),
    };
    let expected = match (standing, measured) {
        (Standing::Part { step }, Some(measured)) => forecast.from(step, measured),
        _ => None,
    };
    let (standing, measured) = match expected {
        Some(expected) => (Standing::Expected, Some(Cow::Owned(expected))),
        None => (standing, measured.map(Cow::Borrowed)),
    };
    Seen {
        at,
        standing,
        losses: measured.as_deref().map(|measured| goals.losses(measured)).unwrap_or_default(),
        violation: measured.as_deref().map_or(0.0, |measured| match goals.is_sound(measured) {
            true => goals.violation(measured),
            false => f64::INFINITY,
        }),
        measured,
    }
}

/// Which trials are better than others, by as much as is known: those that hold all constraints, then those that break them by
/// less, last those without a number; of the former those that were carried through or of which the end is expected, then those that
/// came further; among equals those that fewer dominate.
/// The `wanted` first ones in this order, of those that were measured at all.
pub(super) fn best(all: &[Seen<'_>], wanted: usize) -> Vec<usize> {
    let place = |index: usize| {
        let seen = &all[index];
        let behind = match seen.standing {
            Standing::Part { step } => u64::MAX - step,
            _ => 0,
        };
        if seen.violation > 0.0 { (seen.violation, 0) } else { (0.0, behind) }
    };
    let mut order: Vec<usize> = (0..all.len()).filter(|&index| all[index].measured.is_some()).collect();
    let one_axis = order.iter().all(|&index| all[index].losses.len() == 1);
    order.sort_by(|&a, &b| {
        let ((violation_a, behind_a), (violation_b, behind_b)) = (place(a), place(b));
        let groups = violation_a.total_cmp(&violation_b).then(behind_a.cmp(&behind_b));
        // On one axis that is the whole order; on several, groups are ordered within below.
        groups.then_with(|| if one_axis { all[a].losses[0].total_cmp(&all[b].losses[0]) } else { a.cmp(&b) })
    });
    if one_axis {
        order.truncate(wanted);
        return order;
    }
    let mut chosen = Vec::with_capacity(wanted);
    for group in order.chunk_by(|&a, &b| place(a) == place(b)) {
        if chosen.len() >= wanted {
            break;
        }
        chosen.extend(least_dominated(all, group, wanted - chosen.len()));
    }
    chosen
}

/// The `wanted` first of a group: front by front, of the last one those that together cover the most.
fn least_dominated(all: &[Seen<'_>], group: &[usize], wanted: usize) -> Vec<usize> {
    let losses: Vec<&[f64]> = group.iter().map(|&index| all[index].losses.as_slice()).collect();
    let mut chosen = Vec::new();
    for front in fronts(&losses) {
        let room = wanted - chosen.len();
        if front.len() <= room {
            chosen.extend(front);
        } else {
            chosen.extend(widest(&losses, &front, room));
        }
        if chosen.len() == wanted {
            break;
        }
    }
    chosen.into_iter().map(|place| group[place]).collect()
}

/// Fronts: what nothing dominates, what only those dominate, and so on (Deb et al., NSGA-II, 2002, section III.A).
pub(super) fn fronts(losses: &[&[f64]]) -> Vec<Vec<usize>> {
    let count = losses.len();
    let mut dominators = vec![0usize; count];
    let mut dominated = vec![Vec::new(); count];
    for a in 0..count {
        for b in 0..count {
            if dominates(losses[a], losses[b]) {
                dominated[a].push(b);
                dominators[b] += 1;
            }
        }
    }
    let mut fronts = Vec::new();
    let mut front: Vec<usize> = (0..count).filter(|&index| dominators[index] == 0).collect();
    while !front.is_empty() {
        let mut next = Vec::new();
        for &index in &front {
            for &other in &dominated[index] {
                dominators[other] -= 1;
                if dominators[other] == 0 {
                    next.push(other);
                }
            }
        }
        next.sort_unstable();
        fronts.push(std::mem::replace(&mut front, next));
    }
    fronts
}

/// `wanted` of a front, one after the other the one that adds the most volume (greedy, as MOTPE does: Ozaki et al., 2022, section 3.2).
fn widest(losses: &[&[f64]], front: &[usize], wanted: usize) -> Vec<usize> {
    let points: Vec<Vec<f64>> = front.iter().map(|&index| losses[index].to_vec()).collect();
    let reference = reference(&points);
    let mut left: Vec<usize> = (0..front.len()).collect();
    let (mut chosen, mut inside): (Vec<usize>, Vec<Vec<f64>>) = (Vec::new(), Vec::new());
    while chosen.len() < wanted && !left.is_empty() {
        let volume = |one: usize| {
            let with: Vec<Vec<f64>> = inside.iter().chain([&points[one]]).cloned().collect();
            crate::goals::hypervolume(&with, &reference)
        };
        let gains: Vec<f64> = left.iter().map(|&one| volume(one)).collect();
        let most = (0..left.len()).max_by(|&a, &b| gains[a].total_cmp(&gains[b])).unwrap_or(0);
        let one = left.remove(most);
        inside.push(points[one].clone());
        chosen.push(front[one]);
    }
    chosen
}

/// The corner that volumes are measured to: a tenth of the extent worse than the worst of the points on each axis, so that the
/// outermost count, too. Losses without bound do not stretch it.
pub(super) fn reference(points: &[Vec<f64>]) -> Vec<f64> {
    let axes = points.first().map_or(0, Vec::len);
    (0..axes)
        .map(|axis| {
            let finite = || points.iter().map(|point| point[axis]).filter(|loss| loss.is_finite());
            let (low, high) = (finite().fold(f64::INFINITY, f64::min), finite().fold(f64::NEG_INFINITY, f64::max));
            let extent = if high > low { high - low } else { high.abs().max(1.0) };
            if high.is_finite() { high + 0.1 * extent } else { 1.0 }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::{Direction, Objective};
    use crate::space::{Domain, Parameter, Point, Space};
    use crate::trial::Report;

    /// Trials of one parameter: state, step of the last report, values, constraint.
    fn history(trials: &[(State, u64, &[f64], f64)]) -> History {
        let space = Space::new(vec![Parameter::new("x", Domain::float(0.0, 1.0))], vec![], vec![]).unwrap();
        let objective = |index| Objective { name: format!("o{index}"), direction: Direction::Minimize };
        let axes = trials.iter().map(|(_, _, values, _)| values.len()).max().unwrap_or(1);
        let goals = Goals { objectives: (0..axes).map(objective).collect(), constraints: vec!["c".into()] };
        let mut history = History::new(space, goals);
        for (number, (state, step, values, constraint)) in trials.iter().enumerate() {
            let measured = Measured { values: values.to_vec(), constraints: vec![*constraint] };
            let known = !values.is_empty();
            let reports = vec![Report::new(*step, measured.clone())];
            let whole = matches!(state, State::Complete | State::Pruned);
            history.put(Trial {
                state: *state,
                reports: if known { reports } else { vec![] },
                result: (known && whole).then_some(measured),
                ..Trial::new(number as u64, Point::from([("x".into(), 0.5.into())]))
            });
        }
        history
    }

    #[test]
    fn better_are_the_feasible_then_the_whole_then_those_that_came_further() {
        let history = history(&[
            (State::Pruned, 1, &[0.1], 0.0),
            (State::Complete, 9, &[5.0], 0.0),
            (State::Complete, 9, &[0.0], 2.0),
            (State::Paused, 3, &[7.0], 0.0),
            (State::Failed, 9, &[], 0.0),
            (State::Complete, 9, &[f64::NAN], 0.0),
            (State::Running, 3, &[6.0], -1.0),
            (State::Running, 0, &[], 0.0),
            (State::Complete, 9, &[1.0], 0.5),
            (State::Complete, 9, &[-1.0], f64::NAN),
            (State::Complete, 9, &[f64::NEG_INFINITY], 0.0),
        ]);
        let all = seen(&history);
        assert_eq!(best(&all, 99), [1, 6, 3, 0, 8, 2, 9, 5, 10]);
        assert_eq!(best(&all, 2), [1, 6]);
        assert_eq!(all[7].standing, Standing::Pending);
        assert_eq!(all[4].standing, Standing::Failed);
    }

    #[test]
    fn constraints_count_in_units_of_their_own() {
        let goals = Goals { constraints: vec!["seconds".into(), "share".into()], ..Goals::minimize("loss") };
        let mut history = History::new(history(&[]).space().clone(), goals);
        for (number, constraints) in [[1000.0, 0.1], [100.0, 3.0], [2000.0, 0.2], [-1.0, -1.0]].into_iter().enumerate()
        {
            let result = Some(Measured { values: vec![1.0], constraints: constraints.to_vec() });
            let trial = Trial::new(number as u64, Point::from([("x".into(), 0.5.into())]));
            history.put(Trial { state: State::Complete, result, ..trial });
        }
        let all = seen(&history);
        // In the middle they are broken by 1000 and by 0.2.
        assert_eq!(
            [1.5, 15.1, 3.0, 0.0].map(|by: f64| (10.0 * by).round()),
            [0, 1, 2, 3].map(|i| (10.0 * all[i].violation).round())
        );
        assert_eq!(best(&all, 4), [3, 0, 2, 1]);
    }

    #[test]
    fn of_several_objectives_fronts_come_in_order_and_the_last_by_what_it_covers() {
        let whole = |values: &'static [f64]| (State::Complete, 9, values, 0.0);
        let history = history(&[
            whole(&[4.0, 4.0]),
            whole(&[0.0, 3.0]),
            whole(&[0.1, 2.9]),
            whole(&[1.0, 1.0]),
            whole(&[3.0, 0.0]),
            whole(&[5.0, 5.0]),
        ]);
        let all = seen(&history);
        assert_eq!(best(&all, 6)[..4], [1, 2, 3, 4]);
        assert_eq!(best(&all, 6)[4..], [0, 5]);
        // The one in the middle covers the most; of the two beside each other one is enough.
        let three = best(&all, 3);
        assert_eq!(three[0], 3);
        assert!(three.contains(&4) && !(three.contains(&1) && three.contains(&2)), "{three:?}");
    }
}
