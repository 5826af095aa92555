//! Axolotl: one flat YAML. Keys, defaults and what becomes of unknown ones as in its own schemas.

mod carry;
mod grpo;

use super::document::{Document, texts};
use super::family::{self, BEGINNINGS, Names};
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Said, Technique, View};

pub(super) use carry::{export, import};

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

/// Keys whose values are handed on as they are.
const OPEN: &[&str] = &[
    "lr_scheduler_kwargs",
    "optim_args",
    "deepspeed",
    "fsdp_config",
    "special_tokens",
    "chat_template_kwargs",
    "gradient_checkpointing_kwargs",
    "trl.generation_kwargs",
    "trl.chat_template_kwargs",
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
    let of_trl = grpo::KEYS.iter().map(|key| format!("trl.{key}"));
    let top = keys.lines().filter(|line| !line.starts_with('#')).map(str::to_owned);
    top.chain(of_data).chain(of_trl).chain(data.map(str::to_owned)).collect()
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
    for (a, b) in
        [("warmup_steps", "warmup_ratio"), ("eval_steps", "evals_per_epoch"), ("save_steps", "saves_per_epoch")]
    {
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
    findings.extend(grpo::findings(document));
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
            // `sequence_len` bounds no row of GRPO there, the engine that samples does.
            longest: document.said("vllm.max_model_len").filter(|_| grpo),
            answer: of_trl("max_completion_length").filter(|_| grpo),
            top_k: of_trl("top_k"),
            temperature: of_trl("temperature"),
            group: document.said_or("trl.num_generations", 8.0).filter(|_| grpo),
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
