//! Bootstrap intervals: of a mean, of a loss (a ratio of sums), of macro-F1, and of the paired difference of each.
//!
//! What is resampled is the *unit*: an item, or, where items share a source (sentences of one document, codes of one
//! category), the whole cluster of items, because items of one source are not independent (Davison and Hinkley 1997,
//! section 3.8). A difference is always paired: one draw takes the base's and the tuned model's score of the same unit.
//!
//! The interval is the *expanded percentile* interval (Hesterberg 2015, "What Teachers Should Know About the
//! Bootstrap", section 5.3): the plain percentile interval is too narrow for few units, by the factor
//! `sqrt((u - 1) / u)` and by using a normal quantile where Student's t belongs; so the tail that is cut off is
//! `Phi(-sqrt(u / (u - 1)) * t(0.975, u - 1))` for `u` units, which tends to 2.5 % as `u` grows.
//!
//! Two cases in which resampling cannot see the spread at all:
//! - one unit has none to see: refused ([`StatsError::OneUnit`]);
//! - values of 0 and 1 that all agree (400 of 400 right, or no item changed) resample to an interval of width zero.
//!   There the bound is exact (Clopper and Pearson 1934 at zero events, the "rule of three"): what was never seen in
//!   `u` units may still happen with a frequency of `1 - 0.025^(1/u)`. Without it five unchanged items would prove that
//!   nothing was forgotten.
//!
//! The generator is counter-based (SplitMix64, Steele, Lea and Flood 2014): draw `i` of resample `b` is a function of
//! `(seed, b, i)` alone.

use serde::{Deserialize, Serialize};

use crate::classify::{Outcome, Tally};

mod resampling;
use resampling::{Draws, Units, expanded_tail, never_seen, quantile};

/// The 97.5 % quantile of the standard normal distribution: every interval here is a two-sided 95 % interval.
pub(crate) const Z_975: f64 = 1.959_963_984_540_054;

/// Fewer resamples than this leave under five replicates in a 2.5 % tail.
pub const MIN_RESAMPLES: u32 = 200;

/// A two-sided 95 % interval and what it was computed from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The statistic of the sample itself. A percentile interval need not be centred on it.
    pub estimate: f64,
    /// Lower end.
    pub low: f64,
    /// Upper end.
    pub high: f64,
    /// Items.
    pub n: usize,
    /// Units that were resampled: clusters of items that share a source, or `n` where every item stands alone.
    pub clusters: usize,
}

/// Summed negative log-likelihood of one held-out document.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentLoss {
    /// Sum over the scored tokens, in nats.
    pub nats: f64,
    /// Scored tokens, at least one.
    pub tokens: u64,
    /// UTF-8 bytes of the text that those tokens spell, at least one.
    pub bytes: u64,
}

/// Loss of the tuned model minus loss of the base on the same documents.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LossDifference {
    /// `(sum of tuned nats - sum of base nats) / sum of tokens`.
    pub nats_per_token: Interval,
    /// The same divided by ln 2 and by bytes instead of tokens.
    pub bits_per_byte: Interval,
    /// `sum of tuned nats / sum of base nats - 1`: 0.02 is two per cent worse. The same per token and per byte.
    pub relative: Interval,
}

