//! mlx-lm: one flat YAML. Keys that it does not know are kept among the arguments and never read.

use serde_json::json;

use crate::problem::Problem;
use crate::stage::StageKind;

use super::carry::{Carried, Given, Importer, Pair, When, refusal};
use super::document::Document;
use super::finding::{Cited, Finding, Severity};
use super::keys::{Unknown, unknown};
use super::view::{Said, Technique, View};

const LORA: Cited = Cited { what: "mlx_lm.lora: keys of the file become arguments, read or not", when: "0.32.2" };
const TRAINER: Cited = Cited { what: "mlx_lm.tuner", when: "0.32.2" };

const KEYS: &[&str] = &[
    "model",
    "train",
    "fine_tune_type",
    "optimizer",
    "data",
    "seed",
    "num_layers",
    "batch_size",
    "iters",
    "val_batches",
    "learning_rate",
    "steps_per_report",
    "steps_per_eval",
    "resume_adapter_file",
    "adapter_path",
    "save_every",
    "test",
    "test_batches",
    "max_seq_length",
    "config",
    "grad_checkpoint",
    "grad_accumulation_steps",
    "clear_cache_threshold",
    "mask_prompt",
    "report_to",
    "project_name",
    "trust_remote_code",
    "lora_parameters.rank",
    "lora_parameters.dropout",
    "lora_parameters.scale",
    "lora_parameters.keys",
    "lr_schedule.name",
    "lr_schedule.warmup",
    "lr_schedule.warmup_init",
    "lr_schedule.arguments",
    "prompt_feature",
    "text_feature",
    "completion_feature",
    "chat_feature",
    "hf_dataset",
];

pub(super) fn findings(document: &Document) -> Vec<Finding> {
    let renamed = [
        ("alpha", "lora_parameters.scale"),
        ("lora_alpha", "lora_parameters.scale"),
        ("r", "lora_parameters.rank"),
        ("lora_rank", "lora_parameters.rank"),
        ("lora_layers", "num_layers"),
        ("gradient_accumulation_steps", "grad_accumulation_steps"),
        ("epochs", "iters"),
        ("max_steps", "iters"),
        ("warmup", "lr_schedule.warmup"),
        ("eval_steps", "steps_per_eval"),
        ("save_steps", "save_every"),
        ("max_length", "max_seq_length"),
        ("train_on_completions", "mask_prompt"),
        ("weight_decay", "optimizer_config"),
    ];
    let what = Unknown {
        severity: Severity::Error,
        reason: "it is kept among the arguments and never read: the default holds",
        source: LORA,
    };
    let open = ["optimizer_config", "hf_dataset", "hf_datasets"];
    let mut findings = unknown(document, KEYS, &renamed, &open, what);
    let mut find = |rule, severity, path: &str, found: String, reason: &str, corrected: Option<String>| {
        let place = document.at(path).map_or(crate::problem::Place::Whole, |leaf| leaf.place.clone());
        let (reason, source) = (reason.to_owned(), TRAINER.to_string());
        findings.push(Finding { rule, severity, place, found, reason, source, corrected });
    };
    if document.truth("train") != Some(true) && document.truth("test") != Some(true) {
        find(
            "trains-nothing",
            Severity::Error,
            "model",
            "neither `train` nor `test` is true".into(),
            "unless the command line says --train, it refuses to run",
            Some("train: true".into()),
        );
    }
    if document.has("lora_parameters") && !document.has("lora_parameters.scale") {
        find(
            "scale-missing",
            Severity::Error,
            "lora_parameters",
            "`lora_parameters` has no `scale`".into(),
            "it wants the scale itself, which is alpha / rank elsewhere, and refuses an alpha",
            Some("scale: 2.0".into()),
        );
    }
    for key in ["rank", "dropout"] {
        if document.has("lora_parameters") && !document.has(&format!("lora_parameters.{key}")) {
            find(
                "scale-missing",
                Severity::Error,
                "lora_parameters",
                format!("`lora_parameters` has no `{key}`"),
                "the map replaces the defaults as a whole, and this key is then missing",
                Some(format!("{key}: {}", if key == "rank" { "8" } else { "0.0" })),
            );
        }
    }
    if let Some(scale) = document.number("lora_parameters.scale").filter(|scale| *scale > 8.0) {
        find(
            "scale-against-alpha",
            Severity::Warning,
            "lora_parameters.scale",
            format!("`scale` is {scale}"),
            "it multiplies the adapter as alpha / rank does elsewhere: most tools take 1 or 2",
            Some("scale: 2.0".into()),
        );
    }
    if !document.has("lora_parameters") && document.text("fine_tune_type").is_none_or(|kind| kind != "full") {
        find(
            "scale-against-alpha",
            Severity::Note,
            "model",
            "`lora_parameters` is left out: a scale of 20".into(),
            "it multiplies the adapter as alpha / rank does elsewhere: most tools take 1 or 2",
            None,
        );
    }
    if document.text("fine_tune_type") == Some("full") && document.has("lora_parameters") {
        find(
            "adapter-keys-unused",
            Severity::Warning,
            "lora_parameters",
            "`lora_parameters` with `fine_tune_type: full`".into(),
            "they are not read",
            None,
        );
    }
    if let Some(layers) = document.number("num_layers").filter(|layers| *layers > 0.0) {
        find(
            "last-layers-only",
            Severity::Note,
            "num_layers",
            format!("only the last {layers} layers are trained"),
            "adapters on all layers learn more (LoRA Without Regret, 2025)",
            Some("num_layers: -1".into()),
        );
    }
    let (iters, times) =
        (document.number("iters").unwrap_or(1000.0), document.number("grad_accumulation_steps").unwrap_or(1.0));
    if times > 1.0 {
        find(
            "iterations-are-not-steps",
            Severity::Note,
            "grad_accumulation_steps",
            format!("{iters} iterations are {} steps of the optimiser", (iters / times).floor()),
            "iterations count batches, not steps: the schedule ends later than it seems, and a last incomplete one is lost",
            None,
        );
    }
    findings
}

