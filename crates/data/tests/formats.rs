//! Every format, in and out, and every kind of file.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};
use temper_data::{
    DataError, Format, LoadedRows, Passage, Preference, ReadOptions, Row, RowContent, RowKind, expand, load_rows,
    parse_rows, read_rows,
};
use temper_text::{Conversation, Message};

fn parse(name: &str, bytes: impl AsRef<[u8]>) -> Result<LoadedRows, DataError> {
    parse_rows(Path::new(name), bytes.as_ref(), &ReadOptions::default())
}

fn row(value: &Value) -> Row {
    let loaded = parse("rows.jsonl", value.to_string()).unwrap_or_else(|error| panic!("{value}: {error}"));
    loaded.rows.into_iter().next().unwrap()
}

fn format(value: &Value) -> Format {
    parse("rows.jsonl", value.to_string()).unwrap().format
}

fn conversation(row: &Row) -> &Conversation {
    match &row.content {
        RowContent::Messages(conversation) => conversation,
        other => panic!("a conversation: {other:?}"),
    }
}

fn turns(row: &Row) -> Vec<(&str, &str)> {
    conversation(row).messages.iter().map(|m| (m.role.as_str(), m.content.as_str())).collect()
}

fn weather() -> Value {
    json!({"type": "function", "function": {"name": "weather", "description": "Now.",
           "parameters": {"type": "object", "properties": {"town": {"type": "string"}}}}})
}

/// One conversation with all that a conversation can have, in each format that holds it.
#[test]
fn a_conversation_is_the_same_in_every_format_that_can_hold_it() {
    let messages = json!({"messages": [
        {"role": "system", "content": "S"},
        {"role": "user", "content": "Is it warm in Bern?"},
        {"role": "assistant", "content": "", "tool_calls": [
            {"id": "t1", "type": "function", "function": {"name": "weather", "arguments": {"town": "Bern"}}}]},
        {"role": "tool", "content": "21", "tool_call_id": "t1"},
        {"role": "assistant", "content": "Yes.", "reasoning_content": "21 is warm."},
    ], "tools": [weather()]});
    let converse = json!({"schemaVersion": "bedrock-conversation-2024", "system": [{"text": "S"}], "messages": [
        {"role": "user", "content": [{"text": "Is it warm "}, {"text": "in Bern?"}]},
        {"role": "assistant", "content": [{"toolUse": {"toolUseId": "t1", "name": "weather", "input": {"town": "Bern"}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "t1", "content": [{"text": "21"}]}}]},
        {"role": "assistant", "content": [{"reasoningContent": {"reasoningText": {"text": "21 is warm."}}}, {"text": "Yes."}]},
    ], "toolConfig": {"tools": [{"toolSpec": {"name": "weather", "description": "Now.",
        "inputSchema": {"json": {"type": "object", "properties": {"town": {"type": "string"}}}}}}]}});
    assert_eq!((format(&messages), format(&converse)), (Format::Messages, Format::Converse));
    let expected = row(&messages);
    assert_eq!(row(&converse), expected);
    assert_eq!(conversation(&expected).messages[4].reasoning.as_deref(), Some("21 is warm."));

    // Out and in again.
    for target in [Format::Messages, Format::Converse] {
        let (written, lost) = target.write(&expected).unwrap();
        assert_eq!((row(&Value::from(written)), lost), (expected.clone(), vec![]), "{target}");
    }
    // ShareGPT has neither ids nor reasoning, and says so.
    let (written, lost) = Format::Sharegpt.write(&expected).unwrap();
    assert_eq!(lost, ["ids and names of tool calls", "ids and names of tool calls", "reasoning"]);
    let back = row(&Value::from(written));
    assert_eq!(turns(&back), turns(&expected));
    assert_eq!(conversation(&back).tools, conversation(&expected).tools);
    // What cannot hold it at all refuses.
    for target in [Format::Alpaca, Format::QuestionAnswer, Format::Preference, Format::Text] {
        let error = target.write(&expected).unwrap_err();
        assert!(error.contains("cannot be written as"), "{error}");
    }
}