/// Why no interval could be computed. Items are counted from 1 in the text, from 0 in the fields.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum StatsError {
    /// Nothing to average.
    #[error(
        "an interval needs items and there are none\nhint: is the evaluation file empty, or was every row dropped?"
    )]
    Empty,
    /// One item, or all items of one source.
    #[error(
        "{n} items of one source are a single unit, which shows no spread: an interval needs at least two units\n\
         hint: add items of other sources, or leave `source` out if the items do not depend on each other"
    )]
    OneUnit {
        /// Items.
        n: usize,
    },
    /// Columns that should be parallel are not.
    #[error("{what} has {got} entries for {expected} items: scores must be paired, one per item in the same order")]
    Length {
        /// The column.
        what: &'static str,
        /// Items.
        expected: usize,
        /// Entries.
        got: usize,
    },
    /// A score that is not a number.
    #[error(
        "the {what} of item {} is {value}, not a finite number\nhint: a model that diverged gives NaN",
        item + 1
    )]
    NotFinite {
        /// The column.
        what: &'static str,
        /// Index of the item.
        item: usize,
        /// NaN or an infinity.
        value: f64,
    },
    /// A document without tokens or bytes.
    #[error("document {} has no scored tokens or no bytes\nhint: leave out texts shorter than two tokens", item + 1)]
    NothingScored {
        /// Index of the document.
        item: usize,
    },
    /// Base and tuned model did not score the same document.
    #[error(
        "document {} has {base} (tokens, bytes) for the base and {tuned} for the tuned model: not the same text",
        item + 1, base = format_args!("{base:?}"), tuned = format_args!("{tuned:?}")
    )]
    NotTheSameText {
        /// Index of the document.
        item: usize,
        /// Tokens and bytes that the base scored.
        base: (u64, u64),
        /// Tokens and bytes that the tuned model scored.
        tuned: (u64, u64),
    },
    /// Base and tuned rows name different truths.
    #[error("item {} has label {base} for the base and {tuned} for the tuned model: not the same item", item + 1)]
    NotTheSameTruth {
        /// Index of the item.
        item: usize,
        /// True label of the base's row.
        base: u32,
        /// True label of the tuned model's row.
        tuned: u32,
    },
    /// A label index outside the recipe's labels.
    #[error("item {} has label index {label}, but there are {labels} labels", item + 1)]
    NoSuchLabel {
        /// Index of the item.
        item: usize,
        /// The index.
        label: u32,
        /// How many labels there are.
        labels: usize,
    },
    /// A relative difference from nothing.
    #[error("the base's loss is not above zero, so a difference relative to it means nothing")]
    NoBaseLoss,
    /// Too few for a 2.5 % tail.
    #[error("{got} resamples are too few for a 95 % interval: at least {MIN_RESAMPLES}\nhint: 2000 take milliseconds")]
    TooFewResamples {
        /// As given.
        got: u32,
    },
}

/// How to resample. The same `seed` gives the same interval, bit for bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bootstrap {
    /// Resamples, at least [`MIN_RESAMPLES`].
    pub resamples: u32,
    /// Key of the counter-based generator.
    pub seed: u64,
}

impl Bootstrap {
    /// Interval of the mean of `values`, one per item. `clusters`, if given, names each item's source.
    pub fn mean(&self, values: &[f64], clusters: Option<&[u32]>) -> Result<Interval, StatsError> {
        finite("value", values)?;
        let rows: Vec<[f64; 2]> = values.iter().map(|&value| [value, 1.0]).collect();
        let mut interval = self.of_sums(&rows, clusters, |[sum, count]| sum / count)?;
        if are_binary(values) && values.iter().all(|&value| value == values[0]) {
            let unseen = never_seen(interval.clusters);
            interval.low = (interval.estimate - unseen).max(0.0);
            interval.high = (interval.estimate + unseen).min(1.0);
        }
        Ok(interval)
    }

    /// Interval of `mean(tuned) - mean(base)`, both scored on the same items in the same order.
    pub fn paired_difference(
        &self,
        base: &[f64],
        tuned: &[f64],
        clusters: Option<&[u32]>,
    ) -> Result<Interval, StatsError> {
        same_length("the tuned model's column", base.len(), tuned.len())?;
        finite("base's score", base)?;
        finite("tuned model's score", tuned)?;
        let rows: Vec<[f64; 2]> = base.iter().zip(tuned).map(|(base, tuned)| [tuned - base, 1.0]).collect();
        let mut interval = self.of_sums(&rows, clusters, |[sum, count]| sum / count)?;
        let first = rows[0][0];
        if are_binary(base) && are_binary(tuned) && rows.iter().all(|row| row[0] == first) {
            // An unseen item can move a difference of 0 by one, a difference of 1 (to -1) by two.
            let unseen = never_seen(interval.clusters) * (1.0 + first.abs());
            interval.low = (first - unseen).max(-1.0);
            interval.high = (first + unseen).min(1.0);
        }
        Ok(interval)
    }

    /// Interval of `sum of nats / sum of tokens` over documents.
    pub fn nats_per_token(&self, documents: &[DocumentLoss], clusters: Option<&[u32]>) -> Result<Interval, StatsError> {
        scored("loss", documents)?;
        let rows: Vec<[f64; 2]> = documents.iter().map(|document| [document.nats, document.tokens as f64]).collect();
        self.of_sums(&rows, clusters, |[nats, tokens]| nats / tokens)
    }

