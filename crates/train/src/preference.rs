//! Direct preference optimisation: the better of two answers is to become likelier than the worse one, as against a reference.
//!
//! Rafailov et al. 2023. With `d` the difference of the answers' log-probabilities, less the same difference under the
//! reference, and `z = beta * d`, the loss of a pair is a function of `d` alone; its gradient by each token of an answer is
//! therefore one number, known once both answers were scored. So a micro-batch goes forward once, through the head twice,
//! and backward once. Losses and names are those of TRL's DPOTrainer (1.16), whose `sigmoid` has no label smoothing any more.

use serde::Serialize;
use temper_data::{PackedPair, PairBatch};
use temper_kernels::{Device, Segment};
use temper_model::{Llama, Tokens, Workspace};

use crate::TrainError;
use crate::optimizer::Optimizer;
use crate::picks::{ByAsked, Picks};
use crate::step::{General, LossSum, StepOutcome, conclude};

/// The loss of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PairLoss {
    /// `-(1 - s) log sigmoid(z) - s log sigmoid(-z)`, `s` the label smoothing: DPO (Rafailov et al. 2023); smoothed, cDPO
    /// (Mitchell 2023).
    Sigmoid,
    /// `(-(1 - s) log sigmoid(z) + s log sigmoid(-z)) / (1 - 2 s)`: unbiased where a share `s` of the labels is flipped
    /// (Chowdhury et al. 2024).
    Robust,
    /// `max(0, 1 - z)`: SLiC (Zhao et al. 2023).
    Hinge,
    /// `(d - 1 / (2 beta))^2`, in which `d` has the mean over an answer's tokens in place of the sum: IPO (Azar et al.
    /// 2023), averaged as its authors advise and TRL does.
    Ipo,
}

/// What is minimised over pairs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PreferenceSettings {
    /// The loss of a pair.
    pub loss_type: PairLoss,
    /// How strongly the reference holds: the lower, the further the model may go.
    pub beta: f64,
    /// Share of labels that are taken to be wrong, 0 to below 0.5; of `Sigmoid` and `Robust`.
    pub label_smoothing: f64,
    /// Weight of the better answers' loss as in supervised training, in nats a token; 0 for none.
    pub rpo_alpha: f64,
}

impl PreferenceSettings {
    /// The loss of a pair and its derivative, by the difference `d` of the log-ratios.
    pub fn loss(&self, d: f64) -> (f64, f64) {
        let (beta, s) = (self.beta, self.label_smoothing);
        let z = beta * d;
        // -log sigmoid(z) and its derivative by z.
        let softplus = |z: f64| (-z).max(0.0) + (-z.abs()).exp().ln_1p();
        let slope = |z: f64| -1.0 / (1.0 + z.exp());
        match self.loss_type {
            PairLoss::Sigmoid => {
                ((1.0 - s) * softplus(z) + s * softplus(-z), beta * ((1.0 - s) * slope(z) - s * slope(-z)))
            }
            PairLoss::Robust => {
                let whole = 1.0 - 2.0 * s;
                let loss = ((1.0 - s) * softplus(z) - s * softplus(-z)) / whole;
                (loss, beta * ((1.0 - s) * slope(z) + s * slope(-z)) / whole)
            }
            PairLoss::Hinge => ((1.0 - z).max(0.0), if z < 1.0 { -beta } else { 0.0 }),
            PairLoss::Ipo => {
                let off = d - 1.0 / (2.0 * beta);
                (off * off, 2.0 * off)
            }
        }
    }

    /// What an answer's sum of log-probabilities over so many tokens is multiplied by: IPO looks at the mean.
    fn scale(&self, tokens: usize) -> f64 {
        if self.loss_type == PairLoss::Ipo { 1.0 / tokens as f64 } else { 1.0 }
    }
}

