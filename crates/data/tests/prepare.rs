//! Rows to examples: what is kept, what is left out and counted, what is refused.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

#[path = "../../text/tests/toy/mod.rs"]
mod toy;

use temper_data::{DataError, DropReason, Dropped, LoadedRows, ReadOptions, RowRules, Source, load_rows, prepare};
use temper_text::{ChatRules, GgufVocab, Renderer, Tokenizer, Turns};

fn load(rows: &str) -> LoadedRows {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    std::fs::write(&path, rows).unwrap();
    load_rows(&path, &ReadOptions::default()).unwrap()
}

fn prepared(rows: &str, max_length: usize, weight: f32) -> Result<Source, DataError> {
    prepare(&load(rows), &toy::renderer(toy::CHATML), max_length, "domain", weight)
}

fn chat(answer: &str) -> String {
    format!(
        r#"{{"messages": [{{"role": "user", "content": "hi"}}, {{"role": "assistant", "content": "{answer}"}}]}}{}"#,
        "\n"
    )
}

/// verl#3287: prompt, then answer: exactly the answer and its end carry weight.
#[test]
fn verl_3287_the_answer_and_its_end_carry_the_weight() {
    let source = prepared("{\"prompt\": \"hi\", \"completion\": \"78\"}", 100, 0.5).unwrap();
    let renderer = toy::renderer(toy::CHATML);
    let id = |token: &str| renderer.tokenizer().id(token).unwrap();
    let example = source.example(0).unwrap();
    assert_eq!(example.ids, [id("hi"), id("7"), id("8"), 2]);
    assert_eq!(example.weights, [0.0, 0.5, 0.5, 0.5]);
    assert_eq!(example.row, 1);
}

#[test]
fn rows_that_are_too_long_are_left_out_whole_and_counted() {
    let long = "y".repeat(60);
    let text = [chat("a"), chat(&long), chat("bb"), chat(&long), chat(&long)].concat();
    let all = prepared(&text, usize::MAX, 1.0).unwrap();
    let longest = all.report.lengths.max;
    assert_eq!(all.report.kept, 5);
    let source = prepared(&text, longest - 1, 1.0).unwrap();
    assert_eq!((source.report.rows, source.report.kept, source.examples.len()), (5, 2, 2));
    let too_long = Dropped { count: 3, tokens: 3 * longest, first_lines: vec![2, 4, 5] };
    assert_eq!(source.report.dropped.clone().into_iter().collect::<Vec<_>>(), [(DropReason::TooLong, too_long)]);
    // What is kept is as it was: nothing is truncated.
    let rows = |source: &Source| (0..source.examples.len()).map(|i| source.example(i).unwrap()).collect::<Vec<_>>();
    let every = rows(&all);
    assert_eq!(rows(&source), [every[0].clone(), every[2].clone()]);
    let processed: usize = rows(&source).iter().map(|example| example.ids.len()).sum();
    assert_eq!(source.report.processed_tokens, processed);
    // Two answers of one and two characters, each with its end of turn.
    assert_eq!(source.report.trained_tokens, 2 + 3);
    assert_eq!(source.report.lengths, all.report.lengths);
    assert_eq!(source.report.lengths.p50, longest);
    assert_eq!(prepared(&text, longest, 1.0).unwrap().report.kept, 5);
}

#[test]
fn trl_6668_rows_without_a_target_never_reach_training() {
    // No context and no text: the only token is the first, which nothing predicts.
    let rows = "{\"prompt\": \"\", \"completion\": \"\"}\n{\"prompt\": \"hi\", \"completion\": \"\"}\n";
    let source = prepared(rows, 100, 1.0).unwrap();
    let no_target = Dropped { count: 1, tokens: 1, first_lines: vec![1] };
    assert_eq!(source.report.dropped.into_iter().collect::<Vec<_>>(), [(DropReason::NoTarget, no_target)]);
    assert!((0..source.examples.len()).all(|index| source.examples.trained_tokens(index) > 0));

    let error = prepared(&[chat("a"), chat("b")].concat(), 10, 1.0).unwrap_err();
    let text = error.to_string();
    let lengths = prepared(&[chat("a"), chat("b")].concat(), 1000, 1.0).unwrap().report.lengths;
    assert!(text.contains("none of the 2 rows is left: 2 longer than the maximum length (10)"), "{text}");
    assert!(text.contains(&format!("minimum {0}, median {0}, maximum {0}", lengths.max)), "{text}");
    assert!(text.contains("hint: raise the maximum length from 10"), "{text}");
}

/// liquid-finetune#37: a mask of nothing but zeros, and a training that taught nothing.
#[test]
fn liquid_finetune_37_a_file_that_trains_nothing_is_refused() {
    let row =
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b", "train": false}]}"#;
    let error = prepared(&format!("{row}\n{row}\n"), 100, 1.0).unwrap_err().to_string();
    assert!(error.contains("none of the 2 rows is left: 2 "), "{error}");
}

#[test]
fn characters_without_a_token_are_counted_and_broken_conversations_refused() {
    let rows = "{\"text\": \"a\\u0004\"}\n{\"text\": \"b\"}\n";
    let source = prepared(rows, 100, 1.0).unwrap();
    let dropped = Dropped { count: 1, tokens: 0, first_lines: vec![1] };
    assert_eq!(source.report.dropped.into_iter().collect::<Vec<_>>(), [(DropReason::Unencodable, dropped)]);

    let rows = [
        chat("fine"),
        r#"{"messages": [{"role": "user", "content": "a"}]}"#.to_owned() + "\n",
        r#"{"messages": [{"role": "user", "content": "a"}, {"role": "judge", "content": "b"}, {"role": "assistant", "content": "c"}]}"#.to_owned() + "\n",
    ]
    .concat();
    let text = prepared(&rows, 100, 1.0).unwrap_err().to_string();
    assert!(text.contains("rows.jsonl:2: no assistant turn"), "{text}");
    assert!(text.contains("rows.jsonl:3: message 2: role `judge` is not supported"), "{text}");
    assert!(text.contains("2 bad rows"), "{text}");
}

