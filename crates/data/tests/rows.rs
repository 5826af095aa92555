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
    let expected = Row { line: 1, content: RowContent::Text("t".into()), id: None, group: None, label: None };
    assert_eq!((text.kind, &text.rows[..]), (RowKind::Text, &[expected][..]));
}

#[test]
fn every_bad_row_is_reported_with_its_line() {
    let text = refused(
        "{\"text\": \"fine\"}\n{\"text\": 5}\n{\"prompt\": \"a\"}\n{\"txt\": \"a\"}\n[1]\n{\"text\": \"a\"\n\
         {\"text\": \"a\", \"messages\": []}\n{\"text\": \"a\", \"text\": \"b\"}\n\
         {\"messages\": [{\"role\": \"user\", \"content\": [\"a\"]}]}\n\
         {\"messages\": [{\"role\": \"assistant\", \"content\": \"a\", \"tool_calls\": []}]}\n\
         {\"messages\": [], \"tools\": []}\n{\"completion\": \"a\"}\n{\"text\": \"a\", \"id\": 1.5}\n",
    );
    for expected in [
        ":2: column 10: field `text`: invalid type: integer `5`, expected a string",
        ":3: field `prompt` without `completion`",
        ":4: none of the fields",
        ":5: column 0: invalid type: sequence, expected a JSON object",
        ":6: column 12: EOF while parsing an object",
        ":7: fields of more than one kind of row: `messages`, `text`",
        "field `text` is given twice",
        "invalid type: sequence, expected a string",
        "unknown field `tool_calls`, expected `role` or `content`",
        "rows with tools are not supported",
        ":12: field `completion` without `prompt`",
        "expected a string or a whole number",
        "rows.jsonl: 12 bad rows",
    ] {
        assert!(text.contains(expected), "{expected:?} in:\n{text}");
    }
    assert!(!text.contains("line 1"), "the parser's own line numbers would mislead:\n{text}");
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
    assert!(refused(b"{\"text\": \"a\xFF\"}").contains(":1: not UTF-8 from byte 12 of the line"));
    let mixed = refused("\n{\"text\": \"a\"}\n{\"prompt\": \"a\", \"completion\": \"b\"}\n");
    assert!(mixed.contains(":3: a row of prompt and completion, expected text as in line 2"), "{mixed}");
    let missing = load_rows("no/such/rows.jsonl", &ReadOptions::default()).unwrap_err();
    assert!(matches!(missing, DataError::Missing { .. }));
    assert!(missing.to_string().starts_with("no/such/rows.jsonl: no such file"));
}