#[test]
fn plain_questions_and_answers_in_their_five_formats() {
    let expected = [("user", "Q"), ("assistant", "A")];
    let rows = [
        (
            Format::Messages,
            json!({"messages": [{"role": "user", "content": "Q"}, {"role": "assistant", "content": "A"}]}),
        ),
        (Format::Sharegpt, json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]})),
        (Format::Alpaca, json!({"instruction": "Q", "input": "", "output": "A"})),
        (Format::QuestionAnswer, json!({"question": "Q", "answer": "A"})),
        (
            Format::PromptCompletion,
            json!({"prompt": [{"role": "user", "content": "Q"}], "completion": [{"role": "assistant", "content": "A"}]}),
        ),
        (
            Format::Converse,
            json!({"messages": [{"role": "user", "content": [{"text": "Q"}]}, {"role": "assistant", "content": [{"text": "A"}]}]}),
        ),
    ];
    for (name, value) in &rows {
        assert_eq!(format(value), *name);
        assert_eq!(turns(&row(value)), expected, "{name}");
        for (target, _) in &rows {
            let (written, lost) = target.write(&row(value)).unwrap();
            assert_eq!((turns(&row(&Value::from(written))), lost.len()), (expected.to_vec(), 0), "{name} -> {target}");
        }
    }
    let long = json!({"instruction": "I", "input": "in", "output": "A", "system": "S", "history": [["q", "a"]]});
    let all = [("system", "S"), ("user", "q"), ("assistant", "a"), ("user", "I\nin"), ("assistant", "A")];
    assert_eq!(turns(&row(&long)), all);
    let (again, _) = Format::Alpaca.write(&row(&long)).unwrap();
    assert_eq!(turns(&row(&Value::from(again))), all);
    let error = Format::QuestionAnswer.write(&row(&long)).unwrap_err();
    assert!(error.contains("one question and its answer"), "{error}");
}

#[test]
fn roles_of_sharegpt_and_which_turns_are_trained() {
    let value = json!({"system": "S", "conversations": [
        {"from": "human", "value": "Q", "weight": null}, {"from": "gpt", "value": "A", "weight": 0},
        {"from": "user", "value": "R"}, {"from": "function_call", "value": "{\"name\": \"f\", \"arguments\": {\"x\": 1}}"},
        {"from": "observation", "value": "1"}, {"from": "model", "value": "B"},
    ]});
    let row = row(&value);
    assert_eq!(
        turns(&row),
        [
            ("system", "S"),
            ("user", "Q"),
            ("assistant", "A"),
            ("user", "R"),
            ("assistant", ""),
            ("tool", "1"),
            ("assistant", "B")
        ]
    );
    assert_eq!(conversation(&row).messages[2].train, Some(false));
    assert_eq!(conversation(&row).messages[4].tool_calls[0].name, "f");
    let error =
        parse("rows.jsonl", json!({"conversations": [{"from": "narrator", "value": "Q"}]}).to_string()).unwrap_err();
    assert!(error.to_string().contains("turn 1: `from` is `narrator`, expected human, gpt"), "{error}");
}

