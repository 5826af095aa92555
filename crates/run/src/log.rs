//! A log of JSON lines: `metrics.jsonl`, `events.jsonl`.

use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
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

    /// Goes on with a log that is there, or starts it. What lies beyond `bytes` is cut off, and so is a last line that
    /// is not whole.
    ///
    /// # Errors
    /// [`RunError::Io`] if the file cannot be read or written.
    pub fn resume(path: &Path, bytes: Option<u64>) -> Result<Self, RunError> {
        let mut file =
            OpenOptions::new().read(true).append(true).create(true).open(path).map_err(io_error("open", path))?;
        let mut content = Vec::new();
        file.read_to_end(&mut content).map_err(io_error("read", path))?;
        if let Some(bytes) = bytes {
            content.truncate(usize::try_from(bytes).unwrap_or(usize::MAX));
        }
        let whole = content.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        file.set_len(whole as u64).map_err(io_error("cut", path))?;
        Ok(Self { path: path.to_path_buf(), file })
    }

    /// Brings all lines to the disk and tells the length in bytes, for [`JsonLog::resume`].
    ///
    /// # Errors
    /// [`RunError::Io`].
    pub fn sync(&self) -> Result<u64, RunError> {
        self.file.sync_data().map_err(io_error("sync", &self.path))?;
        Ok(self.file.metadata().map_err(io_error("look at", &self.path))?.len())
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
    fn a_resumed_log_ends_where_the_checkpoint_was_or_after_its_last_whole_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("metrics.jsonl");
        let mut log = JsonLog::create(&path).unwrap();
        log.append(&1).unwrap();
        let length = log.sync().unwrap();
        log.append(&2).unwrap();
        JsonLog::resume(&path, Some(length)).unwrap().append(&3).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n3\n");

        std::fs::write(&path, "1\n{\"step\": ").unwrap();
        JsonLog::resume(&path, None).unwrap().append(&2).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "1\n2\n");
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
