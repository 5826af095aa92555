//! What can be wrong with files of rows.

use std::path::{Path, PathBuf};

use temper_text::RenderError;

use crate::format::Format;
use crate::report::LengthReport;

/// How many bad rows an error shows; it counts all.
pub(crate) const SHOWN_PROBLEMS: usize = 20;

/// What is wrong with one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowProblem {
    /// Its line, from 1.
    pub line: usize,
    /// What is wrong.
    pub message: String,
}

/// Why a file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The file is not there.
    #[error("{path}: no such file\nhint: paths in a recipe are relative to the recipe's folder")]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// The file cannot be read.
    #[error("{path}: cannot read: {source}\nhint: check its permissions, and that it is whole")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{path}: cannot write: {source}\nhint: check the permissions of the folder and the space on the disk")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// No row at all.
    #[error("{path}: the file has no rows")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Rows of two formats.
    #[error(
        "{path}:{line}: a row of the format `{format}`, expected `{first_format}` as in line {first_line}\nhint: put each kind of row into its own file"
    )]
    MixedFormats {
        /// The file.
        path: PathBuf,
        /// Line of the first row.
        first_line: usize,
        /// Format of the first row.
        first_format: Format,
        /// Line of the first row of another format.
        line: usize,
        /// That format.
        format: Format,
    },
    /// A file that is not what its name says.
    #[error("{path}: {problem}\nhint: {hint}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
        /// What to do.
        hint: String,
    },
    /// Rows that cannot be read or rendered.
    #[error("{}", bad_rows(path, problems, *total))]
    BadRows {
        /// The file.
        path: PathBuf,
        /// The first of them, at most 20.
        problems: Vec<RowProblem>,
        /// How many there are.
        total: usize,
    },
    /// The chat template cannot be used, so no row can.
    #[error("{path}: {source}")]
    Template {
        /// The file.
        path: PathBuf,
        /// Why.
        source: RenderError,
    },
    /// A loss weight that is no positive number.
    #[error("loss weight of {name} is {weight}, expected a positive number\nhint: leave the source out instead")]
    LossWeight {
        /// The source.
        name: String,
        /// Its weight.
        weight: f32,
    },
    /// Every row was left out.
    #[error("{path}: none of the {rows} rows is left: {reasons}; their lengths in tokens: {lengths}\nhint: {hint}")]
    NothingLeft {
        /// The file.
        path: PathBuf,
        /// How many rows it has.
        rows: usize,
        /// How many were left out, by reason.
        reasons: String,
        /// How long the rows are.
        lengths: LengthReport,
        /// What to do.
        hint: String,
    },
}

/// What is wrong with each row; a hint that several share is said once, below.
fn bad_rows(path: &Path, problems: &[RowProblem], total: usize) -> String {
    let (mut text, mut hints) = (Vec::new(), Vec::new());
    for RowProblem { line, message } in problems {
        let (what, hint) =
            message.split_once("\nhint: ").map_or((message.as_str(), None), |(what, hint)| (what, Some(hint)));
        text.push(format!("{}:{line}: {what}", path.display()));
        hints.extend(hint.filter(|hint| !hints.contains(hint)));
    }
    if total > problems.len() {
        text.push(format!("... and {} more", total - problems.len()));
    }
    text.push(format!("{}: {total} bad row{}", path.display(), if total == 1 { "" } else { "s" }));
    text.extend(hints.iter().map(|hint| format!("hint: {hint}")));
    text.join("\n")
}

impl DataError {
    /// An error for these rows; the caller has made sure that there is at least one.
    pub(crate) fn bad_rows(path: &Path, mut problems: Vec<RowProblem>) -> DataError {
        let total = problems.len();
        problems.truncate(SHOWN_PROBLEMS);
        DataError::BadRows { path: path.to_owned(), problems, total }
    }
}
