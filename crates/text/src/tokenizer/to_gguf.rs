//! A tokenizer as GGUF metadata, from its `tokenizer.json`.
//!
//! What the file says of merges and tokens is taken as it is. How it cuts text into words GGUF only names: the name is the one
//! under which this program's own reader of GGUF gives the same ids for [`PROBE`], and a tokenizer for which there is none is
//! refused.

use serde_json::Value;

use super::gguf::{BYTE, CONTROL, GgufVocab, NORMAL, UNKNOWN, UNUSED, USER_DEFINED};
use super::{Prefix, Specials, Tokenizer, TokenizerError};

/// Text in which every known way to cut words shows: numbers, contractions, cases, marks, scripts, spaces, line ends.
const PROBE: &str = "Hello WORLD helloWorld's I'm we'LL they'RE x'll 3 42 1234567 3.14 a1b22c333 \
    \u{e9}t\u{e9} e\u{301}te\u{301} na\u{ef}ve Stra\u{df}e \u{41f}\u{440}\u{438}\u{432}\u{435}\u{442} \u{43c}\u{438}\u{440} \
    \u{4f60}\u{597d}\u{4e16}\u{754c} \u{65e5}\u{672c}\u{8a9e}\u{306e}\u{30c6}\u{30b9}\u{30c8} \u{d55c}\u{ad6d}\u{c5b4} \
    \u{645}\u{631}\u{62d}\u{628}\u{627} \u{1f600}\u{1f680}\n\n\n  two  spaces   three\t\ttabs \r\nif (a!=b) {\n    return a/b//c;\n}\n\
    \u{2026} \u{201c}quoted\u{201d} \u{2014} end...!!! #tag @name http://x.y/z?q=1&r=2\n/path/to _under_score --flag  ";

/// Names of pre-tokenizers, of those that cut alike the most usual.
const CANDIDATES: [&str; 10] = [
    "smollm",
    "gpt-2",
    "llama-bpe",
    "qwen2",
    "tekken",
    "gpt-4o",
    "smaug-bpe",
    "deepseek-v3",
    "deepseek-llm",
    "deepseek-coder",
];

impl Tokenizer {
    /// The `tokenizer.*` metadata of a GGUF file that holds this tokenizer.
    ///
    /// # Errors
    /// [`TokenizerError::Invalid`] where no GGUF vocabulary gives the same ids.
    pub fn to_gguf(&self) -> Result<GgufVocab, TokenizerError> {
        let json: Value = serde_json::from_str(&self.source).map_err(|e| TokenizerError::Invalid(e.to_string()))?;
        let model = &json["model"];
        let mut vocab = GgufVocab {
            model: if self.byte_level { "gpt2" } else { "llama" }.to_owned(),
            bos_id: self.bos,
            eos_id: self.eos,
            unk_id: self.unk,
            pad_id: self.pad,
            add_bos: self.add_bos,
            chat_template: self.chat_template.clone(),
            ..GgufVocab::default()
        };
        let count = self.vocab_size;
        (vocab.tokens, vocab.token_types) = ((0..count).map(|id| format!("[PAD{id}]")).collect(), vec![UNUSED; count]);
        let place = |field: &str, token: &str, id: &Value| {
            let within = id.as_u64().map(|id| id as usize).filter(|&id| id < count);
            let problem = || format!("{field}: the id of {token:?} is {id}, expected a number below {count}");
            within.ok_or_else(|| TokenizerError::Invalid(problem()))
        };
        for (token, id) in model["vocab"].as_object().into_iter().flatten() {
            let id = place("model.vocab", token, id)?;
            let byte = !self.byte_level && token.len() == 6 && token.starts_with("<0x") && token.ends_with('>');
            vocab.tokens[id].clone_from(token);
            vocab.token_types[id] = if byte { BYTE } else { NORMAL };
        }
        for added in json["added_tokens"].as_array().into_iter().flatten() {
            let Some(content) = added["content"].as_str() else { continue };
            let id = place("added_tokens", content, &added["id"])?;
            let special = added["special"] == true || self.special_ids.contains(&(id as u32));
            content.clone_into(&mut vocab.tokens[id]);
            vocab.token_types[id] = match special {
                true if Some(id as u32) == self.unk && !self.byte_level => UNKNOWN,
                true => CONTROL,
                false => USER_DEFINED,
            };
        }
        let merges: Vec<(String, String)> = pairs(&model["merges"])?;
        if self.byte_level {
            vocab.merges = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
        } else {
            // SentencePiece joins what has the highest score: the score of a token is where it is first made.
            vocab.scores = vec![f32::MIN; count];
            let ids = self.plain.get_vocab(true);
            for (rank, (a, b)) in merges.iter().enumerate().rev() {
                if let Some(&id) = ids.get(&format!("{a}{b}")) {
                    vocab.scores[id as usize] = -(rank as f32);
                }
            }
            vocab.add_space_prefix = self.prefix != Prefix::Never;
        }
        let expected = self.encode(PROBE, Specials::AsText);
        let candidates: &[&str] = if self.byte_level { &CANDIDATES } else { &["default"] };
        for name in candidates {
            vocab.pre = (*name).to_owned();
            let same = |other: Self| other.encode(PROBE, Specials::AsText) == expected;
            if Self::from_gguf(&vocab).is_ok_and(same) {
                return Ok(vocab);
            }
        }
        Err(TokenizerError::Invalid(format!(
            "no GGUF vocabulary gives the ids that this tokenizer gives; tried pre-tokenizers {}",
            candidates.join(", ")
        )))
    }
}

/// Merges, as pairs (tokenizers 0.20 and later) or as text with a space between.
fn pairs(merges: &Value) -> Result<Vec<(String, String)>, TokenizerError> {
    let pair = |merge: &Value| match merge {
        Value::Array(pair) => Some((pair.first()?.as_str()?.to_owned(), pair.get(1)?.as_str()?.to_owned())),
        Value::String(pair) => pair.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())),
        _ => None,
    };
    let all = merges.as_array().into_iter().flatten().map(pair).collect::<Option<Vec<_>>>();
    all.ok_or_else(|| TokenizerError::Invalid("model.merges: expected pairs of tokens".to_owned()))
}
