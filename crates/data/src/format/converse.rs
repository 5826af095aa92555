//! Amazon Bedrock's Converse rows, as Nova Forge takes them.

use serde_json::{Map, Value, json};
use temper_text::{Conversation, Message, ToolCall, kind_of, strict};

use super::conversation_of;
use super::fields::Fields;
use crate::row::{Passage, Preference, RowContent};

/// Whether a row with `messages` is written so: marked by a field of its own, or by content blocks without a `type`.
pub(super) fn looks_like(row: &Map<String, Value>) -> bool {
    let turns = row.get("messages").and_then(Value::as_array);
    let block = turns.and_then(|turns| turns.first()?.get("content")?.as_array()?.first());
    turns.is_some()
        && (["schemaVersion", "toolConfig"].iter().any(|name| row.contains_key(*name))
            || row.get("system").is_some_and(Value::is_array)
            || block.is_some_and(|block| block.is_object() && block.get("type").is_none()))
}

/// Whether its last turn offers two answers to choose from.
pub(super) fn has_candidates(row: &Map<String, Value>) -> bool {
    let turns = row.get("messages").and_then(Value::as_array);
    turns.and_then(|turns| turns.last()).is_some_and(|turn| turn.get("candidates").is_some())
}

/// The schema's version is not looked at: published pages spell it in two ways, and rows without it are taken.
pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    let (mut messages, turns) = head(fields)?;
    let mut unread = Vec::new();
    for (index, turn) in turns.into_iter().enumerate() {
        let turn = self::turn(turn, &mut unread);
        messages.extend(turn.map_err(|what| format!("field `messages`: message {}: {what}", index + 1))?);
    }
    unread.into_iter().for_each(|name| fields.ignore(name));
    Ok(RowContent::Messages(Conversation { messages, tools: tools(fields)? }))
}

/// A row whose last turn has `candidates`, one `preferred` and one `non-preferred`.
pub(super) fn read_candidates(fields: &mut Fields) -> Result<Preference, String> {
    let (mut prompt, mut turns) = head(fields)?;
    let mut unread = Vec::new();
    let last = turns.len();
    let place = |index: usize, what: String| format!("field `messages`: message {index}: {what}");
    let Some(Value::Object(mut answer)) = turns.pop() else { return Err(place(last, "expected an object".to_owned())) };
    for (index, turn) in turns.into_iter().enumerate() {
        prompt.extend(self::turn(turn, &mut unread).map_err(|what| place(index + 1, what))?);
    }
    let candidates = match answer.remove("candidates") {
        Some(Value::Array(candidates)) => candidates,
        _ => return Err(place(last, "`candidates`: expected a list of two".to_owned())),
    };
    let (mut chosen, mut rejected) = (None, None);
    for candidate in &candidates {
        let side = match candidate.get("preferenceLabel").and_then(Value::as_str) {
            Some("preferred") => &mut chosen,
            Some("non-preferred") => &mut rejected,
            _ => return Err(place(last, "`preferenceLabel`: expected preferred or non-preferred".to_owned())),
        };
        let turn = json!({"role": answer.get("role"), "content": candidate.get("content")});
        let twice =
            side.replace(self::turn(turn, &mut unread).map_err(|what| place(last, format!("candidate: {what}")))?);
        if twice.is_some() {
            return Err(place(last, "`candidates`: two of them have the same `preferenceLabel`".to_owned()));
        }
    }
    let (Some(chosen), Some(rejected)) = (chosen, rejected) else {
        let got = format!("`candidates`: {} of them, expected one preferred and one non-preferred", candidates.len());
        return Err(place(last, got));
    };
    unread.into_iter().for_each(|name| fields.ignore(name));
    let tools = tools(fields)?;
    let side = Passage::Messages;
    Ok(Preference { prompt: side(prompt), chosen: side(chosen), rejected: side(rejected), tools })
}

