//! Preference training through the binary: what it learns and tells, what it refuses, and that a run that was stopped ends
//! with the bytes of one that was left alone.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};
use tiny::{Folder, ends, finished, json, lines, root, same, stdout};

/// Pairs that prefer one way of answering: in turns, as TRL has them, or as Nova's candidates.
fn pairs(folder: &Folder, name: &str, numbers: std::ops::Range<usize>, nova: bool) {
    let row = |i: usize| {
        let colours = ["red", "blue", "green", "white", "black"];
        let (asked, colour) = (format!("Name the colour of thing {i}."), colours[i % 5]);
        let (chosen, rejected) = (format!("It is {colour}."), format!("Thing {i}? Who knows. Maybe {colour}."));
        if nova {
            let content = |text: &str| json!([{"text": text}]);
            return json!({"schemaVersion": "bedrock-conversation-2024", "messages": [
                {"role": "user", "content": content(&asked)},
                {"role": "assistant", "candidates": [
                    {"content": content(&rejected), "preferenceLabel": "non-preferred"},
                    {"content": content(&chosen), "preferenceLabel": "preferred"}]}]});
        }
        let turn = |role: &str, text: &str| json!([{"role": role, "content": text}]);
        json!({"prompt": turn("user", &asked), "chosen": turn("assistant", &chosen), "rejected": turn("assistant", &rejected)})
    };
    let rows: Vec<String> = numbers.map(|i| row(i).to_string()).collect();
    std::fs::write(folder.path(name), rows.join("\n")).unwrap();
}

/// An adapter against its start, then all weights against the base, with IPO.
fn folder() -> Folder {
    let folder = Folder::new();
    pairs(&folder, "train.jsonl", 0..24, false);
    pairs(&folder, "more.jsonl", 24..40, true);
    pairs(&folder, "validation.jsonl", 40..48, false);
    let stage = |more: &str| {
        format!(
            "  - kind: dpo
    train: [train.jsonl, more.jsonl]
    validation: validation.jsonl
    max_length: 128
    micro_batch_tokens: 300
    global_batch_size: 8
    eval_steps: 3
    save_steps: 1
    {more}
"
        )
    };
    let lora = stage(
        "mode: lora\n    max_steps: 12\n    learning_rate: 2e-2\n    lora_rank: 4\n    rpo_alpha: 0.1\n    dpo_cfg: {beta: 0.2}",
    );
    let full = stage(
        "mode: full\n    max_steps: 6\n    learning_rate: 1e-3\n    loss_type: ipo\n    reference: base\n    early_stopping_patience: 0",
    );
    folder.write_recipe(&folder.around("base", &(lora + &full)));
    folder
}

#[test]
fn a_run_prefers_what_the_pairs_prefer_and_tells_it() {
    let folder = folder();
    let plan = folder.temper(&["plan", &folder.recipe()]);
    ends(&plan, 0, &[]);
    for piece in [
        "stage 1 of kind dpo, lora: 12 steps",
        "loss sigmoid, beta 0.2, label smoothing 0, weight of the better answers' own loss 0.1",
        "reference: the start; it scores 48 pairs of",
        "loss ipo, beta 0.1",
        "reference: the base; it scores 48 pairs of",
        "stages.0 has 40 preference pairs; Amazon Nova's guide advises 1000 or more",
        "the keys of `stages.0.dpo_cfg` are read as keys of `stages.0`",
    ] {
        assert!(stdout(&plan).contains(piece), "`{piece}` is not in:\n{}", stdout(&plan));
    }
    let output = folder.temper(&["run", &folder.recipe()]);
    finished(&output);
    let lines = lines(&folder.path("run/metrics.jsonl"));
    let of = |stage: u64, event: &str| -> Vec<&Value> {
        lines.iter().filter(|line| line["stage"] == stage && line["event"] == event).collect()
    };
    let (steps, validations) = (of(1, "step"), of(1, "validation"));
    // Before the first step the model is its own reference: every reward is 0, and the loss of a pair ln 2.
    let first = validations[0];
    assert_eq!(
        (&first["pairs"], &first["rewards/margins"], &first["rewards/accuracies"]),
        (&json!(8), &json!(0.0), &json!(0.0))
    );
    let supervised = first["loss"].as_f64().unwrap() - 2f64.ln();
    assert!(supervised > 0.05, "a tenth of the better answers' loss is in it: {first}");
    assert_eq!(steps[0]["rewards/chosen"], 0.0);
    assert_eq!(steps.len(), 12);
    let last = validations[validations.len() - 1];
    let number = |line: &Value, key: &str| line[key].as_f64().unwrap();
    assert!(number(last, "rewards/margins") > 0.1 && number(last, "rewards/accuracies") > 0.8, "{last}");
    assert!(number(last, "loss") < number(first, "loss"), "{last}");
    let margin = number(last, "rewards/chosen") - number(last, "rewards/rejected");
    assert!((margin - number(last, "rewards/margins")).abs() < 1e-9);
    // The second stage is measured against the base, not against its start: it begins with the margin of the first.
    let second = of(2, "validation")[0];
    assert!(number(second, "rewards/margins") > 0.04, "{second}");

    let report = std::fs::read_to_string(folder.path("run/report.html")).unwrap();
    for piece in ["Reward margin", "Reward accuracy", "Log-probability of answers", "mean loss of a pair"] {
        assert!(report.contains(piece), "`{piece}` is not in the report");
    }

    // Another beta has the same reference: nothing is scored again.
    let scores = || std::fs::read_dir(folder.path("cache/scores")).unwrap().count();
    let before = scores();
    let again = folder.path("again").display().to_string();
    let output = folder.temper(&["run", &folder.recipe(), "--output", &again, "--set", "stages.0.beta=0.5"]);
    finished(&output);
    let reference = |run: &str| json(&folder.path(run).join("checkpoints/stage-1/reference.json"));
    assert_eq!(reference("run"), reference("again"));
    assert_eq!(scores(), before);
}

