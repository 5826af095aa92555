//! Holding rows out: which rows must stay together, and which of them become validation and test.
//!
//! Two rows stay together when they name the same group, when their texts are the same but for case and white space, or
//! when their texts are nearly the same. Nearly the same: the sets of their words and pairs of neighbouring words have a
//! Jaccard index of at least [`NEAR`]. Every such pair is found: a pair that similar shares one of the rarest shingles
//! of each side (prefix filtering; Bayardo, Ma and Srikant 2007, "Scaling up all pairs similarity search").

use std::collections::HashMap;

use temper_run::Random;

use crate::near::jaccard;

/// Texts with a Jaccard index of at least this are nearly the same: one word of nine replaced is.
const NEAR: f64 = 0.7;

/// Shingles that more than this share of at least [`COMMON_FROM`] rows have are the frame of a prompt, not its content,
/// and do not count.
const COMMON: f64 = 0.25;
const COMMON_FROM: usize = 20;

/// What became of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    /// Trained on.
    Train,
    /// Steers.
    Validation,
    /// Read once, at the end.
    Test,
}

/// Rows that must not be parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Together {
    /// For each row the number of its unit, numbered in order of appearance.
    pub of: Vec<usize>,
    /// Number of units.
    pub count: usize,
    /// Rows whose text an earlier row has, case and white space folded.
    pub exact: usize,
    /// Rows that are nearly the same as an earlier one, exact ones not counted.
    pub near: usize,
}

/// Joins rows into units by group and by likeness of their texts.
pub fn together(texts: &[String], groups: &[Option<&str>]) -> Together {
    let n = texts.len();
    let mut parent: Vec<usize> = (0..n).collect();
    let mut by_group: HashMap<&str, usize> = HashMap::new();
    for (row, group) in groups.iter().enumerate() {
        if let Some(group) = group {
            let first = *by_group.entry(group).or_insert(row);
            join(&mut parent, first, row);
        }
    }
    // One row stands for all with the same words.
    let words: Vec<Vec<String>> =
        texts.iter().map(|text| text.split_whitespace().map(str::to_lowercase).collect()).collect();
    let mut first_with: HashMap<&[String], usize> = HashMap::new();
    let mut distinct = Vec::new();
    for (row, words) in words.iter().enumerate() {
        match first_with.get(words.as_slice()) {
            Some(&first) => join(&mut parent, first, row),
            None => {
                first_with.insert(words, row);
                distinct.push(row);
            }
        }
    }
    let exact = n - distinct.len();
    let mut is_near = vec![false; n];
    for (a, b) in near_pairs(&words, &distinct) {
        join(&mut parent, a, b);
        is_near[a.max(b)] = true;
    }
    let mut numbers: HashMap<usize, usize> = HashMap::new();
    let of: Vec<usize> = (0..n)
        .map(|row| {
            let (root, next) = (find(&mut parent, row), numbers.len());
            *numbers.entry(root).or_insert(next)
        })
        .collect();
    Together { of, count: numbers.len(), exact, near: is_near.iter().filter(|&&near| near).count() }
}

fn find(parent: &mut [usize], mut row: usize) -> usize {
    while parent[row] != row {
        parent[row] = parent[parent[row]];
        row = parent[row];
    }
    row
}

/// The earlier root stays the root.
fn join(parent: &mut [usize], a: usize, b: usize) {
    let (a, b) = (find(parent, a), find(parent, b));
    parent[a.max(b)] = a.min(b);
}

