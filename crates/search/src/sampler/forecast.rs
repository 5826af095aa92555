//! What a trial that has not come to its end may be expected to come to: by how those that were measured at the same step went on.
//!
//! A loss falls while a trial trains, so that a good trial after an eighth of its budget looks worse than a poor one at its end. What
//! they show at one length is not to be held beside what others show at another; BOHB (Falkner et al., 2018) makes its model of one length
//! alone. Here every trial counts, with the change in the middle from its step to the end added.

use std::collections::{BTreeMap, BTreeSet};

use crate::history::History;
use crate::trial::{Measured, Report, State, Trial};

/// By step: what is to be added to the values and constraints that were measured there.
pub(super) struct Forecast(BTreeMap<u64, Measured>);

impl Forecast {
    /// For the steps at which trials stand that have not come to their end, by the reports of all. Of steps from which no trial shows a
    /// way to the end nothing is said.
    pub fn of(history: &History) -> Self {
        let trials = history.trials();
        let last = |trial: &Trial| trial.last().map(|report| report.step);
        let (ended, under_way): (Vec<&Trial>, Vec<&Trial>) =
            trials.iter().partition(|trial| trial.state == State::Complete);
        let steps: BTreeSet<u64> = under_way.into_iter().filter_map(last).collect();
        let mut changes = BTreeMap::new();
        let Some(end) = ended.into_iter().filter_map(last).max() else { return Self(changes) };
        let goals = history.goals();
        let none =
            Measured { values: vec![0.0; goals.objectives.len()], constraints: vec![0.0; goals.constraints.len()] };
        changes.insert(end, none);
        for &step in steps.range(..end).rev() {
            let onward: Vec<(&Report, &[Report])> = trials.iter().filter_map(|trial| onward(trial, step)).collect();
            // To the next step that is known; from there on as from there on.
            let next = changes.iter().find_map(|(&next, rest)| Some(added(&middle(&onward, next)?, rest)));
            if let Some(change) = next {
                changes.insert(step, change);
            }
        }
        Self(changes)
    }

    /// What is expected at the end of a trial that measured this at a step; none where that is not known, and of what is no finite
    /// number.
    pub fn from(&self, step: u64, measured: &Measured) -> Option<Measured> {
        let expected = added(measured, self.0.get(&step)?);
        is_finite(&expected).then_some(expected)
    }
}

fn is_finite(measured: &Measured) -> bool {
    measured.values.iter().all(|value| value.is_finite())
}

fn added(to: &Measured, change: &Measured) -> Measured {
    let sum = |to: &[f64], change: &[f64]| to.iter().zip(change).map(|(to, change)| to + change).collect();
    Measured { values: sum(&to.values, &change.values), constraints: sum(&to.constraints, &change.constraints) }
}

/// A trial's report at a step, and those behind it; none where it did not report there, or nothing since.
fn onward(trial: &Trial, step: u64) -> Option<(&Report, &[Report])> {
    let place = trial.reports.binary_search_by_key(&step, |report| report.step).ok()?;
    let (at, behind) = (&trial.reports[place], &trial.reports[place + 1..]);
    (!behind.is_empty() && is_finite(&at.measured)).then_some((at, behind))
}

/// The change to a step in the middle of the trials that went on to it; none where none did.
fn middle(onward: &[(&Report, &[Report])], to: u64) -> Option<Measured> {
    let pairs: Vec<(&Measured, &Measured)> = onward
        .iter()
        .filter_map(|(from, behind)| {
            let place = behind.binary_search_by_key(&to, |report| report.step).ok()?;
            Some((&from.measured, &behind[place].measured))
        })
        .filter(|(_, to)| is_finite(to))
        .collect();
    let (first, _) = pairs.first()?;
    let middle = |of: &dyn Fn(&Measured) -> f64| {
        let changes = pairs.iter().map(|(from, to)| of(to) - of(from));
        let mut all: Vec<f64> = changes.filter(|change| change.is_finite()).collect();
        all.sort_by(f64::total_cmp);
        all.get(all.len() / 2).copied().unwrap_or(0.0)
    };
    Some(Measured {
        values: (0..first.values.len()).map(|index| middle(&|of| of.values[index])).collect(),
        constraints: (0..first.constraints.len()).map(|index| middle(&|of| of.constraints[index])).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::goals::Goals;
    use crate::sampler::seen::{Standing, best, seen};
    use crate::space::{Domain, Parameter, Point, Space};

    /// Step, loss, constraint.
    type Reported = (u64, f64, f64);

    /// Trials of one parameter by what they reported.
    fn history(trials: &[(State, &[Reported])]) -> History {
        let space = Space::new(vec![Parameter::new("x", Domain::float(0.0, 1.0))], vec![], vec![]).unwrap();
        let mut history = History::new(space, Goals { constraints: vec!["floor".into()], ..Goals::minimize("loss") });
        for (number, (state, reports)) in trials.iter().enumerate() {
            let measured = |loss, floor| Measured { values: vec![loss], constraints: vec![floor] };
            let reports: Vec<Report> =
                reports.iter().map(|&(step, loss, floor)| Report::new(step, measured(loss, floor))).collect();
            let result = reports.last().filter(|_| *state == State::Complete).map(|last| last.measured.clone());
            let trial = Trial::new(number as u64, Point::from([("x".into(), 0.5.into())]));
            history.put(Trial { state: *state, reports, result, ..trial });
        }
        history
    }

    #[test]
    fn a_good_trial_after_an_eighth_is_not_held_beside_the_end_of_a_poor_one() {
        let history = history(&[
            (State::Complete, &[(1, 8.0, 1.0), (2, 6.0, 0.5), (8, 4.0, -1.0)]),
            (State::Paused, &[(1, 5.0, 1.0)]),
            (State::Paused, &[(1, 9.0, 1.0), (2, 8.0, 0.5)]),
            // At a step that nobody else was measured at, and what is no number.
            (State::Paused, &[(3, 0.1, 0.0)]),
            (State::Paused, &[(1, f64::NAN, 0.0)]),
        ]);
        let all = seen(&history);
        // From 1 to 2 the middle of two changes, -2 and -1, is the higher; from 2 to 8 it is -2.
        assert_eq!((all[1].standing, &all[1].losses[..]), (Standing::Expected, &[2.0][..]));
        assert_eq!((all[2].standing, &all[2].losses[..]), (Standing::Expected, &[6.0][..]));
        // The floor is expected to be kept in the end, as others came to keep it.
        assert_eq!((all[1].violation, all[2].violation), (0.0, 0.0));
        assert_eq!(all[3].standing, Standing::Part { step: 3 });
        assert_eq!(best(&all, 4), [1, 0, 2, 3]);
    }

    #[test]
    fn without_a_trial_that_came_to_its_end_nothing_is_expected() {
        let history = history(&[(State::Paused, &[(1, 5.0, 0.0)]), (State::Paused, &[(1, 8.0, 0.0), (2, 6.0, 0.0)])]);
        let all = seen(&history);
        assert_eq!(all[0].standing, Standing::Part { step: 1 });
        assert_eq!(all[1].standing, Standing::Part { step: 2 });
    }
}
