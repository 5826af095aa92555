//! TRL: a YAML file of `--config`, or the command line of `trl sft`, `trl dpo`, `trl grpo` and of its scripts under a launcher.

use serde_json::{Value, json};

use crate::precision::Precision;
use crate::problem::Problem;
use crate::recipe::Recipe;
use crate::stage::{Mode, StageKind};

use super::carry::{As, Carried, Exporter, Given, Importer, Pair, When, refusal};
use super::document::{Document, texts};
use super::family::{self, Names, PROMPT_TOKENS, grpo_pairs};
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Known, Said, Technique, View};

const PARSER: Cited = Cited { what: "trl.scripts.utils.TrlParser, which fails on unknown arguments", when: "1.16.0" };
const TRAINER: Cited = Cited { what: "transformers.TrainingArguments", when: "5.24.0" };
const CONFIG: Cited = Cited { what: "trl.SFTConfig, DPOConfig, GRPOConfig", when: "1.16.0" };

const NAMES: Names = Names {
    micro: ("per_device_train_batch_size", 8),
    accumulate: ("gradient_accumulation_steps", 1),
    epochs: ("num_train_epochs", 3.0),
    steps: "max_steps",
    schedule: ("lr_scheduler_type", "linear"),
    ratio: false,
};

const PAIRS: &[Pair] = &[
    Pair::new("max_length", "max_length", Some("1024")),
    Pair::new("weight_decay", "weight_decay", Some("0.0")),
    Pair::new("adam_beta1", "adam_beta1", Some("0.9")),
    Pair::new("adam_beta2", "adam_beta2", Some("0.999")),
    Pair::new("adam_epsilon", "adam_epsilon", Some("1e-8")),
    Pair::new("max_grad_norm", "max_grad_norm", Some("1.0")),
    Pair::new("lora_r", "lora_rank", Some("16")).when(When::Lora),
    Pair::new("lora_alpha", "lora_alpha", Some("32")).when(When::Lora),
    Pair::new("lora_dropout", "lora_dropout", Some("0.05")).when(When::Lora),
    Pair::new("use_rslora", "use_rslora", Some("false")).when(When::Lora),
    Pair::new("use_dora", "use_dora", Some("false")).when(When::Lora),
    Pair::new("lora_modules_to_save", "modules_to_save", None).said(As::List).when(When::Lora),
    Pair::new("gradient_checkpointing", "activation_checkpointing", Some("true")),
    Pair::new("seed", ".seed", Some("42")),
    Pair::new("output_dir", ".output", None),
    Pair::new("eval_steps", "eval_steps", None).when(When::Validation),
    Pair::new("save_steps", "save_steps", Some("500")),
    Pair::new("save_total_limit", "keep_checkpoints", None),
    Pair::new("beta", "beta", Some("0.1")).when(When::Dpo),
    Pair::new("label_smoothing", "label_smoothing", None).when(When::Dpo),
];

/// `trl grpo`.
const RFT: &[Pair] = grpo_pairs!("");

const OPEN: &[&str] = &[
    "env",
    "model_init_kwargs",
    "dataset_kwargs",
    "lr_scheduler_kwargs",
    "gradient_checkpointing_kwargs",
    "fsdp_config",
    "deepspeed",
    "accelerator_config",
    "liger_kernel_config",
    "generation_kwargs",
    "chat_template_kwargs",
    "optim_args",
    "parallelism_config",
];

/// Keys of a data set in a mixture.
const OF_DATA: &[&str] = &["path", "name", "data_dir", "data_files", "split", "columns", "fraction"];

/// `sft`, `dpo`, `grpo`; a file of `--config` does not say, but what it holds may.
fn command(document: &Document) -> &str {
    match document.text("command") {
        Some(command) => command,
        None if document.has("num_generations") || document.has("max_completion_length") => "grpo",
        None if document.has("beta") => "dpo",
        None => "sft",
    }
}

