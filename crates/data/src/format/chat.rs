//! `messages`: the format of OpenAI, `transformers` and TRL.

use serde_json::{Map, Value};
use temper_text::{Conversation, Message};

use super::conversation_of;
use super::fields::{Fields, messages, put};
use crate::row::RowContent;

pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    let names = ["messages", "conversations", "conversation"];
    let (name, turns) = fields.take_any(&names).ok_or("field `messages` is missing")?;
    let mut turns = messages(name, turns)?;
    if let Some(system) = fields.text("system")? {
        if turns.first().is_some_and(|turn| turn.role == "system") {
            return Err("field `system` beside a first message of role `system`".to_owned());
        }
        turns.insert(0, Message::new("system", system));
    }
    Ok(RowContent::Messages(Conversation { messages: turns, tools: fields.tools("tools")? }))
}

pub(super) fn write(content: &RowContent, lost: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    put(&*conversation_of(content, lost)?, "messages", &mut out);
    Ok(out)
}
