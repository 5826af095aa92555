//! Conversations, as chat templates see them.
//!
//! The JSON form is that of OpenAI and `transformers`: `role`, `content`, and where there is any `reasoning_content`,
//! `tool_calls`, `tool_call_id`, `name`. Reading is strict, because a template might print what is not known here, and it
//! would be lost; other spellings of the same things are accepted (see [`Message`]).

use std::fmt;

use serde::de::{Deserializer, Error as _};
use serde::ser::{SerializeMap, Serializer};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::strict;

/// One turn of a conversation.
///
/// Read from JSON are:
/// - `content`: text, a list of `{"type": "text", "text": ...}` (joined as they stand), or nothing where tools are called.
///   Parts that are no text are refused.
/// - `reasoning_content`, or `reasoning` or `thinking`: what was thought before the answer.
/// - `tool_calls`: `{"id", "type": "function", "function": {"name", "arguments"}}`, or `{"name", "arguments"}`; arguments are
///   an object, or that object as JSON in a text.
/// - `train`, or `training`, or `weight` (0 or 1): whether an assistant's turn is trained.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Message {
    /// `system`, `user`, `assistant` or `tool`.
    pub role: String,
    /// The text of the turn.
    pub content: String,
    /// What the assistant thought before it.
    pub reasoning: Option<String>,
    /// What the assistant calls.
    pub tool_calls: Vec<ToolCall>,
    /// Of a tool's turn: the call that it answers.
    pub tool_call_id: Option<String>,
    /// Of a tool's turn: its name.
    pub name: Option<String>,
    /// Whether this turn is trained, where the row says so; what is not said is trained.
    pub train: Option<bool>,
}

/// A function that the assistant calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolCall {
    /// What the tool's answer refers to.
    pub id: Option<String>,
    /// The function.
    pub name: String,
    /// Its arguments, by name.
    pub arguments: Map<String, Value>,
}

/// A row of messages.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Conversation {
    /// The turns.
    pub messages: Vec<Message>,
    /// The tools that the assistant may call, as JSON schemas, which the template prints.
    pub tools: Vec<Value>,
}

impl Message {
    /// A message of `role` that says `content`.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Message {
        Message { role: role.into(), content: content.into(), ..Message::default() }
    }

    /// Every text of the turn that the row gives and a template may print, but the role: content, reasoning, ids and names,
    /// and the texts and keys of arguments.
    pub fn texts(&self) -> Vec<&str> {
        let mut texts = vec![self.content.as_str()];
        texts.extend([&self.reasoning, &self.tool_call_id, &self.name].into_iter().filter_map(Option::as_deref));
        for call in &self.tool_calls {
            texts.extend(call.id.as_deref());
            texts.push(&call.name);
            for (key, value) in &call.arguments {
                texts.push(key);
                collect_texts(value, &mut texts);
            }
        }
        texts
    }

    /// The same message with every one of its [`Message::texts`] changed by `change`.
    pub(crate) fn map_texts(&self, change: &impl Fn(&str) -> String) -> Message {
        let optional = |text: &Option<String>| text.as_deref().map(change);
        let call = |call: &ToolCall| ToolCall {
            id: optional(&call.id),
            name: change(&call.name),
            arguments: call.arguments.iter().map(|(key, value)| (change(key), map_texts(value, change))).collect(),
        };
        Message {
            role: self.role.clone(),
            content: change(&self.content),
            reasoning: optional(&self.reasoning),
            tool_calls: self.tool_calls.iter().map(call).collect(),
            tool_call_id: optional(&self.tool_call_id),
            name: optional(&self.name),
            train: self.train,
        }
    }

    /// Reads a message from JSON.
    ///
    /// # Errors
    /// What is wrong, by field.
    pub fn from_json(value: Value) -> Result<Message, String> {
        let Value::Object(fields) = value else {
            return Err(format!("expected an object with `role` and `content`, got {}", kind_of(&value)));
        };
        let mut message = Message::default();
        let mut role = None;
        for (name, value) in fields {
            if value.is_null() {
                continue;
            }
            let field = |what: String| format!("`{name}`: {what}");
            match name.as_str() {
                "role" => role = Some(text(value).map_err(field)?),
                "content" => message.content = content(value).map_err(field)?,
                "reasoning_content" | "reasoning" | "thinking" if message.reasoning.is_some() => {
                    return Err(field("the reasoning is given twice".to_owned()));
                }
                "reasoning_content" | "reasoning" | "thinking" => message.reasoning = Some(text(value).map_err(field)?),
                "tool_calls" => message.tool_calls = tool_calls(value).map_err(field)?,
                "tool_call_id" => message.tool_call_id = Some(text(value).map_err(field)?),
                "name" => message.name = Some(text(value).map_err(field)?),
                "train" | "training" | "weight" if message.train.is_some() => {
                    return Err(field("said twice whether the turn is trained".to_owned()));
                }
                "train" | "training" | "weight" => message.train = Some(train(&value).map_err(field)?),
                _ => return Err(format!("unknown field `{name}`, expected {KNOWN}")),
            }
        }
        message.role = role.ok_or("missing field `role`")?;
        if message.role != "assistant" {
            let only =
                [("reasoning_content", message.reasoning.is_some()), ("tool_calls", !message.tool_calls.is_empty())];
            if let Some((name, _)) = only.iter().find(|(_, given)| *given) {
                return Err(format!("`{name}` in a turn of role `{}`, expected only in assistant turns", message.role));
            }
        }
        Ok(message)
    }
}

