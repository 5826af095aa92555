//! A question and its answer: Alpaca, `prompt`/`completion`, `question`/`answer`.

use serde_json::{Map, Value, json};
use temper_text::{Conversation, Message, kind_of};

use super::fields::{Fields, json_of, messages, put_tools};
use super::{OTHER_NAMES, context, conversation_of};
use crate::row::{Passage, Preference, RowContent};

/// `input` stands below `instruction`, as LLaMA-Factory joins them; `history` holds earlier pairs.
pub(super) fn alpaca(fields: &mut Fields) -> Result<RowContent, String> {
    let mut turns = Vec::new();
    if let Some(system) = fields.text("system")?.filter(|system| !system.is_empty()) {
        turns.push(Message::new("system", system));
    }
    if let Some(history) = fields.take("history") {
        let pairs: Vec<(String, String)> = serde_json::from_value(history)
            .map_err(|e| format!("field `history`: expected a list of pairs of texts: {e}"))?;
        for (asked, answered) in pairs {
            turns.push(Message::new("user", asked));
            turns.push(Message::new("assistant", answered));
        }
    }
    let instruction = fields.required_text("instruction")?;
    let asked = match fields.text("input")?.filter(|input| !input.is_empty()) {
        Some(input) => format!("{instruction}\n{input}"),
        None => instruction,
    };
    turns.push(Message::new("user", asked));
    turns.push(Message::new("assistant", fields.required_text("output")?));
    Ok(RowContent::Messages(Conversation::new(turns)))
}

/// Two texts stay text; two lists of messages are one conversation, of which the completion is trained.
pub(super) fn prompt_completion(fields: &mut Fields) -> Result<RowContent, String> {
    match (fields.take("prompt"), fields.take("completion")) {
        (Some(Value::String(prompt)), Some(Value::String(completion))) => {
            Ok(RowContent::Completion { prompt, completion })
        }
        (Some(prompt @ Value::Array(_)), Some(completion @ Value::Array(_))) => {
            let mut turns = messages("prompt", prompt)?;
            turns.iter_mut().for_each(context);
            turns.extend(messages("completion", completion)?);
            Ok(RowContent::Messages(Conversation { messages: turns, tools: fields.tools("tools")? }))
        }
        (Some(_), None) => Err(format!("field `prompt` without `completion`\n{OTHER_NAMES}")),
        (None, Some(_)) => Err(format!("field `completion` without `prompt`\n{OTHER_NAMES}")),
        (None, None) => Err("fields `prompt` and `completion` are missing".to_owned()),
        (Some(prompt), Some(completion)) => Err(format!(
            "field `prompt` is {} and `completion` is {}, expected two texts or two lists of messages",
            kind_of(&prompt),
            kind_of(&completion)
        )),
    }
}

pub(super) fn question_answer(fields: &mut Fields) -> Result<RowContent, String> {
    let mut turns = Vec::new();
    if let Some(system) = fields.text("system")?.filter(|system| !system.is_empty()) {
        turns.push(Message::new("system", system));
    }
    turns.push(Message::new("user", fields.required_text("question")?));
    turns.push(Message::new("assistant", fields.required_text("answer")?));
    Ok(RowContent::Messages(Conversation::new(turns)))
}

/// A conversation of an optional system turn and pairs of user and assistant, all plain text.
struct Pairs<'a> {
    system: Option<&'a str>,
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Pairs<'a> {
    fn of(conversation: &'a Conversation) -> Result<Self, String> {
        let plain =
            |turn: &Message| turn.reasoning.is_none() && turn.tool_calls.is_empty() && turn.train != Some(false);
        if !conversation.tools.is_empty() || !conversation.messages.iter().all(plain) {
            return Err("it has no place for tools, reasoning or turns that are not trained".to_owned());
        }
        let (system, turns) = match &conversation.messages[..] {
            [system, turns @ ..] if system.role == "system" => (Some(system.content.as_str()), turns),
            turns => (None, turns),
        };
        let mut pairs = Vec::new();
        for pair in turns.chunks(2) {
            match pair {
                [asked, answered] if asked.role == "user" && answered.role == "assistant" => {
                    pairs.push((asked.content.as_str(), answered.content.as_str()));
                }
                _ => return Err("its turns are user and assistant by turns, with an answer last".to_owned()),
            }
        }
        if pairs.is_empty() { Err("there is no answer".to_owned()) } else { Ok(Self { system, pairs }) }
    }

    fn last(&self) -> (&'a str, &'a str) {
        self.pairs.last().copied().unwrap_or_default()
    }
}

pub(super) fn write_alpaca(content: &RowContent, lost: &mut Vec<String>) -> Result<Map<String, Value>, String> {
    let conversation = conversation_of(content, lost)?;
    let pairs = Pairs::of(&conversation)?;
    let (asked, answered) = pairs.last();
    let mut out = Map::new();
    out.insert("instruction".to_owned(), asked.into());
    out.insert("input".to_owned(), "".into());
    out.insert("output".to_owned(), answered.into());
    if let Some(system) = pairs.system {
        out.insert("system".to_owned(), system.into());
    }
    if pairs.pairs.len() > 1 {
        out.insert("history".to_owned(), json!(pairs.pairs[..pairs.pairs.len() - 1]));
    }
    Ok(out)
}

pub(super) fn write_prompt_completion(
    content: &RowContent,
    lost: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    let mut out = Map::new();
    let mut texts = |prompt: &str, completion: &str| {
        out.insert("prompt".to_owned(), prompt.into());
        out.insert("completion".to_owned(), completion.into());
    };
    match content {
        RowContent::Completion { prompt, completion } => texts(prompt, completion),
        RowContent::Preference(Preference { prompt: Passage::Text(prompt), chosen: Passage::Text(chosen), .. }) => {
            lost.push("field `rejected`".to_owned());
            texts(prompt, chosen);
        }
        other => {
            let conversation = conversation_of(other, lost)?;
            let trained = |turn: &Message| turn.role == "assistant" && turn.train != Some(false);
            let at = conversation.messages.iter().rposition(|turn| turn.role != "assistant").map_or(0, |at| at + 1);
            let (prompt, completion) = conversation.messages.split_at(at);
            if completion.is_empty() || prompt.iter().any(trained) {
                return Err("only the last turn may be trained".to_owned());
            }
            // That turns of the prompt are not trained is what a prompt is.
            let asked = |turn: &Message| {
                let train = turn.train.filter(|_| turn.role != "assistant");
                json_of(&Message { train, ..turn.clone() })
            };
            out.insert("prompt".to_owned(), prompt.iter().map(asked).collect());
            out.insert("completion".to_owned(), completion.iter().map(json_of).collect());
            put_tools(&conversation.tools, &mut out);
        }
    }
    Ok(out)
}

pub(super) fn write_question_answer(
    content: &RowContent,
    lost: &mut Vec<String>,
) -> Result<Map<String, Value>, String> {
    let conversation = conversation_of(content, lost)?;
    let pairs = Pairs::of(&conversation)?;
    if pairs.pairs.len() > 1 {
        return Err("it holds one question and its answer".to_owned());
    }
    let (asked, answered) = pairs.last();
    let mut out = Map::new();
    if let Some(system) = pairs.system {
        out.insert("system".to_owned(), system.into());
    }
    out.insert("question".to_owned(), asked.into());
    out.insert("answer".to_owned(), answered.into());
    Ok(out)
}
