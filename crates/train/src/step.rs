//! One optimiser step: micro-batches forward and backward, one division, clip, AdamW.

use temper_data::{MicroBatch, Target};
use temper_kernels::{Device, LogProbGrad, Pick, Segment};
use temper_model::{Beginnings, Llama, Tokens, Workspace};

use crate::TrainError;
use crate::optimizer::Optimizer;
use crate::preference::PreferenceMetrics;

/// Sums over target tokens, or over preference pairs, of one data source; dividing them is left to the last line.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct LossSum {
    /// Sum of weight * negative log-likelihood, in nats; of pairs, of weight * loss.
    pub nll: f64,
    /// Sum of weights.
    pub weight: f64,
}

impl LossSum {
    /// Mean loss in nats per unit of weight; NaN where nothing was summed.
    pub fn mean(&self) -> f64 {
        self.nll / self.weight
    }

    /// The sum of sums.
    pub fn total(sums: &[Self]) -> Self {
        sums.iter().fold(Self::default(), |a, b| Self { nll: a.nll + b.nll, weight: a.weight + b.weight })
    }
}

/// What one step did.
#[derive(Clone, Debug, PartialEq)]
pub struct StepOutcome {
    /// Loss by source, by the index that the targets carry.
    pub by_source: Vec<LossSum>,
    /// Norm of the gradient before clipping.
    pub gradient_norm: f64,
    /// Tokens of the rows; what they begin with in common went through the model once.
    pub processed_tokens: usize,
    /// Tokens that were targets.
    pub trained_tokens: usize,
    /// Of a step over preference pairs: rewards and log-probabilities, before the step.
    pub preference: Option<PreferenceMetrics>,
}

impl StepOutcome {
    /// The loss that was minimised: `sum(weight * nll) / sum(weight)` over the whole global batch.
    pub fn loss(&self) -> f64 {
        LossSum::total(&self.by_source).mean()
    }
}

/// One step over the micro-batches of a global batch. Each token's gradient is divided by the weight of the whole
/// global batch, so the split into micro-batches changes nothing but rounding.
///
/// # Errors
/// When the loss or the gradient is not finite; the weights are then as before the step.
pub fn step<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    optimizer: &mut Optimizer<D::Buffer>,
    batches: &[MicroBatch],
    learning_rate: f64,
) -> Result<StepOutcome, TrainError> {
    let d = model.device();
    let targets = || batches.iter().flat_map(|b| &b.targets);
    let total: f64 = targets().map(|t| f64::from(t.weight)).sum();
    let sources = targets().map(|t| usize::from(t.source) + 1).max().unwrap_or(0);
    if total <= 0.0 {
        return Err(TrainError::NothingToTrain);
    }
    optimizer.clear_gradients(d);
    let mut by_source = vec![LossSum::default(); sources];
    for batch in batches {
        forward_backward(model, ws, batch, total, optimizer.steps(), &mut by_source);
    }
    let outcome = StepOutcome {
        by_source,
        gradient_norm: 0.0,
        processed_tokens: batches.iter().map(|b| b.ids.len()).sum(),
        trained_tokens: targets().count(),
        preference: None,
    };
    conclude(model, optimizer, outcome, learning_rate)
}

/// The end of every step: the gradient's norm, into `outcome`, then AdamW, unless a number is not finite.
pub(crate) fn conclude<D: Device>(
    model: &Llama<D>,
    optimizer: &mut Optimizer<D::Buffer>,
    mut outcome: StepOutcome,
    learning_rate: f64,
) -> Result<StepOutcome, TrainError> {
    let d = model.device();
    let norm = optimizer.gradient_norm(d).map_err(|parameter| TrainError::GradientNotFinite { parameter })?;
    outcome.gradient_norm = norm;
    if !outcome.loss().is_finite() {
        return Err(TrainError::LossNotFinite { loss: outcome.loss() });
    }
    optimizer.step(d, learning_rate, norm);
    model.adapters_changed();
    Ok(outcome)
}

/// Adds the gradients of one micro-batch. `step`: steps made before this one.
fn forward_backward<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    batch: &MicroBatch,
    total: f64,
    step: usize,
    by_source: &mut [LossSum],
) {
    let (Some(hidden_gradient), Some(picked_gradient)) = (&ws.hidden_gradient, &ws.picked_gradient) else {
        panic!("a step needs a workspace for training");
    };
    let d = model.device();
    let noise = model.noise(step, batch.places());
    let laid = if noise.is_none() { Laid::shared(batch) } else { Laid::apart(batch) };
    let tokens = laid.tokens();
    let hidden = model.forward_noised(ws, tokens, noise.as_ref());

    // Only the positions that predict a trained token go through the head.
    let targets = || laid.order.iter().map(|&place| &batch.targets[place]);
    let by_logprob: Vec<f32> = targets().map(|t| (-f64::from(t.weight) / total) as f32).collect();
    let (picked, dpicked) = (ws.picked.first_rows(laid.asked.len()), picked_gradient.first_rows(laid.asked.len()));
    d.gather_rows(&hidden, &laid.asked, &picked);
    let head = model.head();
    let grad = LogProbGrad { logprob: &by_logprob, entropy: &[], hidden: &dpicked, head: head.gradient.as_ref() };
    let found = d.linear_logprob(&picked, &head.value, &laid.picks, &ws.logits[0], Some(grad));
    for (target, logprob) in targets().zip(&found.logprob) {
        let sum = &mut by_source[usize::from(target.source)];
        sum.nll -= f64::from(target.weight) * f64::from(*logprob);
        sum.weight += f64::from(target.weight);
    }
    let dhidden = hidden_gradient.first_rows(tokens.ids.len());
    d.fill(&dhidden, 0.0);
    d.scatter_rows(&dpicked, &laid.asked, &dhidden);
    model.backward_noised(ws, tokens, noise.as_ref());
}

