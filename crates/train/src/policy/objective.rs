//! What is minimised over rollouts: pure functions of log-probabilities, without a model.
//!
//! With `r = exp(now - old)` the importance ratio of a token and `A` the advantage of its completion, the loss of a token is
//! `-min(r A, clip(r) A) + beta KL`; the mean entropy of all tokens, times its weight, goes off the whole. Named switches make of it GRPO (Shao et al. 2024), DAPO (Yu et al. 2025), Dr. GRPO
//! (Liu et al. 2025), GSPO (Zheng et al. 2025) and CISPO (MiniMax 2025).

use serde::Serialize;

/// How the losses of tokens become one number. Completions that do not count are in no sum and no count.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Aggregation {
    /// The mean over completions of the mean over their tokens: GRPO.
    Grpo,
    /// The mean over all tokens of the step: DAPO.
    Dapo,
    /// The sum over all tokens, by completions times the longest that one may be: Dr. GRPO, without a bias towards long wrong
    /// answers.
    DrGrpo,
}

/// Of what the importance ratio is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RatioLevel {
    /// Of each token.
    Token,
    /// Of the whole completion, as the geometric mean over its tokens: GSPO.
    Sequence,
}

/// What is made of a ratio far from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Surrogate {
    /// `-min(r A, clip(r, 1 - low, 1 + high) A)`: PPO (Schulman et al. 2017).
    Clip,
    /// `-stop(min(r, 1 + high)) A log p`: CISPO; no token loses its gradient.
    Cispo,
    /// `-r A`: importance sampling, nothing clipped.
    None,
}

/// An estimate of the KL divergence from the reference by one sampled token (Schulman 2020); with `d = reference - now`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum KlEstimator {
    /// `-d`. As a plain loss its gradient is 0 in the mean.
    K1,
    /// `d^2 / 2`, whose gradient is that of the divergence where the samples are the model's own.
    K2,
    /// `exp(d) - d - 1`: GRPO; unbiased in value, as a plain loss biased in gradient.
    K3,
}

/// What is minimised.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct PolicySettings {
    /// How tokens become one number.
    pub loss_type: Aggregation,
    /// Of what the ratio is.
    pub importance_sampling_level: RatioLevel,
    /// What is made of the ratio.
    pub surrogate: Surrogate,
    /// How far below 1 the ratio counts.
    pub clip_low: f64,
    /// How far above.
    pub clip_high: f64,
    /// Weight of the divergence from the reference; 0 for none.
    pub beta: f64,
    /// Its estimate.
    pub kl_estimator: KlEstimator,
    /// Whether the estimate is weighed with the ratio, through which the gradient goes as well: then that is the divergence's
    /// in the mean, also where the samples are of older weights (DeepSeek-V3.2, 2025). Of `K1` and `K3`.
    pub kl_unbiased: bool,
    /// Weight of the entropy, which is to stay high; 0 for none.
    pub entropy_coefficient: f64,
    /// What divides the logits, in sampling as in the loss.
    pub temperature: f64,
    /// The longest that a completion may be, in tokens; of `DrGrpo`.
    pub max_completion_tokens: usize,
}

/// One token of a completion.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Term {
    /// Its loss, without the entropy's part.
    pub loss: f64,
    /// The derivative by its log-probability.
    pub slope: f64,
    /// The ratio that was used.
    pub ratio: f64,
    /// The divergence's estimate by `K3`, whichever is trained on; 0 without a reference.
    pub kl: f64,
    /// Whether the ratio was held from below, and from above.
    pub clipped: [bool; 2],
}

/// The ratio, the loss of it and the loss's derivative by the logarithm of the ratio.
fn surrogate(of: &PolicySettings, advantage: f64, log_ratio: f64, logprob: f64) -> Term {
    let ratio = log_ratio.exp();
    let (low, high) = (1.0 - of.clip_low, 1.0 + of.clip_high);
    let clipped = [advantage < 0.0 && ratio < low, advantage > 0.0 && ratio > high];
    match of.surrogate {
        Surrogate::Clip if clipped[0] || clipped[1] => {
            Term { loss: -ratio.clamp(low, high) * advantage, ratio, clipped, ..Term::default() }
        }
        Surrogate::Clip => Term { loss: -ratio * advantage, slope: -ratio * advantage, ratio, ..Term::default() },
        Surrogate::None => Term { loss: -ratio * advantage, slope: -ratio * advantage, ratio, ..Term::default() },
        Surrogate::Cispo => {
            let held = ratio.min(high);
            let clipped = [false, ratio > high];
            Term { loss: -held * advantage * logprob, slope: -held * advantage, ratio, clipped, ..Term::default() }
        }
    }
}

