//! Tokenizers of published models, against ids of the reference library (`tests/golden/chat`, whose README says how they
//! were made).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod goldens;

use std::collections::BTreeMap;
use std::path::Path;

use goldens::Cases;
use serde::Deserialize;
use serde_json::Value;
use temper_text::{ChatRules, Conversation, GgufVocab, Message, RenderError, Renderer, Specials, Tokenizer};

#[derive(Deserialize)]
struct Goldens {
    tokenizers: BTreeMap<String, Golden>,
}

#[derive(Deserialize)]
struct Golden {
    template: Option<String>,
    texts: Vec<Vec<u32>>,
    /// By case: without generation prompt, and with one; nothing where the template raises.
    chats: BTreeMap<String, [Option<Vec<u32>>; 2]>,
}

/// Each fetched tokenizer with its goldens.
fn for_each(mut check: impl FnMut(&str, &Path, &Golden, &Cases)) {
    let (cases, goldens): (Cases, Goldens) = (goldens::read("cases.json"), goldens::read("ids.json"));
    let Some(folder) = goldens::fetched() else { return };
    let mut checked = 0;
    for (name, golden) in &goldens.tokenizers {
        let path = folder.join("tokenizers").join(name).join("tokenizer.json");
        assert!(path.is_file(), "{} is missing", path.display());
        check(name, &path, golden, &cases);
        checked += 1;
    }
    assert!(checked >= 5);
}

fn assert_texts(name: &str, tokenizer: &Tokenizer, golden: &Golden, cases: &Cases) {
    for (text, ids) in cases.texts.iter().zip(&golden.texts) {
        assert_eq!(tokenizer.encode(text, Specials::Parse), *ids, "{name}: {text:?}");
        assert_eq!(tokenizer.unencodable(text), None, "{name}: {text:?}");
    }
}

#[test]
fn text_becomes_the_ids_of_the_reference() {
    for_each(|name, path, golden, cases| {
        let tokenizer = Tokenizer::from_file(path).unwrap();
        assert_texts(name, &tokenizer, golden, cases);
        for text in &cases.texts {
            let ids = tokenizer.encode(text, Specials::AsText);
            assert!(!ids.iter().any(|&id| tokenizer.is_special(id)), "{name}: {text:?}");
        }
    });
}

#[test]
fn conversations_become_the_ids_of_the_reference() {
    for_each(|name, path, golden, cases| {
        let Some(template) = &golden.template else { return };
        let template = goldens::template(template).unwrap();
        let renderer = Renderer::new(Tokenizer::from_file(path).unwrap(), Some(&template)).unwrap();
        for case in &cases.conversations {
            let conversation = case.conversation();
            for (expected, generation) in golden.chats[&case.name].iter().zip([false, true]) {
                let Some(expected) = expected else { continue };
                let text = renderer.chat_text(&conversation, generation).unwrap();
                assert_eq!(renderer.tokenizer().encode(&text, Specials::Parse), *expected, "{name}: {}", case.name);
            }
            let Some(expected) = &golden.chats[&case.name][0] else { continue };
            match renderer.chat(&conversation, &ChatRules::default()) {
                Ok(rows) => {
                    if case.name != "spaces" && case.name != "empty" {
                        assert_eq!(rows[0].ids, *expected, "{name}: {}", case.name);
                    }
                    println!("{name}, {}: trained {}", case.name, rows[0].trained.iter().filter(|t| **t).count());
                }
                Err(error) => println!("{name}, {}: {error}", case.name),
            }
        }
    });
}

/// What a GGUF file says of the tokenizer in a `tokenizer.json`.
fn gguf_vocab(path: &Path, pre: &str) -> GgufVocab {
    let json: Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    let mut tokens: BTreeMap<usize, (String, i32)> = BTreeMap::new();
    let vocab = json["model"]["vocab"].as_object().unwrap();
    tokens.extend(vocab.iter().map(|(token, id)| (id.as_u64().unwrap() as usize, (token.clone(), 1))));
    for added in json["added_tokens"].as_array().unwrap() {
        let kind = match added["content"].as_str().unwrap() {
            "<unk>" => 2,
            _ if added["special"] == true => 3,
            _ => 4,
        };
        let content = added["content"].as_str().unwrap().to_owned();
        tokens.insert(added["id"].as_u64().unwrap() as usize, (content, kind));
    }
    let merge = |merge: &Value| match merge {
        Value::String(merge) => merge.clone(),
        pair => format!("{} {}", pair[0].as_str().unwrap(), pair[1].as_str().unwrap()),
    };
    let model = if pre.is_empty() { "llama" } else { "gpt2" };
    let merges: Vec<String> = json["model"]["merges"].as_array().unwrap().iter().map(merge).collect();
    // The last id too, so that ids and positions agree.
    let count = tokens.last_key_value().unwrap().0 + 1;
    let token = |id: usize| tokens.get(&id).cloned().unwrap_or_else(|| (format!("[PAD{id}]"), 5));
    let (tokens, token_types): (Vec<String>, Vec<i32>) = (0..count).map(token).unzip();
    // The merges of a converted SentencePiece vocabulary are in order of their tokens' scores.
    let mut scores = vec![f32::NEG_INFINITY; if model == "llama" { count } else { 0 }];
    for (rank, merge) in merges.iter().enumerate().filter(|_| model == "llama") {
        let id = vocab[&merge.replacen(' ', "", 1)].as_u64().unwrap() as usize;
        scores[id] = scores[id].max(-(rank as f32));
    }
    GgufVocab {
        model: model.to_owned(),
        pre: pre.to_owned(),
        merges: if model == "gpt2" { merges } else { Vec::new() },
        scores,
        add_space_prefix: json["normalizer"]["type"] == "Sequence",
        unk_id: tokens.iter().position(|token| token == "<unk>").map(|id| id as u32),
        tokens,
        token_types,
        ..GgufVocab::default()
    }
}

#[test]
fn tokenizers_built_from_gguf_metadata_give_the_same_ids() {
    for_each(|name, path, golden, cases| {
        let pre = match name {
            "qwen3" => "qwen2",
            "llama3_1" => "llama-bpe",
            "deepseek_v3" => "deepseek-v3",
            "gptoss" => "gpt-4o",
            "llama2" | "gemma3" => "",
            other => panic!("{other}"),
        };
        let tokenizer = Tokenizer::from_gguf(&gguf_vocab(path, pre)).unwrap();
        assert_texts(name, &tokenizer, golden, cases);
    });
}
