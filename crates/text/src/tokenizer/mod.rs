//! Text to token ids and back, from a Hugging Face `tokenizer.json` or from GGUF metadata: byte-level BPE, and
//! SentencePiece's BPE with byte fallback.
//!
//! The work is done by the `tokenizers` crate (the library under Python's `transformers`), so ids agree with what the
//! model was trained on. What is added here: a tokenizer built from GGUF metadata, text that stays text even where it
//! spells a control token, text that continues other text, and refusal of what cannot be encoded without loss.

mod gguf;
mod json;
mod specials;
mod to_gguf;
mod words;

use std::borrow::Cow;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

pub use gguf::GgufVocab;
use json::{Prefix, check_kind, remove_prefix};
use specials::{Part, SpecialTokens};
use words::Words;

/// What to do where the text spells a special token such as `<|im_end|>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Specials {
    /// It becomes that token. For text that we or a chat template wrote.
    Parse,
    /// It is text like any other. For everything a user wrote.
    AsText,
}

/// Why a tokenizer could not be loaded or saved.
#[derive(Debug, thiserror::Error)]
pub enum TokenizerError {
    /// A file could not be read.
    #[error("{path}: cannot read: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file could not be written.
    #[error("{path}: cannot write: {source}")]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file is not what its name says.
    #[error("{path}: {message}")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The GGUF names a kind of vocabulary that is not supported.
    #[error(
        "tokenizer.ggml.model: `{0}` is not supported, expected `gpt2` (byte-level BPE) or `llama` (SentencePiece)"
    )]
    UnsupportedModel(String),
    /// The GGUF names a pre-tokenizer that is not supported.
    #[error(
        "tokenizer.ggml.pre: `{0}` is not supported, expected {known}\nhint: give the model's own tokenizer.json instead",
        known = gguf::PRE_TOKENIZERS
    )]
    UnsupportedPreTokenizer(String),
    /// The vocabulary contradicts itself.
    #[error("tokenizer: {0}")]
    Invalid(String),
}

/// Where the text before a piece of text ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// Nothing stands before it.
    Start,
    /// A special token does.
    AfterSpecial,
    /// Other text does, which is encoded apart.
    Inside,
}

/// A tokenizer with the special tokens of its model.
///
/// Encoding never adds a token that the text does not spell: a beginning-of-sequence token comes from the chat template
/// or from the caller, once.
#[derive(Clone)]
pub struct Tokenizer {
    /// To it, special tokens are text like any other.
    plain: tokenizers::Tokenizer,
    /// The same without [`Prefix`], where there is any.
    inside: Option<tokenizers::Tokenizer>,
    prefix: Prefix,
    /// The quick way to the same ids, where there is one.
    words: Option<Words>,
    byte_level: bool,
    /// `tokenizer.json` as it was read or built, for `save`.
    source: String,
    vocab_size: usize,
    /// Bytes that no token of the vocabulary can spell.
    missing_bytes: [bool; 256],
    specials: SpecialTokens,
    special_ids: HashSet<u32>,
    bos: Option<u32>,
    eos: Option<u32>,
    unk: Option<u32>,
    pad: Option<u32>,
    add_bos: bool,
    chat_template: Option<String>,
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("vocab_size", &self.vocab_size)
            .field("bos", &self.bos)
            .field("eos", &self.eos)
            .finish_non_exhaustive()
    }
}