pub(super) fn findings(document: &Document, known_rows: &Known) -> Vec<Finding> {
    let command = command(document);
    let lines = include_str!("trl_keys.txt").lines();
    let of = |name: &str| lines.clone().find_map(move |line| line.strip_prefix(name)?.strip_prefix(": ")).unwrap_or("");
    let data: Vec<String> = OF_DATA.iter().map(|key| format!("datasets.{key}")).collect();
    let trainer = include_str!("transformers_keys.txt").lines().filter(|line| !line.starts_with('#'));
    let mut known: Vec<&str> = of("all").split(' ').chain(of(command).split(' ')).chain(trainer).collect();
    known.extend(data.iter().map(String::as_str));
    known.extend(["command", "config", "num_processes", "config_file", "accelerate_config"]);
    // How it is launched is not TRL's to know.
    let launcher: Vec<String> = document.leaves().into_iter().map(|leaf| leaf.path).collect();
    known.extend(launcher.iter().map(String::as_str).filter(|path| path.starts_with("launch.")));
    let renamed = [
        ("max_seq_length", "max_length"),
        ("warmup_ratio", "warmup_steps"),
        ("evaluation_strategy", "eval_strategy"),
        ("torch_dtype", "dtype"),
        ("base_model", "model_name_or_path"),
        ("lora_rank", "lora_r"),
        ("target_modules", "lora_target_modules"),
        ("max_prompt_length", "max_length"),
        ("tokenizer_name_or_path", "model_name_or_path"),
        ("micro_batch_size", "per_device_train_batch_size"),
        ("num_epochs", "num_train_epochs"),
    ];
    let what = Unknown {
        severity: Severity::Error,
        reason: "an argument that none of its classes has stops it at once; older releases had other names",
        source: PARSER,
    };
    let mut findings = unknown(document, &known, &renamed, OPEN, what);
    let mut find =
        |rule, severity, path: &str, found: String, reason: &str, source: Cited, corrected: Option<String>| {
            let place = document.at(path).map_or(crate::problem::Place::Whole, |leaf| leaf.place.clone());
            findings.push(Finding {
                rule,
                severity,
                place,
                found,
                reason: reason.to_owned(),
                source: source.to_string(),
                corrected,
            });
        };
    if document.truth("load_best_model_at_end") == Some(true) {
        let save = document.text("save_strategy").unwrap_or("steps");
        let eval = document.text("eval_strategy").unwrap_or("no");
        if save != eval {
            let found = format!("`load_best_model_at_end` with `eval_strategy: {eval}` and `save_strategy: {save}`");
            find(
                "best-model-steps",
                Severity::Error,
                "load_best_model_at_end",
                found,
                "the two strategies must be the same, or it is refused",
                TRAINER,
                Some(document.line("eval_strategy", save)),
            );
        } else if let (Some(saves), Some(evals)) = (document.number("save_steps"), document.number("eval_steps"))
            && evals >= 1.0
            && saves % evals != 0.0
        {
            let found = format!("`save_steps` is {saves}, `eval_steps` is {evals}");
            find(
                "best-model-steps",
                Severity::Error,
                "save_steps",
                found,
                "with load_best_model_at_end checkpoints must fall on validations",
                TRAINER,
                Some(document.line("save_steps", &super::script::number(evals))),
            );
        }
    }
    if document.truth("padding_free") == Some(true)
        && document.truth("packing") != Some(true)
        && document.has("max_length")
    {
        find(
            "padding-free-length",
            Severity::Error,
            "padding_free",
            "`padding_free` without `packing`, and a `max_length`".into(),
            "without packing the longest row is not enforced, and it refuses that",
            CONFIG,
            Some(document.line("packing", "true")),
        );
    }
    if command == "sft" && document.has("chat_template_path") && document.truth("assistant_only_loss") == Some(true) {
        let reason = "the mask is made from generation markers in the template; one without them gives a mask of all or of nothing";
        find(
            "mask-from-template",
            Severity::Note,
            "assistant_only_loss",
            "`assistant_only_loss` with a template of one's own".into(),
            reason,
            Cited { what: "NVIDIA-NeMo/Megatron-Bridge#3359, Liquid4All/liquid-finetune#37", when: "2026" },
            None,
        );
    }
    let masked = document.has("assistant_only_loss") || document.has("completion_only_loss");
    if command == "sft" && !masked && known_rows.conversations != Some(false) {
        let severity = if known_rows.conversations.is_some() { Severity::Warning } else { Severity::Note };
        let found = "`assistant_only_loss` is left out: of rows of messages every turn carries loss".into();
        let reason = "the model learns to write prompts too; rows of prompt and completion are masked by themselves";
        find(
            "trains-on-the-prompt",
            severity,
            "model_name_or_path",
            found,
            reason,
            CONFIG,
            Some(document.line("assistant_only_loss", "true")),
        );
    }
    if command == "grpo" {
        let group = document.number("num_generations").unwrap_or(8.0);
        let generated = document.number("generation_batch_size").or_else(|| {
            let rows = document.number(NAMES.micro.0).unwrap_or(8.0);
            Some(rows * document.number("steps_per_generation").or(document.number(NAMES.accumulate.0)).unwrap_or(1.0))
        });
        if let Some(generated) = generated.filter(|generated| group >= 2.0 && generated % group != 0.0) {
            let found = format!("{generated} answers are generated at once on a device, in groups of {group}");
            let corrected = Some(document.line(NAMES.micro.0, &super::script::number(group)));
            let at = if document.has("num_generations") { "num_generations" } else { NAMES.micro.0 };
            find(
                "group-against-batch",
                Severity::Warning,
                at,
                found,
                "whole groups must fit, over all devices together",
                CONFIG,
                corrected,
            );
        }
        if !document.has("reward_funcs") && !document.has("reward_model_name_or_path") {
            find(
                "reward-missing",
                Severity::Error,
                "command",
                "no reward is named".into(),
                "reinforcement needs one",
                CONFIG,
                Some(document.line("reward_funcs", "my_module.my_reward")),
            );
        }
    }
    findings
}

