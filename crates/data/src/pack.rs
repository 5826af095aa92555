//! Packing: whole rows side by side, without padding and without seeing each other.

use std::ops::Range;

use crate::Example;

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

/// Packs the rows of one step, each with the number of its source, into micro-batches of at most `max_tokens` tokens.
///
/// Best fit over rows by falling length (ties in the order given): a row goes where the least room is left after it. That
/// needs at most 11/9 of the fewest batches possible plus one (Johnson 1973). A row longer than `max_tokens` stands alone; none is cut.
pub fn micro_batches(rows: &[(u16, &Example)], max_tokens: usize) -> Vec<MicroBatch> {
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by_key(|&i| std::cmp::Reverse(rows[i].1.ids.len()));
    let mut batches: Vec<MicroBatch> = Vec::new();
    for i in order {
        let (source, example) = rows[i];
        let length = example.ids.len();
        let fitting = batches.iter().enumerate().filter(|(_, batch)| batch.ids.len() + length <= max_tokens);
        // Of equally full ones the first.
        let fits =
            fitting.max_by_key(|(index, batch)| (batch.ids.len(), std::cmp::Reverse(*index))).map(|(index, _)| index);
        let index = fits.unwrap_or(batches.len());
        if fits.is_none() {
            batches.push(MicroBatch::default());
        }
        let batch = &mut batches[index];
        let start = batch.ids.len();
        batch.ids.extend_from_slice(&example.ids);
        batch.positions.extend(0..length as u32);
        batch.segments.push(start..start + length);
        batch.rows.push(i as u32);
        for at in (1..length).filter(|&at| example.weights[at] > 0.0) {
            let row = (start + at - 1) as u32;
            batch.targets.push(Target { row, token: example.ids[at], weight: example.weights[at], source });
        }
    }
    batches
}
