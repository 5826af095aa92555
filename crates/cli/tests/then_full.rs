//! `mode: lora_then_full`: adapters until they are flat, then all weights, the better of the two.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use tiny::{Folder, answers, ends, finished, json, lines, same, stderr, stdout};

fn folder() -> Folder {
    let folder = Folder::new();
    let stage = answers(
        "mode: lora_then_full
        max_steps: 24
        learning_rate: 1e-2
        lora_rank: 4
        eval_steps: 2
        save_steps: 1
        early_stopping_patience: 2
        flat_gain: 0.3",
    );
    folder.write_recipe(&folder.around("base", &stage));
    folder
}

fn run(folder: &Folder, name: &str, more: &[&str]) -> String {
    let path = folder.path(name).display().to_string();
    let output = folder.temper(&[&["run", &folder.recipe(), "--output", &path], more].concat());
    finished(&output);
    stderr(&output)
}

fn outcome(folder: &Folder, run: &str, stage: usize) -> Value {
    json(&folder.path(&format!("{run}/checkpoints/stage-{stage}/result/outcome.json")))
}

/// Validation losses of a stage, from 1.
fn validations(folder: &Folder, run: &str, stage: usize) -> Vec<f64> {
    let lines = lines(&folder.path(&format!("{run}/metrics.jsonl")));
    let of = lines.iter().filter(|line| line["event"] == "validation" && line["stage"] == stage);
    of.map(|line| line["loss"].as_f64().unwrap()).collect()
}

fn lowest(losses: &[f64]) -> f64 {
    losses.iter().copied().fold(f64::INFINITY, f64::min)
}

#[test]
fn full_rank_is_taken_where_it_is_better_and_left_where_it_is_not() {
    let folder = folder();
    let said = run(&folder, "better", &[]);
    assert!(said.contains("flat: of the ") && said.contains("stage 2: full rank is taken: "), "{said}");
    let (lora, full) = (validations(&folder, "better", 1), validations(&folder, "better", 2));
    assert!(lora.len() < 13, "LoRA ended before its steps did: {lora:?}");
    assert!((full[0] - lowest(&lora)).abs() < 1e-4, "full rank begins at the best of LoRA: {lora:?}, {full:?}");
    assert_eq!(outcome(&folder, "better", 1)["outcome"]["stopped"]["rule"], "flat");
    let choice = &outcome(&folder, "better", 2)["choice"];
    let difference = choice["difference"]["estimate"].as_f64().unwrap();
    assert!(choice["taken"] == true && choice["difference"]["high"].as_f64().unwrap() < 0.0, "{choice}");
    // The same rows, weighted by their tokens, are the validation loss.
    assert!((difference - (lowest(&full) - lowest(&lora))).abs() < 1e-4, "{difference}: {lora:?}, {full:?}");
    let report = std::fs::read_to_string(folder.path("better/report.html")).unwrap();
    assert!(report.contains("full rank is taken"), "the report says which and why");
    assert_eq!(json(&folder.path("better/summary.json"))["choices"][1], *choice);

    // A rate that hardly moves anything is noise; LoRA is not trained again for it.
    let still = ["--set", "stages.0.full_learning_rate=1e-12"];
    let said = run(&folder, "still", &still);
    assert!(said.contains("stage 1 is finished already") && said.contains("full rank is not taken"), "{said}");
    assert!(!folder.path("still/checkpoints/stage-2/result/weights").exists());
    // The run is then what LoRA made.
    let merged = |run: &str| std::fs::read(folder.path(&format!("{run}/merged/model.safetensors"))).unwrap();
    assert_ne!(merged("better"), merged("still"));
    let adapter = folder.path("still/checkpoints/stage-1/result/weights").display().to_string();
    let exported = folder.path("exported").display().to_string();
    let base = folder.path("base").display().to_string();
    ends(
        &folder.temper(&[
            "export",
            &base,
            "--adapter",
            &adapter,
            "--to",
            "merged",
            "--type",
            "f32",
            "--output",
            &exported,
        ]),
        0,
        &[],
    );
    let export = std::fs::read(folder.path("exported/merged/model.safetensors"));
    assert!(export.unwrap() == merged("still"), "the result is LoRA's, merged");
    // What was decided is found again in the cache, and a finished run judged between base and result.
    let again = run(&folder, "again", &still);
    assert!(again.contains("stage 2 is finished already") && again.contains("full rank is not taken"), "{again}");
    assert_eq!(merged("again"), merged("still"));
    let averaged = folder.temper(&["average", &folder.path("still").display().to_string(), "--weights", "1", "--json"]);
    ends(&averaged, 0, &[]);
    let averaged: Value = serde_json::from_str(&stdout(&averaged)).unwrap();
    let loss = averaged["points"][0]["validation"].as_f64().unwrap();
    assert!((loss - lowest(&validations(&folder, "still", 1))).abs() < 1e-4, "{loss}");
}

