//! Write, sync, rename: a file or folder appears under its final name complete, or not at all.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::error::{RunError, io_error};

/// Writes `bytes` to `path` so that a reader, or a machine that loses power, sees the old content or the new, never a
/// part: a temporary file in the same folder is written, synced, and renamed over `path`; then the folder is synced.
/// A symbolic link at `path` is replaced, not followed. On failure the temporary file is removed and `path` is as before.
///
/// # Errors
/// [`RunError::Io`] with the path and the step that failed; [`RunError::NoName`] for a path without a file name.
pub fn write_atomic(path: &Path, bytes: &[u8]) -> Result<(), RunError> {
    let aside = beside(path, "tmp")?;
    let written = (|| {
        let mut file =
            OpenOptions::new().write(true).create_new(true).open(&aside).map_err(io_error("create", &aside))?;
        file.write_all(bytes).map_err(io_error("write", path))?;
        file.sync_all().map_err(io_error("sync", path))?;
        fs::rename(&aside, path).map_err(io_error("rename into place", path))
    })();
    if written.is_err() {
        // The first error is the one to report; a temporary file that is left over is harmless.
        let _ = fs::remove_file(&aside);
    }
    written?;
    sync_folder(folder_of(path))
}

/// Builds a folder aside with `build`, syncs every file in it, and renames it to `path`. An older folder at `path` is
/// moved away only after the new one is complete and on the disk, and deleted only after the new one is in its place;
/// if the last rename fails, the old folder is put back. On failure nothing is left of the new folder.
///
/// Two renames are needed to replace a folder: a crash exactly between them leaves no `path`, but both folders, complete,
/// beside it under names that begin with `.NAME.`.
///
/// # Errors
/// What `build` returns, or a [`RunError`] turned into its error type.
pub fn write_dir_atomic<E: From<RunError>>(path: &Path, build: impl FnOnce(&Path) -> Result<(), E>) -> Result<(), E> {
    let aside = beside(path, "tmp")?;
    fs::create_dir(&aside).map_err(io_error("create", &aside))?;
    let result = build(&aside).and_then(|()| {
        sync_tree(&aside)?;
        put_in_place(&aside, path)?;
        Ok(())
    });
    if result.is_err() {
        // As above: the first error is the one to report.
        let _ = fs::remove_dir_all(&aside);
    }
    result
}

fn put_in_place(aside: &Path, path: &Path) -> Result<(), RunError> {
    let folder = folder_of(path);
    if fs::symlink_metadata(path).is_err() {
        fs::rename(aside, path).map_err(io_error("rename into place", path))?;
        return sync_folder(folder);
    }
    if !path.is_dir() {
        let not_a_folder = std::io::Error::from(std::io::ErrorKind::NotADirectory);
        return Err(io_error("replace", path)(not_a_folder));
    }
    let old = beside(path, "old")?;
    fs::rename(path, &old).map_err(io_error("move aside", path))?;
    if let Err(error) = fs::rename(aside, path) {
        fs::rename(&old, path).map_err(io_error("put back", path))?;
        return Err(io_error("rename into place", path)(error));
    }
    sync_folder(folder)?;
    fs::remove_dir_all(&old).map_err(io_error("remove the older copy", &old))
}

