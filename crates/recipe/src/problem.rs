//! Problems and notes, with the place they speak of.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// A place in what the user wrote. The order is the order of reading: the file, then the `--set` arguments.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(tag = "in", rename_all = "snake_case")]
pub enum Place {
    /// The file as a whole.
    Whole,
    /// A place in the recipe file; line and column count from 1, the column in characters.
    File {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// A `--set` argument.
    Set {
        /// The argument as given, `path=value`.
        argument: String,
    },
}

impl Place {
    /// The place as people look it up, with `file` for the recipe: `file:line:column`, `--set path=value` or `file`.
    pub fn of(&self, file: &Path) -> String {
        match self {
            Self::Whole => file.display().to_string(),
            Self::File { line, column } => format!("{}:{line}:{column}", file.display()),
            Self::Set { argument } => format!("--set {argument}"),
        }
    }
}

/// One thing that is wrong with a recipe.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// What is wrong: what was expected and what was found.
    pub message: String,
    /// What to do about it.
    pub hint: String,
}

/// Something the user should know although nothing is wrong, such as a key of another tool that was accepted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Note {
    /// Where.
    pub place: Place,
    /// What.
    pub message: String,
}

/// All the problems of a recipe, in the order of the file. Shown as `file:line:column: message` and a `hint:` line each.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct RecipeErrors {
    /// The recipe file.
    pub file: PathBuf,
    /// At least one problem.
    pub problems: Vec<Problem>,
}

impl fmt::Display for RecipeErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, Problem { place, message, hint }) in self.problems.iter().enumerate() {
            if i > 0 {
                writeln!(f)?;
            }
            write!(f, "{}: {message}\nhint: {hint}", place.of(&self.file))?;
        }
        Ok(())
    }
}
