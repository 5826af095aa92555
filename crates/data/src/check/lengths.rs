//! How long rows are.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::report::LengthReport;

/// What lengths are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LengthUnit {
    /// Characters of all turns.
    #[default]
    Characters,
    /// Tokens as the base sees them, those of its template included.
    Tokens,
}

/// The lengths of rows.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Lengths {
    /// What they are counted in.
    pub unit: LengthUnit,
    /// Quantiles.
    pub quantiles: LengthReport,
    /// From which length on, below the next one: how many rows. Two steps to each doubling.
    pub histogram: Vec<(usize, usize)>,
}

impl Lengths {
    /// Of lengths that each come so often.
    pub(super) fn of(unit: LengthUnit, counts: &BTreeMap<usize, usize>) -> Lengths {
        let mut bins: BTreeMap<usize, usize> = BTreeMap::new();
        for (&length, &count) in counts {
            *bins.entry(bin(length)).or_insert(0) += count;
        }
        // Empty steps between filled ones are steps too.
        let (first, last) = (bins.keys().next().copied(), bins.keys().next_back().copied().unwrap_or(0));
        let mut at = first;
        while let Some(from) = at.filter(|&from| from <= last) {
            bins.entry(from).or_insert(0);
            at = Some(next(from));
        }
        Lengths { unit, quantiles: LengthReport::of(counts), histogram: bins.into_iter().collect() }
    }
}

/// Where the step of a length begins: at a power of two, or half as much again.
fn bin(length: usize) -> usize {
    let Some(power) = length.checked_ilog2().map(|log| 1usize << log) else { return 0 };
    if power > 1 && length >= power + power / 2 { power + power / 2 } else { power }
}

fn next(from: usize) -> usize {
    match from {
        0 => 1,
        1 => 2,
        _ if from.is_power_of_two() => from + from / 2,
        _ => from / 3 * 4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_length_lies_in_one_step() {
        let mut from = 0;
        for length in 0..5000 {
            if length == next(from) {
                from = next(from);
            }
            assert_eq!(bin(length), from, "{length}");
        }
        let lengths = Lengths::of(LengthUnit::Tokens, &BTreeMap::from([(3, 2), (13, 1)]));
        assert_eq!(lengths.histogram, [(3, 2), (4, 0), (6, 0), (8, 0), (12, 1)]);
        assert_eq!((lengths.quantiles.min, lengths.quantiles.max), (3, 13));
    }
}
