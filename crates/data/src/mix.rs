//! The mix: which row of which source is seen at which step.
//!
//! Each source is walked in epochs, every row once an epoch in an order that is a pure function of (seed, source, epoch).
//! Which source gives the next row is decided by deficit: with `T` units drawn so far, `D_s` of them from source `s`, the
//! source with the largest `share_s * T - D_s`. That is deterministic, and no source is ever ahead of its share by more
//! than its longest row, so the shares of a run are those of the plan after a few steps already. Drawing a source by
//! chance would miss them by the square root of the number of rows.

use serde::{Deserialize, Serialize};
use temper_run::Random;

use crate::prepare::RowOrder;
use crate::{DataError, Example, Examples, Pair, Source};

/// What the shares of a mix are counted in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MixUnit {
    /// Tokens that go through the model: shares of the computation.
    ProcessedTokens,
    /// Tokens that are targets: shares of what the loss sees.
    TrainedTokens,
    /// Rows.
    Samples,
}

impl MixUnit {
    fn size(self, examples: &Examples, index: usize) -> usize {
        match self {
            MixUnit::ProcessedTokens => examples.processed_tokens(index),
            MixUnit::TrainedTokens => examples.trained_tokens(index),
            MixUnit::Samples => 1,
        }
    }
}

/// How long a run is.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// So many steps, each of a whole global batch.
    Steps(usize),
    /// Until so many times as many rows as the domain's sources have were drawn of them: with whole epochs of one source every
    /// row of it is seen that often, exactly. The last step ends with the last such row and may be smaller than a global
    /// batch.
    Epochs(f64),
}

/// One row of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ExampleRef {
    /// Index into the sources.
    pub source: u16,
    /// Index into the examples of the source.
    pub index: u32,
}

/// Why no schedule can be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum MixError {
    /// Not one share a source.
    #[error("{shares} shares for {sources} sources, expected one each (1 to {} sources)", u16::MAX)]
    Count {
        /// Number of sources.
        sources: usize,
        /// Number of shares.
        shares: usize,
    },
    /// A share that is no number from 0 to 1.
    #[error("share of {name} is {share}, expected a number from 0 to 1")]
    Share {
        /// The source.
        name: String,
        /// Its share.
        share: f64,
    },
    /// Shares that do not sum to 1.
    #[error("the shares sum to {0}, expected 1")]
    Sum(f64),
    /// A source with a share but without rows.
    #[error("{0} has a share but no rows")]
    NoRows(String),
    /// Nothing to do.
    #[error("{field} is {value}, expected more than 0")]
    NotPositive {
        /// Which argument.
        field: &'static str,
        /// Its value.
        value: f64,
    },
    /// Epochs of sources that are never drawn.
    #[error("the length is given in epochs of {0}, whose share is 0")]
    EpochsOfNothing(String),
}

/// One number for each unit.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize)]
pub struct Units<T> {
    /// Rows.
    pub samples: T,
    /// Tokens that go through the model.
    pub processed_tokens: T,
    /// Tokens that are targets.
    pub trained_tokens: T,
}

/// What a source gives to the run.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SourceShare {
    /// Name of the source.
    pub name: String,
    /// Share planned; in the units that the plan does not name, what follows from the mean row of each source.
    pub planned: Units<f64>,
    /// Share drawn.
    pub actual: Units<f64>,
    /// Amount drawn.
    pub drawn: Units<usize>,
    /// How often the source was walked: rows drawn over rows there are.
    pub epochs: f64,
    /// Draws of a row that had been drawn before.
    pub repeated: usize,
}

/// Shares of all sources.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ShareReport {
    /// The unit in which the shares were given.
    pub unit: MixUnit,
    /// One entry a source, in order.
    pub sources: Vec<SourceShare>,
}

/// The rows of every step of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Schedule {
    steps: Vec<Vec<ExampleRef>>,
    shares: ShareReport,
}

impl Schedule {
    /// The rows of each step, in the order drawn.
    pub fn steps(&self) -> &[Vec<ExampleRef>] {
        &self.steps
    }

    /// The rows of one step, each with the number of its source, as [`crate::micro_batches`] takes them. `sources` are
    /// those that the schedule was made of.
    ///
    /// # Errors
    /// [`DataError::Read`] where a file of tokens cannot be read any more.
    pub fn rows(&self, step: usize, sources: &[Source]) -> Result<Vec<(u16, Example)>, DataError> {
        let row = |r: &ExampleRef| Ok((r.source, sources[usize::from(r.source)].example(r.index as usize)?));
        self.steps[step].iter().map(row).collect()
    }

    /// As [`rows`](Self::rows), of sources of preference pairs: each with the place from which it was drawn.
    ///
    /// # Errors
    /// [`DataError::Read`] where a file of tokens cannot be read any more.
    pub fn pairs(&self, step: usize, sources: &[Source]) -> Result<Vec<(ExampleRef, Pair)>, DataError> {
        let pair = |r: &ExampleRef| Ok((*r, sources[usize::from(r.source)].pair(r.index as usize)?));
        self.steps[step].iter().map(pair).collect()
    }

    /// Planned and actual shares.
    pub fn shares(&self) -> &ShareReport {
        &self.shares
    }
}

