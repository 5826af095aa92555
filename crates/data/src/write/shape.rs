//! How rows lie in a file, by its name, and what of a row such a file gives back.
//!
//! A table holds a text, a number or a truth value in a cell. Lists and objects go in as JSON where the reader takes them out
//! again as they were; whether it does is tried with each row, by reading it back.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use crate::error::DataError;
use crate::format::{Format, unfolded};

/// How rows lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// A JSON object a line.
    Lines,
    /// A JSON list of objects.
    List,
    /// Texts alone, parted by this character; an empty cell is not given.
    Text(u8),
    /// Columns of one type each.
    Parquet,
}

impl Shape {
    /// That of a file of this name, which may be packed.
    ///
    /// # Errors
    /// [`DataError::Unreadable`] for endings that are not written.
    pub(super) fn of(path: &Path) -> Result<(Shape, Packing), DataError> {
        let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let last = ending(path);
        let packing = match last.as_str() {
            "gz" | "gzip" => Packing::Gzip,
            "zst" | "zstd" => Packing::Zstd,
            _ => Packing::None,
        };
        let packed = packing != Packing::None;
        let inner = if packed { ending(Path::new(path.file_stem().unwrap_or_default())) } else { last };
        let shape = match inner.as_str() {
            "jsonl" | "ndjson" => Shape::Lines,
            "json" => Shape::List,
            "csv" => Shape::Text(b','),
            "tsv" => Shape::Text(b'\t'),
            "parquet" if !packed => Shape::Parquet,
            other => {
                let problem = format!("`.{other}` cannot be written{}", if packed { " packed" } else { "" });
                let hint = "rows are written as .jsonl, .json, .csv or .tsv, and .gz or .zst after it, or as .parquet";
                return Err(DataError::Unreadable { path: path.to_owned(), problem, hint: hint.to_owned() });
            }
        };
        Ok((shape, packing))
    }

    /// Whether rows lie in columns.
    pub(super) fn is_table(self) -> bool {
        matches!(self, Shape::Text(_) | Shape::Parquet)
    }

    /// A row as its cells.
    ///
    /// # Errors
    /// Why it would not be read back as it is.
    pub(crate) fn hold(self, format: Format, row: Map<String, Value>) -> Result<Map<String, Value>, String> {
        if !self.is_table() {
            return Ok(row);
        }
        let mut cells = Map::new();
        for (name, value) in &row {
            let cell = match value {
                Value::Null => continue,
                Value::String(text) if text.is_empty() && self != Shape::Parquet => {
                    return Err(format!("an empty `{name}` cannot be told from none in a table of texts"));
                }
                Value::Bool(_) | Value::Number(_) if self == Shape::Parquet => value.clone(),
                Value::String(text) => text.as_str().into(),
                other => other.to_string().into(),
            };
            cells.insert(name.clone(), cell);
        }
        let read = |row: Map<String, Value>| format.read(0, unfolded(row)?, &mut BTreeMap::new());
        match (read(cells.clone()), read(row)) {
            (Ok(back), Ok(row)) if back == row => Ok(cells),
            _ => Err(format!("a table does not give back a row of the format `{format}` like this one")),
        }
    }
}

/// How a file is packed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Gzip,
    Zstd,
}
