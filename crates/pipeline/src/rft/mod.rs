//! Reinforcement fine-tuning: rounds of sampling, scoring and stepping.
//!
//! A round ([`rounds`]) samples completions of its prompts from the weights as they are, has them scored, and gives them to the
//! trainer with their advantages, for one optimiser step or several. Before the first one the start is looked at ([`baseline`]):
//! reinforcement sharpens what a model can do at times, and nothing else. Validation ([`validation`]) is the reward on prompts
//! that are not trained on. What goes wrong shows in [`signals`].
//!
//! Every draw is a function of the seed, the round, the prompt's place and the sample's number, so a run that was stopped goes on as it
//! would have, and no completion depends on those beside it.

mod baseline;
mod origin;
mod prompts;
mod rounds;
mod sample;
mod signals;
mod trial;
mod validation;

use temper_recipe::{AdvantageBaseline, BaselineGate, ReferenceModel, Reward, ScaleRewards, Stage};
use temper_train::{Aggregation, KlEstimator, PolicySettings, RatioLevel, RewardBaseline, RewardScale, Surrogate};

pub use self::baseline::{Baseline, BaselineVerdict};
pub(crate) use self::baseline::{known_baseline, measured, of_first_stage};
pub use self::origin::TrialModel;
pub(crate) use self::prompts::{Prompt, prompts};
pub use self::rounds::RoundReport;
pub(crate) use self::rounds::{Rounds, RoundsState};
pub(crate) use self::sample::{Asked, Sampler};
pub use self::sample::{CompletionMeans, PartMean};
pub use self::signals::Alarm;
pub use self::trial::RewardTrial;
pub(crate) use self::trial::refuse_bad_rewards;
pub use self::validation::RewardValidation;

/// What a stage of kind `rft` has beside its rows.
#[derive(Clone, Debug)]
pub(crate) struct Rft {
    /// The prompts as rewards see them, by source and row; none of general rows.
    pub prompts: Vec<Vec<Prompt>>,
    /// Those of the validation rows.
    pub validation: Vec<Prompt>,
    pub rewards: Vec<Reward>,
    /// Completions of a prompt.
    pub generations: usize,
    /// Longest completion in tokens.
    pub longest: usize,
    pub temperature: f64,
    pub top_p: f64,
    pub top_k: usize,
    /// Optimiser steps of a pass over a round.
    pub parts: usize,
    /// Passes over a round.
    pub passes: usize,
    /// How often groups that teach nothing are replaced.
    pub resample_rounds: usize,
    /// Whether completions that were cut are left out.
    pub mask_cut: bool,
    pub overlong: (usize, f64),
    pub validation_generations: usize,
    pub validation_prompts: usize,
    /// From which reward on a completion is solved.
    pub success: f64,
    pub scale: RewardScale,
    pub compared_with: RewardBaseline,
    /// The model from which the divergence is measured; none where it has no weight.
    pub reference: Option<ReferenceModel>,
    pub gate: Gate,
}

/// When a start is worth it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub refuses: bool,
    pub prompts: usize,
    pub low: f64,
    pub high: f64,
}

impl Rft {
    /// Of a stage of the recipe; none of another kind.
    pub fn of(stage: &Stage, prompts: Vec<Vec<Prompt>>, validation: Vec<Prompt>) -> Option<Self> {
        let (rollouts, policy, gate) = (stage.rollouts.as_ref()?, stage.policy.as_ref()?, stage.baseline.as_ref()?);
        Some(Self {
            prompts,
            validation,
            rewards: stage.rewards.clone(),
            generations: rollouts.num_generations.value as usize,
            longest: rollouts.max_completion_length.value as usize,
            temperature: rollouts.temperature.value,
            top_p: rollouts.top_p.value,
            top_k: rollouts.top_k.value as usize,
            parts: rollouts.steps_per_pass.value as usize,
            passes: rollouts.num_iterations.value as usize,
            resample_rounds: rollouts.resample_rounds.value as usize,
            mask_cut: rollouts.mask_truncated_completions.value,
            overlong: (rollouts.overlong_buffer.value as usize, rollouts.overlong_penalty.value),
            validation_generations: rollouts.validation_generations.value as usize,
            validation_prompts: rollouts.validation_prompts.value as usize,
            success: rollouts.success_threshold.value,
            scale: match policy.scale_rewards.value {
                ScaleRewards::Group => RewardScale::Group,
                ScaleRewards::Batch => RewardScale::Batch,
                ScaleRewards::None => RewardScale::None,
            },
            compared_with: match policy.advantage_baseline.value {
                AdvantageBaseline::GroupMean => RewardBaseline::GroupMean,
                AdvantageBaseline::LeaveOneOut => RewardBaseline::LeaveOneOut,
            },
            reference: (policy.beta.value > 0.0).then_some(policy.reference.value),
            gate: Gate {
                refuses: gate.gate.value == BaselineGate::Refuse,
                prompts: gate.prompts.value as usize,
                low: gate.low.value,
                high: gate.high.value,
            },
        })
    }

    /// Optimiser steps of a round.
    pub fn steps_of_round(&self) -> usize {
        self.parts * self.passes
    }
}

/// What is minimised, in the words of the trainer; none of another kind of stage.
pub(crate) fn policy_settings(stage: &Stage) -> Option<PolicySettings> {
    let (rollouts, policy) = (stage.rollouts.as_ref()?, stage.policy.as_ref()?);
    Some(PolicySettings {
        loss_type: match policy.loss_type.value {
            temper_recipe::PolicyLoss::Grpo => Aggregation::Grpo,
            temper_recipe::PolicyLoss::Dapo => Aggregation::Dapo,
            temper_recipe::PolicyLoss::DrGrpo => Aggregation::DrGrpo,
        },
        importance_sampling_level: match policy.importance_sampling_level.value {
            temper_recipe::RatioLevel::Token => RatioLevel::Token,
            temper_recipe::RatioLevel::Sequence => RatioLevel::Sequence,
        },
        surrogate: match policy.surrogate.value {
            temper_recipe::Surrogate::Clip => Surrogate::Clip,
            temper_recipe::Surrogate::Cispo => Surrogate::Cispo,
            temper_recipe::Surrogate::None => Surrogate::None,
        },
        clip_low: policy.epsilon.value,
        clip_high: policy.epsilon_high.value,
        beta: policy.beta.value,
        kl_estimator: match policy.kl_estimator.value {
            temper_recipe::KlEstimator::K1 => KlEstimator::K1,
            temper_recipe::KlEstimator::K2 => KlEstimator::K2,
            temper_recipe::KlEstimator::K3 => KlEstimator::K3,
        },
        kl_unbiased: policy
            .kl_gradient
            .as_ref()
            .is_some_and(|gradient| gradient.value == temper_recipe::KlGradient::Unbiased),
        entropy_coefficient: policy.entropy_coefficient.value,
        temperature: rollouts.temperature.value,
        max_completion_tokens: rollouts.max_completion_length.value as usize,
    })
}

/// So many of `0..count`, evenly spread.
fn spread(count: usize, most: usize) -> impl Iterator<Item = usize> {
    let taken = count.min(most);
    (0..taken).map(move |i| i * count / taken)
}
