//! Objectives, optimiser, schedule, the loop.
//!
//! Read `step.rs` first: one optimiser step, from packed micro-batches to changed weights. `preference.rs` has the step over
//! pairs of answers, `policy/` that over rollouts.

mod fit;
mod groups;
mod muon;
mod optimizer;
mod picks;
mod policy;
mod preference;
mod schedule;
mod step;
mod stops;
mod trials;

pub use fit::{Batches, Best, Fit, FitOutcome, FitSettings, FitState, Progress, StepReport};
pub use groups::{RateGroup, names};
pub use muon::MuonSettings;
pub use optimizer::{AdamWSettings, Optimizer, OptimizerSettings};
pub use policy::{
    Aggregation, KlEstimator, PolicyMetrics, PolicySettings, RatioLevel, RewardBaseline, RewardScale, Rollout,
    Surrogate, advantages, completion_logprobs, is_stuck, policy_step,
};
pub use preference::{PairLoss, PreferenceMetrics, PreferenceSettings, evaluate_pairs, pair_logprobs, preference_step};
pub use schedule::{LearningRate, Shape};
pub use step::{General, LossSum, StepOutcome, evaluate, evaluate_rows, step};
pub use stops::{Stop, StopSettings, Watch};
pub use trials::{Lanes, ReadTensor, Trained, Trial, TrialBase, TrialError};

/// Why training stopped before its end.
#[derive(Debug, thiserror::Error, PartialEq)]
pub enum TrainError {
    /// No target carries weight.
    #[error("a step has no trained token\nhint: `temper data show` prints what each row trains")]
    NothingToTrain,
    /// The rows of a step cannot be read any more.
    #[error("{0}")]
    Rows(String),
    /// The loss is NaN or infinite.
    #[error(
        "the loss became {loss}; the weights are as before that step\nhint: lower learning_rate or raise warmup_steps"
    )]
    LossNotFinite {
        /// What it became.
        loss: f64,
    },
    /// A gradient is NaN or infinite.
    #[error(
        "the gradient of {parameter} is not finite; the weights are as before that step\nhint: lower learning_rate or \
         raise warmup_steps"
    )]
    GradientNotFinite {
        /// The first such parameter.
        parameter: String,
    },
}
