//! Byte-level BPE: text to token ids and back, from a Hugging Face `tokenizer.json` or from GGUF metadata.
//!
//! The work is done by the `tokenizers` crate (the library under Python's `transformers`), so ids agree with what the
//! model was trained on. What is added here: a tokenizer built from GGUF metadata, text that stays text even where it
//! spells a control token, and refusal of what cannot be encoded without loss.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::GgufVocab;

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
    #[error("tokenizer.ggml.model: `{0}` is not supported, expected `gpt2` (byte-level BPE)")]
    UnsupportedModel(String),
    /// The GGUF names a pre-tokenizer that is not supported.
    #[error(
        "tokenizer.ggml.pre: `{0}` is not supported, expected `smollm`\nhint: give the model's own tokenizer.json instead"
    )]
    UnsupportedPreTokenizer(String),
    /// The vocabulary contradicts itself.
    #[error("tokenizer: {0}")]
    Invalid(String),
}

/// A byte-level BPE tokenizer with the special tokens of its model.
///
/// Encoding never adds a token that the text does not spell: a beginning-of-sequence token comes from the chat template
/// or from the caller, once.
#[derive(Clone)]
pub struct Tokenizer {
    parse: tokenizers::Tokenizer,
    as_text: tokenizers::Tokenizer,
    /// `tokenizer.json` as it was read or built, for `save`.
    source: String,
    vocab_size: usize,
    /// Bytes that no token of the vocabulary can spell.
    missing_bytes: [bool; 256],
    specials: HashSet<u32>,
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
    /// Refuses anything but byte-level BPE, and a special token that the vocabulary does not have.
    pub fn from_file(path: impl AsRef<Path>) -> Result<Tokenizer, TokenizerError> {
        let path = path.as_ref();
        let read = |path: &Path| {
            std::fs::read_to_string(path).map_err(|source| TokenizerError::Read { path: path.to_owned(), source })
        };
        let malformed = |path: &Path, message: String| TokenizerError::Malformed { path: path.to_owned(), message };
        let mut tokenizer = Tokenizer::from_json(read(path)?).map_err(|e| malformed(path, e.to_string()))?;

        let config_path = path.with_file_name("tokenizer_config.json");
        if config_path.exists() {
            let config: Value =
                serde_json::from_str(&read(&config_path)?).map_err(|e| malformed(&config_path, e.to_string()))?;
            let special = |key: &str| -> Result<Option<u32>, TokenizerError> {
                // A special token is a string, or an object with the string under `content`.
                let token = match &config[key] {
                    Value::Null => return Ok(None),
                    Value::Object(fields) => fields.get("content").and_then(Value::as_str),
                    other => other.as_str(),
                };
                let id = token.and_then(|token| tokenizer.parse.token_to_id(token));
                id.map(Some)
                    .ok_or_else(|| malformed(&config_path, format!("{key}: {} is not in the vocabulary", config[key])))
            };
            let (bos, eos, unk, pad) =
                (special("bos_token")?, special("eos_token")?, special("unk_token")?, special("pad_token")?);
            (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) = (bos.or(tokenizer.bos), eos, unk, pad);
            tokenizer.chat_template = config["chat_template"].as_str().map(str::to_owned);
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
    /// Supported: `gpt2` vocabularies (byte-level BPE) with the `smollm` pre-tokenizer, which splits digits one by one
    /// and then by GPT-2's pattern. Special tokens are those of type 3 (control); type 4 (user-defined) become added
    /// tokens that are not special. Begin and end tokens are the ids that the file names, and no begin token is added
    /// to encoded text.
    ///
    /// # Errors
    /// Refuses other kinds by name, and a vocabulary that contradicts itself.
    pub fn from_gguf(vocab: &GgufVocab) -> Result<Tokenizer, TokenizerError> {
        if vocab.model != "gpt2" {
            return Err(TokenizerError::UnsupportedModel(vocab.model.clone()));
        }
        if vocab.pre != "smollm" {
            return Err(TokenizerError::UnsupportedPreTokenizer(vocab.pre.clone()));
        }
        let tokens = &vocab.tokens;
        if vocab.token_types.len() != tokens.len() {
            return Err(TokenizerError::Invalid(format!(
                "tokenizer.ggml.token_type has {} entries, expected {} as in tokenizer.ggml.tokens",
                vocab.token_types.len(),
                tokens.len()
            )));
        }
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(earlier) = ids.insert(token, id) {
                return Err(TokenizerError::Invalid(format!("tokens {earlier} and {id} are the same, {token:?}")));
            }
        }
        let named =
            [("bos", vocab.bos_id), ("eos", vocab.eos_id), ("unknown", vocab.unk_id), ("padding", vocab.pad_id)];
        for (name, id) in named {
            if id.is_some_and(|id| id as usize >= tokens.len()) {
                return Err(TokenizerError::Invalid(format!(
                    "tokenizer.ggml.{name}_token_id is {}, expected less than {}",
                    id.unwrap_or_default(),
                    tokens.len()
                )));
            }
        }
        let merges = vocab
            .merges
            .iter()
            .map(|merge| {
                merge.split_once(' ').ok_or_else(|| {
                    TokenizerError::Invalid(format!("tokenizer.ggml.merges: {merge:?} has no space between two tokens"))
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let added: Vec<Value> = (tokens.iter().zip(&vocab.token_types).enumerate())
            .filter(|(_, (_, kind))| matches!(kind, 3 | 4))
            .map(|(id, (token, kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": *kind == 3})
            })
            .collect();
        let source = json!({
            "version": "1.0", "truncation": null, "padding": null, "added_tokens": added, "normalizer": null,
            "pre_tokenizer": {"type": "Sequence", "pretokenizers": [
                {"type": "Digits", "individual_digits": true},
                {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true}]},
            "post_processor": null,
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
                      "vocab": ids, "merges": merges}
        });
        let mut tokenizer = Tokenizer::from_json(source.to_string())?;
        (tokenizer.bos, tokenizer.eos, tokenizer.unk, tokenizer.pad) =
            (vocab.bos_id, vocab.eos_id, vocab.unk_id, vocab.pad_id);
        tokenizer.add_bos = vocab.add_bos && vocab.bos_id.is_some();
        tokenizer.chat_template = vocab.chat_template.clone();
        Ok(tokenizer)
    }

    fn from_json(source: String) -> Result<Tokenizer, TokenizerError> {
        let invalid = |e: tokenizers::Error| TokenizerError::Invalid(e.to_string());
        let json: Value = serde_json::from_str(&source).map_err(|e| TokenizerError::Invalid(e.to_string()))?;
        let kind = json["model"]["type"].as_str().unwrap_or("unknown");
        // Both forms occur: as the last pre-tokenizer, and alone.
        let byte_level = json["pre_tokenizer"].to_string().contains("\"ByteLevel\"");
        if kind != "BPE" || !byte_level || !json["model"]["dropout"].is_null() {
            return Err(TokenizerError::Invalid(format!(
                "model {kind}{}{} is not supported, expected byte-level BPE without dropout",
                if byte_level { "" } else { " without byte-level pre-tokenizer" },
                if json["model"]["dropout"].is_null() { "" } else { " with dropout" },
            )));
        }
        let mut parse = tokenizers::Tokenizer::from_bytes(source.as_bytes()).map_err(invalid)?;
        if let Some(unk) = json["model"]["unk_token"].as_str().filter(|unk| parse.token_to_id(unk).is_none()) {
            return Err(TokenizerError::Invalid(format!("model.unk_token {unk:?} is not in the vocabulary")));
        }
        let with = parse.encode("a", true).map_err(invalid)?;
        let without = parse.encode("a", false).map_err(invalid)?;
        let begin = with.get_ids().first().copied().filter(|id| Some(id) != without.get_ids().first());
        // Post-processors add begin and end tokens; here nothing is added that the text does not spell.
        parse.with_post_processor(None::<tokenizers::PostProcessorWrapper>);
        parse.with_truncation(None).map_err(invalid)?;
        parse.with_padding(None);
        let mut as_text = parse.clone();
        as_text.set_encode_special_tokens(true);

        let vocab = parse.get_vocab(true);
        let vocab_size = vocab.values().max().map_or(0, |&id| id as usize + 1);
        let missing_bytes = byte_alphabet().map(|c| !vocab.contains_key(c.to_string().as_str()));
        let specials: HashSet<u32> =
            parse.get_added_tokens_decoder().iter().filter(|(_, token)| token.special).map(|(&id, _)| id).collect();
        let mut tokenizer = Tokenizer {
            parse,
            as_text,
            source,
            vocab_size,
            missing_bytes,
            specials,
            bos: begin,
            eos: None,
            unk: None,
            pad: None,
            add_bos: begin.is_some(),
            chat_template: None,
        };
        // A merge could spell a special token; then user text could forge it.
        for &id in &tokenizer.specials {
            let content = tokenizer.parse.id_to_token(id).unwrap_or_default();
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
        let tokenizer = match specials {
            Specials::Parse => &self.parse,
            Specials::AsText => &self.as_text,
        };
        match tokenizer.encode_fast(text, false) {
            Ok(encoding) => encoding.get_ids().to_vec(),
            // The library's errors are a missing unknown-token and failing normalisers or post-processors; loading
            // checked the first and byte-level BPE has none of the others.
            Err(error) => unreachable!("byte-level BPE failed on {} bytes: {error}", text.len()),
        }
    }

    /// Special tokens that `text` spells, in order: byte range and id.
    pub(crate) fn find_specials(&self, text: &str) -> Vec<(std::ops::Range<usize>, u32)> {
        match self.parse.encode(text, false) {
            Ok(encoding) => (encoding.get_ids().iter().zip(encoding.get_offsets()))
                .filter(|(id, _)| self.specials.contains(id))
                .map(|(&id, &(start, end))| (start..end, id))
                .collect(),
            Err(error) => unreachable!("byte-level BPE failed on {} bytes: {error}", text.len()),
        }
    }

    /// The first character that the vocabulary cannot spell, with its byte offset; `None` where all can be encoded.
    ///
    /// Vocabularies trained on filtered text lack single bytes: SmolLM2 has no token for some control characters nor
    /// for the lead bytes of rare planes, and the reference library drops such characters without a word.
    pub fn unencodable(&self, text: &str) -> Option<(usize, char)> {
        let at = text.bytes().position(|byte| self.missing_bytes[byte as usize])?;
        text.char_indices().rfind(|(start, _)| *start <= at)
    }

    /// Text of `ids`. Bytes that are no UTF-8 and ids outside the vocabulary become U+FFFD.
    pub fn decode(&self, ids: &[u32], skip_special: bool) -> String {
        let known = |id: &u32| self.parse.id_to_token(*id).is_some();
        let parts = ids.split(|id| !known(id)).map(|part| match self.parse.decode(part, skip_special) {
            Ok(text) => text,
            Err(error) => unreachable!("byte-level decoding failed: {error}"),
        });
        parts.collect::<Vec<_>>().join("\u{FFFD}")
    }

    /// A token as people read it: ` Paris`, `<|im_end|>`, newline as itself. A token that is a part of a character is
    /// shown by its bytes, `<0xE6>`. `None` outside the vocabulary.
    pub fn token(&self, id: u32) -> Option<String> {
        let raw = self.parse.id_to_token(id)?;
        if self.specials.contains(&id) {
            return Some(raw);
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
        self.parse.token_to_id(token)
    }

    /// One more than the largest id.
    pub fn vocab_size(&self) -> usize {
        self.vocab_size
    }

    /// Whether `id` is a special (control) token.
    pub fn is_special(&self, id: u32) -> bool {
        self.specials.contains(&id)
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
            if let Some(token) = id.and_then(|id| self.parse.id_to_token(id)) {
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
