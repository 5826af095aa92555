//! Amazon Nova Forge: HyperPod recipes in YAML, hyperparameters of SageMaker jobs, Bedrock customization jobs.

mod carry;
mod keys;
mod mix;
mod rules;

use super::document::{Document, Leaf, ends, text};
use super::finding::Finding;
use super::keys as table;
use super::view::{Known, Said, Technique, View};

pub(crate) use carry::{export, import, search};

crate::kind::words! {
    /// What carries a job out.
    pub enum Platform {
        /// SageMaker HyperPod, by a recipe in YAML.
        HyperPod = "hyperpod",
        /// SageMaker training jobs, by hyperparameters that are all text.
        SageMaker = "sagemaker",
        /// Bedrock's customization jobs.
        Bedrock = "bedrock",
    }
}

crate::kind::words! {
    /// A technique of Nova's, by what its rows are.
    pub enum RowTechnique {
        /// Plain text.
        Cpt = "cpt",
        /// Conversations.
        Sft = "sft",
        /// Conversations whose last turn has two candidates.
        Dpo = "dpo",
        /// Prompts for a reward.
        Rft = "rft",
        /// Prompts for an environment of several turns.
        RftMultiTurn = "rft_multiturn",
        /// Questions with answers, for an evaluation.
        Questions = "gen_qa",
        /// Pairs of answers, for a judge.
        Judged = "llm_judge",
    }
}

/// What rows the recipe takes, whether they are for Nova 2, and who reads them; no rows for a benchmark that brings its own.
pub fn row_technique(document: &Document) -> (Option<RowTechnique>, bool, Platform) {
    let nature = nature(document);
    let rows = match nature.technique {
        Technique::Cpt => Some(RowTechnique::Cpt),
        Technique::Sft => Some(RowTechnique::Sft),
        Technique::Dpo => Some(RowTechnique::Dpo),
        Technique::Rft if nature.turns => Some(RowTechnique::RftMultiTurn),
        Technique::Rft => Some(RowTechnique::Rft),
        Technique::Evaluation => match document.text("evaluation.task") {
            Some("gen_qa") => Some(RowTechnique::Questions),
            Some("llm_judge" | "rubric_llm_judge") => Some(RowTechnique::Judged),
            Some("rft_eval") => Some(RowTechnique::Rft),
            Some("rft_multiturn_eval") => Some(RowTechnique::RftMultiTurn),
            _ => None,
        },
    };
    (rows, nature.second, nature.platform)
}

/// What kind of recipe a document is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Nature {
    pub technique: Technique,
    pub platform: Platform,
    /// Nova 2.
    pub second: bool,
    /// RFT over several turns.
    pub turns: bool,
}

pub(super) fn nature(document: &Document) -> Nature {
    let platform = if ["baseModelIdentifier", "customizationType"].iter().any(|key| document.has(key)) {
        Platform::Bedrock
    } else if document.has("run") || document.has("training_config") || document.has("run.model_type") {
        Platform::HyperPod
    } else {
        Platform::SageMaker
    };
    let paths = document.paths();
    let has = |part: &str| paths.iter().any(|path| path.split('.').any(|p| p == part));
    let turns = has("training_batch_size") || has("group_size") || has("max_steps_off_policy");
    let said = |end: &str| document.ending(end).and_then(|leaf| text(leaf.node)).map(str::to_ascii_lowercase);
    let technique = if has("evaluation") {
        Technique::Evaluation
    } else if turns || has("rollout") || has("rftConfig") || has("number_generation") || has("reward_lambda_arn") {
        Technique::Rft
    } else if has("dpo_cfg") {
        Technique::Dpo
    } else {
        match (said("task_type").as_deref(), said("customizationType").as_deref(), said("dataset_catalog").as_deref()) {
            (Some("cpt"), ..) | (_, Some("continued_pre_training"), _) => Technique::Cpt,
            (_, Some("reinforcement_fine_tuning"), _) => Technique::Rft,
            (_, _, Some(catalog)) if catalog.starts_with("cpt") => Technique::Cpt,
            _ => Technique::Sft,
        }
    };
    let named = |leaf: Option<Leaf<'_>>| leaf.and_then(|leaf| text(leaf.node)).map(generation);
    let models = ["model_type", "model_name_or_path", "baseModelIdentifier"];
    let second = models.iter().find_map(|key| named(document.ending(key)).flatten()).unwrap_or(true);
    Nature { technique, platform, second, turns }
}

