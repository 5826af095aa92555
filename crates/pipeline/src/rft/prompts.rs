//! The prompts of a stage: tokens for the model, and the row for rewards.

use std::collections::HashMap;
use std::path::Path;

use serde_json::{Map, Value};
use temper_data::{DataError, Examples, ReadOptions, RowContent, Task, load_rows};

use crate::PipelineError;

/// A prompt as rewards see it.
#[derive(Clone, Debug)]
pub(crate) struct Prompt {
    /// The row's id, or its file and line.
    pub id: String,
    /// The row: `messages`, `reference_answer`, and every other field.
    pub row: Map<String, Value>,
}

impl Prompt {
    /// The messages of the prompt.
    pub fn messages(&self) -> &Value {
        self.row.get("messages").unwrap_or(&Value::Null)
    }

    /// The last message, for people.
    pub fn question(&self) -> &str {
        let last = self.messages().as_array().and_then(|messages| messages.last());
        last.and_then(|message| message["content"].as_str()).unwrap_or_default()
    }

    /// What a right answer is, as a model would write it: a text as it is, anything else as JSON.
    pub fn answer(&self) -> Option<String> {
        match self.row.get("reference_answer")? {
            Value::Null => None,
            Value::String(text) => Some(text.clone()),
            other => Some(other.to_string()),
        }
    }
}

/// The rows of `examples`, which are those of this file that were kept, in their order.
pub(crate) fn prompts(path: &Path, options: &ReadOptions, examples: &Examples) -> Result<Vec<Prompt>, PipelineError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let task = |row: temper_data::Row| match row.content {
        RowContent::Task(Task { .. }) => Some((row.line, row)),
        _ => None,
    };
    let mut rows: HashMap<usize, temper_data::Row> =
        load_rows(path, options)?.rows.into_iter().filter_map(task).collect();
    let prompt = |index: usize| {
        let line = examples.line(index);
        match rows.remove(&line).map(|row| (row.id, row.content)) {
            Some((id, RowContent::Task(task))) => {
                Ok(Prompt { id: id.unwrap_or_else(|| format!("{name}:{line}")), row: task.fields() })
            }
            _ => Err(PipelineError::from(DataError::Unreadable {
                path: path.to_owned(),
                problem: format!("its row {line} has changed since it was read"),
                hint: "begin again".to_owned(),
            })),
        }
    };
    (0..examples.len()).map(prompt).collect()
}
