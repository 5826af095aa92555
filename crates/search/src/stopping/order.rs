//! Who stands where at one rung.

use crate::goals::Goals;
use crate::history::History;
use crate::trial::{Report, Trial};

/// A trial and what it reported at a rung.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry<'a> {
    pub trial: &'a Trial,
    pub report: &'a Report,
}

/// The trials that reported at `step`, whatever became of them, by number. A trial that has no report there is not among them.
pub(super) fn at_rung(history: &History, step: u64) -> Vec<Entry<'_>> {
    let entry = |trial| Some(Entry { trial, report: Trial::at(trial, step)? });
    history.trials().iter().filter_map(entry).collect()
}

/// Ranks of the entries, 0 best: those of [`Goals::ranks`].
pub(super) fn ranks(goals: &Goals, entries: &[Entry<'_>]) -> Vec<usize> {
    goals.ranks(&entries.iter().map(|entry| &entry.report.measured).collect::<Vec<_>>())
}

/// The entries from best to worst, as indices: by rank; within a rank as an epsilon net, so that the first few of it already
/// span it (MO-ASHA: Schmucker et al., 2021, section 3.2); at last by number.
///
/// The net begins with the member that is best on all axes together, and goes on with the one that is furthest from all that were
/// taken. Axes are scaled by the range of the rank on each.
pub(super) fn order(goals: &Goals, entries: &[Entry<'_>]) -> Vec<usize> {
    let ranks = ranks(goals, entries);
    let mut by_rank: Vec<usize> = (0..entries.len()).collect();
    by_rank.sort_by_key(|&index| ranks[index]);
    let members = by_rank.chunk_by(|&a, &b| ranks[a] == ranks[b]);
    members.flat_map(|members| net(goals, entries, members)).collect()
}

fn net(goals: &Goals, entries: &[Entry<'_>], members: &[usize]) -> Vec<usize> {
    if members.len() < 2 || !members.iter().all(|&index| goals.is_sound(&entries[index].report.measured)) {
        return members.to_vec();
    }
    let mut losses: Vec<Vec<f64>> =
        members.iter().map(|&index| goals.losses(&entries[index].report.measured)).collect();
    for axis in 0..goals.objectives.len() {
        let low = losses.iter().map(|loss| loss[axis]).fold(f64::INFINITY, f64::min);
        let high = losses.iter().map(|loss| loss[axis]).fold(f64::NEG_INFINITY, f64::max);
        for loss in &mut losses {
            loss[axis] = if high > low { (loss[axis] - low) / (high - low) } else { 0.0 };
        }
    }
    let distance = |a: usize, b: usize| losses[a].iter().zip(&losses[b]).map(|(a, b)| (a - b).powi(2)).sum::<f64>();
    // What is taken next is the least of `key`: at first the sum of the losses, then less than nothing by the distance.
    let mut key: Vec<f64> = losses.iter().map(|loss| loss.iter().sum()).collect();
    let mut left: Vec<usize> = (0..members.len()).collect();
    let mut taken = Vec::with_capacity(members.len());
    while let Some(place) = (0..left.len()).min_by(|&a, &b| key[left[a]].total_cmp(&key[left[b]])) {
        let next = left.remove(place);
        for &other in &left {
            let before = if taken.is_empty() { f64::NEG_INFINITY } else { key[other] };
            key[other] = before.max(-distance(next, other));
        }
        taken.push(members[next]);
    }
    taken
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Study, two_axes};
    use super::*;

    fn places(goals: Goals, reports: &[(&[f64], &[f64])]) -> Vec<usize> {
        let mut study = Study::new(goals);
        for (values, constraints) in reports {
            let number = study.begin();
            study.report_full(number, 1, values, constraints);
        }
        let entries = at_rung(&study.history, 1);
        order(study.history.goals(), &entries)
    }

    #[test]
    fn of_one_objective_the_order_is_that_of_the_values_and_ties_go_by_number() {
        assert_eq!(
            places(Goals::minimize("loss"), &[(&[3.0], &[]), (&[1.0], &[]), (&[3.0], &[]), (&[2.0], &[])]),
            [1, 3, 0, 2]
        );
    }

    #[test]
    fn a_front_is_spanned_by_its_first_members() {
        // A front of five: the one that is best on both together comes first, then both ends.
        let front: [(&[f64], &[f64]); 5] = [
            (&[0.0, -9.0], &[]), // loss 0, kept -9
            (&[0.1, -8.0], &[]),
            (&[0.3, -2.0], &[]),
            (&[0.9, -1.0], &[]),
            (&[1.0, 0.0], &[]),
        ];
        let order = places(two_axes(&[]), &front);
        assert_eq!(order[0], 2);
        let mut ends = order[1..3].to_vec();
        ends.sort_unstable();
        assert_eq!(ends, [0, 4]);
    }

    #[test]
    fn what_holds_comes_before_what_is_broken_and_what_is_no_number_last() {
        let goals = two_axes(&["floor"]);
        let reports: [(&[f64], &[f64]); 7] = [
            (&[f64::NAN, 9.0], &[0.0]),
            (&[0.0, 9.0], &[2.0]),
            (&[0.0, 9.0], &[0.5]),
            (&[5.0, 1.0], &[0.0]),
            (&[f64::NEG_INFINITY, 9.0], &[0.0]),
            (&[0.0, 9.0], &[f64::NAN]),
            (&[0.0], &[0.0]),
        ];
        assert_eq!(places(goals, &reports), [3, 2, 1, 5, 0, 4, 6]);
    }
}