#[test]
fn full_rank_may_begin_where_lora_began() {
    let folder = folder();
    run(&folder, "anew", &["--set", "stages.0.full_start=start", "--set", "stages.0.full_learning_rate=3e-3"]);
    let (lora, full) = (validations(&folder, "anew", 1), validations(&folder, "anew", 2));
    assert!((full[0] - lora[0]).abs() < 1e-4, "{lora:?}, {full:?}");
    let choice = &outcome(&folder, "anew", 2)["choice"];
    let difference = choice["difference"]["estimate"].as_f64().unwrap();
    assert!((difference - (lowest(&full) - lowest(&lora))).abs() < 1e-4, "compared with LoRA: {choice}");
}

#[test]
fn a_run_that_is_killed_in_either_part_ends_with_the_same_bytes() {
    let folder = folder();
    run(&folder, "alone", &["--no-cache"]);
    let result = |run: &str| {
        folder.result_of(
            run,
            &[
                "checkpoints/stage-1/result/weights/adapter_model.safetensors",
                "checkpoints/stage-2/result/weights/model.safetensors",
                "checkpoints/stage-2/result/outcome.json",
                "merged/model.safetensors",
            ],
        )
    };
    let resume = |from: &str| {
        ends(&folder.temper(&["resume", "--no-cache", &folder.path("run").display().to_string()]), 0, &[from]);
    };
    folder.kill_after(1, 5, &[]);
    resume("going on after step");
    let timeless = |mut all: Vec<(String, Vec<u8>)>| {
        // The stage's lines of the metrics hold wall times.
        all.retain(|(name, _)| !name.ends_with("outcome.json"));
        all
    };
    same(&timeless(result("alone")), &timeless(result("run")));
    std::fs::remove_dir_all(folder.path("run")).unwrap();
    folder.kill_after(2, 3, &[]);
    resume("going on after step");
    same(&timeless(result("alone")), &timeless(result("run")));
    assert_eq!(outcome(&folder, "alone", 2)["choice"], outcome(&folder, "run", 2)["choice"]);
}

#[test]
fn the_plan_shows_both_parts_and_the_rule_between_them() {
    let folder = folder();
    let output = folder.temper(&["plan", &folder.recipe(), "--json"]);
    ends(&output, 0, &[]);
    let plan: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let stages = plan["stages"].as_array().unwrap();
    let of = |field: &str| stages.iter().map(|stage| stage[field].clone()).collect::<Vec<_>>();
    assert_eq!(of("mode"), ["lora", "full"]);
    assert_eq!(of("of"), [0, 0]);
    assert_eq!(stages[1]["fit"]["learning_rate"]["peak"], 1e-3, "a tenth of LoRA's");
    assert!(stages[1]["rule"].as_str().unwrap().contains("what LoRA made, merged"));
    let shown = stdout(&folder.temper(&["plan", &folder.recipe()]));
    assert!(
        shown.contains("stage 2 of kind sft, full") && shown.contains("less than 0.3 of the whole fall"),
        "{shown}"
    );
    // Both parts fit a limit of memory by one micro-batch, and the plan says which.
    let limited = folder.temper(&["plan", &folder.recipe(), "--json", "--set", "memory_limit=128MiB"]);
    ends(&limited, 0, &[]);
    let limited: Value = serde_json::from_str(&stdout(&limited)).unwrap();
    let most = limited["stages"].as_array().unwrap().iter().map(|stage| &stage["estimate"]["memory_bytes"]);
    assert!(most.clone().all(|bytes| bytes.as_u64().unwrap() <= 128 << 20), "{:?}", most.collect::<Vec<_>>());
}
