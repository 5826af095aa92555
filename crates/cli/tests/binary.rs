//! The binary as a user meets it: exit codes, bad input with its own message, the real model's answers, and a whole run
//! on a few rows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..").canonicalize().unwrap()
}

fn gguf() -> String {
    std::env::var("TEMPER_TEST_GGUF")
        .expect("TEMPER_TEST_GGUF names the test model: run `cargo xtask test`, which fetches it")
}

fn temper(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_temper")).args(arguments).env("NO_COLOR", "1").output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

/// Expects the exit code and that standard error holds every piece.
fn refused(output: &Output, code: i32, pieces: &[&str]) {
    let text = String::from_utf8(output.stderr.clone()).unwrap();
    assert_eq!(output.status.code(), Some(code), "{text}");
    for piece in pieces {
        assert!(text.contains(piece), "`{piece}` is not in:\n{text}");
    }
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

#[test]
fn a_whole_run_on_a_few_rows() {
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let plan = temper(&["plan", &recipe]);
    assert_eq!(plan.status.code(), Some(0), "{}", String::from_utf8_lossy(&plan.stderr));
    for piece in ["stages.0.learning_rate", "default: ", "recipe, line", "mix, by samples", "trained parameters"] {
        assert!(stdout(&plan).contains(piece), "`{piece}` is not in the plan");
    }
    let run = temper(&["run", &recipe]);
    assert!(matches!(run.status.code(), Some(0 | 4)), "{}", String::from_utf8_lossy(&run.stderr));
    for piece in ["heldout", "relative loss", "macro f1", "verdict: ", "run folder"] {
        assert!(stdout(&run).contains(piece), "`{piece}` is not in:\n{}", stdout(&run));
    }
    let at = |name: &str| folder.path("run").join(name);
    let metrics = std::fs::read_to_string(at("metrics.jsonl")).unwrap();
    assert_eq!(metrics.lines().filter(|l| l.contains("\"step\"") && l.contains("gradient_norm")).count(), 4);
    for file in
        ["plan.json", "judgement.json", "summary.json", "adapter/adapter_model.safetensors", "merged/config.json"]
    {
        assert!(at(file).is_file(), "{file}");
    }
    // The adapter over its base and the merged model are one model.
    let answer = |arguments: &[&str]| {
        let mut all = vec!["generate", "--prompt", "The lens of the eye", "--raw", "--max-new-tokens", "12"];
        all.extend(arguments);
        let output = temper(&all);
        assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
        stdout(&output)
    };
    let adapter = at("adapter").display().to_string();
    let adapted = answer(&["--base", &gguf(), "--adapter", &adapter]);
    assert_eq!(adapted, answer(&["--base", &at("merged").display().to_string()]));
    // The same adapter judged again gives the same comparison of the same test rows.
    let again = temper(&["eval", &recipe, "--adapter", &adapter, "--test", "--json"]);
    let again: serde_json::Value = serde_json::from_slice(&again.stdout).unwrap();
    let judged: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(at("judgement.json")).unwrap()).unwrap();
    assert_eq!(again["rows"], judged["rows"]);
    // A second run does not overwrite the first.
    refused(&temper(&["run", &recipe]), 1, &["already holds a run", "hint:"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_ends_with_3() {
    let mut chat = Command::new(env!("CARGO_BIN_EXE_temper"))
        .args(["chat", "--base", &gguf()])
        .stdin(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    // The prompt's `> ` says that the model is loaded and the handler set.
    let mut prompt = [0u8; 2];
    std::io::Read::read_exact(chat.stderr.as_mut().unwrap(), &mut prompt).unwrap();
    assert!(Command::new("kill").args(["-INT", &chat.id().to_string()]).status().unwrap().success());
    assert_eq!(chat.wait().unwrap().code(), Some(3));
}

#[test]
fn the_real_model_answers() {
    let output = temper(&["generate", "--base", &gguf(), "--prompt", "What is the capital of France?"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(stdout(&output), "The capital of France is Paris.\n");
}

#[test]
fn data_show_brackets_what_is_trained() {
    let output = temper(&["data", "show", &tiny("tiny_train.jsonl"), "--base", &gguf(), "--rows", "1"]);
    let text = stdout(&output);
    let trained: String = text.split('[').skip(1).filter_map(|t| t.split(']').next()).collect();
    let label = ["Neoplasm", "Eye", "Respiratory", "Pregnancy"].iter().any(|l| trained == format!("{l}<|im_end|>"));
    assert!(label, "trained: {trained}\n{text}");
}

#[test]
fn wrong_arguments_and_recipes() {
    refused(&temper(&["trian"]), 2, &["trian"]);
    let folder = Folder::new();
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    refused(&temper(&["plan", &recipe, "--set", "stages.0.lerning_rate=1"]), 2, &["lerning_rate", "learning_rate"]);
    refused(&temper(&["plan", &recipe, "--set", "stages.0.max_steps=many"]), 2, &["max_steps", "whole number"]);
    refused(&temper(&["plan", "nowhere.yaml"]), 2, &["nowhere.yaml"]);
}

#[test]
fn faulty_rows() {
    let folder = Folder::new();
    let cases: [(&str, &[u8], &[&str]); 4] = [
        ("empty.jsonl", b"", &["empty.jsonl"]),
        ("silent.jsonl", br#"{"messages":[{"role":"user","content":"hello"}]}"#, &["silent.jsonl:1", "assistant"]),
        ("broken.jsonl", b"{\"messages\": [", &["broken.jsonl:1"]),
        ("text.jsonl", br#"{"txt":"hello"}"#, &["text.jsonl:1"]),
    ];
    for (name, content, pieces) in cases {
        let train = folder.write(name, content);
        refused(&temper(&["plan", &folder.recipe(&gguf(), &train)]), 2, pieces);
    }
    let missing = folder.path("missing.jsonl").display().to_string();
    refused(&temper(&["plan", &folder.recipe(&gguf(), &missing)]), 2, &["recipe.yaml:6", "missing.jsonl"]);
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    refused(&temper(&["plan", &recipe, "--set", "stages.0.max_length=8"]), 2, &["maximum length (8)", "hint:"]);
    let outside = temper(&["plan", &recipe, "--set", "evaluation.domain.labels=[Neoplasm, Eye, Pregnancy]"]);
    refused(&outside, 2, &["Respiratory", "label"]);
}

#[test]
fn damaged_weights() {
    let folder = Folder::new();
    let good = std::fs::read(gguf()).unwrap();
    let generate = |base: &str| temper(&["generate", "--base", base, "--prompt", "x"]);
    refused(&generate(&folder.write("cut.gguf", &good[..50_000_000])), 2, &["cut.gguf", "hint:"]);
    let mut absurd = good[..1_000_000].to_vec();
    absurd[8..16].copy_from_slice(&u64::MAX.to_le_bytes());
    refused(&generate(&folder.write("absurd.gguf", absurd)), 2, &["absurd.gguf"]);
    refused(&generate(&folder.write("other.gguf", b"not a model")), 2, &["other.gguf"]);
    refused(&generate(&folder.path("none.gguf").display().to_string()), 2, &["none.gguf", "hint:"]);
    let recipe = folder.recipe(&gguf(), &tiny("tiny_train.jsonl"));
    let text = std::fs::read_to_string(Path::new(&recipe)).unwrap();
    let wrong = text
        .replace(&format!("base: {}", gguf()), &format!("base: {{source: {}, sha256: {}}}", gguf(), "0".repeat(64)));
    refused(
        &temper(&["plan", &folder.write("wrong.yaml", wrong)]),
        2,
        &["sha256", &"0".repeat(64), "b179c9523d0e6a0f"],
    );
}

#[test]
fn a_model_folder_without_a_usable_template_or_with_damaged_weights() {
    let folder = Folder::new();
    let merged = folder.path("model");
    std::fs::create_dir(&merged).unwrap();
    std::fs::write(merged.join("config.json"), "{}").unwrap();
    std::fs::write(merged.join("model.safetensors"), [255u8; 64]).unwrap();
    let output = temper(&["generate", "--base", &merged.display().to_string(), "--prompt", "x"]);
    refused(&output, 2, &["model"]);
}