    /// Interval of `sum of nats / ln 2 / sum of bytes` over documents: comparable between tokenizers.
    pub fn bits_per_byte(&self, documents: &[DocumentLoss], clusters: Option<&[u32]>) -> Result<Interval, StatsError> {
        scored("loss", documents)?;
        let rows: Vec<[f64; 2]> = documents.iter().map(|document| [document.nats, document.bytes as f64]).collect();
        self.of_sums(&rows, clusters, |[nats, bytes]| nats / std::f64::consts::LN_2 / bytes)
    }

    /// Tuned minus base loss on the same documents, absolute and relative.
    pub fn loss_difference(
        &self,
        base: &[DocumentLoss],
        tuned: &[DocumentLoss],
        clusters: Option<&[u32]>,
    ) -> Result<LossDifference, StatsError> {
        same_length("the tuned model's column", base.len(), tuned.len())?;
        scored("base's loss", base)?;
        scored("tuned model's loss", tuned)?;
        for (item, (base, tuned)) in base.iter().zip(tuned).enumerate() {
            let (base, tuned) = ((base.tokens, base.bytes), (tuned.tokens, tuned.bytes));
            if base != tuned {
                return Err(StatsError::NotTheSameText { item, base, tuned });
            }
        }
        // A resample can consist of one unit drawn over and over, so each must have a loss to be relative to.
        if base.iter().any(|document| document.nats <= 0.0) {
            return Err(StatsError::NoBaseLoss);
        }
        let rows: Vec<[f64; 4]> = base
            .iter()
            .zip(tuned)
            .map(|(base, tuned)| [base.nats, tuned.nats - base.nats, base.tokens as f64, base.bytes as f64])
            .collect();
        Ok(LossDifference {
            nats_per_token: self.of_sums(&rows, clusters, |[_, change, tokens, _]| change / tokens)?,
            bits_per_byte: self
                .of_sums(&rows, clusters, |[_, change, _, bytes]| change / std::f64::consts::LN_2 / bytes)?,
            relative: self.of_sums(&rows, clusters, |[base, change, _, _]| change / base)?,
        })
    }

    /// Interval of macro-F1 over `labels` labels; the rule of the macro average stands at [`Tally::macro_f1`] and is
    /// applied to each resample.
    pub fn macro_f1(
        &self,
        outcomes: &[Outcome],
        labels: usize,
        clusters: Option<&[u32]>,
    ) -> Result<Interval, StatsError> {
        labels_exist(outcomes, labels)?;
        let units = Units::new(outcomes.len(), clusters)?;
        let mut tally = Tally::new(labels);
        outcomes.iter().for_each(|outcome| tally.add(outcome));
        let estimate = tally.macro_f1();
        self.interval(outcomes.len(), units.len(), estimate, |draws| {
            tally.clear();
            for unit in draws {
                for &row in units.rows(unit) {
                    tally.add(&outcomes[row as usize]);
                }
            }
            tally.macro_f1()
        })
    }

    /// Interval of tuned minus base macro-F1 on the same items.
    pub fn macro_f1_difference(
        &self,
        base: &[Outcome],
        tuned: &[Outcome],
        labels: usize,
        clusters: Option<&[u32]>,
    ) -> Result<Interval, StatsError> {
        same_length("the tuned model's column", base.len(), tuned.len())?;
        labels_exist(base, labels)?;
        labels_exist(tuned, labels)?;
        for (item, (base, tuned)) in base.iter().zip(tuned).enumerate() {
            if base.truth != tuned.truth {
                return Err(StatsError::NotTheSameTruth { item, base: base.truth, tuned: tuned.truth });
            }
        }
        let units = Units::new(base.len(), clusters)?;
        let (mut before, mut after) = (Tally::new(labels), Tally::new(labels));
        base.iter().for_each(|outcome| before.add(outcome));
        tuned.iter().for_each(|outcome| after.add(outcome));
        let estimate = after.macro_f1() - before.macro_f1();
        self.interval(base.len(), units.len(), estimate, |draws| {
            before.clear();
            after.clear();
            for unit in draws {
                for &row in units.rows(unit) {
                    before.add(&base[row as usize]);
                    after.add(&tuned[row as usize]);
                }
            }
            after.macro_f1() - before.macro_f1()
        })
    }

