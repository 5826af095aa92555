//! Parquet, by the format's own reader, which believes what a file claims; so each claim is looked at before it acts on it.
//!
//! What could take memory without end, and what stands against it:
//! - the schema, read recursively: its depth and columns are counted first;
//! - a page's size, its values, the entries of a dictionary, the number of lengths: held against the page and [`PAGE`];
//! - a page that unpacks to more than it says: of codecs whose unpacking is not bounded by what the page says, it is counted;
//! - texts that stand in a dictionary once and in a thousand rows: they are read as views, which share what they show;
//! - a row of a list without end: rows are counted by the repetition levels, before they are read;
//! - a batch of many large rows: where a row group is large, a batch is four rows, and its pages are counted;
//! - texts that leave out what they share with the one before (`DELTA_BYTE_ARRAY`): their lengths are added up first.

mod delta;
mod pages;

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::Type;
use parquet::column::page::{PageIterator, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use temper_text::strict::VALUES;

use super::limits::{COLUMNS, DEPTH, FOOTER, mib};
use super::little_endian;
use super::thrift::{Compact, kind};
use pages::Pages;

/// Rows of a batch, and of a batch of large rows.
const ROWS: usize = 1024;
const FEW_ROWS: usize = 4;
/// Up to this many bytes of a row group, and values of lists in it, its rows are not large.
const SMALL_BYTES: u64 = 256 << 20;
const SMALL_VALUES: u64 = 16 << 20;
/// Bytes of cells of a fixed length: numbers and identifiers.
const FIXED: i32 = 64;

/// The batches of a file.
///
/// # Errors
/// What is wrong with what describes it.
pub(super) fn batches<C: ChunkReader + 'static>(chunks: C) -> Result<Box<dyn Iterator<Item = Result<RecordBatch>>>> {
    check_footer(&chunks)?;
    let metadata = Arc::new(ParquetMetaDataReader::new().parse_and_finish(&chunks)?);
    let descriptor = metadata.file_metadata().schema_descr();
    for column in descriptor.columns() {
        if column.physical_type() == Type::FIXED_LEN_BYTE_ARRAY && column.type_length() > FIXED {
            return Err(wrong(format!("column `{}` has cells of {} bytes each", column.path(), column.type_length())));
        }
    }
    // Without what Arrow wrote about its own types: they would be dictionaries and texts that are copied.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let plain = ArrowReaderMetadata::try_new(metadata.clone(), options)?;
    let levels =
        parquet_to_arrow_field_levels(descriptor, ProjectionMask::all(), Some(&viewed(plain.schema().fields())))?;
    let repeated: Vec<bool> = descriptor.columns().iter().map(|column| column.max_rep_level() > 0).collect();
    let large = metadata.row_groups().iter().any(|group| is_large(group, &repeated));
    let meter = Arc::new(AtomicUsize::new(0));
    let longest = (VALUES / repeated.iter().filter(|&&repeated| repeated).count().max(1)) as u64;
    let groups = Capped { chunks: Arc::new(chunks), metadata, meter: meter.clone(), longest };
    let rows = if large { FEW_ROWS } else { ROWS };
    let mut reader = ParquetRecordBatchReader::try_new_with_row_groups(&levels, &groups, rows, None)?;
    Ok(Box::new(std::iter::from_fn(move || {
        meter.store(0, Ordering::Relaxed);
        reader.next().map(|batch| batch.map_err(ParquetError::from))
    })))
}

fn wrong(problem: impl Into<String>) -> ParquetError {
    ParquetError::General(problem.into())
}

/// Whether a batch of rows may be too much; what is claimed here is held against the pages.
fn is_large(group: &RowGroupMetaData, repeated: &[bool]) -> bool {
    let claimed = |number: i64| u64::try_from(number).unwrap_or(u64::MAX);
    let columns = || group.columns().iter();
    let bytes = columns().map(|column| claimed(column.uncompressed_size())).fold(0, u64::saturating_add);
    let lists = columns().zip(repeated).filter(|(_, repeated)| **repeated);
    let values = lists.map(|(column, _)| claimed(column.num_values())).fold(0, u64::saturating_add);
    bytes > SMALL_BYTES || values > SMALL_VALUES
}

