//! Unsloth's command line tool: a YAML of `data`, `training`, `lora` and `logging`, which forbids unknown keys.

use serde_json::json;

use crate::problem::Problem;
use crate::stage::StageKind;

use super::carry::{As, Carried, Given, Importer, Pair, When};
use super::document::{Document, texts};
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Said, Technique, View};

const CONFIG: Cited =
    Cited { what: "unsloth_cli.config, whose sections forbid what they do not know", when: "2026.10.9" };

const KEYS: &[&str] = &[
    "model",
    "data.dataset",
    "data.local_dataset",
    "data.format_type",
    "training.training_type",
    "training.max_seq_length",
    "training.load_in_4bit",
    "training.output_dir",
    "training.num_epochs",
    "training.learning_rate",
    "training.batch_size",
    "training.gradient_accumulation_steps",
    "training.warmup_steps",
    "training.max_steps",
    "training.save_steps",
    "training.weight_decay",
    "training.random_seed",
    "training.packing",
    "training.train_on_completions",
    "training.gradient_checkpointing",
    "lora.lora_r",
    "lora.lora_alpha",
    "lora.lora_dropout",
    "lora.target_modules",
    "lora.vision_all_linear",
    "lora.use_rslora",
    "lora.use_loftq",
    "lora.use_dora",
    "lora.finetune_vision_layers",
    "lora.finetune_language_layers",
    "lora.finetune_attention_modules",
    "lora.finetune_mlp_modules",
    "logging.enable_wandb",
    "logging.wandb_project",
    "logging.wandb_token",
    "logging.enable_tensorboard",
    "logging.tensorboard_dir",
    "logging.hf_token",
];

pub(super) fn findings(document: &Document) -> Vec<Finding> {
    let renamed = [
        ("lr", "training.learning_rate"),
        ("num_train_epochs", "training.num_epochs"),
        ("per_device_train_batch_size", "training.batch_size"),
        ("seed", "training.random_seed"),
        ("r", "lora.lora_r"),
        ("max_length", "training.max_seq_length"),
    ];
    let what = Unknown {
        severity: Severity::Error,
        reason: "a key that its section does not know is refused",
        source: CONFIG,
    };
    let mut findings = unknown(document, KEYS, &renamed, &[], what);
    if document.has("logging.wandb_token") || document.has("logging.hf_token") {
        let key = if document.has("logging.hf_token") { "logging.hf_token" } else { "logging.wandb_token" };
        findings.push(Finding {
            rule: "secret-in-recipe",
            severity: Severity::Error,
            place: document.at(key).map_or(crate::problem::Place::Whole, |leaf| leaf.place.clone()),
            found: format!("`{key}` is written out"),
            reason: "a recipe is shared and kept; a token belongs into the environment".into(),
            source: CONFIG.to_string(),
            corrected: None,
        });
    }
    findings
}

pub(super) fn view(document: &Document) -> View {
    let adapters = match document.word("training.training_type") {
        Some(word) => word.map(|word| !word.eq_ignore_ascii_case("full")),
        None => Said { value: true, key: "training.training_type".to_owned(), place: None },
    };
    let raw = document.text("data.format_type").is_some_and(|word| word.eq_ignore_ascii_case("raw"));
    let steps = document.said("training.max_steps").filter(|steps| steps.value > 0.0);
    let rows = document.said_or("training.batch_size", 2.0);
    let times = document.said_or("training.gradient_accumulation_steps", 4.0);
    let lora = adapters.value;
    View {
        technique: Some(if raw { Technique::Cpt } else { Technique::Sft }),
        rank: document.said_or("lora.lora_r", 64.0).filter(|_| lora),
        alpha: document.said_or("lora.lora_alpha", 16.0).filter(|_| lora),
        rslora: document.switched("lora.use_rslora", false),
        rate: document.said_or("training.learning_rate", 2e-4),
        epochs: if steps.is_none() { document.said_or("training.num_epochs", 3.0) } else { None },
        steps,
        batch: rows.zip(times).map(|(rows, times)| Said { value: rows.value * times.value, ..rows }),
        warmup_steps: document.said_or("training.warmup_steps", 5.0),
        save_every: document.said("training.save_steps").filter(|every| every.value >= 1.0),
        trains_prompt: document
            .switched("training.train_on_completions", false)
            .map(|said| said.map(|on| !on))
            .filter(|said| said.value),
        bits: document.switched("training.load_in_4bit", true).filter(|said| said.value).map(|said| said.map(|_| 4.0)),
        model: document.word("model"),
        adapters: Some(adapters),
        ..View::default()
    }
}