/// A micro-batch as it goes through the model. What its rows begin with in common is computed once, forward and backward,
/// which changes rounding only.
struct Laid {
    rows: Beginnings,
    /// The rows of hidden states that predict something, ascending.
    asked: Vec<u32>,
    /// A pick for each target, by the rows of `asked`.
    picks: Vec<Pick>,
    /// The target of each pick, by its place in the batch.
    order: Vec<usize>,
}

impl Laid {
    /// What rows begin with in common has one run of rows.
    fn shared(batch: &MicroBatch) -> Self {
        let ids = |i: usize| &batch.ids[batch.segments[i].clone()];
        let (mut rows, mut row_of) = (Beginnings::default(), vec![0; batch.ids.len()]);
        for i in Beginnings::order(batch.segments.len(), ids) {
            row_of[batch.segments[i].clone()].copy_from_slice(&rows.add(ids(i)));
        }
        Self::of(batch, rows, &row_of)
    }

    /// Each row by itself, as where every token of a row has something of its own dropped.
    fn apart(batch: &MicroBatch) -> Self {
        let mut rows = Beginnings::default();
        rows.ids.clone_from(&batch.ids);
        rows.positions.clone_from(&batch.positions);
        rows.segments = batch.segments.iter().cloned().map(Segment::alone).collect();
        let row_of: Vec<u32> = (0..batch.ids.len() as u32).collect();
        Self::of(batch, rows, &row_of)
    }

    fn of(batch: &MicroBatch, rows: Beginnings, row_of: &[u32]) -> Self {
        let row = |place: &usize| row_of[batch.targets[*place].row as usize];
        let mut order: Vec<usize> = (0..batch.targets.len()).collect();
        order.sort_by_key(row);
        let mut asked: Vec<u32> = Vec::with_capacity(order.len());
        let pick = |place: &usize| {
            if asked.last() != Some(&row(place)) {
                asked.push(row(place));
            }
            Pick { row: asked.len() as u32 - 1, token: batch.targets[*place].token }
        };
        let picks = order.iter().map(pick).collect();
        Self { rows, asked, picks, order }
    }

    fn tokens(&self) -> Tokens<'_> {
        Tokens { ids: &self.rows.ids, positions: &self.rows.positions, segments: &self.rows.segments }
    }
}

/// Sums of the loss over micro-batches, nothing trained: validation and held-out text. The rows are laid out anew, so that
/// what they begin with in common is computed once; the sum goes over targets in the order of the batches.
pub fn evaluate<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[MicroBatch],
) -> LossSum {
    let d = model.device();
    // Each row of each batch: its tokens, and its targets by their place among all.
    let (mut rows, mut first) = (Vec::new(), 0);
    for batch in batches {
        for segment in &batch.segments {
            let own = |t: &Target| segment.contains(&(t.row as usize));
            let targets: Vec<_> = (first..).zip(&batch.targets).filter(|(_, t)| own(t)).collect();
            if !targets.is_empty() {
                rows.push((&batch.ids[segment.clone()], segment.start as u32, targets));
            }
        }
        first += batch.targets.len();
    }
    let mut logprobs = vec![0.0; first];
    let mut waiting = Beginnings::order(rows.len(), |i| rows[i].0).into_iter().peekable();
    while waiting.peek().is_some() {
        let (mut laid, mut asked, mut picks, mut places) = (Beginnings::default(), Vec::new(), Vec::new(), Vec::new());
        while let Some(i) = waiting.next_if(|&i| {
            let (ids, _, targets) = &rows[i];
            let fits = laid.ids.len() + ids.len() - laid.shared(ids) <= ws.tokens();
            laid.ids.is_empty() || fits && asked.len() + targets.len() <= ws.tokens()
        }) {
            let (ids, start, targets) = &rows[i];
            let own = laid.add(ids);
            for (place, target) in targets {
                let row = own[(target.row - start) as usize];
                if asked.last() != Some(&row) {
                    asked.push(row);
                }
                picks.push(Pick { row: asked.len() as u32 - 1, token: target.token });
                places.push(*place);
            }
        }
        let tokens = Tokens { ids: &laid.ids, positions: &laid.positions, segments: &laid.segments };
        let hidden = model.forward(ws, tokens, adapter);
        let picked = ws.picked.first_rows(asked.len());
        d.gather_rows(&hidden, &asked, &picked);
        let found = d.linear_logprob(&picked, &model.head().value, &picks, &ws.logits[0], None);
        places.iter().zip(found.logprob).for_each(|(&place, logprob)| logprobs[place] = logprob);
    }
    let mut sum = LossSum::default();
    for (target, logprob) in batches.iter().flat_map(|batch| &batch.targets).zip(logprobs) {
        sum.nll -= f64::from(target.weight) * f64::from(logprob);
        sum.weight += f64::from(target.weight);
    }
    sum
}
