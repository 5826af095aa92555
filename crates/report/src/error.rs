//! Why there is no report.

use std::path::PathBuf;

use temper_run::RunError;

/// Why a run folder could not be read, or its report not be written.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// Not a run folder.
    #[error("{}: there is no plan.json\nhint: give the folder of a run, such as runs/NAME", folder.display())]
    NotARun {
        /// The folder.
        folder: PathBuf,
    },
    /// A file of the run that cannot be read.
    #[error("cannot read {}: {error}\nhint: check the permissions of the run folder", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// A file of the run that is damaged, or of another version.
    #[error(
        "{}{}: {error}\nhint: the file is damaged or was written by another version of temper",
        path.display(),
        line.map(|line| format!(", line {line}")).unwrap_or_default()
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// Line of a file of lines, from 1.
        line: Option<usize>,
        /// What was expected and found.
        error: serde_json::Error,
    },
    /// The page could not be made.
    #[error("the template of the report: {0:#}\nhint: this is a fault of the program, please report it")]
    Template(#[from] minijinja::Error),
    /// A file could not be written.
    #[error(transparent)]
    Write(#[from] RunError),
}