/// Steps of the optimiser, and rows of one.
fn steps(document: &Document) -> (Option<Said<f64>>, Option<Said<f64>>) {
    let times = document.number("grad_accumulation_steps").unwrap_or(1.0).max(1.0);
    let iters = document.said_or("iters", 1000.0).map(|said| said.map(|iters| (iters / times).floor()));
    let rows = document.said_or("batch_size", 4.0).map(|said| said.map(|rows| rows * times));
    (iters, rows)
}

pub(super) fn view(document: &Document) -> View {
    let adapters = match document.word("fine_tune_type") {
        Some(word) => word.map(|word| word != "full"),
        None => Said { value: true, key: "fine_tune_type".to_owned(), place: None },
    };
    let (steps, batch) = steps(document);
    View {
        technique: Some(Technique::Sft),
        adapters: Some(adapters),
        rate: document.said_or("learning_rate", 1e-5),
        steps,
        batch,
        warmup_steps: document.said("lr_schedule.warmup"),
        // Counted in iterations, as the run's length is.
        save_every: document.said("save_every").filter(|_| document.number("grad_accumulation_steps").is_none()),
        trains_prompt: document.switched("mask_prompt", false).map(|said| said.map(|on| !on)).filter(|said| said.value),
        model: document.word("model"),
        ..View::default()
    }
}

const PAIRS: &[Pair] = &[
    Pair::new("max_seq_length", "max_length", Some("2048")),
    Pair::new("seed", ".seed", Some("0")),
    Pair::new("lora_parameters.rank", "lora_rank", Some("8")).when(When::Lora),
    Pair::new("lora_parameters.dropout", "lora_dropout", Some("0.0")).when(When::Lora),
    Pair::new("grad_checkpoint", "activation_checkpointing", Some("false")),
    Pair::new("save_every", "save_steps", Some("100")),
    Pair::new("steps_per_eval", "eval_steps", Some("200")).when(When::Validation),
];

const REASONS: &[(&str, &str)] = &[
    ("mask_prompt", "the rows decide here: answers of conversations are trained, prompts are not"),
    ("num_layers", "target_modules names layers here, as `layers.29.mlp.down_proj`"),
    ("adapter_path", "a run writes to its own folder"),
    ("steps_per_report", "every step is written to metrics.jsonl"),
    ("val_batches", "all validation rows are read"),
    ("train", "a run trains"),
];