const KNOWN: &str = "`role`, `content`, `reasoning_content`, `tool_calls`, `tool_call_id`, `name`, `train`";

/// What a JSON value is, in words: for "expected text, got ...".
pub fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a truth value",
        Value::Number(_) => "a number",
        Value::String(_) => "text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

/// Refuses what would be lost.
fn nothing_else(fields: &Map<String, Value>, known: &[&str]) -> Result<(), String> {
    let lost = |(name, value): &(&String, &Value)| !value.is_null() && !known.contains(&name.as_str());
    fields.iter().find(lost).map_or(Ok(()), |(name, _)| Err(format!("unknown field `{name}`")))
}

fn text(value: Value) -> Result<String, String> {
    match value {
        Value::String(text) => Ok(text),
        other => Err(format!("expected text, got {}", kind_of(&other))),
    }
}

/// Text, or parts of text.
fn content(value: Value) -> Result<String, String> {
    let parts = match value {
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => return Err(format!("expected text or a list of parts, got {}", kind_of(&other))),
    };
    let mut content = String::new();
    for (index, part) in parts.into_iter().enumerate() {
        let place = |what: String| format!("part {}: {what}", index + 1);
        match part {
            Value::String(text) => content.push_str(&text),
            Value::Object(mut part) => {
                let kind = part.get("type").and_then(Value::as_str).unwrap_or("text").to_owned();
                match part.remove("text") {
                    Some(Value::String(text)) if matches!(kind.as_str(), "text" | "input_text" | "output_text") => {
                        nothing_else(&part, &["type"]).map_err(place)?;
                        content.push_str(&text);
                    }
                    _ => return Err(place(format!("`{kind}` is not supported, expected `text` with its `text`"))),
                }
            }
            other => return Err(place(format!("expected text or an object, got {}", kind_of(&other)))),
        }
    }
    Ok(content)
}

fn tool_calls(value: Value) -> Result<Vec<ToolCall>, String> {
    let Value::Array(calls) = value else { return Err(format!("expected a list, got {}", kind_of(&value))) };
    let read =
        |(index, call): (usize, Value)| ToolCall::from_json(call).map_err(|what| format!("call {}: {what}", index + 1));
    calls.into_iter().enumerate().map(read).collect()
}

