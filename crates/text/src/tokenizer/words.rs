//! The quick way from text to ids: text is cut into words by an automaton, or where SentencePiece's spaces stand, and the
//! tokens of a word are looked up before they are computed.
//!
//! The library's way (a backtracking regular expression, offsets of every byte through every step) costs ten times as much
//! and gives the same ids. What this way cannot do exactly goes the library's: other pre-tokenizers than patterns without
//! look-around, text that NFC may change, added tokens that take more than their own text.

use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU64, Ordering};

use aho_corasick::{AhoCorasick, MatchKind};
use regex_automata::meta::{Cache, Regex};
use regex_automata::{Anchored, Input};
use serde_json::Value;
use tokenizers::Model;

/// GPT-2's pattern, which the pre-tokenizer `ByteLevel` brings (`use_regex`), but for its white space.
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+";
/// How all such patterns end: white space up to, and without, the last character before a word.
const SPACES: &str = r"|\s+(?!\S)|\s+";
/// What SentencePiece writes for a space.
const SPACE: &str = "\u{2581}";
/// Longer words are not kept.
const LONGEST_KEPT: usize = 64;
/// Words kept by a thread; then it starts again.
const MOST_KEPT: usize = 1 << 17;
/// Tokenizers whose words a thread keeps.
const MOST_TOKENIZERS: usize = 4;

/// How a tokenizer cuts text into words.
#[derive(Debug, Clone)]
pub(super) struct Words {
    /// Each cuts what the one before left.
    cuts: Vec<Cut>,
    /// Text is composed (NFC) first.
    nfc: bool,
    /// Added tokens, special ones too.
    added: AhoCorasick,
    /// What each of `added` becomes.
    added_tokens: Vec<Added>,
    /// What stands for each byte; nothing where characters stand for themselves.
    alphabet: Option<[char; 256]>,
    /// Of the thread's [`Scratch`].
    id: u64,
}

/// An added token in text whose special tokens are text.
#[derive(Debug, Clone, Copy)]
enum Added {
    Token(u32),
    /// It is special, and so text.
    Text,
    /// It takes white space with it, or is looked for elsewhere than in the text as it stands.
    Odd,
}

#[derive(Debug, Clone)]
enum Cut {
    /// Digits one by one.
    Digits,
    /// Before each run of SentencePiece's spaces, unless one of these characters is before it: tokens have both. No other
    /// token, and so no merge, goes over such a place.
    Spaces(Vec<char>),
    /// Pattern 1, where there is one, is white space: it leaves its last character to the word after it.
    Pattern(Regex),
}

/// What a thread keeps of a tokenizer.
struct Scratch {
    caches: Vec<Option<Cache>>,
    known: HashMap<Box<str>, Box<[u32]>, BuildHasherDefault<WordHasher>>,
    word: String,
}

thread_local! {
    static SCRATCH: RefCell<Vec<(u64, Scratch)>> = const { RefCell::new(Vec::new()) };
}