#[test]
fn preference_pairs_of_trl_sharegpt_and_nova() {
    let pair = |value: &Value| match row(value).content {
        RowContent::Preference(pair) => pair,
        other => panic!("a pair: {other:?}"),
    };
    let turns = |turns: &[(&str, &str)]| {
        Passage::Messages(turns.iter().map(|(role, text)| Message::new(*role, *text)).collect())
    };
    let text = pair(&json!({"prompt": "Q", "chosen": "A", "rejected": "B"}));
    assert_eq!(
        (text.prompt, text.chosen, text.rejected),
        (Passage::Text("Q".into()), Passage::Text("A".into()), Passage::Text("B".into()))
    );

    let user = json!({"role": "user", "content": "Q"});
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let nova = json!({"schemaVersion": "bedrock-conversation-2024", "messages": [
        {"role": "user", "content": [{"text": "Q"}]},
        {"role": "assistant", "candidates": [
            {"content": [{"text": "B"}], "preferenceLabel": "non-preferred"}, {"content": [{"text": "A"}], "preferenceLabel": "preferred"}]},
    ]});
    for value in [
        json!({"prompt": [user], "chosen": [answer("A")], "rejected": [answer("B")]}),
        json!({"chosen": [user, answer("A")], "rejected": [user, answer("B")]}),
        json!({"prompt": [user], "chosen": [user, answer("A")], "rejected": [user, answer("B")]}),
        json!({"prompt": "Q", "chosen": [user, answer("A")], "rejected": [user, answer("B")]}),
        json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"}, "rejected": {"from": "gpt", "value": "B"}}),
        nova,
    ] {
        assert_eq!(format(&value), Format::Preference);
        let read = pair(&value);
        assert_eq!(read.prompt, turns(&[("user", "Q")]), "{value}");
        assert_eq!(
            (&read.chosen, &read.rejected),
            (&turns(&[("assistant", "A")]), &turns(&[("assistant", "B")])),
            "{value}"
        );
        for target in [Format::Preference, Format::Converse] {
            let (written, lost) = target.write(&row(&value)).unwrap();
            assert_eq!((pair(&Value::from(written)), lost.len()), (read.clone(), 0));
        }
    }
    for (value, why) in [
        (json!({"prompt": "Q", "chosen": "A", "rejected": "A"}), "are the same"),
        (json!({"chosen": "A", "rejected": "B"}), "field `prompt` is missing"),
        (json!({"prompt": "Q", "chosen": "A", "rejected": [answer("B")]}), "expected both of one form"),
        (json!({"chosen": [user], "rejected": [user, answer("B")]}), "field `chosen`: nothing follows the prompt"),
    ] {
        let error = parse("rows.jsonl", value.to_string()).unwrap_err().to_string();
        assert!(error.contains(why), "{value}: {error}");
    }
}

#[test]
fn rft_rows_keep_every_field_for_the_reward() {
    let value = json!({"id": "r1", "messages": [{"role": "user", "content": "2+2?"}], "reference_answer": {"n": 4}, "level": [1], "z": null});
    let read = row(&value);
    let RowContent::Task(task) = &read.content else { panic!("a task") };
    assert_eq!((read.id.as_deref(), &task.reference_answer), (Some("r1"), &json!({"n": 4})));
    assert_eq!(Value::from(task.extra.clone()), json!({"level": [1], "z": null}));
    let (written, lost) = Format::Rft.write(&read).unwrap();
    assert_eq!((row(&Value::from(written)), lost.len()), (read, 0));
    let ends = json!({"messages": [{"role": "assistant", "content": "4"}], "reference_answer": "4"});
    let error = parse("rows.jsonl", ends.to_string()).unwrap_err().to_string();
    assert!(error.contains("ends with an assistant turn"), "{error}");
}

