//! Checks of a conversation's shape.

use std::collections::HashSet;

use temper_text::Message;

use crate::row::{Row, RowContent};
use crate::view::{View, words_of};
use crate::words::word_hashes;

use super::Check;

/// Words from which on a turn that is there twice counts as repeated: "Yes." may well be said twice.
const REPEATED_WORDS: usize = 3;

/// What is wrong with the turns of a row.
pub(super) fn turns(row: &Row, view: &View<'_>, found: &mut Vec<Check>) {
    match &row.content {
        RowContent::Messages(_) => {
            conversation(view.messages, found);
            if !ordered(view.messages, true) {
                found.push(Check::RoleOrder);
            }
        }
        RowContent::Completion { completion, .. } if completion.trim().is_empty() => found.push(Check::EmptyTurn),
        RowContent::Completion { .. } => {}
        RowContent::Text(text) if text.trim().is_empty() => found.push(Check::EmptyTurn),
        RowContent::Text(_) => {}
        RowContent::Preference(_) => {
            conversation(view.messages, found);
            if view.turns.iter().skip(view.answer.unwrap_or(0)).any(|turn| turn.text.trim().is_empty()) {
                found.push(Check::EmptyTurn);
            }
            let rejected: Vec<u64> =
                view.turns.iter().filter(|t| t.role == "rejected").flat_map(|t| word_hashes(&t.text)).collect();
            if !rejected.is_empty() && rejected == words_of(view.answer()) {
                found.push(Check::SameAnswers);
            }
        }
        RowContent::Task(task) => {
            conversation(view.messages, found);
            if !ordered(view.messages, false) {
                found.push(Check::RoleOrder);
            }
            if task.reference_answer.is_null()
                || task.reference_answer.as_str().is_some_and(|text| text.trim().is_empty())
            {
                found.push(Check::NoReference);
            }
        }
    }
}

fn conversation(messages: &[Message], found: &mut Vec<Check>) {
    let silent = |message: &Message| message.content.trim().is_empty() && message.tool_calls.is_empty();
    // A tool may well return nothing.
    if messages.iter().any(|message| silent(message) && message.role != "tool") {
        found.push(Check::EmptyTurn);
    }
    if repeated(messages) {
        found.push(Check::RepeatedTurn);
    }
    if !tools_in_order(messages) {
        found.push(Check::ToolOrder);
    }
}

/// Whether a turn follows one of the same role and text, or an answer of several words comes twice.
fn repeated(messages: &[Message]) -> bool {
    let same = |pair: &[Message]| {
        pair[0].role == pair[1].role
            && pair[0].content == pair[1].content
            && !pair[0].content.trim().is_empty()
            && pair[0].role != "tool"
    };
    let mut answers = HashSet::new();
    let answer =
        |message: &&Message| message.role == "assistant" && word_hashes(&message.content).len() >= REPEATED_WORDS;
    messages.windows(2).any(same)
        || !messages.iter().filter(answer).all(|message| answers.insert(message.content.as_str()))
}

/// System first if at all; then user and assistant in turn, where what stands between a call and the next turn of the
/// assistant are tools' results. With `answered` the assistant comes last.
fn ordered(messages: &[Message], answered: bool) -> bool {
    let mut before = "system";
    for (at, message) in messages.iter().enumerate() {
        let fits = match (message.role.as_str(), before) {
            ("system" | "developer", _) => at == 0,
            ("user", "system" | "assistant") => true,
            ("assistant", "user" | "tool") => true,
            ("tool", "assistant" | "tool") => true,
            _ => false,
        };
        if !fits {
            return false;
        }
        before = if message.role == "developer" { "system" } else { &message.role };
    }
    if answered { before == "assistant" } else { before == "user" || before == "tool" }
}

/// Whether each tool's result comes after its call, and no id is used twice.
fn tools_in_order(messages: &[Message]) -> bool {
    let (mut called, mut answered) = (HashSet::new(), HashSet::new());
    let mut calls = 0usize;
    for message in messages {
        calls += message.tool_calls.len();
        if !message.tool_calls.iter().filter_map(|call| call.id.as_deref()).all(|id| called.insert(id)) {
            return false;
        }
        if message.role == "tool" {
            let fits = match message.tool_call_id.as_deref() {
                Some(id) => called.contains(id) && answered.insert(id),
                None => calls > 0,
            };
            if !fits {
                return false;
            }
        }
    }
    true
}