#[test]
fn a_run_that_is_killed_goes_on_to_the_same_bytes() {
    let folder = folder();
    let alone = folder.path("alone").display().to_string();
    let output = folder.temper(&["run", &folder.recipe(), "--output", &alone, "--no-cache"]);
    finished(&output);
    let expected = folder.result("alone");
    let run = folder.path("run").display().to_string();
    let recipe = folder.recipe();
    // Before the first checkpoint, between two validations, and within the second stage, whose weights are no reference.
    for (arguments, stage, awaited) in [
        (["run", &recipe], 1, "step-000001"),
        (["resume", &run], 1, "step-000005"),
        (["resume", &run], 2, "step-000004"),
    ] {
        folder.kill_at(&[&arguments[..], &["--no-cache"]].concat(), stage, awaited);
    }
    // The reference is read, not scored again; where it was lost, it comes out the same from the start.
    std::fs::remove_file(folder.path("run/checkpoints/stage-2/reference.json")).unwrap();
    let output = folder.temper(&["resume", &run, "--no-cache"]);
    finished(&output);
    same(&expected, &folder.result("run"));
}

#[test]
fn validation_that_does_not_fall_ends_it() {
    let folder = folder();
    // Labels turned round: what is preferred in training is not in validation.
    let swapped = std::fs::read_to_string(folder.path("validation.jsonl")).unwrap();
    let swapped =
        swapped.replace("\"chosen\"", "\"x\"").replace("\"rejected\"", "\"chosen\"").replace("\"x\"", "\"rejected\"");
    std::fs::write(folder.path("validation.jsonl"), swapped).unwrap();
    let sets = ["--set", "stages.0.rpo_alpha=0", "--set", "stages.0.early_stopping_patience=2"];
    let output = folder.temper(&[&["run", &folder.recipe(), "--no-cache"][..], &sets].concat());
    ends(&output, 1, &["ended early after step 6", "no validation was better than the start"]);
}

#[test]
fn rows_of_another_kind_are_refused() {
    let folder = folder();
    let tiny = root().join("data/tests/tiny_train.jsonl").display().to_string();
    let train = format!("stages.0.train={tiny}");
    let output = folder.temper(&["plan", &folder.recipe(), "--set", &train]);
    ends(
        &output,
        2,
        &["tiny_train.jsonl: it holds messages, not two answers to choose from", "hint: each row needs `prompt`"],
    );
    let recipe = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let (head, rest) = recipe.split_once("  - kind: dpo").unwrap();
    let first =
        rest.split_once("  - kind: dpo").unwrap().0.replace("rpo_alpha: 0.1", "").replace("dpo_cfg: {beta: 0.2}", "");
    folder.write_recipe(&format!("{head}  - kind: sft{first}"));
    let output = folder.temper(&["plan", &folder.recipe()]);
    ends(&output, 2, &["train.jsonl: it holds preference pairs, which are not for supervised training", "`kind: dpo`"]);
}

#[test]
fn both_answers_of_a_pair_are_shown() {
    let folder = folder();
    let base = folder.path("base").display().to_string();
    let file = folder.path("train.jsonl").display().to_string();
    let output = folder.temper(&["data", "show", &file, "--base", &base, "--row", "2"]);
    ends(&output, 0, &[]);
    let shown = stdout(&output);
    assert_eq!(shown.matches("line 2,").count(), 2, "{shown}");
    for piece in ["[It][ is]", "[ Who][ knows]"] {
        assert!(shown.contains(piece), "`{piece}` is not in:\n{shown}");
    }
}

#[test]
fn ctrl_c_while_the_reference_scores_loses_nothing() {
    let folder = folder();
    let mut child = folder.command(&["run", &folder.recipe(), "--no-cache"]).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    lines.find(|line| line.as_ref().unwrap().contains("reference of the pairs (start)")).unwrap().unwrap();
    let id = child.id().to_string();
    assert!(std::process::Command::new("kill").args(["-INT", &id]).status().unwrap().success());
    let rest: String = lines.map(|line| line.unwrap() + "\n").collect();
    assert_eq!(child.wait().unwrap().code(), Some(3), "{rest}");
    let run = folder.path("run").display().to_string();
    let output = folder.temper(&["resume", &run, "--no-cache"]);
    finished(&output);
}
