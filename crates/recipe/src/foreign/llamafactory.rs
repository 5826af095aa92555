//! LLaMA-Factory: one flat YAML, the trainer's arguments among its own. Unknown keys are refused unless `ALLOW_EXTRA_ARGS` is set.

use std::path::Path;

use serde_json::{Value, json};

use crate::precision::Precision;
use crate::problem::Problem;
use crate::recipe::Recipe;
use crate::stage::{Mode, StageKind};

use super::carry::{As, Carried, Exporter, Given, Importer, Pair, When, refusal};
use super::document::{Document, texts};
use super::family::{self, Names};
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Said, Technique, View};

const PARSER: Cited = Cited { what: "llamafactory.hparams.parser", when: "0.9.5" };
const ARGS: Cited = Cited { what: "llamafactory.hparams", when: "0.9.5" };

const NAMES: Names = Names {
    micro: ("per_device_train_batch_size", 8),
    accumulate: ("gradient_accumulation_steps", 1),
    epochs: ("num_train_epochs", 3.0),
    steps: "max_steps",
    schedule: ("lr_scheduler_type", "linear"),
    ratio: true,
};

const PAIRS: &[Pair] = &[
    Pair::new("cutoff_len", "max_length", Some("2048")),
    Pair::new("learning_rate", "learning_rate", Some("5e-5")),
    Pair::new("weight_decay", "weight_decay", Some("0.0")),
    Pair::new("adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("adam_beta2", "adam_beta2", Some("0.999")),
    Pair::new("adam_epsilon", "adam_epsilon", Some("1e-8")),
    Pair::new("max_grad_norm", "max_grad_norm", Some("1.0")),
    Pair::new("lora_rank", "lora_rank", Some("8")).when(When::Lora),
    Pair::new("lora_dropout", "lora_dropout", Some("0.0")).when(When::Lora),
    Pair::new("use_rslora", "use_rslora", Some("false")).when(When::Lora),
    Pair::new("use_dora", "use_dora", Some("false")).when(When::Lora),
    Pair::new("loraplus_lr_ratio", "loraplus_lr_ratio", None).when(When::Lora),
    Pair::new("gradient_checkpointing", "activation_checkpointing", None),
    Pair::new("seed", ".seed", Some("42")),
    Pair::new("output_dir", ".output", None),
    Pair::new("mask_history", "mask_history", Some("false")),
    Pair::new("eval_steps", "eval_steps", None).when(When::Validation),
    Pair::new("early_stopping_steps", "early_stopping_patience", Some("0")).when(When::Validation),
    Pair::new("save_steps", "save_steps", Some("500")),
    Pair::new("save_total_limit", "keep_checkpoints", None),
    Pair::new("pref_beta", "beta", Some("0.1")).when(When::Dpo),
    Pair::new("pref_ftx", "rpo_alpha", Some("0.0")).when(When::Dpo),
    Pair::new("dpo_label_smoothing", "label_smoothing", None).when(When::Dpo),
    Pair::new("pref_loss", "loss_type", Some("sigmoid"))
        .said(As::Words(&[("sigmoid", "sigmoid"), ("hinge", "hinge"), ("ipo", "ipo")]))
        .when(When::Dpo),
];

/// Keys of the trainer that older releases have, which LLaMA-Factory 0.9.5 takes too.
const OLDER: &[&str] = &[
    "warmup_ratio",
    "evaluation_strategy",
    "group_by_length",
    "overwrite_output_dir",
    "logging_dir",
    "save_safetensors",
    "include_tokens_per_second",
    "no_cuda",
    "adam_epsilon",
    "half_precision_backend",
];

const OPEN: &[&str] = &[
    "lr_scheduler_kwargs",
    "deepspeed",
    "fsdp_config",
    "rope_scaling",
    "ray_init_kwargs",
    "vllm_config",
    "sglang_config",
    "gradient_checkpointing_kwargs",
    "optim_args",
    "accelerator_config",
    "liger_kernel_config",
    "parallelism_config",
];

pub(super) fn findings(document: &Document) -> Vec<Finding> {
    let own = include_str!("llamafactory_keys.txt").lines();
    let trainer = include_str!("transformers_keys.txt").lines();
    let known: Vec<&str> =
        own.chain(trainer).filter(|line| !line.starts_with('#')).chain(OLDER.iter().copied()).collect();
    let renamed = [
        ("base_model", "model_name_or_path"),
        ("model", "model_name_or_path"),
        ("sequence_len", "cutoff_len"),
        ("max_length", "cutoff_len"),
        ("max_seq_length", "cutoff_len"),
        ("lora_r", "lora_rank"),
        ("r", "lora_rank"),
        ("lora_target_modules", "lora_target"),
        ("target_modules", "lora_target"),
        ("load_in_4bit", "quantization_bit"),
        ("micro_batch_size", "per_device_train_batch_size"),
        ("num_epochs", "num_train_epochs"),
        ("train_on_inputs", "train_on_prompt"),
        ("sample_packing", "neat_packing"),
        ("beta", "pref_beta"),
        ("dpo_beta", "pref_beta"),
        ("optimizer", "optim"),
        ("lr_scheduler", "lr_scheduler_type"),
    ];
    let what = Unknown {
        severity: Severity::Error,
        reason: "a key that is not in its arguments stops it at once",
        source: PARSER,
    };
    let mut findings = unknown(document, &known, &renamed, OPEN, what);
    let mut find = |rule, path: &str, found: String, reason: &str, corrected: Option<String>| {
        let place = document.at(path).map_or(crate::problem::Place::Whole, |leaf| leaf.place.clone());
        let (reason, source, severity) = (reason.to_owned(), PARSER.to_string(), Severity::Error);
        findings.push(Finding { rule, severity, place, found, reason, source, corrected });
    };
    let merges = document.has("export_dir");
    if document.truth("do_train") != Some(true) && !merges && !document.has("infer_backend") && document.has("dataset")
    {
        find(
            "trains-nothing",
            "stage",
            "`do_train` is not true".into(),
            "without it nothing is trained, and no error says so",
            Some(document.line("do_train", "true")),
        );
    }
    let asked = document.truth("do_eval") == Some(true)
        || document.text("eval_strategy").is_some_and(|word| !matches!(word, "no" | "false"));
    let share = document.number("val_size").unwrap_or(0.0);
    if asked && !document.has("eval_dataset") && share < 1e-6 {
        find(
            "validation-without-rows",
            if document.has("eval_strategy") { "eval_strategy" } else { "do_eval" },
            "validation is asked for, and neither `eval_dataset` nor `val_size` is given".into(),
            "it refuses that",
            Some(document.line("val_size", "0.05")),
        );
    }
    if document.has("eval_dataset") && share > 1e-6 {
        find(
            "refused-together",
            "val_size",
            "`val_size` and `eval_dataset` are both given".into(),
            "it refuses the two together",
            None,
        );
    }
    if document.truth("mask_history") == Some(true) && document.truth("train_on_prompt") == Some(true) {
        find(
            "refused-together",
            "train_on_prompt",
            "`mask_history` and `train_on_prompt` are both on".into(),
            "it refuses the two together",
            Some(document.line("train_on_prompt", "false")),
        );
    }
    if document.has("interleave_probs") && document.text("mix_strategy").is_none_or(|word| word == "concat") {
        find(
            "refused-together",
            "interleave_probs",
            "`interleave_probs` with `mix_strategy: concat`".into(),
            "probabilities need an interleaving strategy",
            Some(document.line("mix_strategy", "interleave_under")),
        );
    }
    if let (Some(names), Some(shares)) = (document.at("dataset"), document.at("interleave_probs")) {
        let (names, shares) = (texts(names.node), texts(shares.node));
        if names.len() != shares.len() {
            find(
                "mix-sum",
                "interleave_probs",
                format!("{} data sets and {} probabilities", names.len(), shares.len()),
                "each data set needs one",
                None,
            );
        }
        let sum: f64 = shares.iter().filter_map(|share| share.parse::<f64>().ok()).sum();
        if (sum - 1.0).abs() > 1e-6 {
            find(
                "mix-sum",
                "interleave_probs",
                format!("the probabilities sum to {}", super::script::number(sum)),
                "they are shares of the mix and sum to 1",
                None,
            );
        }
    }
    let lora = document.text("finetuning_type").unwrap_or("lora") == "lora";
    for key in ["loraplus_lr_ratio", "use_rslora", "use_dora", "pissa_init"] {
        if !lora && document.has(key) && document.truth(key) != Some(false) {
            find(
                "adapter-keys-unused",
                key,
                format!("`{key}` without `finetuning_type: lora`"),
                "it refuses that",
                Some(document.line("finetuning_type", "lora")),
            );
        }
    }
    if document.has("quantization_bit") && matches!(document.text("finetuning_type"), Some("full" | "freeze")) {
        find(
            "quantised-full",
            "quantization_bit",
            "a quantised base, and all weights are trained".into(),
            "quantised weights cannot be trained",
            Some(document.line("finetuning_type", "lora")),
        );
    }
    if document.has("adapter_name_or_path") && document.has("export_quantization_bit") {
        find(
            "merge-into-quantised",
            "export_quantization_bit",
            "an adapter is merged and the result quantised in one step".into(),
            "it refuses that: merge first",
            None,
        );
    }
    if document.text("stage") == Some("dpo")
        && document.text("pref_loss").is_some_and(|loss| loss != "sigmoid")
        && document.number("dpo_label_smoothing").is_some_and(|s| s > 0.0)
    {
        find(
            "refused-together",
            "dpo_label_smoothing",
            "`dpo_label_smoothing` with another loss than sigmoid".into(),
            "it refuses that",
            Some(document.line("dpo_label_smoothing", "0.0")),
        );
    }
    let not_sft = document.text("stage").is_some_and(|stage| stage != "sft");
    for key in ["neat_packing", "train_on_prompt", "mask_history"] {
        if not_sft && document.truth(key) == Some(true) {
            find(
                "refused-together",
                key,
                format!("`{key}` outside of `stage: sft`"),
                "it refuses that",
                Some(document.line(key, "false")),
            );
        }
    }
    if let (Some(model), Some(template)) = (document.text("model_name_or_path"), document.text("template")) {
        findings.extend(super::models::mismatch(document, "template", model, template, ARGS));
    }
    findings
}

pub(super) fn view(document: &Document) -> View {
    let stage = document.text("stage").unwrap_or("sft");
    let technique = match stage {
        "pt" => Technique::Cpt,
        "dpo" | "kto" | "rm" => Technique::Dpo,
        "ppo" => Technique::Rft,
        _ => Technique::Sft,
    };
    let kind = document.word("finetuning_type");
    let adapters = match kind {
        Some(kind) => kind.map(|kind| matches!(kind.as_str(), "lora" | "oft")),
        None => Said { value: true, key: "finetuning_type".to_owned(), place: None },
    };
    let merges = document.at("export_dir").map(|leaf| Said {
        value: document.has("adapter_name_or_path"),
        place: Some(leaf.place.clone()),
        key: leaf.path,
    });
    let share = document.said("val_size").filter(|share| share.value > 0.0);
    let validates = match (share, document.at("eval_dataset")) {
        (Some(share), _) => share.map(|_| true),
        (None, Some(leaf)) => Said { value: true, place: Some(leaf.place.clone()), key: leaf.path },
        (None, None) => Said { value: false, key: "eval_dataset".to_owned(), place: None },
    };
    let strategy = document.word("eval_strategy").or_else(|| document.word("evaluation_strategy"));
    let on = match strategy {
        Some(word) => word.map(|word| !matches!(word.as_str(), "no" | "false" | "False")),
        None => Said { value: document.truth("do_eval") == Some(true), key: "eval_strategy".to_owned(), place: None },
    };
    let lora = adapters.value;
    family::view(
        document,
        &NAMES,
        View {
            technique: Some(technique),
            rank: document.said_or("lora_rank", 8.0).filter(|_| lora),
            // Left out, alpha is twice the rank.
            alpha: document.said("lora_alpha").filter(|_| lora),
            adapters: Some(adapters),
            rslora: document.switched("use_rslora", false),
            rate: document.said_or("learning_rate", 5e-5).filter(|_| merges.is_none()),
            eval_every: document.said("eval_steps").filter(|every| every.value >= 1.0),
            eval_on: Some(on),
            validates: Some(validates),
            save_every: document
                .said_or("save_steps", 500.0)
                .filter(|every| every.value >= 1.0 && every.place.is_some()),
            packs: match document.truth("neat_packing") {
                Some(true) => document.switched("neat_packing", false),
                _ => document.switched("packing", false),
            },
            isolates: Some(document.truth("neat_packing") == Some(true)),
            trains_prompt: document.switched("train_on_prompt", false).filter(|said| said.value),
            bits: document.said("quantization_bit"),
            merges,
            model: document.word("model_name_or_path"),
            ..View::default()
        },
    )
}

const REASONS: &[(&str, &str)] = &[
    ("template", "the model's own template is used"),
    ("do_train", "a run trains"),
    ("do_eval", "with validation rows a run validates"),
    ("eval_strategy", "with validation rows a run validates"),
    ("packing", "rows are always packed here, and never see each other"),
    ("neat_packing", "rows are always packed here, and never see each other"),
    ("logging_steps", "every step is written to metrics.jsonl"),
    ("plot_loss", "every run has a report"),
    ("report_to", "every step is written to metrics.jsonl"),
    ("overwrite*", "a run never writes over another"),
    ("preprocessing_num_workers", "rows are prepared in parallel"),
    ("val_size", "rows are not split by a recipe here: `temper init` splits, or --validation FILE"),
    ("quantization*", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("train_on_prompt", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("deepspeed*", "one machine, one process here"),
    ("ddp*", "one machine, one process here"),
    ("flash_attn", "how attention is computed there"),
    ("dataset_dir", "where the rows were looked for"),
    ("load_best_model_at_end", "with validation rows a run always ends with its best weights"),
];

pub(super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    if document.has("export_dir") {
        return Err(refusal("it merges and trains nothing", "`temper export --to merged` merges"));
    }
    of.name(None, "the file's name");
    of.base("model_name_or_path");
    let stage = of.text("stage").unwrap_or_else(|| "sft".to_owned());
    of.kind = match stage.as_str() {
        "sft" => StageKind::Sft,
        "pt" => StageKind::Cpt,
        "dpo" if document.text("pref_loss").is_none_or(|loss| matches!(loss, "sigmoid" | "hinge" | "ipo")) => {
            StageKind::Dpo
        }
        _ => {
            return Err(refusal(
                &format!("`stage: {stage}` with this loss has no counterpart"),
                "pt, sft and dpo have",
            ));
        }
    };
    of.put("stages.0.kind", of.kind.to_string(), "stage");
    let kind = of.text("finetuning_type");
    of.lora = kind.as_deref().is_none_or(|kind| kind == "lora");
    match kind.as_deref() {
        None | Some("lora") => of.put("stages.0.mode", "lora", "finetuning_type"),
        Some("full") => of.put("stages.0.mode", "full", "finetuning_type"),
        Some(other) => {
            return Err(refusal(&format!("`finetuning_type: {other}` has no counterpart"), "lora and full have"));
        }
    }
    rows(&mut of);
    family::precision(&mut of, "bf16", "f32");
    family::import(&mut of, &NAMES);
    match of.text("optim").as_deref() {
        None | Some("adamw_torch" | "adamw_torch_fused") => {}
        Some(_) => of.list("optim", "AdamW is written"),
    }
    if of.truth("use_muon") == Some(true) {
        of.put("stages.0.optimizer", "muon", "use_muon");
    }
    if of.lora {
        let rank = document.number("lora_rank").unwrap_or(8.0);
        match of.number("lora_alpha") {
            Some(alpha) => of.put("stages.0.lora_alpha", json!(alpha), "lora_alpha"),
            None => of.put("stages.0.lora_alpha", json!(2.0 * rank), "left out, it is twice the rank"),
        }
        of.pairs(&[
            Pair::new("lora_target", "target_modules", Some("all")).said(As::Modules),
            Pair::new("additional_target", "modules_to_save", None).said(As::List),
        ]);
    }
    of.pairs(PAIRS);
    of.finish(REASONS)
}

fn rows(of: &mut Importer<'_>) {
    let document = of.document;
    if of.given_rows() {
        of.list("dataset", "--data gives other rows in its place");
    } else if let Some(leaf) = of.take("dataset") {
        let from = of.from(&leaf);
        for (index, name) in texts(leaf.node).iter().enumerate() {
            put_rows(of, &format!("stages.0.train.{index}"), name, &from);
        }
    }
    let shares = document.at("interleave_probs").map(|leaf| texts(leaf.node)).unwrap_or_default();
    for (index, share) in shares.iter().enumerate() {
        if let Ok(share) = share.parse::<f64>() {
            of.take("interleave_probs");
            of.put(&format!("stages.0.train.{index}.weight"), json!(share), "interleave_probs");
        }
    }
    if !of.validation
        && let Some(leaf) = of.take("eval_dataset")
        && let [name] = &texts(leaf.node)[..]
    {
        let from = of.from(&leaf);
        put_rows(of, "stages.0.validation", name, &from);
        of.validation = true;
    }
}

/// A data set by the name that `dataset_info.json` explains.
fn put_rows(of: &mut Importer<'_>, at: &str, name: &str, from: &str) {
    let folder = of.document.text("dataset_dir").unwrap_or("data").to_owned();
    let here = of.document.file.parent().unwrap_or(Path::new(""));
    let read = |folder: &Path| std::fs::read_to_string(folder.join("dataset_info.json")).ok();
    let places = [here.join(&folder), Path::new(&folder).to_owned()];
    let info = places.iter().find_map(|place| Some((place, read(place)?)));
    let entry = info.as_ref().and_then(|(place, info)| {
        let info: Value = serde_json::from_str(info).ok()?;
        Some((*place, info.get(name)?.clone()))
    });
    let Some((place, entry)) = entry else {
        of.put(&format!("{at}.path"), name, &format!("{from}: no dataset_info.json explains the name: write the file"));
        of.remark("dataset", name, "there is no dataset_info.json at hand that explains this name: give --data FILE");
        return;
    };
    let path = match (entry.get("file_name").and_then(Value::as_str), entry.get("hf_hub_url").and_then(Value::as_str)) {
        (Some(file), _) => {
            let path = place.join(file);
            std::path::absolute(&path).unwrap_or(path).display().to_string()
        }
        (None, Some(hub)) => format!("hf:datasets/{hub}"),
        (None, None) => name.to_owned(),
    };
    of.put(&format!("{at}.path"), path, from);
    let ranking = entry.get("ranking").and_then(Value::as_bool) == Some(true);
    let columns = entry.get("columns").and_then(Value::as_object);
    let messages = columns.and_then(|columns| columns.get("messages")).and_then(Value::as_str);
    let format = match (entry.get("formatting").and_then(Value::as_str), ranking, messages) {
        (_, true, _) => Some("preference"),
        (Some("sharegpt"), _, Some("messages")) => Some("messages"),
        (Some("sharegpt"), ..) => Some("sharegpt"),
        (Some("alpaca") | None, _, _) if of.kind != StageKind::Cpt && columns.is_none() => Some("alpaca"),
        _ => None,
    };
    if let Some(format) = format {
        of.put(&format!("{at}.format"), format, "dataset_info.json");
    }
}

const OURS: &[(&str, &str)] = &[
    ("micro_batch_tokens", "rows are counted there, not tokens"),
    ("evaluation*", "`temper eval` judges what comes out"),
    ("tune*", "`temper tune` searches"),
    ("mix*", "not written: mix_strategy and interleave_probs hold such shares, in rows"),
    ("domain_loss_weight", "no weights of the loss there"),
    ("base.sha256", "nothing is checked there"),
    ("data_licence", "not said there"),
    ("export*", "`llamafactory-cli export` merges"),
];

pub(super) fn export(recipe: &Recipe) -> Result<Carried, Problem> {
    let mut to = Exporter::new(recipe)?;
    let stage = to.stage;
    let model = to.model();
    to.put("model_name_or_path", model, "");
    to.take(".name");
    to.take("kind");
    let word = match stage.kind.value {
        StageKind::Sft => "sft",
        StageKind::Cpt => "pt",
        StageKind::Dpo => "dpo",
        StageKind::Rft => return Err(refusal("LLaMA-Factory has no GRPO", "--to trl, or --to nova")),
    };
    to.put("stage", word, "");
    to.put("do_train", true, "");
    family::mode(&mut to);
    to.put("finetuning_type", if stage.mode.value == Mode::Full { "full" } else { "lora" }, "");
    let mut info = serde_json::Map::new();
    let mut names = Vec::new();
    for (index, files) in to.train().into_iter().enumerate() {
        let name = format!("train_{index}");
        info.insert(name.clone(), described(&files, stage.kind.value));
        names.push((name, files.weight.map(|weight| weight.0)));
    }
    let joined = names.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(",");
    to.put("dataset", joined, "as dataset_info.json below explains");
    if names.iter().all(|(_, weight)| weight.is_some()) {
        let all: f64 = names.iter().filter_map(|(_, weight)| *weight).sum();
        let shares = names.iter().filter_map(|(_, weight)| weight.map(|weight| super::script::number(weight / all)));
        to.put("mix_strategy", "interleave_under", "");
        to.put("interleave_probs", shares.collect::<Vec<_>>().join(","), "");
    }
    if let Some(files) = to.validation() {
        info.insert("validation".to_owned(), described(&files, stage.kind.value));
        to.put("eval_dataset", "validation", "");
        to.put("eval_strategy", "steps", "");
    }
    if stage.kind.value == StageKind::Sft {
        to.put("neat_packing", true, "packed rows do not see each other");
        to.put("train_on_prompt", false, "");
    }
    to.take(".precision");
    to.put("bf16", recipe.precision.value == Precision::Bf16, "");
    if stage.mode.value != Mode::Full {
        if let Some(alpha) = to.take("lora_alpha") {
            let whole = alpha.as_f64().filter(|alpha| alpha.fract() == 0.0).map(|alpha| json!(alpha as u64));
            match whole {
                Some(alpha) => to.put("lora_alpha", alpha, ""),
                None => to.list("lora_alpha", "whole numbers only there"),
            }
        }
        match to.take("target_modules") {
            Some(modules) if modules == json!(crate::lora::Linear::all()) => to.put("lora_target", "all", ""),
            Some(Value::Array(modules)) => {
                let modules: Vec<&str> = modules.iter().filter_map(Value::as_str).collect();
                to.put("lora_target", modules.join(","), "");
            }
            _ => {}
        }
        if let Some(Value::Array(tables)) = to.take("modules_to_save").filter(|tables| tables != &json!([])) {
            let tables: Vec<&str> = tables.iter().filter_map(Value::as_str).collect();
            to.put("additional_target", tables.join(","), "");
        }
    }
    match to.take("optimizer").as_ref().and_then(Value::as_str) {
        Some("muon") => to.put("use_muon", true, ""),
        _ => to.put("optim", "adamw_torch", ""),
    }
    family::export(&mut to, &NAMES);
    to.pairs(PAIRS);
    if stage.mask_history.value && stage.kind.value != StageKind::Sft {
        to.list("mask_history", "only in SFT there");
    }
    let mut carried = to.finish("LLaMA-Factory", OURS);
    let info = serde_json::to_string_pretty(&Value::Object(info)).unwrap_or_default();
    carried.text += "\n# data/dataset_info.json:\n";
    info.lines().for_each(|line| carried.text += &format!("#   {line}\n"));
    Ok(carried)
}

/// An entry of `dataset_info.json`.
fn described(files: &crate::rows::RowFiles, kind: StageKind) -> Value {
    use crate::rows::RowFormat;
    let path = files.path.display().to_string();
    let mut entry = match path.strip_prefix("hf:datasets/") {
        Some(hub) => json!({"hf_hub_url": hub}),
        // A relative path would begin at `dataset_dir`.
        None => json!({"file_name": std::path::absolute(&files.path).unwrap_or(files.path.clone())}),
    };
    match (files.format, kind) {
        (Some(RowFormat::Sharegpt), _) => entry["formatting"] = "sharegpt".into(),
        (Some(RowFormat::Preference), _) | (_, StageKind::Dpo) => {
            entry["ranking"] = true.into();
            entry["columns"] = json!({"prompt": "prompt", "chosen": "chosen", "rejected": "rejected"});
        }
        (Some(RowFormat::Text), _) | (_, StageKind::Cpt) => entry["columns"] = json!({"prompt": "text"}),
        (Some(RowFormat::Alpaca), _) => {}
        _ => {
            entry["formatting"] = "sharegpt".into();
            entry["columns"] = json!({"messages": "messages"});
            entry["tags"] = json!({"role_tag": "role", "content_tag": "content", "user_tag": "user",
                                   "assistant_tag": "assistant", "system_tag": "system"});
        }
    }
    entry
}
