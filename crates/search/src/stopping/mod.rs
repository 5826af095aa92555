//! Whether a trial is worth going on with.

use crate::history::History;
use crate::trial::Trial;

/// What is to be done with a trial that has just reported.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// It goes on.
    Continue,
    /// It stops here, and may be gone on with from its checkpoint.
    Pause {
        /// Why, in one line.
        reason: String,
    },
    /// It ends here.
    Stop {
        /// Why, in one line.
        reason: String,
    },
}

/// Decides from what the trials of a study have reported; it remembers nothing itself, so that nothing is lost with a process.
pub trait Stopping: Send + Sync {
    /// What the user calls it.
    fn name(&self) -> &'static str;

    /// The steps at which trials are to report, by rising step: the last one is the full budget.
    fn rungs(&self) -> &[u64];

    /// What is to be done with `trial`, whose last report has just come and is in `history`.
    fn decide(&self, history: &History, trial: &Trial) -> Decision;

    /// A paused trial that has become worth going on with; none: begin a new one.
    fn resume(&self, history: &History) -> Option<u64>;
}
