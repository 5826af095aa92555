//! A row as checks and filters see it: its texts in order, what is asked and what is answered.

use std::borrow::Cow;
use std::cell::OnceCell;

use serde_json::Value;
use temper_text::Message;

use crate::near::shingles;
use crate::row::{Passage, Row, RowContent};
use crate::words::{hash, hash_of, word_hashes};

/// A text of a row.
pub(crate) struct Turn<'r> {
    /// Who says it; `text` in a document, `rejected` of the worse answer, `reference` of a task's.
    pub role: &'r str,
    pub text: Cow<'r, str>,
    /// The hashes of its words, once they were asked for.
    words: OnceCell<Vec<u64>>,
}

impl<'r> Turn<'r> {
    fn new(role: &'r str, text: Cow<'r, str>) -> Self {
        Self { role, text, words: OnceCell::new() }
    }

    /// The hashes of its words.
    pub fn words(&self) -> &[u64] {
        self.words.get_or_init(|| word_hashes(&self.text))
    }
}

/// The texts of a row.
pub(crate) struct View<'r> {
    pub turns: Vec<Turn<'r>>,
    /// Where the answer begins: the last assistant turn; nothing in documents and prompts.
    pub answer: Option<usize>,
    /// The turns as messages, where they are.
    pub messages: &'r [Message],
}

impl<'r> View<'r> {
    pub fn of(row: &'r Row) -> View<'r> {
        let mut view = View { turns: Vec::new(), answer: None, messages: &[] };
        match &row.content {
            RowContent::Messages(conversation) => {
                view.messages = &conversation.messages;
                view.put_messages(&conversation.messages);
                let last = view.turns.iter().rposition(|turn| turn.role != "assistant").map_or(0, |at| at + 1);
                view.answer = (last < view.turns.len()).then_some(last);
            }
            RowContent::Completion { prompt, completion } => {
                view.put("user", prompt);
                view.answer = Some(1);
                view.put("assistant", completion);
            }
            RowContent::Text(text) => view.put("text", text),
            RowContent::Preference(pair) => {
                view.put_passage(&pair.prompt, "user", None);
                view.answer = Some(view.turns.len());
                view.put_passage(&pair.chosen, "assistant", None);
                view.put_passage(&pair.rejected, "rejected", Some("rejected"));
                if let Passage::Messages(messages) = &pair.prompt {
                    view.messages = messages;
                }
            }
            RowContent::Task(task) => {
                view.messages = &task.prompt.messages;
                view.put_messages(&task.prompt.messages);
                if let Value::String(text) = &task.reference_answer {
                    view.put("reference", text);
                }
            }
        }
        view
    }

    fn put(&mut self, role: &'r str, text: &'r str) {
        self.turns.push(Turn::new(role, Cow::Borrowed(text)));
    }

    fn put_messages(&mut self, messages: &'r [Message]) {
        messages.iter().for_each(|message| self.put_message(message, &message.role));
    }

    fn put_message(&mut self, message: &'r Message, role: &'r str) {
        self.turns.extend(message.reasoning.as_deref().map(|text| Turn::new(role, Cow::Borrowed(text))));
        self.put(role, &message.content);
        for call in &message.tool_calls {
            let arguments = Value::Object(call.arguments.clone());
            self.turns.push(Turn::new(role, Cow::Owned(format!("{} {arguments}", call.name))));
        }
    }

    fn put_passage(&mut self, passage: &'r Passage, role: &'static str, all: Option<&'static str>) {
        match passage {
            Passage::Text(text) => self.put(role, text),
            Passage::Messages(messages) => {
                messages.iter().for_each(|message| self.put_message(message, all.unwrap_or(&message.role)));
            }
        }
    }

    /// What is asked: the turns before the answer.
    pub fn asked(&self) -> &[Turn<'r>] {
        &self.turns[..self.answer.unwrap_or(self.turns.len())]
    }

    /// The answer, or the better one of two.
    pub fn answer(&self) -> &[Turn<'r>] {
        let answer = self.answer.map_or(&[][..], |at| &self.turns[at..]);
        let end = answer.iter().position(|turn| turn.role == "rejected").unwrap_or(answer.len());
        &answer[..end]
    }

    /// What is compared between rows: all but system turns, which may well be the same everywhere.
    pub fn said(&self) -> impl Iterator<Item = &Turn<'r>> {
        self.turns.iter().filter(|turn| turn.role != "system")
    }

    /// What near duplicates are known by.
    pub fn shingles(&self) -> Vec<u32> {
        let words: Vec<u64> = self.said().flat_map(Turn::words).copied().collect();
        shingles(&words)
    }

    /// The same for rows of the same texts by the same roles, to the character.
    pub fn verbatim(&self) -> u64 {
        let turn = |turn: &Turn<'_>| [hash(turn.role.as_bytes()), hash(turn.text.as_bytes())];
        let answer = self.answer.unwrap_or(self.turns.len()) as u64;
        hash_of(self.turns.iter().flat_map(turn).chain(Some(answer)))
    }

    /// The same for rows that ask and answer in the same words; nothing where there are no words.
    pub fn folded(&self) -> Option<u64> {
        let (asked, answer) = (words_of(self.asked()), words_of(self.answer()));
        (!asked.is_empty() || !answer.is_empty()).then(|| hash_of([hash_of(asked), hash_of(answer)]))
    }
}

/// The words of turns, system turns left out.
pub(crate) fn words_of(turns: &[Turn<'_>]) -> Vec<u64> {
    turns.iter().filter(|turn| turn.role != "system").flat_map(Turn::words).copied().collect()
}
