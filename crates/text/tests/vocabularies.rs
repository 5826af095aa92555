//! Tokenizers of published models, against ids of the reference library (`tests/golden/chat`, whose README says how they
//! were made).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod goldens;

use std::collections::BTreeMap;
use std::path::Path;

use goldens::Cases;
use serde::Deserialize;
use serde_json::Value;
use temper_text::{ChatRules, Conversation, GgufVocab, RenderError, Renderer, Specials, Tokenizer, Turns};

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
        }
    });
}

/// Whatever the template: each trained turn's row starts with the ids of its prompt, what follows is what the template prints
/// there up to the end of turn, all of it is trained, and nothing else is. The whole is encoded as `transformers` encodes it,
/// unless an answer starts with a space that would melt into the prompt.
#[test]
fn what_is_trained_is_what_the_template_prints_after_the_prompt() {
    let apart = ChatRules { turns: Turns::Apart, ..ChatRules::default() };
    let mut rows_checked = BTreeMap::new();
    for_each(|name, path, golden, cases| {
        let Some(template) = &golden.template else { return };
        let template = goldens::template(template).unwrap();
        let renderer = Renderer::new(Tokenizer::from_file(path).unwrap(), Some(&template)).unwrap();
        if let Err(error) = renderer.check_trainable() {
            // DeepSeek's prompt opens a thought that its turns do not have.
            assert!(
                name == "deepseek_v3" && error.to_string().contains("goes on with \"<think>\\n\""),
                "{name}: {error}"
            );
            return;
        }
        let end = renderer.tokenizer().token(renderer.end_of_turn()).unwrap();
        for case in &cases.conversations {
            let conversation = case.conversation();
            let turns: Vec<usize> = (0..conversation.messages.len())
                .filter(|&index| conversation.messages[index].role == "assistant")
                .collect();
            let rows = match renderer.chat(&conversation, &apart) {
                Ok(rows) => rows,
                Err(error) => {
                    assert_refused_for_a_reason(name, case, &golden.chats[&case.name][0], &error);
                    continue;
                }
            };
            assert_eq!(rows.len(), turns.len());
            for (&turn, row) in turns.iter().zip(&rows) {
                let before = Conversation { messages: conversation.messages[..turn].to_vec(), ..conversation.clone() };
                let whole = Conversation { messages: conversation.messages[..=turn].to_vec(), ..conversation.clone() };
                let prompt = renderer.prompt(&before).unwrap();
                assert_eq!(row.ids[..prompt.len()], prompt, "{name}, {}", case.name);
                let trained = row.trained.iter().filter(|trained| **trained).count();
                assert!(row.trained[prompt.len()..prompt.len() + trained].iter().all(|trained| *trained));
                let text = renderer.chat_text(&whole, false).unwrap();
                let written = &text[renderer.chat_text(&before, true).unwrap().len()..];
                let written = &written[..written.find(&end).unwrap() + end.len()];
                let ids = &row.ids[prompt.len()..prompt.len() + trained];
                assert_eq!(renderer.tokenizer().decode_continuation(ids, false), written, "{name}, {}", case.name);
                if !written.starts_with(char::is_whitespace) {
                    assert_eq!(row.ids, renderer.tokenizer().encode(&text, Specials::Parse), "{name}, {}", case.name);
                }
                *rows_checked.entry(name.to_owned()).or_insert(0) += 1;
            }
        }
    });
    if goldens::fetched().is_some() {
        assert!(rows_checked.len() == 4 && rows_checked.values().all(|&rows| rows >= 14), "{rows_checked:?}");
    }
}

/// Refused is only what the template refuses, what it would lose, and what has nothing to train.
fn assert_refused_for_a_reason(name: &str, case: &goldens::Case, text: &Option<Vec<u32>>, error: &RenderError) {
    let reason = match error {
        RenderError::Template(_) => text.is_none(),
        RenderError::NoAssistantTurn => case.name == "prompt",
        RenderError::ToolDropped { .. } | RenderError::CallDropped { .. } => matches!(name, "gemma3" | "llama2"),
        // Llama 3.1 prints calls without their content; Qwen3 knows no developer.
        RenderError::ContentChanged { .. } => {
            (name, case.name.as_str()) == ("llama3_1", "call with content")
                || (name, case.name.as_str()) == ("qwen3", "developer")
        }
        _ => false,
    };
    assert!(reason, "{name}, {}: {error}", case.name);
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