impl ToolCall {
    fn from_json(value: Value) -> Result<ToolCall, String> {
        let Value::Object(mut fields) = value else {
            return Err(format!("expected an object, got {}", kind_of(&value)));
        };
        let id =
            fields.remove("id").filter(|id| !id.is_null()).map(text).transpose().map_err(|e| format!("`id`: {e}"))?;
        let mut function = match fields.remove("function") {
            Some(Value::Object(function)) => {
                nothing_else(&fields, &["type", "index"])?;
                function
            }
            Some(other) => return Err(format!("`function`: expected an object, got {}", kind_of(&other))),
            None => fields,
        };
        nothing_else(&function, &["name", "arguments", "parameters", "type", "index"])?;
        let name = function.remove("name").ok_or("missing field `name`")?;
        let name = text(name).map_err(|e| format!("`name`: {e}"))?;
        let mut given = |name| function.remove(name).filter(|value| !value.is_null());
        let arguments = match (given("arguments"), given("parameters")) {
            (Some(_), Some(_)) => {
                return Err(format!("`arguments` and `parameters` of `{name}`: expected one of them"));
            }
            (arguments, parameters) => arguments.or(parameters),
        };
        let arguments = match arguments {
            None => Map::new(),
            Some(Value::Object(arguments)) => arguments,
            Some(Value::String(json)) if json.trim().is_empty() => Map::new(),
            Some(Value::String(json)) => strict::object(json.as_bytes())
                .map_err(|e| format!("`arguments` of `{name}`: a text that is no JSON object: {e}"))?,
            Some(other) => return Err(format!("`arguments` of `{name}`: expected an object, got {}", kind_of(&other))),
        };
        Ok(ToolCall { id, name, arguments })
    }
}

fn train(value: &Value) -> Result<bool, String> {
    match value {
        Value::Bool(train) => Ok(*train),
        Value::Number(weight) if weight.as_f64() == Some(0.0) => Ok(false),
        Value::Number(weight) if weight.as_f64() == Some(1.0) => Ok(true),
        other => Err(format!("expected true or false, or a weight of 0 or 1, got {other}")),
    }
}

impl Conversation {
    /// A conversation without tools.
    pub fn new(messages: Vec<Message>) -> Conversation {
        Conversation { messages, tools: Vec::new() }
    }
}

/// A conversation, or a part of one, borrowed.
#[derive(Debug, Clone, Copy)]
pub struct ConversationRef<'c> {
    /// The turns.
    pub messages: &'c [Message],
    /// The tools.
    pub tools: &'c [Value],
}

impl<'c> From<&'c Conversation> for ConversationRef<'c> {
    fn from(conversation: &'c Conversation) -> Self {
        ConversationRef { messages: &conversation.messages, tools: &conversation.tools }
    }
}

/// Turns without tools.
impl<'c> From<&'c [Message]> for ConversationRef<'c> {
    fn from(messages: &'c [Message]) -> Self {
        ConversationRef { messages, tools: &[] }
    }
}

/// Turns without tools.
impl<'c> From<&'c Vec<Message>> for ConversationRef<'c> {
    fn from(messages: &'c Vec<Message>) -> Self {
        messages.as_slice().into()
    }
}

/// Turns without tools.
impl<'c, const N: usize> From<&'c [Message; N]> for ConversationRef<'c> {
    fn from(messages: &'c [Message; N]) -> Self {
        messages.as_slice().into()
    }
}

/// Adds the texts and keys of `value` to `texts`.
pub(crate) fn collect_texts<'v>(value: &'v Value, texts: &mut Vec<&'v str>) {
    match value {
        Value::String(text) => texts.push(text),
        Value::Array(items) => items.iter().for_each(|item| collect_texts(item, texts)),
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            texts.push(key);
            collect_texts(value, texts);
        }),
        _ => {}
    }
}

/// `value` with all its texts and keys changed.
pub(crate) fn map_texts(value: &Value, change: &impl Fn(&str) -> String) -> Value {
    match value {
        Value::String(text) => Value::String(change(text)),
        Value::Array(items) => items.iter().map(|item| map_texts(item, change)).collect(),
        Value::Object(fields) => {
            fields.iter().map(|(key, value)| (change(key), map_texts(value, change))).collect::<Map<_, _>>().into()
        }
        other => other.clone(),
    }
}