/// The system turn, and the other turns as they stand.
fn head(fields: &mut Fields) -> Result<(Vec<Message>, Vec<Value>), String> {
    fields.take("schemaVersion");
    let mut messages = Vec::new();
    let system = fields.take("system");
    // A table keeps the blocks in a text.
    let blocks = system.as_ref().and_then(Value::as_str).filter(|text| text.trim_start().starts_with("[{"));
    let blocks = blocks.and_then(|text| strict::value(text).ok()).filter(Value::is_array);
    match blocks.or(system) {
        None => {}
        Some(Value::String(system)) => messages.push(Message::new("system", system)),
        Some(system) => {
            let system = texts(system).map_err(|what| format!("field `system`: {what}"))?;
            messages.push(Message::new("system", system));
        }
    }
    match fields.take("messages") {
        Some(Value::Array(turns)) => Ok((messages, turns)),
        Some(other) => Err(format!("field `messages`: expected a list, got {}", kind_of(&other))),
        None => Err("field `messages` is missing".to_owned()),
    }
}

/// A list of blocks of text, joined.
fn texts(blocks: Value) -> Result<String, String> {
    let Value::Array(blocks) = blocks else {
        return Err(format!("expected a list of blocks, got {}", kind_of(&blocks)));
    };
    let mut all = String::new();
    for block in blocks {
        match block.get("text").and_then(Value::as_str) {
            Some(text) => all.push_str(text),
            None => return Err(format!("a block of {}, expected `text`", keys(&block))),
        }
    }
    Ok(all)
}

fn keys(block: &Value) -> String {
    let names =
        block.as_object().map(|block| block.keys().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", "));
    names.unwrap_or_else(|| kind_of(block).to_owned())
}

/// The turns that a Converse turn stands for: results of tools are turns of their own, before what the user says. `unread`
/// gets the names of what says nothing to the model.
fn turn(turn: Value, unread: &mut Vec<String>) -> Result<Vec<Message>, String> {
    let Value::Object(mut turn) = turn else { return Err(format!("expected an object, got {}", kind_of(&turn))) };
    let role = match turn.remove("role") {
        Some(Value::String(role)) => role,
        _ => return Err("`role`: expected text".to_owned()),
    };
    let blocks = match turn.remove("content") {
        Some(Value::Array(blocks)) => blocks,
        Some(Value::String(text)) => vec![json!({"text": text})],
        Some(other) => return Err(format!("`content`: expected a list of blocks, got {}", kind_of(&other))),
        None => return Err("missing field `content`".to_owned()),
    };
    if let Some(name) = turn.keys().next() {
        return Err(format!("unknown field `{name}`, expected `role` and `content`"));
    }
    let mut message = Message::new(role, "");
    let (mut results, mut said) = (Vec::new(), false);
    for (index, block) in blocks.into_iter().enumerate() {
        let place = |what: String| format!("`content`: block {}: {what}", index + 1);
        let Value::Object(block) = block else {
            return Err(place(format!("expected an object, got {}", kind_of(&block))));
        };
        for (kind, value) in block {
            let place = |what: String| place(format!("`{kind}`: {what}"));
            match (kind.as_str(), value) {
                ("text", Value::String(text)) => {
                    message.content.push_str(&text);
                    said = true;
                }
                ("reasoningContent", value) => {
                    let text = value.pointer("/reasoningText/text").and_then(Value::as_str);
                    let text = text.ok_or_else(|| place("expected `reasoningText` with its `text`".to_owned()))?;
                    message.reasoning.get_or_insert_default().push_str(text);
                    unread.extend(others(value.get("reasoningText"), &["text"], "reasoningText"));
                }
                ("toolUse", value) => {
                    unread.extend(others(Some(&value), &["toolUseId", "name", "input"], "toolUse"));
                    message.tool_calls.push(tool_use(value).map_err(place)?);
                }
                ("toolResult", value) => {
                    unread.extend(others(Some(&value), &["toolUseId", "content"], "toolResult"));
                    results.push(tool_result(value).map_err(place)?);
                }
                // Where the service may keep what came before.
                ("cachePoint", _) => unread.push("cachePoint".to_owned()),
                (_, value) => {
                    return Err(place(format!(
                        "{} is not supported, expected text, reasoningContent, toolUse or toolResult",
                        kind_of(&value)
                    )));
                }
            }
        }
    }
    let what = |what: &str| format!("`{what}` in a turn of role `{}`", message.role);
    if message.role != "assistant" && (message.reasoning.is_some() || !message.tool_calls.is_empty()) {
        return Err(what("reasoningContent or toolUse"));
    }
    if message.role != "user" && !results.is_empty() {
        return Err(what("toolResult"));
    }
    if results.is_empty() || said {
        results.push(message);
    }
    Ok(results)
}

