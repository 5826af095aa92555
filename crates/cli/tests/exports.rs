//! Adapters of every kind through a run, adapters as a start, and the forms that a run leaves.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod tiny;

use serde_json::Value;
use temper_model::{Checkpoint, read_adapter};
use tiny::{Folder, ends, json, stderr, stdout};

/// Greedy words of a model.
fn words(folder: &Folder, model: &[&str]) -> String {
    let mut arguments = vec!["generate", "--raw", "--prompt", "The lens of the eye", "--max-new-tokens", "12"];
    arguments.extend(model);
    let output = folder.temper(&arguments);
    ends(&output, 0, &[]);
    stdout(&output)
}

/// The adapter over its base, the merged model, and the GGUF of f32 are one model.
fn one_model(folder: &Folder, run: &str) {
    let at = |name: &str| folder.path(name).display().to_string();
    let (base, run) = (at("base"), at(run));
    let adapted = words(folder, &["--base", &base, "--adapter", &format!("{run}/adapter"), "--any-base"]);
    assert_eq!(words(folder, &["--base", &format!("{run}/merged")]), adapted);
    assert_eq!(words(folder, &["--base", &format!("{run}/gguf-f32")]), adapted);
    assert_ne!(words(folder, &["--base", &base]), adapted, "the run changed something");
}