impl Tokenizer {
    /// Reads a `tokenizer.json`; special tokens and chat template come from `tokenizer_config.json` and
    /// `chat_template.jinja` beside it, where they exist.
    ///
    /// # Errors
    /// Refuses by name what would lose or change text (other models than BPE, byte-level or with byte
    /// fallback; normalisers that do more than replace spaces and compose characters; pre-tokenizers that drop spaces), and
    /// a special token that the vocabulary does not have.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer, TokenizerError> {
        let path = path.as_ref();
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })
        };
        let malformed = |path: &Path, message: String| TokenizerError::Malformed { path: path.to_owned(), message };
        let source = read(path)?;
        let config_path = path.with_file_name("tokenizer_config.json");
        let config: Value = if config_path.exists() {
            serde_json::from_str(&read(&config_path)?).map_err(|e| malformed(&config_path, e.to_string()))?
        } else {
            Value::Null
        };
        let named = SPECIAL_NAMES.map(|name| &config[name]);
        let also = config["additional_special_tokens"].as_array();
        let special: Vec<&str> =
            named.into_iter().chain(also.into_iter().flatten()).filter_map(special_token).collect();
        let mut tokenizer = Tokenizer::from_json(source, &special).map_err(|e| malformed(path, e.to_string()))?;
        if !config.is_null() {
            let id = |token: &Value| match special_token(token).map(|token| tokenizer.id(token)) {
                None if token.is_null() => Ok(None),
                Some(Some(id)) => Ok(Some(id)),
                _ => Err(malformed(&config_path, format!("special token {token} is not in the vocabulary"))),
            };
            let [bos, eos, unk, pad] = named.map(id);
            let (bos, eos, unk, pad) = (bos?, eos?, unk?, pad?);
            (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) = (bos.or(tokenizer.bos), eos, unk, pad);
            // Several templates come as a list with names.
            let template = match &config["chat_template"] {
                Value::Array(named) => {
                    &named.iter().find(|one| one["name"] == "default").unwrap_or(&Value::Null)["template"]
                }
                one => one,
            };
            tokenizer.chat_template = template.as_str().map(str::to_owned);
            tokenizer.add_bos |= config["add_bos_token"].as_bool() == Some(true) && bos.is_some();
        }
        let template_path = path.with_file_name("chat_template.jinja");
        if template_path.exists() {
            tokenizer.chat_template = Some(read(&template_path)?);
        }
        Ok(tokenizer)
    }

    /// Builds the tokenizer that GGUF metadata describes.
    ///
    /// Supported are vocabularies `gpt2` (byte-level BPE) with the pre-tokenizers that the error
    /// [`TokenizerError::UnsupportedPreTokenizer`] lists, and `llama` (SentencePiece with scores). Special tokens are those
    /// of type 3 (control), and 2 (unknown) of `llama`; type 4 (user-defined) become added tokens that are not special.
    /// Begin and end tokens are the ids that the file names, and no begin token is added to encoded text.
    ///
    /// # Errors
    /// Refuses other kinds by name, and a vocabulary that contradicts itself.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Tokenizer, TokenizerError> {
        let mut tokenizer = Tokenizer::from_json(vocab.to_json()?.to_string(), &[])?;
        (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) =
            (vocab.bos_id, vocab.eos_id, vocab.unk_id, vocab.pad_id);
        tokenizer.add_bos = vocab.add_bos && vocab.bos_id.is_some();
        tokenizer.chat_template = vocab.chat_template.clone();
        Ok(tokenizer)
    }

    /// `special`: tokens that the configuration names, which are special whatever the vocabulary says of them.
    fn from_json(source: String, special: &[&str]) -> Result<Tokenizer, TokenizerError> {
        let invalid = |e: tokenizers::Error| TokenizerError::Invalid(e.to_string());
        let mut json: Value = serde_json::from_str(&source).map_err(|e| TokenizerError::Invalid(e.to_string()))?;
        let byte_level = check_kind(&json)?;
        let mut changed = false;
        for token in json["added_tokens"].as_array_mut().into_iter().flatten() {
            if token["special"] == false && token["content"].as_str().is_some_and(|content| special.contains(&content))
            {
                token["special"] = true.into();
                changed = true;
            }
        }
        let specials = SpecialTokens::new(&json["added_tokens"])?;
        let load = |json: &str| {
            let mut tokenizer = tokenizers::Tokenizer::from_bytes(json.as_bytes()).map_err(invalid)?;
            tokenizer.with_truncation(None).map_err(invalid)?;
            tokenizer.with_padding(None);
            tokenizer.set_encode_special_tokens(true);
            Ok(tokenizer)
        };
        let mut plain = if changed { load(&json.to_string())? } else { load(&source)? };
        if let Some(unk) = json["model"]["unk_token"].as_str().filter(|unk| plain.token_to_id(unk).is_none()) {
            return Err(TokenizerError::Invalid(format!("model.unk_token {unk:?} is not in the vocabulary")));
        }
        let with = plain.encode("a", true).map_err(invalid)?;
        let without = plain.encode("a", false).map_err(invalid)?;
        let begin = with.get_ids().first().copied().filter(|id| Some(id) != without.get_ids().first());
        // Post-processors add begin and end tokens; here nothing is added that the text does not spell.
        plain.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        let words = Words::new(&json, byte_alphabet());
        let prefix = remove_prefix(&mut json);
        let inside = if prefix == Prefix::Never {
            None
        } else {
            json["post_processor"] = Value::Null;
            Some(load(&json.to_string())?)
        };

        let vocab = plain.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        let missing_bytes = if byte_level {
            byte_alphabet().map(|c| !vocab.contains_key(c.to_string().as_str()))
        } else {
            std::array::from_fn(|byte| !vocab.contains_key(format!("<0x{byte:02X}>").as_str()))
        };
        let mut tokenizer = Tokenizer {
            plain,
            inside,
            prefix,
            words,
            byte_level,
            source,
            vocab_size,
            missing_bytes,
            special_ids: specials.ids().collect(),
            specials,
            bos: begin,
            eos: None,
            unk: None,
            pad: None,
            add_bos: begin.is_some(),
            chat_template: None,
        };
        // A merge could spell a special token; then user text could forge it.
        for &id in &tokenizer.special_ids {
            let content = tokenizer.plain.id_to_token(id).unwrap_or_default();
            if tokenizer.encode(&content, Specials::AsText).contains(&id) {
                return Err(TokenizerError::Invalid(format!(
                    "special token {content:?} can be spelt by ordinary text, so user text could forge it"
                )));
            }
        }
        tokenizer.source.shrink_to_fit();
        Ok(tokenizer)
    }

    /// Token ids of `text`; no token is added. Characters of which [`Tokenizer::unencodable`] speaks are left out, as
    /// the reference library does; ask it first.
    pub fn encode(&self, text: &str, specials: Specials) -> Vec<u32> {
        match specials {
            Specials::AsText => self.encode_plain(text, Place::Start),
            Specials::Parse => {
                let mut ids = Vec::new();
                self.encode_parts(text, Place::Start, Cow::Borrowed, |_, more| ids.extend_from_slice(more));
                ids
            }
        }
    }

    /// Token ids of text that continues other text, as an answer does its prompt: SentencePiece vocabularies write no space
    /// before it. Special tokens in it are text.
    pub fn encode_continuation(&self, text: &str) -> Vec<u32> {
        self.encode_plain(text, Place::Inside)
    }

    fn encode_plain(&self, text: &str, place: Place) -> Vec<u32> {
        let with_prefix = match self.prefix {
            Prefix::Never => true,
            Prefix::First => place == Place::Start,
            Prefix::Each => place != Place::Inside,
        };
        let prefix = with_prefix && self.prefix != Prefix::Never;
        let quick = self.words.as_ref().and_then(|words| words.encode(self.plain.get_model(), text, prefix));
        if let Some(ids) = quick {
            return ids;
        }
        let tokenizer = self.inside.as_ref().filter(|_| !with_prefix).unwrap_or(&self.plain);
        match tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // The library's errors are a missing unknown-token and failing normalisers or post-processors; loading
            // checked the first and took none that can fail.
            Err(error) => unreachable!("encoding failed on {} bytes: {error}", text.len()),
        }
    }

    /// Ids of `text` with its special tokens, part by part: `emit` gets the byte at which each part starts, and its ids.
    /// `restore` gives the text to encode for each part between special tokens.
    pub(crate) fn encode_parts<'t>(
        &self,
        text: &'t str,
        place: Place,
        restore: impl Fn(&'t str) -> Cow<'t, str>,
        mut emit: impl FnMut(usize, &[u32]),
    ) {
        let mut place = place;
        for part in self.specials.parts(text) {
            match part {
                Part::Text(range) => emit(range.start, &self.encode_plain(&restore(&text[range]), place)),
                Part::Special(range, id) => emit(range.start, &[id]),
            }
            place = Place::AfterSpecial;
        }
    }

    /// Where special tokens are spelt.
    pub(crate) fn specials(&self) -> &SpecialTokens {
        &self.specials
    }

    /// The first character that the vocabulary cannot spell, with its byte offset; `None` where all can be encoded.
    ///
    /// Vocabularies trained on filtered text lack single bytes: SmolLM2 has no token for some control characters nor
    /// for the lead bytes of rare planes, and the reference library drops such characters without a word.
    pub fn unencodable(&self, text: &str) -> Option<(usize, char)> {
        if self.byte_level {
            let at = text.bytes().position(|byte| self.missing_bytes[byte as usize])?;
            return text.char_indices().rfind(|(start, _)| *start <= at);
        }
        if !self.missing_bytes.contains(&true) {
            return None;
        }
        // Bytes spell what has no token of its own.
        text.char_indices().find(|(_, c)| {
            let mut buffer = [0; 4];
            let spelt = if *c == ' ' { "\u{2581}" } else { c.encode_utf8(&mut buffer) };
            self.id(spelt).is_none() && spelt.bytes().any(|byte| self.missing_bytes[byte as usize])
        })
    }

    /// Text of `ids`. Bytes that are no UTF-8 and ids outside the vocabulary become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        decode(&self.plain, ids, skip_special)
    }

    /// Text of `ids` that continue other ids: the space that a SentencePiece vocabulary writes before a text is kept, as it
    /// parts this text from the one before.
    pub fn decode_continuation(&self, ids: &[u32], skip_special: bool) -> String {
        decode(self.inside.as_ref().unwrap_or(&self.plain), ids, skip_special)
    }

    /// A token as people read it: ` Paris`, `<|im_end|>`, newline as itself. A token that is a part of a character is
    /// shown by its bytes, `<0xE6>`. `None` outside the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        let raw = self.plain.id_to_token(id)?;
        if self.special_ids.contains(&id) {
            return Some(raw);
        }
        if !self.byte_level {
            return Some(raw.replace('\u{2581}', " "));
        }
        let alphabet = byte_alphabet();
        let bytes: Option<Vec<u8>> =
            raw.chars().map(|c| alphabet.iter().position(|&a| a == c).map(|byte| byte as u8)).collect();
        match bytes.map(String::from_utf8) {
            None => Some(raw), // an added token, which is plain text
            Some(Ok(text)) => Some(text),
            Some(Err(e)) => Some(e.as_bytes().iter().map(|byte| format!("<0x{byte:02X}>")).collect()),
        }
    }

    /// The id of a token by its vocabulary form (`<|im_end|>`, `ĠParis`).
    pub fn id(&self, token: &str) -> Option<u32> {
        self.plain.token_to_id(token)
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether `id` is a special (control) token.
    pub fn is_special(&self, id: u32) -> bool {
        self.special_ids.contains(&id)
    }

    /// The beginning-of-sequence token that the files name. See [`Tokenizer::add_bos`] for whether sequences start so.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.eos
    }

    /// The unknown token.
    pub fn unk(&self) -> Option<u32> {
        self.unk
    }

    /// The padding token. Nothing here pads; kept for the files that `save` writes.
    pub fn pad(&self) -> Option<u32> {
        self.pad
    }

    /// Whether the model expects plain text to start with [`Tokenizer::bos`]. `encode` does not add it.
    pub fn add_bos(&self) -> bool {
        self.add_bos
    }

    /// The chat template that came with the tokenizer, Jinja source.
    pub fn chat_template(&self) -> Option<&str> {
        self.chat_template.as_deref()
    }

    /// `tokenizer.json` as it was read, or built from a GGUF file's metadata.
    pub fn json(&self) -> &str {
        &self.source
    }

    /// `tokenizer.json` and `tokenizer_config.json`, (name, content): of a folder with them,
    /// `AutoTokenizer.from_pretrained` yields the same ids.
    ///
    /// The class is `PreTrainedTokenizerFast`, which takes `tokenizer.json` as it is; model-specific classes of newer
    /// `transformers` rebuild the pre-tokenizer and lose the splitting of digits.
    pub fn files(&self) -> [(&'static str, String); 2] {
        let mut config = json!({"tokenizer_class": "PreTrainedTokenizerFast", "clean_up_tokenization_spaces": false});
        let named =
            [("bos_token", self.bos), ("eos_token", self.eos), ("unk_token", self.unk), ("pad_token", self.pad)];
        for (key, id) in named {
            if let Some(token) = id.and_then(|id| self.plain.id_to_token(id)) {
                config[key] = token.into();
            }
        }
        if let Some(template) = &self.chat_template {
            config["chat_template"] = template.as_str().into();
        }
        [("tokenizer.json", self.source.clone()), ("tokenizer_config.json", format!("{config:#}\n"))]
    }

    /// Writes [`files`](Self::files) into `dir`.
    ///
    /// # Errors
    /// Where a file cannot be written.
    pub fn save(&self, dir: impl AsRef<Path>) -> Result<(), TokenizerError> {
        for (name, text) in self.files() {
            let path = dir.as_ref().join(name);
            std::fs::write(&path, text).map_err(|source| TokenizerError::Write { path, source })?;
        }
        Ok(())
    }
}

