//! Going on with a run: its recipe as it was recorded, and what differs now.

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::Value;

use crate::plan::Plan;

/// Something that is not as it was when the run began.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// The field of the recipe, or what else it is.
    pub what: String,
    /// As it was.
    pub before: String,
    /// As it is.
    pub now: String,
    /// Whether the run would no longer be the run that was begun: it must be accepted.
    pub unsafe_to_resume: bool,
    /// What follows from it.
    pub note: &'static str,
}

/// Settings that may change between two halves of a run: how often it looks, saves and gives up, where it lies, and how it
/// is judged at the end. All others decide what is trained.
const HARMLESS: [&str; 9] = [
    "name",
    "data_licence",
    "licence",
    "output",
    "save_steps",
    "keep_checkpoints",
    "eval_steps",
    "early_stopping_patience",
    "early_stopping_threshold",
];

/// The recipe that a run folder recorded, to be read like any other.
pub fn recorded_recipe(run: &Path) -> PathBuf {
    run.join("recipe.json")
}

/// What differs between the plan that a run folder recorded and the one that would be carried out now.
///
/// # Errors
/// When `plan.json` is missing or damaged.
pub fn changes(run: &Path, plan: &Plan) -> Result<Vec<Change>, crate::PipelineError> {
    let file = run.join("plan.json");
    let unfit = |problem: String| crate::PipelineError::Unfit {
        path: file.display().to_string(),
        problem,
        hint: "give the folder of a run that `temper run` began; one that never came so far is begun anew".to_owned(),
    };
    let bytes = std::fs::read(&file).map_err(|error| unfit(format!("cannot be read: {error}")))?;
    let before: Value = serde_json::from_slice(&bytes).map_err(|error| unfit(format!("is damaged: {error}")))?;
    let now = serde_json::to_value(plan).map_err(|error| unfit(format!("cannot be compared: {error}")))?;
    let mut changes = Vec::new();
    let mut note = |what: &str, before: &Value, now: &Value, unsafe_to_resume: bool, note: &'static str| {
        let text = |value: &Value| match value {
            Value::Null => "nothing".to_owned(),
            Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        if before != now {
            changes.push(Change {
                what: what.to_owned(),
                before: text(before),
                now: text(now),
                unsafe_to_resume,
                note,
            });
        }
    };

    let settings = |plan: &Value| -> Vec<(String, Value)> {
        let all = plan["settings"].as_array().into_iter().flatten();
        all.map(|s| (s["path"].as_str().unwrap_or_default().to_owned(), s["value"].clone())).collect()
    };
    let (old_settings, new_settings) = (settings(&before), settings(&now));
    let find = |all: &[(String, Value)], path: &str| {
        all.iter().find(|(p, _)| p == path).map_or(Value::Null, |(_, value)| value.clone())
    };
    let known = |path: &String| old_settings.iter().any(|(old, _)| old == path);
    let paths = old_settings.iter().chain(new_settings.iter().filter(|(path, _)| !known(path))).map(|(path, _)| path);
    for path in paths {
        // Where a file lies is no matter; its content is compared below.
        if plan.inputs.iter().any(|input| input.setting == *path) || path == "base.source" {
            continue;
        }
        let name = path.rsplit('.').next().unwrap_or(path);
        let (harmless, why) = if path.starts_with("evaluation.") {
            (true, "the run is judged by the new value")
        } else if path.starts_with("checkpoints.") || path == "base.kind" {
            (true, "only advice depends on it")
        } else if name == "micro_batch_tokens" {
            (true, "same rows in the same steps; sums differ in the last bits")
        } else if HARMLESS.contains(&name) {
            (true, "it changes nothing that is trained")
        } else {
            (false, "it changes what is trained")
        };
        note(path, &find(&old_settings, path), &find(&new_settings, path), !harmless, why);
    }

    let hashes = |plan: &Value| -> Vec<(String, Value)> {
        let all = plan["inputs"].as_array().into_iter().flatten();
        let one = |i: &Value| (i["setting"].as_str().unwrap_or_default().to_owned(), i["sha256"].clone());
        all.map(one).collect()
    };
    let (old, new) = (hashes(&before), hashes(&now));
    for i in 0..old.len().max(new.len()) {
        let none = (String::new(), Value::Null);
        let (was, is) = (old.get(i).unwrap_or(&none), new.get(i).unwrap_or(&none));
        let setting = if is.0.is_empty() { &was.0 } else { &is.0 };
        let judged = setting.starts_with("evaluation.");
        let why = if judged { "the run is judged on the new content" } else { "other rows are trained on" };
        note(&format!("content of {setting}"), &was.1, &is.1, !judged, why);
    }
    note(
        "base weights",
        &before["base"]["sha256s"],
        &now["base"]["sha256s"],
        true,
        "the checkpoints belong to another base",
    );
    note("tokenizer", &before["tokenizer_sha256"], &now["tokenizer_sha256"], true, "the same text is other tokens");
    note(
        "numerics",
        &before["numerics"],
        &now["numerics"],
        false,
        "another version of the engine: sums differ in the last bits",
    );
    // The device's description names the precision, which is among the settings.
    if find(&old_settings, "precision") == find(&new_settings, "precision") {
        note("device", &before["device"], &now["device"], false, "sums differ in the last bits");
    }
    Ok(changes)
}
