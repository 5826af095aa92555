//! The tokenizer of the real model, built from GGUF metadata, against ids of the reference library
//! (`tests/golden/smollm2`, whose README says how they were made).

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::{Path, PathBuf};

use serde_json::Value;
use temper_model::{Checkpoint, gguf_vocab};
use temper_text::{ChatRules, Message, Renderer, Specials, Tokenizer};

fn tokenizer() -> Tokenizer {
    let path: PathBuf = std::env::var_os("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF is not set: run these tests with `cargo xtask test`, which fetches the model")
        .into();
    let vocab = Checkpoint::open(&path).unwrap().gguf_vocab().unwrap().expect("a GGUF file has a vocabulary");
    Tokenizer::from_gguf(&vocab).unwrap()
}

fn golden(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/smollm2").join(name);
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().expect("a list")
}

#[test]
fn text_becomes_the_ids_of_the_reference() {
    let tokenizer = tokenizer();
    let (reference, cases) = (golden("smollm2_ref.json"), golden("chat_cases.json"));
    let cases: Vec<&Value> = list(&reference["tokenizer_cases"]).iter().chain(list(&cases["texts"])).collect();
    assert_eq!(cases.len(), 4 + 16);
    for case in cases {
        let text = case["text"].as_str().unwrap();
        let encoded = tokenizer.encode(text, Specials::Parse);
        assert_eq!(encoded, ids(&case["ids"]), "{text:?}");
        assert_eq!(tokenizer.decode(&encoded, false), text);
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, Specials::AsText), false), text);
    }
    for prompt in ["plain", "chat"] {
        let text = reference[prompt]["text"].as_str().unwrap();
        assert_eq!(tokenizer.encode(text, Specials::Parse), ids(&reference[prompt]["input_ids"]));
    }
    let greedy = &reference["greedy_chat"];
    assert_eq!(tokenizer.decode(&ids(&greedy["new_ids"]), false), greedy["text"].as_str().unwrap());
    for top in list(&reference["plain"]["top5"]) {
        assert_eq!(tokenizer.id(top[1].as_str().unwrap()), top[0].as_u64().map(|id| id as u32));
    }
}

/// Gemma 3's vocabulary as a GGUF file carries it, without merges and with runs of spaces that it defines, against the ids of
/// its `tokenizer.json`. Of the file only the first part is fetched, in which the vocabulary lies.
#[test]
fn gemmas_gguf_gives_the_ids_of_its_tokenizer_json() {
    let folder = std::env::var_os("TEMPER_TEST_TOKENIZERS").expect(
        "TEMPER_TEST_TOKENIZERS is not set: run these tests with `cargo xtask test`, which fetches tokenizers, or set it to \
         `none` to leave them out",
    );
    if folder == "none" {
        return;
    }
    let folder = PathBuf::from(folder);
    let vocab = gguf_vocab(&folder.join("gemma/gemma-3-270m-q4_k_m.gguf.part00")).unwrap();
    assert_eq!((vocab.model.as_str(), vocab.tokens.len(), vocab.merges.len()), ("llama", 262_144, 0));
    let (tokenizer, own) = (
        Tokenizer::from_gguf(&vocab).unwrap(),
        Tokenizer::from_file(folder.join("tokenizers/gemma3/tokenizer.json")).unwrap(),
    );
    let golden = |name: &str| -> Value {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/chat").join(name);
        serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    };
    let (cases, expected) = (golden("cases.json"), golden("ids.json"));
    let expected = list(&expected["tokenizers"]["gemma3"]["texts"]);
    assert_eq!((list(&cases["texts"]).len(), expected.len()), (22, 22));
    for (text, expected) in list(&cases["texts"]).iter().zip(expected) {
        let text = text.as_str().unwrap();
        let encoded = tokenizer.encode(text, Specials::Parse);
        assert_eq!(encoded, ids(expected), "{text:?}");
        assert_eq!(tokenizer.decode(&encoded, false), own.decode(&encoded, false), "{text:?}");
    }
    // Runs of spaces of every length, alone, in a text and written as SentencePiece writes them.
    for count in 1..70 {
        for text in [" ".repeat(count), format!("a{}b", " ".repeat(count)), format!("a {}\n", "\u{2581}".repeat(count))]
        {
            assert_eq!(tokenizer.encode(&text, Specials::AsText), own.encode(&text, Specials::AsText), "{text:?}");
        }
    }
}

#[test]
fn special_tokens_are_those_of_the_file() {
    let tokenizer = tokenizer();
    assert_eq!(tokenizer.vocab_size(), 49152);
    assert_eq!(
        (tokenizer.bos(), tokenizer.eos(), tokenizer.unk(), tokenizer.pad()),
        (Some(1), Some(2), Some(0), Some(2))
    );
    assert!(!tokenizer.add_bos());
    assert_eq!((0..49152).filter(|&id| tokenizer.is_special(id)).collect::<Vec<_>>(), (0..17).collect::<Vec<_>>());
    let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/smollm2/chat_template.jinja");
    assert_eq!(tokenizer.chat_template(), Some(std::fs::read_to_string(template).unwrap().as_str()));
    // Six control characters and the lead bytes of planes 4 to 11 have no token: the reference drops them silently.
    assert_eq!(tokenizer.unencodable("ok \u{4}"), Some((3, '\u{4}')));
    assert_eq!(tokenizer.unencodable("\u{50000}"), Some((0, '\u{50000}')));
    assert_eq!(tokenizer.unencodable("\u{0}\u{7f}é漢🙂\u{fffd}"), None);
}

#[test]
fn conversations_become_the_ids_of_the_reference() {
    let renderer = Renderer::new(tokenizer(), None).unwrap();
    let chat = |messages: &[Message]| renderer.chat(messages, &ChatRules::default()).unwrap().remove(0);
    let reference = golden("smollm2_ref.json");
    let france = Message::new("user", "What is the capital of France?");
    assert_eq!(renderer.prompt(std::slice::from_ref(&france)).unwrap(), ids(&reference["chat"]["input_ids"]));
    let answered = chat(&[france, Message::new("assistant", "The capital of France is Paris.")]);
    let trained: Vec<u32> =
        answered.ids.iter().zip(&answered.trained).filter(|(_, trained)| **trained).map(|(id, _)| *id).collect();
    // What the model itself says, end of turn included, is what is trained.
    assert_eq!(trained, ids(&reference["greedy_chat"]["new_ids"]));

    let cases = golden("chat_cases.json");
    for case in list(&cases["chats"]) {
        let messages: Vec<Message> = serde_json::from_value(case["messages"].clone()).unwrap();
        let rendered = chat(&messages);
        assert_eq!(rendered.ids, ids(&case["ids"]), "{}", case["text"]);
        let prompt = renderer.prompt(&messages[..messages.len() - 1]).unwrap();
        assert_eq!(prompt, ids(&case["prompt_ids"]));
        assert_eq!(rendered.ids[..prompt.len()], prompt);
    }
    assert_eq!((renderer.end_of_turn(), renderer.document_boundary(), renderer.stop_ids()), (2, 0, vec![0, 2]));
}

#[test]
fn a_saved_tokenizer_reads_back_with_the_same_ids() {
    let tokenizer = tokenizer();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let back = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    for case in list(&golden("chat_cases.json")["texts"]) {
        let text = case["text"].as_str().unwrap();
        assert_eq!(back.encode(text, Specials::Parse), ids(&case["ids"]));
    }
    assert_eq!((back.bos(), back.eos(), back.add_bos()), (Some(1), Some(2), false));
    assert_eq!(back.chat_template(), tokenizer.chat_template());
}
