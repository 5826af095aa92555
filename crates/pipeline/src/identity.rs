//! What a stage's result depends on, as hashes: the key of its checkpoints and of its place in the cache.

use std::collections::HashMap;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};
use temper_kernels::Device;
use temper_recipe::RowFiles;
use temper_run::{sha256_bytes, sha256_file};

use crate::cache::key_of;
use crate::files::Files;
use crate::prepare::Prepared;
use crate::{Base, PipelineError};

/// Raised whenever the engine's results change in any bit: kernels, order of sums, schedule, packing, rendering.
pub const NUMERICS: u32 = 7;

/// The settings of a stage that cannot change what it computes.
const WITHOUT_EFFECT: [&str; 6] =
    ["data_errors", "save_steps", "keep_checkpoints", "data_licence", "licence", "activation_checkpointing"];

/// A file that a run reads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Input {
    /// Where the recipe names it: `stages.0.train`.
    pub setting: String,
    /// The file.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// Its content's hash, lower-case hex.
    pub sha256: String,
    /// Whether it is trained on.
    pub trained: bool,
    /// As the recipe declares it, which it can of what is trained on; none is unknown.
    pub licence: Option<String>,
}

/// Every data file of the recipe, hashed once each.
pub(crate) fn inputs(recipe: &temper_recipe::Recipe, found: &Files) -> Result<Vec<Input>, PipelineError> {
    let mut named: Vec<(String, PathBuf)> = Vec::new();
    let mut rewards: Vec<(String, PathBuf)> = Vec::new();
    // By setting; one licence for all files of `train`.
    let mut licences: HashMap<&str, Option<&str>> = HashMap::new();
    for stage in &recipe.stages {
        licences.insert(&stage.train.path, stage.data_licence.as_ref().map(|licence| licence.as_str()));
        for source in stage.mix.iter().flat_map(|mix| &mix.general) {
            licences.insert(&source.path.path, source.licence.as_ref().map(|licence| licence.as_str()));
        }
        // Its settings are in the first, its numbers in the second.
        for file in ["adapter_config.json", "adapter_model.safetensors"] {
            named.extend(stage.adapter.iter().map(|adapter| (adapter.path.clone(), adapter.value.join(file))));
        }
        let mut files = |setting: &str, files: &RowFiles| {
            named.extend(found.of(&files.path).iter().map(|path| (setting.to_owned(), path.clone())));
        };
        let of_rewards = stage.rewards.iter().flat_map(|reward| reward.files());
        rewards.extend(of_rewards.map(|(setting, path)| (setting.to_owned(), path.to_owned())));
        stage.train.value.iter().for_each(|train| files(&stage.train.path, train));
        stage.validation.iter().for_each(|validation| files(&validation.path, &validation.value));
        let general = stage.mix.iter().flat_map(|mix| &mix.general);
        for source in general {
            source.path.files().into_iter().for_each(|general| files(&source.path.path, general));
        }
        for source in stage.mix.iter().flat_map(|mix| &mix.general) {
            let prompts = source.self_data.iter().flat_map(|own| &own.prompts);
            named.extend(prompts.map(|path| (path.path.clone(), path.value.clone())));
        }
    }
    if let Some(evaluation) = &recipe.evaluation {
        if let Some(domain) = &evaluation.domain {
            let files = domain.rewards.iter().flat_map(|reward| reward.files());
            named.extend(files.map(|(setting, path)| (setting.to_owned(), path.to_owned())));
            named.push((domain.validation.path.clone(), domain.validation.value.clone()));
            named.push((domain.test.path.clone(), domain.test.value.clone()));
        }
        named.extend(evaluation.general.iter().map(|suite| (suite.path.path.clone(), suite.path.value.clone())));
    }
    named.extend(rewards);
    let mut known: HashMap<PathBuf, (u64, String)> = HashMap::new();
    let mut inputs = Vec::new();
    for (setting, path) in named {
        let (bytes, sha256) = match known.get(&path) {
            Some(found) => found.clone(),
            None => {
                let bytes = std::fs::metadata(&path).map_err(crate::checkpoints::io("look at", &path))?.len();
                let found = (bytes, sha256_file(&path)?);
                known.insert(path.clone(), found.clone());
                found
            }
        };
        let declared = licences.get(setting.as_str());
        let (trained, licence) = (declared.is_some(), declared.copied().flatten().map(str::to_owned));
        inputs.push(Input { setting, path: path.to_owned(), bytes, sha256, trained, licence });
    }
    Ok(inputs)
}

/// The hash of tokenizer and chat template, and of the day that a template prints.
pub(crate) fn tokenizer_sha256(base: &Base) -> String {
    let tokenizer = base.renderer.tokenizer();
    let template = tokenizer.chat_template().unwrap_or_default();
    let mut all = vec![
        json!(tokenizer.json()),
        json!(template),
        json!(tokenizer.bos()),
        json!(tokenizer.eos()),
        json!(tokenizer.add_bos()),
    ];
    // The day, not the moment: what was computed a minute ago is still right.
    all.extend(base.renderer.dated().map(|moment| json!(moment.strftime("%Y-%m-%d").to_string())));
    let all = Value::from(all);
    sha256_bytes(all.to_string().as_bytes())
}

