//! What a row of a file is.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use temper_text::{Conversation, Message};

use crate::format::Format;

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
