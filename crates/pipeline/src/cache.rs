//! The cache of finished stages: `stages/KEY/` in the cache folder, KEY being the hash of all that a result depends on.
//!
//! An entry is the stage's `result/` folder and `key.json`, the ingredients of its key, so that it says what it is.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use temper_model::default_cache_dir;
use temper_run::{sweep, to_json_pretty, write_dir_atomic};

use crate::PipelineError;
use crate::checkpoints::{Finished, io};

const RESULT: &str = "result";
const KEY: &str = "key.json";
/// A store takes seconds: what is half written after an hour was killed. Other processes may be storing now.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// The folder of finished stages.
#[derive(Clone, Debug)]
pub struct StageCache {
    dir: PathBuf,
}

/// One finished stage.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// The hash of its ingredients.
    pub key: String,
    /// Its folder.
    pub path: PathBuf,
    /// What it takes on disk.
    pub bytes: u64,
    /// Days since it was last used.
    pub days: f64,
    /// `sft, lora, 60 steps`.
    pub what: String,
    /// Why it ended early, where it did.
    pub stopped: Option<String>,
}

impl StageCache {
    /// The cache of this user: `stages` in `$TEMPER_CACHE`, else in the system's cache folder.
    pub fn of_user() -> Self {
        Self { dir: default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache")).join("stages") }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.dir
    }

    /// Copies the result of this key to `result`, if it is there. Whether it was.
    pub(crate) fn fetch(&self, key: &str, result: &Path) -> Result<bool, PipelineError> {
        let entry = self.dir.join(key);
        let source = entry.join(RESULT);
        if Finished::read(&source, Some(key)).is_none() {
            return Ok(false);
        }
        write_dir_atomic(result, |aside| copy_tree(&source, aside))?;
        // Touched, so that pruning by age counts from the last use; a read-only cache serves all the same.
        let _ = fs::File::open(entry.join(KEY)).and_then(|file| file.set_modified(SystemTime::now()));
        Ok(true)
    }

    /// Keeps a copy of a finished stage.
    pub(crate) fn store(&self, key: &str, ingredients: &Value, result: &Path) -> Result<(), PipelineError> {
        let entry = self.dir.join(key);
        if Finished::read(&entry.join(RESULT), Some(key)).is_some() {
            return Ok(());
        }
        fs::create_dir_all(&self.dir).map_err(io("create", &self.dir))?;
        write_dir_atomic(&entry, |aside| -> Result<(), PipelineError> {
            let (copy, key) = (aside.join(RESULT), aside.join(KEY));
            fs::create_dir(&copy).map_err(io("create", &copy))?;
            copy_tree(result, &copy)?;
            Ok(fs::write(&key, to_json_pretty(ingredients)?).map_err(io("write", &key))?)
        })
    }

    /// All entries, the last used first.
    ///
    /// # Errors
    /// When the folder cannot be read; one that is not there is empty.
    pub fn list(&self) -> Result<Vec<Entry>, PipelineError> {
        let mut entries = Vec::new();
        let read = match fs::read_dir(&self.dir) {
            Ok(read) => read,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(entries),
            Err(error) => return Err(io("list", &self.dir)(error).into()),
        };
        for folder in read {
            let path = folder.map_err(io("list", &self.dir))?.path();
            let key = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let Some(finished) = Finished::read(&path.join(RESULT), Some(&key)) else { continue };
            let used = fs::metadata(path.join(KEY)).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
            let days = used.elapsed().unwrap_or_default().as_secs_f64() / 86_400.0;
            let ingredients: Value =
                fs::read(path.join(KEY)).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
            let word = |name: &str| ingredients["stage"][name].as_str().unwrap_or("?").to_owned();
            let what = format!("{}, {}, {} steps", word("kind"), word("mode"), finished.outcome.steps);
            let stopped = finished.outcome.stopped.map(|stop| stop.reason());
            entries.push(Entry { bytes: bytes(&path)?, key, path, days, what, stopped });
        }
        entries.sort_by(|a, b| a.days.total_cmp(&b.days));
        Ok(entries)
    }

    /// Removes entries not used for `older_than`, then the least recently used until at most `most_bytes` remain, and what
    /// stores that were killed an hour ago or earlier left. The entries that were removed come back, and how many such
    /// leftovers there were.
    ///
    /// # Errors
    /// When something cannot be removed.
    pub fn prune(
        &self,
        older_than: Option<Duration>,
        most_bytes: Option<u64>,
    ) -> Result<(Vec<Entry>, usize), PipelineError> {
        let (mut kept, mut removed) = (0, Vec::new());
        let leftovers = if self.dir.is_dir() { sweep(&self.dir, LEFT_OVER)? } else { 0 };
        for entry in self.list()? {
            let old = older_than.is_some_and(|age| entry.days * 86_400.0 > age.as_secs_f64());
            if old || most_bytes.is_some_and(|most| kept + entry.bytes > most) {
                fs::remove_dir_all(&entry.path).map_err(io("remove", &entry.path))?;
                removed.push(entry);
            } else {
                kept += entry.bytes;
            }
        }
        Ok((removed, leftovers))
    }
}

fn copy_tree(from: &Path, to: &Path) -> Result<(), PipelineError> {
    for entry in fs::read_dir(from).map_err(io("list", from))? {
        let source = entry.map_err(io("list", from))?.path();
        let target = to.join(source.file_name().unwrap_or_default());
        if source.is_dir() {
            fs::create_dir(&target).map_err(io("create", &target))?;
            copy_tree(&source, &target)?;
        } else {
            fs::copy(&source, &target).map_err(io("copy", &source))?;
        }
    }
    Ok(())
}

fn bytes(path: &Path) -> Result<u64, PipelineError> {
    let mut total = 0;
    for entry in fs::read_dir(path).map_err(io("list", path))? {
        let path = entry.map_err(io("list", path))?.path();
        total += if path.is_dir() { bytes(&path)? } else { fs::metadata(&path).map_err(io("look at", &path))?.len() };
    }
    Ok(total)
}