/// What a model makes of pairs: means over pairs, each pair counting once. TRL's names, each under its own in records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PreferenceMetrics {
    /// Pairs.
    pub pairs: usize,
    /// `beta` times the better answers' log-ratio to the reference.
    #[serde(rename = "rewards/chosen")]
    pub rewards_chosen: f64,
    /// The same of the worse answers.
    #[serde(rename = "rewards/rejected")]
    pub rewards_rejected: f64,
    /// The first less the second.
    #[serde(rename = "rewards/margins")]
    pub margins: f64,
    /// Share of the pairs whose better answer has the higher reward.
    #[serde(rename = "rewards/accuracies")]
    pub accuracies: f64,
    /// Log-probability of the better answers, in nats.
    #[serde(rename = "logps/chosen")]
    pub logps_chosen: f64,
    /// The same of the worse answers.
    #[serde(rename = "logps/rejected")]
    pub logps_rejected: f64,
}

/// Sums over pairs; dividing them is left to the last line.
#[derive(Clone, Debug, Default)]
struct Sums {
    metrics: PreferenceMetrics,
    /// Of the pairs' losses, by source.
    by_source: Vec<LossSum>,
    /// Of the better answers' tokens.
    chosen: LossSum,
}

/// What pairs weigh, of a whole global batch.
#[derive(Clone, Copy)]
struct Whole {
    /// Sum of the pairs' weights.
    pairs: f64,
    /// Sum of the weights of the better answers' tokens.
    chosen_tokens: f64,
}

impl Whole {
    fn of(batches: &[PairBatch]) -> Self {
        let pairs = || batches.iter().flat_map(|batch| &batch.pairs);
        let weight = |pair: &PackedPair| f64::from(pair.weight);
        Self {
            pairs: pairs().map(weight).sum(),
            chosen_tokens: pairs().map(|pair| weight(pair) * pair.targets[0].len() as f64).sum(),
        }
    }
}

impl Sums {
    /// Adds a pair whose answers have these sums of log-probabilities; the derivatives of the loss of the whole by them.
    fn add(&mut self, settings: &PreferenceSettings, pair: &PackedPair, sums: [f64; 2], whole: Whole) -> [f64; 2] {
        let scales = [0, 1].map(|side| settings.scale(pair.targets[side].len()));
        let ratios = [0, 1].map(|side| sums[side] - pair.reference[side]);
        let (loss, slope) = settings.loss(scales[0] * ratios[0] - scales[1] * ratios[1]);
        let [chosen, rejected] = ratios.map(|ratio| settings.beta * ratio);
        let (m, weight) = (&mut self.metrics, f64::from(pair.weight));
        m.pairs += 1;
        m.rewards_chosen += chosen;
        m.rewards_rejected += rejected;
        m.margins += chosen - rejected;
        m.accuracies += f64::from(u8::from(chosen > rejected));
        m.logps_chosen += sums[0];
        m.logps_rejected += sums[1];
        let source = usize::from(pair.source);
        self.by_source.resize(self.by_source.len().max(source + 1), LossSum::default());
        let sum = &mut self.by_source[source];
        // The term of the better answers is a mean over tokens; as a part of the pair's loss it carries its share of them.
        let supervised = settings.rpo_alpha * -sums[0] * whole.pairs / whole.chosen_tokens;
        sum.nll += weight * (loss + if settings.rpo_alpha > 0.0 { supervised } else { 0.0 });
        sum.weight += weight;
        self.chosen.nll -= weight * sums[0];
        self.chosen.weight += weight * pair.targets[0].len() as f64;
        let by_pair = weight / whole.pairs * slope;
        let by_token = settings.rpo_alpha * weight / whole.chosen_tokens;
        [by_pair * scales[0] - by_token, -by_pair * scales[1]]
    }

