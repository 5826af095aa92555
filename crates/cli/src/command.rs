//! What every command shares: how it ends, and how a recipe is loaded.

use std::path::Path;

use serde::Serialize;
use temper_pipeline::PipelineError;
use temper_recipe::{Note, Recipe, RecipeErrors};

/// Done.
pub const DONE: u8 = 0;
/// The run failed.
pub const FAILED: u8 = 1;
/// The input is at fault.
pub const BAD_INPUT: u8 = 2;
/// Ctrl-C.
pub const INTERRUPTED: u8 = 3;
/// A gate refused: a floor was broken, or the domain got worse.
pub const REFUSED: u8 = 4;

/// The exit code of a command, or what went wrong.
pub type Outcome = Result<u8, Failure>;

/// An error with the exit code that it means.
pub struct Failure {
    /// See the constants above.
    pub code: u8,
    /// What is printed.
    pub error: anyhow::Error,
}

impl Failure {
    /// Bad input.
    pub fn input(error: impl Into<anyhow::Error>) -> Self {
        Self { code: BAD_INPUT, error: error.into() }
    }

    /// A failure of the run or the machine.
    pub fn run(error: impl Into<anyhow::Error>) -> Self {
        Self { code: FAILED, error: error.into() }
    }
}

impl From<PipelineError> for Failure {
    fn from(error: PipelineError) -> Self {
        if error.is_bad_input() { Self::input(error) } else { Self::run(error) }
    }
}

impl From<RecipeErrors> for Failure {
    fn from(error: RecipeErrors) -> Self {
        Self::input(error)
    }
}

/// Reads a recipe with its `--set` arguments.
pub fn load_recipe(file: &Path, sets: &[String]) -> Result<(Recipe, Vec<Note>), Failure> {
    Ok(Recipe::load(file, sets)?)
}

/// Prints a value as JSON; numbers that are not finite as strings.
pub fn print_json<T: Serialize>(value: &T) -> Result<(), Failure> {
    anstream::println!("{}", temper_run::to_json_pretty(value).map_err(Failure::run)?);
    Ok(())
}

/// Prints a value as one line of JSON, at once.
pub fn print_line<T: Serialize>(value: &T) -> Result<(), Failure> {
    anstream::println!("{}", temper_run::to_json(value).map_err(Failure::run)?);
    std::io::Write::flush(&mut std::io::stdout()).map_err(Failure::run)
}
