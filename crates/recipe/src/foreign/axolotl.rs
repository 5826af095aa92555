//! Axolotl: one flat YAML. Keys, defaults and what becomes of unknown ones as in its own schemas.

use serde_json::json;

use crate::precision::Precision;
use crate::problem::Problem;
use crate::recipe::Recipe;
use crate::stage::{Mode, StageKind};

use super::carry::{As, Carried, Exporter, Given, Importer, Pair, When};
use super::document::{Document, texts};
use super::family::{self, BEGINNINGS, Names};
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Said, Technique, View};

const SCHEMA: Cited = Cited {
    what: "axolotl.utils.schemas.config.AxolotlInputConfig, which ignores what it does not know",
    when: "0.19.0",
};
const CHECKS: Cited = Cited { what: "axolotl.utils.schemas.validation", when: "0.19.0" };

const NAMES: Names = Names {
    micro: ("micro_batch_size", 1),
    accumulate: ("gradient_accumulation_steps", 1),
    epochs: ("num_epochs", 1.0),
    steps: "max_steps",
    schedule: ("lr_scheduler", "cosine"),
    ratio: true,
};

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

/// Keys whose values are handed on as they are.
const OPEN: &[&str] = &[
    "lr_scheduler_kwargs",
    "optim_args",
    "deepspeed",
    "fsdp_config",
    "special_tokens",
    "chat_template_kwargs",
    "gradient_checkpointing_kwargs",
    "trl",
    "vllm",
    "ebft",
    "qat",
    "quantization",
    "peft",
    "lora_rank_pattern",
    "lora_alpha_pattern",
    "overrides_of_model_config",
    "overrides_of_model_kwargs",
    "processor_kwargs",
    "accelerator_config",
    "added_tokens_overrides",
    "max_memory",
    "bnb_config_kwargs",
    "torch_compile_options",
    "fp8_config",
    "dynamic_checkpoint",
    "selective_checkpointing",
    "lr_groups",
    "model_quantization_config_kwargs",
    "datasets.0.roles",
    "datasets.0.type",
    "datasets.0.message_property_mappings",
    "datasets.1.type",
    "datasets.1.roles",
    "datasets.1.message_property_mappings",
    "test_datasets.0.type",
    "test_datasets.0.roles",
    "test_datasets.0.message_property_mappings",
];

/// The keys of a data set.
const OF_DATA: &[&str] = &[
    "path",
    "split",
    "type",
    "input_transform",
    "shards",
    "shards_idx",
    "preprocess_shards",
    "conversation",
    "chat_template",
    "chat_template_jinja",
    "data_files",
    "input_format",
    "name",
    "ds_type",
    "field",
    "field_human",
    "field_model",
    "field_messages",
    "field_tools",
    "field_thinking",
    "template_thinking_key",
    "message_field_role",
    "message_field_content",
    "message_property_mappings",
    "message_field_training",
    "message_field_training_detail",
    "split_thinking",
    "logprobs_field",
    "temperature",
    "roles_to_train",
    "train_on_eos",
    "train_on_eot",
    "roles",
    "drop_system_message",
    "trust_remote_code",
    "revision",
    "text_column",
    "skip",
    "field_chosen",
    "field_rejected",
    "step_separator",
    "max_completion_length",
    "train_on_last_step_only",
    "length",
    "sequence_length",
];

/// The keys at the top, as its schemas list them.
const KEYS: &str = include_str!("axolotl_keys.txt");

fn known(plugins: bool) -> Vec<String> {
    let data = ["datasets", "test_datasets", "pretraining_dataset"];
    let of_data = data.iter().flat_map(|section| OF_DATA.iter().map(move |key| format!("{section}.{key}")));
    let keys = if plugins { KEYS } else { KEYS.split("# plugins").next().unwrap_or(KEYS) };
    let top = keys.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    top.chain(of_data).chain(data.map(str::to_owned)).collect()
}