    fn metrics(&self) -> PreferenceMetrics {
        let (m, pairs) = (&self.metrics, self.metrics.pairs.max(1) as f64);
        PreferenceMetrics {
            pairs: m.pairs,
            rewards_chosen: m.rewards_chosen / pairs,
            rewards_rejected: m.rewards_rejected / pairs,
            margins: m.margins / pairs,
            accuracies: m.accuracies / pairs,
            logps_chosen: m.logps_chosen / pairs,
            logps_rejected: m.logps_rejected / pairs,
        }
    }
}

/// One step over the pairs of a global batch. Each pair's gradient is divided by the weight of the whole global batch, so the
/// split into micro-batches changes nothing but rounding.
///
/// # Errors
/// When the loss or the gradient is not finite; the weights are then as before the step.
///
/// # Panics
/// When the adapters drop elements: the reference of a pair, and its two answers, would be of different models.
pub fn preference_step<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    optimizer: &mut Optimizer<D::Buffer>,
    settings: &PreferenceSettings,
    batches: &[PairBatch],
    learning_rate: f64,
) -> Result<StepOutcome, TrainError> {
    assert!(!model.adapter_space().dropout, "pairs are trained without dropout");
    let whole = Whole::of(batches);
    if whole.pairs <= 0.0 {
        return Err(TrainError::NothingToTrain);
    }
    optimizer.clear_gradients(model.device());
    let mut sums = Sums::default();
    for batch in batches {
        let asked = Asked::of(batch);
        let scored = asked.forward(model, ws, true).into_iter();
        let by_answer = batch.pairs.iter().zip(scored).map(|(pair, scored)| sums.add(settings, pair, scored, whole));
        let by_answer: Vec<_> = by_answer.collect();
        asked.backward(model, ws, &by_answer);
    }
    let targets = |pair: &PackedPair| pair.targets.iter().map(Vec::len).sum::<usize>();
    let outcome = StepOutcome {
        preference: Some(sums.metrics()),
        policy: None,
        general: General::default(),
        by_source: sums.by_source,
        gradient_norm: 0.0,
        processed_tokens: batches.iter().map(|batch| batch.ids.len()).sum(),
        trained_tokens: batches.iter().flat_map(|batch| &batch.pairs).map(targets).sum(),
    };
    conclude(model, optimizer, outcome, learning_rate)
}

/// Loss and metrics over pairs, nothing trained; and what each pair adds to the loss, times their number, by its index.
pub fn evaluate_pairs<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    settings: &PreferenceSettings,
    batches: &[PairBatch],
) -> (f64, PreferenceMetrics, Vec<f64>) {
    let (whole, mut sums) = (Whole::of(batches), Sums::default());
    let mut by_index = Vec::new();
    for batch in batches {
        for (pair, scored) in batch.pairs.iter().zip(Asked::of(batch).forward(model, ws, true)) {
            let mut own = Sums::default();
            own.add(settings, pair, scored, whole);
            by_index.push((pair.index, LossSum::total(&own.by_source).nll));
            sums.add(settings, pair, scored, whole);
        }
    }
    by_index.sort_by_key(|(index, _)| *index);
    let (total, count) = (LossSum::total(&sums.by_source), by_index.len() as f64);
    let items = by_index.into_iter().map(|(_, nll)| nll * count / total.weight).collect();
    (total.mean(), sums.metrics(), items)
}

/// Log-probabilities of both answers of each pair, in nats, by the pair's index; the better one's first. `adapter` turns
/// the LoRA adapters on; off gives the model that they were put on.
pub fn pair_logprobs<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    batches: &[PairBatch],
) -> Vec<[f64; 2]> {
    let count = batches.iter().map(|batch| batch.pairs.len()).sum();
    let mut found = vec![[f64::NAN; 2]; count];
    for batch in batches {
        for (pair, scored) in batch.pairs.iter().zip(Asked::of(batch).forward(model, ws, adapter)) {
            found[pair.index] = scored;
        }
    }
    found
}

/// A micro-batch of pairs and what is asked of it: each answer's tokens, pair by pair, the better answer first.
struct Asked<'a> {
    batch: &'a PairBatch,
    segments: Vec<Segment>,
    picks: Picks,
}

