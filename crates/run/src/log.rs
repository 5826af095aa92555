//! A log of JSON lines: `metrics.jsonl`, `events.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::error::{RunError, io_error};
use crate::json::to_json;

/// A file of JSON lines that grows by one line a record. Each line is handed to the operating system in one write before
/// [`append`](Self::append) returns, so a reader, or a process that dies, sees whole lines; only a machine that loses power
/// may lose the last ones.
#[derive(Debug)]
pub struct JsonLog {
    path: PathBuf,
    file: File,
}

impl JsonLog {
    /// Starts a new, empty log.
    ///
    /// # Errors
    /// [`RunError::Io`] if the file cannot be created, or is already there: two writers, or an older run.
    pub fn create(path: &Path) -> Result<Self, RunError> {
        let file = OpenOptions::new().append(true).create_new(true).open(path).map_err(io_error("create", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Appends one record as one line. Floats that are not finite are written as [`to_json`] describes.
    ///
    /// # Errors
    /// [`RunError::Json`] if the record cannot be JSON (nothing is written), [`RunError::Io`] if the write fails.
    pub fn append<T: Serialize + ?Sized>(&mut self, record: &T) -> Result<(), RunError> {
        let mut line = to_json(record)?;
        line.push('\n');
        self.file.write_all(line.as_bytes()).map_err(io_error("append to", &self.path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_record_is_a_whole_line_at_once_and_nan_is_named() {
        #[derive(Serialize)]
        struct Metric {
            step: u64,
            loss: f32,
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = JsonLog::create(&path).unwrap();
        log.append(&Metric { step: 1, loss: 2.5 }).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{\"step\":1,\"loss\":2.5}\n");
        log.append(&Metric { step: 2, loss: f32::NAN }).unwrap();
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "{\"step\":1,\"loss\":2.5}\n{\"step\":2,\"loss\":\"NaN\"}\n"
        );
    }

    #[test]
    fn a_log_that_is_there_is_not_written_over() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        std::fs::write(&path, "{}\n").unwrap();
        let text = JsonLog::create(&path).unwrap_err().to_string();
        assert!(text.contains("hint: something of that name is already there"), "{text}");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "{}\n");
    }
}
