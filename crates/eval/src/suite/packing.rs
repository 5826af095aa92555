//! Many short sequences in one forward pass. Nothing is padded, so lengths need not be alike; what sequences begin with in
//! common, such as a system prompt, is computed once for all that share the pass.

use temper_kernels::{Device, Pick, Segment, Tensor};
use temper_model::{Beginnings, Tokens, Workspace};

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

    /// How many rows something is asked at.
    fn rows_asked(&self) -> usize {
        self.asks.chunk_by(|a, b| a.row == b.row).count()
    }

    /// The tokens of its first segment, which sees nothing but itself: what others may begin with as well.
    fn beginning(&self) -> &[u32] {
        &self.ids[..self.segments.first().map_or(0, |segment| segment.rows.end)]
    }
}

/// Sequences that share a forward.
#[derive(Default)]
struct Batch {
    rows: Beginnings,
    /// Rows at which something is asked, sequence by sequence.
    asked: Vec<u32>,
    /// What is asked, by index into `asked`.
    picks: Vec<Pick>,
}

impl Batch {
    fn new(sequences: &[Sequence], run: &[usize]) -> Batch {
        let mut batch = Batch::default();
        for sequence in run.iter().map(|&index| &sequences[index]) {
            let mut places = batch.rows.add(sequence.beginning());
            for segment in &sequence.segments[1..] {
                let context = segment.context.iter().cloned().flatten().map(|row| places[row]);
                let (ids, positions) = (&sequence.ids[segment.rows.clone()], &sequence.positions[segment.rows.clone()]);
                let first = batch.rows.branch(ids, positions, context);
                places.extend((first..).take(ids.len()));
            }
            let mut last = None;
            for ask in &sequence.asks {
                if last != Some(ask.row) {
                    batch.asked.push(places[ask.row as usize]);
                    last = Some(ask.row);
                }
                batch.picks.push(Pick { row: batch.asked.len() as u32 - 1, token: ask.token });
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
        let Beginnings { ids, positions, segments, .. } = &self.rows;
        let hidden = side.model.forward(workspace, Tokens { ids, positions, segments }, side.adapter);
        let picked = picked.first_rows(self.asked.len());
        side.model.device().gather_rows(&hidden, &self.asked, &picked);
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
    let (mut found, mut done) = (vec![Vec::new(); sequences.len()], 0);
    for run in pack(workspace.tokens(), context(side), sequences)? {
        let batch = Batch::new(sequences, &run);
        let picked = batch.hidden(side, workspace, &workspace.picked);
        let read = side.model.device().linear_logprob(&picked, head, &batch.picks, &workspace.logits[0], None).logprob;
        let mut rest = read.as_slice();
        for &index in &run {
            let (own, others) = rest.split_at(sequences[index].asks.len());
            if own.iter().any(|logprob| !logprob.is_finite()) {
                return Err(EvalError::NotFinite { line: sequences[index].line });
            }
            found[index] = own.to_vec();
            rest = others;
        }
        done += run.len();
        progress(done, sequences.len());
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
    let (mut found, mut done) = (vec![0.0; sequences.len()], 0);
    for run in pack(rows, context(base), sequences)? {
        let batch = Batch::new(sequences, &run);
        let p = batch.hidden(base, workspace, &aside);
        let q = batch.hidden(tuned, workspace, &workspace.picked);
        let [logits_p, logits_q] = &workspace.logits;
        let heads = (&base.model.head().value, &tuned.model.head().value);
        let read = device.linear_kl((&p, heads.0), (&q, heads.1), (logits_p, logits_q));
        let mut rest = read.as_slice();
        for &index in &run {
            let (own, others) = rest.split_at(sequences[index].rows_asked());
            let sum: f64 = own.iter().map(|&kl| f64::from(kl)).sum();
            if !sum.is_finite() {
                return Err(EvalError::NotFinite { line: sequences[index].line });
            }
            found[index] = sum;
            rest = others;
        }
        done += run.len();
        progress(done, sequences.len());
    }
    Ok(found)
}

fn context<D: Device>(side: Side<'_, D>) -> usize {
    side.model.config().max_position_embeddings
}

/// Runs of sequences, by index, that have at most `budget` rows, and so many at which something is asked, when common
/// beginnings are shared. All items that do not fit, shared or not, are named at once.
pub(super) fn pack(budget: usize, context: usize, sequences: &[Sequence]) -> Result<Vec<Vec<usize>>, EvalError> {
    let mut too_long = Vec::new();
    for sequence in sequences {
        let tokens = sequence.ids.len();
        let positions = sequence.positions.iter().max().map_or(0, |&last| last as usize + 1);
        if tokens > budget || positions > context {
            let limit = if tokens > budget { budget } else { context };
            too_long.push(TooLong { line: sequence.line, tokens: tokens.max(positions), limit });
        }
    }
    if !too_long.is_empty() {
        return Err(EvalError::TooLong(too_long));
    }
    let mut runs: Vec<Vec<usize>> = Vec::new();
    let (mut rows, mut asked, mut before): (usize, usize, &[u32]) = (budget, 0, &[]);
    for index in Beginnings::order(sequences.len(), |i| sequences[i].beginning()) {
        let sequence = &sequences[index];
        let shared = Beginnings::common(before, sequence.beginning());
        let own = sequence.ids.len() - shared;
        match runs.last_mut() {
            Some(run) if rows + own <= budget && asked + sequence.rows_asked() <= budget => {
                run.push(index);
                (rows, asked) = (rows + own, asked + sequence.rows_asked());
            }
            _ => {
                runs.push(vec![index]);
                (rows, asked) = (sequence.ids.len(), sequence.rows_asked());
            }
        }
        before = sequence.beginning();
    }
    Ok(runs)
}
