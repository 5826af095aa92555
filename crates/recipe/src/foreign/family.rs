//! What Axolotl, LLaMA-Factory and TRL have in common: the trainer of transformers, under names that hardly differ.

use serde_json::json;

use crate::duration::{Duration, Span};
use crate::stage::{LrScheduler, Mode};

use super::carry::{Exporter, Importer};
use super::document::Document;
use super::view::{Said, View};

/// The names of one tool.
pub(super) struct Names {
    /// Rows on a device at once, and its default.
    pub micro: (&'static str, u64),
    /// How many of these make a step.
    pub accumulate: (&'static str, u64),
    /// Passes, and their default.
    pub epochs: (&'static str, f64),
    pub steps: &'static str,
    pub schedule: (&'static str, &'static str),
    /// Whether the share of the warm-up has a key of its own; the newest trainer reads a number below 1 as a share.
    pub ratio: bool,
}

/// What TRL's GRPOConfig says of sampling and of the policy, where its keys stand below a prefix; its defaults are those of 1.16.
macro_rules! grpo_pairs {
    ($prefix:literal) => {
        &[
            Pair::new(concat!($prefix, "num_generations"), "rollouts.num_generations", Some("8")),
            Pair::new(concat!($prefix, "max_completion_length"), "rollouts.max_completion_length", Some("512")),
            Pair::new(concat!($prefix, "temperature"), "rollouts.temperature", Some("1.0")),
            Pair::new(concat!($prefix, "top_p"), "rollouts.top_p", Some("1.0")),
            Pair::new(concat!($prefix, "top_k"), "rollouts.top_k", Some("0")),
            Pair::new(concat!($prefix, "num_iterations"), "rollouts.num_iterations", Some("1")),
            Pair::new(
                concat!($prefix, "mask_truncated_completions"),
                "rollouts.mask_truncated_completions",
                Some("false"),
            ),
            Pair::new(concat!($prefix, "beta"), "policy.beta", Some("0.0")),
            Pair::new(concat!($prefix, "epsilon"), "policy.epsilon", Some("0.2")),
            Pair::new(concat!($prefix, "epsilon_high"), "policy.epsilon_high", None),
            Pair::new(concat!($prefix, "entropy_coef"), "policy.entropy_coefficient", Some("0.0")),
            Pair::new(concat!($prefix, "loss_type"), "policy.loss_type", Some("dapo")).said(As::Words(&[
                ("grpo", "grpo"),
                ("dapo", "dapo"),
                ("dr_grpo", "dr_grpo"),
            ])),
            Pair::new(concat!($prefix, "scale_rewards"), "policy.scale_rewards", Some("group")).said(As::Words(&[
                ("group", "group"),
                ("batch", "batch"),
                ("none", "none"),
                ("true", "group"),
                ("false", "none"),
            ])),
            Pair::new(concat!($prefix, "importance_sampling_level"), "policy.importance_sampling_level", Some("token"))
                .said(As::Words(&[("token", "token"), ("sequence", "sequence")])),
        ]
    };
}
pub(super) use grpo_pairs;

/// Of a step on one device that samples answers in groups: how many prompts it has; a step of theirs counts answers.
pub(super) fn prompts(document: &Document, names: &Names, group: &str) -> u64 {
    let answers = batch(document, names).map_or(names.micro.1 as f64, |said| said.value);
    (answers / document.number(group).unwrap_or(8.0)).floor().max(1.0) as u64
}

/// Tokens that a prompt may have beside the longest answer, where theirs has no limit.
pub(super) const PROMPT_TOKENS: u64 = 1024;

/// The batch of a stage that reinforces, in their words: whole groups of answers lie on a device.
pub(super) fn export_groups(to: &mut Exporter<'_>, names: &Names) {
    let group = to.stage.rollouts.as_ref().map_or(8, |rollouts| rollouts.num_generations.value);
    to.put(names.micro.0, group, "a group of answers on one device");
    to.put(names.accumulate.0, to.stage.global_batch_size.value, "prompts of a round");
}

/// Rows of a step on one device.
pub(super) fn batch(document: &Document, names: &Names) -> Option<Said<f64>> {
    let micro = document.said_or(names.micro.0, names.micro.1 as f64)?;
    let times = document.said_or(names.accumulate.0, names.accumulate.1 as f64)?;
    let at = if micro.place.is_some() { &micro } else { &times };
    Some(Said { value: micro.value * times.value, key: at.key.clone(), place: at.place.clone() })
}

/// Steps, passes, batch, warm-up.
pub(super) fn view(document: &Document, names: &Names, view: View) -> View {
    let steps = document.said(names.steps).filter(|steps| steps.value > 0.0);
    let warmup = document.said("warmup_steps");
    View {
        epochs: if steps.is_none() { document.said_or(names.epochs.0, names.epochs.1) } else { None },
        steps,
        batch: batch(document, names),
        warmup_ratio: document.said("warmup_ratio").or_else(|| warmup.clone().filter(|w| w.value < 1.0)),
        warmup_steps: warmup.filter(|warmup| warmup.value >= 1.0),
        ..view
    }
}

/// Batch, duration, warm-up and schedule, as a stage says them.
pub(super) fn import(of: &mut Importer<'_>, names: &Names) {
    let micro = of.number(names.micro.0);
    let times = of.number(names.accumulate.0);
    let rows = micro.unwrap_or(names.micro.1 as f64) * times.unwrap_or(names.accumulate.1 as f64);
    let from = format!("{} x {}, on one device", names.micro.0, names.accumulate.0);
    of.put("stages.0.global_batch_size", json!(rows as u64), &from);
    let steps = of.number(names.steps).filter(|steps| *steps > 0.0);
    let epochs = of.number(names.epochs.0);
    match (steps, epochs) {
        (Some(steps), _) => {
            of.put("stages.0.max_steps", json!(steps as u64), names.steps);
            if epochs.is_some() {
                of.list(names.epochs.0, &format!("`{}` wins over it", names.steps));
            }
        }
        (None, Some(epochs)) => of.put("stages.0.num_train_epochs", json!(epochs), names.epochs.0),
        (None, None) => {
            let from = of.default_of(names.epochs.0);
            of.put("stages.0.num_train_epochs", json!(names.epochs.1), &from);
        }
    }
    let ratio = of.number("warmup_ratio");
    match of.number("warmup_steps") {
        Some(warmup) if warmup >= 1.0 || ratio.is_none() && warmup == 0.0 => {
            of.put("stages.0.warmup_steps", json!(warmup as u64), "warmup_steps");
        }
        Some(warmup) if warmup > 0.0 => of.put("stages.0.warmup_ratio", json!(warmup), "warmup_steps, a share"),
        _ => match ratio {
            Some(ratio) => of.put("stages.0.warmup_ratio", json!(ratio), "warmup_ratio"),
            None => {
                let from = of.default_of("warmup_steps");
                of.put("stages.0.warmup_steps", 0, &from);
            }
        },
    }
    schedule(of, names);
}

fn schedule(of: &mut Importer<'_>, names: &Names) {
    let given = of.text(names.schedule.0);
    let from = match given {
        Some(_) => names.schedule.0.to_owned(),
        None => of.default_of(names.schedule.0),
    };
    let least = of.document.number("lr_scheduler_kwargs.min_lr");
    let least_share = of.document.number("lr_scheduler_kwargs.min_lr_rate");
    let given = given.unwrap_or_else(|| names.schedule.1.to_owned());
    let word = match given.as_str() {
        "linear" | "cosine" | "constant" => given.as_str(),
        "constant_with_warmup" => "constant",
        "cosine_with_min_lr" => "cosine",
        "warmup_stable_decay" => "wsd",
        _ => {
            of.list(names.schedule.0, "no such schedule in Temper: cosine is written");
            "cosine"
        }
    };
    of.put("stages.0.lr_scheduler_type", word, &from);
    if given == "cosine_with_min_lr" {
        let rate = of.document.number("learning_rate");
        match (least, least_share, rate) {
            (Some(least), ..) => {
                of.take("lr_scheduler_kwargs.min_lr");
                of.put("stages.0.min_lr", json!(least), "lr_scheduler_kwargs.min_lr");
            }
            (None, Some(share), Some(rate)) => {
                of.take("lr_scheduler_kwargs.min_lr_rate");
                of.put("stages.0.min_lr", json!(share * rate), "lr_scheduler_kwargs.min_lr_rate x learning_rate");
            }
            _ => {}
        }
    }
    if word == "wsd" {
        if let Some(steps) = of.number("lr_scheduler_kwargs.num_decay_steps") {
            of.put("stages.0.decay_steps", json!(steps as u64), "lr_scheduler_kwargs.num_decay_steps");
        }
        of.remark(names.schedule.0, &given, "Temper's decay is a straight line; theirs has a shape of its own");
    }
}

/// The same in their words.
pub(super) fn export(to: &mut Exporter<'_>, names: &Names) {
    let stage = to.stage;
    to.take("global_batch_size");
    let rows = stage.global_batch_size.value;
    let micro = (1..=8).rev().find(|micro| rows.is_multiple_of(*micro)).unwrap_or(1);
    to.put(names.micro.0, micro, "on one device; more devices multiply the batch");
    to.put(names.accumulate.0, rows / micro, "");
    to.take("max_steps");
    to.take("num_train_epochs");
    match stage.duration.value {
        Duration::Steps(steps) => to.put(names.steps, steps, ""),
        Duration::Epochs(epochs) => to.put(names.epochs.0, json!(epochs), ""),
    }
    to.take("warmup_steps");
    to.take("warmup_ratio");
    match stage.warmup.value {
        Span::Steps(steps) => to.put("warmup_steps", steps, ""),
        Span::Ratio(ratio) if names.ratio => to.put("warmup_ratio", json!(ratio), ""),
        Span::Ratio(ratio) => to.put("warmup_steps", json!(ratio), "below 1 it is a share"),
    }
    to.take("lr_scheduler_type");
    let least = stage.min_lr.as_ref().map_or(0.0, |least| least.value);
    to.take("min_lr");
    let word = match stage.lr_scheduler_type.value {
        LrScheduler::Constant => "constant_with_warmup",
        LrScheduler::Linear => "linear",
        LrScheduler::Cosine if least > 0.0 => "cosine_with_min_lr",
        LrScheduler::Cosine => "cosine",
        LrScheduler::Wsd => "warmup_stable_decay",
    };
    to.put(names.schedule.0, word, "");
    if word == "cosine_with_min_lr" {
        to.put("lr_scheduler_kwargs.min_lr", json!(least), "");
    } else if least > 0.0 {
        to.list("min_lr", "their schedule of this kind ends at 0");
    }
    if word == "warmup_stable_decay" {
        let decay = stage.decay.as_ref().map(|decay| decay.value);
        to.take("decay_steps");
        match (decay, stage.duration.value) {
            (Some(Span::Steps(steps)), _) => to.put("lr_scheduler_kwargs.num_decay_steps", steps, ""),
            (Some(ratio), Duration::Steps(total)) => {
                to.list("decay_ratio", "written as steps there");
                to.put("lr_scheduler_kwargs.num_decay_steps", ratio.steps(total), "");
            }
            (Some(_), Duration::Epochs(_)) => {
                to.list("decay_ratio", "steps are wanted there, and how many there are is not known")
            }
            (None, _) => {}
        }
        to.remark("lr_scheduler_type", "wsd", "the shape of their decay is not a straight line");
    }
}

/// Beginnings of a text that a tokenizer adds by itself.
pub const BEGINNINGS: [&str; 5] = ["<s>", "<|begin_of_text|>", "<bos>", "<|startoftext|>", "[BOS]"];

/// Whether products round to bf16.
pub(super) fn precision(of: &mut Importer<'_>, key: &str, default: &str) {
    match of.text(key).map(|word| word.to_ascii_lowercase()) {
        Some(word) if word == "true" => of.put("precision", "bf16", key),
        Some(word) if word == "auto" => of.list(key, "f32 here: what a machine happens to have decides nothing"),
        Some(_) => of.put("precision", "f32", key),
        None => of.put("precision", default, "not said there"),
    }
}

/// The mode, where it is more than one run.
pub(super) fn mode(to: &mut Exporter<'_>) {
    to.take("mode");
    if to.stage.mode.value == Mode::LoraThenFull {
        to.list("mode", "two runs there; written as LoRA, the first of them");
    }
}
