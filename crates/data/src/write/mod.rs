//! Rows to files: JSONL, a JSON list, CSV, TSV or Parquet, packed or not. A file takes its name when it is whole.

mod shape;
mod table;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Map, Value};
use tempfile::NamedTempFile;

use shape::Packing;
pub use shape::Shape;
use table::Table;

use crate::error::DataError;

/// Writes rows, as [`convert`](crate::convert) makes them for its shape.
pub struct RowsWriter {
    path: PathBuf,
    /// The file under its first name; none for the standard output.
    aside: Option<NamedTempFile>,
    sink: Box<dyn Sink>,
    shape: Shape,
    /// Of a table: its rows, which are written at the end.
    table: Option<Table>,
    any: bool,
}

impl RowsWriter {
    /// Writes lines to the standard output.
    pub fn to_stdout() -> Self {
        let sink = Box::new(BufWriter::new(std::io::stdout()));
        Self { path: PathBuf::from("-"), aside: None, sink, shape: Shape::Lines, table: None, any: false }
    }

    /// Writes a file: `.jsonl` an object a line, `.json` a list, `.csv` and `.tsv` a table of texts, each packed where `.gz` or
    /// `.zst` follows; `.parquet` a table.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] for other endings, [`DataError::Write`] where no file can be made there.
    pub fn create(path: &Path) -> Result<Self, DataError> {
        let cannot = |source| DataError::Write { path: path.to_owned(), source };
        let (shape, packing) = Shape::of(path)?;
        let table = shape.is_table().then(Table::new).transpose().map_err(cannot)?;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let aside = NamedTempFile::new_in(folder).map_err(cannot)?;
        let file = BufWriter::with_capacity(1 << 18, aside.reopen().map_err(cannot)?);
        let sink: Box<dyn Sink> = match packing {
            Packing::Gzip => Box::new(GzEncoder::new(file, Compression::default())),
            Packing::Zstd => Box::new(zstd::Encoder::new(file, 0).map_err(cannot)?),
            Packing::None => Box::new(file),
        };
        Ok(Self { path: path.to_owned(), aside: Some(aside), sink, shape, table, any: false })
    }

    /// How its rows lie.
    pub fn shape(&self) -> Shape {
        self.shape
    }

    /// Adds a row.
    ///
    /// # Errors
    /// [`DataError::Write`]; [`DataError::Unreadable`] where a table has another type in one of its columns.
    pub fn row(&mut self, row: &Map<String, Value>) -> Result<(), DataError> {
        let cannot = |source| DataError::Write { path: self.path.clone(), source };
        if let Some(table) = &mut self.table {
            return table.row(row).map_err(cannot)?.map_err(|problem| DataError::Unreadable {
                path: self.path.clone(),
                problem,
                hint: "write it as .jsonl".to_owned(),
            });
        }
        let (before, after) = match (self.shape, self.any) {
            (Shape::List, false) => ("[\n", ""),
            (Shape::List, true) => (",\n", ""),
            _ => ("", "\n"),
        };
        self.any = true;
        let mut put = || {
            self.sink.write_all(before.as_bytes())?;
            serde_json::to_writer(&mut self.sink, row)?;
            self.sink.write_all(after.as_bytes())
        };
        put().map_err(cannot)
    }

    /// Ends the file and gives it its name.
    ///
    /// # Errors
    /// [`DataError::Write`].
    pub fn finish(mut self) -> Result<(), DataError> {
        let path = self.path;
        let cannot = |source| DataError::Write { path: path.clone(), source };
        match (self.shape, self.table) {
            (Shape::Text(delimiter), Some(table)) => table.write_text(delimiter, &mut self.sink),
            (_, Some(table)) => table.write_parquet(&mut self.sink),
            (Shape::List, None) => self.sink.write_all(if self.any { b"\n]\n" } else { b"[]\n" }),
            (_, None) => Ok(()),
        }
        .map_err(cannot)?;
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
trait Sink: Write + Send {
    fn end(self: Box<Self>) -> std::io::Result<()>;
}

impl<W: Write + Send> Sink for BufWriter<W> {
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
