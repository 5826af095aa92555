//! Lists and objects that lie in a text as JSON, as tables keep them, whose cells hold nothing else.

use serde_json::{Map, Value};
use temper_text::strict;

/// Fields that are lists or objects in every format, and never text that begins as one.
const STRUCTURES: [&str; 6] = ["messages", "conversations", "conversation", "tools", "toolConfig", "history"];

/// What may be text as well as turns.
const PASSAGES: [&str; 4] = ["prompt", "completion", "chosen", "rejected"];

/// A row whose lists and objects are what they stand for, whether they lay in a text or not.
///
/// A prompt or an answer is taken for turns where it is JSON of turns, and what stands beside it is too; a preference pair may have
/// its prompt as text. `system` is left to the formats, and `reference_answer` to the reward, which may expect a text.
///
/// # Errors
/// Which field holds a list or an object that is no JSON, or that Python printed and not `json.dumps`.
pub(crate) fn unfolded(mut row: Map<String, Value>) -> Result<Map<String, Value>, String> {
    for name in STRUCTURES {
        let Some(Value::String(text)) = row.get(name) else { continue };
        if text.trim_start().starts_with(['[', '{']) {
            row[name] = json(name, text)?;
        }
    }
    let told_by = if row.contains_key("chosen") { &PASSAGES[2..] } else { &PASSAGES[..2] };
    let turns = told_by.iter().all(|name| row.get(*name).is_none_or(are_turns));
    for name in PASSAGES {
        let Some(value @ Value::String(text)) = row.get(name) else { continue };
        let says = |words: [&str; 2]| words.iter().all(|word| text.contains(word));
        if turns && are_turns(value)
            || is_python(text) && (says(["'role':", "'content':"]) || says(["'from':", "'value':"]))
        {
            row[name] = json(name, text)?;
        }
    }
    Ok(row)
}

/// The JSON in a text of this field.
fn json(name: &str, text: &str) -> Result<Value, String> {
    strict::value(text).map_err(|error| {
        if is_python(text) {
            format!("field `{name}`: a list as Python prints it, expected JSON\nhint: write it with `json.dumps`")
        } else {
            format!("field `{name}`: a text that is no JSON: {error}")
        }
    })
}

/// Whether a text is a list of dictionaries as Python's `str` and `DataFrame.to_csv` print it.
fn is_python(text: &str) -> bool {
    text.trim_start().strip_prefix('[').is_some_and(|rest| rest.trim_start().starts_with("{'"))
}

/// Whether a value is a list of turns, or one turn, or JSON of these in a text.
fn are_turns(value: &Value) -> bool {
    let is_turn = |turn: &Value| {
        let has = |name: &str| turn.get(name).is_some();
        has("role") && has("content") || has("from") && has("value")
    };
    match value {
        Value::Array(turns) => !turns.is_empty() && turns.iter().all(is_turn),
        Value::Object(_) => is_turn(value),
        Value::String(text) if text.trim_start().starts_with(['[', '{']) => {
            serde_json::from_str(text).is_ok_and(|value: Value| are_turns(&value))
        }
        _ => false,
    }
}
