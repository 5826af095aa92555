//! Ctrl-C, and a standard output that is full or that nobody reads.

use std::io::{BufRead, BufReader, PipeWriter, Read, Write};
use std::process::Child;

use super::*;
use crate::scripted::Scripted;

/// An answer that takes minutes, so that nothing here depends on how fast it comes.
const ENDLESS: [&str; 2] = ["--max-new-tokens", "200000"];

fn endless(folder: &Folder) -> String {
    Scripted { context: 1 << 18, endless: true, ..Scripted::saying(" on and") }.write(folder)
}

fn interrupt(child: &Child) {
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
}

fn spawn(arguments: &[&str]) -> Child {
    let mut command = command(arguments);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Waits for the `> ` of a talk, which says that the model is loaded and the handler set.
fn prompted(child: &mut Child) {
    let mut prompt = [0u8; 2];
    child.stderr.as_mut().unwrap().read_exact(&mut prompt).unwrap();
    assert_eq!(&prompt, b"> ");
}

#[test]
fn ctrl_c_ends_with_3() {
    let mut chat = spawn(&["chat", "--base", &gguf()]);
    prompted(&mut chat);
    interrupt(&chat);
    assert_eq!(chat.wait().unwrap().code(), Some(3));
}

#[test]
fn ctrl_c_ends_an_answer_and_the_talk_goes_on() {
    let folder = Folder::new();
    let mut chat = spawn(&["chat", "--base", &endless(&folder), ENDLESS[0], ENDLESS[1]]);
    prompted(&mut chat);
    let mut typed = chat.stdin.take().unwrap();
    let mut answer = BufReader::new(chat.stdout.take().unwrap());
    typed.write_all(b"hello\n").unwrap();
    answer.fill_buf().unwrap();
    interrupt(&chat);
    // The answer's line ends though nothing but the interruption could end it.
    let mut line = String::new();
    answer.read_line(&mut line).unwrap();
    let whole = " on and".repeat(1 + line.len() / 7);
    assert!(line.starts_with(" on") && whole.starts_with(line.trim_end()), "{line}");
    prompted(&mut chat);
    typed.write_all(b"/exit\n").unwrap();
    assert_eq!(chat.wait().unwrap().code(), Some(0));
}

#[test]
fn ctrl_c_ends_generate_with_3() {
    let folder = Folder::new();
    let mut generate = spawn(&["generate", "--base", &endless(&folder), "--prompt", "x", ENDLESS[0], ENDLESS[1]]);
    let mut answer = generate.stdout.take().unwrap();
    answer.read_exact(&mut [0u8; 1]).unwrap();
    interrupt(&generate);
    let mut rest = String::new();
    answer.read_to_string(&mut rest).unwrap();
    assert_eq!(generate.wait().unwrap().code(), Some(3));
}

/// A pipe that nobody reads any more.
fn unread() -> PipeWriter {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    writer
}

#[test]
fn a_reader_that_has_gone_ends_a_command_quietly() {
    let folder = Folder::new();
    let (base, recipe) = (endless(&folder), folder.recipe(&gguf(), &tiny("tiny_train.jsonl")));
    let train = tiny("tiny_train.jsonl");
    for arguments in [
        vec!["plan", &recipe],
        vec!["data", "show", &train, "--base", &base],
        vec!["generate", "--base", &base, "--prompt", "x", ENDLESS[0], ENDLESS[1]],
    ] {
        let output = command(&arguments).stdout(unread()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), told.as_ref()), (Some(0), ""), "{arguments:?}");
    }
}

#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_no_panic() {
    let folder = Folder::new();
    let (base, recipe) = (endless(&folder), folder.recipe(&gguf(), &tiny("tiny_train.jsonl")));
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    for arguments in [
        vec!["plan", &recipe],
        vec!["plan", &recipe, "--json"],
        vec!["generate", "--base", &base, "--prompt", "x", ENDLESS[0], ENDLESS[1]],
    ] {
        let output = command(&arguments).stdout(full()).output().unwrap();
        refused(&output, 1, &["error: cannot write to standard output: No space left on device"]);
    }
    // Nor does a full standard error end a command.
    assert_eq!(command(&["plan", &recipe]).stderr(full()).stdout(Stdio::null()).status().unwrap().code(), Some(0));
    assert_eq!(command(&["plan", "nowhere.yaml"]).stderr(full()).status().unwrap().code(), Some(2));
}