fn decode(tokenizer: &tokenizers::Tokenizer, ids: &[u32], skip_special: bool) -> String {
    let known = |id: &u32| tokenizer.id_to_token(*id).is_some();
    let parts = ids.split(|id| !known(id)).map(|part| match tokenizer.decode(part, skip_special) {
        Ok(text) => text,
        Err(error) => unreachable!("decoding failed: {error}"),
    });
    parts.collect::<Vec<_>>().join("\u{FFFD}")
}

/// What `tokenizer_config.json` calls the begin, end, unknown and padding tokens.
const SPECIAL_NAMES: [&str; 4] = ["bos_token", "eos_token", "unk_token", "pad_token"];

/// A special token in `tokenizer_config.json`: a string, or an object with the string under `content`.
fn special_token(value: &Value) -> Option<&str> {
    value.as_str().or(value["content"].as_str())
}

/// The character that stands for each byte in a byte-level vocabulary: printable Latin-1 stands for itself, the other
/// bytes follow from U+0100 in order (GPT-2, `encoder.py`, `bytes_to_unicode`).
fn byte_alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u8;
        if matches!(byte, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF) {
            char::from(byte)
        } else {
            next += 1;
            char::from_u32(next - 1).unwrap_or(char::REPLACEMENT_CHARACTER)
        }
    })
}
