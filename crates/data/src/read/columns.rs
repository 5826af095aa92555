//! Parquet and Arrow: a batch of rows at a time, each cell as the JSON value that it stands for.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek, SeekFrom};
use std::path::Path;

use ::parquet::file::reader::ChunkReader;
use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Date64Type, Decimal32Type, Decimal64Type, Decimal128Type, Decimal256Type, Float16Type, Float32Type,
    Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time32MillisecondType, Time32SecondType,
    Time64MicrosecondType, Time64NanosecondType, TimestampMicrosecondType, TimestampMillisecondType,
    TimestampNanosecondType, TimestampSecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_schema::{DataType, TimeUnit};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::arrow::{CONTINUES, Messages, before_footer};
use super::limits::{COLUMNS, LONGEST, caught, too_long};
use super::{CHUNK, Chunk, Raw, Records, parquet, unreadable};
use crate::error::DataError;

/// Bytes of a value beside its text.
const VALUE: usize = 72;
const HINT: &str = "write it anew in smaller pieces, or as JSONL";

/// What holds the columns.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    Parquet,
    /// With an index at its end, as Feather 2.
    ArrowFile,
    /// As `datasets` saves.
    ArrowStream,
}

impl Container {
    /// By the first bytes. A stream begins with those of any message, which no text begins with; in its older form it has none of
    /// its own, so its ending tells.
    pub fn of(first: &[u8], ending: &str) -> Option<Self> {
        if first.starts_with(b"PAR1") || ending == "parquet" {
            Some(Self::Parquet)
        } else if first.starts_with(b"ARROW1") {
            Some(Self::ArrowFile)
        } else {
            let told = first.starts_with(&CONTINUES.to_le_bytes()) || matches!(ending, "arrow" | "feather" | "ipc");
            told.then_some(Self::ArrowStream)
        }
    }
}

pub(super) struct Columns<'a> {
    path: &'a Path,
    batches: Batches<'a>,
    /// The batch that is read, and its next row.
    batch: Option<(RecordBatch, usize)>,
    rows: usize,
}

impl<'a> Columns<'a> {
    pub fn open(path: &'a Path, file: File, container: Container) -> Result<Self, DataError> {
        Self::of(path, container, file, BufReader::new)
    }

    pub fn of_bytes(path: &'a Path, bytes: Vec<u8>, container: Container) -> Result<Self, DataError> {
        Self::of(path, container, Bytes::from(bytes), Cursor::new)
    }

    /// Of a stream of messages, as it comes.
    pub fn of_stream(path: &'a Path, stream: impl Read + 'a) -> Self {
        Self { path, batches: Box::new(Messages::new(stream)), batch: None, rows: 0 }
    }

    fn of<C: ChunkReader + 'static, R: Read + Seek + 'static>(
        path: &'a Path,
        container: Container,
        whole: C,
        stream: impl FnOnce(C) -> R,
    ) -> Result<Self, DataError> {
        let batches = caught(|| batches(container, whole, stream)).and_then(|batches| batches);
        let batches = batches.map_err(|problem| unreadable(path, problem, HINT))?;
        Ok(Self { path, batches, batch: None, rows: 0 })
    }
}

type Batches<'a> = Box<dyn Iterator<Item = Result<RecordBatch, String>> + 'a>;

/// The batches of a container that lies in `whole`; `stream` reads that from its start.
fn batches<C: ChunkReader + 'static, R: Read + Seek + 'static>(
    container: Container,
    whole: C,
    stream: impl FnOnce(C) -> R,
) -> Result<Batches<'static>, String> {
    Ok(match container {
        Container::Parquet => {
            let batches = parquet::batches(whole).map_err(|error| error.to_string())?;
            Box::new(batches.map(|batch| batch.map_err(|error| error.to_string())))
        }
        Container::ArrowFile => {
            let length = whole.len();
            let last = length.saturating_sub(10);
            let end = whole.get_bytes(last, (length - last) as usize).map_err(|error| error.to_string())?;
            let before = before_footer(length, &end)?;
            let mut stream = stream(whole);
            // The magic bytes are padded to eight.
            stream.seek(SeekFrom::Start(8)).map_err(|error| error.to_string())?;
            Box::new(Messages::new(stream.take(before.saturating_sub(8))))
        }
        Container::ArrowStream => Box::new(Messages::new(stream(whole))),
    })
}

