//! The tokenizer as a GGUF file carries it: the hand-over type between the model crate (which reads the file) and
//! [`crate::Tokenizer::from_gguf`], and the `tokenizer.json` that says the same.

use std::collections::HashMap;

use serde_json::{Map, Value, json};

use super::TokenizerError;

/// The `tokenizer.*` metadata of a GGUF file, unchanged.
///
/// Field names follow the keys: `model` is `tokenizer.ggml.model`, `pre` is `tokenizer.ggml.pre`, and so on;
/// `chat_template` is `tokenizer.chat_template`.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct GgufVocab {
    /// Kind of vocabulary: `gpt2` is byte-level BPE, `llama` is SentencePiece.
    pub model: String,
    /// Name of the pre-tokenizer; empty where the file has none.
    pub pre: String,
    /// Token strings; the index is the token id.
    pub tokens: Vec<String>,
    /// One type per token (GGUF: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte).
    pub token_types: Vec<i32>,
    /// BPE merges in order of rank, each `left right` with one space between. Of `gpt2`.
    pub merges: Vec<String>,
    /// Scores, one per token; the higher, the earlier two pieces are joined to that token. Of `llama`.
    pub scores: Vec<f32>,
    /// `tokenizer.ggml.add_space_prefix`; true where the key is absent. Of `llama`.
    pub add_space_prefix: bool,
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

/// Pre-tokenizers of byte-level vocabularies that are built, for the message that refuses another.
pub(super) const PRE_TOKENIZERS: &str = "`command-r`, `deepseek-coder`, `deepseek-llm`, `deepseek-v3`, `gpt-2`, `gpt-4o`, `llama-bpe`, \
     `qwen2`, `refact`, `smaug-bpe`, `smollm`, `starcoder` or `tekken`";

/// How a byte-level vocabulary cuts text into words, before merges.
#[derive(Default)]
struct Cut {
    normalizer: Value,
    /// Patterns, each cutting what the one before left.
    patterns: &'static [&'static str],
    /// Digits one by one, then GPT-2's own pattern.
    digits: bool,
    /// A word that is a token is that token, whatever its merges say.
    ignore_merges: bool,
}

/// OpenAI's `cl100k_base` with digits in runs of up to three; Llama 3's `tokenizer.json` has it.
const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// The same with single digits; Qwen2's.
const QWEN2: &str =
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// OpenAI's `o200k_base`, as the `tokenizer.json` of gpt-oss has it.
const GPT_4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// Mistral's Tekken (`config.pattern` of its `tekken.json`).
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
/// DeepSeek V3's `tokenizer.json`.
const DEEPSEEK_V3: [&str; 3] = [
    r"\p{N}{1,3}",
    "[\u{4e00}-\u{9fa5}\u{3040}-\u{309f}\u{30a0}-\u{30ff}]+",
    "[!\"#$%&'()*+,\\-./:;<=>?@\\[\\\\\\]^_`{|}~][A-Za-z]+|[^\r\n\\p{L}\\p{P}\\p{S}]?[\\p{L}\\p{M}]+| ?[\\p{P}\\p{S}]+[\r\n]*|\\s*[\r\n]+|\\s+(?!\\S)|\\s+",
];

/// DeepSeek LLM's: lines, words, punctuation, CJK, numbers, each cut from what is left. The ranges of letters are its own.
const DEEPSEEK_LLM: [&str; 6] = [
    "[\r\n]",
    "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝὟ-ώᾀ-ᾴᾶ-ᾼιῂ-ῄῆ-ῌῐ-ΐῖ-Ίῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤΩℨK-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+",
    "\\s?[!-/:-~！-／：-～‘-‟　-。]+",
    "\\s+$",
    "[一-龥ࠀ-一가-퟿]+",
    "\\p{N}+",
];
/// DeepSeek Coder's.
const DEEPSEEK_CODER: [&str; 5] = ["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", "[一-龥ࠀ-一가-퟿]+", r"\p{N}"];

