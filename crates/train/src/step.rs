//! One optimiser step: micro-batches forward and backward, one division, clip, AdamW.

use temper_data::{MicroBatch, Target};
use temper_kernels::{Device, Segment};
use temper_model::{Beginnings, Llama, Tokens, Workspace};

use crate::TrainError;
use crate::optimizer::Optimizer;
use crate::picks::{ByAsked, Picks};
use crate::policy::PolicyMetrics;
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

    /// Of one target.
    fn of((target, logprob): (&Target, f32)) -> Self {
        let weight = f64::from(target.weight);
        Self { nll: -weight * f64::from(logprob), weight }
    }

    fn add(self, other: Self) -> Self {
        Self { nll: self.nll + other.nll, weight: self.weight + other.weight }
    }

    /// The sum of sums.
    pub fn total(sums: &[Self]) -> Self {
        sums.iter().copied().fold(Self::default(), Self::add)
    }
}

/// Rows that a step over rollouts trains as supervised training does, beside what it is about.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct General {
    /// Loss by source, by the index that the targets carry; empty without such rows.
    pub by_source: Vec<LossSum>,
    /// Their targets.
    pub tokens: usize,
}

impl General {
    /// What they add to the minimised loss: `sum(weight * nll) / targets`, in which a source's weight is its factor on the mean loss
    /// of its tokens; 0 without rows.
    pub fn loss(&self) -> f64 {
        LossSum::total(&self.by_source).nll / self.tokens.max(1) as f64
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
    /// Of a step over rollouts.
    pub policy: Option<PolicyMetrics>,
    /// Of a step over rollouts: what was trained beside them.
    pub general: General,
}

impl StepOutcome {
    /// The loss that was minimised: `sum(weight * nll) / sum(weight)` over the whole global batch, and what general rows add.
    pub fn loss(&self) -> f64 {
        LossSum::total(&self.by_source).mean() + self.general.loss()
    }

    /// The mean loss of each source, by index; NaN where the step had none of it.
    pub fn loss_by_source(&self) -> Vec<f64> {
        let general = self.general.by_source.iter().skip(self.by_source.len());
        self.by_source.iter().chain(general).map(LossSum::mean).collect()
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
        policy: None,
        general: General::default(),
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

/// Adds the gradients of one micro-batch, each target's by its weight over `total`. `step`: steps made before this one.
pub(crate) fn forward_backward<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    batch: &MicroBatch,
    total: f64,
    step: usize,
    by_source: &mut [LossSum],
) {
    let noise = model.noise(step, batch.places());
    let (rows, row_of) = if noise.is_none() { shared(batch) } else { apart(batch) };
    let tokens = Tokens { ids: &rows.ids, positions: &rows.positions, segments: &rows.segments };
    let hidden = model.forward_noised(ws, tokens, noise.as_ref());
    let asked: Vec<_> = batch.targets.iter().map(|t| (row_of[t.row as usize], t.token)).collect();
    let by_logprob: Vec<f32> = batch.targets.iter().map(|t| (-f64::from(t.weight) / total) as f32).collect();
    let picks = Picks::of(&asked);
    picks.gather(model, ws, &hidden);
    let by = ByAsked { logprob: &by_logprob, entropy: &[] };
    let (logprobs, _) = picks.backward(model, ws, tokens, by, noise.as_ref());
    for (target, logprob) in batch.targets.iter().zip(logprobs) {
        let sum = &mut by_source[usize::from(target.source)];
        *sum = sum.add(LossSum::of((target, logprob)));
    }
}

/// The rows of a micro-batch, and where each of its tokens stands among them. What rows begin with in common is computed once,
/// forward and backward, which changes rounding only.
fn shared(batch: &MicroBatch) -> (Beginnings, Vec<u32>) {
    let ids = |i: usize| &batch.ids[batch.segments[i].clone()];
    let (mut rows, mut row_of) = (Beginnings::default(), vec![0; batch.ids.len()]);
    for i in Beginnings::order(batch.segments.len(), ids) {
        row_of[batch.segments[i].clone()].copy_from_slice(&rows.add(ids(i)));
    }
    (rows, row_of)
}

/// The same with each row by itself, as where every token of a row has something of its own dropped.
fn apart(batch: &MicroBatch) -> (Beginnings, Vec<u32>) {
    let mut rows = Beginnings::default();
    rows.ids.clone_from(&batch.ids);
    rows.positions.clone_from(&batch.positions);
    rows.segments = batch.segments.iter().cloned().map(Segment::alone).collect();
    (rows, (0..batch.ids.len() as u32).collect())
}

/// Sums of the loss over micro-batches, nothing trained: validation and held-out text. The rows are laid out anew, so that
/// what they begin with in common is computed once; the sum goes over targets in the order of the batches.
pub fn evaluate<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[MicroBatch],
) -> LossSum {
    whole(batches, &target_logprobs(model, ws, adapter, batches))
}

/// [`evaluate`] of each row that has a target, in the order of the batches.
pub fn evaluate_rows<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[MicroBatch],
) -> Vec<LossSum> {
    by_row(batches, &target_logprobs(model, ws, adapter, batches)).into_iter().map(|(_, sum)| sum).collect()
}

