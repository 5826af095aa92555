//! Nova's recipes here.

use serde_json::json;

use crate::problem::{Place, Problem};
use crate::stage::StageKind;
use crate::tree::Content;

use super::super::super::carry::{Carried, Given, Importer, refusal};
use super::super::super::document::{Document, ends, shown, text};
use super::super::super::view::Technique;
use super::super::{Nature, Platform, mix, nature};
use super::{BEDROCK, BEDROCK_RFT, CPT, DPO, RFT, SFT, SFT_1};

const REASONS: &[(&str, &str)] = &[
    ("run.model_type", "Nova's model; --base gives the one that is trained here"),
    ("run.replicas", "machines: here one trains"),
    ("replicas", "machines: here one trains"),
    ("run.output_s3_path", "a run writes to its own folder"),
    ("outputDataConfig.s3Uri", "a run writes to its own folder"),
    ("run.mlflow*", "every step is written to metrics.jsonl"),
    ("training_config.reasoning_enabled", "the rows decide: reasoning that they have is trained"),
    ("limit_val_batches", "all validation rows are read"),
    ("optim_config.optimizer", "AdamW, as here"),
    ("adam_w_mode", "AdamW, as here"),
    ("optim.optimizer", "AdamW, as here"),
    ("optim.name", "AdamW, as here"),
    ("roleArn", "whose account it is"),
    ("customModelName", "the name of what comes out"),
    ("reasoning_effort", "how long Nova thinks is not a knob here"),
    ("lambda_arn", "a Lambda function: --reward names the file that is run here"),
    ("reward_lambda_arn", "a Lambda function: --reward names the file that is run here"),
    ("lambda_concurrency_limit", "rewards are run beside each other as far as the machine goes"),
    ("lambda_batch_size", "rewards are run beside each other as far as the machine goes"),
    ("rollout_strategy.type", "a round samples from the weights as they are, here"),
    ("age_tolerance", "a round samples from the weights as they are, here"),
    ("refit_freq", "a round samples from the weights as they are, here"),
    ("generation_replicas", "machines: here one trains"),
    ("rollout_worker_replicas", "machines: here one trains"),
    ("set_random_seed", "all draws are functions of the seed here"),
    ("data.shuffle", "rows are shuffled by the seed here"),
    ("adapter_dropout", "dropout in DPO is not in this version"),
    ("task_type", "said by the stage's kind"),
];

