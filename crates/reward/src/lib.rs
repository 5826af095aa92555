//! Rewards: what an answer is worth, and what happens where nothing can say.
//!
//! [`Rewards::open`] makes the rewards of a recipe ready, [`Rewards::score`] scores a batch of samples. The crate knows
//! nothing of models: a [`Sample`] is text and the row that it answers.
//!
//! A score is a finite number, an abstention, or a failure of a stated kind; nothing else leaves this crate. What a
//! built-in verifier gives is a function of one sample: never of the batch that it is in, nor of its place there.
//!
//! Reading order: `rewards.rs` (the sum and its policies), `verify/`, `program.rs` with `driver.py`, `code.rs` with
//! `unit_tests.py`, `service.rs`, `sandbox/`. `trial/` puts rewards to the test.

mod answer;
mod code;
mod error;
mod judge;
mod lambda;
mod parallel;
mod process;
mod program;
mod reply;
mod rewards;
mod sample;
pub mod sandbox;
mod scored;
mod service;
mod template;
pub mod trial;
mod verify;

pub use error::Error;
pub use rewards::Rewards;
pub use sample::Sample;
pub use scored::{Counts, Failure, FailureKind, Outcome, Part, SampleScore, Scored, Summary};