impl Records for Columns<'_> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        let (mut chunk, mut size) = (Vec::new(), 0);
        while size < CHUNK {
            let Some((batch, row)) = self.batch.take_if(|(batch, row)| *row < batch.num_rows()) else {
                match caught(|| self.batches.next()).and_then(Option::transpose) {
                    Ok(Some(batch)) => self.batch = Some((batch, 0)),
                    Ok(None) => break,
                    Err(problem) => return Err(self.broken(problem)),
                }
                continue;
            };
            let mut left = LONGEST;
            self.rows += 1;
            chunk.push((self.rows, fields(&batch, row, &mut left).map_or_else(Raw::Problem, Raw::Fields)));
            size += LONGEST - left;
            self.batch = Some((batch, row + 1));
        }
        Ok(chunk)
    }
}

impl Columns<'_> {
    fn broken(&self, problem: String) -> DataError {
        unreadable(self.path, format!("after row {}: {problem}", self.rows), HINT)
    }
}

/// A row as the fields of an object, of at most `left` bytes.
fn fields(batch: &RecordBatch, row: usize, left: &mut usize) -> Result<Map<String, Value>, String> {
    let schema = batch.schema();
    if schema.fields().len() > COLUMNS {
        return Err(format!("{} columns, at most {COLUMNS} are read", schema.fields().len()));
    }
    let mut fields = Map::new();
    for (field, column) in schema.fields().iter().zip(batch.columns()) {
        let value = cell(column, row, left).map_err(|what| format!("column `{}`: {what}", field.name()))?;
        if fields.insert(field.name().clone(), value).is_some() {
            return Err(format!("two columns are named `{}`", field.name()));
        }
    }
    Ok(fields)
}

/// The JSON value of a cell; what it takes is taken from `left`.
fn cell(column: &ArrayRef, index: usize, left: &mut usize) -> Result<Value, String> {
    let mut take = |bytes: usize| -> Result<(), String> {
        *left = left.checked_sub(bytes).ok_or_else(too_long)?;
        Ok(())
    };
    take(VALUE)?;
    if column.is_null(index) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($type:ty) => {
            column.as_primitive::<$type>().value(index).into()
        };
    }
    macro_rules! text {
        ($array:expr) => {{
            let text = $array.value(index);
            take(text.len())?;
            text.into()
        }};
    }
    // Some writers do not say of texts that they are.
    macro_rules! bytes {
        ($array:expr) => {{
            let bytes = $array.value(index);
            take(bytes.len())?;
            std::str::from_utf8(bytes).map_err(|_| "bytes that are no text, expected text in UTF-8".to_owned())?.into()
        }};
    }
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(index).into(),
        DataType::Utf8 => text!(column.as_string::<i32>()),
        DataType::LargeUtf8 => text!(column.as_string::<i64>()),
        DataType::Utf8View => text!(column.as_string_view()),
        DataType::Binary => bytes!(column.as_binary::<i32>()),
        DataType::LargeBinary => bytes!(column.as_binary::<i64>()),
        DataType::BinaryView => bytes!(column.as_binary_view()),
        DataType::Int8 => number!(Int8Type),
        DataType::Int16 => number!(Int16Type),
        DataType::Int32 => number!(Int32Type),
        DataType::Int64 => number!(Int64Type),
        DataType::UInt8 => number!(UInt8Type),
        DataType::UInt16 => number!(UInt16Type),
        DataType::UInt32 => number!(UInt32Type),
        DataType::UInt64 => number!(UInt64Type),
        DataType::Float16 => f64::from(column.as_primitive::<Float16Type>().value(index).to_f32()).into(),
        DataType::Float32 => f64::from(column.as_primitive::<Float32Type>().value(index)).into(),
        DataType::Float64 => number!(Float64Type),
        DataType::List(_) => list(&column.as_list::<i32>().value(index), left)?,
        DataType::LargeList(_) => list(&column.as_list::<i64>().value(index), left)?,
        DataType::FixedSizeList(_, _) => list(&column.as_fixed_size_list().value(index), left)?,
        DataType::Struct(fields) => {
            let mut object = Map::new();
            for (field, column) in fields.iter().zip(column.as_struct().columns()) {
                if object.insert(field.name().clone(), cell(column, index, left)?).is_some() {
                    return Err(format!("two fields are named `{}`", field.name()));
                }
            }
            object.into()
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(index);
            let (keys, values) = (entries.column(0), entries.column(1));
            let mut object = Map::new();
            for index in 0..entries.len() {
                let before = match cell(keys, index, left)? {
                    Value::String(key) => object.insert(key, cell(values, index, left)?),
                    other => return Err(format!("a map whose keys are not text: {other}")),
                };
                if before.is_some() {
                    return Err("a map has a key twice".to_owned());
                }
            }
            object.into()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            cell(dictionary.values(), key(dictionary.keys(), index)?, left)?
        }
        other => match as_text(column, index) {
            Some(text) => text.into(),
            None => {
                return Err(format!(
                    "cells of the type {other} are not supported, expected text, numbers, lists or structs"
                ));
            }
        },
    })
}

