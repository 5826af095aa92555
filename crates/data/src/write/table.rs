//! A table that is written: CSV and TSV of texts, Parquet of columns of one type each.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Error, Result, Seek, Write};
use std::sync::Arc;

use arrow_array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;
use serde_json::{Map, Value};
use tempfile::tempfile;

/// Rows of a batch of Parquet.
const BATCH: usize = 1024;

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
pub(super) struct Table {
    waiting: BufWriter<File>,
    columns: Vec<(String, Kind)>,
    rows: usize,
}

impl Table {
    pub fn new() -> Result<Table> {
        Ok(Table { waiting: BufWriter::new(tempfile()?), columns: Vec::new(), rows: 0 })
    }

    /// Adds a row, as [`Shape::hold`](super::Shape::hold) gave it.
    ///
    /// # Errors
    /// What the system said; or what does not fit the rows before.
    pub fn row(&mut self, row: &Map<String, Value>) -> Result<std::result::Result<(), String>> {
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
    pub fn write_text(self, delimiter: u8, sink: &mut dyn Write) -> Result<()> {
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
    pub fn write_parquet(self, sink: &mut (dyn Write + Send)) -> Result<()> {
        let columns = self.columns.clone();
        let fields = columns.iter().map(|(name, kind)| Field::new(name, kind.data_type(), true)).collect::<Vec<_>>();
        let schema = Arc::new(Schema::new(fields));
        let properties = WriterProperties::builder().set_compression(Compression::SNAPPY).build();
        let mut table = ArrowWriter::try_new(sink, schema.clone(), Some(properties)).map_err(Error::other)?;
        let mut cells: Vec<Vec<Option<Value>>> = vec![Vec::new(); columns.len()];
        let mut put = |cells: &mut Vec<Vec<Option<Value>>>| {
            let arrays = columns.iter().zip(cells.iter()).map(|((_, kind), cells)| kind.array(cells)).collect();
            cells.iter_mut().for_each(Vec::clear);
            let batch = RecordBatch::try_new(schema.clone(), arrays).map_err(Error::other)?;
            table.write(&batch).map_err(Error::other)
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
        table.close().map_err(Error::other)?;
        Ok(())
    }

    /// The rows that waited, in order.
    fn each_row(self, each: &mut dyn FnMut(Map<String, Value>) -> Result<()>) -> Result<()> {
        let mut waited = self.waiting.into_inner().map_err(|error| error.into_error())?;
        waited.rewind()?;
        for line in BufReader::new(waited).lines() {
            each(serde_json::from_str(&line?)?)?;
        }
        Ok(())
    }
}