#[test]
fn weights_and_templates_that_cannot_work_are_refused() {
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY] {
        let error = prepared(&chat("a"), 100, weight).unwrap_err();
        assert!(matches!(error, DataError::LossWeight { .. }), "{error}");
    }
    let broken = toy::renderer("{% for m in messages %}");
    let error = prepare(&load(&chat("a")), &broken, 100, "domain", 1.0).unwrap_err();
    assert!(matches!(error, DataError::Template { .. }), "{error}");
    assert!(prepare(&load("{\"text\": \"a\"}"), &broken, 100, "domain", 1.0).is_ok());
}

#[test]
fn reports_are_plain_json() {
    let source = prepared(&[chat("a"), chat(&"y".repeat(60))].concat(), 40, 1.0).unwrap();
    let json = serde_json::to_value(&source.report).unwrap();
    assert_eq!(json["kind"], "messages");
    assert_eq!(json["dropped"]["too_long"], serde_json::json!({"count": 1, "tokens": 96, "first_lines": [2]}));
    assert_eq!(json["lengths"]["max"], source.report.lengths.max);
}

/// trl#5075, trl#4554: only plain text is ever split, nothing is lost by it, and every token is trained once.
#[test]
fn trl_5075_a_long_document_is_trained_in_parts_and_loses_nothing() {
    let text = "hi you ".repeat(40);
    let row = format!("{{\"text\": \"{text}\"}}\n{{\"text\": \"hi\"}}\n");
    let whole = prepared(&row, usize::MAX, 1.0).unwrap();
    let ids = whole.example(0).unwrap().ids;
    for max_length in [2, 3, 7, 50, ids.len() - 1] {
        let source = prepared(&row, max_length.max(3), 1.0).unwrap();
        let parts: Vec<_> =
            (0..source.examples.len()).map(|i| source.example(i).unwrap()).filter(|part| part.row == 1).collect();
        assert!(parts.iter().all(|part| part.ids.len() <= max_length.max(3) && part.weights[0] == 0.0));
        // Each part begins with the last token of the one before it, which is context there.
        let mut again = parts[0].ids.clone();
        parts[1..].iter().for_each(|part| again.extend(&part.ids[1..]));
        assert_eq!(again, ids);
        let report = &source.report;
        assert_eq!((report.rows, report.kept, report.split.documents, report.split.parts), (2, 2, 1, parts.len()));
        // Tokens in: trained, context, dropped.
        assert_eq!(report.trained_tokens, whole.report.trained_tokens);
        assert_eq!(report.processed_tokens, whole.report.processed_tokens + parts.len() - 1);
    }
    // A conversation is never split.
    let long = prepared(&[chat("a"), chat(&"y".repeat(60))].concat(), 40, 1.0).unwrap();
    assert_eq!(
        (long.report.kept, long.report.split.documents, long.report.dropped[&DropReason::TooLong].count),
        (1, 0, 1)
    );
}

/// OpenRLHF#1080: a turn for each row where the recipe says so; what is too long of them is counted.
#[test]
fn openrlhf_1080_each_turn_can_be_a_row_of_its_own() {
    let row = r#"{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "a"},
        {"role": "user", "content": "hi"}, {"role": "assistant", "content": "bb"}]}"#
        .replace('\n', " ");
    let chat = ChatRules { turns: Turns::Apart, ..ChatRules::default() };
    let prepared = |max_length: usize| {
        let rules = RowRules { max_length, chat, pairs: Some(false) };
        prepare(&load(&row), &toy::renderer(toy::CHATML), rules, "domain", 1.0)
    };
    let source = prepared(1000).unwrap();
    assert_eq!(source.examples.len(), 2);
    let [first, second] = [0, 1].map(|index| source.example(index).unwrap());
    assert_eq!(second.ids[..first.ids.len()], first.ids);
    assert_eq!([&first, &second].map(|example| example.trained_tokens()), [2, 3]);
    let apart = source.report.turns_apart;
    assert_eq!((source.report.kept, apart.conversations, apart.turns, apart.too_long), (1, 1, 2, 0));
    let short = prepared(first.ids.len()).unwrap();
    assert_eq!((short.examples.len(), short.report.turns_apart.too_long), (1, 1));
    assert!(matches!(prepared(first.ids.len() - 1), Err(DataError::NothingLeft { .. })));
}

/// trl#6357: where the padding token is the end token, masking by its id removed the real end.
#[test]
fn trl_6357_the_end_token_is_a_target_though_it_is_the_padding_token_too() {
    let vocab = GgufVocab { pad_id: Some(2), ..toy::vocab(Some(toy::CHATML)) };
    let renderer = Renderer::new(Tokenizer::from_gguf(&vocab).unwrap(), None).unwrap();
    assert_eq!((renderer.tokenizer().pad(), renderer.eos()), (Some(2), 2));
    let rows = [chat("a"), "{\"messages\": [{\"role\": \"user\", \"content\": \"hi\"}, {\"role\": \"assistant\", \"content\": \"long answer\"}]}\n".to_owned()].concat();
    let source = prepare(&load(&rows), &renderer, 100, "domain", 1.0).unwrap();
    for index in 0..2 {
        let example = source.example(index).unwrap();
        let last = example.weights.iter().rposition(|&weight| weight > 0.0).unwrap();
        assert_eq!(example.ids[last], 2);
    }
}
