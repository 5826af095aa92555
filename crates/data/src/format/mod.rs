//! How rows are written: the formats of the field, each read strictly into one kind of row, and written back.
//!
//! The first rows of a file tell its format; then every row is read as that format and no other. A field that a format
//! does not know is counted, never guessed at.

mod chat;
mod converse;
mod fields;
mod pairs;
mod plain;
mod preference;
mod sharegpt;
mod task;
mod unfold;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use temper_text::{Conversation, Message};

use crate::row::{Passage, Row, RowContent, RowKind};
use fields::{Fields, Marks};
pub(crate) use unfold::unfolded;

/// How many of a file's rows tell its format.
pub(crate) const LOOKED_AT: usize = 20;

/// How rows are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Format {
    /// `{"messages": [{"role", "content", ...}], "tools": [...]}`: OpenAI, `transformers`, TRL.
    Messages,
    /// `{"system": [{"text"}], "messages": [{"role", "content": [{"text"}]}], "toolConfig"}`: Amazon Bedrock's Converse.
    Converse,
    /// `{"conversations": [{"from", "value"}], "system", "tools"}`.
    Sharegpt,
    /// `{"instruction", "input", "output", "system", "history"}`.
    Alpaca,
    /// `{"prompt", "completion"}`: both text, or both lists of messages.
    PromptCompletion,
    /// `{"question", "answer"}`: one turn each.
    QuestionAnswer,
    /// `{"prompt", "chosen", "rejected"}`, or Nova's `candidates` in the last turn of a Converse row.
    Preference,
    /// `{"messages" or "prompt", "reference_answer", ...}`: every further field is for the reward.
    Rft,
    /// `{"text"}`.
    Text,
}

impl Format {
    /// All of them.
    pub const ALL: [Format; 9] = [
        Format::Messages,
        Format::Converse,
        Format::Sharegpt,
        Format::Alpaca,
        Format::PromptCompletion,
        Format::QuestionAnswer,
        Format::Preference,
        Format::Rft,
        Format::Text,
    ];

    /// Its name in recipes and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Format::Messages => "messages",
            Format::Converse => "converse",
            Format::Sharegpt => "sharegpt",
            Format::Alpaca => "alpaca",
            Format::PromptCompletion => "prompt_completion",
            Format::QuestionAnswer => "question_answer",
            Format::Preference => "preference",
            Format::Rft => "rft",
            Format::Text => "text",
        }
    }

    /// The format of this name.
    pub fn named(name: &str) -> Option<Format> {
        Format::ALL.into_iter().find(|format| format.name() == name)
    }

    /// The fields by which a row is known to be of this format.
    fn known_by(self) -> &'static str {
        match self {
            Format::Messages => "`messages`",
            Format::Converse => "`messages` whose content are lists of `{\"text\"}`, with `system` or `schemaVersion`",
            Format::Sharegpt => "`conversations` of `from` and `value`",
            Format::Alpaca => "`instruction` and `output`",
            Format::PromptCompletion => "`prompt` and `completion`",
            Format::QuestionAnswer => "`question` and `answer`",
            Format::Preference => "`chosen` and `rejected`",
            Format::Rft => "`messages` or `prompt`, and `reference_answer`",
            Format::Text => "`text`",
        }
    }

    /// The format that a row's fields tell.
    ///
    /// # Errors
    /// Where no format fits, or more than one.
    pub(crate) fn of(row: &Map<String, Value>) -> Result<Format, String> {
        let has = |name: &str| row.get(name).is_some_and(|value| !value.is_null());
        let first = |name: &str| row.get(name).and_then(Value::as_array).and_then(|list| list.first());
        // What says most comes first: a preference pair has a prompt too, an RFT row has messages.
        let turns = ["messages", "conversations", "conversation"].into_iter().find(|name| has(name));
        let mut found = Vec::new();
        if converse::has_candidates(row) || has("chosen") || has("rejected") {
            found.push(Format::Preference);
        } else if has("reference_answer") {
            found.push(Format::Rft);
        } else {
            if turns.is_some_and(|name| first(name).is_some_and(|turn| turn.get("from").is_some())) {
                found.push(Format::Sharegpt);
            } else if converse::looks_like(row) {
                found.push(Format::Converse);
            } else if turns.is_some() {
                found.push(Format::Messages);
            }
            if has("instruction") && has("output") {
                found.push(Format::Alpaca);
            }
            if has("completion") || has("prompt") && turns.is_none() {
                found.push(Format::PromptCompletion);
            }
            if has("question") && has("answer") {
                found.push(Format::QuestionAnswer);
            }
            if has("text") {
                found.push(Format::Text);
            }
        }
        match found[..] {
            [format] => Ok(format),
            [] => Err(format!("no known format: the row has {}, expected one of {}", names(row), known())),
            _ => {
                let found: Vec<&str> = found.iter().map(|format| format.name()).collect();
                Err(format!(
                    "fields of more than one format: `{}`; say `format:` with the one that is meant",
                    found.join("`, `")
                ))
            }
        }
    }

    /// What a row of this format holds.
    pub fn kind(self) -> RowKind {
        match self {
            Format::Messages | Format::Converse | Format::Sharegpt | Format::Alpaca | Format::QuestionAnswer => {
                RowKind::Messages
            }
            // Lists of messages make it a conversation.
            Format::PromptCompletion => RowKind::Completion,
            Format::Preference => RowKind::Preference,
            Format::Rft => RowKind::Task,
            Format::Text => RowKind::Text,
        }
    }

    /// Reads a row of this format.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(crate) fn read(
        self,
        line: usize,
        row: Map<String, Value>,
        ignored: &mut BTreeMap<String, usize>,
    ) -> Result<Row, String> {
        let mut fields = Fields::new(row);
        let Marks { id, group, label } = fields.marks()?;
        let quality = fields.quality();
        let content = match self {
            Format::Messages => chat::read(&mut fields)?,
            Format::Converse => converse::read(&mut fields)?,
            Format::Sharegpt => sharegpt::read(&mut fields)?,
            Format::Alpaca => pairs::alpaca(&mut fields)?,
            Format::PromptCompletion => pairs::prompt_completion(&mut fields)?,
            Format::QuestionAnswer => pairs::question_answer(&mut fields)?,
            Format::Preference => preference::read(&mut fields)?,
            Format::Rft => task::read(&mut fields)?,
            Format::Text => plain::read(&mut fields)?,
        };
        for field in fields.left() {
            *ignored.entry(field).or_insert(0) += 1;
        }
        Ok(Row { line, content, id, group, label, quality })
    }

    /// Writes a row in this format; the second value names what the format cannot hold.
    ///
    /// # Errors
    /// Why a row of this kind cannot be written so at all.
    pub fn write(self, row: &Row) -> Result<(Map<String, Value>, Vec<String>), String> {
        let mut lost = Vec::new();
        let mut out = match self {
            Format::Messages => chat::write(&row.content, &mut lost),
            Format::Converse => converse::write(&row.content, &mut lost),
            Format::Sharegpt => sharegpt::write(&row.content, &mut lost),
            Format::Alpaca => pairs::write_alpaca(&row.content, &mut lost),
            Format::PromptCompletion => pairs::write_prompt_completion(&row.content, &mut lost),
            Format::QuestionAnswer => pairs::write_question_answer(&row.content, &mut lost),
            Format::Preference => preference::write(&row.content),
            Format::Rft => task::write(&row.content, &mut lost),
            Format::Text => plain::write(&row.content),
        }
        .map_err(|why| format!("a row of {} cannot be written as `{self}`: {why}", row.content.kind()))?;
        for (name, value) in [("id", &row.id), ("group", &row.group), ("label", &row.label)] {
            let Some(value) = value else { continue };
            if matches!(self, Format::Converse | Format::Text) {
                // Nova Forge takes rows with nothing else.
                lost.push(format!("field `{name}`"));
            } else {
                out.insert(name.to_owned(), value.as_str().into());
            }
        }
        if let Some(quality) = row.quality {
            if matches!(self, Format::Converse | Format::Text) {
                lost.push("field `quality`".to_owned());
            } else {
                out.insert("quality".to_owned(), quality.into());
            }
        }
        Ok((out, lost))
    }
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The fields of a row, for a message.
fn names(row: &Map<String, Value>) -> String {
    if row.is_empty() {
        return "no fields".to_owned();
    }
    let shown: Vec<String> = row.keys().take(8).map(|name| format!("`{name}`")).collect();
    shown.join(", ") + if row.len() > 8 { ", ..." } else { "" }
}

