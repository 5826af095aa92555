//! Mistral's tokenizers and templates against the ids of Mistral's own library (`tests/golden/mistral`, whose README says how
//! they were made): a second reference beside `transformers`, which has it from templates that others wrote.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod goldens;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use goldens::Cases;
use serde::Deserialize;
use serde_json::Value;
use temper_text::{GgufVocab, Renderer, Specials, Tokenizer};

#[derive(Deserialize)]
struct Goldens {
    tokenizers: BTreeMap<String, Golden>,
}

#[derive(Deserialize)]
struct Golden {
    template: String,
    /// Of a tekken: the special tokens that have a name.
    specials: Vec<String>,
    texts: Vec<Vec<u32>>,
    chats: BTreeMap<String, Chat>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Chat {
    Ids(Vec<u32>),
    /// Why the library does not take it.
    Refused(#[allow(dead_code, reason = "for whoever reads the goldens")] String),
}

/// All of the first version: there `[INST]` is no token, its template writes a space after `<s>`, and the vocabulary one more.
const V1: &[&str] = &[
    "single",
    "prompt",
    "system and turns",
    "unicode",
    "spaces",
    "code",
    "tools unused",
    "reasoning",
    "reasoning in content",
    "two users",
    "developer",
    "ends with user",
];

/// Conversations that the templates render otherwise than the library does, by tokenizer; each for a reason that
/// `docs/rendering.md` gives.
const OTHERWISE: [(&str, &[&str]); 3] = [
    ("tokenizer.model.v1", V1),
    (
        "mistral_instruct_tokenizer_240323.model.v3",
        &["system and turns", "unicode", "spaces", "tools", "two calls", "two users", "developer"],
    ),
    ("tekken_240718.json", &["system and turns", "unicode", "spaces", "tools", "two calls", "two users", "developer"]),
];

fn for_each(mut check: impl FnMut(&str, Tokenizer, &Golden, &Cases)) {
    let cases: Cases = goldens::read("cases.json");
    let text = std::fs::read_to_string(goldens::folder().join("../mistral/ids.json")).unwrap();
    let found: Goldens = serde_json::from_str(&text).unwrap();
    let Some(folder) = goldens::fetched() else { return };
    assert_eq!(found.tokenizers.len(), OTHERWISE.len());
    for (name, golden) in &found.tokenizers {
        let path = folder.join("mistral").join(name);
        let vocab = if name.ends_with(".json") { tekken(&path, &golden.specials) } else { sentence_piece(&path) };
        let template = goldens::template(&golden.template).unwrap();
        let vocab = GgufVocab { chat_template: Some(template), add_bos: true, ..vocab };
        check(name, Tokenizer::from_gguf(&vocab).unwrap(), golden, &cases);
    }
}

#[test]
fn texts_become_the_ids_of_mistral_common() {
    for_each(|name, tokenizer, golden, cases| {
        for (text, ids) in cases.texts.iter().zip(&golden.texts) {
            assert_eq!(tokenizer.encode(text, Specials::AsText), *ids, "{name}: {text:?}");
        }
    });
}

#[test]
fn conversations_become_the_ids_of_mistral_common() {
    for_each(|name, tokenizer, golden, cases| {
        let (_, otherwise) = OTHERWISE.iter().find(|(other, _)| *other == name).unwrap();
        let renderer = Renderer::new(tokenizer, None).unwrap();
        let (mut same, mut differ) = (0, Vec::new());
        for case in &cases.conversations {
            let Chat::Ids(expected) = &golden.chats[&case.name] else { continue };
            let conversation = case.conversation();
            let ids = if conversation.messages.last().is_some_and(|last| last.role == "assistant") {
                renderer.chat(&conversation, &temper_text::ChatRules::default()).map(|rows| rows[0].ids.clone())
            } else {
                renderer.prompt(&conversation)
            };
            match ids {
                Ok(ids) if ids == *expected => same += 1,
                other => {
                    differ.push(case.name.as_str());
                    if !otherwise.contains(&case.name.as_str()) {
                        let text = |ids: &[u32]| renderer.tokenizer().decode(ids, false);
                        let got = other.map(|ids| text(&ids));
                        println!("{name}, {}: {got:?}\nexpected {:?}", case.name, text(expected));
                    }
                }
            }
        }
        assert_eq!(differ, *otherwise, "{name}: what differs is what is known to, {same} are the same");
        assert!(same >= 6 || *otherwise == V1, "{name}: {same}");
    });
}

/// A SentencePiece model: `sentencepiece_model.proto`, of which pieces are field 1 with their text, score and type.
fn sentence_piece(path: &Path) -> GgufVocab {
    let bytes = std::fs::read(path).unwrap();
    let (mut tokens, mut scores, mut token_types) = (Vec::new(), Vec::new(), Vec::new());
    for (field, piece) in fields(&bytes) {
        if field != 1 {
            continue;
        }
        let (mut text, mut score, mut kind) = (String::new(), 0.0, 1);
        for (field, value) in fields(piece) {
            match field {
                1 => text = String::from_utf8(value.to_vec()).unwrap(),
                2 => score = f32::from_le_bytes(value.try_into().unwrap()),
                3 => kind = i32::from(value[0]),
                _ => {}
            }
        }
        tokens.push(text);
        scores.push(score);
        token_types.push(kind);
    }
    GgufVocab {
        model: "llama".to_owned(),
        tokens,
        scores,
        token_types,
        add_space_prefix: true,
        unk_id: Some(0),
        bos_id: Some(1),
        eos_id: Some(2),
        ..GgufVocab::default()
    }
}

/// The fields of a message of Protocol Buffers, each by its number, with its bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, &[u8])> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = bytes[0];
            *bytes = &bytes[1..];
            value |= u64::from(byte & 0x7F) << shift;
            if byte & 0x80 == 0 {
                break;
            }
        }
        value
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes);
        let start = bytes;
        let length = match key & 7 {
            0 => {
                varint(&mut bytes);
                start.len() - bytes.len()
            }
            1 => 8,
            2 => varint(&mut bytes) as usize,
            5 => 4,
            other => panic!("wire type {other}"),
        };
        let value = if key & 7 == 0 { &start[..length] } else { &bytes[..length] };
        if key & 7 != 0 {
            bytes = &bytes[length..];
        }
        found.push((key >> 3, value));
    }
    found
}

