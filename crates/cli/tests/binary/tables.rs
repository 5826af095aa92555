//! Rows into tables and out of them.

use serde_json::{Value, json};

use super::*;

fn lines(rows: &[Value]) -> String {
    rows.iter().map(|row| format!("{row}\n")).collect()
}

fn rows(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Into a file of each kind and back: the rows are the same, to the byte.
fn there_and_back(format: &str, rows_in: &[Value], kinds: &[&str]) {
    let folder = Folder::new();
    let from = folder.write("rows.jsonl", lines(rows_in));
    for kind in kinds {
        let table = folder.path(&format!("table.{kind}")).display().to_string();
        done(&temper(&["data", "convert", &from, "--to", format, "-o", &table]));
        let back = done(&temper(&["data", "convert", &table, "--to", format, "--format", format]));
        assert_eq!(rows(&back), rows_in, "{format}, {kind}");
    }
}

const TEXTS: [&str; 7] = ["csv", "tsv", "csv.gz", "tsv.zst", "parquet", "jsonl.zst", "json.gz"];

#[test]
fn rows_of_texts_go_into_every_table_and_come_back() {
    let nasty = "two\nlines, \"quoted\"\tand é 漢 🙂\r\n";
    let rows = [
        json!({"prompt": nasty, "completion": " yes", "id": "7", "quality": 0.5}),
        json!({"prompt": "p", "completion": "c", "label": "x"}),
        json!({"prompt": " ", "completion": "=1+1", "group": "g"}),
    ];
    there_and_back("prompt_completion", &rows, &TEXTS);
    there_and_back("text", &[json!({"text": nasty}), json!({"text": "b"})], &TEXTS);
    there_and_back("question_answer", &[json!({"question": "q", "answer": nasty, "system": "s"})], &TEXTS);
}

#[test]
fn conversations_go_into_a_column_as_json() {
    let call =
        json!({"id": "t1", "type": "function", "function": {"name": "f", "arguments": {"b": 1, "a": {"x": null}}}});
    let tool =
        json!({"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}});
    let rows = [
        json!({"messages": [{"role": "user", "content": "é, \"q\""}, {"role": "assistant", "content": "", "tool_calls": [call]},
                            {"role": "tool", "content": "1", "tool_call_id": "t1"},
                            {"role": "assistant", "content": "", "reasoning_content": "r"}], "tools": [tool]}),
        json!({"messages": [{"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "train": false}]}),
    ];
    there_and_back("messages", &rows, &TEXTS);
    let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
    let pair =
        json!({"prompt": turn("user", "q"), "chosen": turn("assistant", "a"), "rejected": turn("assistant", "b")});
    there_and_back("preference", &[pair], &TEXTS);
    there_and_back(
        "prompt_completion",
        &[json!({"prompt": turn("user", "q"), "completion": turn("assistant", "a")})],
        &TEXTS,
    );
    there_and_back("rft", &[json!({"messages": turn("user", "q"), "reference_answer": "a", "level": "1"})], &TEXTS);
    there_and_back(
        "sharegpt",
        &[json!({"conversations": [{"from": "human", "value": "q"}, {"from": "gpt", "value": "a"}]})],
        &TEXTS,
    );
}

#[test]
fn what_a_table_would_change_is_refused_or_counted() {
    let folder = Folder::new();
    let rows = [json!({"prompt": "p", "completion": ""}), json!({"prompt": "p", "completion": "c"})];
    let from = folder.write("rows.jsonl", lines(&rows));
    let to = |name: &str| folder.path(name).display().to_string();
    let convert = |table: &str, more: &[&str]| {
        temper(&[&["data", "convert", &from, "--to", "prompt_completion", "-o", table], more].concat())
    };
    // An empty cell is no text; Parquet tells them apart.
    refused(&convert(&to("t.csv"), &[]), 2, &["rows.jsonl:1: an empty `completion` cannot be told from none"]);
    assert!(!folder.path("t.csv").exists(), "nothing is written");
    let skipped = convert(&to("t.csv"), &["--skip"]);
    refused(&skipped, 0, &["1 rows written", "left out: 1 rows, first rows [1]"]);
    assert_eq!(std::fs::read_to_string(folder.path("t.csv")).unwrap(), "prompt,completion\np,c\n");
    done(&convert(&to("t.parquet"), &[]));
    // An answer that is an object would come back as a text, and a reward may expect either.
    let task = json!({"prompt": "q", "reference_answer": {"n": 1}});
    let tasks = folder.write("tasks.jsonl", lines(&[task]));
    let output = temper(&["data", "convert", &tasks, "--to", "rft", "-o", &to("u.parquet")]);
    refused(&output, 2, &["tasks.jsonl:1: a table does not give back a row of the format `rft`"]);
    assert!(!folder.path("u.parquet").exists());
    for name in ["t.parquet.gz", "t.xlsx", "t"] {
        refused(&convert(&to(name), &[]), 2, &["cannot be written", ".parquet"]);
    }
}

/// What was given twice in a message was the last of both.
#[test]
fn a_field_that_is_given_twice_inside_of_a_row_is_refused() {
    let folder = Folder::new();
    let twice = "{\"messages\": [{\"role\": \"user\", \"content\": \"a\", \"content\": \"b\"}]}\n";
    let file = folder.write("rows.jsonl", twice);
    refused(&temper(&["data", "check", &file]), 2, &["rows.jsonl:1: ", "field `content` is given twice"]);
}
