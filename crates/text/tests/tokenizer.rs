//! The tokenizer on a vocabulary made for the test. Equality with the reference library on a real vocabulary is tested
//! where the model is read, in `crates/model/tests/tokenizer.rs`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod toy;

use temper_text::{GgufVocab, Specials, Tokenizer, TokenizerError};

fn toy() -> Tokenizer {
    Tokenizer::from_gguf(&toy::vocab(Some(toy::CHATML))).unwrap()
}

#[test]
fn text_that_spells_a_control_token_stays_text() {
    let tokenizer = toy();
    let text = "hi<|im_end|>";
    let parsed = tokenizer.encode(text, Specials::Parse);
    assert_eq!(parsed, [tokenizer.id("hi").unwrap(), 2]);
    let plain = tokenizer.encode(text, Specials::AsText);
    assert!(!plain.contains(&2) && plain.len() > 5, "{plain:?}");
    assert_eq!(tokenizer.decode(&plain, false), text);
    assert_eq!(tokenizer.decode(&parsed, true), "hi");
}

#[test]
fn openrlhf_393_no_begin_token_is_added_by_encoding() {
    let tokenizer = Tokenizer::from_gguf(&GgufVocab { add_bos: true, ..toy::vocab(None) }).unwrap();
    assert!(tokenizer.add_bos());
    let ids = tokenizer.encode("hi", Specials::Parse);
    assert_eq!(ids, [tokenizer.id("hi").unwrap()]);
}

#[test]
fn digits_are_split_one_by_one_and_text_returns_unchanged() {
    let tokenizer = toy();
    assert_eq!(tokenizer.encode("123", Specials::AsText).len(), 3);
    for text in ["", " ", "  a\n\n\tb ", "é漢字🙂 1,000.50%", "you hi\r\nuser"] {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, Specials::AsText), false), text);
    }
}

/// A million spaces: the pattern's engine gives up silently beyond a limit of backtracking, which would change ids.
#[test]
fn long_runs_of_whitespace_are_encoded_like_short_ones() {
    let tokenizer = toy();
    let text = format!("hi{} you", " ".repeat(1_000_000));
    let ids = tokenizer.encode(&text, Specials::AsText);
    let space = tokenizer.id("Ġ").unwrap();
    assert_eq!(ids.len(), 1_000_002);
    assert!(ids[1..1_000_001].iter().all(|&id| id == space));
    assert_eq!(ids.last(), tokenizer.id("Ġyou").as_ref());
}

#[test]
fn characters_without_a_token_are_named_with_their_place() {
    let tokenizer = toy();
    assert_eq!(tokenizer.unencodable("é\u{4}x"), Some((2, '\u{4}')));
    assert_eq!(tokenizer.unencodable("é x 漢\u{5}"), None);
}

#[test]
fn tokens_are_shown_as_people_read_them() {
    let tokenizer = toy();
    let shown = |token: &str| tokenizer.token(tokenizer.id(token).unwrap()).unwrap();
    assert_eq!(shown("Ġyou"), " you");
    assert_eq!(shown("ĊĊ"), "\n\n");
    assert_eq!(shown("æ"), "<0xE6>");
    assert_eq!(shown("<|im_end|>"), "<|im_end|>");
    assert_eq!(tokenizer.vocab_size(), 4 + 255 + 9);
    assert_eq!(tokenizer.token(268), None);
    assert_eq!(tokenizer.decode(&[tokenizer.id("hi").unwrap(), 9999], false), "hi\u{FFFD}");
}

#[test]
fn a_saved_tokenizer_reads_back_the_same() {
    let tokenizer = toy();
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let back = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    let text = "hi<|im_end|>\n\n you 42 é";
    assert_eq!(back.encode(text, Specials::Parse), tokenizer.encode(text, Specials::Parse));
    assert_eq!(back.encode(text, Specials::AsText), tokenizer.encode(text, Specials::AsText));
    assert_eq!((back.bos(), back.eos(), back.unk(), back.pad()), (Some(1), Some(2), Some(0), Some(2)));
    assert!(!back.add_bos());
    assert_eq!(back.chat_template(), Some(toy::CHATML));
}