/// The keys of an object that are not read, as `PLACE.KEY`.
fn others(value: Option<&Value>, read: &[&str], place: &str) -> Vec<String> {
    let keys = value.and_then(Value::as_object).into_iter().flat_map(Map::keys);
    keys.filter(|key| !read.contains(&key.as_str())).map(|key| format!("{place}.{key}")).collect()
}

fn tool_use(value: Value) -> Result<ToolCall, String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(str::to_owned);
    let name = text("name").ok_or("missing field `name`")?;
    let arguments = match value.get("input") {
        Some(Value::Object(input)) => input.clone(),
        None | Some(Value::Null) => Map::new(),
        Some(other) => return Err(format!("`input`: expected an object, got {}", kind_of(other))),
    };
    Ok(ToolCall { id: text("toolUseId"), name, arguments })
}

fn tool_result(value: Value) -> Result<Message, String> {
    let mut message = Message::new("tool", "");
    message.tool_call_id = value.get("toolUseId").and_then(Value::as_str).map(str::to_owned);
    let Some(Value::Array(blocks)) = value.get("content") else { return Err("`content`: expected a list".to_owned()) };
    for block in blocks {
        match (block.get("text").and_then(Value::as_str), block.get("json")) {
            (Some(text), _) => message.content.push_str(text),
            (None, Some(json)) => message.content.push_str(&json.to_string()),
            (None, None) => return Err(format!("a block of {}, expected `text` or `json`", keys(block))),
        }
    }
    Ok(message)
}

/// `toolConfig.tools[].toolSpec`, as the JSON schemas that templates print.
fn tools(fields: &mut Fields) -> Result<Vec<Value>, String> {
    let Some(config) = fields.take("toolConfig") else { return Ok(Vec::new()) };
    others(Some(&config), &["tools"], "toolConfig").into_iter().for_each(|name| fields.ignore(name));
    let Some(Value::Array(tools)) = config.get("tools") else {
        return Err("field `toolConfig`: expected `tools`, a list".to_owned());
    };
    for tool in tools {
        let unread = others(tool.get("toolSpec"), &["name", "description", "inputSchema"], "toolSpec");
        unread.into_iter().for_each(|name| fields.ignore(name));
    }
    let read = |(index, tool): (usize, &Value)| {
        let spec = tool.get("toolSpec").and_then(Value::as_object);
        let place = |what: &str| format!("field `toolConfig`: tool {}: {what}", index + 1);
        let spec = spec.ok_or_else(|| place("expected `toolSpec`"))?;
        let name = spec.get("name").ok_or_else(|| place("missing field `name`"))?;
        let mut function = json!({"name": name});
        if let Some(description) = spec.get("description") {
            function["description"] = description.clone();
        }
        // The service wants a schema of every tool; an empty one says nothing.
        let schema = spec.get("inputSchema").and_then(|schema| schema.get("json"));
        if let Some(schema) = schema.filter(|schema| !schema.as_object().is_some_and(Map::is_empty)) {
            function["parameters"] = schema.clone();
        }
        Ok(json!({"type": "function", "function": function}))
    };
    tools.iter().enumerate().map(read).collect()
}

