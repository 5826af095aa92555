//! Reinforcement fine-tuning: completions that were better than others of their prompt become likelier.
//!
//! Rollouts come with an advantage each (`advantages.rs`); what is minimised over them is in `objective.rs`. Here is the step: the
//! completions of a prompt go through the model together, the prompt once, forward and backward.

mod advantages;
#[cfg(test)]
mod goldens;
mod objective;

use serde::{Deserialize, Serialize};
use temper_data::MicroBatch;
use temper_kernels::Device;
use temper_model::{Beginnings, Llama, Tokens, Workspace};

pub use self::advantages::{RewardBaseline, RewardScale, advantages, is_stuck};
pub use self::objective::{Aggregation, KlEstimator, PolicySettings, RatioLevel, Surrogate};
use crate::TrainError;
use crate::optimizer::Optimizer;
use crate::picks::{ByAsked, Picks};
use crate::step::{General, LossSum, StepOutcome, conclude, forward_backward};

/// A completion that was sampled and scored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rollout {
    /// Tokens of the prompt and of the completion.
    pub ids: Vec<u32>,
    /// How many of them are the prompt's; at least one.
    pub prompt: usize,
    /// How much better it was than others of its prompt; none leaves it out of numerators and denominators alike.
    pub advantage: Option<f64>,
    /// Log-probabilities of the completion's tokens under the weights that sampled it; empty: under those of now.
    pub old: Vec<f32>,
    /// The same under the reference; empty without one.
    pub reference: Vec<f32>,
}

impl Rollout {
    /// The tokens of the completion.
    pub fn completion(&self) -> &[u32] {
        &self.ids[self.prompt..]
    }

    /// Its advantage, where it counts: an empty completion has nothing to train.
    fn counted(&self) -> Option<f64> {
        self.advantage.filter(|_| !self.completion().is_empty())
    }
}

/// What a step over rollouts saw, before it changed the weights: means over the tokens of the completions that counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct PolicyMetrics {
    /// Completions that counted.
    pub completions: usize,
    /// Divergence from the reference in nats a token, by `k3`; none without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kl: Option<f64>,
    /// Entropy of the distributions that the tokens were drawn from, in nats.
    pub entropy: f64,
    /// Importance ratio.
    pub ratio: f64,
    /// Share of the tokens whose ratio was held from below.
    pub clip_low: f64,
    /// Share of the tokens whose ratio was held from above.
    pub clip_high: f64,
}

/// Rollouts that go through the model together.
struct Laid {
    rows: Beginnings,
    picks: Picks,
    /// Which rollouts, in the order of what is asked.
    members: Vec<usize>,
}

impl Laid {
    fn tokens(&self) -> Tokens<'_> {
        Tokens { ids: &self.rows.ids, positions: &self.rows.positions, segments: &self.rows.segments }
    }

    /// All of `sequences`, each as its tokens and how many of them are the prompt's, in passes of at most `limit` rows.
    fn all(sequences: &[(&[u32], usize)], limit: usize, temperature: f64) -> Vec<Self> {
        let mut waiting = Beginnings::order(sequences.len(), |i| sequences[i].0).into_iter().peekable();
        let mut all = Vec::new();
        while waiting.peek().is_some() {
            let (mut rows, mut asked, mut members) = (Beginnings::default(), Vec::new(), Vec::new());
            while let Some(i) = waiting.next_if(|&i| {
                let (ids, prompt) = sequences[i];
                let fits = rows.ids.len() + ids.len() - rows.shared(ids) <= limit;
                rows.ids.is_empty() || fits && asked.len() + ids.len() - prompt <= limit
            }) {
                let (ids, prompt) = sequences[i];
                let own = rows.add(ids);
                asked.extend((prompt..ids.len()).map(|at| (own[at - 1], ids[at])));
                members.push(i);
            }
            all.push(Self { rows, picks: Picks::of(&asked).at(temperature as f32), members });
        }
        all
    }
}

/// Log-probabilities of the tokens of each completion, of logits that are divided by `temperature`. `adapter` turns the adapters
/// on; off gives the model that they were put on.
pub fn completion_logprobs<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    adapter: bool,
    temperature: f64,
    rollouts: &[Rollout],
) -> Vec<Vec<f32>> {
    let mut found = vec![Vec::new(); rollouts.len()];
    let sequences: Vec<_> = rollouts.iter().map(|rollout| (&rollout.ids[..], rollout.prompt)).collect();
    for laid in Laid::all(&sequences, ws.tokens(), temperature) {
        let hidden = model.forward(ws, laid.tokens(), adapter);
        laid.picks.gather(model, ws, &hidden);
        let mut logprobs = laid.picks.score(model, ws).into_iter();
        for &i in &laid.members {
            found[i] = logprobs.by_ref().take(rollouts[i].completion().len()).collect();
        }
    }
    found
}

/// Sums over tokens; dividing them is left to the last line.
#[derive(Default)]
struct Sums {
    loss: f64,
    kl: f64,
    entropy: f64,
    ratio: f64,
    clipped: [usize; 2],
}