impl Cut {
    /// By the name that llama.cpp's converter gives it (`llama-vocab.cpp`, `convert_hf_to_gguf.py`).
    fn named(name: &str) -> Option<Cut> {
        Some(match name {
            "smollm" | "starcoder" | "refact" | "command-r" => Cut { digits: true, ..Cut::default() },
            "deepseek-llm" => Cut { patterns: &DEEPSEEK_LLM, ..Cut::default() },
            "deepseek-coder" => Cut { patterns: &DEEPSEEK_CODER, ..Cut::default() },
            "gpt-2" => Cut::default(),
            "qwen2" | "deepseek-r1-qwen" => {
                Cut { normalizer: json!({"type": "NFC"}), patterns: &[QWEN2], ..Cut::default() }
            }
            "llama-bpe" | "llama3" | "llama-v3" => Cut { patterns: &[LLAMA3], ignore_merges: true, ..Cut::default() },
            "smaug-bpe" => Cut { patterns: &[LLAMA3], ..Cut::default() },
            "tekken" => Cut { patterns: &[TEKKEN], ignore_merges: true, ..Cut::default() },
            "gpt-4o" => Cut { patterns: &[GPT_4O], ignore_merges: true, ..Cut::default() },
            "deepseek-v3" => Cut { patterns: &DEEPSEEK_V3, ..Cut::default() },
            _ => return None,
        })
    }

    fn pre_tokenizer(&self) -> Value {
        let mut all: Vec<Value> = Vec::new();
        if self.digits {
            all.push(json!({"type": "Digits", "individual_digits": true}));
        }
        all.extend(self.patterns.iter().map(
            |pattern| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false}),
        ));
        all.push(json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true,
                        "use_regex": self.patterns.is_empty()}));
        json!({"type": "Sequence", "pretokenizers": all})
    }
}

