//! Rows for reinforcement fine-tuning: a prompt, and all that a reward may want to know.

use serde_json::{Map, Value};
use temper_text::{Conversation, Message};

use super::conversation_of;
use super::fields::{Fields, messages, put};
use crate::row::{RowContent, Task};

pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    let messages = match fields.take_any(&["messages", "prompt", "question"]) {
        Some((name, Value::String(text))) if name != "messages" => vec![Message::new("user", text)],
        Some((name, turns)) => messages(name, turns)?,
        None => return Err("field `messages` or `prompt` is missing".to_owned()),
    };
    match messages.last() {
        None => return Err("the prompt has no messages".to_owned()),
        Some(last) if last.role == "assistant" => {
            return Err("the prompt ends with an assistant turn, which the model is to write".to_owned());
        }
        Some(_) => {}
    }
    let tools = fields.tools("tools")?;
    let reference_answer = fields.take_any(&["reference_answer", "answer"]).map_or(Value::Null, |(_, answer)| answer);
    let prompt = Conversation { messages, tools };
    Ok(RowContent::Task(Task { prompt, reference_answer, extra: fields.rest() }))
}

impl Task {
    /// The row as it is written, and as a reward reads it: `messages`, `reference_answer`, and every other field.
    pub fn fields(&self) -> Map<String, Value> {
        let mut out = Map::new();
        put(&self.prompt, "messages", &mut out);
        if !self.reference_answer.is_null() {
            out.insert("reference_answer".to_owned(), self.reference_answer.clone());
        }
        out.extend(self.extra.clone());
        out
    }
}

pub(super) fn write(content: &RowContent, lost: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    if let RowContent::Task(task) = content {
        return Ok(task.fields());
    }
    // The last answer is what a right one is.
    let conversation = conversation_of(content, lost)?;
    let Some((last, prompt)) = conversation.messages.split_last().filter(|(last, _)| last.role == "assistant") else {
        return Err("the last turn is to be an answer, which becomes `reference_answer`".to_owned());
    };
    if !last.tool_calls.is_empty() || last.reasoning.is_some() {
        return Err("`reference_answer` has no place for tool calls or reasoning".to_owned());
    }
    put(&Conversation { messages: prompt.to_vec(), tools: conversation.tools.clone() }, "messages", &mut out);
    out.insert("reference_answer".to_owned(), last.content.as_str().into());
    Ok(out)
}