/// [`evaluate`] as a mean, and what each row adds to it, times the number of rows, so that the mean of these is the same. Rows are in
/// the order in which they were packed, whatever micro-batches they came into, so that two models' stand side by side.
pub(crate) fn evaluate_with_rows<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[MicroBatch],
) -> (f64, Vec<f64>) {
    let logprobs = target_logprobs(model, ws, adapter, batches);
    let (whole, mut rows) = (whole(batches, &logprobs), by_row(batches, &logprobs));
    rows.sort_by_key(|(place, _)| *place);
    let count = rows.len() as f64;
    (whole.mean(), rows.into_iter().map(|(_, sum)| sum.nll * count / whole.weight).collect())
}

/// The sum over all targets.
fn whole(batches: &[MicroBatch], logprobs: &[f32]) -> LossSum {
    let targets = batches.iter().flat_map(|batch| &batch.targets);
    targets.zip(logprobs.iter().copied()).map(LossSum::of).fold(LossSum::default(), LossSum::add)
}

/// The sums of rows that have a target, in the order of the batches, and the place of each among those that were packed.
fn by_row(batches: &[MicroBatch], logprobs: &[f32]) -> Vec<(u32, LossSum)> {
    let mut logprobs = logprobs.iter().copied();
    let mut rows = Vec::new();
    for batch in batches {
        let mut of_batch = vec![LossSum::default(); batch.segments.len()];
        for (target, logprob) in batch.targets.iter().zip(&mut logprobs) {
            let at = batch.segments.partition_point(|segment| segment.end <= target.row as usize);
            of_batch[at] = of_batch[at].add(LossSum::of((target, logprob)));
        }
        let placed = batch.rows.iter().copied().zip(of_batch);
        rows.extend(placed.filter(|(_, row)| row.weight > 0.0));
    }
    rows
}

/// The log-probability of every target, in the order of the batches.
fn target_logprobs<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[MicroBatch],
) -> Vec<f32> {
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
        let (mut laid, mut asked, mut places) = (Beginnings::default(), Vec::new(), Vec::new());
        while let Some(i) = waiting.next_if(|&i| {
            let (ids, _, targets) = &rows[i];
            let fits = laid.ids.len() + ids.len() - laid.shared(ids) <= ws.tokens();
            laid.ids.is_empty() || fits && asked.len() + targets.len() <= ws.tokens()
        }) {
            let (ids, start, targets) = &rows[i];
            let own = laid.add(ids);
            for (place, target) in targets {
                asked.push((own[(target.row - start) as usize], target.token));
                places.push(*place);
            }
        }
        let tokens = Tokens { ids: &laid.ids, positions: &laid.positions, segments: &laid.segments };
        let hidden = model.forward(ws, tokens, adapter);
        let picks = Picks::of(&asked);
        picks.gather(model, ws, &hidden);
        places.iter().zip(picks.score(model, ws)).for_each(|(&place, logprob)| logprobs[place] = logprob);
    }
    logprobs
}
