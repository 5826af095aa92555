//! The binary as a user meets it: exit codes, bad input with its own message, answers, and a whole run on a few rows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

mod answers;
mod checks;
mod faults;
mod other_tools;
mod pipes;
mod recipes;
mod scripted;
#[path = "../tiny/mod.rs"]
mod shared;
#[cfg(unix)]
mod streams;
mod tables;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use shared::{ends as refused, gguf, root, stdout};

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_temper"));
    command.args(arguments).env("NO_COLOR", "1").stdin(Stdio::null());
    command
}

fn temper(arguments: &[&str]) -> Output {
    command(arguments).output().unwrap()
}

/// Expects exit code 0 and gives standard output.
fn done(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    stdout(output)
}

/// A folder with a recipe for the tiny rows over the real model, and room for faulty files.
struct Folder(tempfile::TempDir);

const LABELS: &str = "[Neoplasm, Eye, Respiratory, Pregnancy]";

impl Folder {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> String {
        std::fs::write(self.path(name), content).unwrap();
        self.path(name).display().to_string()
    }

    /// A recipe of four LoRA steps on the tiny rows; `train` and `base` as given.
    fn recipe(&self, base: &str, train: &str) -> String {
        let tiny = root().join("data/tests").display().to_string();
        let text = format!(
            "name: tiny
base: {base}
output: {}
stages:
  - kind: sft
    train: {train}
    validation: {tiny}/tiny_validation.jsonl
    mix: {{unit: samples, domain: 75, general: [{{name: prose, path: {tiny}/tiny_prose.jsonl, share: 100}}]}}
    max_length: 256
    global_batch_size: 4
    max_steps: 4
    learning_rate: 1e-3
    lora_rank: 4
    lora_alpha: 8
    eval_steps: 2
evaluation:
  domain:
    task: classification
    validation: {tiny}/tiny_validation.jsonl
    test: {tiny}/tiny_test.jsonl
    labels: {LABELS}
  general:
    - {{name: heldout, kind: text_loss, path: {tiny}/tiny_heldout.jsonl}}
    - {{name: wordnet, kind: multiple_choice, path: {tiny}/tiny_mc.jsonl}}
    - {{name: chat, kind: chat_kl, path: {tiny}/tiny_chat_prompts.jsonl, max_new_tokens: 4}}
    - {{name: instructions, kind: instruction_following, path: {tiny}/tiny_instructions.jsonl, max_new_tokens: 4}}
  floors:
    heldout: {{max_increase_percent: 2}}
",
            self.path("run").display()
        );
        self.write("recipe.yaml", text)
    }
}

fn tiny(name: &str) -> String {
    root().join("data/tests").join(name).display().to_string()
}