/// Whether a model's name is one of Nova 2; nothing where it tells neither.
pub(super) fn generation(name: &str) -> Option<bool> {
    let name = name.to_ascii_lowercase();
    if name.contains("nova-2") || name.contains("nova-lite-2") || name.contains("nova-2-lite") {
        return Some(true);
    }
    ["nova-micro", "nova-lite", "nova-pro", "nova-premier"].iter().any(|model| name.contains(model)).then_some(false)
}

/// Findings of the keys, of the mix, and of the rules that only Nova has.
pub(super) fn findings(document: &Document, known: &Known) -> Vec<Finding> {
    let nature = nature(document);
    let keys = keys::keys(nature.technique, nature.second, nature.turns, nature.platform);
    let mut findings = table::outside(document, &keys);
    findings.extend(unknown(document, &keys, nature));
    findings.extend(mix::findings(document, nature));
    findings.extend(rules::findings(document, nature, known));
    findings
}

/// Keys that are not known: the service drops them.
fn unknown(document: &Document, keys: &[table::Key], nature: Nature) -> Vec<Finding> {
    // The same knob has two names in AWS's own recipes.
    let spelt: &[(&str, &str)] = &[
        ("loraplus_lr_ratio", "lora_plus_lr_ratio"),
        ("lora_plus_lr_ratio", "loraplus_lr_ratio"),
        ("learning_rate", "lr"),
        ("num_epochs", "max_epochs"),
        ("epochs", "max_epochs"),
        ("batch_size", "global_batch_size"),
        ("lora_alpha", "alpha"),
    ];
    let flat = nature.platform == Platform::SageMaker;
    let known = |leaf: &Leaf<'_>| {
        let last = leaf.path.rsplit('.').next().unwrap_or(&leaf.path);
        keys.iter().any(|key| ends(&leaf.path, key.path) || flat && key.path.rsplit('.').next() == Some(last))
            || leaf
                .path
                .split('.')
                .any(|part| matches!(part, "nova_data" | "validation_data_s3_path_list" | "defaults"))
            || mix::is_key(last)
            || nature.platform == Platform::Bedrock && keys::of_request(&leaf.path)
            || flat && !leaf.path.starts_with("HyperParameters") && document.has("HyperParameters")
    };
    let leaves = document.leaves();
    let strange = leaves.iter().filter(|leaf| !known(leaf));
    let finding = |leaf: &Leaf<'_>| {
        let last = leaf.path.rsplit('.').next().unwrap_or(&leaf.path);
        let of_key = |key: &table::Key| key.path.rsplit('.').next().unwrap_or(key.path).to_owned();
        let names: Vec<String> = keys.iter().map(of_key).collect();
        let meant = spelt
            .iter()
            .find(|(given, meant)| *given == last && names.iter().any(|name| name == meant))
            .map(|(_, meant)| (*meant).to_owned())
            .or_else(|| crate::kind::closest(last, names.iter().map(String::as_str)).map(str::to_owned));
        let hint = meant.as_ref().map(|meant| format!(": did you mean `{meant}`?")).unwrap_or_default();
        Finding {
            rule: "unknown-key",
            severity: super::finding::Severity::Warning,
            place: leaf.place.clone(),
            found: format!("`{}` is no key of this recipe that is known{hint}", leaf.path),
            reason: "an override key that does not exist is dropped with only a warning".to_owned(),
            source: "aws/sagemaker-python-sdk#6049, 2026".to_owned(),
            corrected: meant.map(|meant| document.line(&meant, &super::document::shown(leaf.node))),
        }
    };
    strange.map(finding).collect()
}