/// All pairs of `rows` with a Jaccard index of at least [`NEAR`].
fn near_pairs(words: &[Vec<String>], rows: &[usize]) -> Vec<(usize, usize)> {
    let mut numbers: HashMap<(&str, &str), u32> = HashMap::new();
    let mut holders: Vec<usize> = Vec::new();
    let mut sets: Vec<Vec<u32>> = rows
        .iter()
        .map(|&row| {
            let words = &words[row];
            let single = words.iter().map(|word| (word.as_str(), ""));
            let pairs = words.windows(2).map(|pair| (pair[0].as_str(), pair[1].as_str()));
            let mut set: Vec<u32> = single
                .chain(pairs)
                .map(|shingle| {
                    let next = numbers.len() as u32;
                    *numbers.entry(shingle).or_insert(next)
                })
                .collect();
            set.sort_unstable();
            set.dedup();
            holders.resize(numbers.len(), 0);
            set.iter().for_each(|&shingle| holders[shingle as usize] += 1);
            set
        })
        .collect();
    let common = if rows.len() < COMMON_FROM { usize::MAX } else { (COMMON * rows.len() as f64) as usize };
    // Numbers by rarity, the rarest first, so that prefixes meet seldom.
    let mut by_rarity: Vec<u32> = (0..holders.len() as u32).collect();
    by_rarity.sort_by_key(|&shingle| holders[shingle as usize]);
    let mut rank = vec![0u32; holders.len()];
    by_rarity.iter().zip(0..).for_each(|(&shingle, at)| rank[shingle as usize] = at);
    for set in &mut sets {
        set.retain(|&shingle| holders[shingle as usize] <= common);
        set.iter_mut().for_each(|shingle| *shingle = rank[*shingle as usize]);
        set.sort_unstable();
    }
    let mut pairs = Vec::new();
    let mut index: HashMap<u32, Vec<usize>> = HashMap::new();
    let mut met = vec![usize::MAX; sets.len()];
    for (at, set) in sets.iter().enumerate().filter(|(_, set)| !set.is_empty()) {
        let prefix = set.len() - (NEAR * set.len() as f64).ceil() as usize + 1;
        for shingle in &set[..prefix] {
            let earlier = index.entry(*shingle).or_default();
            for &other in earlier.iter() {
                if met[other] != at {
                    met[other] = at;
                    if jaccard(set, &sets[other]) >= NEAR {
                        pairs.push((rows[other], rows[at]));
                    }
                }
            }
            earlier.push(at);
        }
    }
    pairs
}

/// How much to hold out.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct HoldOut {
    /// Rows wanted for validation.
    pub validation: usize,
    /// Rows wanted for the test.
    pub test: usize,
    /// The split is a pure function of the rows and this.
    pub seed: u64,
}

