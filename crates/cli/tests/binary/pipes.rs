//! Rows from the standard input and from named pipes.

use std::io::Write;
use std::time::Duration;

use super::*;

const ROWS: &str = "{\"question\":\"Q\",\"answer\":\"a, b\"}\n{\"question\":\"R\",\"answer\":\"é 漢\"}\n";

/// Runs with `bytes` on the standard input, of which the first comes long before the others.
fn fed(arguments: &[&str], bytes: &[u8]) -> Output {
    let mut child = command(arguments);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let (mut pipe, bytes) = (child.stdin.take().unwrap(), bytes.to_vec());
    let writer = std::thread::spawn(move || slowly(&mut pipe, &bytes));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}

/// That nobody reads on is for the reader to say.
fn slowly(pipe: &mut impl Write, bytes: &[u8]) {
    let (first, rest) = bytes.split_at(1);
    let _ = pipe.write_all(first);
    std::thread::sleep(Duration::from_millis(100));
    let _ = pipe.write_all(rest);
}

const CONVERT: [&str; 5] = ["data", "convert", "-", "--to", "question_answer"];

#[test]
fn the_standard_input_is_any_kind_of_file_that_can_be_read_once() {
    let folder = Folder::new();
    let from = folder.write("rows.jsonl", ROWS);
    for kind in ["jsonl", "json", "csv", "tsv", "jsonl.gz", "csv.zst", "json.zst", "tsv.gz"] {
        let file = folder.path(&format!("rows.{kind}")).display().to_string();
        if kind != "jsonl" {
            done(&temper(&["data", "convert", &from, "--to", "question_answer", "-o", &file]));
        }
        let bytes = std::fs::read(&file).unwrap();
        let ending = kind.split('.').next().unwrap();
        assert_eq!(done(&fed(&[&CONVERT[..], &["--ending", ending]].concat(), &bytes)), ROWS, "{kind}");
        if ending.starts_with("json") {
            assert_eq!(done(&fed(&CONVERT, &bytes)), ROWS, "{kind} by its first bytes");
        } else if !kind.contains('.') {
            let said = ["-: neither its name nor its first bytes tell what it holds", "hint: `--ending csv` says it"];
            refused(&fed(&CONVERT, &bytes), 2, &said);
        }
    }
    // Some spreadsheets part cells by semicolons, which the first line tells, be it read in pieces.
    let parted =
        fed(&[&CONVERT[..], &["--ending", ".CSV"]].concat(), b"question;answer\nQ;\"a, b\"\nR;\xC3\xA9 \xE6\xBC\xA2\n");
    assert_eq!(done(&parted), ROWS);
    let text = done(&fed(&["data", "convert", "-", "--to", "text", "--ending", "md"], b"# A\n\nb\n"));
    assert_eq!(text, "{\"text\":\"# A\\n\\nb\\n\"}\n");
    refused(&temper(&["data", "check", "-", "--ending", "xlsx"]), 2, &["expected one of .jsonl, "]);
    refused(&fed(&["data", "check", "-"], b"\n"), 2, &["-: the file has no rows"]);
}

#[test]
fn tables_of_columns_come_from_a_pipe_as_streams_alone() {
    let tables = root().join("crates/data/tests/tables");
    let read = |name: &str| std::fs::read(tables.join(name)).unwrap();
    let to = |from: &str| done(&temper(&["data", "convert", from, "--to", "messages"]));
    let expected = to(&tables.join("chat-stream.arrow").display().to_string());
    let messages = ["data", "convert", "-", "--to", "messages"];
    assert_eq!(done(&fed(&messages, &read("chat-stream.arrow"))), expected);
    for name in ["chat.parquet", "chat.feather"] {
        refused(
            &fed(&messages, &read(name)),
            2,
            &["-: Parquet and Feather say at their end", "hint: write it to a file"],
        );
    }
}

/// A pipe was opened twice, and its first bytes were lost.
#[cfg(unix)]
#[test]
fn a_named_pipe_gives_its_first_bytes_too_and_is_refused_where_it_would_be_read_twice() {
    let folder = Folder::new();
    let pipe = folder.path("rows.csv");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let name = pipe.display().to_string();
    let recipe = folder.recipe(&gguf(), &name);
    refused(
        &temper(&["plan", &recipe]),
        2,
        &["rows.csv: it is no regular file", "hint: write what it gives to a file"],
    );
    let writer = std::thread::spawn(move || {
        let mut pipe = std::fs::File::options().write(true).open(pipe).unwrap();
        slowly(&mut pipe, "question,answer\nQ,\"a, b\"\nR,é 漢\n".as_bytes());
    });
    assert_eq!(done(&temper(&["data", "convert", &name, "--to", "question_answer"])), ROWS);
    writer.join().unwrap();
}
