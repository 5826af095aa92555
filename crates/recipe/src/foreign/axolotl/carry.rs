//! Axolotl's recipes here and back.

use serde_json::json;

use crate::precision::Precision;
use crate::problem::Problem;
use crate::recipe::Recipe;
use crate::rows::{RowFiles, RowFormat};
use crate::stage::{Mode, StageKind};

use super::super::carry::{As, Carried, Exporter, Given, Importer, Pair, When, refusal};
use super::super::document::{Document, texts};
use super::super::family;
use super::super::view::Technique;
use super::{NAMES, grpo, technique};

const PAIRS: &[Pair] = &[
    Pair::new("sequence_len", "max_length", Some("512")),
    Pair::new("learning_rate", "learning_rate", None),
    Pair::new("weight_decay", "weight_decay", Some("0.0")),
    Pair::new("adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("adam_beta2", "adam_beta2", Some("0.999")),
    Pair::new("adam_epsilon", "adam_epsilon", Some("1e-8")),
    Pair::new("max_grad_norm", "max_grad_norm", Some("1.0")),
    Pair::new("optimizer", "optimizer", Some("adamw_torch_fused")).said(As::Words(&[
        ("adamw_torch_fused", "adamw"),
        ("adamw_torch", "adamw"),
        ("adamw_hf", "adamw"),
        ("muon", "muon"),
    ])),
    Pair::new("lora_r", "lora_rank", None).when(When::Lora),
    Pair::new("lora_alpha", "lora_alpha", None).when(When::Lora),
    Pair::new("lora_dropout", "lora_dropout", Some("0.0")).when(When::Lora),
    Pair::new("peft_use_rslora", "use_rslora", None).when(When::Lora),
    Pair::new("peft_use_dora", "use_dora", None).when(When::Lora),
    Pair::new("loraplus_lr_ratio", "loraplus_lr_ratio", None).when(When::Lora),
    Pair::new("lora_modules_to_save", "modules_to_save", None).when(When::Lora),
    Pair::new("gradient_checkpointing", "activation_checkpointing", Some("false")),
    Pair::new("seed", ".seed", Some("42")),
    Pair::new("output_dir", ".output", None),
    Pair::new("eval_steps", "eval_steps", None).when(When::Validation),
    Pair::new("early_stopping_patience", "early_stopping_patience", Some("0")).when(When::Validation),
    Pair::new("save_steps", "save_steps", None),
    Pair::new("save_total_limit", "keep_checkpoints", None),
    Pair::new("rl_beta", "beta", Some("0.1")).when(When::Dpo),
    Pair::new("dpo_label_smoothing", "label_smoothing", None).when(When::Dpo),
];

const REASONS: &[(&str, &str)] = &[
    ("sample_packing", "rows are always packed here, and never see each other"),
    ("eval_sample_packing", "rows are always packed here, and never see each other"),
    ("pad_to_sequence_len", "rows are packed without padding here"),
    ("flash_attention", "how attention is computed there"),
    ("attn_implementation", "how attention is computed there"),
    ("train_on_inputs", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("load_in_4bit", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("load_in_8bit", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("wandb*", "every step is written to metrics.jsonl"),
    ("logging_steps", "every step is written to metrics.jsonl"),
    ("deepspeed*", "one machine, one process here"),
    ("fsdp*", "one machine, one process here"),
    ("tf32", "products are f32 or bf16 here"),
    ("special_tokens*", "the model's own tokens are used"),
    ("dataset_prepared_path", "prepared rows are cached by their hash here"),
    ("val_set_size", "rows are not split by a recipe here: `temper init` splits, or --validation FILE"),
    ("chat_template", "the model's own template is used"),
    ("evals_per_epoch", "validation is every eval_steps here"),
    ("saves_per_epoch", "checkpoints are every save_steps here"),
    ("trl.use_vllm", "how answers are sampled there"),
    ("trl.vllm*", "how answers are sampled there"),
    ("vllm*", "how answers are sampled there"),
    ("trl.log_completions", "completions are written to rollouts-N.jsonl"),
    ("trl.num_completions_to_print", "completions are written to rollouts-N.jsonl"),
    ("trl.sync_ref_model", "the reference stays what it is here"),
    ("trl.ref_model*", "the reference stays what it is here"),
];

pub(in super::super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    of.name(None, "the file's name");
    of.base("base_model");
    let technique = technique(document);
    of.kind = match technique {
        Technique::Rft => StageKind::Rft,
        Technique::Cpt => StageKind::Cpt,
        Technique::Dpo => StageKind::Dpo,
        _ => StageKind::Sft,
    };
    of.put("stages.0.kind", of.kind.to_string(), "");
    if let Some(rl) = of.text("rl") {
        match rl.as_str() {
            "dpo" | "grpo" => {}
            "ipo" => of.put("stages.0.loss_type", "ipo", "rl"),
            _ => return Err(refusal(&format!("`rl: {rl}` has no counterpart"), "dpo, ipo and grpo have")),
        }
    }
    let adapter = of.text("adapter");
    of.lora = adapter.as_deref().is_some_and(|adapter| adapter != "none");
    of.put(
        "stages.0.mode",
        if of.lora { "lora" } else { "full" },
        if adapter.is_some() { "adapter" } else { "no adapter is named" },
    );
    if adapter.as_deref() == Some("qlora") {
        of.list("adapter", "the base is quantised there: here only a GGUF that is, by frozen_weights: as_stored");
    }
    rows(&mut of);
    family::precision(&mut of, "bf16", "f32");
    family::import(&mut of, &NAMES);
    let ratio = of.number("cosine_min_lr_ratio");
    if let (Some(ratio), Some(rate)) = (ratio, document.number("learning_rate")) {
        of.put("stages.0.min_lr", json!(ratio * rate), "cosine_min_lr_ratio x learning_rate");
    }
    if of.lora {
        if of.truth("lora_target_linear") == Some(true) {
            of.put("stages.0.target_modules", "all-linear", "lora_target_linear");
        }
        of.pairs(&[Pair::new("lora_target_modules", "target_modules", None).said(As::Modules)]);
    }
    if of.kind == StageKind::Rft {
        grpo::import(&mut of)?;
        of.pairs(PAIRS.iter().filter(|pair| !matches!(pair.theirs, "sequence_len" | "rl_beta")));
    } else {
        of.pairs(PAIRS);
    }
    of.finish(REASONS)
}

fn rows(of: &mut Importer<'_>) {
    let document = of.document;
    if !of.given_rows() {
        let mut count = 0;
        for section in ["datasets", "pretraining_dataset"] {
            for index in (0..).take_while(|index| document.has(&format!("{section}.{index}"))) {
                let at = |key: &str| format!("{section}.{index}.{key}");
                let files = document.at(&at("data_files")).map(|leaf| texts(leaf.node)).unwrap_or_default();
                let path = of.text(&at("path")).unwrap_or_default();
                // A kind of file as the path, and the files beside it.
                let paths = if files.is_empty() { vec![path] } else { files };
                of.take(&at("data_files"));
                of.take(&at("ds_type"));
                let format = format_of(of, &at("type"), &at("field_messages"));
                for path in paths {
                    let path = of.path(&path, "hf:datasets/");
                    let from = format!("{section}.{index}");
                    of.put(&format!("stages.0.train.{count}.path"), path, &from);
                    if let Some(format) = format {
                        of.put(&format!("stages.0.train.{count}.format"), format, &from);
                    }
                    count += 1;
                }
                if document.text(&at("split")) == Some("train") {
                    of.take(&at("split"));
                }
            }
        }
    } else {
        for section in ["datasets", "pretraining_dataset"] {
            for index in (0..).take_while(|index| document.has(&format!("{section}.{index}.path"))) {
                of.list(&format!("{section}.{index}.path"), "--data gives other rows in its place");
                of.take(&format!("{section}.{index}"));
            }
        }
    }
    if !of.validation
        && let Some(path) = of.text("test_datasets.0.path")
    {
        let path = of.path(&path, "hf:datasets/");
        let format = format_of(of, "test_datasets.0.type", "test_datasets.0.field_messages");
        of.take("test_datasets.0.ds_type");
        of.take("test_datasets.0.split");
        match format {
            Some(format) => {
                of.put("stages.0.validation.path", path, "test_datasets");
                of.put("stages.0.validation.format", format, "test_datasets");
            }
            None => of.put("stages.0.validation", path, "test_datasets"),
        }
        of.validation = true;
    }
}

/// The format of a data set's rows; what has no name here is told by the rows.
fn format_of(of: &mut Importer<'_>, kind: &str, messages: &str) -> Option<&'static str> {
    let field = of.document.text(messages);
    let given = of.document.text(kind);
    let format = match (given, field) {
        (Some("chat_template"), Some("conversations")) => Some("sharegpt"),
        (Some("chat_template"), None | Some("messages")) => Some("messages"),
        (Some("alpaca"), _) => Some("alpaca"),
        (Some("completion" | "pretrain"), _) => Some("text"),
        (Some(kind), _) if kind.starts_with("chat_template.") => Some("preference"),
        _ => None,
    };
    if format.is_some() {
        of.take(kind);
        of.take(messages);
    } else if given.is_some() {
        of.list(kind, "the rows tell their format here");
    }
    format
}

const OURS: &[(&str, &str)] = &[
    ("rewards*", "a Python function of your own there"),
    ("rollouts*", "no counterpart in its `trl` section"),
    ("policy*", "no counterpart in its `trl` section"),
    ("baseline*", "measure it before the run"),
    ("micro_batch_tokens", "rows are counted there, not tokens"),
    ("evaluation*", "`temper eval` judges what comes out"),
    ("tune*", "`temper tune` searches"),
    ("mix*", "data sets are joined as they lie: no shares there"),
    ("domain_loss_weight", "no weights of the loss there"),
    ("base.sha256", "nothing is checked there"),
    ("data_licence", "not said there"),
    ("export*", "`axolotl merge-lora` merges"),
];

pub(in super::super) fn export(recipe: &Recipe) -> Result<Carried, Problem> {
    let mut to = Exporter::new(recipe)?;
    let stage = to.stage;
    let rft = stage.kind.value == StageKind::Rft;
    let model = to.model();
    to.put("base_model", model, "");
    to.take("kind");
    to.take(".name");
    family::mode(&mut to);
    if stage.mode.value != Mode::Full {
        to.put("adapter", "lora", "");
    }
    let cpt = stage.kind.value == StageKind::Cpt;
    if stage.kind.value == StageKind::Dpo {
        let loss = to.take("loss_type");
        match loss.as_ref().and_then(serde_json::Value::as_str) {
            Some("ipo") => to.put("rl", "ipo", ""),
            Some("sigmoid") | None => to.put("rl", "dpo", ""),
            Some(_) => {
                to.put("rl", "dpo", "");
                to.list("loss_type", "dpo and ipo only by their names: see dpo_loss_type");
            }
        }
    }
    for (index, files) in to.train().into_iter().enumerate() {
        data_set(&mut to, &format!("datasets.{index}"), &files, stage.kind.value);
    }
    if let Some(files) = to.validation() {
        data_set(&mut to, "test_datasets.0", &files, stage.kind.value);
        to.put("test_datasets.0.split", "train", "the only split of a file");
        to.put("eval_strategy", "steps", "");
    } else {
        to.put("val_set_size", json!(0.0), "");
    }
    if !matches!(stage.kind.value, StageKind::Dpo | StageKind::Rft) {
        to.put("sample_packing", true, "");
        to.put("flash_attention", true, "keeps packed rows apart");
    }
    if !cpt && !rft {
        to.put("train_on_inputs", false, "");
    }
    to.take(".precision");
    to.put("bf16", recipe.precision.value == Precision::Bf16, "");
    if stage.mode.value != Mode::Full {
        match to.take("target_modules") {
            Some(modules) if modules == json!(crate::lora::Linear::all()) => to.put("lora_target_linear", true, ""),
            Some(modules) => to.put("lora_target_modules", modules, ""),
            None => {}
        }
    }
    family::export(&mut to, &NAMES);
    if rft {
        grpo::export(&mut to);
        to.pairs(PAIRS.iter().filter(|pair| pair.theirs != "rl_beta"));
    } else {
        to.pairs(PAIRS);
    }
    Ok(to.finish("Axolotl", OURS))
}

fn data_set(to: &mut Exporter<'_>, at: &str, files: &RowFiles, kind: StageKind) {
    let path = files.path.display().to_string();
    let path = path.strip_prefix("hf:datasets/").map_or(path.clone(), str::to_owned);
    to.put(&format!("{at}.path"), path.as_str(), "");
    if !files.path.to_string_lossy().starts_with("hf:") {
        let json = ["json", "jsonl"].iter().any(|end| path.ends_with(end));
        if json {
            to.put(&format!("{at}.ds_type"), "json", "");
        }
    }
    if kind == StageKind::Rft {
        to.script.put_text(
            &format!("{at}.type"),
            "null".to_owned(),
            "rows with `prompt`: a type names a function there",
        );
        if *files != RowFiles::plain(files.path.clone()) {
            to.remark(
                "train",
                &files.extras().to_string(),
                "weights, names, formats and columns of a source are not written",
            );
        }
        return;
    }
    let told = "the rows tell their format in Temper: say another type where it does not fit";
    let (kind, comment) = match (files.format, kind) {
        (Some(RowFormat::Alpaca), _) => ("alpaca", ""),
        (Some(RowFormat::Text), _) | (_, StageKind::Cpt) => ("completion", ""),
        (Some(RowFormat::Preference), _) | (_, StageKind::Dpo) => ("chat_template.default", ""),
        (Some(RowFormat::Messages), _) => ("chat_template", ""),
        (Some(RowFormat::Sharegpt), _) => {
            to.put(&format!("{at}.field_messages"), "conversations", "");
            ("chat_template", "")
        }
        (Some(other), _) => {
            to.remark(
                "format",
                &other.to_string(),
                "no type of that name: `temper data convert --to messages` writes one",
            );
            ("chat_template", "")
        }
        (None, _) => ("chat_template", told),
    };
    to.put(&format!("{at}.type"), kind, comment);
    if files.weight.is_some() || files.name.is_some() || !files.columns.is_empty() {
        to.remark("train", &files.extras().to_string(), "weights, names and columns of a source are not written");
    }
}
