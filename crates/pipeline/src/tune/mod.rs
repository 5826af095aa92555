//! `temper tune`: a recipe with some values left open, many runs of it, and one answer on two axes.

mod answer;
mod builtin;
mod clock;
mod finish;
mod measure;
mod page;
mod plan;
mod program;
mod records;
mod sealed;
mod search;
mod space;
mod study;
mod trainer;

pub use answer::{Answer, Lead, Repeated, leads};
pub use builtin::{Builtin, FORGETTING, VALIDATION_LOSS};
pub use clock::Clock;
pub use finish::{Depends, Finish, Member, edits};
pub use measure::Measures;
pub(crate) use page::is_gain;
pub use plan::{Budget, Shared, StudyPlan, TrialPlan, repeats, rungs};
pub use program::Program;
pub use sealed::Sealed;
pub use search::{Over, Told, trial_folder};
pub use space::{Searchable, described, of_jobs, of_program, of_recipe, sets};
pub use study::{Ears, MakeTrainer, Study};
pub use trainer::{Assignment, Ended, Heard, Signal, Trainer};
