//! Continued pretraining through the binary: text is read once, decays branch from one stable part, a finished model is
//! trained on.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use std::process::Output;

use tiny::{Folder, ends, lines, root, same, stderr, stdout};

fn folder() -> Folder {
    let folder = Folder::new();
    let tiny = root().join("data/tests").display().to_string();
    let stage = format!(
        "  - kind: cpt
    train: {tiny}/tiny_prose.jsonl
    validation: {tiny}/tiny_heldout.jsonl
    max_length: 16
    global_batch_size: 2
    max_steps: 6
    learning_rate: 1e-2
    lr_scheduler_type: wsd
    warmup_steps: 1
    decay_steps: 2
    min_lr: 1e-4
    eval_steps: 2
    early_stopping_patience: 0
    lora_rank: 4
"
    );
    folder.write_recipe(&folder.around("base", &stage));
    folder
}

fn run(folder: &Folder, name: &str, more: &[&str]) -> Output {
    let path = folder.path(name).display().to_string();
    let output = folder.temper(&[&["run", &folder.recipe(), "--output", &path], more].concat());
    ends(&output, 0, &[]);
    output
}

/// What a run gave: the adapter, the merged model, the metrics without wall times.
fn result(folder: &Folder, run: &str) -> Vec<(String, Vec<u8>)> {
    let adapter = "checkpoints/stage-1/result/weights/adapter_model.safetensors";
    folder.result_of(run, &[adapter, "merged/model.safetensors"])
}

#[test]
fn decays_branch_from_one_stable_part_to_the_bytes_of_runs_of_their_own() {
    const BRANCHED: &str = "steps are those of an earlier run of another length";
    let folder = folder();
    let first = run(&folder, "short", &[]);
    assert!(!stderr(&first).contains(BRANCHED));
    let long = ["--set", "stages.0.max_steps=10"];
    let branched = run(&folder, "branched", &long);
    assert!(stderr(&branched).contains(&format!("the first 4 {BRANCHED}")), "{}", stderr(&branched));
    run(&folder, "alone", &[&long[..], &["--no-cache"]].concat());
    same(&result(&folder, "alone"), &result(&folder, "branched"));
    // Another decay of the same length, to another rate, begins at the same step.
    let other = ["--set", "stages.0.min_lr=1e-3"];
    assert!(stderr(&run(&folder, "other", &other)).contains(&format!("the first 4 {BRANCHED}")));
    run(&folder, "other-alone", &[&other[..], &["--no-cache"]].concat());
    assert_eq!(result(&folder, "other"), result(&folder, "other-alone"));
    // A decay that begins earlier than any stable part that is kept, and another rate, are runs of their own.
    for (name, set) in [("early", "stages.0.decay_steps=4"), ("rate", "stages.0.learning_rate=5e-3")] {
        assert!(!stderr(&run(&folder, name, &["--set", set])).contains(BRANCHED), "{set}");
    }
    let list = folder.temper(&["cache", "list"]);
    assert!(stdout(&list).contains("the first 8 steps of a WSD stage"), "{}", stdout(&list));
    // A damaged one is as if it were not there.
    for entry in std::fs::read_dir(folder.path("cache/trunks")).unwrap() {
        std::fs::write(entry.unwrap().path().join("checkpoint/trainer.safetensors"), [0; 9]).unwrap();
    }
    assert!(!stderr(&run(&folder, "damaged", &["--set", "stages.0.max_steps=9"])).contains(BRANCHED));
}

#[test]
fn text_is_read_once_unless_the_recipe_counts_in_epochs() {
    let folder = folder();
    let plan = |steps: &str| {
        let set = format!("stages.0.max_steps={steps}");
        folder.temper(&["plan", &folder.recipe(), "--set", &set])
    };
    let refused = plan("5000");
    ends(&refused, 2, &["stages.0.max_steps: 5000 steps read domain", "times over", "num_train_epochs: "]);
    let said = stderr(&refused);
    let enough: usize = said.split("at most ").last().unwrap().split(' ').next().unwrap().parse().unwrap();
    assert!(enough > 10, "{said}");
    let whole = plan(&enough.to_string());
    ends(&whole, 0, &[]);
    assert!(stdout(&whole).contains("a step sees"), "{}", stdout(&whole));
    ends(&plan(&(enough + 1).to_string()), 2, &["read domain"]);
    let epochs = ["--set", "stages.0.max_steps=null", "--set", "stages.0.num_train_epochs=2"];
    ends(&folder.temper(&[&["plan", &folder.recipe()][..], &epochs].concat()), 0, &[]);
}

#[test]
fn a_finished_model_is_warmed_up_again() {
    let folder = folder();
    run(&folder, "first", &[]);
    let base = format!("base={}", folder.path("first/merged").display());
    run(&folder, "second", &["--set", &base]);
    let (first, second) = (folder.losses("first", "validation"), folder.losses("second", "validation"));
    let lowest = first.iter().copied().fold(f64::INFINITY, f64::min);
    // The second begins where the first ended: merging rounds.
    assert!((second[0] - lowest).abs() < 1e-5 * lowest, "{first:?} {second:?}");
    let lines = lines(&folder.path("second/metrics.jsonl"));
    let rates: Vec<f64> = lines.iter().filter_map(|line| line["learning_rate"].as_f64()).collect();
    assert_eq!(rates[..4], [1e-2; 4], "a warm-up of one step, then the peak again");
}

/// General conversations keep what a model knows of talking: their answers are trained beside the domain's text. As the domain itself
/// they are another kind of stage.
#[test]
fn general_conversations_stand_beside_text() {
    let folder = folder();
    let chat = root().join("data/tests/tiny_train.jsonl").display().to_string();
    let mix = format!(
        "    mix: {{unit: samples, domain: 50, general: [{{name: chat, path: {chat}, share: 100}}]}}\n    lora_rank: 4\n"
    );
    let text = std::fs::read_to_string(folder.path("recipe.yaml")).unwrap();
    let mixed = text.replacen("    lora_rank: 4\n", &mix, 1).replacen("max_length: 16", "max_length: 48", 1);
    folder.write_recipe(&mixed);
    run(&folder, "mixed", &[]);
    let plan: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.path("mixed/plan.json")).unwrap()).unwrap();
    let source = &plan["stages"][0]["shares"]["sources"][1];
    let drawn = |field: &str| source["drawn"][field].as_u64().unwrap();
    assert_eq!((source["name"].as_str(), drawn("samples")), (Some("chat"), 6));
    assert!(0 < drawn("trained_tokens") && drawn("trained_tokens") < drawn("processed_tokens"), "{source}");

    folder.write_recipe(&mixed.replacen("tiny_prose.jsonl", "tiny_train.jsonl", 1));
    let refused = folder.temper(&["plan", &folder.recipe()]);
    ends(&refused, 2, &["cpt trains on rows with `text`", "tiny_train.jsonl holds"]);
}