pub(super) fn view(document: &Document) -> View {
    let command = command(document);
    let technique = match command {
        "sft" => Technique::Sft,
        "grpo" | "rloo" => Technique::Rft,
        _ => Technique::Dpo,
    };
    let adapters = document.switched("use_peft", false);
    let lora = adapters.as_ref().is_some_and(|said| said.value);
    let strategy = match document.word("eval_strategy") {
        Some(word) => word.map(|word| !matches!(word.as_str(), "no" | "false" | "False")),
        None => Said { value: false, key: "eval_strategy".to_owned(), place: None },
    };
    let bits = [("load_in_4bit", 4.0), ("load_in_8bit", 8.0)]
        .into_iter()
        .find_map(|(key, bits)| document.switched(key, false).filter(|said| said.value).map(|said| said.map(|_| bits)));
    let rate = if technique == Technique::Sft { 2e-5 } else { 1e-6 };
    let sft = technique == Technique::Sft;
    let packed = document.text("packing_strategy");
    // Rows of messages train every turn unless this is on; rows of prompt and completion never train the prompt.
    let masks = document.switched("assistant_only_loss", false).map(|said| said.map(|on| !on));
    let all = document.switched("completion_only_loss", true).filter(|said| !said.value).map(|said| said.map(|_| true));
    family::view(
        document,
        &NAMES,
        View {
            technique: Some(technique),
            adapter_key: ["lora_r", "lora_alpha"].iter().find_map(|key| document.said(key)),
            rank: document.said_or("lora_r", 16.0).filter(|_| lora),
            alpha: document.said_or("lora_alpha", 32.0).filter(|_| lora),
            adapters,
            rslora: document.switched("use_rslora", false),
            rate: document.said_or("learning_rate", rate),
            eval_every: document.said("eval_steps").filter(|every| every.value >= 1.0),
            eval_on: Some(strategy),
            save_every: document.said("save_steps").filter(|every| every.value >= 1.0),
            longest: document.said_or("vllm_max_model_length", f64::INFINITY).filter(|said| said.value.is_finite()),
            answer: document.said("max_completion_length"),
            top_k: document.said("top_k"),
            temperature: document.said("temperature"),
            group: document.said_or("num_generations", 8.0).filter(|_| technique == Technique::Rft),
            packs: document.switched("packing", false).filter(|_| sft),
            isolates: Some(packed != Some("wrapped")),
            trains_prompt: all.or(masks.filter(|masks| masks.place.is_some())).filter(|_| sft),
            bits,
            pad: document.word("pad_token"),
            eos: document.word("eos_token"),
            model: document.word("model_name_or_path"),
            ..View::default()
        },
    )
}

