//! The cache of this user: what one run computed and another need not compute again.
//!
//! Each kind has its folder in the cache folder, each entry the hash of all that it depends on as its name. It says what that
//! is: a `key.json` in the folder of an entry that is a folder, the first line of one that is a file.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::Serialize;
use serde_json::Value;
use temper_model::default_cache_dir;
use temper_run::{sha256_bytes, sweep};

use crate::PipelineError;
use crate::checkpoints::io;

mod stages;
mod trunks;
mod values;

pub(crate) use values::Kept;

/// What stands in the folder of an entry: the ingredients of its key.
pub(crate) const KEY: &str = "key.json";
/// A store takes seconds: what is half written after an hour was killed. Other processes may be storing now.
const LEFT_OVER: Duration = Duration::from_secs(3600);

/// What an entry holds, by the name of its folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A finished stage.
    Stages,
    /// The stable part of a WSD stage.
    Trunks,
    /// A base's weights, packed for the products of this machine.
    Packed,
    /// A data file as tokens.
    Rows,
    /// What the base scored.
    Scores,
    /// How fast this machine is.
    Speed,
}

impl Kind {
    const ALL: [Self; 6] = [Self::Stages, Self::Trunks, Self::Packed, Self::Rows, Self::Scores, Self::Speed];

    fn folder(self) -> &'static str {
        match self {
            Self::Stages => "stages",
            Self::Trunks => "trunks",
            Self::Packed => "packed",
            Self::Rows => "rows",
            Self::Scores => "scores",
            Self::Speed => "speed",
        }
    }
}

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
}

/// One thing that is kept.
#[derive(Clone, Debug, Serialize)]
pub struct Entry {
    /// What it holds.
    pub kind: Kind,
    /// The hash of its ingredients.
    pub key: String,
    /// Its file or folder.
    pub path: PathBuf,
    /// What it takes on disk.
    pub bytes: u64,
    /// Days since it was last used.
    pub days: f64,
    /// `sft, lora, 60 steps`.
    pub what: String,
    /// Why a stage ended early, where it did.
    pub stopped: Option<String>,
}

impl Cache {
    /// The cache of this user: `$TEMPER_CACHE`, else `temper` in the system's cache folder.
    pub fn of_user() -> Self {
        Self { root: default_cache_dir().unwrap_or_else(|| PathBuf::from(".temper-cache")) }
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The folder of a kind.
    pub(crate) fn folder(&self, kind: Kind) -> PathBuf {
        self.root.join(kind.folder())
    }

    /// All entries, the last used first.
    ///
    /// # Errors
    /// When a folder cannot be read; one that is not there is empty.
    pub fn list(&self) -> Result<Vec<Entry>, PipelineError> {
        let mut entries = Vec::new();
        for kind in Kind::ALL {
            let folder = self.folder(kind);
            let read = match fs::read_dir(&folder) {
                Ok(read) => read,
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                Err(error) => return Err(io("list", &folder)(error).into()),
            };
            for found in read {
                entries.extend(entry(kind, found.map_err(io("list", &folder))?.path())?);
            }
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
        let (mut kept, mut removed, mut leftovers) = (0, Vec::new(), 0);
        for folder in Kind::ALL.map(|kind| self.folder(kind)).iter().filter(|folder| folder.is_dir()) {
            leftovers += sweep(folder, LEFT_OVER)?;
        }
        for entry in self.list()? {
            let old = older_than.is_some_and(|age| entry.days * 86_400.0 > age.as_secs_f64());
            if old || most_bytes.is_some_and(|most| kept + entry.bytes > most) {
                let path = &entry.path;
                let done = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
                done.map_err(io("remove", path))?;
                removed.push(entry);
            } else {
                kept += entry.bytes;
            }
        }
        Ok((removed, leftovers))
    }
}

/// The name of what depends on these ingredients.
pub(crate) fn key_of(ingredients: &Value) -> String {
    sha256_bytes(ingredients.to_string().as_bytes())
}

/// Marks an entry as used now, so that pruning by age counts from the last use; a read-only cache serves all the same.
pub(crate) fn touch(file: &Path) {
    let _ = fs::File::open(file).and_then(|file| file.set_modified(SystemTime::now()));
}

/// What lies at `path`; none where it is no whole entry.
fn entry(kind: Kind, path: PathBuf) -> Result<Option<Entry>, PipelineError> {
    let (marked, ingredients) = if path.is_dir() {
        let marked = path.join(KEY);
        let ingredients = fs::read(&marked).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        (marked, ingredients)
    } else {
        (path.clone(), values::ingredients(&path))
    };
    let key = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let Some(ingredients) = ingredients.filter(|_| !key.starts_with('.')) else { return Ok(None) };
    let (mut what, mut stopped) = (ingredients["what"].as_str().unwrap_or("?").to_owned(), None);
    if kind == Kind::Stages {
        let Some(finished) = stages::finished(&path, &key) else { return Ok(None) };
        what = stages::what(&ingredients, &finished);
        stopped = finished.outcome.stopped.map(|stop| stop.reason());
    }
    let used = fs::metadata(&marked).and_then(|m| m.modified()).unwrap_or(SystemTime::UNIX_EPOCH);
    let days = used.elapsed().unwrap_or_default().as_secs_f64() / 86_400.0;
    Ok(Some(Entry { kind, bytes: bytes(&path)?, key, path, days, what, stopped }))
}

fn bytes(path: &Path) -> Result<u64, PipelineError> {
    if !path.is_dir() {
        return Ok(fs::metadata(path).map_err(io("look at", path))?.len());
    }
    let mut total = 0;
    for entry in fs::read_dir(path).map_err(io("list", path))? {
        total += bytes(&entry.map_err(io("list", path))?.path())?;
    }
    Ok(total)
}