/// Writes a conversation, or a preference pair as `candidates`.
pub(super) fn write(content: &RowContent, lost: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let conversation;
    let (messages, tools, candidates) = match content {
        RowContent::Preference(Preference { prompt, chosen, rejected, tools }) => match (prompt, chosen, rejected) {
            (Passage::Messages(prompt), Passage::Messages(chosen), Passage::Messages(rejected)) => {
                let ([chosen], [rejected]) = (&chosen[..], &rejected[..]) else {
                    return Err("each of its answers is one turn".to_owned());
                };
                (prompt, tools, Some((chosen, rejected)))
            }
            _ => return Err("its answers are turns, not plain text".to_owned()),
        },
        other => {
            conversation = conversation_of(other, lost)?;
            (&conversation.messages, &conversation.tools, None)
        }
    };
    let mut out = Map::new();
    out.insert("schemaVersion".to_owned(), "bedrock-conversation-2024".into());
    let mut turns: Vec<Value> = Vec::new();
    for message in messages {
        if message.train.is_some() {
            lost.push("which turns are trained".to_owned());
        }
        match message.role.as_str() {
            "system" if turns.is_empty() && !out.contains_key("system") => {
                out.insert("system".to_owned(), json!([{"text": message.content}]));
            }
            "user" | "assistant" | "tool" => {
                let role = if message.role == "assistant" { "assistant" } else { "user" };
                let blocks = blocks(message);
                // Results of tools and what the user says next are one turn there; two turns of the user stay two.
                let open = turns.last_mut().filter(|turn| role == "user" && turn["role"] == role);
                match open.and_then(|turn| turn["content"].as_array_mut()).filter(|content| ends_with_result(content)) {
                    Some(content) => content.extend(blocks),
                    None => turns.push(json!({"role": role, "content": blocks})),
                }
            }
            other => return Err(format!("it has no place for a turn of role `{other}` here")),
        }
    }
    if let Some((chosen, rejected)) = candidates {
        turns.push(json!({"role": "assistant", "candidates": [
            {"content": blocks(chosen), "preferenceLabel": "preferred"},
            {"content": blocks(rejected), "preferenceLabel": "non-preferred"},
        ]}));
    }
    out.insert("messages".to_owned(), turns.into());
    if !tools.is_empty() {
        let spec = |tool: &Value| {
            let function = tool.get("function").unwrap_or(tool);
            let mut spec = json!({"name": function["name"]});
            if let Some(description) = function.get("description") {
                spec["description"] = description.clone();
            }
            spec["inputSchema"] = json!({"json": function.get("parameters").cloned().unwrap_or(json!({}))});
            json!({"toolSpec": spec})
        };
        out.insert("toolConfig".to_owned(), json!({"tools": tools.iter().map(spec).collect::<Vec<_>>()}));
    }
    Ok(out)
}

fn ends_with_result(content: &[Value]) -> bool {
    content.last().is_some_and(|block| block.get("toolResult").is_some())
}

fn blocks(message: &Message) -> Vec<Value> {
    if message.role == "tool" {
        let result = json!({"toolUseId": message.tool_call_id, "content": [{"text": message.content}]});
        return vec![json!({"toolResult": result})];
    }
    let mut blocks = Vec::new();
    if let Some(reasoning) = &message.reasoning {
        blocks.push(json!({"reasoningContent": {"reasoningText": {"text": reasoning}}}));
    }
    if !message.content.is_empty() || message.tool_calls.is_empty() {
        blocks.push(json!({"text": message.content}));
    }
    let call = |call: &ToolCall| json!({"toolUse": {"toolUseId": call.id, "name": call.name, "input": call.arguments}});
    blocks.extend(message.tool_calls.iter().map(call));
    blocks
}
