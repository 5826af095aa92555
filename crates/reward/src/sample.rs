//! What is scored.

use serde_json::{Map, Value};

/// One completion of one prompt.
#[derive(Debug, Clone, Copy)]
pub struct Sample<'a> {
    /// Names it to programs and in messages; no two of one call alike.
    pub id: &'a str,
    /// The prompt: a list of messages, `{"role": .., "content": ..}`.
    pub prompt: &'a Value,
    /// What the model wrote.
    pub completion: &'a str,
    /// The row that the prompt is from: `reference_answer` and every other field.
    pub row: &'a Map<String, Value>,
    /// Tokens of the completion, its stop token included.
    pub tokens: usize,
    /// Whether it was cut by the limit of tokens.
    pub cut: bool,
}
