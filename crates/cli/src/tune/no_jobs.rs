//! A build without jobs on AWS: it says how to get one that has them.

use temper_pipeline::PipelineError;
use temper_pipeline::tune::{Budget, Study};

use crate::command::{Failure, Outcome};

/// The study as it is.
pub fn with(study: Study) -> Study {
    study
}

/// Refuses a study of jobs.
pub fn ready(study: &Study) -> Result<(), Failure> {
    match study.tune.trainer.as_ref().and_then(|trainer| trainer.jobs()) {
        Some(_) => Err(Failure::from(PipelineError::without_jobs())),
        None => Ok(()),
    }
}

/// Refuses: only what can start a job knows its request.
pub fn plan(_: &Study, _: Budget, _: bool) -> Outcome {
    Err(Failure::from(PipelineError::without_jobs()))
}
