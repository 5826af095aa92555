//! A row's fields, taken out one by one.

use serde_json::{Map, Value};
use temper_text::{Conversation, Message, kind_of};

/// What marks a row, beside what it holds.
pub(super) struct Marks {
    pub id: Option<String>,
    pub group: Option<String>,
    pub label: Option<String>,
}

/// A row's fields; what is taken is gone. A field that is `null` counts as not given.
pub(super) struct Fields {
    row: Map<String, Value>,
}

impl Fields {
    pub fn new(row: Map<String, Value>) -> Self {
        Self { row }
    }

    /// `id`, `group` (or else `source`), and `label`.
    pub fn marks(&mut self) -> Result<Marks, String> {
        let id = self.mark("id")?;
        let group = self.mark("group")?;
        let group = match self.row.get("source") {
            // Data sets keep other things of that name.
            Some(Value::String(_)) if group.is_none() => self.mark("source")?,
            _ => group,
        };
        Ok(Marks { id, group, label: self.mark("label")? })
    }

    /// `quality`, where it is a number; data sets keep other things of that name.
    pub fn quality(&mut self) -> Option<f32> {
        let quality = match self.row.get("quality")? {
            Value::Number(number) => number.as_f64()?,
            // Tables hold text.
            Value::String(text) => text.trim().parse().ok().filter(|quality: &f64| quality.is_finite())?,
            _ => return None,
        };
        self.take("quality");
        Some(quality as f32)
    }

    /// Text, or a whole number or truth value as its text.
    fn mark(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(Value::Number(number)) if number.is_i64() || number.is_u64() => Ok(Some(number.to_string())),
            Some(Value::Bool(value)) => Ok(Some(value.to_string())),
            Some(other) => Err(format!("field `{name}`: expected text or a whole number, got {}", kind_of(&other))),
        }
    }

    pub fn take(&mut self, name: &str) -> Option<Value> {
        // A row has few fields, and their order is that of what is not read.
        self.row.shift_remove(name).filter(|value| !value.is_null())
    }

    /// The first of these fields that is given, and which.
    pub fn take_any(&mut self, names: &[&'static str]) -> Option<(&'static str, Value)> {
        names.iter().find_map(|&name| Some((name, self.take(name)?)))
    }

    pub fn text(&mut self, name: &str) -> Result<Option<String>, String> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(format!("field `{name}`: expected text, got {}", kind_of(&other))),
        }
    }

    pub fn required_text(&mut self, name: &str) -> Result<String, String> {
        self.text(name)?.ok_or_else(|| format!("field `{name}` is missing"))
    }

    /// Tools: a list of JSON schemas.
    pub fn tools(&mut self, name: &str) -> Result<Vec<Value>, String> {
        match self.take(name) {
            None => Ok(Vec::new()),
            Some(Value::Array(tools)) => Ok(tools),
            // As tables write none.
            Some(Value::String(text)) if matches!(text.trim(), "" | "null") => Ok(Vec::new()),
            Some(other) => Err(format!("field `{name}`: expected a list of tools, got {}", kind_of(&other))),
        }
    }

    /// Counts a part of a field that was taken among what is not read.
    pub fn ignore(&mut self, name: String) {
        self.row.insert(name, Value::Null);
    }

    /// Names of the fields that were not taken.
    pub fn left(self) -> impl Iterator<Item = String> {
        self.row.into_iter().map(|(name, _)| name)
    }

    /// All that was not taken.
    pub fn rest(&mut self) -> Map<String, Value> {
        std::mem::take(&mut self.row)
    }
}

/// A list of messages.
pub(super) fn messages(name: &str, value: Value) -> Result<Vec<Message>, String> {
    let Value::Array(turns) = value else {
        return Err(format!("field `{name}`: expected a list of messages, got {}", kind_of(&value)));
    };
    let read = |(index, turn): (usize, Value)| {
        Message::from_json(turn).map_err(|what| format!("field `{name}`: message {}: {what}", index + 1))
    };
    turns.into_iter().enumerate().map(read).collect()
}

/// A conversation as `messages` and `tools`.
pub(super) fn put(conversation: &Conversation, name: &str, out: &mut Map<String, Value>) {
    out.insert(name.to_owned(), conversation.messages.iter().map(json_of).collect());
    put_tools(&conversation.tools, out);
}

pub(super) fn put_tools(tools: &[Value], out: &mut Map<String, Value>) {
    if !tools.is_empty() {
        out.insert("tools".to_owned(), tools.to_vec().into());
    }
}

/// A message with its `train` flag.
pub(super) fn json_of(message: &Message) -> Value {
    // Serialising a message cannot fail: all its keys are text.
    let mut json = serde_json::to_value(message).unwrap_or_default();
    if let (Some(train), Some(fields)) = (message.train, json.as_object_mut()) {
        fields.insert("train".to_owned(), train.into());
    }
    json
}
