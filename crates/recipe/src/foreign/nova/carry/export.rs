//! Recipes of ours as Nova's.

use serde_json::{Value, json};

use crate::duration::{Duration, Span};
use crate::mix::MixUnit;
use crate::problem::Problem;
use crate::recipe::Recipe;
use crate::stage::{LrScheduler, Mode, StageKind};

use super::super::super::carry::{Carried, Exporter};
use super::super::super::hypothesis::Hypothesis;
use super::super::super::script::number;
use super::super::super::view::Technique;
use super::{CPT, DPO, RFT, SFT, confirm};

/// Where a key of a pair stands in a new recipe.
fn place_of(theirs: &str, technique: Technique) -> String {
    let below = match theirs.split('.').next().unwrap_or(theirs) {
        "advantage_strategy" | "generator" => "rollout.",
        "optim_config" if technique == Technique::Rft => "trainer.",
        "lora_tuning" if technique == Technique::Rft => "trainer.peft.",
        "optim" | "dpo_cfg" => "model.",
        "sched" => "model.optim.",
        "lora_tuning" if technique == Technique::Sft => "peft.",
        "lora_tuning" => "model.peft.",
        "val_check_interval" if technique != Technique::Sft => "trainer.",
        _ => "",
    };
    format!("training_config.{below}{theirs}")
}

/// What fields of Temper's have no key there.
const OURS: &[(&str, &str)] = &[
    ("rewards*", "a Lambda function of your own there"),
    ("rollouts*", "not a public knob"),
    ("policy*", "not a public knob"),
    ("baseline*", "measure it by an evaluation before the job"),
    ("lora_rank", "Nova's rank is not a public knob"),
    ("target_modules", "Nova decides where adapters sit"),
    ("micro_batch_tokens", "memory is AWS's matter"),
    ("activation_checkpointing", "memory is AWS's matter"),
    ("evaluation*", "an evaluation is a recipe of its own there"),
    ("tune*", "a search is yours: `temper tune`"),
    ("mix*", "Nova mixes its own rows only"),
    ("domain_loss_weight", "no weights of the loss there"),
    ("optimizer", "AdamW only"),
    ("max_grad_norm", "not a public knob"),
    ("early_stopping*", "there is no early stopping"),
    ("seed", "not a public knob"),
    ("output", "what comes out lies in S3"),
    ("data_licence", "not said there"),
    ("base.*", "Nova's own model is trained"),
];

/// The least of these that is at least `value`; else the largest.
fn at_least(value: u64, of: &[u64]) -> u64 {
    of.iter().copied().find(|one| *one >= value).unwrap_or(of[of.len() - 1])
}

fn nearest(value: f64, of: &[u64]) -> u64 {
    of.iter().copied().min_by(|a, b| (*a as f64 - value).abs().total_cmp(&(*b as f64 - value).abs())).unwrap_or(of[0])
}

pub(crate) fn export(recipe: &Recipe, rows: Option<u64>, hypothesis: Option<&Hypothesis>) -> Result<Carried, Problem> {
    written(recipe, rows, hypothesis, &mut |_, _| ())
}

/// What of a new recipe a trial of a search changes.
pub(super) struct New {
    pub technique: Technique,
    pub lora: bool,
    /// Optimiser steps; none where passes are counted.
    pub steps: Option<u64>,
}

