//! Rows in columns: what a table can hold of a row, and tables written.
//!
//! A table holds a text, a number or a truth value in a cell. Lists and objects go in as JSON where the reader takes them out
//! again as they were; whether it does is tried with each row, by reading it back.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};
use tempfile::tempfile;

use crate::error::DataError;
use crate::format::Format;

/// Rows of a batch of Parquet.
const BATCH: usize = 1024;

/// How rows lie in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shape {
    /// JSON, which holds every row.
    Json,
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
    pub fn of(path: &Path) -> Result<Shape, DataError> {
        let ending = |path: &Path| path.extension().and_then(|e| e.to_str()).unwrap_or_default().to_ascii_lowercase();
        let last = ending(path);
        let packed = matches!(last.as_str(), "gz" | "gzip" | "zst" | "zstd");
        let inner = if packed { ending(Path::new(path.file_stem().unwrap_or_default())) } else { last };
        match inner.as_str() {
            "jsonl" | "ndjson" | "json" => Ok(Shape::Json),
            "csv" => Ok(Shape::Text(b',')),
            "tsv" => Ok(Shape::Text(b'\t')),
            "parquet" if !packed => Ok(Shape::Parquet),
            other => {
                let problem = format!("`.{other}` cannot be written{}", if packed { " packed" } else { "" });
                let hint = "rows are written as .jsonl, .json, .csv or .tsv, and .gz or .zst after it, or as .parquet";
                Err(DataError::Unreadable { path: path.to_owned(), problem, hint: hint.to_owned() })
            }
        }
    }

    /// A row as its cells.
    ///
    /// # Errors
    /// Why it would not be read back as it is.
    pub fn hold(self, format: Format, row: Map<String, Value>) -> Result<Map<String, Value>, String> {
        if self == Shape::Json {
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
        let read = |row: Map<String, Value>| format.read(0, row, &mut std::collections::BTreeMap::new());
        match (read(cells.clone()), read(row)) {
            (Ok(back), Ok(row)) if back == row => Ok(cells),
            _ => Err(format!("a table does not give back a row of the format `{format}` like this one")),
        }
    }
}

/// What a column holds so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Int,
    Float,
    Truth,
}

impl Kind {
    fn of(value: &Value) -> Kind {
        match value {
            Value::Bool(_) => Kind::Truth,
            Value::Number(number) if number.is_i64() => Kind::Int,
            Value::Number(_) => Kind::Float,
            _ => Kind::Text,
        }
    }

    fn data_type(self) -> DataType {
        match self {
            Kind::Text => DataType::Utf8,
            Kind::Int => DataType::Int64,
            Kind::Float => DataType::Float64,
            Kind::Truth => DataType::Boolean,
        }
    }

    /// A column of these cells.
    fn array(self, cells: &[Option<Value>]) -> ArrayRef {
        let each = || cells.iter().map(Option::as_ref);
        match self {
            Kind::Text => Arc::new(each().map(|cell| cell.and_then(Value::as_str)).collect::<StringArray>()),
            Kind::Int => Arc::new(each().map(|cell| cell.and_then(Value::as_i64)).collect::<Int64Array>()),
            Kind::Float => Arc::new(each().map(|cell| cell.and_then(Value::as_f64)).collect::<Float64Array>()),
            Kind::Truth => Arc::new(each().map(|cell| cell.and_then(Value::as_bool)).collect::<BooleanArray>()),
        }
    }
}

/// Rows on their way into a table: its columns are known after the last row, so rows wait in a file without a name.
pub(crate) struct Table {
    waiting: BufWriter<File>,
    columns: Vec<(String, Kind)>,
    rows: usize,
}

impl Table {
    pub fn new() -> std::io::Result<Table> {
        Ok(Table { waiting: BufWriter::new(tempfile()?), columns: Vec::new(), rows: 0 })
    }

    /// Adds a row, as [`Shape::hold`] gave it.
    ///
    /// # Errors
    /// What the system said; or what does not fit the rows before.
    pub fn row(&mut self, row: &Map<String, Value>) -> std::io::Result<Result<(), String>> {
        self.rows += 1;
        for (name, value) in row {
            let kind = Kind::of(value);
            match self.columns.iter_mut().find(|(column, _)| column == name) {
                None => self.columns.push((name.clone(), kind)),
                Some((_, before)) if *before == kind => {}
                Some((_, before)) => {
                    return Ok(Err(format!(
                        "row {}: `{name}` is {}, in rows before it {}: a column has one type",
                        self.rows,
                        kind.data_type(),
                        before.data_type()
                    )));
                }
            }
        }
        serde_json::to_writer(&mut self.waiting, row)?;
        self.waiting.write_all(b"\n")?;
        Ok(Ok(()))
    }

    /// Writes texts parted by `delimiter`, with a header.
    pub fn write_text(self, delimiter: u8, sink: &mut dyn Write) -> std::io::Result<()> {
        let names: Vec<String> = self.columns.iter().map(|(name, _)| name.clone()).collect();
        let mut table = csv::WriterBuilder::new().delimiter(delimiter).from_writer(sink);
        table.write_record(&names)?;
        self.each_row(&mut |row| {
            let cell = |name: &String| row.get(name).and_then(Value::as_str).unwrap_or_default();
            Ok(table.write_record(names.iter().map(cell))?)
        })?;
        table.flush()
    }

    /// Writes Parquet.
    pub fn write_parquet(self, sink: &mut (dyn Write + Send)) -> std::io::Result<()> {
        let columns = self.columns.clone();
        let fields = columns.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut table = ArrowWriter::try_new(sink, schema.clone(), Some(properties)).map_err(std::io::Error::other)?;
        let mut cells: Vec<Vec<Option<Value>>> = vec![Vec::new(); columns.len()];
        let mut put = |cells: &mut Vec<Vec<Option<Value>>>| {
            let arrays = columns.iter().zip(cells.iter()).map(|((_, kind), cells)| kind.array(cells)).collect();
            cells.iter_mut().for_each(Vec::clear);
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(std::io::Error::other)?;
            table.write(&batch).map_err(std::io::Error::other)
        };
        let mut rows = 0;
        self.each_row(&mut |mut row| {
            for ((name, _), cells) in columns.iter().zip(&mut cells) {
                cells.push(row.remove(name));
            }
            rows += 1;
            if rows % BATCH == 0 { put(&mut cells) } else { Ok(()) }
        })?;
        put(&mut cells)?;
        table.close().map_err(std::io::Error::other)?;
        Ok(())
    }

    /// The rows that waited, in order.
    fn each_row(self, each: &mut dyn FnMut(Map<String, Value>) -> std::io::Result<()>) -> std::io::Result<()> {
        let mut waited = self.waiting.into_inner().map_err(|error| error.into_error())?;
        std::io::Seek::rewind(&mut waited)?;
        for line in BufReader::new(waited).lines() {
            each(serde_json::from_str(&line?)?)?;
        }
        Ok(())
    }
}
