//! What ends a run: rewards that cannot be opened, and rewards that cannot be trusted.

use std::path::PathBuf;

use crate::scored::FailureKind;

/// Why rewards cannot be opened or trusted. A failure on one sample is no error: it is in [`Scored`](crate::Scored).
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A field of the recipe cannot be meant so.
    #[error("`{path}`: {problem}\nhint: {hint}")]
    Unfit {
        /// The path in the recipe.
        path: String,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// A file cannot be read or written.
    #[error("cannot {action} {path}: {source}", path = path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A function gave another number of scores than there were samples, or scores for others: nobody knows whose they
    /// are.
    #[error(
        "reward `{reward}`: {problem}\nhint: return one score per completion, in their order, or `None` to abstain"
    )]
    Contract {
        /// The reward.
        reward: String,
        /// What it did.
        problem: String,
    },
    /// A sample failed and `on_failure` is `fail`.
    #[error("reward `{reward}` failed on sample {sample}: {kind}: {message}")]
    Failed {
        /// The reward.
        reward: String,
        /// The sample's id.
        sample: String,
        /// How.
        kind: FailureKind,
        /// What happened.
        message: String,
    },
    /// Too many samples failed.
    #[error(
        "reward `{reward}` failed on {failed} of the last {of} samples, more than `max_error_rate` {rate} allows; the last one: \
         {kind}: {message}\nhint: `temper reward test` shows how each fails"
    )]
    TooManyFailures {
        /// The reward.
        reward: String,
        /// How many of the samples that were looked at.
        failed: usize,
        /// How many these are.
        of: usize,
        /// The rate that the recipe allows.
        rate: f64,
        /// Kind of the last failure.
        kind: FailureKind,
        /// Its message.
        message: String,
    },
}
