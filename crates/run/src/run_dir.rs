//! The folder of one run.

use std::ffi::OsString;
use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::atomic::{sweep, sync_folder, write_atomic};
use crate::error::{RunError, io_error};
use crate::json::{to_json, to_json_pretty};
use crate::log::JsonLog;

/// What to do with files that already lie where a run is to be written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Existing {
    /// Refuse with [`RunError::Exists`].
    Refuse,
    /// Move the older folder aside to `NAME.1`, `NAME.2`, .. (the first free number). Nothing is deleted.
    MoveAside,
}

/// The folder of one run: `plan.json`, `metrics.jsonl`, `events.jsonl`, `checkpoints/`, `report.html`.
///
/// One process at a time may write into it: the folder is locked as long as this value lives, and the lock goes with the
/// process, however it ends.
#[derive(Debug)]
pub struct RunDir {
    path: PathBuf,
    _lock: File,
}

impl RunDir {
    /// Makes the folder of a new run, with the folders it lies in. An empty folder that is already there is used.
    ///
    /// # Errors
    /// [`RunError::Exists`] if the folder holds files and `existing` is [`Existing::Refuse`]; [`RunError::Io`] otherwise.
    pub fn create(path: &Path, existing: Existing) -> Result<Self, RunError> {
        if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            fs::create_dir_all(parent).map_err(io_error("create", parent))?;
        }
        match fs::read_dir(path).map(|mut entries| entries.next().is_none()) {
            Ok(true) => return Self::lock(path),
            Ok(false) if existing == Existing::MoveAside => move_aside(path)?,
            Ok(false) => return Err(RunError::Exists { path: path.to_path_buf() }),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(io_error("use", path)(error)),
        }
        fs::create_dir(path).map_err(io_error("create", path))?;
        Self::lock(path)
    }

    /// The folder of an older run, to go on with. What writes that were cut off left behind is cleared away.
    ///
    /// # Errors
    /// [`RunError::Io`] if there is no such folder, [`RunError::Busy`] while another process writes there.
    pub fn open(path: &Path) -> Result<Self, RunError> {
        fs::read_dir(path).map_err(io_error("use", path))?;
        let folder = Self::lock(path)?;
        sweep(path, Duration::ZERO)?;
        Ok(folder)
    }

    fn lock(path: &Path) -> Result<Self, RunError> {
        let file = path.join(".lock");
        let lock = File::create(&file).map_err(io_error("create", &file))?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { path: path.to_path_buf(), _lock: lock }),
            Err(TryLockError::WouldBlock) => Err(RunError::Busy { path: path.to_path_buf() }),
            Err(TryLockError::Error(error)) => Err(io_error("lock", &file)(error)),
        }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes `value` as indented JSON under `name`, atomically ([`write_atomic`]); NaN as [`crate::to_json`] describes.
    ///
    /// # Errors
    /// [`RunError::Io`], or [`RunError::Json`] for what JSON cannot hold.
    pub fn write_json<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Result<(), RunError> {
        write_atomic(&self.path.join(name), to_json_pretty(value)?.as_bytes())
    }

    /// Writes `values` under `name` as JSON lines, all at once and atomically; NaN as [`crate::to_json`] describes.
    ///
    /// # Errors
    /// As [`write_json`](Self::write_json).
    pub fn write_lines<T: Serialize>(&self, name: &str, values: &[T]) -> Result<(), RunError> {
        let mut text = String::new();
        for value in values {
            text.push_str(&to_json(value)?);
            text.push('\n');
        }
        write_atomic(&self.path.join(name), text.as_bytes())
    }

    /// Starts the log `name` of this run.
    ///
    /// # Errors
    /// As [`JsonLog::create`].
    pub fn log(&self, name: &str) -> Result<JsonLog, RunError> {
        JsonLog::create(&self.path.join(name))
    }

    /// Goes on with the log `name`, cut back to its first `bytes` bytes where given.
    ///
    /// # Errors
    /// As [`JsonLog::resume`].
    pub fn resume_log(&self, name: &str, bytes: Option<u64>) -> Result<JsonLog, RunError> {
        JsonLog::resume(&self.path.join(name), bytes)
    }
}