pub(super) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let mut of = Importer::new(document, given);
    of.name(None, "the file's name");
    of.base("model");
    of.kind = StageKind::Sft;
    of.put("stages.0.kind", "sft", "");
    let kind = of.text("fine_tune_type").unwrap_or_else(|| "lora".to_owned());
    of.lora = kind != "full";
    of.put("stages.0.mode", if of.lora { "lora" } else { "full" }, "fine_tune_type");
    if kind == "dora" {
        of.put("stages.0.use_dora", true, "fine_tune_type");
    }
    let folder = of.text("data");
    if !of.given_rows()
        && let Some(folder) = folder
    {
        let file = |name: &str| format!("{folder}/{name}.jsonl");
        let path = of.path(&file("train"), "");
        of.put("stages.0.train", path, "data");
        let here = document.file.parent().unwrap_or(std::path::Path::new(""));
        if !of.validation && (here.join(file("valid")).exists() || std::path::Path::new(&file("valid")).exists()) {
            let path = of.path(&file("valid"), "");
            of.put("stages.0.validation", path, "data");
            of.validation = true;
        }
    }
    let (steps, rows) = steps(document);
    for key in ["iters", "batch_size", "grad_accumulation_steps"] {
        of.take(key);
    }
    if let (Some(steps), Some(rows)) = (steps, rows) {
        of.put("stages.0.max_steps", json!(steps.value.max(1.0) as u64), "iters / grad_accumulation_steps");
        of.put("stages.0.global_batch_size", json!(rows.value as u64), "batch_size x grad_accumulation_steps");
    }
    let rank = document.number("lora_parameters.rank").unwrap_or(8.0);
    if of.lora {
        let scale = of.number("lora_parameters.scale").unwrap_or(20.0);
        of.put("stages.0.lora_alpha", json!(scale * rank), "scale x rank");
    }
    schedule(&mut of)?;
    match of.text("optimizer").as_deref() {
        None | Some("adam" | "adamw") => of.put("stages.0.weight_decay", json!(0.0), "Adam, without decay"),
        Some(_) => of.list("optimizer", "AdamW is written"),
    }
    of.pairs(PAIRS);
    of.finish(REASONS)
}

fn schedule(of: &mut Importer<'_>) -> Result<(), Problem> {
    let document = of.document;
    let rate = of.number("learning_rate").unwrap_or(1e-5);
    let Some(name) = of.text("lr_schedule.name") else {
        of.put("stages.0.learning_rate", json!(rate), "learning_rate");
        of.put("stages.0.lr_scheduler_type", "constant", "no lr_schedule");
        of.put("stages.0.warmup_steps", 0, "no lr_schedule");
        return Ok(());
    };
    let arguments = of.take("lr_schedule.arguments").map(|leaf| match &leaf.node.content {
        crate::tree::Content::List(items) => items.iter().filter_map(|item| document.number_of(item)).collect(),
        _ => Vec::new(),
    });
    let arguments = arguments.unwrap_or_default();
    let highest = arguments.first().copied().unwrap_or(rate);
    of.put("stages.0.learning_rate", json!(highest), "lr_schedule.arguments: the schedule wins over learning_rate");
    let (word, least) = match name.as_str() {
        "cosine_decay" => ("cosine", arguments.get(2).copied()),
        "linear_schedule" => ("linear", arguments.get(1).copied()),
        other => {
            return Err(refusal(
                &format!("the schedule `{other}` has no counterpart"),
                "cosine_decay and linear_schedule have",
            ));
        }
    };
    of.put("stages.0.lr_scheduler_type", word, "lr_schedule.name");
    if let Some(least) = least.filter(|least| *least > 0.0) {
        of.put("stages.0.min_lr", json!(least), "lr_schedule.arguments");
    }
    let warmup = of.number("lr_schedule.warmup").unwrap_or(0.0);
    of.put("stages.0.warmup_steps", json!(warmup as u64), "lr_schedule.warmup");
    of.remark(
        "lr_schedule.arguments",
        &format!("{arguments:?}"),
        "its own count of steps; here the schedule ends with the run",
    );
    Ok(())
}
