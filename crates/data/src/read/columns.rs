//! Parquet and Arrow: a batch of rows at a time, each cell as the JSON value that it stands for.

use std::fs::File;
use std::io::{BufReader, Cursor, Read, Seek};
use std::path::Path;

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Float16Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use arrow_array::{Array, ArrayRef, RecordBatch};
use arrow_ipc::reader::{FileReader, StreamReader};
use arrow_schema::{ArrowError, DataType};
use bytes::Bytes;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::reader::ChunkReader;
use serde_json::{Map, Value};

use super::{Chunk, Raw, Records, unreadable};
use crate::error::DataError;

/// Rows of a batch.
const ROWS: usize = 1024;
const HINT: &str = "write it anew, or as JSONL";

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
    /// By the first bytes; a stream has none of its own, so its ending tells.
    pub fn of(first: &[u8], ending: &str) -> Option<Self> {
        if first.starts_with(b"PAR1") || ending == "parquet" {
            Some(Self::Parquet)
        } else if first.starts_with(b"ARROW1") {
            Some(Self::ArrowFile)
        } else {
            matches!(ending, "arrow" | "feather" | "ipc").then_some(Self::ArrowStream)
        }
    }
}

pub(super) struct Columns<'a> {
    path: &'a Path,
    batches: Batches,
    rows: usize,
}

impl<'a> Columns<'a> {
    pub fn open(path: &'a Path, file: File, container: Container) -> Result<Self, DataError> {
        Self::of(path, batches(container, file, BufReader::new))
    }

    pub fn of_bytes(path: &'a Path, bytes: Vec<u8>, container: Container) -> Result<Self, DataError> {
        Self::of(path, batches(container, Bytes::from(bytes), Cursor::new))
    }

    fn of(path: &'a Path, batches: Result<Batches, ArrowError>) -> Result<Self, DataError> {
        Ok(Self { path, batches: batches.map_err(|error| unreadable(path, error, HINT))?, rows: 0 })
    }
}

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// The batches of a container that lies in `whole`; `stream` reads that from its start.
fn batches<C: ChunkReader + 'static, R: Read + Seek + 'static>(
    container: Container,
    whole: C,
    stream: impl FnOnce(C) -> R,
) -> Result<Batches, ArrowError> {
    Ok(match container {
        Container::Parquet => Box::new(ParquetRecordBatchReaderBuilder::try_new(whole)?.with_batch_size(ROWS).build()?),
        Container::ArrowFile => Box::new(FileReader::try_new(stream(whole), None)?),
        Container::ArrowStream => Box::new(StreamReader::try_new(stream(whole), None)?),
    })
}

impl Records for Columns<'_> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        for batch in self.batches.by_ref() {
            let batch = batch.map_err(|error| unreadable(self.path, error, HINT))?;
            let schema = batch.schema();
            let row = |index: usize| {
                let cells = schema.fields().iter().zip(batch.columns());
                let fields: Result<Map<String, Value>, String> = cells
                    .map(|(field, column)| {
                        let value = cell(column, index).map_err(|what| format!("column `{}`: {what}", field.name()))?;
                        Ok((field.name().clone(), value))
                    })
                    .collect();
                fields.map_or_else(Raw::Problem, Raw::Fields)
            };
            let first = self.rows;
            self.rows += batch.num_rows();
            if batch.num_rows() > 0 {
                return Ok((0..batch.num_rows()).map(|index| (first + index + 1, row(index))).collect());
            }
        }
        Ok(Vec::new())
    }
}

/// The JSON value of a cell.
fn cell(column: &ArrayRef, index: usize) -> Result<Value, String> {
    if column.is_null(index) {
        return Ok(Value::Null);
    }
    macro_rules! number {
        ($type:ty) => {
            column.as_primitive::<$type>().value(index).into()
        };
    }
    let list =
        |values: ArrayRef| (0..values.len()).map(|index| cell(&values, index)).collect::<Result<Value, String>>();
    Ok(match column.data_type() {
        DataType::Null => Value::Null,
        DataType::Boolean => column.as_boolean().value(index).into(),
        DataType::Utf8 => column.as_string::<i32>().value(index).into(),
        DataType::LargeUtf8 => column.as_string::<i64>().value(index).into(),
        DataType::Utf8View => column.as_string_view().value(index).into(),
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
        DataType::List(_) => list(column.as_list::<i32>().value(index))?,
        DataType::LargeList(_) => list(column.as_list::<i64>().value(index))?,
        DataType::FixedSizeList(_, _) => list(column.as_fixed_size_list().value(index))?,
        DataType::Struct(fields) => {
            let columns = fields.iter().zip(column.as_struct().columns());
            let fields: Result<Map<String, Value>, String> =
                columns.map(|(field, column)| Ok((field.name().clone(), cell(column, index)?))).collect();
            fields?.into()
        }
        DataType::Map(_, _) => {
            let entries = column.as_map().value(index);
            let (keys, values) = (entries.column(0), entries.column(1));
            let entry = |index: usize| match cell(keys, index)? {
                Value::String(key) => Ok((key, cell(values, index)?)),
                other => Err(format!("a map whose keys are not text: {other}")),
            };
            (0..entries.len()).map(entry).collect::<Result<Map<String, Value>, String>>()?.into()
        }
        DataType::Dictionary(_, _) => {
            let dictionary = column.as_any_dictionary();
            let key = dictionary.normalized_keys()[index];
            cell(dictionary.values(), key)?
        }
        other => {
            return Err(format!(
                "cells of the type {other} are not supported, expected text, numbers, lists or structs"
            ));
        }
    })
}