#[test]
fn every_kind_of_adapter_trains_resumes_and_is_exported() {
    let folder = Folder::new();
    folder.keep_first_stage();
    let set = |more: &[&'static str]| {
        let mut sets = vec!["export=[adapter, merged, \"gguf:f32\", \"gguf:q8_0\"]"];
        sets.extend(more);
        sets
    };
    let kinds: [(&str, &[&'static str]); 3] = [
        ("dora", &["stages.0.use_dora=true", "stages.0.use_rslora=true", "stages.0.loraplus_lr_ratio=4"]),
        ("tables", &["stages.0.modules_to_save=[embed_tokens]", "stages.0.init_lora_weights=gaussian"]),
        (
            "dropout",
            &[
                "stages.0.lora_dropout=0.2",
                "stages.0.activation_checkpointing=true",
                "stages.0.target_modules=[q_proj, layers.1.mlp.down_proj]",
            ],
        ),
    ];
    for (run, sets) in kinds {
        let recipe = folder.recipe();
        let output = format!("output={}", folder.path(run).display());
        let mut arguments = vec!["run", &recipe, "--no-cache", "--set", &output];
        set(sets).into_iter().for_each(|set| arguments.extend(["--set", set]));
        ends(&folder.temper(&arguments), 0, &[]);
        one_model(&folder, run);
        let adapter = read_adapter(&folder.path(run).join("adapter")).unwrap();
        assert_eq!(adapter.config.lora.dora, run == "dora");
        // A tied base has both names for its one table, so that PEFT changes both.
        assert_eq!(adapter.tables.len(), if run == "tables" { 2 } else { 0 });
        assert_eq!(adapter.modules.len(), if run == "dropout" { 3 } else { 14 });
        let quantised = Checkpoint::open(&folder.path(run).join("gguf-q8_0")).unwrap();
        assert_eq!(quantised.precision(), "Q8_0 dequantised to f32");
        let generation = json(&folder.path(run).join("merged/generation_config.json"));
        assert_eq!(generation["eos_token_id"], 2);
        // The base judged beside a model that trained its tables is the base all the same.
        let judged = json(&folder.path(run).join("judgement.json"));
        assert!(judged["rows"].as_array().is_some_and(|rows| !rows.is_empty()), "{judged}");

        // Begun anew from its third step, the run ends with the same weights to the bit.
        let weights = |at: &str| std::fs::read(folder.path(run).join(at)).unwrap();
        let ended = weights("merged/model.safetensors");
        let stage = folder.path(run).join("checkpoints/stage-1");
        std::fs::remove_dir_all(stage.join("result")).unwrap();
        for name in ["summary.json", "judgement.json"] {
            std::fs::remove_file(folder.path(run).join(name)).unwrap();
        }
        let steps: Vec<_> = std::fs::read_dir(&stage).unwrap().map(|e| e.unwrap().path()).collect();
        let last =
            steps.iter().filter(|p| p.file_name().unwrap().to_string_lossy().starts_with("step-")).max().unwrap();
        std::fs::remove_dir_all(last).unwrap();
        ends(&folder.temper(&["resume", &folder.path(run).display().to_string(), "--no-cache"]), 0, &[]);
        assert!(weights("merged/model.safetensors") == ended, "{run}: resumed to other weights");
    }
}

#[test]
fn an_adapter_is_trained_on_or_merged_first() {
    let folder = Folder::new();
    folder.keep_first_stage();
    ends(&folder.temper(&["run", &folder.recipe(), "--no-cache"]), 0, &[]);
    let first = read_adapter(&folder.path("run/adapter")).unwrap();
    let second = |run: &str, sets: &[&str]| {
        let (recipe, output) = (folder.recipe(), format!("output={}", folder.path(run).display()));
        let adapter = format!("stages.0.adapter={}", folder.path("run/adapter").display());
        let mut arguments = vec!["run", &recipe, "--no-cache", "--set", &output, "--set", &adapter];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        folder.temper(&arguments)
    };
    // At a rate of nearly nothing what is trained on stays what it was.
    let still = ["stages.0.learning_rate=1e-12", "stages.0.early_stopping_patience=0"];
    ends(&second("on", &still), 0, &[]);
    let on = read_adapter(&folder.path("on/adapter")).unwrap();
    let largest = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    for (was, is) in first.modules.iter().zip(&on.modules) {
        assert!(largest(&was.b, &is.b) < 1e-6 && was.b.iter().any(|b| *b != 0.0), "{}", was.module);
    }
    // Another rank cannot be trained on; the error says what to write.
    let other = second("other", &["stages.0.lora_rank=8"]);
    ends(&other, 2, &["stages.0.adapter", "is trained on as it is", "write lora_rank: 4", "adapter_use: merge"]);

    // Merged, another rank is trained over it; the run leaves no adapter, since none belongs to the base as it is.
    let merge = [&still[..], &["stages.0.adapter_use=merge", "stages.0.lora_rank=8"]].concat();
    ends(&second("over", &merge), 0, &[]);
    assert!(!folder.path("over/adapter").exists());
    let (one, two) = (folder.path("run/merged"), folder.path("over/merged"));
    let (one, two) = (Checkpoint::open(&one).unwrap(), Checkpoint::open(&two).unwrap());
    for (name, shape) in one.config().tensor_shapes() {
        let (was, is) = (one.tensor(&name, &shape).unwrap(), two.tensor(&name, &shape).unwrap());
        assert!(largest(&was, &is) < 1e-6, "{name}");
    }
    let full = [&still[..], &["stages.0.mode=full", "stages.0.lora_rank=null"]].concat();
    ends(&second("full", &full), 0, &[]);
    let full = Checkpoint::open(&folder.path("full/merged")).unwrap();
    let name = "model.layers.0.self_attn.q_proj.weight";
    assert!(largest(&one.tensor(name, &[32, 32]).unwrap(), &full.tensor(name, &[32, 32]).unwrap()) < 1e-6);

    // An adapter over other weights is refused, and one of a kind that is not LoRA.
    let base = format!("base={}", folder.path("run/merged").display());
    ends(&second("elsewhere", &[&base]), 2, &["the adapter was trained over", "not over"]);
    let config = folder.path("run/adapter/adapter_config.json");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("\"LORA\"", "\"IA3\"")).unwrap();
    ends(&second("ia3", &[]), 2, &["peft_type: only LORA is supported, got \"IA3\""]);
    let nowhere = folder.temper(&["plan", &folder.recipe(), "--set", "stages.0.adapter=nowhere"]);
    ends(&nowhere, 2, &["there is no adapter_config.json in", "hint:"]);
}

#[test]
fn a_run_or_a_base_is_exported_afterwards() {
    let folder = Folder::new();
    folder.keep_first_stage();
    ends(&folder.temper(&["run", &folder.recipe(), "--no-cache"]), 0, &[]);
    let at = |name: &str| folder.path(name).display().to_string();
    let (run, base, adapter) = (at("run"), at("base"), at("run/adapter"));
    let merged = words(&folder, &["--base", &at("run/merged")]);
    for (kind, of) in [("f32", "gguf-f32"), ("q8_0", "gguf-q8_0")] {
        let output = folder.temper(&["export", &run, "--to", "gguf", "--type", kind]);
        ends(&output, 0, &[]);
        assert_eq!(stdout(&output).trim(), at(&format!("run/{of}")));
    }
    assert_eq!(words(&folder, &["--base", &at("run/gguf-f32")]), merged);
    // The base with an adapter merged in is the run's merged model.
    let out = at("elsewhere");
    let arguments = ["export", &base, "--to", "merged", "--type", "f32", "--adapter", &adapter, "--output", &out];
    ends(&folder.temper(&arguments), 0, &[]);
    let bytes = |path: &str| std::fs::read(folder.path(path)).unwrap();
    assert!(bytes("elsewhere/merged/model.safetensors") == bytes("run/merged/model.safetensors"));
    ends(
        &folder.temper(&["export", &run, "--to", "merged", "--type", "q8_0"]),
        2,
        &["not blocks of bits", "--to gguf"],
    );
    std::fs::remove_dir_all(folder.path("run/merged")).unwrap();
    ends(&folder.temper(&["export", &run, "--to", "gguf"]), 2, &["has no merged/", "hint:"]);
    assert!(!stderr(&folder.temper(&["export", "--help"])).contains("error"));
}

#[test]
fn what_does_not_go_together_is_refused() {
    let folder = Folder::new();
    folder.keep_first_stage();
    let refused = |sets: &[&str], pieces: &[&str]| {
        let recipe = folder.recipe();
        let mut arguments = vec!["plan", &recipe];
        sets.iter().for_each(|set| arguments.extend(["--set", set]));
        ends(&folder.temper(&arguments), 2, pieces);
    };
    refused(&["stages.0.use_dora=true", "stages.0.lora_dropout=0.1"], &["stages.0.use_dora", "lora_dropout"]);
    refused(&["stages.0.use_dora=true", "stages.0.weight_average=0.5"], &["no factor leads"]);
    refused(
        &["stages.0.modules_to_save=[lm_head]", "stages.0.weight_average=0.5"],
        &["stages.0.modules_to_save", "not averaged"],
    );
    refused(&["stages.0.target_modules=[q_prj]"], &["did you mean `q_proj`?"]);
    refused(
        &["stages.0.target_modules=[layers.7.mlp.down_proj]"],
        &["names no linear of the base, which has 2 layers"],
    );
    refused(&["stages.0.init_lora_weights=pissa"], &["`pissa` is an initialisation that is not in this version"]);
    refused(&["memory_limit=1MiB"], &["memory_limit", "tokens a micro-batch takes", "activation_checkpointing: true"]);
    refused(&["memory_limit=much"], &["memory_limit", "`8GiB`"]);
    refused(&["export=[gguf]"], &["export.0", "gguf:q8_0"]);
}

/// The micro-batch is as large as the memory allows; what it takes is what the plan says.
#[test]
fn a_memory_limit_chooses_the_micro_batch() {
    let folder = Folder::new();
    folder.keep_first_stage();
    let plan = |limit: &str| -> (u64, u64) {
        let limit = format!("memory_limit={limit}");
        let output = folder.temper(&["plan", &folder.recipe(), "--json", "--set", &limit]);
        ends(&output, 0, &[]);
        let plan: Value = serde_json::from_slice(&output.stdout).unwrap();
        let settings = plan["settings"].as_array().unwrap();
        let tokens = settings.iter().find(|s| s["path"] == "stages.0.micro_batch_tokens").unwrap();
        (tokens["value"].as_u64().unwrap(), plan["stages"][0]["estimate"]["memory_bytes"].as_u64().unwrap())
    };
    // Four rows of 256 tokens are a whole step.
    let (all, most) = plan("8GiB");
    let (usual, least) = plan("null");
    assert_eq!((all, usual), (1024, 256));
    let middle = (least + most) / 2;
    let (some, takes) = plan(&middle.to_string());
    assert!((512..768).contains(&some) && takes <= middle, "{some} tokens take {takes} of {middle}");
}