impl<'de> Deserialize<'de> for Message {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Message, D::Error> {
        Message::from_json(Value::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

/// As templates see it; whether it is trained is not theirs to know.
impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("role", &self.role)?;
        map.serialize_entry("content", &self.content)?;
        if let Some(reasoning) = &self.reasoning {
            map.serialize_entry("reasoning_content", reasoning)?;
        }
        if !self.tool_calls.is_empty() {
            map.serialize_entry("tool_calls", &self.tool_calls)?;
        }
        if let Some(id) = &self.tool_call_id {
            map.serialize_entry("tool_call_id", id)?;
        }
        if let Some(name) = &self.name {
            map.serialize_entry("name", name)?;
        }
        map.end()
    }
}

impl Serialize for ToolCall {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let function = json!({"name": self.name, "arguments": self.arguments});
        let mut map = serializer.serialize_map(None)?;
        if let Some(id) = &self.id {
            map.serialize_entry("id", id)?;
        }
        map.serialize_entry("type", "function")?;
        map.serialize_entry("function", &function)?;
        map.end()
    }
}

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.role, self.content)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Message, String> {
        serde_json::from_str(text).map_err(|e| e.to_string())
    }

    #[test]
    fn all_spellings_of_a_turn_are_one() {
        let plain = Message::new("user", "ab");
        for text in [
            r#"{"role": "user", "content": "ab"}"#,
            r#"{"role": "user", "content": [{"type": "text", "text": "a"}, {"text": "b"}], "name": null}"#,
            r#"{"content": ["a", "b"], "role": "user", "tool_calls": []}"#,
        ] {
            assert_eq!(read(text).unwrap(), plain, "{text}");
        }
        let mut turn = Message::new("assistant", "");
        turn.tool_calls = vec![ToolCall {
            id: Some("7".to_owned()),
            name: "f".to_owned(),
            arguments: json!({"b": 1, "a": "x"}).as_object().unwrap().clone(),
        }];
        for text in [
            r#"{"role": "assistant", "content": null, "tool_calls": [{"id": "7", "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": "x"}}}]}"#,
            r#"{"role": "assistant", "tool_calls": [{"id": "7", "name": "f", "arguments": "{\"b\": 1, \"a\": \"x\"}"}]}"#,
        ] {
            assert_eq!(read(text).unwrap(), turn, "{text}");
        }
        // The order of the arguments is the row's, as in Python.
        let json = serde_json::to_string(&turn).unwrap();
        assert!(json.contains(r#""arguments":{"b":1,"a":"x"}"#), "{json}");
        assert_eq!(read(&json).unwrap(), turn);
        let thought = read(r#"{"role": "assistant", "content": "c", "thinking": "t", "weight": 0}"#).unwrap();
        assert_eq!((thought.reasoning.as_deref(), thought.train), (Some("t"), Some(false)));
    }

    #[test]
    fn what_would_be_lost_is_refused_by_name() {
        for (text, part) in [
            (r#"{"content": "a"}"#, "missing field `role`"),
            (r#"{"role": "user", "content": 3}"#, "`content`: expected text or a list of parts, got a number"),
            (
                r#"{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}"#,
                "part 1: `image_url` is not supported",
            ),
            (r#"{"role": "user", "content": "a", "mood": "b"}"#, "unknown field `mood`"),
            (r#"{"role": "user", "content": "a", "thinking": "b"}"#, "only in assistant turns"),
            (r#"{"role": "assistant", "content": "a", "weight": 0.5}"#, "a weight of 0 or 1, got 0.5"),
            (
                r#"{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "[1]"}]}"#,
                "call 1: `arguments` of `f`",
            ),
            (
                r#"{"role": "assistant", "tool_calls": [{"name": "f", "arguments": "{\"a\": {\"b\": 1, \"b\": 2}}"}]}"#,
                "call 1: `arguments` of `f`: a text that is no JSON object: column 20: field `b` is given twice",
            ),
            (
                r#"{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {}, "parameters": {}}]}"#,
                "call 1: `arguments` and `parameters` of `f`: expected one of them",
            ),
            (
                r#"{"role": "user", "content": [{"type": "text", "text": "a", "cache_control": {}}]}"#,
                "part 1: unknown field `cache_control`",
            ),
            (
                r#"{"role": "assistant", "tool_calls": [{"name": "f", "strict": true}]}"#,
                "call 1: unknown field `strict`",
            ),
            (r#"["user", "a"]"#, "expected an object"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
