//! ShareGPT: `conversations` of `from` and `value`, with the roles that data sets use for them.

use serde_json::{Map, Value, json};
use temper_text::{Conversation, Message, ToolCall, kind_of, strict};

use super::conversation_of;
use super::fields::Fields;
use crate::row::RowContent;

/// A role by its names in the field; calls and their results are turns of their own there.
enum Role {
    Plain(&'static str),
    Call,
    Result,
}

fn role(from: &str) -> Option<Role> {
    Some(match from {
        "system" => Role::Plain("system"),
        "human" | "user" => Role::Plain("user"),
        "gpt" | "assistant" | "model" | "bot" | "chatgpt" | "bing" | "bard" => Role::Plain("assistant"),
        "function_call" | "tool_call" => Role::Call,
        "observation" | "tool" | "function_response" | "tool_response" | "ipython" => Role::Result,
        _ => return None,
    })
}

pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    let (name, turns) =
        fields.take_any(&["conversations", "conversation", "messages"]).ok_or("field `conversations` is missing")?;
    let Value::Array(turns) = turns else {
        return Err(format!("field `{name}`: expected a list of turns, got {}", kind_of(&turns)));
    };
    let mut messages = Vec::new();
    if let Some(system) = fields.text("system")?.filter(|system| !system.is_empty()) {
        messages.push(Message::new("system", system));
    }
    for (index, turn) in turns.into_iter().enumerate() {
        let place = |what: String| format!("field `{name}`: turn {}: {what}", index + 1);
        messages.push(self::turn(turn).map_err(place)?);
    }
    if messages.iter().filter(|turn| turn.role == "system").count() > 1 {
        return Err(format!("fields `system` and `{name}` both have a system turn, or `{name}` has two"));
    }
    Ok(RowContent::Messages(Conversation { messages, tools: fields.tools("tools")? }))
}

/// One turn.
pub(super) fn turn(turn: Value) -> Result<Message, String> {
    let Value::Object(mut turn) = turn else {
        return Err(format!("expected an object with `from` and `value`, got {}", kind_of(&turn)));
    };
    let mut text = |name: &str| match turn.remove(name) {
        Some(Value::String(text)) => Ok(text),
        Some(other) => Err(format!("`{name}`: expected text, got {}", kind_of(&other))),
        None => Err(format!("missing field `{name}`")),
    };
    let (from, value) = (text("from")?, text("value")?);
    let role = role(&from).ok_or_else(|| {
        format!(
            "`from` is `{from}`, expected human, gpt, system, function_call or observation (or user, assistant, tool)"
        )
    })?;
    let mut message = match role {
        Role::Plain(role) => Message::new(role, value),
        Role::Result => Message::new("tool", value),
        Role::Call => Message { tool_calls: calls(&value)?, ..Message::new("assistant", "") },
    };
    for (name, value) in turn {
        message.train = match (name.as_str(), &value) {
            (_, Value::Null) => continue,
            ("weight" | "train", Value::Number(weight)) if weight.as_f64() == Some(0.0) => Some(false),
            ("weight" | "train", Value::Number(weight)) if weight.as_f64() == Some(1.0) => Some(true),
            ("train", Value::Bool(train)) => Some(*train),
            ("weight" | "train", other) => return Err(format!("`{name}`: expected 0 or 1, got {other}")),
            _ => return Err(format!("unknown field `{name}`, expected `from`, `value`, `weight`")),
        };
    }
    Ok(message)
}

/// `{"name", "arguments"}` as JSON in a text, or a list of them.
fn calls(value: &str) -> Result<Vec<ToolCall>, String> {
    let wrong = |what: &str| format!("a call is JSON of `name` and `arguments`, got {what}");
    let calls = match strict::value(value) {
        Ok(Value::Array(calls)) => calls,
        Ok(call @ Value::Object(_)) => vec![call],
        Ok(other) => return Err(wrong(kind_of(&other))),
        Err(error) => return Err(wrong(&format!("text that is no JSON: {error}"))),
    };
    // A message with these calls reads them as its own.
    let message = Message::from_json(json!({"role": "assistant", "tool_calls": calls}))?;
    Ok(message.tool_calls)
}

pub(super) fn write(content: &RowContent, lost: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let conversation = conversation_of(content, lost)?;
    let mut turns = Vec::new();
    let mut system = None;
    for message in &conversation.messages {
        if message.reasoning.is_some() {
            lost.push("reasoning".to_owned());
        }
        if message.tool_call_id.is_some() || message.name.is_some() || message.tool_calls.iter().any(|c| c.id.is_some())
        {
            lost.push("ids and names of tool calls".to_owned());
        }
        let system_turn = message.role == "system" && turns.is_empty() && system.is_none();
        let mut put = |from: &str, value: String| {
            let mut turn = json!({"from": from, "value": value});
            if let Some(train) = message.train {
                turn["weight"] = u8::from(train).into();
            }
            turns.push(turn);
        };
        match message.role.as_str() {
            "system" if system_turn => system = Some(message.content.clone()),
            "system" => put("system", message.content.clone()),
            "user" => put("human", message.content.clone()),
            "tool" => put("observation", message.content.clone()),
            "assistant" if message.tool_calls.is_empty() => put("gpt", message.content.clone()),
            "assistant" => {
                if !message.content.is_empty() {
                    lost.push("text beside tool calls".to_owned());
                }
                let call = |call: &ToolCall| json!({"name": call.name, "arguments": call.arguments});
                let calls: Vec<Value> = message.tool_calls.iter().map(call).collect();
                let value = if let [one] = &calls[..] { one.to_string() } else { Value::from(calls).to_string() };
                put("function_call", value);
            }
            other => return Err(format!("it has no role `{other}`")),
        }
    }
    let mut out = Map::new();
    out.insert("conversations".to_owned(), turns.into());
    if let Some(system) = system {
        out.insert("system".to_owned(), system.into());
    }
    if !conversation.tools.is_empty() {
        out.insert("tools".to_owned(), Value::from(conversation.tools.clone()).to_string().into());
    }
    Ok(out)
}