/// The recipe; `change` may change it before its listing is made.
pub(super) fn written(
    recipe: &Recipe,
    rows: Option<u64>,
    hypothesis: Option<&Hypothesis>,
    change: &mut dyn FnMut(&mut Exporter<'_>, &New),
) -> Result<Carried, Problem> {
    let mut to = Exporter::new(recipe)?;
    let stage = to.stage;
    let (technique, pairs, second) = match stage.kind.value {
        StageKind::Cpt => (Technique::Cpt, CPT, true),
        StageKind::Sft => (Technique::Sft, SFT, true),
        StageKind::Dpo => (Technique::Dpo, DPO, false),
        StageKind::Rft => (Technique::Rft, RFT, true),
    };
    if stage.mode.value == Mode::LoraThenFull {
        to.list("mode", "two jobs there; written as LoRA, the first of them");
    }
    let lora = stage.mode.value != Mode::Full && technique != Technique::Cpt;
    if stage.mode.value != Mode::Full && technique == Technique::Cpt {
        to.list("mode", "CPT trains all weights there");
    }
    to.take("mode");
    to.take("kind");
    let name = to.take(".name").unwrap_or_default();
    let (model, checkpoint) = if second {
        ("amazon.nova-2-lite-v1:0:256k", "nova-lite-2/prod")
    } else {
        ("amazon.nova-lite-v1:0:300k", "nova-lite/prod")
    };
    to.put("run.name", name, "");
    to.put("run.model_type", model, "");
    to.put("run.model_name_or_path", checkpoint, "or your own checkpoint in S3");
    to.list(".base.source", "Nova's own model is trained");
    let replicas = match (technique, lora) {
        (Technique::Cpt, _) => 8,
        (Technique::Sft, true) => 1,
        (Technique::Rft, _) => 2,
        _ => 4,
    };
    to.put("run.replicas", replicas, "the recipe's default");
    to.train();
    to.put("run.data_s3_path", "s3://BUCKET/train.jsonl", "`temper data convert FILE --to converse` writes the rows");
    if to.validation().is_some() {
        to.put("run.validation_data_s3_path", "s3://BUCKET/validation.jsonl", "");
    }
    to.put("run.output_s3_path", "s3://BUCKET/output/", "");
    let config = "training_config";
    if technique == Technique::Cpt {
        to.put(&format!("{config}.task_type"), "cpt", "");
    }
    let mut batch = stage.global_batch_size.value;
    for pair in pairs {
        let Some(value) = to.take(pair.ours) else { continue };
        if hypothesis.is_some() && pair.ours == "global_batch_size" {
            // What the noise of a small model's gradient chose says nothing of another's.
            let default = match technique {
                Technique::Cpt => 256,
                Technique::Dpo | Technique::Rft => 64,
                _ => 32,
            };
            batch = default;
            let key = place_of(pair.theirs, technique);
            to.script.put(&key, &json!(default), "Nova's default: batch sizes do not carry over");
            to.list(pair.ours, "batch sizes do not carry over: Nova's default is written");
            continue;
        }
        let (value, changed) = allowed(pair.theirs, &value, technique);
        if let Some(why) = changed {
            to.list(pair.ours, &why);
        }
        if pair.ours == "global_batch_size" {
            batch = value.as_u64().unwrap_or(batch);
        }
        to.script.put(&place_of(pair.theirs, technique), &value, "");
    }
    let one_pass = hypothesis.is_some() && technique == Technique::Cpt;
    if technique == Technique::Rft {
        let name = "arn:aws:lambda:REGION:ACCOUNT:function:NAME-SageMaker";
        to.put("run.reward_lambda_arn", name, "on HyperPod the name must contain SageMaker");
        to.put("training_config.rollout.rewards.api_endpoint.lambda_arn", name, "");
        to.remark("rewards", "", "a Lambda function of your own there: `temper check --reward FILE` looks at it");
    }
    let steps = export_duration(&mut to, technique, rows, batch, one_pass);
    export_warmup(&mut to, technique, steps);
    if technique == Technique::Sft {
        if steps.is_some_and(|steps| stage.save_steps.value > steps) {
            to.script.put("training_config.save_steps", &json!(steps), "");
            to.list("save_steps", "at most max_steps there");
        }
        to.put("training_config.reasoning_enabled", false, "true where the rows have reasoning");
    }
    let scheme = match technique {
        Technique::Sft => "training_config.peft.peft_scheme",
        Technique::Rft => "training_config.trainer.peft.peft_scheme",
        _ => "training_config.model.peft.peft_scheme",
    };
    if technique != Technique::Cpt {
        to.script.put_text(scheme, if lora { "lora".to_owned() } else { "null".to_owned() }, "");
    }
    let plain = if technique == Technique::Rft { LrScheduler::Constant } else { LrScheduler::Cosine };
    if stage.lr_scheduler_type.value != plain {
        to.list("lr_scheduler_type", "the shape of the decay is Nova's own");
    }
    to.take("lr_scheduler_type");
    export_mix(&mut to, technique);
    let mut carried = if let Some(hypothesis) = hypothesis {
        confirm::carry(&mut to, hypothesis, technique, lora);
        change(&mut to, &New { technique, lora, steps });
        let mut carried = to.finish("Nova Forge", OURS);
        carried.text = carried.text.replacen("\n\n", &format!("\n{}\n", confirm::head(hypothesis)), 1);
        carried
    } else {
        to.remark(
            "learning_rate",
            &number(stage.learning_rate.value),
            "a value for another model: a hypothesis at most, which --as-hypothesis marks and carries by rules",
        );
        to.finish("Nova Forge", OURS)
    };
    carried.text = carried.text.trim_end().to_owned() + "\n";
    Ok(carried)
}

/// A value as Nova takes it, and what was changed.
fn allowed(theirs: &str, value: &Value, technique: Technique) -> (Value, Option<String>) {
    let given = value.as_f64();
    let whole = given.map(|given| given as u64);
    let changed = |to: u64, of: &str| {
        let same = given == Some(to as f64);
        (json!(to), (!same).then(|| format!("written as {to}: Nova takes {of}")))
    };
    match (theirs, technique) {
        ("max_length", Technique::Sft) => {
            changed(at_least(whole.unwrap_or(0), &[8192, 16384, 32768, 65536]), "8192, 16384, 32768 or 65536")
        }
        ("max_length", Technique::Rft) => changed(whole.unwrap_or(8192).clamp(4096, 32768), "4096 to 32768"),
        ("global_batch_size", Technique::Rft) => changed(whole.unwrap_or(64).clamp(16, 256), "16 to 256"),
        ("advantage_strategy.number_generation", _) => changed(whole.unwrap_or(8).clamp(2, 16), "2 to 16"),
        ("max_length", Technique::Cpt) => changed(whole.unwrap_or(8192).min(8192), "at most 8192"),
        ("max_length", Technique::Dpo) => {
            changed(whole.unwrap_or(1024).div_ceil(1024).clamp(1, 32) * 1024, "multiples of 1024 up to 32768")
        }
        ("global_batch_size", Technique::Sft) => {
            changed(nearest(given.unwrap_or(32.0), &[32, 64, 128]), "32, 64 or 128")
        }
        ("global_batch_size", Technique::Cpt) => {
            changed(nearest(given.unwrap_or(256.0), &[32, 64, 128, 256]), "32, 64, 128 or 256")
        }
        ("global_batch_size", Technique::Dpo) => changed(whole.unwrap_or(64).clamp(16, 256), "16 to 256"),
        ("lora_tuning.alpha", _) => {
            changed(nearest(given.unwrap_or(64.0), &[32, 64, 96, 128, 160, 192]), "32 to 192 in steps of 32")
        }
        ("lora_tuning.lora_plus_lr_ratio" | "lora_tuning.loraplus_lr_ratio", _) => {
            let ratio = given.unwrap_or(64.0);
            let to = ratio.clamp(1.0, 70.0);
            (json!(to), (to != ratio).then(|| format!("written as {to}: Nova takes 1 to 70")))
        }
        ("lr_scheduler.min_lr", _) if given.is_some_and(|least| least < 1e-7) => {
            (json!(1e-7), Some("written as 1e-7, the least that Nova takes".to_owned()))
        }
        ("dpo_cfg.beta", _) => {
            let beta = given.unwrap_or(0.1);
            let to = beta.clamp(0.001, 0.5);
            (json!(to), (to != beta).then(|| format!("written as {to}: Nova takes 0.001 to 0.5")))
        }
        _ => (value.clone(), None),
    }
}

/// Steps there, where they can be told.
fn export_duration(
    to: &mut Exporter<'_>,
    technique: Technique,
    rows: Option<u64>,
    batch: u64,
    one_pass: bool,
) -> Option<u64> {
    let stage = to.stage;
    let (least, key) = match technique {
        Technique::Sft => (4, "training_config.max_steps"),
        Technique::Rft => (5, "training_config.trainer.max_steps"),
        _ => (10, "training_config.trainer.max_steps"),
    };
    to.take("max_steps");
    to.take("num_train_epochs");
    if technique == Technique::Dpo {
        match stage.duration.value {
            Duration::Epochs(epochs) => {
                let whole = epochs.ceil().max(1.0);
                to.put("training_config.trainer.max_epochs", json!(whole as u64), "");
                if whole != epochs {
                    to.list("num_train_epochs", "whole epochs only there");
                }
            }
            Duration::Steps(steps) => {
                let epochs = rows.map(|rows| (steps * stage.global_batch_size.value).div_ceil(rows.max(1)).max(1));
                to.put("training_config.trainer.max_epochs", epochs.unwrap_or(2), "");
                to.list("max_steps", "DPO counts epochs there");
            }
        }
        return None;
    }
    let steps = match (stage.duration.value, rows) {
        (Duration::Steps(steps), _) if batch != stage.global_batch_size.value => {
            let same = (steps * stage.global_batch_size.value).div_ceil(batch);
            to.list("max_steps", &format!("written as {same}: steps of {batch} rows, so that as many rows are seen"));
            same
        }
        (Duration::Steps(steps), _) => steps,
        (Duration::Epochs(epochs), Some(rows)) => {
            let steps = (epochs * rows as f64 / batch as f64).ceil() as u64;
            to.list("num_train_epochs", &format!("written as {steps} steps: {rows} rows, {batch} a step"));
            steps
        }
        (Duration::Epochs(_), None) => {
            to.list("num_train_epochs", "steps are counted there, and the rows are not: 100 is the recipe's default");
            100
        }
    };
    let most = rows.filter(|_| one_pass).map_or(u64::MAX, |rows| rows / batch);
    if steps > most {
        to.list("max_steps", &format!("written as {most}: one pass over the {rows} rows", rows = rows.unwrap_or(0)));
    }
    let steps = steps.min(most);
    let written = steps.max(least);
    if written != steps {
        to.list("max_steps", &format!("written as {least}, the least that Nova takes"));
    }
    to.put(key, written, "");
    Some(written)
}

fn export_warmup(to: &mut Exporter<'_>, technique: Technique, steps: Option<u64>) {
    let key = match technique {
        Technique::Sft => "training_config.lr_scheduler.warmup_steps",
        Technique::Rft => {
            let field = if matches!(to.stage.warmup.value, Span::Ratio(_)) { "warmup_ratio" } else { "warmup_steps" };
            to.list(field, "its recipes for RFT have no warm-up");
            return;
        }
        _ => "training_config.model.optim.sched.warmup_steps",
    };
    to.take("warmup_steps");
    to.take("warmup_ratio");
    let (written, field) = match (to.stage.warmup.value, steps) {
        (Span::Steps(warmup), Some(steps)) => match to.stage.duration.value {
            Duration::Steps(ours) if ours != steps && ours > 0 => {
                let written = (warmup * steps).div_ceil(ours);
                to.list("warmup_steps", &format!("written as {written}, the same share of the steps"));
                (written, "warmup_steps")
            }
            _ => (warmup, "warmup_steps"),
        },
        (Span::Steps(warmup), None) => (warmup, "warmup_steps"),
        (ratio @ Span::Ratio(_), Some(steps)) => {
            let written = ratio.steps(steps);
            to.list("warmup_ratio", &format!("written as {written} of {steps} steps"));
            (written, "warmup_ratio")
        }
        (Span::Ratio(_), None) => {
            to.list("warmup_ratio", "the steps are not known: the recipe's default holds");
            (10, "warmup_ratio")
        }
    };
    if written > 100 {
        to.list(field, "written as 100, the most that Nova takes");
    }
    to.put(key, written.min(100), "");
}

/// The mix, where it is one of Nova's catalogs.
fn export_mix(to: &mut Exporter<'_>, technique: Technique) {
    let Some(mix) = &to.stage.mix else { return };
    if technique == Technique::Rft {
        to.list("mix.domain", "Nova's recipes for RFT have no `data_mixing`");
        return;
    }
    let Some(catalog) = &mix.catalog else {
        to.list("mix.domain", "a mix of your own files: upload them with your rows, or say a `catalog`");
        return;
    };
    to.take("mix.catalog");
    to.take("mix.unit");
    to.take("mix.domain");
    to.put("data_mixing.dataset_catalog", catalog.value.to_string(), "");
    to.put("data_mixing.sources.customer_data.percent", json!(mix.domain.value), "");
    let named: Vec<(&str, f64)> = mix
        .general
        .iter()
        .filter(|source| catalog.value.share(&source.name.value).is_some())
        .map(|source| (source.name.value.as_str(), source.percent()))
        .collect();
    let sum: f64 = named.iter().map(|(_, share)| share).sum();
    // A recipe whose sources are the catalog's categories has shares of its own; any other means the catalog's.
    let own = (sum - 100.0).abs() < 1e-6;
    for (category, default) in catalog.value.shares() {
        let share = match named.iter().find(|(name, _)| name == category) {
            Some((_, share)) if own => *share,
            _ if own => 0.0,
            _ => *default,
        };
        to.put(&format!("data_mixing.sources.nova_data.{category}"), json!(share), "");
    }
    if !own {
        to.remark("mix.general", "", "the catalog's own shares are written: the sources here are no categories of it");
    }
    for index in 0..mix.general.len() {
        to.take(&format!("mix.general.{index}.name"));
        to.take(&format!("mix.general.{index}.share"));
    }
    let counted = if to.stage.kind.value == StageKind::Cpt { MixUnit::ProcessedTokens } else { MixUnit::Samples };
    if mix.unit.value != counted {
        let unit = serde_json::to_value(counted).unwrap_or_default();
        to.list("mix.unit", &format!("AWS counts {}", unit.as_str().unwrap_or_default()));
    }
}
