//! Rules that only Nova has: generations, checkpoints, rates while mixing, rewards, evaluation.

use super::super::document::{Document, Leaf, shown, text};
use super::super::finding::{Cited, Finding, Severity};
use super::super::script::number;
use super::super::view::{Known, Technique};
use super::keys::{GUIDE, SDK, YAML};
use super::{Nature, Platform, generation, mix};

const ARTICLE: Cited = Cited { what: "AWS ML blog, hyperparameters of Nova Forge", when: "June 2026" };

/// Tasks of an evaluation: the strategies and metrics that each takes; none where no page says.
const TASKS: &[(&str, &[&str], &[&str])] = &[
    ("mmlu", &["zs_cot"], &["accuracy"]),
    ("mmlu_pro", &["zs_cot"], &["accuracy"]),
    ("gpqa", &["zs_cot"], &["accuracy"]),
    // Newer pages and the SDK say fs_cot, older pages zs_cot.
    ("bbh", &["fs_cot", "zs_cot"], &["accuracy"]),
    ("math", &["zs_cot"], &["exact_match"]),
    ("ifeval", &["zs"], &["accuracy"]),
    ("strong_reject", &["zs"], &["deflection"]),
    ("humaneval", &["zs"], &["pass@1"]),
    ("mmmu", &["zs_cot"], &["accuracy"]),
    ("gen_qa", &["gen_qa"], &[]),
    ("llm_judge", &["judge"], &[]),
    ("mm_llm_judge", &["judge"], &[]),
    ("rubric_llm_judge", &["judge"], &[]),
    ("rft_eval", &["rft_eval"], &["all"]),
    ("rft_multiturn_eval", &["rft_eval"], &["all"]),
    ("aime_2024", &[], &[]),
    ("calendar_scheduling", &[], &[]),
];

/// Checkpoints from before the alignment.
const EARLY: &str = "pretraining-";