impl<'a> Asked<'a> {
    fn of(batch: &'a PairBatch) -> Self {
        let targets = batch.pairs.iter().flat_map(|pair| pair.targets.iter().flatten());
        let asked: Vec<(u32, u32)> = targets.copied().collect();
        Self { batch, segments: segments(batch), picks: Picks::of(&asked) }
    }

    fn tokens(&self) -> Tokens<'_> {
        Tokens { ids: &self.batch.ids, positions: &self.batch.positions, segments: &self.segments }
    }

    /// The sums of the log-probabilities of each pair's answers.
    fn forward<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>, adapter: bool) -> Vec<[f64; 2]> {
        let hidden = model.forward(ws, self.tokens(), adapter);
        self.picks.gather(model, ws, &hidden);
        let mut logprobs = self.picks.score(model, ws).into_iter().map(f64::from);
        let mut sum = |targets: &Vec<_>| logprobs.by_ref().take(targets.len()).sum();
        self.batch.pairs.iter().map(|pair| [sum(&pair.targets[0]), sum(&pair.targets[1])]).collect()
    }

    /// Adds the gradients of the forward that the workspace still holds, from those by each token of each pair's answers.
    fn backward<D: Device>(&self, model: &Llama<D>, ws: &Workspace<D::Buffer>, by_answer: &[[f64; 2]]) {
        let of_pair = |(pair, by): (&'a PackedPair, &[f64; 2])| {
            let [chosen, rejected] = *by;
            let [first, second] = pair.targets.each_ref().map(Vec::len);
            std::iter::repeat_n(chosen as f32, first).chain(std::iter::repeat_n(rejected as f32, second))
        };
        let by_logprob: Vec<f32> = self.batch.pairs.iter().zip(by_answer).flat_map(of_pair).collect();
        let by = ByAsked { logprob: &by_logprob, entropy: &[] };
        self.picks.backward(model, ws, self.tokens(), by, None);
    }
}

fn segments(batch: &PairBatch) -> Vec<Segment> {
    let segment = |(rows, context): &(std::ops::Range<usize>, std::ops::Range<usize>)| Segment {
        rows: rows.clone(),
        context: if context.is_empty() { Vec::new() } else { vec![context.clone()] },
    };
    batch.segments.iter().map(segment).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(loss_type: PairLoss) -> PreferenceSettings {
        PreferenceSettings { loss_type, beta: 0.25, label_smoothing: 0.1, rpo_alpha: 0.0 }
    }

    #[test]
    fn each_loss_by_hand_and_its_slope_by_differences() {
        // z = 0.25 * 2 = 0.5: -log sigmoid(0.5) = 0.474077, -log sigmoid(-0.5) = 0.974077
        for (loss_type, expected) in [
            (PairLoss::Sigmoid, 0.9 * 0.474_077 + 0.1 * 0.974_077),
            (PairLoss::Robust, (0.9 * 0.474_077 - 0.1 * 0.974_077) / 0.8),
            (PairLoss::Hinge, 0.5),
            (PairLoss::Ipo, 0.0),
        ] {
            let of = settings(loss_type);
            assert!((of.loss(2.0).0 - expected).abs() < 1e-6, "{loss_type:?}: {}", of.loss(2.0).0);
            for d in [-30.0, -1.5, 0.0, 0.7, 30.0] {
                let slope = (of.loss(d + 1e-6).0 - of.loss(d - 1e-6).0) / 2e-6;
                assert!((of.loss(d).1 - slope).abs() < 1e-6, "{loss_type:?} at {d}: {} {slope}", of.loss(d).1);
            }
            for d in [-1e6, 1e6] {
                assert!(of.loss(d).0.is_finite() && of.loss(d).1.is_finite(), "{loss_type:?} at {d}");
            }
        }
    }
}