const REASONS: &[(&str, &str)] = &[
    ("command", "said by the stage's kind"),
    ("packing", "rows are always packed here, and never see each other"),
    ("packing_strategy", "rows are always packed here, and never see each other"),
    ("assistant_only_loss", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("completion_only_loss", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("eval_strategy", "with validation rows a run validates"),
    ("logging_steps", "every step is written to metrics.jsonl"),
    ("report_to", "every step is written to metrics.jsonl"),
    ("load_in_4bit", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("load_in_8bit", "nothing is quantised here but a GGUF that is: frozen_weights: as_stored"),
    ("attn_implementation", "how attention is computed there"),
    ("dataset_train_split", "a file's rows are all trained here"),
    ("dataset_test_split", "rows are not split by a recipe here: --validation FILE"),
    ("test_split_size", "rows are not split by a recipe here: `temper init` splits, or --validation FILE"),
    ("load_best_model_at_end", "with validation rows a run always ends with its best weights"),
    ("fsdp*", "one machine, one process here"),
    ("deepspeed*", "one machine, one process here"),
    ("launch.*", "how it is launched there"),
    ("config_file", "how it is launched there"),
];

pub(super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    let command = command(document);
    of.kind = match command {
        "sft" => StageKind::Sft,
        "dpo" => StageKind::Dpo,
        "grpo" => StageKind::Rft,
        other => {
            return Err(refusal(
                &format!("`trl {other}` has no counterpart in this version's recipes"),
                "sft, dpo and grpo have",
            ));
        }
    };
    let run = of.text("run_name");
    of.name(run.as_deref(), "run_name");
    of.base("model_name_or_path");
    if let Some(revision) = document.text("model_revision").filter(|revision| *revision != "main") {
        let source = format!("hf:{}@{revision}", document.text("model_name_or_path").unwrap_or_default());
        if given.base.is_none() {
            of.put("base.source", source, "model_revision");
        }
        of.take("model_revision");
    }
    of.take("command");
    of.put(
        "stages.0.kind",
        of.kind.to_string(),
        if document.has("command") { "command" } else { "no command line is at hand" },
    );
    of.lora = of.truth("use_peft") == Some(true);
    of.put("stages.0.mode", if of.lora { "lora" } else { "full" }, "use_peft");
    rows(&mut of);
    // Left out, products are bf16.
    family::precision(&mut of, "bf16", "bf16");
    let rate = if of.kind == StageKind::Sft { "2e-5" } else { "1e-6" };
    of.pairs(&[Pair::new("learning_rate", "learning_rate", Some(rate))]);
    family::import(&mut of, &NAMES);
    match of.text("optim").as_deref() {
        None | Some("adamw_torch" | "adamw_torch_fused") => {}
        Some(_) => of.list("optim", "AdamW is written"),
    }
    if of.lora {
        of.pairs(&[Pair::new("lora_target_modules", "target_modules", None).said(As::Modules)]);
    }
    if let Some(leaf) = of.take("loss_type").filter(|_| of.kind == StageKind::Dpo) {
        match &texts(leaf.node)[..] {
            [one] if matches!(one.as_str(), "sigmoid" | "ipo" | "hinge" | "robust") => {
                of.put("stages.0.loss_type", one.as_str(), "loss_type");
            }
            _ => return Err(refusal("`loss_type` has no counterpart", "sigmoid, ipo, hinge and robust have")),
        }
    }
    if of.kind == StageKind::Rft {
        reinforcement(&mut of)?;
        // There the longest row is not said, and `beta` is the policy's.
        of.pairs(PAIRS.iter().filter(|pair| pair.theirs != "max_length" && pair.when != When::Dpo));
        of.pairs(RFT);
    } else {
        of.pairs(PAIRS);
    }
    of.finish(REASONS)
}

/// What `trl grpo` says otherwise: its batch counts answers.
fn reinforcement(of: &mut Importer<'_>) -> Result<(), Problem> {
    of.reward(None)?;
    of.list("reward_funcs", "--reward gives the file that is run here");
    let prompts = family::prompts(of.document, &NAMES, "num_generations");
    of.put("stages.0.global_batch_size", prompts, "rows of a step / num_generations, on one device");
    let answer = of.document.number("max_completion_length").unwrap_or(512.0) as u64;
    of.put("stages.0.max_length", answer + PROMPT_TOKENS, "max_completion_length, and room for a prompt");
    of.remark("max_length", "", &format!("it has no key for the longest prompt: {PROMPT_TOKENS} tokens are written"));
    Ok(())
}

fn rows(of: &mut Importer<'_>) {
    let document = of.document;
    if of.given_rows() {
        of.list("dataset_name", "--data gives other rows in its place");
        return;
    }
    let mut count = 0;
    if let Some(name) = of.text("dataset_name") {
        let path = of.path(&name, "hf:datasets/");
        of.put("stages.0.train.0.path", path, "dataset_name");
        count = 1;
    }
    for index in (0..).take_while(|index| document.has(&format!("datasets.{index}"))) {
        let at = |key: &str| format!("datasets.{index}.{key}");
        let files = document.at(&at("data_files")).map(|leaf| texts(leaf.node)).unwrap_or_default();
        of.take(&at("data_files"));
        let path = of.text(&at("path")).unwrap_or_default();
        for path in if files.is_empty() { vec![path] } else { files } {
            let path = of.path(&path, "hf:datasets/");
            of.put(&format!("stages.0.train.{count}.path"), path, &format!("datasets.{index}"));
            count += 1;
        }
        if document.text(&at("split")).is_none_or(|split| split == "train") {
            of.take(&at("split"));
        }
    }
}

const OURS: &[(&str, &str)] = &[
    ("rewards*", "a Python function of your own there"),
    ("rollouts*", "no counterpart in GRPOConfig"),
    ("policy*", "no counterpart in GRPOConfig"),
    ("baseline*", "measure it before the run"),
    ("micro_batch_tokens", "rows are counted there, not tokens"),
    ("evaluation*", "`temper eval` judges what comes out"),
    ("tune*", "`temper tune` searches"),
    ("mix*", "its commands join data sets as they lie"),
    ("domain_loss_weight", "no weights of the loss there"),
    ("base.sha256", "nothing is checked there"),
    ("data_licence", "not said there"),
    ("export*", "PEFT's merge_and_unload merges"),
    ("loraplus_lr_ratio", "an optimiser of one's own there"),
];

pub(super) fn export(recipe: &Recipe) -> Result<Carried, Problem> {
    let mut to = Exporter::new(recipe)?;
    let stage = to.stage;
    let model = to.model();
    to.put("model_name_or_path", model, "");
    to.take("kind");
    let name = to.take(".name").unwrap_or_default();
    to.put("run_name", name, "");
    family::mode(&mut to);
    let full = stage.mode.value == Mode::Full;
    to.put("use_peft", !full, "");
    for (index, files) in to.train().into_iter().enumerate() {
        let path = files.path.display().to_string();
        match path.strip_prefix("hf:datasets/") {
            Some(hub) => to.put(&format!("datasets.{index}.path"), hub, ""),
            None => {
                to.put(&format!("datasets.{index}.path"), "json", "");
                to.put(&format!("datasets.{index}.data_files"), path, "");
            }
        }
        if files != crate::rows::RowFiles::plain(files.path.clone()) {
            to.remark(
                "train",
                &files.extras().to_string(),
                "weights, names, formats and columns of a source are not written",
            );
        }
    }
    if to.validation().is_some() {
        to.list(
            "validation",
            "its command has no key for a file of validation rows: test_split_size splits, or write a script",
        );
        for field in ["eval_steps", "early_stopping_patience", "early_stopping_threshold"] {
            if to.take(field).is_some() {
                to.list(field, "without validation rows there is nothing to validate");
            }
        }
    }
    let dpo = stage.kind.value == StageKind::Dpo;
    let rft = stage.kind.value == StageKind::Rft;
    if rft {
        to.put("reward_funcs", json!(["my_module.my_reward"]), "a function of completions and **kwargs");
        to.remark("rewards", "", "a Python function of your own there: `temper check --reward FILE` looks at it");
        to.list("max_length", "it has no key for the longest row: prompts are not cut");
    } else if dpo {
        let loss = to.take("loss_type").unwrap_or_default();
        to.put("loss_type", Value::Array(vec![loss]), "");
    } else {
        to.put("packing", true, "");
        to.put("packing_strategy", "bfd", "packed rows do not see each other");
        if stage.kind.value == StageKind::Sft {
            to.put(
                "assistant_only_loss",
                true,
                "for rows of messages; of prompt and completion the prompt is never trained",
            );
        }
    }
    to.take(".precision");
    to.put("bf16", recipe.precision.value == Precision::Bf16, "");
    to.take("learning_rate");
    to.put("learning_rate", json!(stage.learning_rate.value), "");
    if !full && let Some(modules) = to.take("target_modules") {
        let all = modules == json!(crate::lora::Linear::all());
        to.put("lora_target_modules", if all { json!(["all-linear"]) } else { modules }, "");
    }
    match to.take("optimizer").as_ref().and_then(Value::as_str) {
        Some("muon") => to.list("optimizer", "no muon there: AdamW is written"),
        _ => to.put("optim", "adamw_torch", ""),
    }
    family::export(&mut to, &NAMES);
    if rft {
        family::export_groups(&mut to, &NAMES);
        to.pairs(PAIRS.iter().filter(|pair| pair.theirs != "max_length" && pair.when != When::Dpo));
        to.pairs(RFT);
    } else {
        to.pairs(PAIRS);
    }
    let mut carried = to.finish("TRL", OURS);
    let command = match stage.kind.value {
        StageKind::Dpo => "dpo",
        StageKind::Rft => "grpo",
        _ => "sft",
    };
    carried.text = format!("# trl {command} --config THIS_FILE\n{}", carried.text);
    Ok(carried)
}