/// A tekken: byte strings by rank, of which the first ids are special tokens. Two tokens are joined where their joining has the
/// lowest rank, so each cut of a token into two tokens is a merge, with the token's rank (`TikTokenConverter` of `transformers`).
fn tekken(path: &Path, named: &[String]) -> GgufVocab {
    let file: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    let number = |name: &str| file["config"][name].as_u64().unwrap() as usize;
    let (size, special) = (number("default_vocab_size"), number("default_num_special_tokens"));
    let words: Vec<Vec<u8>> = file["vocab"].as_array().unwrap()[..size - special]
        .iter()
        .map(|token| base64(token["token_bytes"].as_str().unwrap()))
        .collect();
    let ranks: HashMap<&[u8], usize> = words.iter().enumerate().map(|(rank, word)| (word.as_slice(), rank)).collect();
    // Bytes as GPT-2 writes them: those that print as themselves, the others from U+0100 on.
    let mut next = 0x100;
    let letters: Vec<char> = (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => char::from(byte),
            _ => {
                next += 1;
                char::from_u32(next - 1).unwrap()
            }
        })
        .collect();
    let text = |word: &[u8]| word.iter().map(|&byte| letters[usize::from(byte)]).collect::<String>();
    let mut merges = Vec::new();
    for word in &words {
        let mut cuts: Vec<(usize, usize, String)> = (1..word.len())
            .filter_map(|at| {
                let (left, right) = word.split_at(at);
                Some((*ranks.get(left)?, *ranks.get(right)?, format!("{} {}", text(left), text(right))))
            })
            .collect();
        cuts.sort();
        merges.extend(cuts.into_iter().map(|(_, _, merge)| merge));
    }
    let specials = (0..special).map(|id| named.get(id).cloned().unwrap_or_else(|| format!("<SPECIAL_{id}>")));
    let tokens: Vec<String> = specials.chain(words.iter().map(|word| text(word))).collect();
    GgufVocab {
        model: "gpt2".to_owned(),
        pre: "tekken".to_owned(),
        token_types: (0..tokens.len()).map(|id| if id < special { 3 } else { 1 }).collect(),
        tokens,
        merges,
        unk_id: Some(0),
        bos_id: Some(1),
        eos_id: Some(2),
        ..GgufVocab::default()
    }
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |byte: u8| match byte {
        b'A'..=b'Z' => byte - b'A',
        b'a'..=b'z' => byte - b'a' + 26,
        b'0'..=b'9' => byte - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let (mut bits, mut count, mut bytes) = (0u32, 0, Vec::new());
    for byte in text.bytes().filter(|&byte| byte != b'=') {
        bits = bits << 6 | u32::from(digit(byte));
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
            bits &= (1 << count) - 1;
        }
    }
    bytes
}
