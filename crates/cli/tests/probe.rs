//! `temper probe`: a tiny family of checkpoints, made by the program itself as published ones are (a constant rate, its decay,
//! then instructions), each tried by the same training.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use tiny::{Folder, answers, ends, finished, json, root, stderr, stdout};

fn data() -> String {
    root().join("data/tests").display().to_string()
}

/// Runs one stage over `base`; its merged model is a checkpoint of the family.
fn made(folder: &Folder, base: &str, name: &str, stage: &str) {
    let text = folder.around(base, stage);
    let (stages, _) = text.split_once("evaluation:").unwrap();
    folder.write_recipe(stages);
    let path = folder.path(name).display().to_string();
    finished(&folder.temper(&["run", &folder.recipe(), "--output", &path]));
}

/// The stable end of a pretraining, the same decayed, and that tuned on answers; and a recipe that could start from each.
fn family() -> Folder {
    let folder = Folder::new();
    let tiny = data();
    let pretraining = |more: &str| {
        format!(
            "  - kind: cpt
    mode: full
    train: {tiny}/tiny_prose.jsonl
    max_length: 64
    global_batch_size: 2
    num_train_epochs: 2
    learning_rate: 3e-3
    warmup_steps: 2
    {more}
"
        )
    };
    made(&folder, "base", "stable", &pretraining("lr_scheduler_type: constant"));
    made(&folder, "base", "decayed", &pretraining("lr_scheduler_type: wsd\n    decay_ratio: 0.3"));
    let tuning = format!(
        "  - kind: sft
    mode: full
    train: {tiny}/tiny_train.jsonl
    max_length: 256
    global_batch_size: 4
    max_steps: 20
    learning_rate: 3e-3
"
    );
    made(&folder, "decayed/merged", "tuned", &tuning);
    let stage = answers("num_train_epochs: 1\nlearning_rate: 1e-3\nlora_rank: 4");
    let checkpoint = |name: &str, kind: &str| {
        let source = folder.path(&format!("{name}/merged")).display().to_string();
        format!("  - {{name: {name}, source: {source}, kind: {kind}}}\n")
    };
    let listed = checkpoint("stable", "pre_trained")
        + &checkpoint("decayed", "mid_trained")
        + &checkpoint("tuned", "post_trained");
    let text = folder.around("decayed/merged", &stage);
    folder.write_recipe(&text.replacen("stages:\n", &format!("checkpoints:\n{listed}stages:\n"), 1));
    folder
}

#[test]
fn checkpoints_are_ranked_by_the_same_training_and_a_run_takes_the_first() {
    let folder = family();
    let recipe = folder.recipe();
    let before = folder.temper(&["run", &recipe, "--probed"]);
    ends(&before, 2, &["run-probe/probe.json", "`temper probe RECIPE` writes it"]);

    let output = folder.temper(&["probe", &recipe, "--steps", "6"]);
    ends(&output, 0, &["checkpoint stable (pre_trained)", "checkpoint tuned (post_trained)"]);
    let shown = stdout(&output);
    assert!(shown.contains("6 steps on ") && shown.contains("first: tuned: validation loss"), "{shown}");
    let probe = json(&folder.path("run-probe/probe.json"));
    let ranked = probe["ranked"].as_array().unwrap();
    let of = |field: &str| ranked.iter().map(|one| one[field].clone()).collect::<Vec<Value>>();
    assert_eq!(of("name")[0], "tuned", "it has learnt these answers before: {shown}");
    let losses: Vec<f64> = of("validation").iter().map(|loss| loss.as_f64().unwrap()).collect();
    assert!(losses.is_sorted(), "{losses:?}");
    assert_eq!(of("validation_to_first")[0], Value::Null);
    for (one, loss) in ranked.iter().zip(&losses).skip(1) {
        let to_first = &one["validation_to_first"];
        let estimate = to_first["estimate"].as_f64().unwrap();
        assert!((estimate - (loss - losses[0])).abs() < 1e-9, "{one}");
        assert!(to_first["low"].as_f64().unwrap() > 0.0, "beyond noise: {one}");
        assert_eq!(one["to_first"][0]["suite"], "heldout", "the general axis, paired");
    }
    for one in ranked {
        // The loss that is ranked by is that of the run, whose lowest validation was kept.
        let name = one["name"].as_str().unwrap();
        let losses = folder.losses(&format!("run-probe/{name}"), "validation");
        let lowest = losses.iter().copied().fold(f64::INFINITY, f64::min);
        assert!((one["validation"].as_f64().unwrap() - lowest).abs() < 1e-4, "{name}: {losses:?}");
        assert_eq!(folder.losses(&format!("run-probe/{name}"), "step").len(), 6);
        assert!(!folder.path(&format!("run-probe/{name}/judgement.json")).exists(), "the test rows are not read");
    }
    assert!(probe["processed_tokens"].as_u64().unwrap() > probe["trained_tokens"].as_u64().unwrap());

    // Once more it is found in the cache, and comes to the same.
    let again = folder.temper(&["probe", &recipe, "--steps", "6", "--overwrite"]);
    ends(&again, 0, &["stage 1 is finished already"]);
    let mut second = json(&folder.path("run-probe/probe.json"));
    second["ranked"].as_array_mut().unwrap().iter_mut().for_each(|one| one["folder"] = Value::Null);
    let mut first = probe.clone();
    first["ranked"].as_array_mut().unwrap().iter_mut().for_each(|one| one["folder"] = Value::Null);
    assert_eq!(first, second);

    finished(&folder.temper(&["run", &recipe, "--probed"]));
    let plan = json(&folder.path("run/plan.json"));
    let settings = plan["settings"].as_array().unwrap();
    let source = settings.iter().find(|setting| setting["path"] == "base.source").unwrap();
    assert_eq!(source["value"], folder.path("tuned/merged").display().to_string());
}

