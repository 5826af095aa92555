//! Finished stages: `stages/KEY/` holds the stage's `result/` folder and `key.json`.

use std::fs;
use std::path::Path;

use serde_json::Value;
use temper_run::{to_json_pretty, write_dir_atomic};

use super::{Cache, KEY, Kind, touch};
use crate::PipelineError;
use crate::checkpoints::{Finished, copy_tree, io};

const RESULT: &str = "result";

impl Cache {
    /// Copies the result of the stage of this key to `result`, if it is there. Whether it was.
    pub(crate) fn fetch_stage(&self, key: &str, result: &Path) -> Result<bool, PipelineError> {
        let entry = self.folder(Kind::Stages).join(key);
        if finished(&entry, key).is_none() {
            return Ok(false);
        }
        write_dir_atomic(result, |aside| copy_tree(&entry.join(RESULT), aside))?;
        touch(&entry.join(KEY));
        Ok(true)
    }

    /// Keeps a copy of a finished stage.
    pub(crate) fn store_stage(&self, key: &str, ingredients: &Value, result: &Path) -> Result<(), PipelineError> {
        let folder = self.folder(Kind::Stages);
        let entry = folder.join(key);
        if finished(&entry, key).is_some() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        write_dir_atomic(&entry, |aside| -> Result<(), PipelineError> {
            let (copy, key) = (aside.join(RESULT), aside.join(KEY));
            fs::create_dir(&copy).map_err(io("create", &copy))?;
            copy_tree(result, &copy)?;
            Ok(fs::write(&key, to_json_pretty(ingredients)?).map_err(io("write", &key))?)
        })
    }
}

/// The stage that an entry holds, where it is whole.
pub(super) fn finished(entry: &Path, key: &str) -> Option<Finished> {
    Finished::read(&entry.join(RESULT), Some(key))
}

/// `sft, lora, 60 steps`.
pub(super) fn what(ingredients: &Value, finished: &Finished) -> String {
    let word = |name: &str| ingredients["stage"][name].as_str().unwrap_or("?").to_owned();
    format!("{}, {}, {} steps", word("kind"), word("mode"), finished.outcome.steps)
}