pub(crate) fn import(document: &Document, given: &Given) -> Result<Carried, Problem> {
    let nature = nature(document);
    let (kind, pairs) = match (nature.technique, nature.platform, nature.second) {
        (Technique::Rft, ..) if nature.turns => {
            return Err(several_turns(document));
        }
        (Technique::Rft, Platform::Bedrock, _) => (StageKind::Rft, BEDROCK_RFT),
        (Technique::Rft, ..) => (StageKind::Rft, RFT),
        (Technique::Evaluation, ..) => {
            return Err(refusal("it evaluates and trains nothing", "`temper eval` judges a model"));
        }
        (technique, Platform::Bedrock, _) => {
            (if technique == Technique::Cpt { StageKind::Cpt } else { StageKind::Sft }, BEDROCK)
        }
        (Technique::Cpt, ..) => (StageKind::Cpt, CPT),
        (Technique::Dpo, ..) => (StageKind::Dpo, DPO),
        (Technique::Sft, _, true) => (StageKind::Sft, SFT),
        (Technique::Sft, _, false) => (StageKind::Sft, SFT_1),
    };
    let mut of = Importer::new(document, given);
    let name = ["run.name", "jobName"].iter().find_map(|key| of.text(key));
    of.name(name.as_deref(), "run.name");
    match &given.base {
        Some(base) => {
            for key in ["run.model_name_or_path", "baseModelIdentifier"] {
                of.list(key, "Nova's model; --base gives the one that is trained here");
            }
            of.put("base.source", base.as_str(), "--base, in place of Nova");
        }
        None => return Err(refusal("Nova's weights cannot be had", "name the model to train here by --base")),
    }
    of.put("stages.0.kind", kind.to_string(), "");
    of.kind = kind;
    of.lora = full_or_lora(&mut of, nature);
    of.put("stages.0.mode", if of.lora { "lora" } else { "full" }, "");
    if !of.given_rows() {
        let hint = "give rows of the same format by --data FILE: `temper data convert` writes any format as any other";
        return Err(refusal("its rows lie in S3 and are not read from here", hint));
    }
    for key in [
        "run.data_s3_path",
        "run.validation_data_s3_path",
        "trainingDataConfig.s3Uri",
        "validationDataConfig.validators.0.s3Uri",
    ] {
        of.list(key, "rows in S3: --data and --validation give the ones that are read here");
    }
    duration(&mut of, nature, kind);
    if kind == StageKind::Rft {
        let preset = of.take_ending("preset_reward_function").and_then(|leaf| text(leaf.node));
        of.reward(preset)?;
        of.put("stages.0.lr_scheduler_type", "constant", "its recipes have no schedule");
        of.put("stages.0.warmup_steps", 0, "its recipes have no schedule");
        if let Some(leaf) = document.ending("global_batch_size") {
            of.remark(&leaf.path, "", "no page says whether it counts prompts or answers: read as prompts, as here");
        }
    } else {
        warmup(&mut of);
        of.put("stages.0.lr_scheduler_type", "cosine", "no page of AWS says the shape of the decay");
    }
    of.pairs(pairs);
    if let Some(prompt) = of.number("hyperParameters.maxPromptLength").or_else(|| {
        let leaf = of.take_ending("maxPromptLength")?;
        document.number_of(leaf.node)
    }) {
        let answer = document.said_ending("inferenceMaxTokens").map_or(2048.0, |said| said.value);
        of.put("stages.0.max_length", json!((prompt + answer) as u64), "maxPromptLength + inferenceMaxTokens");
    }
    if let Some(constant) = of.take_ending("constant_steps")
        && document.number_of(constant.node) != Some(0.0)
    {
        of.list(&constant.path, "steps at the height of the rate: lr_scheduler_type: wsd has them, in another form");
    }
    if let Some(betas) = of.take_ending("betas") {
        let each: Vec<f64> = match &betas.node.content {
            Content::List(items) => items.iter().filter_map(|item| document.number_of(item)).collect(),
            _ => Vec::new(),
        };
        if let [first, second] = each[..] {
            let from = of.from(&betas);
            of.put("stages.0.adam_beta1", json!(first), &from);
            of.put("stages.0.adam_beta2", json!(second), &from);
        }
    }
    import_mix(&mut of, nature);
    of.finish(REASONS)
}

/// What of RFT over several turns a stage of single turns has too.
const TURNS: &[(&str, &str)] = &[
    ("training_batch_size", "global_batch_size"),
    ("group_size", "rollouts.num_generations"),
    ("val_group_size", "rollouts.validation_generations"),
    ("sampling.max_tokens", "rollouts.max_completion_length"),
    ("sampling.temperature", "rollouts.temperature"),
    ("sampling.top_p", "rollouts.top_p"),
    ("success_threshold", "rollouts.success_threshold"),
    ("epochs", "num_train_epochs"),
    ("max_steps", "max_steps"),
    ("save_every", "save_steps"),
    ("val_every", "eval_steps"),
    ("max_sequence_length", "max_length"),
    ("lora_rank", "lora_rank"),
    ("alpha", "lora_alpha"),
    ("lora_plus_lr_ratio", "loraplus_lr_ratio"),
    ("lr", "learning_rate"),
    ("weight_decay", "weight_decay"),
    ("grad_clip_norm", "max_grad_norm"),
];

/// Why RFT over several turns is not imported: without the environment that answers the model it is another task.
fn several_turns(document: &Document) -> Problem {
    let (mut same, mut none) = (Vec::new(), Vec::new());
    for leaf in document.leaves().into_iter().filter(|leaf| leaf.path.starts_with("training_config.")) {
        let key = leaf.path.trim_start_matches("training_config.");
        match TURNS.iter().find(|(theirs, _)| ends(&leaf.path, theirs)) {
            _ if leaf.node.is_null() => {}
            Some((_, ours)) => same.push(format!("{key} {} is {ours}", shown(leaf.node))),
            None => none.push(match leaf.place {
                Place::File { line, .. } => format!("{key} (line {line})"),
                _ => key.to_owned(),
            }),
        }
    }
    refusal(
        &format!(
            "reinforcement over several turns: the environment that answers the model has no counterpart in this version's recipes, \
             and without it these say nothing: {}",
            none.join(", ")
        ),
        &format!(
            "`temper check` reads it, and the SFT before it can be imported; a stage of single turns has in common with it: {}",
            same.join(", ")
        ),
    )
}