/// What JSON has no value for, as a text: decimal numbers with all their digits, days and times by ISO 8601, those with a time zone in
/// UTC. Nothing of other types, and of days that no calendar has.
fn as_text(column: &ArrayRef, index: usize) -> Option<String> {
    macro_rules! decimal {
        ($type:ty) => {
            Some(column.as_primitive::<$type>().value_as_string(index))
        };
    }
    macro_rules! day {
        ($type:ty) => {
            column.as_primitive::<$type>().value_as_date(index).map(|day| format!("{day:?}"))
        };
    }
    macro_rules! time {
        ($type:ty) => {
            column.as_primitive::<$type>().value_as_time(index).map(|time| format!("{time:?}"))
        };
    }
    macro_rules! moment {
        ($type:ty, $zone:expr) => {
            column.as_primitive::<$type>().value_as_datetime(index).map(|moment| {
                let zone = if $zone.is_some() { "Z" } else { "" };
                format!("{moment:?}{zone}")
            })
        };
    }
    match column.data_type() {
        DataType::Decimal32(..) => decimal!(Decimal32Type),
        DataType::Decimal64(..) => decimal!(Decimal64Type),
        DataType::Decimal128(..) => decimal!(Decimal128Type),
        DataType::Decimal256(..) => decimal!(Decimal256Type),
        DataType::Date32 => day!(Date32Type),
        DataType::Date64 => day!(Date64Type),
        DataType::Time32(TimeUnit::Second) => time!(Time32SecondType),
        DataType::Time32(TimeUnit::Millisecond) => time!(Time32MillisecondType),
        DataType::Time64(TimeUnit::Microsecond) => time!(Time64MicrosecondType),
        DataType::Time64(TimeUnit::Nanosecond) => time!(Time64NanosecondType),
        DataType::Timestamp(TimeUnit::Second, zone) => moment!(TimestampSecondType, zone),
        DataType::Timestamp(TimeUnit::Millisecond, zone) => moment!(TimestampMillisecondType, zone),
        DataType::Timestamp(TimeUnit::Microsecond, zone) => moment!(TimestampMicrosecondType, zone),
        DataType::Timestamp(TimeUnit::Nanosecond, zone) => moment!(TimestampNanosecondType, zone),
        _ => None,
    }
}

fn list(values: &ArrayRef, left: &mut usize) -> Result<Value, String> {
    (0..values.len()).map(|index| cell(values, index, left)).collect()
}

/// Where in a dictionary a cell's value is.
fn key(keys: &dyn Array, index: usize) -> Result<usize, String> {
    macro_rules! key {
        ($type:ty) => {
            usize::try_from(keys.as_primitive::<$type>().value(index)).map_err(|error| error.to_string())
        };
    }
    match keys.data_type() {
        DataType::Int8 => key!(Int8Type),
        DataType::Int16 => key!(Int16Type),
        DataType::Int32 => key!(Int32Type),
        DataType::Int64 => key!(Int64Type),
        DataType::UInt8 => key!(UInt8Type),
        DataType::UInt16 => key!(UInt16Type),
        DataType::UInt32 => key!(UInt32Type),
        DataType::UInt64 => key!(UInt64Type),
        other => Err(format!("a dictionary with keys of the type {other}")),
    }
}