pub(super) fn findings(document: &Document) -> Vec<Finding> {
    let known = known(document.has("plugins"));
    let known: Vec<&str> = known.iter().map(String::as_str).collect();
    let renamed = [
        ("lr", "learning_rate"),
        ("max_seq_length", "sequence_len"),
        ("max_length", "sequence_len"),
        ("cutoff_len", "sequence_len"),
        ("per_device_train_batch_size", "micro_batch_size"),
        ("num_train_epochs", "num_epochs"),
        ("epochs", "num_epochs"),
        ("model_name_or_path", "base_model"),
        ("lora_rank", "lora_r"),
        ("r", "lora_r"),
        ("lr_scheduler_type", "lr_scheduler"),
        ("optim", "optimizer"),
        ("packing", "sample_packing"),
        ("evaluation_strategy", "eval_strategy"),
        ("dpo_beta", "rl_beta"),
        ("use_rslora", "peft_use_rslora"),
        ("use_dora", "peft_use_dora"),
        ("target_modules", "lora_target_modules"),
    ];
    let what = Unknown {
        severity: Severity::Error,
        reason: "a key that is not in the schema is dropped without a word, and the default holds",
        source: SCHEMA,
    };
    let mut findings = unknown(document, &known, &renamed, OPEN, what);
    let mut find = |rule, severity, path: &str, found: String, reason: &str, corrected: Option<String>| {
        let place = document.at(path).map_or(crate::problem::Place::Whole, |leaf| leaf.place.clone());
        let (reason, source) = (reason.to_owned(), CHECKS.to_string());
        findings.push(Finding { rule, severity, place, found, reason, source, corrected });
    };
    let number = |path: &str| document.number(path);
    let given = |path: &str| document.has(path);
    if given("warmup_steps") && given("warmup_ratio") {
        find(
            "refused-together",
            Severity::Error,
            "warmup_ratio",
            "`warmup_steps` and `warmup_ratio` are both given".into(),
            "it refuses the two together",
            None,
        );
    }
    for (a, b) in [("eval_steps", "evals_per_epoch"), ("save_steps", "saves_per_epoch")] {
        if given(a) && given(b) {
            find(
                "refused-together",
                Severity::Error,
                b,
                format!("`{a}` and `{b}` are both given"),
                "it refuses the two together",
                None,
            );
        }
    }
    if given("val_set_size") && number("val_set_size").unwrap_or(0.0) > 0.0 && given("test_datasets") {
        find(
            "refused-together",
            Severity::Error,
            "val_set_size",
            "`val_set_size` and `test_datasets` are both given".into(),
            "it refuses the two together",
            Some(document.line("val_set_size", "0")),
        );
    }
    if document.truth("sample_packing") == Some(true) && given("rl") {
        find(
            "packing-with-preferences",
            Severity::Error,
            "sample_packing",
            "`sample_packing` with `rl`".into(),
            "it refuses packing in preference training",
            Some(document.line("sample_packing", "false")),
        );
    }
    if let Some(patience) = number("early_stopping_patience").filter(|patience| *patience > 0.0) {
        let (save, eval) = (number("save_steps"), number("eval_steps"));
        let fits = matches!((save, eval), (Some(save), Some(eval)) if eval > 0.0 && save % eval == 0.0);
        if !fits {
            let found = format!(
                "`early_stopping_patience` is {patience}, `save_steps` {}, `eval_steps` {}",
                shown(save),
                shown(eval)
            );
            let corrected = eval.map(|eval| document.line("save_steps", &super::script::number(eval)));
            find(
                "early-stopping-steps",
                Severity::Error,
                "early_stopping_patience",
                found,
                "it wants save_steps to be a multiple of eval_steps, and both given",
                corrected,
            );
        }
    }
    if given("pretraining_dataset") && !given("max_steps") {
        let found = "`pretraining_dataset` without `max_steps`".into();
        find(
            "streaming-without-steps",
            Severity::Error,
            "pretraining_dataset",
            found,
            "a stream has no end: it wants max_steps",
            Some(document.line("max_steps", "1000")),
        );
    }
    for (index, format) in formats(document) {
        for key in ["format", "no_input_format", "system_format"] {
            let path = format!("datasets.{index}.type.{key}");
            if let Some(beginning) =
                document.text(&path).and_then(|text| BEGINNINGS.iter().find(|b| text.starts_with(**b)))
            {
                let found = format!("`{path}` begins with `{beginning}`");
                let corrected =
                    document.text(&path).map(|text| document.line(&path, &format!("\"{}\"", &text[beginning.len()..])));
                find(
                    "double-bos",
                    Severity::Error,
                    &path,
                    found,
                    "the tokenizer adds it again: the model never saw two of them",
                    corrected,
                );
            }
        }
        if matches!(format.as_deref(), Some("completion")) && document.truth("train_on_inputs") == Some(false) {
            let found = format!("`datasets.{index}.type` is completion, `train_on_inputs` is false");
            find(
                "mask-without-effect",
                Severity::Warning,
                &format!("datasets.{index}.type"),
                found,
                "plain text has no prompt: all of it carries loss whatever train_on_inputs says",
                None,
            );
        }
    }
    let missing = |end: &str| {
        (0..8).find(|index| {
            let leaf = document.at(&format!("datasets.{index}.{end}"));
            leaf.is_some_and(|leaf| texts(leaf.node) == ["none"])
        })
    };
    for end in ["train_on_eos", "train_on_eot"] {
        if let Some(index) = missing(end) {
            let path = format!("datasets.{index}.{end}");
            find(
                "end-of-turn-masked",
                Severity::Error,
                &path,
                format!("`{path}` is none"),
                "the end of a turn carries no loss, so the model never learns to stop",
                Some(document.line(&path, "turn")),
            );
        }
    }
    if let (Some(model), Some(kind)) =
        (document.text("base_model"), document.text("type_of_model").or(document.text("model_type")))
    {
        findings.extend(super::models::mismatch(document, "base_model", model, kind, CHECKS));
    }
    findings
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "is not given".to_owned(), |value| format!("is {}", super::script::number(value)))
}