#[test]
fn a_named_format_wins_over_what_the_fields_tell_and_columns_give_names() {
    let text = r#"{"question": "Q", "answer": "A", "text": "T", "body": "B"}"#;
    let error = parse("rows.jsonl", text).unwrap_err().to_string();
    assert!(error.contains("more than one format: `question_answer`, `text`"), "{error}");
    let options = ReadOptions { format: Some(Format::QuestionAnswer), ..ReadOptions::default() };
    let loaded = parse_rows(Path::new("rows.jsonl"), text.as_bytes(), &options).unwrap();
    assert_eq!(
        (loaded.kind, loaded.ignored_fields),
        (RowKind::Messages, [("text".to_owned(), 1), ("body".to_owned(), 1)].into())
    );

    let columns: BTreeMap<String, String> = [("text".to_owned(), "body".to_owned())].into();
    let options = ReadOptions { format: Some(Format::Text), columns, ..ReadOptions::default() };
    let error = parse_rows(Path::new("rows.jsonl"), text.as_bytes(), &options).unwrap_err().to_string();
    assert!(error.contains("field `text` is there, and `columns` says that `body` is meant"), "{error}");
    let loaded = parse_rows(Path::new("rows.csv"), b"body,id\n\"a\nb\",7\n", &options).unwrap();
    assert_eq!((&loaded.rows[0].content, loaded.rows[0].id.as_deref()), (&RowContent::Text("a\nb".into()), Some("7")));
    let missing = parse_rows(Path::new("rows.csv"), b"txt\na\n", &options).unwrap_err().to_string();
    assert!(missing.contains("rows.csv:2: field `body` is missing, which `columns` names"), "{missing}");
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

const LINES: &str =
    "{\"question\": \"Q\", \"answer\": \"a, \\\"b\\\"\\n{[\"}\n{\"question\": \"R\", \"answer\": \"é 漢\"}\n";

/// datasets#8241 and its kind: the same rows, whatever they lie in.
#[test]
fn the_same_rows_in_every_kind_of_file() {
    let contents = |loaded: LoadedRows| loaded.rows.into_iter().map(|row| row.content).collect::<Vec<_>>();
    let expected = contents(parse("rows.jsonl", LINES).unwrap());
    let list = format!("\u{FEFF} [\n{},\r\n {}]\n", LINES.lines().next().unwrap(), LINES.lines().nth(1).unwrap());
    let csv = "\u{FEFF}question,answer\r\nQ,\"a, \"\"b\"\"\n{[\"\r\nR,é 漢\r\n";
    let tsv = "question\tanswer\nQ\t\"a, \"\"b\"\"\n{[\"\nR\té 漢";
    let zst = zstd::encode_all(LINES.as_bytes(), 1).unwrap();
    let halves: Vec<u8> = LINES.split_inclusive('\n').flat_map(|line| gzip(line.as_bytes())).collect();
    for (name, bytes) in [
        ("rows.json", list.clone().into_bytes()),
        ("rows.json", LINES.as_bytes().to_vec()),
        ("rows.dat", list.into_bytes()),
        ("rows", LINES.as_bytes().to_vec()),
        ("rows.csv", csv.as_bytes().to_vec()),
        ("rows.tsv", tsv.as_bytes().to_vec()),
        ("rows.csv.gz", gzip(csv.as_bytes())),
        ("rows.jsonl.gz", gzip(LINES.as_bytes())),
        ("rows.jsonl.gz", halves),
        ("rows.jsonl.zst", zst),
    ] {
        assert_eq!(contents(parse(name, bytes).unwrap_or_else(|error| panic!("{name}: {error}"))), expected, "{name}");
    }
}

#[test]
fn files_that_are_cut_off_or_no_rows_are_refused_with_their_place() {
    let packed = gzip(LINES.as_bytes());
    for (name, bytes, why) in [
        ("rows.jsonl.gz", packed[..packed.len() / 2].to_vec(), "cannot read"),
        (
            "rows.json",
            b"[{\"text\": \"a\"}, {\"text\": ".to_vec(),
            "the list does not end: the file seems to be cut off",
        ),
        ("rows.json", b"[{\"text\": \"a\"},\n {\"text\": \"b\"}".to_vec(), "the list does not end"),
        ("rows.json", b"[{\"text\": \"a\"}\n {\"text\": \"b\"}]".to_vec(), "line 2: unexpected '{'"),
        ("rows.json", b"{\"text\": \"a\"} x".to_vec(), "line 1: unexpected 'x'"),
        ("rows.csv", b"text,id\na\n".to_vec(), "rows.csv:2: 1 cells, expected 2 as in the first line"),
        ("rows.csv", b"text,text\na,b\n".to_vec(), "two columns are named `text`"),
        ("rows.csv", b"text\na\n\"b\"\"\nc\n".to_vec(), "line 3: the file ends inside of quotes"),
        ("rows.tsv", b"\"text".to_vec(), "line 1: the file ends inside of quotes"),
        ("rows.csv", b"text\na\xFF\n".to_vec(), "rows.csv:2: not UTF-8 in cell 1"),
        ("rows.parquet", b"PAR1 nothing".to_vec(), "rows.parquet: "),
        ("rows.arrow", b"ARROW1 nothing".to_vec(), "rows.arrow: "),
        ("rows.bin", b"\x00\x01".to_vec(), "neither its name nor its first bytes tell"),
        ("rows.txt", b"a\nb\xFF".to_vec(), "rows.txt:2: not UTF-8"),
        ("rows.jsonl", b"\xFF\xFE{\0".to_vec(), "it is in UTF-16, expected UTF-8"),
        ("rows.csv", b"\xFE\xFF\0t".to_vec(), "it is in UTF-16, expected UTF-8"),
    ] {
        let error = parse(name, bytes).unwrap_err().to_string();
        assert!(error.contains(why), "{name}: {error}");
    }
}

/// What stands in the middle of a cell is no quote, and one that is closed at the end of the file is closed.
#[test]
fn quotes_of_a_table_that_are_none_end_nothing() {
    let loaded = parse("rows.csv", "text,id\n5\" pipe,1\n\"a\"b\",2\n\"\"\"\",3\n\"c\",\"4\"").unwrap();
    let texts: Vec<_> = loaded.rows.iter().map(|row| &row.content).collect();
    assert_eq!(
        texts,
        ["5\" pipe", "ab\"", "\"", "c"].map(|text| RowContent::Text(text.into())).iter().collect::<Vec<_>>()
    );
}

#[test]
fn plain_files_are_documents() {
    let loaded = parse("notes.md", "\u{FEFF}# A\r\n\r\nb\r\n").unwrap();
    assert_eq!((loaded.kind, &loaded.rows[0].content), (RowKind::Text, &RowContent::Text("# A\n\nb\n".into())));
    assert!(parse("blank.txt", " \n\n").unwrap_err().to_string().contains("the file has no rows"));
}

/// A file of 4 MiB was several documents, each with an end of its own.
#[test]
fn a_text_file_of_many_mebibytes_is_one_document() {
    let text = format!("{}\n\n", "word ".repeat(2000)).repeat(1500);
    for (name, bytes) in [("book.txt", text.clone().into_bytes()), ("book.md.gz", gzip(text.as_bytes()))] {
        let loaded = parse(name, bytes).unwrap();
        assert_eq!(loaded.rows.len(), 1, "{name}");
        assert!(loaded.rows[0].content == RowContent::Text(text.clone()), "{name}");
    }
}

#[test]
fn parquet_and_arrow_of_other_tools() {
    // Written by pyarrow and `datasets`, see the script beside them.
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables");
    let expected = load_rows(folder.join("chat.jsonl"), &ReadOptions::default()).unwrap();
    for name in ["chat.parquet", "chat-zstd.parquet", "chat.feather", "chat-stream.arrow"] {
        let loaded =
            load_rows(folder.join(name), &ReadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let contents = |loaded: &LoadedRows| {
            loaded.rows.iter().map(|row| (row.id.clone(), row.content.clone())).collect::<Vec<_>>()
        };
        assert_eq!(contents(&loaded), contents(&expected), "{name}");
    }
}

/// A column of days or prices refused the file, also where nothing read it.
#[test]
fn what_json_has_no_value_for_comes_from_tables_as_text() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables");
    for name in ["typed.parquet", "typed.feather"] {
        let loaded =
            load_rows(folder.join(name), &ReadOptions::default()).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (written, lost) = Format::Rft.write(&loaded.rows[0]).unwrap();
        assert!(lost.is_empty());
        let expected = json!({
            "prompt": "é 漢", "reference_answer": "a", "price": "12345678901234567890.50", "day": "2024-02-29",
            "time": "13:04:05.678", "at": "2024-02-29T13:04:05.678", "utc": "2024-02-29T13:04:05.678Z"});
        for (field, value) in expected.as_object().unwrap() {
            let found = if field == "prompt" { &written["messages"][0]["content"] } else { &written[field] };
            assert_eq!(found, value, "{name}: {field}");
        }
        let (written, _) = Format::Rft.write(&loaded.rows[1]).unwrap();
        assert_eq!((&written["price"], &written["at"]), (&json!("-0.05"), &json!("1969-07-20T00:00:00")), "{name}");
    }
}

#[test]
fn folders_and_patterns_stand_for_their_files() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("sub")).unwrap();
    for name in ["b.jsonl", "a.jsonl", "sub/c.jsonl.gz", "README", ".hidden.jsonl", "weights.bin"] {
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let names = |path: &Path| -> Vec<String> {
        let strip = |file: &Path| file.strip_prefix(folder.path()).unwrap().to_string_lossy().into_owned();
        expand(path).unwrap().files.iter().map(|file| strip(file)).collect()
    };
    assert_eq!(names(folder.path()), ["a.jsonl", "b.jsonl", "sub/c.jsonl.gz"]);
    assert_eq!(names(&folder.path().join("*.jsonl")), ["a.jsonl", "b.jsonl"]);
    assert_eq!(names(&folder.path().join("**/*.gz")), ["sub/c.jsonl.gz"]);
    assert_eq!(expand(Path::new("no/such.jsonl")).unwrap().files, [Path::new("no/such.jsonl")]);
    let passed = expand(folder.path()).unwrap().passed;
    assert_eq!(passed, ["README", "weights.bin"].map(|name| folder.path().join(name)));
    assert!(expand(&folder.path().join("*.csv")).unwrap_err().to_string().contains("no file fits this pattern"));
    std::fs::create_dir(folder.path().join("empty")).unwrap();
    assert!(
        expand(&folder.path().join("empty")).unwrap_err().to_string().contains("no file in this folder holds rows")
    );
}