pub(super) fn findings(document: &Document, nature: Nature, known: &Known) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut find =
        |rule, severity, leaf: &Leaf<'_>, found: String, reason: &str, source: Cited, corrected: Option<String>| {
            let place = leaf.node.place.clone();
            let (reason, source) = (reason.to_owned(), source.to_string());
            findings.push(Finding { rule, severity, place, found, reason, source, corrected });
        };
    let model = document.ending("model_name_or_path");
    let kind = document.ending("model_type");
    let word = |leaf: &Option<Leaf<'_>>| leaf.as_ref().and_then(|leaf| text(leaf.node)).map(str::to_owned);
    if let (Some(leaf), Some(path), Some(kind)) = (&model, word(&model), word(&kind)) {
        // An escrowed checkpoint says nothing by its address.
        let size = |name: &str| ["micro", "lite", "pro", "premier"].into_iter().find(|size| name.contains(size));
        let differ = match (generation(&path), generation(&kind)) {
            (Some(a), Some(b)) => a != b || size(&path) != size(&kind),
            _ => false,
        };
        if differ && !path.starts_with("s3:") {
            let found = format!("the checkpoint `{path}` is not of the model `{kind}`");
            let reason = "a checkpoint and a model type of different models is the usual cause of a failed job";
            let right = match (generation(&kind), size(&kind)) {
                (Some(true), _) => Some("nova-lite-2/prod".to_owned()),
                (Some(false), Some(size)) => Some(format!("nova-{size}/prod")),
                _ => None,
            };
            find(
                "model-mismatch",
                Severity::Error,
                leaf,
                found,
                reason,
                GUIDE,
                right.map(|right| document.line(&leaf.path, &right)),
            );
        }
        let early = path.contains(EARLY);
        let lora = document.ending("peft_scheme").is_some_and(|leaf| text(leaf.node) == Some("lora"));
        if early && lora {
            let reason = "LoRA keeps the alignment of the post-trained checkpoint, which an earlier one has not";
            let better = path.split('/').next().map(|model| format!("{model}/prod"));
            let corrected = better.map(|better| document.line(&leaf.path, &better));
            find(
                "checkpoint-for-technique",
                Severity::Warning,
                leaf,
                format!("LoRA from `{path}`"),
                reason,
                ARTICLE,
                corrected,
            );
        }
        if early && nature.technique == Technique::Cpt {
            let reason = "an early checkpoint follows no instructions: supervised fine-tuning must come after. It pays off from 10 \
                          billion tokens (guide) or 100 billion (article): AWS's pages disagree";
            find("checkpoint-for-technique", Severity::Note, leaf, format!("CPT from `{path}`"), reason, ARTICLE, None);
        }
        if early && nature.technique == Technique::Rft {
            let reason =
                "reinforcement sharpens what a model can do; one that follows no instructions has nothing to sharpen";
            find(
                "checkpoint-for-technique",
                Severity::Error,
                leaf,
                format!("RFT from `{path}`"),
                reason,
                ARTICLE,
                None,
            );
        }
    }
    if mix::is_mixed(document)
        && let Some(leaf) = ["optim_config.lr", "optim.lr"].iter().find_map(|end| document.ending(end))
        && let Some(rate) = document.number_of(leaf.node)
    {
        let full = document
            .leaves()
            .iter()
            .any(|leaf| leaf.path.ends_with("peft_scheme") && (leaf.node.is_null() || text(leaf.node) == Some("null")));
        let (defaults, said): (&[f64], &str) = match (nature.technique, full) {
            (Technique::Sft, true) => (&[5e-6, 1e-5], "5e-6 by the article, 1e-5 by Nova 2's recipe"),
            _ => (&[1e-5], "1e-5"),
        };
        if !defaults.iter().any(|default| (rate / default - 1.0).abs() < 1e-6) {
            let found = format!("`{}` is {} while mixing; the default is {said}", leaf.path, number(rate));
            let reason = "moving the rate while mixing is named as the first cause of instability; if forgetting shows, move the mix first";
            find(
                "rate-moved-while-mixing",
                Severity::Warning,
                &leaf,
                found,
                reason,
                ARTICLE,
                Some(document.line(&leaf.path, &number(defaults[0]))),
            );
        }
    }
    if let Some(leaf) = document.ending("save_steps")
        && let (Some(save), Some(steps)) = (document.number_of(leaf.node), document.said_ending("max_steps"))
    {
        if save > steps.value {
            let found = format!("`{}` is {}, `{}` is {}", leaf.path, number(save), steps.key, number(steps.value));
            find(
                "save-beyond-end",
                Severity::Error,
                &leaf,
                found,
                "save_steps <= max_steps is checked and refused",
                SDK,
                Some(document.line(&leaf.path, &number(steps.value))),
            );
        } else if nature.platform == Platform::SageMaker && save % 2.0 != 0.0 {
            let found = format!("`{}` is {}", leaf.path, number(save));
            let corrected = Some(document.line(&leaf.path, &number((save - 1.0).max(2.0))));
            find(
                "save-steps-odd",
                Severity::Warning,
                &leaf,
                found,
                "serverless jobs want an even number",
                GUIDE,
                corrected,
            );
        }
    }
    if let Some(leaf) = document.ending("reasoning_enabled")
        && let Some(on) = super::super::document::truth(leaf.node)
        && let (Some(rows), Some(reasoning)) = (known.rows, known.reasoning_rows)
    {
        if on && reasoning == 0 && rows > 0 {
            let reason = "training with it on over rows without reasoning can erase the model's reasoning";
            let found = format!("`{}` is on, and none of {rows} rows has reasoning", leaf.path);
            find(
                "reasoning-against-rows",
                Severity::Error,
                &leaf,
                found,
                reason,
                GUIDE,
                Some(document.line(&leaf.path, "false")),
            );
        } else if !on && reasoning > 0 {
            let reason = "the switch must match the rows";
            let found = format!("`{}` is off, and {reasoning} of {rows} rows have reasoning", leaf.path);
            find(
                "reasoning-against-rows",
                Severity::Error,
                &leaf,
                found,
                reason,
                GUIDE,
                Some(document.line(&leaf.path, "true")),
            );
        }
    }
    if nature.technique == Technique::Sft
        && nature.second
        && let Some(leaf) = document.ending("validation_data_s3_path")
    {
        let reason = "older pages say that SFT of Nova 2 ignores validation rows; they are read since May 2026 (SDK pull request 64): \
                      the two disagree";
        find("validation-of-nova-2", Severity::Note, &leaf, format!("`{}` is given", leaf.path), reason, SDK, None);
    }
    for leaf in &document.leaves() {
        let names_s3 = ["data_s3_path", "output_s3_path", "s3Uri"].iter().any(|end| leaf.path.ends_with(end));
        let value = shown(leaf.node);
        if names_s3 && !leaf.node.is_null() && !value.starts_with("s3://") && !value.contains("${") {
            let found = format!("`{}` is `{value}`", leaf.path);
            let corrected = Some(document.line(&leaf.path, "s3://BUCKET/PATH"));
            find("not-s3", Severity::Error, leaf, found, "the service reads and writes S3 only", SDK, corrected);
        }
    }
    if nature.technique == Technique::Rft && nature.platform != Platform::Bedrock {
        let arn = ["lambda_arn", "reward_lambda_arn"].iter().find_map(|end| document.ending(end));
        let preset = document.ending("preset_reward_function").filter(|leaf| text(leaf.node) != Some("null"));
        match arn {
            Some(leaf) => {
                let value = shown(leaf.node);
                let name = value.rsplit(':').next().unwrap_or("");
                let shape = value.starts_with("arn:aws") && value.contains(":lambda:") && value.contains(":function:");
                if !shape && !value.contains("${") {
                    let found = format!("`{}` is `{value}`", leaf.path);
                    let corrected =
                        Some(document.line(&leaf.path, "arn:aws:lambda:REGION:ACCOUNT:function:NAME-SageMaker"));
                    find(
                        "reward-arn",
                        Severity::Error,
                        &leaf,
                        found,
                        "it must be the ARN of a Lambda function",
                        SDK,
                        corrected,
                    );
                } else if shape
                    // Only a recipe that says how it is run is HyperPod's; a job by the API asks for no name.
                    && nature.platform == Platform::HyperPod
                    && document.has("run")
                    && !name.to_ascii_lowercase().contains("sagemaker")
                {
                    let found = format!("the function is called `{name}`");
                    let reason = "on HyperPod the function's name must contain `SageMaker`";
                    let corrected = Some(
                        document
                            .line(&leaf.path, &format!("{}{name}-SageMaker", value.strip_suffix(name).unwrap_or(""))),
                    );
                    find("reward-arn", Severity::Error, &leaf, found, reason, SDK, corrected);
                }
            }
            None if preset.is_none() => {
                if let Some(leaf) = document.leaves().into_iter().next() {
                    let reason = "reinforcement needs a reward: a Lambda function or a preset one";
                    let corrected = Some(
                        document.line("reward_lambda_arn", "arn:aws:lambda:REGION:ACCOUNT:function:NAME-SageMaker"),
                    );
                    find(
                        "reward-missing",
                        Severity::Error,
                        &leaf,
                        "no reward is named".to_owned(),
                        reason,
                        GUIDE,
                        corrected,
                    );
                }
            }
            None => {}
        }
        if let (Some(leaf), Some(workers)) =
            (document.ending("lambda_concurrency_limit"), document.said_ending("rollout_worker_replicas"))
            && let Some(limit) = document.number_of(leaf.node)
            && limit < workers.value * 64.0
        {
            let found = format!("`{}` is {}, for {} workers", leaf.path, number(limit), number(workers.value));
            let reason = "each worker makes 64 calls at once; with fewer allowed they wait for each other";
            let corrected = Some(document.line(&leaf.path, &number(workers.value * 64.0)));
            find("reward-concurrency", Severity::Warning, &leaf, found, reason, YAML, corrected);
        }
        if let Some(leaf) = &model {
            let reason = "reinforcement works from a middling baseline only: measure the base's mean reward first. At 0 % do SFT, above \
                          95 % there is little to gain, and with under 5 % of samples positive it struggles";
            find(
                "rft-baseline",
                Severity::Note,
                leaf,
                "the baseline reward is not in the recipe".to_owned(),
                reason,
                ARTICLE,
                None,
            );
        }
    }
    if nature.technique == Technique::Cpt
        && let (Some(batch), Some(length)) = (document.ending("global_batch_size"), document.said_ending("max_length"))
        && let Some(rows) = document.number_of(batch.node)
        && rows * length.value < 2e6
    {
        let found = format!(
            "{} rows of {} tokens are {} tokens a step",
            number(rows),
            number(length.value),
            number(rows * length.value)
        );
        let reason = "2 to 20 million tokens a step are advised; with the values that are allowed only 256 rows of 8192 reach that";
        find(
            "tokens-per-step",
            Severity::Note,
            &batch,
            found,
            reason,
            ARTICLE,
            Some(document.line(&batch.path, "256")),
        );
    }
    if nature.platform == Platform::Bedrock
        && let Some(rows) = known.rows
        && let Some(leaf) = document.ending("trainingDataConfig.s3Uri")
    {
        let least = match (nature.second, nature.technique) {
            (true, Technique::Sft) => 200,
            (true, Technique::Rft) => 100,
            _ => 8,
        };
        if !(least..=20_000).contains(&rows) {
            let found = format!("{rows} rows");
            let reason = format!("Bedrock takes {least} to 20,000 rows of this technique and model");
            find("rows-of-platform", Severity::Error, &leaf, found, &reason, SDK, None);
        }
    }
    if let (Technique::Evaluation, Some(leaf)) = (nature.technique, document.ending("evaluation.task")) {
        let task = shown(leaf.node);
        match TASKS.iter().find(|(name, ..)| *name == task) {
            None => {
                let near = crate::kind::closest(&task, TASKS.iter().map(|(name, ..)| *name));
                let reason =
                    format!("the tasks are {}", TASKS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", "));
                find(
                    "evaluation-task",
                    Severity::Error,
                    &leaf,
                    format!("there is no task `{task}`"),
                    &reason,
                    GUIDE,
                    near.map(|near| document.line(&leaf.path, near)),
                );
            }
            Some((_, strategies, metrics)) => {
                for (key, allowed) in [("evaluation.strategy", strategies), ("evaluation.metric", metrics)] {
                    let Some(leaf) = document.ending(key) else { continue };
                    let given = shown(leaf.node);
                    if !allowed.is_empty() && !allowed.contains(&given.as_str()) {
                        let found = format!("`{}` is {given} for the task {task}", leaf.path);
                        let reason = match task.as_str() {
                            "bbh" => "it takes fs_cot (SDK and newer pages) or zs_cot (older pages): the two disagree"
                                .to_owned(),
                            _ => format!("it takes {}", allowed.join(" or ")),
                        };
                        find(
                            "evaluation-task",
                            Severity::Error,
                            &leaf,
                            found,
                            &reason,
                            GUIDE,
                            Some(document.line(&leaf.path, allowed[0])),
                        );
                    }
                }
            }
        }
    }
    findings
}