/// The data sets with their types.
fn formats(document: &Document) -> Vec<(usize, Option<String>)> {
    let there = |index: &usize| document.has(&format!("datasets.{index}"));
    (0..)
        .take_while(there)
        .map(|index| (index, document.text(&format!("datasets.{index}.type")).map(str::to_owned)))
        .collect()
}

fn technique(document: &Document) -> Technique {
    match document.text("rl") {
        Some("grpo" | "gdpo" | "ebft") => Technique::Rft,
        Some(_) => Technique::Dpo,
        None if document.has("pretraining_dataset") => Technique::Cpt,
        None if formats(document).first().is_some_and(|(_, format)| format.as_deref() == Some("completion")) => {
            Technique::Cpt
        }
        None => Technique::Sft,
    }
}

pub(super) fn view(document: &Document) -> View {
    let adapter = document.word("adapter");
    let adapters = match &adapter {
        Some(said) => said.clone().map(|word| word != "none"),
        None => Said { value: false, key: "adapter".to_owned(), place: None },
    };
    let share = document.said("val_set_size").filter(|share| share.value > 0.0);
    let validates = match (&share, document.at("test_datasets.0.path")) {
        (Some(share), _) => share.clone().map(|_| true),
        (None, Some(leaf)) => Said { value: true, place: Some(leaf.place.clone()), key: "test_datasets".to_owned() },
        (None, None) => Said { value: false, key: "val_set_size".to_owned(), place: None },
    };
    let bits = if document.truth("load_in_4bit") == Some(true) || document.text("adapter") == Some("qlora") {
        document.at("load_in_4bit").or_else(|| document.at("adapter")).map(|leaf| (4.0, leaf))
    } else if document.truth("load_in_8bit") == Some(true) {
        document.at("load_in_8bit").map(|leaf| (8.0, leaf))
    } else {
        None
    };
    // Backends that keep packed rows apart, by its own list.
    let isolates = [
        "flash_attention",
        "flex_attention",
        "sdp_attention",
        "xformers_attention",
        "eager_attention",
        "sage_attention",
    ]
    .iter()
    .any(|key| document.truth(key) == Some(true))
        || document.text("attn_implementation").is_some_and(|word| {
            word.contains("flash") || matches!(word, "flex_attention" | "sdpa" | "eager" | "xformers" | "sage")
        });
    let grpo = technique(document) == Technique::Rft;
    let of_trl = |key: &str| document.said(&format!("trl.{key}"));
    family::view(
        document,
        &NAMES,
        View {
            technique: Some(technique(document)),
            adapter_key: ["lora_r", "lora_alpha"].iter().find_map(|key| document.said(key)),
            rank: document.said("lora_r").filter(|_| adapters.value),
            alpha: document.said("lora_alpha").filter(|_| adapters.value),
            adapters: Some(adapters),
            rslora: document.switched("peft_use_rslora", false),
            rate: document.said("learning_rate"),
            eval_on: Some(validates.clone()).filter(|validates| validates.value),
            eval_every: document.said("eval_steps").filter(|every| every.value >= 1.0),
            validates: Some(validates),
            save_every: document.said("save_steps").filter(|every| every.value >= 1.0),
            longest: document.said_or("sequence_len", 512.0).filter(|_| grpo),
            answer: of_trl("max_completion_length").filter(|_| grpo),
            top_k: of_trl("top_k"),
            temperature: of_trl("temperature"),
            group: of_trl("num_generations"),
            packs: document.switched("sample_packing", false),
            isolates: Some(isolates),
            trains_prompt: document.switched("train_on_inputs", false).filter(|said| said.value),
            bits: bits.map(|(bits, leaf)| Said { value: bits, place: Some(leaf.place.clone()), key: leaf.path }),
            merges: document.switched("merge_lora", false),
            pad: document.word("special_tokens.pad_token"),
            eos: document.word("special_tokens.eos_token"),
            model: document.word("base_model"),
            ..View::default()
        },
    )
}

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
];