/// The recipe as rules see it.
pub(super) fn view(document: &Document) -> View {
    let nature = nature(document);
    let keys = keys::keys(nature.technique, nature.second, nature.turns, nature.platform);
    // The value that is given, else the recipe's default.
    let said = |end: &str| {
        document.said_ending(end).or_else(|| {
            let key = keys.iter().find(|key| ends(key.path, end) || key.path == end)?;
            Some(Said { value: key.default?.parse().ok()?, key: end.to_owned(), place: None })
        })
    };
    let given = |end: &str| document.said_ending(end);
    let first = |ends: &[&str]| ends.iter().find_map(|end| said(end));
    let full = document.ending("peft_scheme").is_some_and(|leaf| text(leaf.node) == Some("null"))
        || nature.technique == Technique::Cpt
        || has_null(document, "peft_scheme");
    let scheme = document.leaves().into_iter().find(|leaf| ends(&leaf.path, "peft_scheme"));
    let adapters = Said {
        value: !full,
        key: scheme.as_ref().map_or_else(|| "peft_scheme".to_owned(), |leaf| leaf.path.clone()),
        place: scheme.map(|leaf| leaf.node.place.clone()),
    };
    let validation =
        ["validation_data_s3_path", "validation_data_s3_path_list", "validationDataConfig.validators.0.s3Uri"];
    let validates = validation.iter().find_map(|end| document.ending(end)).map_or(
        Said { value: false, key: "validation_data_s3_path".to_owned(), place: None },
        |leaf| Said { value: true, place: Some(leaf.place.clone()), key: leaf.path },
    );
    let eval_every = first(&["val_check_interval", "val_every", "test_steps", "evalInterval"]);
    let steps = first(&["max_steps"]).filter(|_| nature.platform != Platform::Bedrock);
    let model = ["model_name_or_path", "baseModelIdentifier", "model_type"].iter().find_map(|end| {
        let leaf = document.ending(end)?;
        Some(Said { value: text(leaf.node)?.to_owned(), place: Some(leaf.node.place.clone()), key: leaf.path })
    });
    let trains = nature.technique != Technique::Evaluation;
    View {
        technique: Some(nature.technique),
        adapters: (trains && nature.platform != Platform::Bedrock).then_some(adapters),
        rate: first(&["lr", "learningRate", "learning_rate"]).filter(|_| trains),
        least_rate: first(&["min_lr"]),
        epochs: steps.is_none().then(|| first(&["max_epochs", "epochCount"])).flatten(),
        steps: steps.filter(|_| trains),
        batch: first(&["global_batch_size", "batchSize", "training_batch_size"]),
        warmup_steps: first(&["warmup_steps", "learningRateWarmupSteps"]),
        eval_on: Some(validates.clone()).filter(|validates| validates.value),
        eval_every: eval_every.filter(|_| trains && (validates.value || nature.technique == Technique::Rft)),
        validates: None,
        longest: first(&["max_length", "max_sequence_length"]),
        prompt: given("maxPromptLength"),
        answer: match nature.technique {
            Technique::Rft => first(&["max_new_tokens", "max_tokens"]),
            _ => None,
        },
        top_k: first(&["generator.top_k"]),
        temperature: first(&["generator.temperature", "sampling.temperature"]),
        group: first(&["number_generation", "group_size", "trainingSamplePerPrompt"]),
        domain: mix::customer(document),
        mixes: mix::is_mixed(document),
        model,
        ..View::default()
    }
}

/// Whether a key is given as null.
fn has_null(document: &Document, end: &str) -> bool {
    document.leaves().iter().any(|leaf| ends(&leaf.path, end) && leaf.node.is_null())
}
