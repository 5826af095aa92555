//! Reinforcement of Axolotl: `rl: grpo`, and the section `trl` that it hands on to TRL.

use crate::problem::{Place, Problem};

use super::super::carry::{As, Exporter, Importer, Pair};
use super::super::document::Document;
use super::super::family::{self, PROMPT_TOKENS, grpo_pairs};
use super::super::finding::{Cited, Finding, Severity};
use super::super::script::number;
use super::NAMES;

const CHECKS: Cited =
    Cited { what: "axolotl.utils.schemas.validation, check_grpo_batch_size_divisibility", when: "0.19.0" };
const TRAINER: Cited = Cited { what: "trl.GRPOTrainer, by axolotl.core.trainers.grpo", when: "1.16.0 and 0.19.0" };

const PAIRS: &[Pair] = grpo_pairs!("trl.");

/// The keys of its section `trl`, as axolotl.utils.schemas.trl.TRLConfig lists them; others it drops.
pub(super) const KEYS: &[&str] = &[
    "beta",
    "max_completion_length",
    "use_vllm",
    "vllm_mode",
    "vllm_server_host",
    "vllm_server_port",
    "vllm_server_timeout",
    "vllm_guided_decoding_regex",
    "reward_funcs",
    "reward_weights",
    "generation_batch_size",
    "num_generations",
    "log_completions",
    "num_completions_to_print",
    "importance_sampling_level",
    "sync_ref_model",
    "ref_model_mixup_alpha",
    "ref_model_sync_steps",
    "scale_rewards",
    "temperature",
    "top_p",
    "top_k",
    "min_p",
    "repetition_penalty",
    "generation_kwargs",
    "chat_template_kwargs",
    "num_iterations",
    "epsilon",
    "epsilon_high",
    "use_liger_loss",
    "loss_type",
    "mask_truncated_completions",
    "entropy_coef",
    "use_adaptive_entropy",
    "entropy_target",
    "entropy_coef_delta",
    "entropy_coef_min",
    "entropy_coef_max",
    "vllm_importance_sampling_clip_min",
    "vllm_importance_sampling_clip_max",
    "log_multimodal",
    "vllm_enable_sleep_mode",
    "rollout_func",
    "multi_objective_aggregation",
    "use_data_producer",
    "async_prefetch",
    "prefetch_depth",
    "vllm_sync_interval",
    "streaming_partial_batch",
    "streaming_min_groups",
    "vllm_importance_sampling_correction",
    "vllm_importance_sampling_mode",
    "vllm_importance_sampling_cap",
    "off_policy_mask_threshold",
    "use_bias_correction_kl",
    "reward_num_workers",
    "replay_buffer_size",
    "replay_recompute_logps",
    "reroll_start_fraction",
    "reroll_max_groups",
    "skip_zero_advantage_batches",
    "vllm_lora_sync",
];

const GROUP: &str = "trl.num_generations";
const GENERATED: &str = "trl.generation_batch_size";

/// What it, or TRL below it, refuses of `rl: grpo`.
pub(super) fn findings(document: &Document) -> Vec<Finding> {
    let mut findings = Vec::new();
    if document.text("rl") != Some("grpo") {
        return findings;
    }
    let mut find = |rule, path: &str, found: String, reason: &str, source: Cited, corrected: Option<String>| {
        let place = document.at(path).map_or(Place::Whole, |leaf| leaf.place.clone());
        let (severity, reason, source) = (Severity::Error, reason.to_owned(), source.to_string());
        findings.push(Finding { rule, severity, place, found, reason, source, corrected });
    };
    let answers = document.number(GENERATED).or_else(|| family::batch(document, &NAMES).map(|said| said.value));
    let group = document.number(GROUP).filter(|group| *group >= 2.0);
    if let (Some(answers), Some(group)) = (answers, group)
        && answers % group != 0.0
    {
        let found = format!("{} answers are generated at once, in groups of {}", number(answers), number(group));
        let corrected = Some(document.line(NAMES.micro.0, &number(group)));
        let reason = "whole groups must fit, or it is refused";
        find("group-against-batch", GROUP, found, reason, CHECKS, corrected);
    }
    if !document.has("trl.reward_funcs") {
        let corrected = Some(document.line("trl.reward_funcs", "[my_module.my_reward]"));
        find("reward-missing", "rl", "no reward is named".to_owned(), "reinforcement needs one", TRAINER, corrected);
    }
    findings
}

/// What a stage of `rft` has besides: its batch counts answers there, and its rewards are Python functions.
pub(super) fn import(of: &mut Importer<'_>) -> Result<(), Problem> {
    let document = of.document;
    of.reward(None)?;
    of.list("trl.reward_funcs", "--reward gives the file that is run here");
    of.list("trl.reward_weights", "--reward gives one reward: its own value is the sum");
    let prompts = family::prompts(document, &NAMES, GROUP);
    of.put("stages.0.global_batch_size", prompts, "rows of a step / trl.num_generations, on one device");
    let step = family::batch(document, &NAMES).map(|said| said.value);
    if document.number(GENERATED).is_some_and(|generated| Some(generated) != step) {
        of.list(
            GENERATED,
            "a round is a step here: its answers are those of micro_batch_size x gradient_accumulation_steps",
        );
    }
    of.take(GENERATED);
    let answer = document.number("trl.max_completion_length");
    if answer.is_none() {
        of.remark("trl.max_completion_length", "", "it hands on no limit where none is given: TRL's 512 is written");
    }
    let answer = answer.unwrap_or(512.0) as u64;
    // There it bounds no row of GRPO; here it bounds prompt and answer.
    match of.number("sequence_len").map(|length| length as u64) {
        Some(length) if length > answer => of.put("stages.0.max_length", length, "sequence_len"),
        given => {
            if given.is_some() {
                of.list("sequence_len", "a prompt and an answer do not fit into it, and it bounds neither there");
            }
            of.put("stages.0.max_length", answer + PROMPT_TOKENS, "trl.max_completion_length, and room for a prompt");
            of.remark("max_length", "", &format!("prompts have no limit there: {PROMPT_TOKENS} tokens are written"));
        }
    }
    of.pairs(PAIRS);
    // Of the two names the section's wins.
    match (document.has("trl.beta"), of.number("rl_beta")) {
        (true, Some(_)) => of.list("rl_beta", "`trl.beta` wins over it"),
        (false, Some(beta)) => of.put("stages.0.policy.beta", serde_json::json!(beta), "rl_beta"),
        _ => {}
    }
    Ok(())
}

/// The section `trl`, and the batch in answers.
pub(super) fn export(to: &mut Exporter<'_>) {
    to.put("rl", "grpo", "");
    to.put("trl.reward_funcs", serde_json::json!(["my_module.my_reward"]), "a function of completions and **kwargs");
    to.remark("rewards", "", "a Python function of your own there: `temper check --reward FILE` looks at it");
    family::export_groups(to, &NAMES);
    to.pairs(PAIRS);
}