/// A `tokenizer.json` whose post-processor adds a begin token: it is not added, and remembered as what the model expects.
#[test]
fn a_post_processor_that_adds_a_begin_token_is_read_as_add_bos() {
    let dir = tempfile::tempdir().unwrap();
    toy().save(dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    json["post_processor"] = serde_json::json!({"type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [3], "tokens": ["<s>"]}}});
    std::fs::write(&path, json.to_string()).unwrap();
    std::fs::write(dir.path().join("tokenizer_config.json"), r#"{"eos_token": {"content": "<|im_end|>"}}"#).unwrap();
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    assert!(tokenizer.add_bos());
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(3), Some(2)));
    assert_eq!(tokenizer.encode("hi", Specials::Parse).len(), 1);
}

/// Some chat models declare their end of turn an ordinary added token; what the configuration names is special all the same.
#[test]
fn tokens_that_the_configuration_names_are_special() {
    let dir = tempfile::tempdir().unwrap();
    toy().save(dir.path()).unwrap();
    let path = dir.path().join("tokenizer.json");
    let mut json: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
    for token in json["added_tokens"].as_array_mut().unwrap() {
        token["special"] = false.into();
    }
    std::fs::write(&path, json.to_string()).unwrap();
    let config = r#"{"eos_token": "<|im_end|>", "additional_special_tokens": ["<|im_start|>"],
        "chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]}"#;
    std::fs::write(dir.path().join("tokenizer_config.json"), config).unwrap();
    let tokenizer = Tokenizer::from_file(&path).unwrap();
    assert_eq!((0..4).filter(|&id| tokenizer.is_special(id)).collect::<Vec<_>>(), [1, 2]);
    assert!(!tokenizer.encode("<|im_start|>hi<|im_end|>", Specials::AsText).iter().any(|id| [1, 2].contains(id)));
    assert_eq!(tokenizer.chat_template(), Some("b"));
}

#[test]
fn what_is_not_supported_is_refused_by_name() {
    let refused = |vocab: GgufVocab| Tokenizer::from_gguf(&vocab).unwrap_err().to_string();
    let base = || toy::vocab(None);
    assert!(refused(GgufVocab { model: "bert".into(), ..base() }).contains("`bert` is not supported"));
    assert!(refused(GgufVocab { pre: "default".into(), ..base() }).contains("`default` is not supported"));
    assert!(refused(GgufVocab { token_types: vec![1], ..base() }).contains("has 1 entries, expected 268"));
    assert!(refused(GgufVocab { eos_id: Some(268), ..base() }).contains("eos_token_id is 268, expected less than 268"));
    let mut twice = base();
    twice.tokens[7] = twice.tokens[6].clone();
    assert!(refused(twice).contains("tokens 6 and 7 are the same"));
    let mut merge = base();
    merge.merges[0] = "xy".into();
    assert!(refused(merge).contains("no space"));

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("tokenizer.json");
    assert!(matches!(Tokenizer::from_file(&path), Err(TokenizerError::Read { .. })));
    std::fs::write(&path, r#"{"model": {"type": "WordPiece"}}"#).unwrap();
    let error = Tokenizer::from_file(&path).unwrap_err().to_string();
    assert!(error.contains("tokenizer.json") && error.contains("model WordPiece"), "{error}");
    let refused = |part: &str, value: serde_json::Value| {
        let mut json: serde_json::Value = serde_json::from_str(toy().json()).unwrap();
        json[part] = value;
        std::fs::write(&path, json.to_string()).unwrap();
        Tokenizer::from_file(&path).unwrap_err().to_string()
    };
    let lowercase = serde_json::json!({"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]});
    assert!(refused("normalizer", lowercase).contains("normalizer Lowercase is not supported"));
    let whitespace = serde_json::json!({"type": "Sequence",
        "pretokenizers": [{"type": "WhitespaceSplit"}, {"type": "ByteLevel", "add_prefix_space": false}]});
    assert!(refused("pre_tokenizer", whitespace).contains("pre-tokenizer WhitespaceSplit is not supported"));
    let none = refused("pre_tokenizer", serde_json::Value::Null);
    assert!(none.contains("BPE with neither byte-level pre-tokenizer nor byte fallback"), "{none}");
}

#[test]
fn a_vocabulary_whose_text_can_forge_a_control_token_is_refused() {
    let mut vocab = toy::vocab(None);
    vocab.tokens.push("hier".into());
    vocab.token_types.push(3);
    vocab.merges.push("hi er".into());
    let error = Tokenizer::from_gguf(&vocab).unwrap_err().to_string();
    assert!(error.contains("\"hier\" can be spelt by ordinary text"), "{error}");
}

#[test]
fn sentencepiece_writes_a_space_before_text_and_none_before_what_continues_it() {
    let tokenizer = Tokenizer::from_gguf(&toy::sentence_piece(&[])).unwrap();
    let id = |token: &str| tokenizer.id(token).unwrap();
    assert_eq!(tokenizer.encode("hi", Specials::AsText), [id("▁hi")]);
    assert_eq!(tokenizer.encode_continuation("hi"), [id("hi")]);
    assert_eq!(tokenizer.encode_continuation(" hi"), [id("▁hi")]);
    // After a special token a text starts anew, as in the reference library.
    assert_eq!(tokenizer.encode("<s>hi</s>hi", Specials::Parse), [1, id("▁hi"), 2, id("▁hi")]);
    assert_eq!(tokenizer.decode(&[id("▁hi"), id("▁hi")], false), "hi hi");
    assert_eq!(tokenizer.decode_continuation(&[id("▁hi"), id("▁hi")], false), " hi hi");
    assert_eq!(tokenizer.token(id("▁hi")).unwrap(), " hi");
    // What has no token is spelt by bytes.
    assert_eq!(tokenizer.encode_continuation("漢"), [id("<0xE6>"), id("<0xBC>"), id("<0xA2>")]);
    assert_eq!((tokenizer.token(id("<0xE6>")).unwrap().as_str(), tokenizer.unencodable("漢 é")), ("<0xE6>", None));
    let lacking = Tokenizer::from_gguf(&toy::sentence_piece(&[0xE6, 0xC3, 0x20])).unwrap();
    assert_eq!(lacking.unencodable(" é漢"), Some((3, '漢')));
    // It is saved and read back, with what it expects of a sequence.
    let dir = tempfile::tempdir().unwrap();
    tokenizer.save(dir.path()).unwrap();
    let back = Tokenizer::from_file(dir.path().join("tokenizer.json")).unwrap();
    assert_eq!(back.encode("hi  é漢", Specials::AsText), tokenizer.encode("hi  é漢", Specials::AsText));
    assert!(tokenizer.add_bos() && back.add_bos() && back.bos() == Some(1));
    assert!(matches!(
        Tokenizer::from_gguf(&GgufVocab { scores: vec![0.0], ..toy::sentence_piece(&[]) }),
        Err(TokenizerError::Invalid(what)) if what.contains("scores has 1 entries")
    ));
}

/// What was made with a tokenizer is found again by the hash of its JSON: two readings of one vocabulary are the same text.
#[test]
fn the_json_of_a_gguf_vocabulary_is_the_same_every_time() {
    for vocab in [toy::vocab(None), toy::sentence_piece(&[])] {
        let [one, other] = [0, 1].map(|_| Tokenizer::from_gguf(&vocab).unwrap());
        assert_eq!(one.json(), other.json());
    }
}
