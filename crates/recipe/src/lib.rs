//! The recipe: one YAML file that says what the user wants, its types, its strict reader, its errors.
//!
//! [`Recipe::load`] reads a file and the `--set` arguments, and returns either a recipe that is whole and consistent in
//! itself, or **all** its problems at once, each with file, line, column and a hint. Every value is a [`Valued`]: it knows
//! its path, and where it came from. [`Recipe::settings`] lists them all; that list is what a plan prints, and what a
//! recipe serialises to.
//!
//! The list of fields is written once, where the macro `section!` stands (`recipe.rs`, `stage.rs` and what they hold). It
//! makes of the list the types, the reader and the settings, and [`reference()`] makes the table in `docs/recipe.md`.
//!
//! [`foreign`] reads recipes of other tools, checks them by rules, and carries them here and back.
//!
//! YAML is read as YAML 1.2 with its core schema: `1e-5` is a number, `no` is text, `1_000` is neither. Keys given twice,
//! unknown keys, tags and second documents are refused. Keys that other tools use for the same thing are accepted with a
//! [`Note`].

mod catalog;
mod checkpoints;
mod duration;
mod edit;
mod evaluation;
mod export;
mod field_doc;
mod filters;
pub mod foreign;
mod frozen;
mod jobs;
mod kind;
mod lora;
mod mix;
mod optimizer;
mod precision;
mod preference;
mod problem;
mod reader;
mod recipe;
mod reference;
mod refused;
mod reward;
mod rollouts;
mod rows;
mod schema;
mod set;
mod settings;
mod stage;
mod then_full;
mod tree;
mod tune;

pub use catalog::Catalog;
pub use checkpoints::{Checkpoint, CheckpointKind};
pub use duration::{Duration, Span};
pub use edit::{EditError, edit};
pub use evaluation::{BOOTSTRAP_SAMPLES, Bound, DomainEvaluation, Evaluation, Floor, Suite, SuiteKind, Task};
pub use export::Export;
pub use filters::{DataErrors, Filters, Found, Private};
pub use frozen::FrozenWeights;
pub use jobs::{BedrockJobs, Jobs, LogMetric, SagemakerJobs};
pub use lora::{AdapterUse, InitLora, Linear, Lora, Table};
pub use mix::{GeneralRows, GeneralSource, Mix, MixUnit, SelfData};
pub use optimizer::{Optimizer, RateGroup};
pub use precision::Precision;
pub use preference::{PairLoss, Preference, ReferenceModel};
pub use problem::{Note, Place, Problem, RecipeErrors};
pub use recipe::{Base, ModelSource, Recipe};
pub use reference::{Open, field_at, reference};
pub use reward::{Contract, Extract, LengthUnit, OnFailure, Reward, RewardFile, SandboxMode, ScoredBy, VerifierKind};
pub use rollouts::{
    AdvantageBaseline, Baseline, BaselineGate, KlEstimator, KlGradient, Policy, PolicyLoss, RatioLevel, Rollouts,
    ScaleRewards, Surrogate,
};
pub use rows::{RowFiles, RowFormat, Weight, is_remote};
pub use schema::schema;
pub use settings::{Setting, Source, Valued};
pub use stage::{Boundary, LrScheduler, Mode, RowOrder, Stage, StageKind, Turns, usual_rate};
pub use then_full::FullStart;
pub use tune::{
    Condition, EarlyStopping, Limit, MetricSource, ProgramTrainer, SamplerKind, Searched, Sense, Sought, StudyFile,
    Trainer, Tune, ValuesAs, is_study,
};
