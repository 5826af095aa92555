//! Muon and rates of parts of the model, through the binary: what the plan says, what a resumed run gives, what is refused.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use temper_model::{Checkpoint, TensorFile};
use tiny::{Folder, answers, ends, same, stdout};

fn folder(more: &str) -> Folder {
    let folder = Folder::new();
    let fixed = "mode: full
        max_steps: 8
        learning_rate: 1e-3
        weight_decay: 0.1
        eval_steps: 4
        save_steps: 1
        early_stopping_patience: 0\n";
    let stage = answers(&(fixed.to_owned() + more));
    folder.write_recipe(&folder.around("base", &stage));
    folder
}

const MUON: &str = "optimizer: muon\n    learning_rates: [{modules: [lm_head, '*norm'], learning_rate: 2e-4}, {modules: \
                    [layers.0.mlp], learning_rate: 5e-4}]";

fn run(folder: &Folder, name: &str, more: &[&str]) -> Vec<(String, Vec<u8>)> {
    let path = folder.path(name).display().to_string();
    ends(&folder.temper(&[&["run", "--no-cache", &folder.recipe(), "--output", &path], more].concat()), 0, &[]);
    result(folder, name)
}

fn result(folder: &Folder, name: &str) -> Vec<(String, Vec<u8>)> {
    folder.result_of(name, &["checkpoints/stage-1/result/weights/model.safetensors", "merged/model.safetensors"])
}