/// Data sets of the hub have a README, and `save_to_disk` of `datasets` writes JSON beside its Arrow files.
#[test]
fn what_is_about_rows_is_not_read_as_rows() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["README.md", "LICENSE.txt", "notes.md", "train/data-0.arrow", "train/state.json", "dataset_dict.json"]
    {
        std::fs::create_dir_all(folder.path().join(name).parent().unwrap()).unwrap();
        std::fs::write(folder.path().join(name), "x").unwrap();
    }
    let paths = |names: &[&str]| names.iter().map(|name| folder.path().join(name)).collect::<Vec<_>>();
    let found = expand(folder.path()).unwrap();
    assert_eq!(found.files, paths(&["notes.md", "train/data-0.arrow"]));
    assert_eq!(found.passed, paths(&["LICENSE.txt", "README.md", "dataset_dict.json", "train/state.json"]));
    // Among documents a README is one.
    std::fs::remove_dir_all(folder.path().join("train")).unwrap();
    assert_eq!(expand(folder.path()).unwrap().files, paths(&["LICENSE.txt", "README.md", "notes.md"]));
}

#[test]
fn tables_of_spreadsheets_are_parted_by_what_their_first_line_has() {
    for text in ["question;answer\nQ;a,b\n", "question\tanswer\nQ\ta,b\n", "\"question\",answer\nQ,\"a,b\"\n"] {
        let loaded = parse("rows.csv", text).unwrap_or_else(|error| panic!("{text}: {error}"));
        assert_eq!(turns(&loaded.rows[0]), [("user", "Q"), ("assistant", "a,b")], "{text}");
    }
    let loaded = parse("rows.csv", "text\na;b\n").unwrap();
    assert_eq!(loaded.rows[0].content, RowContent::Text("a;b".into()));
}

