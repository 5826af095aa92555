//! From recipe to plan to run: the base, the stages in order, the judgement.
//!
//! [`prepare`] reads everything and computes nothing: base, rows, mix, schedule; [`Prepared::plan`] is what it found.
//! [`run`] carries a prepared recipe out. What the plan says is what the run does: both hold the same schedule.

pub mod advise;
mod arms;
mod average;
mod base;
mod board;
mod cache;
mod checkpoints;
mod checks;
mod choice;
mod domain;
mod estimate;
mod export;
mod files;
mod frozen;
mod identity;
mod judge;
mod packed;
mod phases;
mod plan;
mod prepare;
mod probe;
mod provenance;
mod reference;
mod resume;
mod rft;
mod rows;
mod run;
mod saving;
mod self_data;
mod snapshot;
mod stage;
mod start;
pub mod tune;
mod watch;

pub use arms::{Arm, arms, arms_folder};
pub use average::{AveragePoint, Averages, average};
pub use base::{Base, open_base};
pub use cache::{Cache, Entry, Kind};
pub use checkpoints::Skipped;
pub use checks::{check_stage, stage_rows};
pub use choice::Choice;
pub use estimate::{RunEstimate, measure_products, measure_training, parameters, training_memory};
pub use export::{Form, export_model};
pub use files::find_rows;
pub use identity::{Input, NUMERICS};
pub use judge::{BATCH_TOKENS, Split, judge_adapter};
pub use phases::{Phase, Phases};
pub use plan::{AsStored, BasePlan, Estimate, Plan, RatePlan, ReferencePlan, RoundsPlan, SelfPlan, StagePlan, Warning};
pub use prepare::{Prepared, prepare};
pub use probe::{Candidate, Probe, Probed, probe, probe_folder, probed_winner};
pub use provenance::{Invocation, Provenance};
pub use resume::{Change, changes, recorded_recipe};
pub use rft::{
    Alarm, Baseline, BaselineVerdict, CompletionMeans, PartMean, RewardTrial, RewardValidation, RoundReport, TrialModel,
};
pub use run::{Event, Interrupt, Options, Summary, run};
pub use self_data::SelfReport;
pub use watch::General;

/// Why a recipe could not be planned or run.
#[derive(Debug, thiserror::Error)]
pub enum PipelineError {
    /// A recipe is wrong.
    #[error(transparent)]
    Recipe(#[from] temper_recipe::RecipeErrors),
    /// The store of a study.
    #[error(transparent)]
    Store(#[from] temper_search::store::StoreError),
    /// Rules of early stopping that cannot be.
    #[error("tune: {0}")]
    Stopping(#[from] temper_search::stopping::StoppingError),
    /// The base could not be found or fetched.
    #[error(transparent)]
    Source(#[from] temper_model::SourceError),
    /// The base's or an adapter's files are wrong.
    #[error(transparent)]
    Weights(#[from] temper_model::WeightsError),
    /// The tokenizer cannot be read.
    #[error(transparent)]
    Tokenizer(#[from] temper_text::TokenizerError),
    /// The chat template cannot be used.
    #[error(transparent)]
    Render(#[from] temper_text::RenderError),
    /// A file of rows is wrong.
    #[error(transparent)]
    Data(#[from] temper_data::DataError),
    /// The mix cannot be scheduled.
    #[error("{path}: {error}")]
    Mix {
        /// The field of the recipe.
        path: String,
        /// What is wrong.
        error: temper_data::MixError,
    },
    /// A file of evaluation items is wrong.
    #[error(transparent)]
    Items(#[from] temper_eval::items::ItemsError),
    /// The base could not answer a prompt.
    #[error(transparent)]
    Generate(#[from] temper_model::GenerateError),
    /// Rewards that cannot be opened or trusted.
    #[error(transparent)]
    Reward(#[from] temper_reward::Error),
    /// An evaluation could not be computed.
    #[error(transparent)]
    Eval(#[from] temper_eval::suite::EvalError),
    /// An evaluation file holds items that cannot be scored.
    #[error("{path}: {file}: {error}")]
    Item {
        /// The field of the recipe.
        path: String,
        /// The file that it names.
        file: String,
        /// What is wrong, by line.
        error: temper_eval::suite::EvalError,
    },
    /// Several files are wrong.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Several(Vec<PipelineError>),
    /// Base and tuned could not be compared.
    #[error(transparent)]
    Compare(#[from] temper_eval::compare::CompareError),
    /// A gate of the recipe refused to go on.
    #[error("{path}: {problem}\nhint: {hint}")]
    Gate {
        /// The stage.
        path: String,
        /// What was found.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Training ended early.
    #[error("stage {}, step {step}: {error}", stage + 1)]
    Train {
        /// From 0.
        stage: usize,
        /// The step that failed.
        step: usize,
        /// Why.
        error: temper_train::TrainError,
    },
    /// Training was ended early, and no weights of it are worth keeping.
    #[error("stage {}, step {step}: {reason}; no validation was better than the start\nhint: {hint}", stage + 1)]
    NothingGained {
        /// From 0.
        stage: usize,
        /// Steps made.
        step: usize,
        /// What was seen.
        reason: String,
        /// What to change.
        hint: &'static str,
    },
    /// The caller asked for an end; a checkpoint was written.
    #[error("interrupted after step {step} of {of}{}", if *step > 0 { "; a checkpoint was written" } else { "" })]
    Interrupted {
        /// Steps made.
        step: usize,
        /// Steps of the stage.
        of: usize,
    },
    /// Weights could not be saved.
    #[error("{0}")]
    Save(temper_model::WeightsError),
    /// The report could not be made.
    #[error(transparent)]
    Report(#[from] temper_report::ReportError),
    /// The run folder could not be written.
    #[error(transparent)]
    Run(#[from] temper_run::RunError),
    /// The rows hold errors that nothing takes out.
    #[error("{path}: {findings}\nhint: or `{allow}: allow` lets them stand")]
    Checks {
        /// The field of the recipe.
        path: String,
        /// What was found.
        findings: String,
        /// The field that allows it.
        allow: String,
    },
    /// Something in the recipe does not fit the base or the data.
    #[error("{path}: {problem}\nhint: {hint}")]
    Unfit {
        /// The field of the recipe.
        path: String,
        /// What was expected and found.
        problem: String,
        /// What to change.
        hint: String,
    },
    /// What carries trials out cannot go on: no fault of a trial.
    #[error(transparent)]
    Trainer(Box<dyn std::error::Error + Send + Sync>),
}

impl PipelineError {
    /// A study of jobs, in a build that cannot start them.
    pub fn without_jobs() -> Self {
        Self::Unfit {
            path: "tune.trainer".to_owned(),
            problem: "this build of temper has no jobs on AWS".to_owned(),
            hint: "cargo install --path crates/cli --features aws".to_owned(),
        }
    }

    /// Whether the input is at fault (exit code 2), rather than the run (1).
    pub fn is_bad_input(&self) -> bool {
        !matches!(
            self,
            Self::Train { .. }
                | Self::Gate { .. }
                | Self::NothingGained { .. }
                | Self::Interrupted { .. }
                | Self::Save(_)
                | Self::Report(_)
                | Self::Run(_)
                | Self::Trainer(_)
        )
    }
}
