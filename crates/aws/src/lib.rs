//! Jobs of Nova Forge: training jobs of SageMaker, with machines of one's own choice or serverless, and customization jobs of
//! Bedrock.
//!
//! ```text
//! recipe of Nova + Settings -- Submission::of --> requests + cost -- Submission::send --> Job
//! name or ARN -- Handle::read --> Handle -- find, stop --> Job -- fetch --> manifest.json, metrics
//! ```
//! Nothing is sent that cannot be shown before: a [`Submission`] holds the very requests. Reading order: `submission.rs` (what a
//! recipe becomes), `cost.rs`, `job.rs`, `fetch.rs`; below them `client.rs` (sending, repeating, what errors mean), `sign.rs`
//! (Signature Version 4) and `credentials.rs` (AWS's own chain). Above them `trainer.rs`: jobs as the trials of `temper tune`, with
//! `ledger.rs` (what they cost together) and `measured.rs` (what they measured).

mod client;
mod cost;
mod credentials;
mod error;
mod fetch;
mod job;
mod ledger;
mod measured;
mod request;
mod s3;
mod sign;
mod submission;
mod trainer;

pub use client::Client;
pub use cost::Basis;
pub use credentials::{Credentials, Surroundings};
pub use error::Error;
pub use fetch::{Fetched, fetch};
pub use job::{Handle, Job, Phase, find, stop};
pub use request::{Platform, Request, Service};
pub use submission::{Settings, Submission};
pub use trainer::{JobTrainer, JobsPlan, Variable, job_trainer};
