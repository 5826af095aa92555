//! Tokenizer, chat template, rendering: messages to tokens and what is trained.
//!
//! - [`Tokenizer`]: text to ids and back; from `tokenizer.json` or from the metadata of a GGUF file ([`GgufVocab`]).
//! - [`Renderer`]: a row of data to ids and a mask of what is trained ([`Rendered`]), by the model's own chat template, run
//!   as `transformers` runs it. Training, evaluation and chat all go through it, so the prompt that a model was trained on is,
//!   id by id, the prompt that it sees in use.
//! - [`strict`]: JSON of rows, in which nothing is given twice.
//!
//! What a user wrote stays text: `<|im_end|>` in a message never becomes the control token.

mod chat;
mod error;
mod message;
mod python;
mod render;
mod rules;
pub mod strict;
mod template;
mod tokenizer;

pub use error::RenderError;
pub use message::{Conversation, ConversationRef, Message, ToolCall, kind_of};
pub use render::{Rendered, Renderer};
pub use rules::{Boundary, ChatRules, Turns};
pub use template::TemplateError;
pub use tokenizer::{GgufVocab, Specials, Tokenizer, TokenizerError};
