//! Reinforcement fine-tuning: what is sampled, what is minimised over it, and whether a start is worth it.

use crate::kind::{above, above_to, choice, integer, number, truth};
use crate::preference::ReferenceModel;
use crate::reader::section;
use crate::settings::{Valued, is, said};

const TRL: &str = "the default of TRL's GRPOConfig (1.16)";

crate::kind::words! {
    /// How the losses of tokens become one number.
    pub enum PolicyLoss {
        /// The mean over completions of the mean over their tokens: GRPO (Shao et al. 2024).
        Grpo = "grpo",
        /// The mean over all tokens of a step: DAPO (Yu et al. 2025).
        Dapo = "dapo",
        /// The sum over all tokens by completions times `max_completion_length`: Dr. GRPO (Liu et al. 2025).
        DrGrpo = "dr_grpo",
    }
}

crate::kind::words! {
    /// Of what an importance ratio is.
    pub enum RatioLevel {
        /// Of each token.
        Token = "token",
        /// Of a whole completion: GSPO (Zheng et al. 2025).
        Sequence = "sequence",
    }
}

crate::kind::words! {
    /// What is made of importance ratios far from 1.
    pub enum Surrogate {
        /// Those beyond the clip lose their gradient: PPO (Schulman et al. 2017).
        Clip = "clip",
        /// They are held as factors, and no token loses its gradient: CISPO (MiniMax 2025).
        Cispo = "cispo",
        /// Nothing: importance sampling.
        None = "none",
    }
}

crate::kind::words! {
    /// An estimate of the divergence from the reference by one token (Schulman 2020).
    pub enum KlEstimator {
        /// The difference of the log-probabilities.
        K1 = "k1",
        /// Half its square, the gradient of which is right on the model's own samples.
        K2 = "k2",
        /// GRPO's, never below 0.
        K3 = "k3",
    }
}

crate::kind::words! {
    /// What the gradient of the divergence's estimate goes through.
    pub enum KlGradient {
        /// The estimate, weighed with the importance ratio: right in the mean (DeepSeek-V3.2, 2025).
        Unbiased = "unbiased",
        /// The estimate alone, as in most tools: of `k1` it is 0 in the mean, of `k3` biased.
        Plain = "plain",
    }
}

crate::kind::words! {
    /// What differences of rewards are divided by.
    pub enum ScaleRewards {
        /// The standard deviation of the group.
        Group = "group",
        /// That of the whole round.
        Batch = "batch",
        /// Nothing (Dr. GRPO).
        None = "none",
    }
}

crate::kind::words! {
    /// What a reward is compared with.
    pub enum AdvantageBaseline {
        /// The mean of its group.
        GroupMean = "group_mean",
        /// The mean of the others in its group: RLOO (Ahmadian et al. 2024).
        LeaveOneOut = "leave_one_out",
    }
}

section! {
    /// What is sampled of each round's prompts. A round has `global_batch_size` prompts; with a `mix`, so many rows.
    pub struct Rollouts |f| {
        /// Completions of each prompt.
        num_generations: Valued<u64> = f
            .aliases(&["number_generation", "group_size", "rollout_n", "n_samples_per_prompt"])
            .default(integer(2..=1024), 8, "TRL's GRPOConfig, and Amazon Nova Forge on HyperPod");
        /// Longest completion in tokens; a longer one is cut.
        max_completion_length: Valued<u64> =
            f.aliases(&["max_new_tokens", "max_tokens"]).default(integer(1..), 512, TRL);
        /// Divides the logits, in sampling and in the loss.
        temperature: Valued<f64> = f.default(number(above_to(0.0, 2.0)), 1.0, TRL);
        /// Samples from the likeliest tokens until their probabilities reach this sum; the loss is of the whole distribution.
        top_p: Valued<f64> = f.default(number(above_to(0.0, 1.0)), 1.0, TRL);
        /// Samples from so many of the likeliest tokens; 0 for all. With 1 all completions of a prompt are the same.
        top_k: Valued<u64> = f.default(integer(0..), 0, TRL);
        /// Optimiser steps that each pass over a round is parted into, by prompts.
        steps_per_pass: Valued<u64> =
            f.default(integer(1..), 1, "decision: one step a round is of the weights that sampled");
        /// Passes over the rollouts of a round.
        num_iterations: Valued<u64> = f.default(integer(1..), 1, TRL);
        /// How often prompts whose completions all have one reward are replaced by others in a round; 0 never: dynamic sampling
        /// (DAPO).
        resample_rounds: Valued<u64> = f.aliases(&["dynamic_sampling"]).default(
            integer(0..=100),
            0,
            "decision: it multiplies the time of a round",
        );
        /// Leave completions that were cut out of the loss, numerator and denominator.
        mask_truncated_completions: Valued<bool> = f.aliases(&["overlong_filter"]).default(truth(), false, TRL);
        /// Tokens before `max_completion_length` in which a reward falls by up to `overlong_penalty`; 0 for none: soft overlong
        /// punishment (DAPO).
        overlong_buffer: Valued<u64> = f.default(integer(0..), 0, "decision: off, as in TRL");
        /// What a completion of full length loses.
        overlong_penalty: Valued<f64> = f.default(number(0.0..), 1.0, "DAPO (Yu et al. 2025)");
        /// Completions of each validation prompt, for mean reward and pass@k, besides the likeliest one; 0 for that alone.
        validation_generations: Valued<u64> =
            f.aliases(&["val_group_size"]).default(integer(0..=1024), 4, "decision: as many as make pass@4");
        /// Longest validation prompts are left out never, but of many only so many are looked at, evenly spread over the file.
        validation_prompts: Valued<u64> = f.default(integer(1..), 200, "Amazon Nova Forge: 100 to 200 prompts");
        /// From which total reward on a completion counts as solved, for pass@k.
        success_threshold: Valued<f64> = f.default(number(..), 1.0, "Amazon Nova Forge, multi-turn RFT");
    }
    check |r| {
        if let (Some(longest), Some(buffer)) = (&max_completion_length, &overlong_buffer)
            && buffer.value > longest.value
        {
            let message = format!(
                "`{}` is {}, more than `max_completion_length` {}",
                buffer.path, buffer.value, longest.value
            );
            r.problem(buffer.place(), message, "DAPO takes a fifth of the longest completion");
        }
        if let Some(top_k) = top_k.as_ref().filter(|top_k| top_k.value == 1) {
            let message = format!("`{}`: with 1 all completions of a prompt are the same, and nothing is learnt", top_k.path);
            r.problem(top_k.place(), message, "0 samples from all tokens");
        }
    }
}