fn full_or_lora(of: &mut Importer<'_>, nature: Nature) -> bool {
    let scheme = of.take_ending("peft_scheme");
    match scheme.as_ref().and_then(|leaf| text(leaf.node)) {
        Some(scheme) => scheme == "lora",
        // Null is full rank; where nothing is said, continued pretraining trains all weights.
        None => {
            let null = of.document.leaves().iter().any(|leaf| leaf.path.ends_with("peft_scheme"));
            !null && nature.technique != Technique::Cpt
        }
    }
}

fn duration(of: &mut Importer<'_>, nature: Nature, kind: StageKind) {
    let document = of.document;
    for (end, ours, whole) in [
        ("max_steps", "max_steps", true),
        ("max_epochs", "num_train_epochs", false),
        ("epochCount", "num_train_epochs", false),
    ] {
        let Some(leaf) = of.take_ending(end) else { continue };
        let Some(value) = document.number_of(leaf.node) else { continue };
        let from = of.from(&leaf);
        of.put(&format!("stages.0.{ours}"), if whole { json!(value as u64) } else { json!(value) }, &from);
        return;
    }
    let (ours, value) = match (nature.platform, kind, nature.second) {
        (Platform::Bedrock, StageKind::Rft, _) => ("num_train_epochs", json!(1)),
        (Platform::Bedrock, ..) => ("num_train_epochs", json!(2)),
        (_, StageKind::Cpt, true) => ("max_steps", json!(10)),
        (_, StageKind::Cpt, false) => ("num_train_epochs", json!(1)),
        (_, StageKind::Rft, _) => ("max_steps", json!(100)),
        (_, StageKind::Dpo, _) => ("num_train_epochs", json!(if of.lora { 2 } else { 3 })),
        (_, _, true) => ("max_steps", json!(100)),
        (_, _, false) => ("num_train_epochs", json!(2)),
    };
    let from = of.default_of(ours);
    of.put(&format!("stages.0.{ours}"), value, &from);
}

fn warmup(of: &mut Importer<'_>) {
    let document = of.document;
    let leaf = of.take_ending("warmup_steps").or_else(|| of.take_ending("learningRateWarmupSteps"));
    let (value, from) = match leaf.and_then(|leaf| Some((document.number_of(leaf.node)?, of.from(&leaf)))) {
        Some(given) => given,
        None => {
            let default =
                if nature(document).technique == Technique::Sft && nature(document).second { 15.0 } else { 10.0 };
            (default, of.default_of("warmup_steps"))
        }
    };
    of.put("stages.0.warmup_steps", json!(value as u64), &from);
}

/// The mix: how much is the customer's is kept, Nova's own rows are not to be had.
fn import_mix(of: &mut Importer<'_>, nature: Nature) {
    let document = of.document;
    let Some(customer) = mix::customer(document) else { return };
    of.take(&customer.key);
    if customer.value >= 100.0 {
        return;
    }
    if customer.value <= 0.0 {
        of.list(&customer.key, "training on Nova's rows alone has no counterpart");
        return;
    }
    let from = match customer.place {
        Some(Place::File { line, .. }) => format!("line {line}, {}", customer.key),
        _ => customer.key.clone(),
    };
    // Continued pretraining counts tokens, supervised jobs count rows.
    let unit = if nature.technique == Technique::Cpt { "processed_tokens" } else { "samples" };
    of.put("stages.0.mix.unit", unit, "what AWS counts for this technique");
    if let Some(catalog) = mix::catalog(document, nature) {
        if let Some(leaf) = of.take_ending("dataset_catalog") {
            let from = of.from(&leaf);
            of.put("stages.0.mix.catalog", catalog.to_string(), &from);
        } else {
            of.put("stages.0.mix.catalog", catalog.to_string(), "the catalog of this technique and model");
        }
    }
    of.put("stages.0.mix.domain", json!(customer.value), &from);
    of.put("stages.0.mix.general", "self", "Nova's rows cannot be had: the base writes its own; or name files");
    for leaf in document.leaves() {
        let last = leaf.path.rsplit('.').next().unwrap_or(&leaf.path);
        if leaf.path.contains("nova_data.") || mix::is_key(last) && last.starts_with("nova_") {
            of.list(&leaf.path, "Nova's own rows of this category cannot be had");
        }
    }
}