const PAIRS: &[Pair] = &[
    Pair::new("training.max_seq_length", "max_length", Some("2048")),
    Pair::new("training.learning_rate", "learning_rate", Some("2e-4")),
    Pair::new("training.warmup_steps", "warmup_steps", Some("5")),
    Pair::new("training.weight_decay", "weight_decay", Some("0.01")),
    Pair::new("training.random_seed", ".seed", Some("3407")),
    Pair::new("training.output_dir", ".output", None),
    Pair::new("lora.lora_r", "lora_rank", Some("64")).when(When::Lora),
    Pair::new("lora.lora_alpha", "lora_alpha", Some("16")).when(When::Lora),
    Pair::new("lora.lora_dropout", "lora_dropout", Some("0.0")).when(When::Lora),
    Pair::new("lora.use_rslora", "use_rslora", Some("false")).when(When::Lora),
    Pair::new("lora.use_dora", "use_dora", Some("false")).when(When::Lora),
    Pair::new("lora.target_modules", "target_modules", None).said(As::Modules).when(When::Lora),
];

const REASONS: &[(&str, &str)] = &[
    ("training.load_in_4bit", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("training.packing", "rows are always packed here, and never see each other"),
    ("training.train_on_completions", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("training.gradient_checkpointing", "activation_checkpointing is its name here; another way of it"),
    ("logging*", "every step is written to metrics.jsonl"),
    ("data.format_type", "the rows tell their format here"),
];

pub(super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    of.name(None, "the file's name");
    of.base("model");
    let raw = document.text("data.format_type").is_some_and(|word| word.eq_ignore_ascii_case("raw"));
    of.kind = if raw { StageKind::Cpt } else { StageKind::Sft };
    of.put("stages.0.kind", of.kind.to_string(), "data.format_type");
    of.lora = of.text("training.training_type").is_none_or(|word| !word.eq_ignore_ascii_case("full"));
    of.put("stages.0.mode", if of.lora { "lora" } else { "full" }, "training.training_type");
    if of.given_rows() {
        of.list("data.local_dataset", "--data gives other rows in its place");
        of.list("data.dataset", "--data gives other rows in its place");
    } else {
        let mut paths = of.take("data.local_dataset").map(|leaf| texts(leaf.node)).unwrap_or_default();
        paths.extend(of.text("data.dataset"));
        for (index, path) in paths.iter().enumerate() {
            let path = of.path(path, "hf:datasets/");
            of.put(&format!("stages.0.train.{index}.path"), path, "data");
        }
    }
    let rows = of.number("training.batch_size").unwrap_or(2.0)
        * of.number("training.gradient_accumulation_steps").unwrap_or(4.0);
    of.put("stages.0.global_batch_size", json!(rows as u64), "batch_size x gradient_accumulation_steps");
    match of.number("training.max_steps").filter(|steps| *steps > 0.0) {
        Some(steps) => {
            of.put("stages.0.max_steps", json!(steps as u64), "training.max_steps");
            of.list("training.num_epochs", "`max_steps` wins over it");
        }
        None => {
            let epochs = of.number("training.num_epochs");
            of.put("stages.0.num_train_epochs", json!(epochs.unwrap_or(3.0)), "training.num_epochs");
        }
    }
    if let Some(steps) = of.number("training.save_steps").filter(|steps| *steps > 0.0) {
        of.put("stages.0.save_steps", json!(steps as u64), "training.save_steps");
    }
    of.put("stages.0.lr_scheduler_type", "linear", "the trainer's default");
    of.pairs(PAIRS);
    of.finish(REASONS)
}
