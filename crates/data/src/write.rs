//! Rows to files: JSONL or a JSON list, packed or not. A file takes its name when it is whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::Value;
use tempfile::NamedTempFile;

use crate::error::DataError;

/// Writes rows as JSON objects.
pub struct RowsWriter {
    path: PathBuf,
    /// The file under its first name; none for the standard output.
    aside: Option<NamedTempFile>,
    sink: Box<dyn Sink>,
    list: bool,
    any: bool,
}

impl RowsWriter {
    /// Writes lines to the standard output.
    pub fn to_stdout() -> Self {
        let sink = Box::new(BufWriter::new(std::io::stdout()));
        Self { path: PathBuf::from("-"), aside: None, sink, list: false, any: false }
    }

    /// Writes a file: `.jsonl` an object a line, `.json` a list; packed where `.gz` or `.zst` follows.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] for other endings, [`DataError::Write`] where no file can be made there.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let packing = ending(path);
        let packed = matches!(packing.as_str(), "gz" | "gzip" | "zst" | "zstd");
        let inner = if packed { ending(Path::new(path.file_stem().unwrap_or_default())) } else { packing.clone() };
        let list = match inner.as_str() {
            "jsonl" | "ndjson" => false,
            "json" => true,
            other => {
                let problem = format!("`.{other}` cannot be written");
                let hint = "rows are written as .jsonl or .json, and .gz or .zst after it".to_owned();
                return Err(DataError::Unreadable { path: path.to_owned(), problem, hint });
            }
        };
        let cannot = |source| DataError::Write { path: path.to_owned(), source };
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = NamedTempFile::new_in(folder).map_err(cannot)?;
        let file = BufWriter::with_capacity(1 << 18, aside.reopen().map_err(cannot)?);
        let sink: Box<dyn Sink> = match packing.as_str() {
            "gz" | "gzip" => Box::new(GzEncoder::new(file, Compression::default())),
            "zst" | "zstd" => Box::new(zstd::Encoder::new(file, 0).map_err(cannot)?),
            _ => Box::new(file),
        };
        Ok(Self { path: path.to_owned(), aside: Some(aside), sink, list, any: false })
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn row(&mut self, row: &Value) -> Result<(), DataError> {
        let (before, after) = match (self.list, self.any) {
            (false, _) => ("", "\n"),
            (true, false) => ("[\n", ""),
            (true, true) => (",\n", ""),
        };
        self.any = true;
        write!(self.sink, "{before}{row}{after}").map_err(|source| DataError::Write { path: self.path.clone(), source })
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn finish(mut self) -> Result<(), DataError> {
        let path = self.path;
        let cannot = |source| DataError::Write { path: path.clone(), source };
        if self.list {
            self.sink.write_all(if self.any { b"\n]\n" } else { b"[]\n" }).map_err(cannot)?;
        }
        self.sink.end().map_err(cannot)?;
        let Some(aside) = self.aside else { return Ok(()) };
        as_others_are(aside.as_file()).and_then(|()| aside.as_file().sync_all()).map_err(cannot)?;
        aside.persist(&path).map_err(|error| cannot(error.error))?;
        Ok(())
    }
}

/// A temporary file is its owner's alone; a file with a name is as others are.
#[cfg(unix)]
fn as_others_are(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o644))
}

#[cfg(not(unix))]
fn as_others_are(_: &File) -> std::io::Result<()> {
    Ok(())
}

/// A writer that ends what it wrote.
trait Sink: Write {
    fn end(self: Box<Self>) -> std::io::Result<()>;
}

impl<W: Write> Sink for BufWriter<W> {
    fn end(mut self: Box<Self>) -> std::io::Result<()> {
        self.flush()
    }
}

impl Sink for GzEncoder<BufWriter<File>> {
    fn end(self: Box<Self>) -> std::io::Result<()> {
        self.finish()?.flush()
    }
}

impl Sink for zstd::Encoder<'static, BufWriter<File>> {
    fn end(self: Box<Self>) -> std::io::Result<()> {
        self.finish()?.flush()
    }
}