    /// Interval of a statistic that is a function of column sums. `rows` holds one row of `C` columns per item; the
    /// columns are summed within each unit once, so a resample costs one addition per unit and column.
    fn of_sums<const C: usize>(
        &self,
        rows: &[[f64; C]],
        clusters: Option<&[u32]>,
        statistic: impl Fn([f64; C]) -> f64,
    ) -> Result<Interval, StatsError> {
        let units = Units::new(rows.len(), clusters)?;
        let add = |mut sums: [f64; C], row: &[f64; C]| {
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
            sums
        };
        let unit_sums: Vec<[f64; C]> = (0..units.len())
            .map(|unit| units.rows(unit).iter().fold([0.0; C], |sums, &row| add(sums, &rows[row as usize])))
            .collect();
        let estimate = statistic(unit_sums.iter().fold([0.0; C], add));
        self.interval(rows.len(), units.len(), estimate, |draws| {
            statistic(draws.fold([0.0; C], |sums, unit| add(sums, &unit_sums[unit])))
        })
    }

    /// The expanded percentile interval over replicates of a statistic; `replicate` sees the units of one resample.
    fn interval(
        &self,
        n: usize,
        units: usize,
        estimate: f64,
        mut replicate: impl FnMut(Draws) -> f64,
    ) -> Result<Interval, StatsError> {
        if self.resamples < MIN_RESAMPLES {
            return Err(StatsError::TooFewResamples { got: self.resamples });
        }
        if units < 2 {
            return Err(StatsError::OneUnit { n });
        }
        let mut replicates: Vec<f64> =
            (0..u64::from(self.resamples)).map(|resample| replicate(Draws::new(self.seed, resample, units))).collect();
        replicates.sort_unstable_by(f64::total_cmp);
        let tail = expanded_tail(units);
        let (low, high) = (quantile(&replicates, tail), quantile(&replicates, 1.0 - tail));
        Ok(Interval { estimate, low, high, n, clusters: units })
    }
}

fn are_binary(values: &[f64]) -> bool {
    values.iter().all(|&value| value == 0.0 || value == 1.0)
}

fn finite(what: &'static str, values: &[f64]) -> Result<(), StatsError> {
    match values.iter().position(|value| !value.is_finite()) {
        Some(item) => Err(StatsError::NotFinite { what, item, value: values[item] }),
        None => Ok(()),
    }
}

fn same_length(what: &'static str, expected: usize, got: usize) -> Result<(), StatsError> {
    if expected == got { Ok(()) } else { Err(StatsError::Length { what, expected, got }) }
}

fn scored(what: &'static str, documents: &[DocumentLoss]) -> Result<(), StatsError> {
    for (item, document) in documents.iter().enumerate() {
        if !document.nats.is_finite() {
            return Err(StatsError::NotFinite { what, item, value: document.nats });
        }
        if document.tokens == 0 || document.bytes == 0 {
            return Err(StatsError::NothingScored { item });
        }
    }
    Ok(())
}