/// A fresh hidden name in the same folder as `path` (a rename is atomic only within one file system).
fn beside(path: &Path, purpose: &str) -> Result<PathBuf, RunError> {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let name = path.file_name().ok_or_else(|| RunError::NoName { path: path.to_path_buf() })?;
    let mut hidden = OsString::from(".");
    hidden.push(name);
    hidden.push(format!(".{purpose}-{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed)));
    Ok(path.with_file_name(hidden))
}

/// Whether [`beside`] makes names like this one: `.NAME.tmp-PID-N`, `.NAME.old-PID-N`.
fn is_beside(name: &str) -> bool {
    let numbers = |text: &str| text.split('-').count() == 2 && text.bytes().all(|b| b == b'-' || b.is_ascii_digit());
    let purpose = |mark: &str| name.rsplit_once(mark).is_some_and(|(_, rest)| numbers(rest));
    name.starts_with('.') && (purpose(".tmp-") || purpose(".old-"))
}

/// Removes what writes that were cut off left anywhere below `folder`, where it was not touched for `age`, and tells how
/// many files and folders. No other process may be writing there that takes longer.
///
/// # Errors
/// [`RunError::Io`] for a folder that cannot be listed or a leftover that cannot be removed.
pub fn sweep(folder: &Path, age: Duration) -> Result<usize, RunError> {
    let mut removed = 0;
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let (path, kind) = (entry.path(), entry.file_type().map_err(io_error("look at", folder))?);
        if is_beside(&entry.file_name().to_string_lossy()) {
            let touched = entry.metadata().and_then(|m| m.modified()).map_err(io_error("look at", &path))?;
            // A clock that went back makes it new.
            if touched.elapsed().unwrap_or_default() < age {
                continue;
            }
            let done = if kind.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
            done.map_err(io_error("remove", &path))?;
            removed += 1;
        } else if kind.is_dir() {
            removed += sweep(&path, age)?;
        }
    }
    Ok(removed)
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Syncs every file and folder below `folder`, and `folder` itself.
fn sync_tree(folder: &Path) -> Result<(), RunError> {
    for entry in fs::read_dir(folder).map_err(io_error("list", folder))? {
        let entry = entry.map_err(io_error("list", folder))?;
        let path = entry.path();
        let kind = entry.file_type().map_err(io_error("look at", &path))?;
        if kind.is_dir() {
            sync_tree(&path)?;
        } else if kind.is_file() {
            File::open(&path).and_then(|file| file.sync_all()).map_err(io_error("sync", &path))?;
        }
    }
    sync_folder(folder)
}

/// Makes the names in a folder durable. Only Unix can open a folder to sync it.
pub(crate) fn sync_folder(folder: &Path) -> Result<(), RunError> {
    if cfg!(unix) {
        File::open(folder).and_then(|folder| folder.sync_all()).map_err(io_error("sync", folder))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<_> =
            fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    #[test]
    fn a_file_is_replaced_whole_and_leaves_nothing_beside_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("plan.json");
        write_atomic(&path, b"a long first version").unwrap();
        write_atomic(&path, b"short").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"short");
        assert_eq!(names(dir.path()), ["plan.json"]);
    }

    #[test]
    fn a_file_in_a_missing_folder_is_refused_with_path_and_hint() {
        let dir = tempfile::tempdir().unwrap();
        let text = write_atomic(&dir.path().join("gone/plan.json"), b"x").unwrap_err().to_string();
        assert!(text.contains("gone/"), "{text}");
        assert!(text.contains("hint: check the spelling; the folder it lies in must exist"), "{text}");
    }

    #[test]
    fn a_failed_file_write_keeps_the_folder_that_was_there() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("taken");
        fs::create_dir(&path).unwrap();
        let error = write_atomic(&path, b"x").unwrap_err();
        assert!(matches!(error, RunError::Io { action: "rename into place", .. }), "{error}");
        assert_eq!(names(dir.path()), ["taken"]);
    }

    #[test]
    fn a_path_without_a_name_is_refused() {
        assert!(matches!(write_atomic(Path::new("/"), b"x"), Err(RunError::NoName { .. })));
    }

    #[test]
    fn a_folder_is_replaced_only_when_the_new_one_is_complete() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("best");
        write_dir_atomic::<RunError>(&path, |tmp| {
            fs::create_dir(tmp.join("adapter")).unwrap();
            write_atomic(&tmp.join("adapter/weights"), b"one")
        })
        .unwrap();

        let failed = write_dir_atomic::<RunError>(&path, |tmp| {
            fs::write(tmp.join("weights"), b"half").unwrap();
            assert_eq!(fs::read(path.join("adapter/weights")).unwrap(), b"one");
            Err(RunError::NoName { path: tmp.to_path_buf() })
        });
        assert!(matches!(failed, Err(RunError::NoName { .. })));
        assert_eq!(fs::read(path.join("adapter/weights")).unwrap(), b"one");
        assert_eq!(names(dir.path()), ["best"]);

        write_dir_atomic::<RunError>(&path, |tmp| write_atomic(&tmp.join("weights"), b"two")).unwrap();
        assert_eq!(names(&path), ["weights"]);
        assert_eq!(names(dir.path()), ["best"]);
    }

    #[test]
    fn a_folder_does_not_replace_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("best");
        fs::write(&path, b"mine").unwrap();
        let error = write_dir_atomic::<RunError>(&path, |_| Ok(())).unwrap_err();
        assert!(matches!(error, RunError::Io { action: "replace", .. }), "{error}");
        assert_eq!(fs::read(&path).unwrap(), b"mine");
        assert_eq!(names(dir.path()), ["best"]);
    }
}
