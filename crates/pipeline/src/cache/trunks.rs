//! Stable parts of WSD stages: `trunks/KEY/` holds a checkpoint at the end of a constant rate, from which decays branch.
//!
//! Until its decay begins, a step of a WSD stage depends on nothing that comes after it: neither on how many steps there are
//! nor on how the rate falls. So runs that differ in that only have their first steps in common, to the bit, and one of
//! them makes those (Hägele et al. 2024). An entry has the key of all that its steps depend on, and of how many they are.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use temper_run::{to_json, to_json_pretty, write_dir_atomic};

use super::{Cache, KEY, Kind, key_of, touch};
use crate::PipelineError;
use crate::checkpoints::{Checkpoints, copy_tree, io};

const CHECKPOINT: &str = "checkpoint";
const BEST: &str = "best";
const LINES: &str = "metrics.json";

fn key(ingredients: &Value, step: usize) -> Value {
    json!({"what": format!("the first {step} steps of a WSD stage"), "steps": step, "of": ingredients})
}

impl Cache {
    /// Keeps a copy of the checkpoint that `checkpoints` has of `step`, with the stage's lines of `metrics.jsonl` so far.
    pub(crate) fn store_trunk(
        &self,
        ingredients: &Value,
        checkpoints: &Checkpoints,
        step: usize,
        lines: &[Value],
    ) -> Result<(), PipelineError> {
        let ingredients = key(ingredients, step);
        let folder = self.folder(Kind::Trunks);
        let entry = folder.join(key_of(&ingredients));
        if entry.join(KEY).is_file() {
            return Ok(());
        }
        fs::create_dir_all(&folder).map_err(io("create", &folder))?;
        write_dir_atomic(&entry, |aside| -> Result<(), PipelineError> {
            let copy = |from: &Path, name: &str| {
                let to = aside.join(name);
                fs::create_dir(&to).map_err(io("create", &to))?;
                copy_tree(from, &to)
            };
            copy(&checkpoints.at(step), CHECKPOINT)?;
            if let Some(best) = checkpoints.best_of(step).filter(|best| best.is_dir()) {
                copy(&best, BEST)?;
            }
            let write = |name: &str, text: String| {
                let path = aside.join(name);
                fs::write(&path, text).map_err(io("write", &path))
            };
            write(LINES, to_json(&lines)?)?;
            write(KEY, to_json_pretty(&ingredients)?)?;
            Ok(())
        })
    }

    /// Puts the longest stable part of at most `most` steps into `checkpoints`, which has none, as one of the stage `key`:
    /// its steps, and its lines of `metrics.jsonl`, to which `bytes` gives the length of that file with them.
    pub(crate) fn fetch_trunk(
        &self,
        ingredients: &Value,
        most: usize,
        checkpoints: &Checkpoints,
        stage_key: &str,
        bytes: &mut dyn FnMut(&[Value]) -> Result<u64, PipelineError>,
    ) -> Result<Option<usize>, PipelineError> {
        let folder = self.folder(Kind::Trunks);
        for step in self.trunk_lengths().into_iter().filter(|&step| step <= most) {
            let entry = folder.join(key_of(&key(ingredients, step)));
            let lines = fs::read(entry.join(LINES)).ok();
            let Some(lines) = lines.and_then(|bytes| serde_json::from_slice::<Vec<Value>>(&bytes).ok()) else {
                continue;
            };
            let best = Some(entry.join(BEST)).filter(|best| best.is_dir());
            if !checkpoints.is_whole(&entry.join(CHECKPOINT), best.is_some()) {
                continue;
            }
            touch(&entry.join(KEY));
            let bytes = bytes(&lines)?;
            checkpoints.adopt(&entry.join(CHECKPOINT), best.as_deref(), stage_key, bytes)?;
            return Ok(Some(step));
        }
        Ok(None)
    }

    /// How many steps the kept stable parts have, whosever they are; the longest first.
    fn trunk_lengths(&self) -> Vec<usize> {
        let entries = fs::read_dir(self.folder(Kind::Trunks)).into_iter().flatten().flatten();
        let steps = |entry: fs::DirEntry| {
            let key: Value = serde_json::from_slice(&fs::read(entry.path().join(KEY)).ok()?).ok()?;
            usize::try_from(key["steps"].as_u64()?).ok()
        };
        let mut lengths: Vec<usize> = entries.filter_map(steps).collect();
        lengths.sort_unstable_by(|a, b| b.cmp(a));
        lengths.dedup();
        lengths
    }
}