fn labels_exist(outcomes: &[Outcome], labels: usize) -> Result<(), StatsError> {
    for (item, outcome) in outcomes.iter().enumerate() {
        for label in [Some(outcome.truth), outcome.predicted].into_iter().flatten() {
            if label as usize >= labels {
                return Err(StatsError::NoSuchLabel { item, label, labels });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOOTSTRAP: Bootstrap = Bootstrap { resamples: 2000, seed: 7 };

    #[test]
    fn no_items_are_refused() {
        assert_eq!(BOOTSTRAP.mean(&[], None), Err(StatsError::Empty));
        assert_eq!(BOOTSTRAP.paired_difference(&[], &[], None), Err(StatsError::Empty));
        assert_eq!(BOOTSTRAP.nats_per_token(&[], None), Err(StatsError::Empty));
        assert_eq!(BOOTSTRAP.loss_difference(&[], &[], None), Err(StatsError::Empty));
        assert_eq!(BOOTSTRAP.macro_f1(&[], 2, None), Err(StatsError::Empty));
    }

    #[test]
    fn one_unit_is_refused() {
        assert_eq!(BOOTSTRAP.mean(&[0.5], None), Err(StatsError::OneUnit { n: 1 }));
        assert_eq!(BOOTSTRAP.mean(&[0.5, 0.7, 0.9], Some(&[4, 4, 4])), Err(StatsError::OneUnit { n: 3 }));
    }

    #[test]
    fn nan_is_refused_by_its_item() {
        let error = BOOTSTRAP.paired_difference(&[0.0, 0.0], &[0.0, f64::NAN], None).unwrap_err();
        assert!(error.to_string().starts_with("the tuned model's score of item 2 is NaN"), "{error}");
        let documents = [
            DocumentLoss { nats: 1.0, tokens: 2, bytes: 9 },
            DocumentLoss { nats: f64::INFINITY, tokens: 2, bytes: 9 },
        ];
        assert_eq!(
            BOOTSTRAP.bits_per_byte(&documents, None),
            Err(StatsError::NotFinite { what: "loss", item: 1, value: f64::INFINITY })
        );
    }

    #[test]
    fn unpaired_input_is_refused() {
        assert!(matches!(
            BOOTSTRAP.paired_difference(&[0.0, 1.0], &[0.0], None),
            Err(StatsError::Length { expected: 2, got: 1, .. })
        ));
        assert!(matches!(
            BOOTSTRAP.mean(&[0.0, 1.0], Some(&[0, 0, 1])),
            Err(StatsError::Length { expected: 2, got: 3, .. })
        ));
        let base = [DocumentLoss { nats: 1.0, tokens: 2, bytes: 9 }; 2];
        let mut tuned = base;
        tuned[1].tokens = 3;
        assert_eq!(
            BOOTSTRAP.loss_difference(&base, &tuned, None),
            Err(StatsError::NotTheSameText { item: 1, base: (2, 9), tuned: (3, 9) })
        );
        let before = [Outcome { truth: 0, predicted: None }, Outcome { truth: 1, predicted: None }];
        let after = [Outcome { truth: 0, predicted: None }, Outcome { truth: 0, predicted: None }];
        assert_eq!(
            BOOTSTRAP.macro_f1_difference(&before, &after, 2, None),
            Err(StatsError::NotTheSameTruth { item: 1, base: 1, tuned: 0 })
        );
        assert_eq!(BOOTSTRAP.macro_f1(&before, 1, None), Err(StatsError::NoSuchLabel { item: 1, label: 1, labels: 1 }));
    }

    #[test]
    fn documents_without_loss_to_compare_are_refused() {
        let empty = [DocumentLoss { nats: 1.0, tokens: 2, bytes: 9 }, DocumentLoss { nats: 0.0, tokens: 0, bytes: 0 }];
        assert_eq!(BOOTSTRAP.nats_per_token(&empty, None), Err(StatsError::NothingScored { item: 1 }));
        let certain = [DocumentLoss { nats: 0.0, tokens: 2, bytes: 9 }; 2];
        assert_eq!(BOOTSTRAP.loss_difference(&certain, &certain, None), Err(StatsError::NoBaseLoss));
    }

    #[test]
    fn too_few_resamples_are_refused() {
        let few = Bootstrap { resamples: 199, seed: 1 };
        assert_eq!(few.mean(&[0.1, 0.2], None), Err(StatsError::TooFewResamples { got: 199 }));
    }

    #[test]
    fn equal_losses_give_an_interval_of_no_width() {
        let interval = BOOTSTRAP.mean(&[2.5; 40], None).unwrap();
        assert_eq!(interval, Interval { estimate: 2.5, low: 2.5, high: 2.5, n: 40, clusters: 40 });
    }

    #[test]
    fn five_unchanged_answers_do_not_prove_that_nothing_changed() {
        let answers = [1.0, 1.0, 0.0, 1.0, 0.0];
        let interval = BOOTSTRAP.paired_difference(&answers, &answers, None).unwrap();
        // 1 - 0.025^(1/5) = 0.5218: R's binom.test(0, 5) upper limit.
        assert_eq!(interval.estimate, 0.0);
        assert!((interval.low + 0.521_824).abs() < 1e-6 && (interval.high - 0.521_824).abs() < 1e-6, "{interval:?}");

        let all_right = BOOTSTRAP.mean(&[1.0; 400], None).unwrap();
        assert!((all_right.low - 0.990_820).abs() < 1e-6 && all_right.high == 1.0, "{all_right:?}");

        let all_gained = BOOTSTRAP.paired_difference(&[0.0; 400], &[1.0; 400], None).unwrap();
        assert!((all_gained.low - (1.0 - 2.0 * 0.009_180)).abs() < 1e-5 && all_gained.high == 1.0, "{all_gained:?}");
    }

    #[test]
    fn the_same_seed_gives_the_same_bits_and_another_seed_others() {
        let values: Vec<f64> = (0..100).map(|i| f64::from(i % 7)).collect();
        let again = Bootstrap { resamples: 2000, seed: 7 };
        let other = Bootstrap { resamples: 2000, seed: 8 };
        assert_eq!(BOOTSTRAP.mean(&values, None), again.mean(&values, None));
        assert_ne!(BOOTSTRAP.mean(&values, None), other.mean(&values, None));
    }

    #[test]
    fn losses_are_ratios_of_sums_not_means_of_ratios() {
        let base =
            [DocumentLoss { nats: 10.0, tokens: 10, bytes: 40 }, DocumentLoss { nats: 90.0, tokens: 30, bytes: 60 }];
        let tuned =
            [DocumentLoss { nats: 12.0, tokens: 10, bytes: 40 }, DocumentLoss { nats: 98.0, tokens: 30, bytes: 60 }];
        assert_eq!(BOOTSTRAP.nats_per_token(&base, None).unwrap().estimate, 100.0 / 40.0);
        let bits = BOOTSTRAP.bits_per_byte(&base, None).unwrap().estimate;
        assert!((bits - std::f64::consts::LOG2_E).abs() < 1e-12, "{bits}");
        let difference = BOOTSTRAP.loss_difference(&base, &tuned, None).unwrap();
        assert_eq!(difference.nats_per_token.estimate, 0.25);
        assert_eq!(difference.relative.estimate, 0.1);
        assert!((difference.bits_per_byte.estimate - 0.144_270).abs() < 1e-6);
        // Two units: the tails hold every replicate, whose extremes are each document alone.
        assert_eq!((difference.nats_per_token.low, difference.nats_per_token.high), (0.2, 8.0 / 30.0));
    }

    #[test]
    fn pairing_removes_the_spread_between_items() {
        let base: Vec<f64> = (0..200).map(|i| f64::from(i * 37 % 101)).collect();
        let tuned: Vec<f64> = base.iter().enumerate().map(|(i, value)| value + 0.5 + (i % 2) as f64).collect();
        let interval = BOOTSTRAP.paired_difference(&base, &tuned, None).unwrap();
        // Standard deviation of the differences is 0.5, so the half-width is 1.96 * 0.5 / sqrt(200) = 0.069.
        assert!((interval.estimate - 1.0).abs() < 1e-9);
        assert!((interval.high - interval.low - 2.0 * 0.069).abs() < 0.02, "{interval:?}");
    }

    #[test]
    fn clusters_of_equal_rows_count_as_one_unit_each() {
        // 40 sources, each seen ten times: the interval must be that of 40 items, not of 400.
        let values: Vec<f64> = (0..40).map(|i| f64::from(i * 17 % 23)).collect();
        let repeated: Vec<f64> = (0..400).map(|i| values[i / 10]).collect();
        let clusters: Vec<u32> = (0..400).map(|i| 1000 - i / 10).collect();
        let alone = BOOTSTRAP.mean(&values, None).unwrap();
        let clustered = BOOTSTRAP.mean(&repeated, Some(&clusters)).unwrap();
        assert_eq!((clustered.n, clustered.clusters), (400, 40));
        assert!((clustered.low - alone.low).abs() < 1e-9 && (clustered.high - alone.high).abs() < 1e-9);
        let naive = BOOTSTRAP.mean(&repeated, None).unwrap();
        assert!((naive.high - naive.low) < 0.4 * (clustered.high - clustered.low));
    }

    #[test]
    fn macro_f1_interval_contains_its_estimate_and_pairs_base_with_tuned() {
        let rows = |right: u32| -> Vec<Outcome> {
            (0..420)
                .map(|i| {
                    let truth = i % 21;
                    Outcome { truth, predicted: Some(if i * 13 % 100 < right { truth } else { (truth + 1) % 21 }) }
                })
                .collect()
        };
        let (base, tuned) = (rows(20), rows(70));
        let interval = BOOTSTRAP.macro_f1(&tuned, 21, None).unwrap();
        assert!(interval.low < interval.estimate && interval.estimate < interval.high, "{interval:?}");
        let difference = BOOTSTRAP.macro_f1_difference(&base, &tuned, 21, None).unwrap();
        assert!(difference.low > 0.4 && difference.high < 0.6, "{difference:?}");
        let none = BOOTSTRAP.macro_f1_difference(&base, &base, 21, None).unwrap();
        assert_eq!((none.estimate, none.low, none.high), (0.0, 0.0, 0.0));
        let clusters: Vec<u32> = (0..420).map(|i| i / 7).collect();
        assert_eq!(BOOTSTRAP.macro_f1(&tuned, 21, Some(&clusters)).unwrap().clusters, 60);
    }
}
