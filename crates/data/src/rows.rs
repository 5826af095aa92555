//! Reading JSONL strictly: one kind of row a file, every bad row reported with its line.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use temper_text::{Message, RenderError};

use crate::LengthReport;

/// How many bad rows an error shows; it counts all.
const SHOWN_PROBLEMS: usize = 20;

/// What a row holds, and so how it is rendered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RowKind {
    /// `{"messages": [{"role": "...", "content": "..."}, ...]}`
    Messages,
    /// `{"prompt": "...", "completion": "..."}`
    Completion,
    /// `{"text": "..."}`
    Text,
}

impl fmt::Display for RowKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RowKind::Messages => "messages",
            RowKind::Completion => "prompt and completion",
            RowKind::Text => "text",
        })
    }
}

/// The content of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RowContent {
    /// A conversation.
    Messages(Vec<Message>),
    /// A prompt and what is to follow it.
    Completion {
        /// Context, not trained.
        prompt: String,
        /// What is trained.
        completion: String,
    },
    /// A document.
    Text(String),
}

/// One row of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its line, from 1.
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
}

/// The rows of one file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadedRows {
    /// The file.
    pub path: PathBuf,
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
    /// No row at all.
    #[error("{path}: the file has no rows")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// Rows of two kinds.
    #[error(
        "{path}:{line}: a row of {kind}, expected {first_kind} as in line {first_line}\nhint: put each kind of row into its own file"
    )]
    MixedKinds {
        /// The file.
        path: PathBuf,
        /// Line of the first row.
        first_line: usize,
        /// Kind of the first row.
        first_kind: RowKind,
        /// Line of the first row of another kind.
        line: usize,
        /// That kind.
        kind: RowKind,
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

/// Reads a JSONL file.
///
/// A byte order mark, CRLF line ends, blank lines and a missing last newline change nothing. Fields other than those
/// named in [`Row`] and [`RowKind`] are counted and left alone, but `tools` is refused: the chat template would print it.
///
/// # Errors
/// [`DataError`]: each with the file, and with the line where there is one. All bad rows at once.
pub fn load_rows(path: impl AsRef<Path>) -> Result<LoadedRows, DataError> {
    let path = path.as_ref();
    let bytes = std::fs::read(path).map_err(|source| match source.kind() {
        std::io::ErrorKind::NotFound => DataError::Missing { path: path.to_owned() },
        _ => DataError::Read { path: path.to_owned(), source },
    })?;
    parse_rows(path, &bytes)
}

/// As [`load_rows`], of a content that is in memory already; `path` is what errors name.
///
/// # Errors
/// As [`load_rows`], but for those of reading.
pub fn parse_rows(path: &Path, bytes: &[u8]) -> Result<LoadedRows, DataError> {
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);

    let mut first: Option<(usize, RowKind)> = None;
    let mut mixed: Option<DataError> = None;
    let mut rows = Vec::new();
    let mut problems = Vec::new();
    let mut ignored_fields = BTreeMap::new();
    for (index, bytes) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let line = index + 1;
        let bytes = bytes.trim_ascii();
        if bytes.is_empty() {
            continue;
        }
        let parsed = match std::str::from_utf8(bytes) {
            Ok(text) => serde_json::from_str::<RawRow>(text).map_err(|error| without_line(&error)),
            Err(error) => Err(format!("not UTF-8 from byte {} of the line", error.valid_up_to() + 1)),
        };
        match parsed.and_then(|raw| raw.into_row(line, &mut ignored_fields)) {
            Err(message) => problems.push(RowProblem { line, message }),
            Ok((kind, row)) => {
                let (first_line, first_kind) = *first.get_or_insert((line, kind));
                if kind != first_kind && mixed.is_none() {
                    mixed = Some(DataError::MixedKinds { path: path.to_owned(), first_line, first_kind, line, kind });
                }
                rows.push(row);
            }
        }
    }
    if !problems.is_empty() {
        return Err(DataError::bad_rows(path, problems));
    }
    match (mixed, first) {
        (Some(error), _) => Err(error),
        (None, None) => Err(DataError::Empty { path: path.to_owned() }),
        (None, Some((_, kind))) => Ok(LoadedRows { path: path.to_owned(), kind, rows, ignored_fields }),
    }
}

/// The parser counts lines from the row's own start: its "line 1" would mislead, its column is right.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(message) => format!("column {}: {message}", error.column()),
        None => text,
    }
}