fn known() -> String {
    let each: Vec<String> =
        Format::ALL.iter().map(|format| format!("{} ({})", format.name(), format.known_by())).collect();
    format!("{}\n{OTHER_NAMES}", each.join(", "))
}

/// What helps where a field is missing.
const OTHER_NAMES: &str =
    "hint: `columns:` (`--column` on the command line) gives fields of other names the name that is expected";

/// The conversation that a row is or stands for; `lost` is told what of the row is not in it. Of two answers it has the better
/// one, of a task the reference answer as its last turn.
///
/// # Errors
/// Where there is none.
fn conversation_of<'r>(content: &'r RowContent, lost: &mut Vec<String>) -> Result<Cow<'r, Conversation>, String> {
    let exchange = |asked: &str, answer: &str| {
        Cow::Owned(Conversation::new(vec![Message::new("user", asked), Message::new("assistant", answer)]))
    };
    match content {
        RowContent::Messages(conversation) => Ok(Cow::Borrowed(conversation)),
        RowContent::Completion { prompt, completion } => Ok(exchange(prompt, completion)),
        RowContent::Preference(pair) => {
            lost.push("field `rejected`".to_owned());
            match (&pair.prompt, &pair.chosen) {
                (Passage::Text(prompt), Passage::Text(chosen)) => Ok(exchange(prompt, chosen)),
                (Passage::Messages(prompt), Passage::Messages(chosen)) => {
                    let mut messages = prompt.clone();
                    messages.iter_mut().for_each(context);
                    messages.extend_from_slice(chosen);
                    Ok(Cow::Owned(Conversation { messages, tools: pair.tools.clone() }))
                }
                _ => Err("its prompt and its answer are of two forms".to_owned()),
            }
        }
        RowContent::Task(task) => {
            let mut conversation = task.prompt.clone();
            match &task.reference_answer {
                Value::Null => {}
                Value::String(answer) => conversation.messages.push(Message::new("assistant", answer.as_str())),
                _ => lost.push("field `reference_answer`".to_owned()),
            }
            lost.extend(task.extra.keys().map(|name| format!("field `{name}`")));
            Ok(Cow::Owned(conversation))
        }
        RowContent::Text(_) => Err("it holds conversations, and a document has no turns".to_owned()),
    }
}

/// A turn of a prompt: what the assistant says there is not trained.
fn context(turn: &mut Message) {
    if turn.role == "assistant" {
        turn.train = Some(false);
    }
}