fn plan(folder: &Folder, more: &[&str]) -> Value {
    let output = folder.temper(&[&["plan", &folder.recipe(), "--json"], more].concat());
    ends(&output, 0, &[]);
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn a_run_by_muon_resumes_exactly_and_does_not_depend_on_threads() {
    let folder = folder(MUON);
    let alone = run(&folder, "alone", &["--threads", "1"]);
    same(&alone, &run(&folder, "threads", &["--threads", "3"]));
    folder.kill_after(1, 5, &[]);
    let newest = std::fs::read_dir(folder.path("run/checkpoints/stage-1")).unwrap().map(|entry| entry.unwrap().path());
    let newest = newest.filter(|path| path.to_string_lossy().contains("/step-")).max().unwrap();
    let checkpoint = TensorFile::open(&newest.join("trainer.safetensors")).unwrap();
    let has = |name: &str, shape: &[usize]| checkpoint.tensor(name, shape).is_ok();
    assert!(has("model.layers.1.self_attn.k_proj.weight.momentum_buffer", &[16, 32]), "one momentum");
    assert!(!has("model.layers.1.self_attn.k_proj.weight.exp_avg", &[16, 32]));
    assert!(has("model.norm.weight.exp_avg_sq", &[1, 32]), "norms are AdamW's");
    ends(
        &folder.temper(&["resume", "--no-cache", &folder.path("run").display().to_string()]),
        0,
        &["going on after step"],
    );
    same(&alone, &result(&folder, "run"));
    let losses = folder.losses("alone", "validation");
    assert!(losses.last() < losses.first(), "{losses:?}");
}

/// The largest change of a weight, of all whose name holds `part`, over the first step of a run.
fn moved(folder: &Folder, run: &str, part: &str) -> f32 {
    let [base, tuned] = ["base", &format!("{run}/merged")].map(|path| Checkpoint::open(&folder.path(path)).unwrap());
    let shapes = base.config().tensor_shapes();
    let of = shapes.iter().filter(|(name, _)| name.contains(part)).map(|(name, shape)| {
        let [base, tuned] = [&base, &tuned].map(|model| model.tensor(name, shape).unwrap());
        base.iter().zip(&tuned).map(|(b, t)| (b - t).abs()).fold(0.0, f32::max)
    });
    of.fold(0.0, f32::max)
}

#[test]
fn each_part_moves_by_its_own_rate_and_the_plan_counts_it() {
    let groups = "learning_rates: [{modules: [lm_head, '*norm'], learning_rate: 2e-4}]";
    let folder = folder(groups);
    let one = ["--set", "stages.0.max_steps=1", "--set", "stages.0.weight_decay=0", "--set", "stages.0.warmup_steps=0"];
    run(&folder, "one", &one);
    // The first step of AdamW moves every number by its rate, where it has a gradient.
    let close = |part: &str, rate: f32| {
        let moved = moved(&folder, "one", part);
        assert!((moved - rate).abs() < 0.01 * rate, "{part}: {moved}");
    };
    close("mlp", 1e-3);
    close("self_attn.q_proj", 1e-3);
    close("norm", 2e-4);
    close("embed_tokens", 2e-4);

    let planned = plan(&folder, &[]);
    let rates = planned["stages"][0]["rates"].as_array().unwrap();
    let counted: Vec<u64> = rates.iter().map(|rate| rate["parameters"].as_u64().unwrap()).collect();
    let vocabulary = Checkpoint::open(&folder.path("base")).unwrap().config().vocab_size as u64;
    assert_eq!(counted[0], 32 * vocabulary + 5 * 32, "the tied head, and five norms");
    assert_eq!(counted[1], planned["stages"][0]["trained_parameters"].as_u64().unwrap() - counted[0]);
    assert_eq!((&rates[0]["learning_rate"], &rates[1]["learning_rate"]), (&2e-4.into(), &1e-3.into()));
    assert_eq!(rates[1]["modules"].as_array().unwrap().len(), 0);
    let shown = stdout(&folder.temper(&["plan", &folder.recipe()]));
    assert!(shown.contains("peak 2e-4 for lm_head, *norm") && shown.contains("peak 1e-3 for the rest"), "{shown}");
}

#[test]
fn muon_takes_less_memory_and_disk_than_adamw() {
    let folder = folder("optimizer: muon");
    let of = |more: &[&str]| {
        let plan = plan(&folder, more);
        [&plan["stages"][0]["estimate"]["memory_bytes"], &plan["estimate"]["disk_bytes"]].map(|n| n.as_u64().unwrap())
    };
    let ([memory, disk], [more_memory, more_disk]) = (of(&[]), of(&["--set", "stages.0.optimizer=adamw"]));
    // Of each of two layers: q and o 32 x 32, k and v 16 x 32, three of 48 x 32. Two checkpoints are kept.
    let blocks = 2 * (2 * 32 * 32 + 2 * 16 * 32 + 3 * 48 * 32);
    let scratch = 2 * (48 * 32 + 32 * 32);
    assert_eq!(more_memory - memory, 4 * (blocks - scratch));
    assert_eq!(more_disk - disk, 2 * 4 * blocks);
}

#[test]
fn groups_that_do_not_fit_the_model_are_refused() {
    let folder = folder("optimizer: adamw");
    let refused = |groups: &str, pieces: &[&str]| {
        let set = format!("stages.0.learning_rates={groups}");
        ends(&folder.temper(&["plan", &folder.recipe(), "--set", &set]), 2, pieces);
    };
    refused(
        "[{modules: [layers.2], learning_rate: 1e-5}]",
        &[
            "stages.0.learning_rates.0.modules",
            "`layers.2` names nothing of the 20 weights",
            "model.embed_tokens.weight",
        ],
    );
    refused(
        "[{modules: [mlp], learning_rate: 1e-5}, {modules: [layers.1], learning_rate: 1e-5}]",
        &[
            "stages.0.learning_rates.1.modules",
            "`model.layers.1.mlp.gate_proj.weight` is in a group before this one too",
        ],
    );
    // Adapters have names of their own.
    let lora =
        ["--set", "stages.0.mode=lora", "--set", "stages.0.learning_rates=[{modules: [lora_B], learning_rate: 1e-2}]"];
    let planned = plan(&folder, &lora);
    assert_eq!(planned["stages"][0]["rates"][0]["parameters"], 16 * 2 * (2 * 32 + 2 * 16 + 2 * 48 + 32));
}