/// Fields whose texts are views.
fn viewed(fields: &Fields) -> Fields {
    let view = |field: &FieldRef| {
        let inner = |field: &FieldRef| viewed(&Fields::from(vec![field.clone()]))[0].clone();
        let kind = match field.data_type() {
            DataType::Utf8 | DataType::LargeUtf8 => DataType::Utf8View,
            DataType::Binary | DataType::LargeBinary => DataType::BinaryView,
            DataType::List(item) => DataType::List(inner(item)),
            DataType::LargeList(item) => DataType::LargeList(inner(item)),
            DataType::FixedSizeList(item, length) => DataType::FixedSizeList(inner(item), *length),
            DataType::Struct(fields) => DataType::Struct(viewed(fields)),
            DataType::Map(entries, sorted) => DataType::Map(inner(entries), *sorted),
            other => other.clone(),
        };
        Field::clone(field).with_data_type(kind)
    };
    fields.iter().map(view).collect()
}

/// Looks at what stands at the end of a file: its length, and the depth and columns of its schema.
fn check_footer<C: ChunkReader>(chunks: &C) -> Result<()> {
    let cut_off = || wrong("it does not end as Parquet does: it seems to be cut off");
    let whole = chunks.len();
    let end = chunks.get_bytes(whole.checked_sub(8).ok_or_else(cut_off)?, 8)?;
    if &end[4..] != b"PAR1" {
        return Err(if &end[4..] == b"PARE" { wrong("it is encrypted") } else { cut_off() });
    }
    let length = little_endian(&end[..4]) as usize;
    if length > FOOTER {
        return Err(wrong(format!("its metadata has {}, at most {} are read", mib(length), mib(FOOTER))));
    }
    let footer = chunks.get_bytes((whole - 8).checked_sub(length as u64).ok_or_else(cut_off)?, length)?;
    // How many children are still to come, by depth.
    let (mut open, mut elements, mut problem): (Vec<u64>, usize, Option<String>) = (Vec::new(), 0, None);
    let read = Compact::new(&footer).structure(&mut |compact, field, id| {
        if (field, id) != (kind::LIST, 2) {
            return Some(false);
        }
        let (item, count) = compact.list()?;
        for _ in 0..count {
            if item != kind::STRUCT {
                return None;
            }
            let mut children = 0;
            compact.structure(&mut |compact, field, id| {
                if (field, id) == (kind::I32, 5) {
                    children = u64::try_from(compact.number()?).ok()?;
                    return Some(true);
                }
                Some(false)
            })?;
            elements += 1;
            open.push(children);
            if open.len() > DEPTH || elements > 2 * COLUMNS {
                problem = Some(format!("its schema is deeper than {DEPTH} or has more than {COLUMNS} columns"));
                return None;
            }
            // An element without children closes those whose last child it was.
            while open.last() == Some(&0) {
                open.pop();
                if let Some(left) = open.last_mut() {
                    *left = left.saturating_sub(1);
                }
            }
        }
        Some(true)
    });
    match (read, problem) {
        (_, Some(problem)) => Err(wrong(problem)),
        (None, None) => Err(wrong("its metadata cannot be read")),
        (Some(()), None) => Ok(()),
    }
}

/// The row groups of a file, with every page looked at.
struct Capped<C> {
    chunks: Arc<C>,
    metadata: Arc<ParquetMetaData>,
    /// Bytes of pages that were read for this batch.
    meter: Arc<AtomicUsize>,
    /// Values of a row in a column of lists.
    longest: u64,
}

impl<C: ChunkReader + 'static> RowGroups for Capped<C> {
    fn num_rows(&self) -> usize {
        self.metadata.row_groups().iter().map(|group| group.num_rows() as usize).sum()
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>> {
        let Self { chunks, metadata, meter, longest } = self;
        let (chunks, metadata, meter) = (chunks.clone(), metadata.clone(), meter.clone());
        Ok(Box::new(Chunks { chunks, metadata, meter, longest: *longest, column, group: 0 }))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(self.metadata.row_groups().iter())
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// A column of each row group.
struct Chunks<C> {
    chunks: Arc<C>,
    metadata: Arc<ParquetMetaData>,
    meter: Arc<AtomicUsize>,
    longest: u64,
    column: usize,
    group: usize,
}

impl<C: ChunkReader + 'static> Iterator for Chunks<C> {
    type Item = Result<Box<dyn PageReader>>;

    fn next(&mut self) -> Option<Self::Item> {
        let group = self.metadata.row_groups().get(self.group)?;
        self.group += 1;
        let column = group.column(self.column);
        let open = || {
            let rows = usize::try_from(group.num_rows())?;
            let pages = Pages::of(self.chunks.clone(), column, rows, self.meter.clone(), self.longest)?;
            Ok(Box::new(pages) as Box<dyn PageReader>)
        };
        Some(open())
    }
}

impl<C: ChunkReader + 'static> PageIterator for Chunks<C> {}
