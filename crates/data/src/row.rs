//! What a row of a file is, and what can be wrong with it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use temper_text::{Conversation, Message, RenderError};

use crate::LengthReport;
use crate::format::Format;

/// How many bad rows an error shows; it counts all.
pub(crate) const SHOWN_PROBLEMS: usize = 20;

/// What a row holds, and so how it is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// A conversation.
    Messages,
    /// A prompt and its completion, both plain text.
    Completion,
    /// A document.
    Text,
    /// A prompt with a better and a worse answer.
    Preference,
    /// A prompt for reinforcement fine-tuning, with what a reward needs to judge answers.
    Task,
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Messages => "messages",
            RowKind::Completion => "prompt and completion",
            RowKind::Text => "text",
            RowKind::Preference => "preference pairs",
            RowKind::Task => "prompts with reference answers",
        })
    }
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowContent {
    /// A conversation.
    Messages(Conversation),
    /// A prompt and what is to follow it.
    Completion {
        /// Context, not trained.
        prompt: String,
        /// What is trained.
        completion: String,
    },
    /// A document.
    Text(String),
    /// A better and a worse answer.
    Preference(Preference),
    /// A prompt whose answers a reward judges.
    Task(Task),
}

impl RowContent {
    /// What it is.
    pub fn kind(&self) -> RowKind {
        match self {
            RowContent::Messages(_) => RowKind::Messages,
            RowContent::Completion { .. } => RowKind::Completion,
            RowContent::Text(_) => RowKind::Text,
            RowContent::Preference(_) => RowKind::Preference,
            RowContent::Task(_) => RowKind::Task,
        }
    }
}

/// A prompt with a better and a worse answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Preference {
    /// What both answer.
    pub prompt: Passage,
    /// The better.
    pub chosen: Passage,
    /// The worse.
    pub rejected: Passage,
    /// The tools that may be called, as JSON schemas.
    pub tools: Vec<Value>,
}

/// A part of a preference pair; the three of a row are all of one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passage {
    /// Plain text, for models without a chat template.
    Text(String),
    /// Turns.
    Messages(Vec<Message>),
}

/// A prompt whose answers a reward judges.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// The prompt; its last turn is not the assistant's.
    pub prompt: Conversation,
    /// What a right answer is; nothing where the reward needs none.
    pub reference_answer: Value,
    /// Every other field of the row, for the reward.
    pub extra: Map<String, Value>,
}

/// One row of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Its line, from 1; in files without lines its number, from 1.
    pub line: usize,
    /// What it holds.
    pub content: RowContent,
    /// Field `id`, where given; a number is kept as its text.
    pub id: Option<String>,
    /// Field `group`, or else `source`, where given: rows of one group belong together, and an interval over such rows
    /// resamples whole groups.
    pub group: Option<String>,
    /// Field `label`, where given: the right answer of a classification row.
    pub label: Option<String>,
    /// Field `quality`, where it is a number: rows can be seen by it, the best last.
    pub quality: Option<f32>,
}

/// The rows of one file.
#[derive(Debug, Clone, PartialEq)]
pub struct LoadedRows {
    /// The file.
    pub path: PathBuf,
    /// How its rows are written.
    pub format: Format,
    /// What its rows hold.
    pub kind: RowKind,
    /// The rows, in order of the file.
    pub rows: Vec<Row>,
    /// Fields that are not read, each with the number of rows that have it.
    pub ignored_fields: BTreeMap<String, usize>,
}

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
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file cannot be written.
    #[error("{path}: cannot write: {source}")]
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

fn bad_rows(path: &Path, problems: &[RowProblem], total: usize) -> String {
    let mut text: Vec<String> =
        problems.iter().map(|problem| format!("{}:{}: {}", path.display(), problem.line, problem.message)).collect();
    if total > problems.len() {
        text.push(format!("... and {} more", total - problems.len()));
    }
    text.push(format!("{}: {total} bad row{}", path.display(), if total == 1 { "" } else { "s" }));
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