/// Draws the rows of a run. `shares` are overall, one a source, the domain first; they sum to 1.
///
/// # Errors
/// [`MixError`].
pub fn schedule(
    sources: &[Source],
    shares: &[f64],
    unit: MixUnit,
    global_batch_size: usize,
    extent: Extent,
    seed: u64,
) -> Result<Schedule, MixError> {
    if sources.is_empty() || sources.len() != shares.len() || sources.len() > usize::from(u16::MAX) {
        return Err(MixError::Count { sources: sources.len(), shares: shares.len() });
    }
    for (source, &share) in sources.iter().zip(shares) {
        if !(0.0..=1.0).contains(&share) {
            return Err(MixError::Share { name: source.name.clone(), share });
        }
        if share > 0.0 && source.examples.is_empty() {
            return Err(MixError::NoRows(source.name.clone()));
        }
    }
    let sum: f64 = shares.iter().sum();
    if (sum - 1.0).abs() > 1e-6 {
        return Err(MixError::Sum(sum));
    }
    if global_batch_size == 0 {
        return Err(MixError::NotPositive { field: "global batch size", value: 0.0 });
    }
    let domain = || (0..sources.len()).filter(|&s| !sources[s].general);
    // The run ends after so many rows in all, or after so many of the domain.
    let (max_rows, max_domain_rows) = match extent {
        Extent::Steps(0) => return Err(MixError::NotPositive { field: "steps", value: 0.0 }),
        Extent::Steps(steps) => (steps.saturating_mul(global_batch_size), usize::MAX),
        Extent::Epochs(epochs) if !(epochs.is_finite() && epochs > 0.0) => {
            return Err(MixError::NotPositive { field: "epochs", value: epochs });
        }
        Extent::Epochs(_) if domain().all(|s| shares[s] == 0.0) => {
            return Err(MixError::EpochsOfNothing(sources[0].name.clone()));
        }
        Extent::Epochs(epochs) => {
            let rows: usize = domain().filter(|&s| shares[s] > 0.0).map(|s| sources[s].examples.len()).sum();
            (usize::MAX, (epochs * rows as f64).ceil() as usize)
        }
    };

    let order = Random::new(seed, "order of rows");
    let mut orders: Vec<Vec<usize>> = vec![Vec::new(); sources.len()];
    let mut drawn: Vec<Units<usize>> = vec![Units::default(); sources.len()];
    let mut in_unit = vec![0usize; sources.len()];
    let mut rows = Vec::new();
    let mut domain_rows = 0;
    while rows.len() < max_rows && domain_rows < max_domain_rows {
        let total: usize = in_unit.iter().sum();
        let deficit = |s: usize| shares[s] * total as f64 - in_unit[s] as f64;
        // Ties (the first draw is one) go to the larger share, then to the earlier source.
        let source = (0..sources.len())
            .filter(|&s| shares[s] > 0.0)
            .max_by(|&a, &b| deficit(a).total_cmp(&deficit(b)).then(shares[a].total_cmp(&shares[b])).then(b.cmp(&a)))
            .unwrap_or(0);
        let examples = &sources[source].examples;
        let (epoch, at) = (drawn[source].samples / examples.len(), drawn[source].samples % examples.len());
        if at == 0 {
            orders[source] = order.within(source as u64).within(epoch as u64).permutation(examples.len());
            if sources[source].order == RowOrder::BestLast {
                let quality = |index: &usize| examples.quality(*index).unwrap_or(f32::NEG_INFINITY);
                orders[source].sort_by(|a, b| quality(a).total_cmp(&quality(b)));
            }
        }
        let index = orders[source][at];
        drawn[source].samples += 1;
        domain_rows += usize::from(!sources[source].general);
        drawn[source].processed_tokens += examples.processed_tokens(index);
        drawn[source].trained_tokens += examples.trained_tokens(index);
        in_unit[source] += unit.size(examples, index);
        rows.push(ExampleRef { source: source as u16, index: index as u32 });
    }
    let steps = rows.chunks(global_batch_size).map(<[ExampleRef]>::to_vec).collect();
    Ok(Schedule { steps, shares: report(sources, shares, unit, &drawn) })
}

fn report(sources: &[Source], shares: &[f64], unit: MixUnit, drawn: &[Units<usize>]) -> ShareReport {
    let mean = |source: &Source, unit: MixUnit| {
        let examples = &source.examples;
        (0..examples.len()).map(|index| unit.size(examples, index)).sum::<usize>() as f64 / examples.len().max(1) as f64
    };
    // Rows of each source in proportion, then their amount in another unit.
    let planned = |s: usize, other: MixUnit| {
        let amount = |s: usize| match shares[s] {
            0.0 => 0.0,
            share => share / mean(&sources[s], unit) * mean(&sources[s], other),
        };
        // Of prompts nothing is trained.
        let all = (0..sources.len()).map(amount).sum::<f64>();
        if all > 0.0 { amount(s) / all } else { 0.0 }
    };
    let actual = |s: usize, of: fn(&Units<usize>) -> usize| {
        of(&drawn[s]) as f64 / drawn.iter().map(of).sum::<usize>().max(1) as f64
    };
    let entry = |(s, source): (usize, &Source)| SourceShare {
        name: source.name.clone(),
        planned: Units {
            samples: planned(s, MixUnit::Samples),
            processed_tokens: planned(s, MixUnit::ProcessedTokens),
            trained_tokens: planned(s, MixUnit::TrainedTokens),
        },
        actual: Units {
            samples: actual(s, |d| d.samples),
            processed_tokens: actual(s, |d| d.processed_tokens),
            trained_tokens: actual(s, |d| d.trained_tokens),
        },
        drawn: drawn[s],
        epochs: drawn[s].samples as f64 / source.examples.len().max(1) as f64,
        repeated: drawn[s].samples.saturating_sub(source.examples.len()),
    };
    ShareReport { unit, sources: sources.iter().enumerate().map(entry).collect() }
}