impl PolicySettings {
    /// The tokens of one completion. `old`: their log-probabilities when they were sampled; `reference`: under the reference,
    /// empty where there is none.
    pub(crate) fn terms(&self, advantage: f64, now: &[f64], old: &[f64], reference: &[f64]) -> Vec<Term> {
        let mean = now.iter().zip(old).map(|(now, old)| now - old).sum::<f64>() / now.len().max(1) as f64;
        let term = |(at, &now): (usize, &f64)| {
            let log_ratio = match self.importance_sampling_level {
                RatioLevel::Token => now - old[at],
                RatioLevel::Sequence => mean,
            };
            let mut term = surrogate(self, advantage, log_ratio, now);
            if let Some(reference) = reference.get(at) {
                let (value, slope) = self.divergence(now, old[at], *reference);
                term.loss += self.beta * value;
                term.slope += self.beta * slope;
                let d = reference - now;
                term.kl = d.exp() - d - 1.0;
            }
            term
        };
        now.iter().enumerate().map(term).collect()
    }

    /// The estimate of the divergence by one token, and its derivative by the log-probability.
    pub(crate) fn divergence(&self, now: f64, old: f64, reference: f64) -> (f64, f64) {
        let d = reference - now;
        let (value, slope) = match self.kl_estimator {
            KlEstimator::K1 => (-d, 1.0),
            KlEstimator::K2 => (0.5 * d * d, -d),
            KlEstimator::K3 => (d.exp() - d - 1.0, 1.0 - d.exp()),
        };
        if self.kl_unbiased {
            let ratio = (now - old).exp();
            (ratio * value, ratio * (value + slope))
        } else {
            (value, slope)
        }
    }

    /// What each token of a completion of so many tokens weighs, of `completions` that hold `tokens` in all.
    pub(crate) fn weight(&self, own: usize, completions: usize, tokens: usize) -> f64 {
        match self.loss_type {
            Aggregation::Grpo => 1.0 / (completions as f64 * own as f64),
            Aggregation::Dapo => 1.0 / tokens as f64,
            Aggregation::DrGrpo => 1.0 / (completions as f64 * self.max_completion_tokens as f64),
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const PLAIN: PolicySettings = PolicySettings {
        loss_type: Aggregation::Dapo,
        importance_sampling_level: RatioLevel::Token,
        surrogate: Surrogate::Clip,
        clip_low: 0.2,
        clip_high: 0.28,
        beta: 0.0,
        kl_estimator: KlEstimator::K3,
        kl_unbiased: false,
        entropy_coefficient: 0.0,
        temperature: 1.0,
        max_completion_tokens: 8,
    };

    #[test]
    fn slopes_are_the_derivatives_of_the_losses() {
        let (old, reference) = ([-1.0, -0.4, -2.2], [-1.1, -0.9, -1.2]);
        for surrogate in [Surrogate::Clip, Surrogate::None] {
            for importance_sampling_level in [RatioLevel::Token, RatioLevel::Sequence] {
                for (kl_estimator, kl_unbiased) in [
                    (KlEstimator::K1, false),
                    (KlEstimator::K1, true),
                    (KlEstimator::K2, false),
                    (KlEstimator::K3, false),
                    (KlEstimator::K3, true),
                ] {
                    for advantage in [-1.3, 0.0, 0.7] {
                        let of = PolicySettings {
                            surrogate,
                            importance_sampling_level,
                            kl_estimator,
                            kl_unbiased,
                            beta: 0.3,
                            ..PLAIN
                        };
                        let now = [-1.3, -0.3, -1.7];
                        let sum = |now: &[f64]| -> f64 {
                            of.terms(advantage, now, &old, &reference).iter().map(|term| term.loss).sum()
                        };
                        let terms = of.terms(advantage, &now, &old, &reference);
                        for at in 0..3 {
                            let moved = |by: f64| {
                                let mut now = now;
                                now[at] += by;
                                sum(&now)
                            };
                            let slope = (moved(1e-6) - moved(-1e-6)) / 2e-6;
                            assert!(
                                (terms[at].slope - slope).abs() < 1e-6,
                                "{of:?} at {at}: {} {slope}",
                                terms[at].slope
                            );
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn a_clipped_token_has_no_slope_and_says_so() {
        let of = |advantage, now| PLAIN.terms(advantage, &[now], &[-1.0], &[])[0];
        // exp(0.5) is above 1.28, exp(-0.5) below 0.8.
        let high = of(1.0, -0.5);
        assert_eq!((high.loss, high.slope, high.clipped), (-1.28, 0.0, [false, true]));
        let low = of(-1.0, -1.5);
        assert_eq!((low.loss, low.slope, low.clipped), (0.8, 0.0, [true, false]));
        // On the other side nothing is held: the worse of the two counts.
        assert!(of(-1.0, -0.5).slope > 0.0 && of(1.0, -1.5).slope < 0.0);
        assert_eq!(of(-1.0, -0.5).clipped, [false, false]);
    }

    #[test]
    fn weights_add_up_to_what_each_aggregation_says() {
        // Completions of 2 and 6 tokens.
        let all = |loss_type| {
            let of = PolicySettings { loss_type, ..PLAIN };
            2.0 * of.weight(2, 2, 8) + 6.0 * of.weight(6, 2, 8)
        };
        assert_eq!(all(Aggregation::Grpo), 1.0);
        assert_eq!(all(Aggregation::Dapo), 1.0);
        assert_eq!(all(Aggregation::DrGrpo), 0.5);
    }
}