pub(super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    of.name(None, "the file's name");
    of.base("base_model");
    let technique = technique(document);
    of.kind = match technique {
        Technique::Rft => {
            return Err(super::carry::refusal(
                "reinforcement fine-tuning has no counterpart in this version's recipes",
                "`temper check` reads it",
            ));
        }
        Technique::Cpt => StageKind::Cpt,
        Technique::Dpo => StageKind::Dpo,
        _ => StageKind::Sft,
    };
    of.put("stages.0.kind", of.kind.to_string(), "");
    if let Some(rl) = of.text("rl") {
        match rl.as_str() {
            "dpo" => {}
            "ipo" => of.put("stages.0.loss_type", "ipo", "rl"),
            _ => return Err(super::carry::refusal(&format!("`rl: {rl}` has no counterpart"), "dpo and ipo have")),
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
    precision(&mut of, "bf16", "f32");
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
    of.pairs(PAIRS);
    of.finish(REASONS)
}

/// Whether products round to bf16.
pub(super) fn precision(of: &mut Importer<'_>, key: &str, default: &str) {
    match of.text(key).map(|word| word.to_ascii_lowercase()) {
        Some(word) if word == "true" => of.put("precision", "bf16", key),
        Some(word) if word == "auto" => of.list(key, "f32 here: what a machine happens to have decides nothing"),
        Some(_) => of.put("precision", "f32", key),
        None => of.put("precision", default, "not said there"),
    }
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
    ("micro_batch_tokens", "rows are counted there, not tokens"),
    ("evaluation*", "`temper eval` judges what comes out"),
    ("tune*", "`temper tune` searches"),
    ("mix*", "data sets are joined as they lie: no shares there"),
    ("domain_loss_weight", "no weights of the loss there"),
    ("base.sha256", "nothing is checked there"),
    ("data_licence", "not said there"),
    ("export*", "`axolotl merge-lora` merges"),
];

pub(super) fn export(recipe: &Recipe) -> Result<Carried, Problem> {
    let mut to = Exporter::new(recipe)?;
    let stage = to.stage;
    let model = to.model();
    to.put("base_model", model, "");
    to.take("kind");
    to.take(".name");
    mode(&mut to);
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
    if stage.kind.value != StageKind::Dpo {
        to.put("sample_packing", true, "");
        to.put("flash_attention", true, "keeps packed rows apart");
    }
    if !cpt {
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
    to.pairs(PAIRS);
    Ok(to.finish("Axolotl", OURS))
}

/// The mode, where it is more than one run.
pub(super) fn mode(to: &mut Exporter<'_>) {
    to.take("mode");
    if to.stage.mode.value == Mode::LoraThenFull {
        to.list("mode", "two runs there; written as LoRA, the first of them");
    }
}

fn data_set(to: &mut Exporter<'_>, at: &str, files: &crate::rows::RowFiles, kind: StageKind) {
    use crate::rows::RowFormat;
    let path = files.path.display().to_string();
    let path = path.strip_prefix("hf:datasets/").map_or(path.clone(), str::to_owned);
    to.put(&format!("{at}.path"), path.as_str(), "");
    if !files.path.to_string_lossy().starts_with("hf:") {
        let json = ["json", "jsonl"].iter().any(|end| path.ends_with(end));
        if json {
            to.put(&format!("{at}.ds_type"), "json", "");
        }
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
