//! What carries a trial out: Temper's own training, a program, or jobs of a platform.

use std::collections::BTreeMap;
use std::path::Path;

use temper_search::Point;

use crate::PipelineError;

/// A trial to be carried out, or to be gone on with.
#[derive(Clone, Copy, Debug)]
pub struct Assignment<'a> {
    /// Its number.
    pub number: u64,
    /// A folder of its own.
    pub folder: &'a Path,
    /// Its values.
    pub point: &'a Point,
    /// Of what is random in it.
    pub seed: u64,
    /// Where it was paused or lost: the last checkpoint that it told of, empty where it needs none to go on. None: it begins.
    pub resume: Option<&'a str>,
}

/// What a trial tells on its way.
#[derive(Clone, Debug, PartialEq)]
pub enum Heard {
    /// It is so far.
    Progress {
        /// Share of its full length, 0 to 1.
        share: f64,
        /// Tokens trained on, from its beginning.
        tokens: u64,
    },
    /// Something was measured.
    Measured {
        /// Share of its full length, 0 to 1.
        share: f64,
        /// By name.
        metrics: BTreeMap<String, f64>,
        /// What was measured of single items, by the metric that it is the parts of, in the same order in every trial; empty where it is not
        /// known or nobody asks.
        items: BTreeMap<String, Vec<f64>>,
    },
    /// It can be gone on with from here.
    Checkpoint(String),
}

/// What a trial is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// Go on.
    GoOn,
    /// End now, so that it can be gone on with.
    Pause,
    /// End now, for good.
    Stop,
    /// End now, and leave what others see as it is: another worker may be carrying the trial on.
    Leave,
}

/// How a trial ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// At its full length.
    Complete,
    /// As it was asked to, by a [`Signal`].
    Asked,
    /// By itself, before its full length: it diverged, or forgot beyond recovery. What it measured counts.
    Hopeless(String),
    /// It could not be carried out with these values.
    Failed(String),
    /// It was not begun: it might take more than the trainer may spend. It waits, and nothing new begins.
    Unaffordable(String),
}

/// Carries trials out.
pub trait Trainer: Sync {
    /// What it is called.
    fn name(&self) -> String;

    /// Carries the trial out until it ends or is told to. `hear` is called at least at every measurement, and its answer counts at once.
    ///
    /// # Errors
    /// What concerns the machine and not the trial: then the trial is left as it is.
    fn carry_out(
        &self,
        assignment: &Assignment<'_>,
        hear: &mut dyn FnMut(Heard) -> Signal,
    ) -> Result<Ended, PipelineError>;

    /// Removes from the folder of a finished trial what nothing needs any more.
    ///
    /// # Errors
    /// When it cannot be removed.
    fn tidy(&self, folder: &Path, keep_result: bool) -> Result<(), PipelineError>;
}
