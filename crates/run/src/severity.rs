//! How much a finding matters, wherever it is about: rows, recipes, runs.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The gravest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    /// What is run comes to nothing or proves nothing, or is refused.
    Error,
    /// It costs quality, or a part of the run: look before you train.
    Warning,
    /// Worth knowing.
    Note,
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
            Severity::Note => "note",
        })
    }
}
