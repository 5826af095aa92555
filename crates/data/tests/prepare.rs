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

/// trl#6668, trl#6320: truncation took every target of a row, and a loss of nothing was told as 0.
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
        let rules = RowRules { max_length, chat, wanted: temper_data::Wanted::Answers };
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

/// LlamaFactory#9600: documents were taken for conversations of an odd number of turns, and every one of them was dropped with a
/// warning. Nothing is left out for its form: it is trained, or the file is refused with its line.
#[test]
fn llama_factory_9600_no_row_is_dropped_for_its_form() {
    let documents = "{\"text\": \"hi\"}\n{\"text\": \"you hi\"}\n{\"text\": \"hi you hi\"}\n";
    let source = prepared(documents, 100, 1.0).unwrap();
    assert_eq!((source.report.rows, source.report.kept), (3, 3));
    assert!(source.report.dropped.is_empty());
    for index in 0..3 {
        assert!(source.example(index).unwrap().weights[1..].iter().all(|&weight| weight == 1.0));
    }
    // Turns of any number, the last one whosever.
    let turns = |roles: &[&str]| {
        let turns: Vec<_> = roles.iter().map(|role| serde_json::json!({"role": role, "content": "hi"})).collect();
        format!("{}\n", serde_json::json!({"messages": turns}))
    };
    let rows = [
        turns(&["system", "user", "assistant"]),
        turns(&["user", "assistant", "user"]),
        turns(&["user", "assistant", "user", "assistant"]),
    ];
    let source = prepared(&rows.concat(), 200, 1.0).unwrap();
    assert_eq!((source.report.kept, source.report.dropped.len()), (3, 0));
    assert_eq!([0, 1, 2].map(|index| source.examples.trained_tokens(index)), [2, 2, 4]);
    // What cannot be trained is no row that goes missing.
    let error = prepared(&[rows[0].clone(), turns(&["user"]), turns(&["assistant"])].concat(), 200, 1.0).unwrap_err();
    for piece in ["2 bad rows", "rows.jsonl:2: no assistant turn", "rows.jsonl:3: "] {
        assert!(error.to_string().contains(piece), "{error}");
    }
}

/// LlamaFactory#2381: turns of one role after another, and empty ones, ended the training late or took rows away. A user may speak
/// twice, and any turn be empty; the assistant may not speak twice, since nothing would predict where the second turn begins.
#[test]
fn llama_factory_2381_repeated_roles_and_empty_turns_are_trained_or_refused_with_their_line() {
    let row = |turns: &[(&str, &str)]| {
        let turns: Vec<_> =
            turns.iter().map(|(from, value)| serde_json::json!({"from": from, "value": value})).collect();
        format!("{}\n", serde_json::json!({"conversations": turns}))
    };
    let (twice, empty, unasked) = (
        row(&[("human", "hi"), ("human", "you"), ("gpt", "a")]),
        row(&[("human", "hi"), ("gpt", "")]),
        row(&[("human", ""), ("gpt", "a")]),
    );
    let source = prepared(&[twice.clone(), empty, unasked].concat(), 200, 1.0).unwrap();
    assert_eq!((source.report.rows, source.report.kept, source.report.dropped.len()), (3, 3, 0));
    // Of the empty answer its end of turn alone is a target.
    assert_eq!([0, 1, 2].map(|index| source.examples.trained_tokens(index)), [2, 1, 2]);
    let one = source.example(1).unwrap();
    assert_eq!(one.weights.iter().zip(&one.ids).find(|(weight, _)| **weight > 0.0).map(|(_, id)| *id), Some(2));
    let error = prepared(&[twice, row(&[("human", "hi"), ("gpt", "a"), ("gpt", "b")])].concat(), 200, 1.0).unwrap_err();
    assert!(error.to_string().contains("rows.jsonl:2: message 3"), "{error}");
}
