//! A run that is asked to keep texts out keeps them out, also where it samples completions and scores them.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::path::Path;

use serde_json::{Value, json};
use tiny::{Folder, ends, lines};

const QUESTION: &str = "Whose secret is this";
const ANSWER: &str = "Ozymandias";

/// Prompts for a random model, and rewards by length, one of which fails with a message about the row.
fn folder() -> Folder {
    let folder = Folder::new();
    let row = |i: usize| {
        let asked = format!("{QUESTION}, number {i}?");
        json!({"id": format!("row-{i}"), "messages": [{"role": "user", "content": asked}], "reference_answer": ANSWER})
    };
    for (name, numbers) in [("train.jsonl", 0..8), ("validation.jsonl", 8..12)] {
        let rows: Vec<String> = numbers.map(|i| row(i).to_string()).collect();
        std::fs::write(folder.path(name), rows.join("\n")).unwrap();
    }
    let stage = "  - kind: rft
    train: train.jsonl
    validation: validation.jsonl
    rewards:
      - {name: short, verifier: length, unit: characters, at_most: 10, slack: 60}
      - {name: number, verifier: numeric, held_out: true, max_error_rate: 1}
    rollouts: {num_generations: 4, max_completion_length: 8, validation_generations: 2}
    baseline: {gate: warn}
    max_length: 96
    micro_batch_tokens: 300
    max_steps: 2
    learning_rate: 1e-3
    lora_rank: 2
    global_batch_size: 4
    eval_steps: 2
";
    let text = folder.around("base", stage);
    let (text, _) = text.split_once("evaluation:").unwrap();
    folder.write_recipe(text);
    folder
}

/// The files of a run that hold this text.
fn holding(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(holding(&path, text));
        } else if std::fs::read(&path).unwrap().windows(text.len()).any(|bytes| bytes == text.as_bytes()) {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn completions_and_answers_of_a_run_without_samples_are_nowhere() {
    let folder = folder();
    let run = |name: &str, more: &[&str]| -> Vec<Value> {
        let path = folder.path(name).display().to_string();
        ends(&folder.temper(&[&["run", &folder.recipe(), "--output", &path], more].concat()), 0, &[]);
        lines(&folder.path(name).join("rollouts-1.jsonl"))
    };
    let with = run("with", &[]);
    // Not from the cache, which would spare the second one the sampling.
    let without = run("without", &["--no-samples", "--no-cache"]);
    assert_eq!((with.len(), without.len()), (32, 32));
    for (with, without) in with.iter().zip(&without) {
        assert!(with["prompt"].as_str().unwrap().starts_with(QUESTION) && with["completion"].is_string(), "{with}");
        assert!(without.get("prompt").is_none() && without.get("completion").is_none(), "{without}");
        assert_eq!(with["prompt_id"], without["prompt_id"]);
        assert_eq!((&with["reward"], &with["advantage"]), (&without["reward"], &without["advantage"]));
        let failed = |line: &Value| line["rewards"]["number"]["failed"].clone();
        assert!(failed(with)["message"].as_str().is_some_and(|message| !message.is_empty()), "{with}");
        assert_eq!(failed(without), json!({"kind": failed(with)["kind"], "message": ""}));
    }
    for text in [QUESTION, ANSWER] {
        assert!(!holding(&folder.path("with"), text).is_empty(), "{text}");
        assert_eq!(holding(&folder.path("without"), text), Vec::<String>::new(), "{text}");
    }
}
