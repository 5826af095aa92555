//! An open file of weights, from which pieces are read.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::checkpoint::WeightsError;

/// Keeps the handle whose header was checked, so that a file replaced under its name later is never mixed in.
#[derive(Debug)]
pub(crate) struct WeightFile {
    pub(crate) path: PathBuf,
    /// Length in bytes when it was opened.
    pub(crate) len: u64,
    file: Mutex<File>,
}

impl WeightFile {
    pub(crate) fn open(path: &Path) -> Result<Self, WeightsError> {
        let file = File::open(path).map_err(|e| WeightsError::io(path, "open", e))?;
        let len = file.metadata().map_err(|e| WeightsError::io(path, "read the size of", e))?.len();
        Ok(Self { path: path.to_owned(), len, file: Mutex::new(file) })
    }

    /// Reads `size` bytes at `offset`. The caller has held both against [`WeightFile::len`].
    pub(crate) fn read(&self, offset: u64, size: usize) -> Result<Vec<u8>, WeightsError> {
        let mut bytes = vec![0; size];
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.seek(SeekFrom::Start(offset))
            .and_then(|_| file.read_exact(&mut bytes))
            .map_err(|e| WeightsError::io(&self.path, "read", e))?;
        Ok(bytes)
    }

    /// A second view of the same open file, for reading the header front to back.
    pub(crate) fn handle(&self) -> Result<File, WeightsError> {
        let file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        file.try_clone().map_err(|e| WeightsError::io(&self.path, "read", e))
    }
}