section! {
    /// What is minimised over rollouts.
    pub struct Policy |f| {
        /// How the losses of tokens become one number.
        loss_type: Valued<PolicyLoss> = f.default(choice(), PolicyLoss::Dapo, TRL);
        /// Of what the importance ratio is.
        importance_sampling_level: Valued<RatioLevel> = f.default(choice(), RatioLevel::Token, TRL);
        /// What is made of the importance ratio.
        surrogate: Valued<Surrogate> = f.default(choice(), Surrogate::Clip, "PPO, and all that follows it");
        /// How far below 1 a ratio counts.
        epsilon: Valued<f64> =
            f.aliases(&["clip_ratio_low", "epsilon_low", "eps_clip"]).default(number(0.0..=1.0), 0.2, TRL);
        /// How far above 1 a ratio counts.
        epsilon_high: Valued<f64> = f.aliases(&["clip_ratio_high"]).default(
            number(0.0..),
            0.2,
            "TRL's GRPOConfig and Amazon Nova Forge; DAPO takes 0.28, which keeps entropy up",
        );
        /// Weight of the divergence from the reference, which holds what the model knew; 0 for none.
        beta: Valued<f64> = f.aliases(&["kl_loss_coef", "kl_coef"]).default(
            number(0.0..),
            0.001,
            "Amazon Nova Forge's recipe for training jobs; TRL and DAPO have none",
        );
        /// The divergence's estimate.
        kl_estimator: Valued<KlEstimator> = f.default(choice(), KlEstimator::K3, "GRPO (Shao et al. 2024)");
        /// What its gradient goes through; not for `k2`.
        kl_gradient: Option<Valued<KlGradient>> = {
            let because = said("kl_estimator", &kl_estimator);
            f.only_when(is(&kl_estimator) != Some(KlEstimator::K2), &because, |f| {
                f.default(choice(), KlGradient::Unbiased, "decision: a plain k1 or k3 has another gradient than the divergence")
            })
        };
        /// Weight of the entropy, which is to stay high; 0 for none.
        entropy_coefficient: Valued<f64> =
            f.aliases(&["ent_coeff", "entropy_coef", "entropy_coeff"]).default(number(0.0..), 0.0, TRL);
        /// What differences of rewards are divided by.
        scale_rewards: Valued<ScaleRewards> = f.default(choice(), ScaleRewards::Group, TRL);
        /// What a reward is compared with.
        advantage_baseline: Valued<AdvantageBaseline> =
            f.default(choice(), AdvantageBaseline::GroupMean, "GRPO (Shao et al. 2024)");
        /// The model from which the divergence is measured.
        reference: Valued<ReferenceModel> =
            f.default(choice(), ReferenceModel::Start, "what TRL does: the adapter off, or a copy of the start");
    }
}

crate::kind::words! {
    /// What is done where a start is not worth it.
    pub enum BaselineGate {
        /// The run ends before the stage is trained.
        Refuse = "refuse",
        /// It is said.
        Warn = "warn",
    }
}

section! {
    /// Before the first step: what the start earns on training prompts, which says whether reinforcement can do anything.
    pub struct Baseline |f| {
        /// What is done below `low` and above `high`.
        gate: Valued<BaselineGate> = f.default(choice(), BaselineGate::Refuse, "decision: such a run cannot gain");
        /// Prompts, evenly spread over the training file.
        prompts: Valued<u64> = f.default(integer(1..), 100, "Amazon Nova Forge: 100 to 200 prompts");
        /// Share of completions that earn something, below which supervised training comes first.
        low: Valued<f64> = f.default(
            number(0.0..=1.0),
            0.05,
            "Amazon Nova Forge: trouble where less than 5 % of samples are positive",
        );
        /// Share of completions that are solved, above which nothing is left to gain.
        high: Valued<f64> =
            f.default(number(above(0.0)), 0.95, "Amazon Nova Forge: above 95 % reinforcement is not needed");
    }
}