/// A table keeps lists of turns, tools and earlier pairs as JSON in a text. RFT prompts, preference pairs and pairs of prompt and
/// completion became the JSON itself, as plain text; ShareGPT, Converse and Nova's candidates were refused as something else.
#[test]
fn rows_whose_lists_are_json_in_a_text_are_the_same_rows() {
    let user = json!({"role": "user", "content": "Q"});
    let answer = |text: &str| json!({"role": "assistant", "content": text});
    let block = |role: &str, text: &str| json!({"role": role, "content": [{"text": text}]});
    let candidate = |text: &str, label: &str| json!({"content": [{"text": text}], "preferenceLabel": label});
    for value in [
        json!({"messages": [user, answer("A")], "tools": [weather()]}),
        json!({"conversations": [{"from": "human", "value": "Q"}, {"from": "gpt", "value": "A"}]}),
        json!({"system": [{"text": "S"}], "messages": [block("user", "Q"), block("assistant", "A")],
            "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}]}}),
        json!({"messages": [block("user", "Q"),
            {"role": "assistant", "candidates": [candidate("A", "preferred"), candidate("B", "non-preferred")]}]}),
        json!({"instruction": "Q", "output": "A", "history": [["q", "a"]]}),
        json!({"prompt": [user], "completion": [answer("A")], "tools": [weather()]}),
        json!({"prompt": [user], "chosen": [answer("A")], "rejected": [answer("B")], "tools": [weather()]}),
        json!({"prompt": "Q", "chosen": [user, answer("A")], "rejected": [user, answer("B")]}),
        json!({"conversations": [{"from": "human", "value": "Q"}], "chosen": {"from": "gpt", "value": "A"},
            "rejected": {"from": "gpt", "value": "B"}}),
        json!({"messages": [user], "reference_answer": "4", "tools": [weather()]}),
        json!({"prompt": [user], "reference_answer": "4", "level": 3}),
    ] {
        let folded = value.as_object().unwrap().iter().map(|(name, value)| match value {
            Value::Array(_) | Value::Object(_) => (name.clone(), Value::from(value.to_string())),
            _ => (name.clone(), value.clone()),
        });
        let folded = Value::Object(folded.collect());
        assert_eq!((format(&folded), row(&folded)), (format(&value), row(&value)), "{value}");
    }
    // What is JSON, and not turns on every side, is text.
    let turns = json!([user]).to_string();
    for value in [
        json!({"prompt": "Q", "completion": turns}),
        json!({"prompt": turns, "completion": "A"}),
        json!({"prompt": "Q", "chosen": turns, "rejected": "B"}),
        json!({"prompt": "Q", "completion": "[{\"a\": 1}]"}),
        json!({"prompt": "[]", "completion": "[1, 2]"}),
    ] {
        let prompt = match row(&value).content {
            RowContent::Completion { prompt, .. } => prompt,
            RowContent::Preference(Preference { prompt: Passage::Text(prompt), .. }) => prompt,
            other => panic!("texts: {other:?}"),
        };
        assert_eq!(Value::from(prompt), value["prompt"]);
    }
    for (value, why) in [
        (json!({"messages": "[{\"role\": \"user\", \"role\": \"system\"}]"}), "field `role` is given twice"),
        (json!({"messages": "[{'role': 'user', 'content': 'Q'}]"}), "a list as Python prints it"),
        (
            json!({"prompt": "[{'role': 'user', 'content': 'Q'}]", "reference_answer": "4"}),
            "a list as Python prints it",
        ),
        (json!({"messages": "Q", "reference_answer": "4"}), "expected a list of messages, got text"),
        (json!({"messages": [user, answer("A")], "tools": "[{"}), "field `tools`: a text that is no JSON"),
        (json!({"messages": [user, answer("A")], "tools": "none"}), "expected a list of tools, got text"),
    ] {
        let error = parse("rows.jsonl", value.to_string()).unwrap_err().to_string();
        assert!(error.contains(why), "{value}: {error}");
    }
}

/// A task became a prompt without a word of its answer and its other fields, and pairs of texts could not become chats.
#[test]
fn what_becomes_a_conversation_says_what_it_loses() {
    let cases = [
        (json!({"prompt": "Q", "completion": "A"}), vec![]),
        (json!({"prompt": "Q", "chosen": "A", "rejected": "B"}), vec!["field `rejected`"]),
        (
            json!({"prompt": [{"role": "user", "content": "Q"}], "chosen": [{"role": "assistant", "content": "A"}],
                "rejected": [{"role": "assistant", "content": "B"}]}),
            vec!["field `rejected`"],
        ),
        (json!({"prompt": "Q", "reference_answer": "A", "level": 3}), vec!["field `level`"]),
    ];
    for (value, expected) in cases {
        let read = row(&value);
        for target in [Format::Messages, Format::Sharegpt, Format::Converse, Format::Alpaca, Format::QuestionAnswer] {
            if target == Format::Converse && matches!(read.content, RowContent::Preference(_)) {
                continue;
            }
            let (written, lost) = target.write(&read).unwrap_or_else(|why| panic!("{value}: {why}"));
            assert_eq!(lost, expected, "{value} -> {target}");
            assert_eq!(turns(&row(&Value::from(written))), [("user", "Q"), ("assistant", "A")], "{value} -> {target}");
        }
        let (written, _) = Format::PromptCompletion.write(&read).unwrap();
        assert!(written.contains_key("completion"), "{value}");
    }
    let task = row(&json!({"prompt": "Q", "reference_answer": {"n": 1}}));
    assert_eq!(Format::Messages.write(&task).unwrap().1, ["field `reference_answer`"]);
    let error = Format::Messages.write(&row(&json!({"text": "T"}))).unwrap_err();
    assert!(error.contains("a document has no turns"), "{error}");
}

/// A stream of rows is handed on in parts, in order, and a bad row far down stops what follows but hides nothing.
#[test]
fn rows_come_in_parts_and_the_last_line_is_checked_too() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rows.jsonl");
    let long = "x".repeat(1000);
    let text: String = (0..20_000).map(|i| format!("{{\"text\": \"{i} {long}\"}}\n")).collect();
    std::fs::write(&path, &text).unwrap();
    let (mut parts, mut lines) = (0, 0);
    let file = read_rows(&path, &ReadOptions::default(), &mut |rows| {
        parts += 1;
        for row in rows {
            lines += 1;
            assert_eq!(row.line, lines);
        }
        Ok::<_, DataError>(())
    })
    .unwrap();
    assert_eq!((file.rows, lines), (20_000, 20_000));
    assert!(parts > 3, "{parts}");
    std::fs::write(&path, format!("{text}{{\"text\": 1}}\n")).unwrap();
    let error = load_rows(&path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(error.contains(":20001: field `text`: expected text, got a number"), "{error}");
}

/// Found by fuzzing: a tool without parameters came back with an empty schema, two turns of the user as one, and a flag of the
/// completion was lost.
#[test]
fn what_is_written_and_read_again_is_the_same() {
    for value in [
        json!({"messages": [{"role": "user", "content": [{"text": "a"}]}, {"role": "user", "content": [{"text": "b"}]},
            {"role": "assistant", "content": [{"toolUse": {"name": "f", "input": {}}}]},
            {"role": "user", "content": [{"toolResult": {"content": [{"json": {}}]}}, {"text": "c"}]},
            {"role": "user", "content": [{"text": "d"}]}, {"role": "assistant", "content": []}],
            "toolConfig": {"tools": [{"toolSpec": {"name": "f"}}, {"toolSpec": {"name": "g", "inputSchema": {"json": {}}}}]}}),
        json!({"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
            "completion": [{"role": "assistant", "content": "d", "train": true}]}),
    ] {
        let (read, format) = (row(&value), format(&value));
        let (written, lost) = format.write(&read).unwrap();
        assert_eq!((row(&Value::from(written)).content, lost.len()), (read.content, 0), "{value}");
    }
}

#[test]
fn what_says_nothing_to_the_model_is_counted_by_its_place() {
    let value = json!({"messages": [
        {"role": "user", "content": [{"text": "a"}, {"cachePoint": {"type": "default"}}]},
        {"role": "assistant", "content": [
            {"reasoningContent": {"reasoningText": {"text": "r", "signature": "s"}}}, {"toolUse": {"toolUseId": "1", "name": "f", "input": {}}}]},
        {"role": "user", "content": [{"toolResult": {"toolUseId": "1", "content": [{"text": "1"}], "status": "error"}}]},
        {"role": "assistant", "content": [{"text": "b"}]}],
        "toolConfig": {"tools": [{"toolSpec": {"name": "f", "strict": true}}], "toolChoice": {"auto": {}}}});
    let loaded = parse("rows.jsonl", format!("{value}\n{value}")).unwrap();
    let expected =
        ["cachePoint", "reasoningText.signature", "toolConfig.toolChoice", "toolResult.status", "toolSpec.strict"];
    assert_eq!(loaded.ignored_fields, expected.map(|name| (name.to_owned(), 2)).into());
}