/// Gives every row a side; a unit lies on one side. Each label's rows are held out in proportion, and a label keeps at
/// least half of its rows for training. Rows of which `fits` is false keep their units in training.
///
/// The test is filled first, then validation; both may end smaller than wanted where units are large.
pub fn hold_out(units: &Together, labels: &[u32], fits: &[bool], wanted: HoldOut) -> Vec<Side> {
    let n = units.of.len();
    let mut members: Vec<Vec<usize>> = vec![Vec::new(); units.count];
    units.of.iter().enumerate().for_each(|(row, &unit)| members[unit].push(row));
    let kinds = labels.iter().max().map_or(0, |&label| label as usize + 1);
    let mut left = vec![0usize; kinds];
    labels.iter().for_each(|&label| left[label as usize] += 1);
    let all = left.clone();

    let mut sides = vec![Side::Train; n];
    let order = Random::new(wanted.seed, "hold out").permutation(units.count);
    for (side, rows) in [(Side::Test, wanted.test), (Side::Validation, wanted.validation)] {
        // What each label still owes this side; shares are rounded up so that rare labels are asked for too.
        let mut owed: Vec<usize> = all.iter().map(|&of| (rows * of).div_ceil(n.max(1))).collect();
        let mut taken = 0;
        for &unit in &order {
            let rows_of_unit = &members[unit];
            let free = rows_of_unit.iter().all(|&row| sides[row] == Side::Train && fits[row]);
            if !free || taken + rows_of_unit.len() > rows + rows / 10 {
                continue;
            }
            let mut here: HashMap<usize, usize> = HashMap::new();
            rows_of_unit.iter().for_each(|&row| *here.entry(labels[row] as usize).or_insert(0) += 1);
            let keeps_half = here.iter().all(|(&label, &count)| 2 * (left[label] - count) >= all[label]);
            let useful: usize = here.iter().map(|(&label, &count)| count.min(owed[label])).sum();
            if !keeps_half || 2 * useful < rows_of_unit.len() {
                continue;
            }
            for (label, count) in here {
                left[label] -= count;
                owed[label] = owed[label].saturating_sub(count);
            }
            rows_of_unit.iter().for_each(|&row| sides[row] = side);
            taken += rows_of_unit.len();
        }
    }
    sides
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(all: &[&str]) -> Vec<String> {
        all.iter().map(|&text| text.to_owned()).collect()
    }

    #[test]
    fn groups_repetitions_and_near_repetitions_stay_together() {
        let long = "the quick brown fox jumps over the lazy dog near the old mill by the river";
        let near = "the quick brown fox jumps over the lazy cat near the old mill by the river";
        let rows = texts(&["one", "two", "ONE  ", "three", long, near, "something else"]);
        let groups = [None, Some("g"), None, Some("g"), None, None, None];
        let units = together(&rows, &groups);
        assert_eq!(units.of, [0, 1, 0, 1, 2, 2, 3]);
        assert_eq!((units.count, units.exact, units.near), (4, 1, 1));
    }

    /// Every pair at or above the threshold is found: compared with trying all pairs.
    #[test]
    fn near_pairs_are_those_of_all_pairs() {
        let words = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let row = |seed: u64| {
            let order = Random::new(seed / 3, "test").permutation(8);
            let mut row: Vec<String> = order.iter().take(6).map(|&i| words[i].to_owned()).collect();
            row.extend((0..6).map(|i| format!("w{}{i}", seed / 3)));
            row[(seed % 3) as usize] = "x".to_owned();
            row
        };
        let rows: Vec<Vec<String>> = (0..19).map(row).collect();
        let shingles = |row: &[String]| {
            let mut set: Vec<String> = row.to_vec();
            set.extend(row.windows(2).map(|pair| pair.join(" ")));
            set.sort();
            set.dedup();
            set
        };
        let mut expected = Vec::new();
        for b in 0..rows.len() {
            for a in 0..b {
                let (x, y) = (shingles(&rows[a]), shingles(&rows[b]));
                let both = x.iter().filter(|s| y.contains(s)).count();
                if both as f64 / (x.len() + y.len() - both) as f64 >= NEAR {
                    expected.push((a, b));
                }
            }
        }
        assert!(!expected.is_empty());
        let all: Vec<usize> = (0..rows.len()).collect();
        let mut found = near_pairs(&rows, &all);
        found.sort_by_key(|&(a, b)| (b, a));
        assert_eq!(found, expected);
    }

    #[test]
    fn the_frame_of_a_prompt_joins_nothing() {
        let rows: Vec<String> =
            (0..40).map(|i| format!("Classify the following review as good or bad please: w{i}")).collect();
        assert_eq!(together(&rows, &[None; 40]).count, 40);
    }

    #[test]
    fn units_stay_whole_labels_are_held_out_in_proportion_and_it_repeats() {
        let rows: Vec<String> = (0..300).map(|i| format!("w{i} x{i}")).collect();
        let names: Vec<String> = (0..300).map(|i| format!("g{}", i / 3)).collect();
        let groups: Vec<Option<&str>> = names.iter().map(|name| Some(name.as_str())).collect();
        let units = together(&rows, &groups);
        let labels: Vec<u32> = (0..300).map(|i| u32::from(i >= 240)).collect();
        let fits = vec![true; 300];
        let wanted = HoldOut { validation: 30, test: 60, seed: 42 };
        let sides = hold_out(&units, &labels, &fits, wanted);
        let count = |side, label| (0..300).filter(|&i| sides[i] == side && labels[i] == label).count();
        assert_eq!((count(Side::Test, 0), count(Side::Test, 1)), (48, 12));
        assert_eq!((count(Side::Validation, 0), count(Side::Validation, 1)), (24, 6));
        for i in 0..100 {
            assert!(sides[3 * i] == sides[3 * i + 1] && sides[3 * i] == sides[3 * i + 2]);
        }
        assert_eq!(sides, hold_out(&units, &labels, &fits, wanted));
        assert_ne!(sides, hold_out(&units, &labels, &fits, HoldOut { seed: 43, ..wanted }));
    }

    #[test]
    fn rows_that_do_not_fit_and_labels_with_few_rows_stay_in_training() {
        let rows: Vec<String> = (0..20).map(|i| format!("w{i}")).collect();
        let units = together(&rows, &[None; 20]);
        let labels: Vec<u32> = (0..20).map(|i| u32::from(i == 19)).collect();
        let fits: Vec<bool> = (0..20).map(|i| i >= 10).collect();
        let sides = hold_out(&units, &labels, &fits, HoldOut { validation: 2, test: 2, seed: 1 });
        assert!(sides[..10].iter().all(|side| *side == Side::Train));
        assert_eq!(sides[19], Side::Train);
        assert_eq!(sides.iter().filter(|side| **side == Side::Test).count(), 2);
    }
}