impl Words {
    /// `None` where the tokenizer does anything that is not known here.
    pub(super) fn new(json: &Value, alphabet: [char; 256]) -> Option<Words> {
        let (nfc, cuts, alphabet) = match byte_level(json) {
            Some((nfc, cuts)) => (nfc, cuts, Some(alphabet)),
            None => (false, vec![sentence_piece(json)?], None),
        };
        let (mut contents, mut added_tokens) = (Vec::new(), Vec::new());
        for token in json["added_tokens"].as_array().into_iter().flatten() {
            contents.push(token["content"].as_str()?);
            let odd = ["lstrip", "rstrip", "single_word", "normalized"].iter().any(|flag| token[*flag] == true);
            added_tokens.push(match token["id"].as_u64() {
                _ if token["special"] == true => Added::Text,
                Some(id) if !odd => Added::Token(id as u32),
                _ => Added::Odd,
            });
        }
        let added = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(contents).ok()?;
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Some(Words { cuts, nfc, added, added_tokens, alphabet, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// The ids of `text` by the merges of `model`; `None` where the library must encode it. `prefix`: SentencePiece's space
    /// is written before it.
    pub(super) fn encode(&self, model: &impl Model, text: &str, prefix: bool) -> Option<Vec<u32>> {
        if self.nfc && !text.chars().all(is_composed) {
            return None;
        }
        let prefix = if prefix { SPACE } else { "" };
        SCRATCH.with_borrow_mut(|all| {
            let at = all.iter().position(|(id, _)| *id == self.id).unwrap_or_else(|| {
                all.truncate(MOST_TOKENIZERS - 1);
                all.insert(0, (self.id, self.scratch()));
                0
            });
            let scratch = &mut all[at].1;
            let mut ids = Vec::with_capacity(text.len() / 3);
            let mut at = 0;
            for found in self.added.find_iter(text) {
                match self.added_tokens[found.pattern().as_usize()] {
                    Added::Text => {}
                    Added::Odd => return None,
                    Added::Token(_) if !prefix.is_empty() => return None,
                    Added::Token(id) => {
                        self.encode_words(model, scratch, &text[at..found.start()], prefix, &mut ids)?;
                        ids.push(id);
                        at = found.end();
                    }
                }
            }
            self.encode_words(model, scratch, &text[at..], prefix, &mut ids)?;
            Some(ids)
        })
    }

    /// The ids of text without added tokens.
    fn encode_words(
        &self,
        model: &impl Model,
        scratch: &mut Scratch,
        text: &str,
        prefix: &str,
        ids: &mut Vec<u32>,
    ) -> Option<()> {
        let Scratch { caches, known, word } = scratch;
        let text = match self.alphabet {
            None if !text.is_empty() => Cow::Owned(prefix.to_owned() + &text.replace(' ', SPACE)),
            _ => Cow::Borrowed(text),
        };
        let mut done = Some(());
        cut(&self.cuts, caches, &text, &mut |part| {
            if let Some(tokens) = known.get(part) {
                ids.extend_from_slice(tokens);
                return;
            }
            let spelt = match &self.alphabet {
                Some(alphabet) => {
                    word.clear();
                    word.extend(part.bytes().map(|byte| alphabet[byte as usize]));
                    word.as_str()
                }
                None => part,
            };
            let Ok(tokens) = model.tokenize(spelt) else {
                done = None;
                return;
            };
            let start = ids.len();
            ids.extend(tokens.iter().map(|token| token.id));
            if part.len() <= LONGEST_KEPT {
                if known.len() == MOST_KEPT {
                    known.clear();
                }
                known.insert(part.into(), ids[start..].into());
            }
        });
        done
    }

    fn scratch(&self) -> Scratch {
        let cache = |cut: &Cut| match cut {
            Cut::Digits | Cut::Spaces(_) => None,
            Cut::Pattern(regex) => Some(regex.create_cache()),
        };
        Scratch { caches: self.cuts.iter().map(cache).collect(), known: HashMap::default(), word: String::new() }
    }
}

/// Whether a byte-level tokenizer composes text, and how it cuts it; `None` of other kinds and other ways.
fn byte_level(json: &Value) -> Option<(bool, Vec<Cut>)> {
    let nfc = match &json["normalizer"] {
        Value::Null => false,
        normalizer if normalizer["type"] == "NFC" => true,
        normalizer if normalizer["normalizers"].as_array().is_some_and(Vec::is_empty) => false,
        _ => return None,
    };
    let single = std::slice::from_ref(&json["pre_tokenizer"]);
    let steps = json["pre_tokenizer"]["pretokenizers"].as_array().map_or(single, Vec::as_slice);
    let (last, before) = steps.split_last()?;
    if last["type"] != "ByteLevel" || last["add_prefix_space"] == true {
        return None;
    }
    let mut cuts = before.iter().map(Cut::new).collect::<Option<Vec<_>>>()?;
    if last["use_regex"] != false {
        cuts.push(Cut::pattern(&format!("{GPT2}{SPACES}"))?);
    }
    Some((nfc, cuts))
}

/// How a vocabulary of SentencePiece's is cut that replaces spaces, with or without one written before text; `None` of others.
fn sentence_piece(json: &Value) -> Option<Cut> {
    let replaces =
        |step: &Value| step["type"] == "Replace" && step["pattern"]["String"] == " " && step["content"] == SPACE;
    let prepends = |step: &Value| step["type"] == "Prepend" && step["prepend"] == SPACE;
    let normalizer = &json["normalizer"];
    let known = match normalizer["normalizers"].as_array().map(Vec::as_slice) {
        Some([first, second]) => prepends(first) && replaces(second),
        Some(_) => false,
        None => replaces(normalizer),
    };
    // Gemma's file cuts at spaces, of which there are none left.
    let pre_tokenizer = &json["pre_tokenizer"];
    let whole =
        pre_tokenizer.is_null() || (pre_tokenizer["type"] == "Split" && pre_tokenizer["pattern"]["String"] == " ");
    if !known || !whole {
        return None;
    }
    let mut joined = Vec::new();
    for token in json["model"]["vocab"].as_object()?.keys() {
        for (at, _) in token.match_indices(SPACE) {
            joined.extend(token[..at].chars().next_back().filter(|c| !SPACE.starts_with(*c)));
        }
    }
    joined.sort_unstable();
    joined.dedup();
    Some(Cut::Spaces(joined))
}

impl Cut {
    fn new(step: &Value) -> Option<Cut> {
        match step["type"].as_str()? {
            "Digits" if step["individual_digits"] == true => Some(Cut::Digits),
            "Split" if step["behavior"] == "Isolated" && step["invert"] != true => {
                Cut::pattern(step["pattern"]["Regex"].as_str()?)
            }
            _ => None,
        }
    }

    fn pattern(pattern: &str) -> Option<Cut> {
        let regex = match pattern.strip_suffix(SPACES) {
            Some(head) => Regex::new_many(&[head, r"\s+"]),
            None => Regex::new(pattern),
        };
        // Look-around is refused by the engine, but not what else other engines may read otherwise.
        regex.ok().map(Cut::Pattern)
    }
}

/// Cuts `text` by all of `cuts`, and gives each word to `give`.
fn cut(cuts: &[Cut], caches: &mut [Option<Cache>], text: &str, give: &mut impl FnMut(&str)) {
    let (Some((first, cuts)), Some((cache, caches))) = (cuts.split_first(), caches.split_first_mut()) else {
        if !text.is_empty() {
            give(text);
        }
        return;
    };
    let mut give = |part: &str| {
        if !part.is_empty() {
            cut(cuts, caches, part, give);
        }
    };
    let mut at = 0;
    match (first, cache) {
        (Cut::Digits, _) => {
            for (start, digit) in text.match_indices(char::is_numeric) {
                give(&text[at..start]);
                give(digit);
                at = start + digit.len();
            }
        }
        (Cut::Spaces(joined), _) => {
            let mut before = None;
            for (start, c) in text.char_indices() {
                if SPACE.starts_with(c) && before.is_some_and(|before| before != c && !joined.contains(&before)) {
                    give(&text[at..start]);
                    at = start;
                }
                before = Some(c);
            }
        }
        (Cut::Pattern(regex), Some(cache)) => {
            let mut next = |at: usize| {
                let rest = Input::new(text).span(at..text.len());
                // Most patterns match every character, and then nobody has to look for where the match starts.
                let here = regex.search_with(cache, &rest.clone().anchored(Anchored::Yes));
                here.or_else(|| regex.search_with(cache, &rest))
            };
            while let Some(found) = next(at) {
                let (start, mut end) = (found.start(), found.end());
                if found.pattern().as_usize() == 1 && end < text.len() {
                    let last = text[start..end].chars().next_back().map_or(0, char::len_utf8);
                    end = if start < end - last { end - last } else { end };
                }
                give(&text[at..start]);
                give(&text[start..end]);
                at = end;
                if start == end {
                    break;
                }
            }
        }
        (Cut::Pattern(_), None) => {}
    }
    give(&text[at..]);
}

/// Whether a character stays as it is in NFC, whatever stands beside it: of the common ranges without combining characters
/// those whose characters have no other canonical form (Unicode's `DerivedNormalizationProps.txt`, `NFC_Quick_Check`).
fn is_composed(c: char) -> bool {
    matches!(c,
        '\0'..='\u{2ff}'
        | '\u{400}'..='\u{482}' | '\u{48a}'..='\u{52f}'
        | '\u{2010}'..='\u{205e}'
        | '\u{2190}'..='\u{2328}' | '\u{2500}'..='\u{27bf}'
        | '\u{3000}'..='\u{3029}' | '\u{3041}'..='\u{3096}' | '\u{30a1}'..='\u{30fe}'
        | '\u{4e00}'..='\u{9fff}' | '\u{ac00}'..='\u{d7a3}'
        | '\u{ff01}'..='\u{ff9d}' | '\u{1f300}'..='\u{1faff}')
}

/// Multiplication and rotation, eight bytes at a time (the design of rustc's FxHasher): words are short and come by the
/// million.
#[derive(Default)]
struct WordHasher(u64);

impl WordHasher {
    fn add(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
    }
}

impl Hasher for WordHasher {
    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.add(u64::from_le_bytes(*word));
        }
        let mut last = [0; 8];
        last[..rest.len()].copy_from_slice(rest);
        self.add(u64::from_le_bytes(last) ^ ((bytes.len() as u64) << 56));
    }

    fn write_u8(&mut self, _: u8) {}

    fn finish(&self) -> u64 {
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::super::{GgufVocab, Place, Tokenizer, byte_alphabet};

    /// All bytes, some merges, two added tokens.
    fn tokenizer(pre: &str) -> Tokenizer {
        let mut tokens: Vec<String> = byte_alphabet().iter().map(char::to_string).collect();
        let merges = ["t h", "th e", "Ġ a", "Ġ Ġ", "ĠĠ ĠĠ", "Ċ Ċ", "1 2", "' s", "é Ń", "! !"];
        tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
        tokens.extend(["<think>", "<|end|>"].map(str::to_owned));
        let mut token_types = vec![1; tokens.len()];
        let last = tokens.len() - 1;
        (token_types[last - 1], token_types[last]) = (4, 3);
        let merges = merges.map(str::to_owned).to_vec();
        let (model, pre) = ("gpt2".to_owned(), pre.to_owned());
        Tokenizer::from_gguf(&GgufVocab { model, pre, tokens, token_types, merges, ..GgufVocab::default() }).unwrap()
    }

    /// Numbers below the argument.
    fn random(mut state: u64) -> impl FnMut(usize) -> usize {
        move |below| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % below
        }
    }

    #[test]
    fn the_quick_way_gives_the_ids_of_the_library() {
        let parts = [
            " ",
            " ",
            "\n",
            "\r\n",
            "\t",
            "\u{a0}",
            "\u{3000}",
            "\u{85}",
            "a",
            "the",
            "The",
            "'s",
            "'LL",
            "\u{17f}",
            "1",
            "12",
            "\u{663}",
            "\u{bd}",
            "\u{b2}",
            "!",
            "!!",
            "/",
            "_",
            "-",
            "<think>",
            "<|end|>",
            "<",
            "é",
            "e\u{301}",
            "\u{212b}",
            "漢字",
            "かな",
            "が",
            "か\u{3099}",
            "한국",
            "🙂",
            "👩\u{200d}👧",
            "ﬁ",
            "ǅ",
            "\u{0}",
            "{x}",
            "٣٤",
            "ไทย",
            "हिन्दी",
        ];
        let names = [
            "deepseek-llm",
            "deepseek-coder",
            "smollm",
            "gpt-2",
            "qwen2",
            "llama-bpe",
            "smaug-bpe",
            "tekken",
            "gpt-4o",
            "deepseek-v3",
        ];
        let mut random = random(1);
        for name in names {
            let tokenizer = tokenizer(name);
            let words = tokenizer.words.as_ref().unwrap();
            let mut quick = 0;
            for _ in 0..2000 {
                let text: String = (0..random(12)).map(|_| parts[random(parts.len())]).collect();
                let slow = tokenizer.plain.encode_fast(text.as_str(), false).unwrap().get_ids().to_vec();
                let ids = words.encode(tokenizer.plain.get_model(), &text, false);
                quick += usize::from(ids.is_some());
                assert_eq!(ids.unwrap_or_else(|| slow.clone()), slow, "{name}: {text:?}");
                assert_eq!(tokenizer.encode_plain(&text, Place::Start), slow);
            }
            // Only NFC sends some of these texts the other way.
            assert!(if name == "qwen2" { (500..2000).contains(&quick) } else { quick == 2000 }, "{name}: {quick}");
        }
    }

    /// Characters, bytes, some merges by score, and one token with a space inside.
    fn sentence_piece(add_space_prefix: bool) -> Tokenizer {
        let mut tokens: Vec<String> = ["<unk>", "<s>"].map(str::to_owned).to_vec();
        tokens.extend((0..=255).map(|byte| format!("<0x{byte:02X}>")));
        let singles = tokens.len();
        let merged = ["▁▁", "▁a", "th", "the", "▁the", ">▁<", "▁▁▁▁", "!!", ">▁", "▁<"];
        tokens.extend(["▁", "a", "t", "h", "e", ">", "<", "!", "é", "漢", "1", "\n"].map(str::to_owned));
        tokens.extend(merged.map(str::to_owned));
        tokens.push("[x]".to_owned());
        let mut token_types = vec![1; tokens.len()];
        token_types[..2].copy_from_slice(&[2, 3]);
        token_types[2..singles].fill(6);
        token_types[tokens.len() - 1] = 4;
        let scores = (0..tokens.len()).map(|id| -(id as f32)).collect();
        let vocab = GgufVocab { model: "llama".to_owned(), tokens, token_types, scores, ..GgufVocab::default() };
        Tokenizer::from_gguf(&GgufVocab { unk_id: Some(0), bos_id: Some(1), add_space_prefix, ..vocab }).unwrap()
    }

    #[test]
    fn words_of_sentencepiece_give_the_ids_of_the_library() {
        let parts =
            [" ", " ", "\u{2581}", "a", "the", "t", "he", ">", "<", "!", "!!", "é", "漢", "1", "\n", "[x]", "<s>", "ß"];
        let mut random = random(7);
        for prefix in [false, true] {
            let tokenizer = sentence_piece(prefix);
            assert!(tokenizer.words.is_some() && tokenizer.inside.is_some() == prefix);
            let inside = tokenizer.inside.as_ref().unwrap_or(&tokenizer.plain);
            for _ in 0..5000 {
                let text: String = (0..random(12)).map(|_| parts[random(parts.len())]).collect();
                for (library, place) in [(&tokenizer.plain, Place::Start), (inside, Place::Inside)] {
                    let slow = library.encode_fast(text.as_str(), false).unwrap();
                    assert_eq!(tokenizer.encode_plain(&text, place), slow.get_ids(), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn composed_characters_stay_as_they_are() {
        use tokenizers::{NormalizedString, Normalizer, normalizers::NFC};
        for c in ('\0'..=char::MAX).filter(|&c| super::is_composed(c)) {
            let text: String = ['a', c, 'E', c, 'か', c, '가', c, c].into_iter().collect();
            let mut normalized = NormalizedString::from(text.as_str());
            NFC.normalize(&mut normalized).unwrap();
            assert_eq!(normalized.get(), text, "U+{:04X}", c as u32);
        }
    }
}
