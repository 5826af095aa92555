//! Preference pairs: TRL's `prompt`/`chosen`/`rejected` in texts or messages, ShareGPT's, and Nova's `candidates`.

use serde_json::{Map, Value};
use temper_text::{Message, kind_of};

use super::converse;
use super::fields::{Fields, json_of, messages, put_tools};
use super::sharegpt;
use crate::row::{Passage, Preference, RowContent};

pub(super) fn read(fields: &mut Fields) -> Result<RowContent, String> {
    let (chosen, rejected) = (fields.take("chosen"), fields.take("rejected"));
    let (chosen, rejected) = match (chosen, rejected) {
        (None, None) => return Ok(RowContent::Preference(converse::read_candidates(fields)?)),
        (Some(chosen), Some(rejected)) => (chosen, rejected),
        (Some(_), None) => return Err("field `chosen` without `rejected`".to_owned()),
        (None, Some(_)) => return Err("field `rejected` without `chosen`".to_owned()),
    };
    let asked = fields.take_any(&["prompt", "messages", "conversations"]);
    let (chosen, rejected) = (side("chosen", chosen)?, side("rejected", rejected)?);
    let prompt = asked.map(|(name, value)| side(name, value)).transpose()?;
    let tools = fields.tools("tools")?;
    let (prompt, chosen, rejected) = match (prompt, chosen, rejected) {
        (Some(Passage::Text(prompt)), Passage::Text(chosen), Passage::Text(rejected)) => {
            (Passage::Text(prompt), Passage::Text(chosen), Passage::Text(rejected))
        }
        (None, Passage::Text(_), Passage::Text(_)) => return Err("field `prompt` is missing".to_owned()),
        (prompt, Passage::Messages(chosen), Passage::Messages(rejected)) => {
            let mut asked = match prompt {
                Some(Passage::Messages(prompt)) => prompt,
                // As in data sets that keep the prompt as text beside two conversations.
                Some(Passage::Text(_)) | None => Vec::new(),
            };
            // Both may repeat what they answer.
            let common = chosen.iter().zip(&rejected).take_while(|(a, b)| a == b).count();
            let repeats = common > 0 && (asked.is_empty() || chosen[..common.min(asked.len())] == asked[..]);
            let (skip, more) = if repeats { (common, chosen[..common].to_vec()) } else { (0, Vec::new()) };
            if repeats {
                asked = more;
            }
            if asked.is_empty() {
                return Err(
                    "the prompt is missing: no field `prompt`, and the two answers share no first turns".to_owned()
                );
            }
            (
                Passage::Messages(asked),
                Passage::Messages(chosen[skip..].to_vec()),
                Passage::Messages(rejected[skip..].to_vec()),
            )
        }
        (_, chosen, rejected) => {
            let form = |side: &Passage| if matches!(side, Passage::Text(_)) { "text" } else { "messages" };
            return Err(format!(
                "field `chosen` is {} and `rejected` is {}, expected both of one form, and `prompt` of the same",
                form(&chosen),
                form(&rejected)
            ));
        }
    };
    for (name, side) in [("chosen", &chosen), ("rejected", &rejected)] {
        if matches!(side, Passage::Messages(turns) if turns.is_empty()) {
            return Err(format!("field `{name}`: nothing follows the prompt"));
        }
    }
    if chosen == rejected {
        return Err("fields `chosen` and `rejected` are the same".to_owned());
    }
    Ok(RowContent::Preference(Preference { prompt, chosen, rejected, tools }))
}

/// Text, a turn, or turns; in messages or in ShareGPT's way.
fn side(name: &str, value: Value) -> Result<Passage, String> {
    let place = |what: String| format!("field `{name}`: {what}");
    let turn = |turn: Value| {
        if turn.get("from").is_some() { sharegpt::turn(turn) } else { Message::from_json(turn) }
    };
    match value {
        Value::String(text) => Ok(Passage::Text(text)),
        Value::Object(_) => Ok(Passage::Messages(vec![turn(value).map_err(place)?])),
        Value::Array(turns) if turns.iter().any(|turn| turn.get("from").is_some()) => {
            let turns: Result<Vec<Message>, String> = turns.into_iter().map(turn).collect();
            turns.map(Passage::Messages).map_err(place)
        }
        Value::Array(_) => messages(name, value).map(Passage::Messages),
        other => Err(place(format!("expected text or messages, got {}", kind_of(&other)))),
    }
}

pub(super) fn write(content: &RowContent) -> Result<Map<String, Value>, String> {
    let RowContent::Preference(pair) = content else {
        return Err(format!("it holds two answers to choose from, not {}", content.kind()));
    };
    let json = |side: &Passage| match side {
        Passage::Text(text) => Value::from(text.as_str()),
        Passage::Messages(turns) => turns.iter().map(json_of).collect(),
    };
    let mut out = Map::new();
    out.insert("prompt".to_owned(), json(&pair.prompt));
    out.insert("chosen".to_owned(), json(&pair.chosen));
    out.insert("rejected".to_owned(), json(&pair.rejected));
    put_tools(&pair.tools, &mut out);
    Ok(out)
}