/// One step over rollouts. Each token weighs what the whole of them says, so how they go through the model changes nothing but
/// rounding. `general` rows are trained beside them as in supervised training: to the loss of the rollouts comes
/// `sum(weight * nll) / targets` of these, so that the weight of a source is that of its mean loss beside the policy's. Where
/// nothing counts the weights stay as they are.
///
/// # Errors
/// When the loss or the gradient is not finite; the weights are then as before the step.
///
/// # Panics
/// When the adapters drop elements: the log-probabilities would be of another model than the one that sampled.
pub fn policy_step<D: Device>(
    model: &Llama<D>,
    ws: &Workspace<D::Buffer>,
    optimizer: &mut Optimizer<D::Buffer>,
    settings: &PolicySettings,
    rollouts: &[Rollout],
    general: &[MicroBatch],
    learning_rate: f64,
) -> Result<StepOutcome, TrainError> {
    assert!(!model.adapter_space().dropout, "rollouts are trained without dropout");
    let counted: Vec<(&Rollout, f64)> =
        rollouts.iter().filter_map(|rollout| Some((rollout, rollout.counted()?))).collect();
    let tokens: usize = counted.iter().map(|(rollout, _)| rollout.completion().len()).sum();
    let targets = || general.iter().flat_map(|batch| &batch.targets);
    let of_general = General {
        by_source: vec![LossSum::default(); targets().map(|t| usize::from(t.source) + 1).max().unwrap_or(0)],
        tokens: targets().count(),
    };
    let processed = |ids: usize| ids + general.iter().map(|batch| batch.ids.len()).sum::<usize>();
    let mut outcome = StepOutcome {
        by_source: vec![LossSum { nll: 0.0, weight: 1.0 }],
        gradient_norm: 0.0,
        processed_tokens: processed(rollouts.iter().map(|rollout| rollout.ids.len()).sum()),
        trained_tokens: tokens + of_general.tokens,
        preference: None,
        policy: Some(PolicyMetrics::default()),
        general: of_general,
    };
    if outcome.trained_tokens == 0 {
        return Ok(outcome);
    }
    optimizer.clear_gradients(model.device());
    for batch in general {
        let General { by_source, tokens } = &mut outcome.general;
        forward_backward(model, ws, batch, *tokens as f64, optimizer.steps(), by_source);
    }
    let mut sums = Sums::default();
    let sequences: Vec<_> = counted.iter().map(|(rollout, _)| (&rollout.ids[..], rollout.prompt)).collect();
    for laid in Laid::all(&sequences, ws.tokens(), settings.temperature) {
        let hidden = model.forward(ws, laid.tokens(), true);
        laid.picks.gather(model, ws, &hidden);
        let (now, entropy) = laid.picks.measure(model, ws);
        let (mut by_logprob, mut by_entropy) = (Vec::with_capacity(now.len()), Vec::with_capacity(now.len()));
        let (mut now, mut entropy) = (now.into_iter().map(f64::from), entropy.into_iter().map(f64::from));
        for &i in &laid.members {
            let (rollout, advantage) = counted[i];
            let own = rollout.completion().len();
            let weight = settings.weight(own, counted.len(), tokens);
            // Of the entropy the mean over tokens counts, however losses are added up.
            let of_entropy = settings.entropy_coefficient / tokens as f64;
            let now: Vec<f64> = now.by_ref().take(own).collect();
            let old: Vec<f64> = rollout.old.iter().copied().map(f64::from).collect();
            let old = if old.is_empty() { &now } else { &old };
            let reference: Vec<f64> = rollout.reference.iter().copied().map(f64::from).collect();
            let terms = settings.terms(advantage, &now, old, &reference);
            for (term, entropy) in terms.iter().zip(entropy.by_ref().take(own)) {
                sums.loss += weight * term.loss - of_entropy * entropy;
                sums.kl += term.kl;
                sums.entropy += entropy;
                sums.ratio += term.ratio;
                (0..2).for_each(|side| sums.clipped[side] += usize::from(term.clipped[side]));
                by_logprob.push((weight * term.slope) as f32);
                by_entropy.push(-of_entropy as f32);
            }
        }
        let entropy: &[f32] = if settings.entropy_coefficient == 0.0 { &[] } else { &by_entropy };
        laid.picks.backward(model, ws, laid.tokens(), ByAsked { logprob: &by_logprob, entropy }, None);
    }
    let mean = |sum: f64| sum / tokens.max(1) as f64;
    outcome.by_source[0].nll = sums.loss;
    outcome.policy = Some(PolicyMetrics {
        completions: counted.len(),
        kl: (tokens > 0 && counted.iter().all(|(rollout, _)| !rollout.reference.is_empty())).then(|| mean(sums.kl)),
        entropy: mean(sums.entropy),
        ratio: mean(sums.ratio),
        clip_low: mean(sums.clipped[0] as f64),
        clip_high: mean(sums.clipped[1] as f64),
    });
    conclude(model, optimizer, outcome, learning_rate)
}
