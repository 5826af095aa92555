//! What can go wrong with a run folder, with the path and a hint in the text.

use std::io;
use std::path::{Path, PathBuf};

/// An error of the run folder. The text names the path, what failed, and ends in a `hint:` line.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The operating system refused an operation on a file or folder.
    #[error("cannot {action} {path}: {source}\nhint: {hint}", path = path.display(), hint = hint_for(source))]
    Io {
        /// What was attempted, e.g. `write`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// The folder asked for already holds files.
    #[error(
        "{path} already holds a run\nhint: choose another `output`, or ask to overwrite: the old run is then moved \
         aside to {path}.1, never deleted",
        path = path.display()
    )]
    Exists {
        /// The folder.
        path: PathBuf,
    },
    /// Another process writes there.
    #[error(
        "{path} is being written by another process\nhint: wait until it ends, or stop it; a run that was killed holds \
         no lock",
        path = path.display()
    )]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// A path that cannot name a file or folder to write, such as `/` or `..`.
    #[error("{path} does not name a file or folder that can be written\nhint: give a path that ends in a name", path = path.display())]
    NoName {
        /// The path.
        path: PathBuf,
    },
    /// A value that cannot be written as JSON, such as a map whose keys are not text.
    #[error("cannot write {what} as JSON: {source}\nhint: this is a fault of the program, please report it")]
    Json {
        /// The file or record that was to be written.
        what: String,
        /// What the serialiser said.
        source: serde_json::Error,
    },
}

/// `result.map_err(io_error("write", path))`
pub(crate) fn io_error(action: &'static str, path: &Path) -> impl FnOnce(io::Error) -> RunError {
    let path = path.to_path_buf();
    move |source| RunError::Io { action, path, source }
}

fn hint_for(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::StorageFull => "the disk is full: free some space, or choose an `output` on another disk",
        io::ErrorKind::QuotaExceeded => "your disk quota is used up: free some space, or choose another `output`",
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only: choose an `output` that can be written",
        io::ErrorKind::PermissionDenied => "check the owner and the permissions of the path and of its folder",
        io::ErrorKind::NotFound => "check the spelling; the folder it lies in must exist",
        io::ErrorKind::AlreadyExists => "something of that name is already there",
        io::ErrorKind::NotADirectory => "a part of the path is a file, not a folder",
        io::ErrorKind::IsADirectory => "the path is a folder; a file was expected",
        io::ErrorKind::FileTooLarge => "the file is larger than the file system or your limits allow",
        _ => "check that the disk is healthy and that the path can be reached",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_named_with_path_and_hint() {
        let full = io::Error::from(io::ErrorKind::StorageFull);
        let text = io_error("write", Path::new("runs/a/plan.json"))(full).to_string();
        assert!(text.starts_with("cannot write runs/a/plan.json: "), "{text}");
        assert!(
            text.ends_with("hint: the disk is full: free some space, or choose an `output` on another disk"),
            "{text}"
        );
    }
}
