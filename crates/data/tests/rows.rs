//! Reading files: what is the same, what is refused, and how it is told.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::path::PathBuf;

use temper_data::{DataError, ReadOptions, Row, RowContent, RowKind, load_rows};

struct File {
    _dir: tempfile::TempDir,
    path: PathBuf,
}

fn file(bytes: impl AsRef<[u8]>) -> File {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("rows.jsonl");
    std::fs::write(&path, bytes).unwrap();
    File { _dir: dir, path }
}

fn refused(bytes: impl AsRef<[u8]>) -> String {
    let file = file(bytes);
    let text = load_rows(&file.path, &ReadOptions::default()).unwrap_err().to_string();
    assert!(text.contains("rows.jsonl"), "an error names its file: {text}");
    text
}

#[test]
fn datasets_8241_byte_order_mark_line_ends_and_blank_lines_change_nothing() {
    let rows = [r#"{"prompt": "é 漢", "completion": "b\n"}"#, r#"{"prompt": "c", "completion": "d"}"#];
    let plain = load_rows(&file(format!("{}\n{}\n", rows[0], rows[1])).path, &ReadOptions::default()).unwrap().rows;
    assert_eq!(plain.len(), 2);
    let crlf = format!("\u{FEFF}{}\r\n{}\r\n", rows[0], rows[1]);
    for same in [
        format!("\u{FEFF}{}\n{}\n", rows[0], rows[1]),
        crlf,
        format!("{}\n{}", rows[0], rows[1]),
        format!("{}\n{}\n\n", rows[0], rows[1]),
        format!("{}\n{}\r\n  \r\n", rows[0], rows[1]),
    ] {
        assert_eq!(load_rows(&file(same).path, &ReadOptions::default()).unwrap().rows, plain);
    }
}

#[test]
fn the_three_kinds_and_the_fields_beside_them() {
    let loaded = load_rows(
        &file(
            r#"{"messages": [{"role": "user", "content": "a"}], "id": 7, "group": "G", "label": "L", "code": "A00"}
{"messages": [], "id": "x", "source": "S", "code": "A01", "extra": {"nested": [1]}}"#,
        )
        .path,
        &ReadOptions::default(),
    )
    .unwrap();
    assert_eq!(loaded.kind, RowKind::Messages);
    let [first, second] = &loaded.rows[..] else { panic!("two rows") };
    assert_eq!((first.line, second.line), (1, 2));
    assert_eq!(
        (first.id.as_deref(), first.group.as_deref(), first.label.as_deref()),
        (Some("7"), Some("G"), Some("L"))
    );
    assert_eq!((second.id.as_deref(), second.group.as_deref(), second.label.as_deref()), (Some("x"), Some("S"), None));
    assert_eq!(loaded.ignored_fields.into_iter().collect::<Vec<_>>(), [("code".into(), 2), ("extra".into(), 1)]);

    let text = load_rows(&file(r#"{"text": "t"}"#).path, &ReadOptions::default()).unwrap();
    let expected =
        Row { line: 1, content: RowContent::Text("t".into()), id: None, group: None, label: None, quality: None };
    assert_eq!((text.kind, &text.rows[..]), (RowKind::Text, &[expected][..]));
}

#[test]
fn every_bad_row_is_reported_with_its_line() {
    let text = refused(
        "{\"text\": \"fine\"}\n{\"text\": 5}\n{\"txt\": \"a\"}\n[1]\n{\"text\": \"a\"\n{\"text\": \"a\", \"text\": \"b\"}\n\
         {\"text\": \"a\", \"id\": 1.5}\n{\"text\": null}\n",
    );
    for expected in [
        ":2: field `text`: expected text, got a number",
        ":3: field `text` is missing",
        ":4: column 0: invalid type: sequence, expected a JSON object",
        ":5: column 12: EOF while parsing an object",
        "field `text` is given twice",
        ":7: field `id`: expected text or a whole number, got a number",
        ":8: field `text` is missing",
        "rows.jsonl: 7 bad rows",
    ] {
        assert!(text.contains(expected), "{expected:?} in:\n{text}");
    }
    assert!(!text.contains("line 1"), "the parser's own line numbers would mislead:\n{text}");
}

#[test]
fn every_bad_row_of_an_unknown_format_says_what_is_known() {
    for (row, expected) in [
        ("{\"txt\": \"a\"}", "no known format: the row has `txt`, expected one of messages"),
        ("{\"prompt\": \"a\"}", "field `prompt` without `completion`"),
        ("{\"completion\": \"a\"}", "field `completion` without `prompt`"),
        ("{\"text\": \"a\", \"messages\": []}", "fields of more than one format: `messages`, `text`"),
        (
            "{\"messages\": [{\"role\": \"user\", \"content\": 3}]}",
            "message 1: `content`: expected text or a list of parts, got a number",
        ),
        ("{\"chosen\": \"a\", \"prompt\": \"b\"}", "field `chosen` without `rejected`"),
    ] {
        let text = refused(row);
        assert!(text.contains(":1: ") && text.contains(expected), "{expected:?} in:\n{text}");
    }
}

#[test]
fn twenty_bad_rows_are_shown_and_all_are_counted() {
    let file = file("{}\n".repeat(57));
    let DataError::BadRows { problems, total, .. } = load_rows(&file.path, &ReadOptions::default()).unwrap_err() else {
        panic!("bad rows")
    };
    assert_eq!((problems.len(), total, problems[19].line), (20, 57, 20));
    assert!(refused("{}\n".repeat(57)).contains("... and 37 more"));
}

#[test]
fn files_that_cannot_be_data_have_their_own_message() {
    assert!(refused("").contains("the file has no rows"));
    assert!(refused("\u{FEFF}\n\r\n").contains("the file has no rows"));
    assert!(refused(b"{\"text\": \"a\xFF\"}").contains(":1: not UTF-8 from byte 12 of the row"));
    let mixed = refused("\n{\"text\": \"a\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    assert!(mixed.contains(":3: a row of the format `prompt_completion`, expected `text` as in line 2"), "{mixed}");
    let missing = load_rows("no/such/rows.jsonl", &ReadOptions::default()).unwrap_err();
    assert!(matches!(missing, DataError::Missing { .. }));
    assert!(missing.to_string().starts_with("no/such/rows.jsonl: no such file"));
}