impl GgufVocab {
    /// The `tokenizer.json` of the same tokenizer.
    pub(super) fn to_json(&self) -> Result<Value, TokenizerError> {
        let invalid = |what: String| Err(TokenizerError::Invalid(what));
        if self.token_types.len() != self.tokens.len() {
            return invalid(format!(
                "tokenizer.ggml.token_type has {} entries, expected {} as in tokenizer.ggml.tokens",
                self.token_types.len(),
                self.tokens.len()
            ));
        }
        let tokens = &self.pieces();
        let mut ids: HashMap<&str, usize> = HashMap::with_capacity(tokens.len());
        for (id, token) in tokens.iter().enumerate() {
            if let Some(earlier) = ids.insert(token, id) {
                return invalid(format!("tokens {earlier} and {id} are the same, {token:?}"));
            }
        }
        let named = [("bos", self.bos_id), ("eos", self.eos_id), ("unknown", self.unk_id), ("padding", self.pad_id)];
        for (name, id) in named {
            if let Some(id) = id.filter(|&id| id as usize >= tokens.len()) {
                return invalid(format!("tokenizer.ggml.{name}_token_id is {id}, expected less than {}", tokens.len()));
            }
        }
        let added: Vec<Value> = (tokens.iter().zip(&self.token_types).enumerate())
            .filter(|(_, (_, kind))| matches!(**kind, UNKNOWN | CONTROL | USER_DEFINED))
            .filter(|(_, (_, kind))| self.model == "llama" || **kind != UNKNOWN)
            .map(|(id, (token, kind))| {
                json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                       "normalized": false, "special": *kind != USER_DEFINED})
            })
            .collect();
        let mut json = match self.model.as_str() {
            "gpt2" => self.byte_level()?,
            "llama" => self.sentence_piece(tokens, &ids)?,
            other => return Err(TokenizerError::UnsupportedModel(other.to_owned())),
        };
        json["version"] = "1.0".into();
        // So that the file makes other programs start text as this one does.
        if let Some(bos) = self.bos_id.filter(|_| self.add_bos) {
            let token = &tokens[bos as usize];
            let (begin, text) =
                (json!({"SpecialToken": {"id": token, "type_id": 0}}), json!({"Sequence": {"id": "A", "type_id": 0}}));
            json["post_processor"] = json!({"type": "TemplateProcessing", "single": [begin, text],
                "pair": [begin, text, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {token: {"id": token, "ids": [bos], "tokens": [token]}}});
        }
        json["added_tokens"] = added.into();
        // In the order of the ids: the same vocabulary is the same text, whose hash names what was made with it.
        json["model"]["vocab"] = tokens.iter().cloned().zip((0_usize..).map(Value::from)).collect::<Map<_, _>>().into();
        Ok(json)
    }

    fn byte_level(&self) -> Result<Value, TokenizerError> {
        let cut = Cut::named(&self.pre).ok_or_else(|| TokenizerError::UnsupportedPreTokenizer(self.pre.clone()))?;
        let merges: Option<Vec<_>> = self.merges.iter().map(|merge| merge.split_once(' ')).collect();
        let Some(merges) = merges else {
            let merge = self.merges.iter().find(|merge| !merge.contains(' '));
            let what = format!("tokenizer.ggml.merges: {merge:?} has no space between two tokens");
            return Err(TokenizerError::Invalid(what));
        };
        Ok(json!({
            "truncation": null, "padding": null, "normalizer": cut.normalizer, "pre_tokenizer": cut.pre_tokenizer(),
            "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
            "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
                      "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
                      "ignore_merges": cut.ignore_merges, "merges": merges}
        }))
    }

    /// The tokens as SentencePiece has them: to it spaces are `▁`. GGUF writes runs of them, which some vocabularies define
    /// beside the pieces that they learnt, as spaces. Gemma's `tokenizer.json` has them twice: as pieces, for spaces, and as
    /// added tokens, for `▁▁` that stands in a text; so it is here.
    fn pieces(&self) -> Vec<String> {
        let run = |token: &String| self.model == "llama" && is_run_of_spaces(token);
        let piece = |token: &String| if run(token) { "\u{2581}".repeat(token.len()) } else { token.clone() };
        self.tokens.iter().map(piece).collect()
    }

    /// SentencePiece's BPE: of all neighbours whose joining is a token, those are joined first whose token has the highest
    /// score. So a token of two tokens is a merge, with its score as its rank. Runs of spaces that the vocabulary defines are
    /// found before all that, the longest first: their merges come first, in the order of Gemma's own `tokenizer.json`.
    fn sentence_piece(&self, tokens: &[String], ids: &HashMap<&str, usize>) -> Result<Value, TokenizerError> {
        if self.scores.len() != tokens.len() {
            return Err(TokenizerError::Invalid(format!(
                "tokenizer.ggml.scores has {} entries, expected {} as in tokenizer.ggml.tokens",
                self.scores.len(),
                tokens.len()
            )));
        }
        // Runs of spaces are user-defined in some vocabularies. Control tokens are not put together from text.
        let piece =
            |piece: &str| ids.get(piece).is_some_and(|&id| matches!(self.token_types[id], NORMAL | USER_DEFINED));
        let mut runs: Vec<(&str, &str)> = Vec::new();
        let mut merges: Vec<(f32, &str, &str)> = Vec::new();
        for (id, (token, score)) in tokens.iter().zip(&self.scores).enumerate().filter(|(_, (token, _))| piece(token)) {
            let cuts = token.char_indices().skip(1).map(|(at, _)| token.split_at(at));
            let cuts = cuts.filter(|(a, b)| piece(a) && piece(b));
            if is_run_of_spaces(&self.tokens[id]) {
                runs.extend(cuts);
            } else {
                merges.extend(cuts.map(|(a, b)| (*score, a, b)));
            }
        }
        runs.sort_by_key(|(a, b)| std::cmp::Reverse((a.len(), b.len())));
        merges.sort_by(|a, b| b.0.total_cmp(&a.0));
        let merges = merges.into_iter().map(|(_, a, b)| (a, b));
        let merges: Vec<[&str; 2]> = runs.into_iter().chain(merges).map(|(a, b)| [a, b]).collect();
        let space = json!({"type": "Replace", "pattern": {"String": " "}, "content": "\u{2581}"});
        let mut decoders = vec![
            json!({"type": "Replace", "pattern": {"String": "\u{2581}"}, "content": " "}),
            json!({"type": "ByteFallback"}),
            json!({"type": "Fuse"}),
        ];
        let normalizer = if self.add_space_prefix {
            decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
            json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "\u{2581}"}, space]})
        } else {
            space
        };
        Ok(json!({
            "truncation": null, "padding": null, "normalizer": normalizer, "pre_tokenizer": null,
            "decoder": {"type": "Sequence", "decoders": decoders},
            "model": {"type": "BPE", "dropout": null, "unk_token": self.unk_id.map(|id| &tokens[id as usize]),
                      "continuing_subword_prefix": null, "end_of_word_suffix": null, "fuse_unk": true,
                      "byte_fallback": true, "ignore_merges": false, "merges": merges}
        }))
    }
}

fn is_run_of_spaces(token: &str) -> bool {
    token.len() > 1 && token.bytes().all(|byte| byte == b' ')
}

/// Kinds of tokens, as in the field's own words.
pub(super) const NORMAL: i32 = 1;
pub(super) const UNKNOWN: i32 = 2;
pub(super) const CONTROL: i32 = 3;
pub(super) const USER_DEFINED: i32 = 4;
pub(super) const UNUSED: i32 = 5;
pub(super) const BYTE: i32 = 6;
