//! Packing: whole rows side by side, without padding and without seeing each other.

use std::ops::Range;

use crate::{Example, Pair};

/// A prediction that counts in the loss.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Target {
    /// Index into [`MicroBatch::ids`] of the token whose hidden state predicts; the token predicted is the next one, of
    /// the same segment.
    pub row: u32,
    /// The token to predict.
    pub token: u32,
    /// Its weight; the loss is `sum(weight * nll) / sum(weight)` over the whole global batch.
    pub weight: f32,
    /// Which source it comes from.
    pub source: u16,
}

/// Rows that go through the model together.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MicroBatch {
    /// The tokens of all rows, one row after another.
    pub ids: Vec<u32>,
    /// Position of each token in its row, from 0.
    pub positions: Vec<u32>,
    /// Where each row lies in `ids`; attention stays within.
    pub segments: Vec<Range<usize>>,
    /// The place of each of these rows among those that were packed: what is random in training goes by it, and not by the
    /// micro-batch that the row came into.
    pub rows: Vec<u32>,
    /// What is trained.
    pub targets: Vec<Target>,
}

impl MicroBatch {
    /// Of each token, the place of its row among those that were packed, and its position in the row.
    pub fn places(&self) -> impl Iterator<Item = (usize, u32)> {
        let rows = self.rows.iter().zip(&self.segments).flat_map(|(row, of)| of.clone().map(|_| *row as usize));
        rows.zip(self.positions.iter().copied())
    }
}

/// Pairs that go through the model together. The worse answer of a pair sees the rows that both begin with as context.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct PairBatch {
    /// The tokens of all pairs, as [`Pair::ids`] has them.
    pub ids: Vec<u32>,
    /// Position of each token in its own answer's sequence, from 0.
    pub positions: Vec<u32>,
    /// Rows that attend within themselves, and the rows before them that they all see; for the better answer none.
    pub segments: Vec<(Range<usize>, Range<usize>)>,
    /// The pairs, in order of their rows.
    pub pairs: Vec<PackedPair>,
}

/// A pair in a [`PairBatch`].
#[derive(Debug, Clone, PartialEq)]
pub struct PackedPair {
    /// Its place among those that were packed.
    pub index: usize,
    /// Which source it comes from.
    pub source: u16,
    /// Its weight; the loss is `sum(weight * loss) / sum(weight)` over the whole global batch.
    pub weight: f32,
    /// Log-probabilities of both answers under the reference, in nats: the better one's first.
    pub reference: [f64; 2],
    /// What is predicted of the better and of the worse answer: the row whose hidden state predicts, and the token.
    pub targets: [Vec<(u32, u32)>; 2],
}

/// Packs the rows of one step, each with the number of its source, into micro-batches of at most `max_tokens` tokens, by
/// best fit. A row longer than `max_tokens` stands alone; none is cut.
pub fn micro_batches(rows: &[(u16, &Example)], max_tokens: usize) -> Vec<MicroBatch> {
    let lengths: Vec<usize> = rows.iter().map(|(_, example)| example.ids.len()).collect();
    let pack = |indices: Vec<usize>| {
        let mut batch = MicroBatch::default();
        for i in indices {
            let (source, example) = rows[i];
            let (start, length) = (batch.ids.len(), example.ids.len());
            batch.ids.extend_from_slice(&example.ids);
            batch.positions.extend(0..length as u32);
            batch.segments.push(start..start + length);
            batch.rows.push(i as u32);
            for at in (1..length).filter(|&at| example.weights[at] > 0.0) {
                let row = (start + at - 1) as u32;
                batch.targets.push(Target { row, token: example.ids[at], weight: example.weights[at], source });
            }
        }
        batch
    };
    best_fit(&lengths, max_tokens).into_iter().map(pack).collect()
}

/// Packs the pairs of one step, each with the number of its source and both log-probabilities under the reference. As
/// [`micro_batches`]; a pair is never parted.
pub fn pair_batches(pairs: &[(u16, &Pair, [f64; 2])], max_tokens: usize) -> Vec<PairBatch> {
    let lengths: Vec<usize> = pairs.iter().map(|(_, pair, _)| pair.ids.len()).collect();
    let pack = |indices: Vec<usize>| {
        let mut batch = PairBatch::default();
        for index in indices {
            let (source, pair, reference) = pairs[index];
            let (start, common, chosen) = (batch.ids.len(), pair.common, pair.chosen);
            let (middle, end) = (start + chosen, start + pair.ids.len());
            batch.ids.extend_from_slice(&pair.ids);
            batch.positions.extend(0..chosen as u32);
            batch.positions.extend(common as u32..(common + end - middle) as u32);
            batch.segments.push((start..middle, 0..0));
            batch.segments.push((middle..end, start..start + common));
            let is_target = |at: &usize| pair.weights[*at] > 0.0;
            let of_chosen = (1..chosen).filter(is_target).map(|at| ((start + at - 1) as u32, pair.ids[at]));
            // The first token of its own is predicted by the last common one.
            let before = |at: usize| if at == chosen { common - 1 } else { at - 1 };
            let of_rejected = (chosen..pair.ids.len()).filter(is_target);
            let of_rejected = of_rejected.map(|at| ((start + before(at)) as u32, pair.ids[at]));
            batch.pairs.push(PackedPair {
                index,
                source,
                weight: pair.weights.iter().copied().fold(0.0, f32::max),
                reference,
                targets: [of_chosen.collect(), of_rejected.collect()],
            });
        }
        batch
    };
    best_fit(&lengths, max_tokens).into_iter().map(pack).collect()
}

/// Which rows of these lengths go together, at most `max_tokens` tokens each.
///
/// Best fit over rows by falling length (ties in the order given): a row goes where the least room is left after it. That
/// needs at most 11/9 of the fewest batches possible plus one (Johnson 1973).
fn best_fit(lengths: &[usize], max_tokens: usize) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..lengths.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(lengths[i]));
    let mut batches: Vec<(usize, Vec<usize>)> = Vec::new();
    for i in order {
        let fitting = batches.iter().enumerate().filter(|(_, (tokens, _))| tokens + lengths[i] <= max_tokens);
        // Of equally full ones the first.
        let fits = fitting.max_by_key(|(index, (tokens, _))| (*tokens, std::cmp::Reverse(*index)));
        match fits.map(|(index, _)| index) {
            Some(index) => {
                batches[index].0 += lengths[i];
                batches[index].1.push(i);
            }
            None => batches.push((lengths[i], vec![i])),
        }
    }
    batches.into_iter().map(|(_, rows)| rows).collect()
}