/// A row as it stands, before its kind is known. Read by hand so that a field given twice is an error and fields that
/// are not known are counted without being kept.
#[derive(Default)]
struct RawRow {
    messages: Option<Vec<Message>>,
    prompt: Option<String>,
    completion: Option<String>,
    text: Option<String>,
    id: Option<String>,
    group: Option<String>,
    source: Option<String>,
    label: Option<String>,
    ignored: Vec<String>,
}

impl RawRow {
    fn into_row(self, line: usize, ignored_fields: &mut BTreeMap<String, usize>) -> Result<(RowKind, Row), String> {
        let (kind, content) = match (self.messages, self.prompt, self.completion, self.text) {
            (Some(messages), None, None, None) => (RowKind::Messages, RowContent::Messages(messages)),
            (None, Some(prompt), Some(completion), None) => {
                (RowKind::Completion, RowContent::Completion { prompt, completion })
            }
            (None, None, None, Some(text)) => (RowKind::Text, RowContent::Text(text)),
            (None, Some(_), None, None) => return Err("field `prompt` without `completion`".to_owned()),
            (None, None, Some(_), None) => return Err("field `completion` without `prompt`".to_owned()),
            (None, None, None, None) => {
                return Err("none of the fields `messages`, `prompt` and `completion`, or `text`".to_owned());
            }
            (messages, prompt, completion, text) => {
                let given = [
                    ("messages", messages.is_some()),
                    ("prompt", prompt.is_some()),
                    ("completion", completion.is_some()),
                    ("text", text.is_some()),
                ];
                let given: Vec<&str> = given.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
                return Err(format!("fields of more than one kind of row: `{}`", given.join("`, `")));
            }
        };
        for field in self.ignored {
            *ignored_fields.entry(field).or_insert(0) += 1;
        }
        Ok((kind, Row { line, content, id: self.id, group: self.group.or(self.source), label: self.label }))
    }
}

impl<'de> Deserialize<'de> for RawRow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<RawRow, D::Error> {
        deserializer.deserialize_map(RawRowVisitor)
    }
}

struct RawRowVisitor;

impl<'de> Visitor<'de> for RawRowVisitor {
    type Value = RawRow;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<RawRow, A::Error> {
        fn field<'de, A: MapAccess<'de>, T: Deserialize<'de>>(
            map: &mut A,
            name: &str,
            into: &mut Option<T>,
        ) -> Result<(), A::Error> {
            if into.is_some() {
                return Err(A::Error::custom(format!("field `{name}` is given twice")));
            }
            *into = Some(map.next_value().map_err(|error| A::Error::custom(format!("field `{name}`: {error}")))?);
            Ok(())
        }
        let mut row = RawRow::default();
        while let Some(name) = map.next_key::<String>()? {
            match name.as_str() {
                "messages" => field(&mut map, &name, &mut row.messages)?,
                "prompt" => field(&mut map, &name, &mut row.prompt)?,
                "completion" => field(&mut map, &name, &mut row.completion)?,
                "text" => field(&mut map, &name, &mut row.text)?,
                "id" => {
                    let mut id = None;
                    field(&mut map, &name, &mut id)?;
                    row.id = id.map(|Id(id)| id);
                }
                "group" => field(&mut map, &name, &mut row.group)?,
                "source" => field(&mut map, &name, &mut row.source)?,
                "label" => field(&mut map, &name, &mut row.label)?,
                "tools" => return Err(A::Error::custom("field `tools`: rows with tools are not supported")),
                _ => {
                    map.next_value::<IgnoredAny>()?;
                    row.ignored.push(name);
                }
            }
        }
        Ok(row)
    }
}

/// A string, or a whole number kept as its text.
struct Id(String);

impl<'de> Deserialize<'de> for Id {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Id, D::Error> {
        struct IdVisitor;
        impl Visitor<'_> for IdVisitor {
            type Value = Id;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or a whole number")
            }
            fn visit_str<E>(self, id: &str) -> Result<Id, E> {
                Ok(Id(id.to_owned()))
            }
            fn visit_u64<E>(self, id: u64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }
            fn visit_i64<E>(self, id: i64) -> Result<Id, E> {
                Ok(Id(id.to_string()))
            }
        }
        deserializer.deserialize_any(IdVisitor)
    }
}
