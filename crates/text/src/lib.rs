//! Tokenizer, chat template, rendering: messages to tokens and what is trained.
//!
//! - [`Tokenizer`]: text to ids and back; from `tokenizer.json` or from the metadata of a GGUF file ([`GgufVocab`]).
//! - [`ChatTemplate`]: the model's Jinja template, run as `transformers` runs it.
//! - [`Renderer`]: a row of data to ids and a mask of what is trained ([`Rendered`]). Training, evaluation and chat all
//!   go through it, so the prompt that a model was trained on is, id by id, the prompt that it sees in use.
//!
//! What a user wrote stays text: `<|im_end|>` in a message never becomes the control token.

mod gguf_vocab;
mod message;
mod render;
mod template;
mod tokenizer;

pub use gguf_vocab::GgufVocab;
pub use message::{Conversation, Message, ToolCall};
pub use render::{RenderError, Rendered, Renderer};
pub use template::{ChatTemplate, TemplateError};
pub use tokenizer::{Specials, Tokenizer, TokenizerError};