/// Moves a folder aside to `NAME.1`, `NAME.2`, .., the first free number; nothing where there is none.
///
/// # Errors
/// [`RunError::Io`].
pub fn move_aside(path: &Path) -> Result<(), RunError> {
    if !path.exists() {
        return Ok(());
    }
    let name = path.file_name().ok_or_else(|| RunError::NoName { path: path.to_path_buf() })?;
    let mut number = 1u64;
    let aside = loop {
        let mut numbered = OsString::from(name);
        numbered.push(format!(".{number}"));
        let aside = path.with_file_name(numbered);
        if fs::symlink_metadata(&aside).is_err() {
            break aside;
        }
        number += 1;
    };
    fs::rename(path, &aside).map_err(io_error("move aside", path))?;
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => sync_folder(parent),
        _ => sync_folder(Path::new(".")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_run_is_refused_or_moved_aside_but_never_lost() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("runs/icd10");
        for generation in 0..3 {
            let run = RunDir::create(&path, Existing::MoveAside).unwrap();
            run.write_json("plan.json", &generation).unwrap();
        }
        let error = RunDir::create(&path, Existing::Refuse).unwrap_err();
        assert!(matches!(error, RunError::Exists { .. }));
        assert!(error.to_string().contains("runs/icd10.1, never deleted"), "{error}");
        let plan = |folder: &str| fs::read_to_string(dir.path().join("runs").join(folder).join("plan.json")).unwrap();
        assert_eq!((plan("icd10"), plan("icd10.1"), plan("icd10.2")), ("2\n".into(), "0\n".into(), "1\n".into()));
    }

    #[test]
    fn lines_are_written_whole_and_replace_older_ones() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), Existing::Refuse).unwrap();
        run.write_lines("items.jsonl", &["old", "older"]).unwrap();
        run.write_lines("items.jsonl", &[1.0, f64::NAN]).unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("items.jsonl")).unwrap(), "1.0\n\"NaN\"\n");
    }

    #[test]
    fn an_empty_folder_is_used() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(RunDir::create(dir.path(), Existing::Refuse).unwrap().path(), dir.path());
    }

    #[test]
    fn a_second_writer_is_refused_while_the_first_lives() {
        let dir = tempfile::tempdir().unwrap();
        let first = RunDir::create(dir.path(), Existing::Refuse).unwrap();
        let error = RunDir::open(dir.path()).unwrap_err();
        assert!(matches!(error, RunError::Busy { .. }), "{error}");
        drop(first);
        RunDir::open(dir.path()).unwrap();
    }

    /// A kill between two writes of a merged model left half a gigabyte under a hidden name, at every try another.
    #[test]
    fn what_a_killed_write_left_is_gone_when_the_run_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        for left in [".merged.tmp-1-0", ".merged.old-1-1", "checkpoints/stage-1/.step-000004.tmp-7-2"] {
            fs::create_dir_all(dir.path().join(left)).unwrap();
            fs::write(dir.path().join(left).join("model.safetensors"), b"half").unwrap();
        }
        fs::write(dir.path().join(".plan.json.tmp-1-3"), b"{").unwrap();
        fs::write(dir.path().join(".mine"), b"kept").unwrap();
        RunDir::open(dir.path()).unwrap();
        let mut names: Vec<_> = fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        assert_eq!(names, [".lock", ".mine", "checkpoints"]);
        assert_eq!(fs::read_dir(dir.path().join("checkpoints/stage-1")).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("run");
        fs::write(&path, b"").unwrap();
        let text = RunDir::create(&path, Existing::MoveAside).unwrap_err().to_string();
        assert!(text.contains("hint: a part of the path is a file, not a folder"), "{text}");
    }

    #[test]
    fn a_log_of_the_run_lies_in_its_folder() {
        let dir = tempfile::tempdir().unwrap();
        let run = RunDir::create(dir.path(), Existing::Refuse).unwrap();
        run.log("events.jsonl").unwrap().append("started").unwrap();
        assert_eq!(fs::read_to_string(dir.path().join("events.jsonl")).unwrap(), "\"started\"\n");
    }
}
