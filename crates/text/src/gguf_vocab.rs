//! The tokenizer as a GGUF file carries it: the hand-over type between the model crate (which reads the file) and
//! [`crate::Tokenizer::from_gguf`] (which builds the tokenizer).

/// The `tokenizer.*` metadata of a GGUF file, unchanged.
///
/// Field names follow the keys: `model` is `tokenizer.ggml.model`, `pre` is `tokenizer.ggml.pre`, and so on;
/// `chat_template` is `tokenizer.chat_template`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct GgufVocab {
    /// Kind of vocabulary: `gpt2` is byte-level BPE.
    pub model: String,
    /// Name of the pre-tokenizer; empty where the file has none.
    pub pre: String,
    /// Token strings; the index is the token id.
    pub tokens: Vec<String>,
    /// One type per token (GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte).
    pub token_types: Vec<i32>,
    /// BPE merges in order of rank, each `left right` with one space between.
    pub merges: Vec<String>,
    /// `tokenizer.ggml.bos_token_id`.
    pub bos_id: Option<u32>,
    /// `tokenizer.ggml.eos_token_id`.
    pub eos_id: Option<u32>,
    /// `tokenizer.ggml.unknown_token_id`.
    pub unk_id: Option<u32>,
    /// `tokenizer.ggml.padding_token_id`.
    pub pad_id: Option<u32>,
    /// `tokenizer.ggml.add_bos_token`; false where the key is absent.
    pub add_bos: bool,
    /// The chat template, Jinja source.
    pub chat_template: Option<String>,
}
