//! A run that is not worth going on with ends early, with the best weights, the reason and what to change.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use tiny::{Folder, ends, json};

/// One stage of full rank, 200 steps on the domain alone at this rate; the rest of the recipe as it is.
fn one_stage(folder: &Folder, rate: f64, more: &str) {
    let text = folder.text();
    let (first, rest) = text.split_once("  - kind: sft").unwrap();
    let (stage, rest) = rest.split_once("  - kind: sft").unwrap();
    let (_, evaluation) = rest.split_once("evaluation:").unwrap();
    let mix = stage.lines().find(|line| line.contains("mix:")).unwrap();
    let stage = stage
        .replace(&format!("{mix}\n"), "")
        .replace("mode: lora\n    max_steps: 12", &format!("mode: full\n    max_steps: 200\n    {more}"))
        .replace("1e-2", &format!("{rate}"))
        .replace("    lora_rank: 4\n", "")
        .replace("save_steps: 1\n", "save_steps: 50\n");
    folder.write_recipe(&format!("{first}  - kind: sft{stage}evaluation:{evaluation}"));
}

fn stopped(folder: &Folder) -> serde_json::Value {
    json(&folder.path("run/summary.json"))["stages"][0].clone()
}

#[test]
fn overfitting_ends_the_run_with_the_best_weights() {
    let folder = Folder::new();
    one_stage(&folder, 3e-3, "");
    let set = ["--set", "stages.0.eval_steps=10", "--set", "evaluation.watch_items=0", "--no-cache"];
    let mut arguments = vec!["run"];
    let recipe = folder.recipe();
    arguments.push(&recipe);
    arguments.extend(set);
    let output = folder.temper(&arguments);
    let outcome = stopped(&folder);
    assert_eq!(outcome["stopped"]["rule"], "overfit", "{outcome}");
    let (steps, best) = (outcome["steps"].as_u64().unwrap(), outcome["best"]["step"].as_u64().unwrap());
    assert!(steps < 200 && steps == best + 30, "three validations of ten steps after the best: {steps}, {best}");
    let text = tiny::stderr(&output);
    assert!(text.contains("overfitting: ") && text.contains("hint: train less"), "{text}");
    // The weights of the best validation are the result.
    let weights = |path: &str| std::fs::read(folder.path(path).join("model.safetensors")).unwrap();
    assert!(
        weights(&format!("run/checkpoints/stage-1/best-{best:06}"))
            == weights("run/checkpoints/stage-1/result/weights")
    );
}

#[test]
fn a_loss_that_runs_away_ends_the_run_with_the_best_weights() {
    let folder = Folder::new();
    // The rate rises slowly to one that no model bears, and stays there, and every step has its full size, as the squares of gradients
    // are hardly averaged: the loss falls first, and runs away whatever the rounding (and with four other rates).
    one_stage(
        &folder,
        1.0,
        "early_stopping_patience: 0\n    warmup_steps: 100\n    lr_scheduler_type: constant\n    adam_beta2: 0.1",
    );
    let output = folder.temper(&["run", &folder.recipe(), "--no-cache", "--set", "evaluation.watch_items=0"]);
    ends(&output, 0, &["diverged: the mean training loss", "hint: lower learning_rate"]);
    let outcome = stopped(&folder);
    assert_eq!(outcome["stopped"]["rule"], "diverged", "{outcome}");
    let best = outcome["best"]["step"].as_u64().unwrap();
    let weights = |path: &str| std::fs::read(folder.path(path).join("model.safetensors")).unwrap();
    assert!(
        weights(&format!("run/checkpoints/stage-1/best-{best:06}"))
            == weights("run/checkpoints/stage-1/result/weights")
    );
}

#[test]
fn a_floor_broken_beyond_recovery_ends_the_run() {
    let folder = Folder::new();
    one_stage(&folder, 1e-2, "early_stopping_patience: 0");
    let set = ["--set", "evaluation.floors.heldout.max_increase_percent=1"];
    let mut arguments = vec!["run"];
    let recipe = folder.recipe();
    arguments.push(&recipe);
    arguments.extend(set);
    arguments.push("--no-cache");
    let output = folder.temper(&arguments);
    ends(&output, 0, &["forgot: the loss of heldout is up by at least", "hint: mix in more general data"]);
    let outcome = stopped(&folder);
    assert_eq!(outcome["stopped"]["rule"], "floor_broken", "{outcome}");
    let metrics = std::fs::read_to_string(folder.path("run/metrics.jsonl")).unwrap();
    assert!(metrics.contains("\"event\":\"general\""), "{metrics}");
}

#[test]
fn a_run_that_never_beat_its_start_fails_rather_than_hand_on_worse_weights() {
    let folder = Folder::new();
    one_stage(&folder, 0.3, "early_stopping_patience: 1");
    let output = folder.temper(&["run", &folder.recipe(), "--no-cache", "--set", "evaluation.watch_items=0"]);
    ends(
        &output,
        1,
        &["no improvement", "no validation was better than the start", "hint: the rate may have been too high"],
    );
    assert!(!folder.path("run/merged").exists());
}

#[test]
fn a_gate_that_refuses_ends_with_4_whether_or_not_somebody_reads_why() {
    let folder = Folder::new();
    one_stage(&folder, 0.5, "");
    let tiny = tiny::root().join("data/tests").display().to_string();
    // Without validation no rule steps in: the wrecked weights are judged.
    let recipe = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let validation = format!("    validation: {tiny}/tiny_validation.jsonl\n");
    folder.write_recipe(&recipe.replace(&validation, "").replace("    eval_steps: 2\n", ""));
    let domain = format!(
        "evaluation.domain={{task: classification, validation: {tiny}/tiny_validation.jsonl, test: {tiny}/tiny_test.jsonl, \
         labels: [Neoplasm, Eye, Respiratory, Pregnancy]}}"
    );
    let recipe = folder.recipe();
    let floor = "evaluation.floors.heldout.max_increase_percent=1";
    let sets = ["--set", "stages.0.max_steps=4", "--set", floor, "--set", &domain];
    let run = folder.temper(&[&["run", &recipe, "--no-cache"], &sets[..]].concat());
    ends(&run, 4, &[]);
    assert!(tiny::stdout(&run).contains("FORGOT") && tiny::stdout(&run).contains("beyond the floor"));
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let again = [&["run", &recipe, "--no-cache", "--overwrite"], &sets[..]].concat();
    assert_eq!(folder.command(&again).stdout(writer).status().unwrap().code(), Some(4));
}