#[test]
fn a_domain_decides_where_there_is_one() {
    let folder = family();
    let tiny = data();
    let text = std::fs::read_to_string(folder.recipe()).unwrap();
    let domain = format!(
        "evaluation:\n  domain: {{task: classification, validation: {tiny}/tiny_validation.jsonl, test: {tiny}/tiny_test.jsonl, \
         labels: [Eye, Neoplasm, Pregnancy, Respiratory]}}\n"
    );
    folder.write_recipe(&text.replacen("evaluation:\n", &domain, 1));
    let output = folder.temper(&["probe", &folder.recipe(), "--steps", "2", "--json"]);
    ends(&output, 0, &[]);
    let probe: Value = serde_json::from_str(&stdout(&output)).unwrap();
    let accuracy = |one: &Value| {
        let rows = one["comparison"]["rows"].as_array().unwrap();
        rows.iter().find(|row| row["suite"] == "domain").unwrap()["tuned"].as_f64().unwrap()
    };
    let kept = |one: &Value| one["kept"] != false;
    let ranked = probe["ranked"].as_array().unwrap();
    for pair in ranked.windows(2) {
        assert!(kept(&pair[0]) && !kept(&pair[1]) || accuracy(&pair[0]) >= accuracy(&pair[1]), "{pair:?}");
        assert_eq!(pair[1]["to_first"][0]["suite"], "domain");
    }
    assert!(probe["reason"].as_str().unwrap().contains("domain accuracy"), "{}", probe["reason"]);
}

#[test]
fn the_plan_advises_and_what_cannot_be_compared_is_refused() {
    let folder = family();
    let recipe = folder.recipe();
    let plan = |more: &[&str]| {
        let output = folder.temper(&[&["plan", &recipe, "--json"], more].concat());
        ends(&output, 0, &[]);
        serde_json::from_str::<Value>(&stdout(&output)).unwrap()["advice"].clone()
    };
    let advice = plan(&[]);
    assert_eq!(advice[0]["kinds"], serde_json::json!(["post_trained"]));
    assert!(advice[0]["because"].as_str().unwrap().contains("LoRA"), "{advice}");
    let full = plan(&["--set", "stages.0.mode=full", "--set", "stages.0.lora_rank=null"]);
    assert!(full[0]["because"].as_str().unwrap().contains("fewer than the 1000"), "{full}");
    assert_eq!(plan(&["--set", "checkpoints=null"]), Value::Null, "nothing is said where nothing is known");
    let shown = stdout(&folder.temper(&["plan", &recipe]));
    assert!(
        shown.contains("advice: start from a checkpoint that is post_trained") && shown.contains("`temper probe`"),
        "{shown}"
    );

    let refused = |set: &str, pieces: &[&str]| ends(&folder.temper(&["probe", &recipe, "--set", set]), 2, pieces);
    let tuned = folder.path("tuned/merged").display().to_string();
    let one = format!("checkpoints=[{{name: a, source: {tuned}, kind: post_trained}}]");
    refused(&one, &["checkpoints: 1 to compare", "list two or more"]);
    let same = format!(
        "checkpoints=[{{name: a, source: {tuned}, kind: post_trained}}, {{name: a, source: {tuned}, kind: mid_trained}}]"
    );
    refused(&same, &["`checkpoints.1.name`: another checkpoint has this name"]);
    refused("stages.0.validation=null", &["nothing tells one checkpoint from another"]);
    let output = folder.temper(&["probe", &recipe, "--steps", "0"]);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
}