/// What the result of stage `index` depends on: base, tokenizer, every input's content, every setting that has an effect,
/// the stages before, the seed, the device and the engine's numerics.
pub(crate) fn ingredients(prepared: &Prepared, index: usize, before: Option<&str>) -> Value {
    let hash_of = |setting: &str| hashes_of(prepared, setting).into_iter().map(Value::from).collect::<Vec<Value>>();
    let mut settings = serde_json::Map::new();
    // The floors and suites that are watched may end a stage early.
    let watched = |path: &str| path.starts_with("evaluation.floors.") || path == "evaluation.watch_items";
    let watched = prepared.recipe.settings().into_iter().filter(|setting| watched(&setting.path));
    for setting in prepared.parts[index].settings().into_iter().chain(watched) {
        let of_stage = setting.path.strip_prefix("stages.").and_then(|rest| rest.split_once('.'));
        let name = of_stage.map_or(setting.path.as_str(), |(_, name)| name).to_owned();
        if WITHOUT_EFFECT.contains(&name.rsplit('.').next().unwrap_or(&name)) {
            continue;
        }
        let hashes = hash_of(&setting.path);
        let value = match (hashes.is_empty(), without_paths(&setting.value)) {
            (true, _) => setting.value,
            (false, None) => hashes.into(),
            (false, Some(said)) => json!({"content": hashes, "said": said}),
        };
        settings.insert(name, value);
    }
    let suites: Vec<Value> =
        prepared.recipe.evaluation.iter().flat_map(|e| &e.general).flat_map(|s| hash_of(&s.path.path)).collect();
    json!({
        "numerics": NUMERICS,
        // Its instructions and its precision are in the description.
        "device": prepared.device.describe(),
        "base": prepared.base.resolved.sha256s.iter().map(|(_, hash)| hash).collect::<Vec<_>>(),
        "tokenizer": prepared.tokenizer_sha256,
        "seed": prepared.recipe.seed.value,
        "stage": settings,
        "watched": suites,
        "before": before,
    })
}

/// What the steps before the decay of a WSD stage depend on: all that [`ingredients`] has, but for the length of the stage,
/// its decay, and what is done with its result. The warm-up counts in steps.
pub(crate) fn trunk_ingredients(prepared: &Prepared, index: usize, before: Option<&str>) -> Value {
    const AFTER: [&str; 8] = [
        "max_steps",
        "num_train_epochs",
        "decay_steps",
        "decay_ratio",
        "min_lr",
        "weight_average",
        "warmup_steps",
        "warmup_ratio",
    ];
    let mut all = ingredients(prepared, index, before);
    if let Some(stage) = all["stage"].as_object_mut() {
        AFTER.iter().for_each(|name| {
            stage.shift_remove(*name);
        });
        let rate = &prepared.stages[index].settings.learning_rate;
        stage.insert("warmup".to_owned(), rate.warmup_steps.into());
    }
    all
}

/// What a setting that names files says beside their paths; nothing where it only names them.
fn without_paths(value: &Value) -> Option<Value> {
    match value {
        Value::Object(said) => {
            let mut said = said.clone();
            said.shift_remove("path");
            Some(said.into())
        }
        Value::Array(entries) => {
            let said: Vec<Option<Value>> = entries.iter().map(without_paths).collect();
            said.iter().any(Option::is_some).then(|| json!(said))
        }
        _ => None,
    }
}

/// What a score of the base depends on: base, tokenizer, device and numerics, and `of` the items and how they are asked.
pub(crate) fn base_ingredients(prepared: &Prepared, what: &str, of: Value) -> Value {
    json!({
        "what": what,
        "numerics": NUMERICS,
        "device": prepared.device.describe(),
        "base": prepared.base.resolved.sha256s.iter().map(|(_, hash)| hash).collect::<Vec<_>>(),
        "tokenizer": prepared.tokenizer_sha256,
        "of": of,
    })
}

/// The hashes of the files that a setting of the recipe names.
pub(crate) fn hashes_of<'p>(prepared: &'p Prepared, setting: &'p str) -> Vec<&'p str> {
    let inputs = prepared.inputs.iter().filter(|input| input.setting == setting);
    inputs.map(|input| input.sha256.as_str()).collect()
}

/// The key of each stage, in order.
pub(crate) fn stage_keys(prepared: &Prepared) -> Vec<String> {
    let mut keys: Vec<String> = Vec::new();
    for index in 0..prepared.stages.len() {
        let ingredients = ingredients(prepared, index, keys.last().map(String::as_str));
        keys.push(key_of(&ingredients));
    }
    keys
}
