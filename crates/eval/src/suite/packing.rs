//! Many short sequences in one forward pass.

use std::ops::Range;

use temper_kernels::{Device, Pick, Segment, Tensor};
use temper_model::{Tokens, Workspace};

use super::{EvalError, Side, TooLong};

/// One item as rows of a packed batch. Rows, segments and asks count from the item's own first row.
pub(super) struct Sequence {
    /// Line of the item, for errors.
    pub line: usize,
    pub ids: Vec<u32>,
    pub positions: Vec<u32>,
    pub segments: Vec<Segment>,
    /// Log-probabilities to read; rows ascend.
    pub asks: Vec<Pick>,
}

impl Sequence {
    /// A plain causal sequence.
    pub fn plain(line: usize, ids: Vec<u32>, asks: Vec<Pick>) -> Sequence {
        let positions = (0..ids.len() as u32).collect();
        let segments = vec![Segment::alone(0..ids.len())];
        Sequence { line, ids, positions, segments, asks }
    }

    fn rows_asked(&self) -> Vec<u32> {
        let mut rows: Vec<u32> = self.asks.iter().map(|ask| ask.row).collect();
        rows.dedup();
        rows
    }
}

/// Sequences that share a forward.
struct Batch {
    ids: Vec<u32>,
    positions: Vec<u32>,
    segments: Vec<Segment>,
    /// Rows at which something is asked, ascending.
    rows: Vec<u32>,
    /// What is asked, by index into `rows`.
    picks: Vec<Pick>,
}

impl Batch {
    fn new(sequences: &[Sequence]) -> Batch {
        let mut batch = Batch { ids: vec![], positions: vec![], segments: vec![], rows: vec![], picks: vec![] };
        for sequence in sequences {
            let start = batch.ids.len();
            let shift = |range: &Range<usize>| range.start + start..range.end + start;
            batch.ids.extend_from_slice(&sequence.ids);
            batch.positions.extend_from_slice(&sequence.positions);
            batch.segments.extend(sequence.segments.iter().map(|segment| Segment {
                rows: shift(&segment.rows),
                context: segment.context.iter().map(shift).collect(),
            }));
            for ask in &sequence.asks {
                let row = ask.row + start as u32;
                if batch.rows.last() != Some(&row) {
                    batch.rows.push(row);
                }
                batch.picks.push(Pick { row: batch.rows.len() as u32 - 1, token: ask.token });
            }
        }
        batch
    }

    /// Final hidden states of the rows asked, in `picked`: [rows, d].
    fn hidden<D: Device>(
        &self,
        side: Side<'_, D>,
        workspace: &Workspace<D::Buffer>,
        picked: &Tensor<D::Buffer>,
    ) -> Tensor<D::Buffer> {
        let tokens = Tokens { ids: &self.ids, positions: &self.positions, segments: &self.segments };
        let hidden = side.model.forward(workspace, tokens, side.adapter);
        let picked = picked.first_rows(self.rows.len());
        side.model.device().gather_rows(&hidden, &self.rows, &picked);
        picked
    }
}

/// Log-probability of every ask of every sequence, in nats.
pub(super) fn logprobs<D: Device>(
    side: Side<'_, D>,
    workspace: &Workspace<D::Buffer>,
    sequences: &[Sequence],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Vec<f32>>, EvalError> {
    let head = &side.model.head().value;
    let mut found = Vec::with_capacity(sequences.len());
    for range in pack(workspace.tokens(), context(side), sequences)? {
        let batch = Batch::new(&sequences[range.clone()]);
        let picked = batch.hidden(side, workspace, &workspace.picked);
        let read = side.model.device().linear_logprob(&picked, head, &batch.picks, &workspace.logits[0], None).logprob;
        let mut rest = read.as_slice();
        for sequence in &sequences[range.clone()] {
            let (own, others) = rest.split_at(sequence.asks.len());
            if own.iter().any(|logprob| !logprob.is_finite()) {
                return Err(EvalError::NotFinite { line: sequence.line });
            }
            found.push(own.to_vec());
            rest = others;
        }
        progress(range.end, sequences.len());
    }
    Ok(found)
}

/// KL(base || tuned) in nats, summed over the rows of each sequence at which something is asked.
pub(super) fn divergences<D: Device>(
    base: Side<'_, D>,
    tuned: Side<'_, D>,
    workspace: &Workspace<D::Buffer>,
    sequences: &[Sequence],
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<f64>, EvalError> {
    let device = base.model.device();
    let (rows, width) = (workspace.tokens(), base.model.config().hidden_size);
    // Both sides run in one workspace, so what the base left is put aside before the tuned model runs.
    let aside = Tensor::new(device.zeros(rows * width), 0, rows, width);
    let mut found = Vec::with_capacity(sequences.len());
    for range in pack(rows, context(base), sequences)? {
        let batch = Batch::new(&sequences[range.clone()]);
        let p = batch.hidden(base, workspace, &aside);
        let q = batch.hidden(tuned, workspace, &workspace.picked);
        let [logits_p, logits_q] = &workspace.logits;
        let heads = (&base.model.head().value, &tuned.model.head().value);
        let read = device.linear_kl((&p, heads.0), (&q, heads.1), (logits_p, logits_q));
        let mut rest = read.as_slice();
        for sequence in &sequences[range.clone()] {
            let (own, others) = rest.split_at(sequence.rows_asked().len());
            let sum: f64 = own.iter().map(|&kl| f64::from(kl)).sum();
            if !sum.is_finite() {
                return Err(EvalError::NotFinite { line: sequence.line });
            }
            found.push(sum);
            rest = others;
        }
        progress(range.end, sequences.len());
    }
    Ok(found)
}

fn context<D: Device>(side: Side<'_, D>) -> usize {
    side.model.config().max_position_embeddings
}

/// Runs of sequences of at most `budget` tokens each, in order. All items that do not fit are named at once.
pub(super) fn pack(budget: usize, context: usize, sequences: &[Sequence]) -> Result<Vec<Range<usize>>, EvalError> {
    let mut too_long = Vec::new();
    let mut runs: Vec<Range<usize>> = Vec::new();
    let mut taken = budget;
    for (index, sequence) in sequences.iter().enumerate() {
        let tokens = sequence.ids.len();
        let positions = sequence.positions.iter().max().map_or(0, |&last| last as usize + 1);
        if tokens > budget || positions > context {
            let limit = if tokens > budget { budget } else { context };
            too_long.push(TooLong { line: sequence.line, tokens: tokens.max(positions), limit });
            continue;
        }
        match runs.last_mut() {
            Some(run) if taken + tokens <= budget => {
                run.end = index + 1;
                taken += tokens;
            }
            _ => {
                runs.push(index..index + 1);
                taken = tokens;
            }
        }
    }
    if too_long.is_empty() { Ok(runs) } else { Err(EvalError::TooLong(too_long)) }
}
