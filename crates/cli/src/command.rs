//! What every command shares: how it ends, and how it prints.

use std::fmt::Display;
use std::io::{ErrorKind, Write};
use std::sync::OnceLock;
use std::time::Instant;

use anyhow::anyhow;
use serde::Serialize;
use temper_pipeline::PipelineError;
use temper_recipe::RecipeErrors;

/// Done.
pub const DONE: u8 = 0;
/// The run failed.
pub const FAILED: u8 = 1;
/// The input is at fault.
pub const BAD_INPUT: u8 = 2;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 3;
/// A gate refused: the rows hold errors, a floor was broken, or the domain got worse.
pub const REFUSED: u8 = 4;

/// When the process began: the first call sets it.
pub fn begun() -> Instant {
    static BEGUN: OnceLock<Instant> = OnceLock::new();
    *BEGUN.get_or_init(Instant::now)
}

/// The exit code of a command, or what went wrong.
pub type Outcome = Result<u8, Failure>;

/// An error with the exit code that it means.
pub struct Failure {
    /// See the constants above.
    pub code: u8,
    /// What is told. None: the reader of standard output has gone, as `head` does, and there is nothing to say.
    pub error: Option<anyhow::Error>,
}

impl Failure {
    /// Bad input.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Self { code: BAD_INPUT, error: Some(error.into()) }
    }

    /// A failure of the run or the machine.
    pub fn run(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FAILED, error: Some(error.into()) }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        if matches!(error, PipelineError::Checks { .. } | PipelineError::Gate { .. }) {
            return Self { code: REFUSED, error: Some(error.into()) };
        }
        if error.is_bad_input() { Self::input(error) } else { Self::run(error) }
    }
}

impl From<RecipeErrors> for Failure {
    fn from(error: RecipeErrors) -> Self {
        Self::input(error)
    }
}

/// Writes to standard output, at once. Data go there and nothing else.
pub fn print(text: impl Display) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    write!(out, "{text}").and_then(|()| out.flush()).map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => Failure { code: DONE, error: None },
        _ => Failure::run(anyhow!("cannot write to standard output: {error}")),
    })
}

/// Prints what a command found and ends with `code`, which stands even where the reader of standard output has gone.
pub fn conclude(text: impl Display, code: u8) -> Outcome {
    match print(text) {
        Ok(()) | Err(Failure { error: None, .. }) => Ok(code),
        Err(failure) => Err(failure),
    }
}

/// Writes a line to standard error: progress, notes, errors. Where that is closed or full, nothing can be said of it.
pub fn tell(text: impl Display) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}

/// A value as JSON for people and programs; numbers that are not finite as strings.
pub fn json<T: Serialize>(value: &T) -> Result<String, Failure> {
    Ok(temper_run::to_json_pretty(value).map_err(Failure::run)? + "\n")
}
