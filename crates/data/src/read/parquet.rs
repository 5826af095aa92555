//! Parquet, by the format's own reader, which believes what a file claims; so each claim is looked at before it acts on it.
//!
//! What could take memory without end, and what stands against it:
//! - the schema, read recursively: its depth and columns are counted first;
//! - a page's size, its values, the entries of a dictionary, the number of lengths: held against the page and [`PAGE`];
//! - a page that unpacks to more than it says: of codecs whose unpacking is not bounded by what the page says, it is counted;
//! - texts that stand in a dictionary once and in a thousand rows: they are read as views, which share what they show;
//! - a row of a list without end: rows are counted by the repetition levels, before they are read;
//! - a batch of many large rows: where a row group is large, a batch is four rows, and its pages are counted.
//!
//! The one encoding that makes values longer than the page that holds them, `DELTA_BYTE_ARRAY`, is refused by name.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::RecordBatch;
use arrow_schema::{DataType, Field, FieldRef, Fields};
use flate2::read::MultiGzDecoder;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReader, RowGroups};
use parquet::arrow::{ProjectionMask, parquet_to_arrow_field_levels};
use parquet::basic::{Compression, Encoding, Type};
use parquet::column::page::{Page, PageIterator, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader, RowGroupMetaData};
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;

use super::limits::{BATCH, COLUMNS, DEPTH, FOOTER, PAGE, VALUES, mib, too_many_values};
use super::thrift::{Compact, kind};

/// Rows of a batch, and of a batch of large rows.
const ROWS: usize = 1024;
const FEW_ROWS: usize = 4;
/// Up to this many bytes of a row group, and values of lists in it, its rows are not large.
const SMALL_BYTES: u64 = 256 << 20;
const SMALL_VALUES: u64 = 16 << 20;
/// Bytes of a page's header: first as many as most have, then as many as any may have.
const PAGE_HEADERS: [usize; 2] = [1 << 12, 1 << 20];
/// Bytes of cells of a fixed length: numbers and identifiers.
const FIXED: i32 = 64;
/// Of the codec LZ4 that LZ4_RAW replaced, a page unpacks to up to 255 times its bytes, whatever it says.
const OLD_LZ4: usize = 2 << 20;

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
    let length = end[..4].iter().rev().fold(0usize, |length, &byte| length << 8 | usize::from(byte));
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
        let (start, length) = column.byte_range();
        let descriptor = column.column_descr();
        let open = || {
            let rows = usize::try_from(group.num_rows())?;
            Ok(Box::new(Pages {
                inner: SerializedPageReader::new(self.chunks.clone(), column, rows, None)?,
                chunks: self.chunks.clone(),
                meter: self.meter.clone(),
                codec: column.compression(),
                at: start,
                end: start.checked_add(length).ok_or_else(|| wrong("a column lies outside of the file"))?,
                next: None,
                left: u64::try_from(column.num_values())?,
                levels: [descriptor.max_rep_level(), descriptor.max_def_level()].map(|most| most > 0),
                width: (16 - descriptor.max_rep_level().leading_zeros()) as u8,
                row: 0,
                longest: self.longest,
            }) as Box<dyn PageReader>)
        };
        Some(open())
    }
}

impl<C: ChunkReader + 'static> PageIterator for Chunks<C> {}

/// The pages of a column in a row group.
struct Pages<C: ChunkReader> {
    inner: SerializedPageReader<C>,
    chunks: Arc<C>,
    meter: Arc<AtomicUsize>,
    codec: Compression,
    /// Where the next page begins, and where the column ends.
    at: u64,
    end: u64,
    /// The next page, once it was looked at.
    next: Option<Header>,
    /// Values that the column may still have.
    left: u64,
    /// Whether pages have repetition levels, and definition levels.
    levels: [bool; 2],
    /// Bits of a repetition level.
    width: u8,
    /// Values of the row that is read, and how many it may have.
    row: u64,
    longest: u64,
}

/// What the header of a page says.
#[derive(Debug, Clone, Copy, Default)]
struct Header {
    length: usize,
    kind: i64,
    unpacked: i64,
    packed: i64,
    values: i64,
    encoding: i64,
    /// Of the second version: bytes of levels, which are not packed, and whether the values are.
    levels: [i64; 2],
    plain: bool,
}

/// Kinds of page and an encoding by their numbers in `parquet.thrift`.
const INDEX: i64 = 1;
const DICTIONARY: i64 = 2;
const DELTA_BYTE_ARRAY: i64 = 7;

impl Header {
    /// Field numbers as in `parquet.thrift`, `PageHeader`.
    fn read(bytes: &[u8]) -> Option<Header> {
        let mut header = Header::default();
        let mut compact = Compact::new(bytes);
        compact.structure(&mut |compact, field, id| {
            match (field, id) {
                (kind::I32, 1) => header.kind = compact.number()?,
                (kind::I32, 2) => header.unpacked = compact.number()?,
                (kind::I32, 3) => header.packed = compact.number()?,
                (kind::STRUCT, 5 | 7 | 8) => compact.structure(&mut |compact, field, inner| {
                    match (field, id, inner) {
                        (kind::I32, _, 1) => header.values = compact.number()?,
                        (kind::I32, 5 | 7, 2) | (kind::I32, 8, 4) => header.encoding = compact.number()?,
                        (kind::I32, 8, 5 | 6) => header.levels[inner as usize - 5] = compact.number()?,
                        // False by its type.
                        (2, 8, 7) => {
                            header.plain = true;
                            return Some(false);
                        }
                        _ => return Some(false),
                    }
                    Some(true)
                })?,
                _ => return Some(false),
            }
            Some(true)
        })?;
        header.length = compact.at();
        Some(header)
    }
}

impl<C: ChunkReader> Pages<C> {
    /// Looks at the next page, before anything is done with it.
    fn look(&mut self) -> Result<()> {
        while self.next.is_none() && self.at < self.end {
            let header = self.header()?;
            let Header { length, unpacked, packed, values, .. } = header;
            let (unpacked, packed, values) =
                (usize::try_from(unpacked)?, usize::try_from(packed)?, usize::try_from(values)?);
            if unpacked.max(packed) > PAGE {
                let size = mib(unpacked.max(packed));
                return Err(wrong(format!("a page of {size}, at most {} are read", mib(PAGE))));
            }
            let from = self.at + length as u64;
            if from + packed as u64 > self.end {
                return Err(wrong("a page does not end where its column does"));
            }
            if header.kind == INDEX {
                self.at = from + packed as u64;
                continue;
            }
            if header.kind == DICTIONARY && values > unpacked {
                return Err(wrong(format!("a dictionary of {values} entries in {unpacked} bytes")));
            }
            if header.encoding == DELTA_BYTE_ARRAY {
                return Err(wrong(
                    "texts in the encoding DELTA_BYTE_ARRAY are not read: few bytes can stand for any number",
                ));
            }
            self.unpacks(&header, from, packed, unpacked)?;
            self.next = Some(header);
        }
        Ok(())
    }

    fn header(&self) -> Result<Header> {
        let left = self.end - self.at;
        for most in PAGE_HEADERS {
            let mut bytes = Vec::new();
            self.chunks.get_read(self.at)?.take((most as u64).min(left)).read_to_end(&mut bytes)?;
            if let Some(header) = Header::read(&bytes) {
                return Ok(header);
            }
        }
        Err(wrong("the header of a page cannot be read"))
    }

    /// Whether a page unpacks to what it says, where its codec goes on as long as there is something.
    fn unpacks(&self, header: &Header, from: u64, packed: usize, unpacked: usize) -> Result<()> {
        let levels = header.levels.iter().map(|&bytes| usize::try_from(bytes)).sum::<Result<usize, _>>()?;
        if levels > packed.min(unpacked) {
            return Err(wrong("the levels of a page are longer than the page"));
        }
        let count = |packing: &mut dyn Read| -> Result<()> {
            let most = (unpacked - levels) as u64;
            let read = std::io::copy(&mut packing.take(most + 1), &mut std::io::sink())?;
            if read > most {
                return Err(wrong(format!("a page unpacks to more than the {unpacked} bytes that it says")));
            }
            Ok(())
        };
        if header.plain || unpacked == levels {
            return Ok(());
        }
        let bytes = || self.chunks.get_bytes(from + levels as u64, packed - levels);
        match self.codec {
            Compression::GZIP(_) => count(&mut MultiGzDecoder::new(&bytes()?[..])),
            Compression::BROTLI(_) => count(&mut brotli_decompressor::Decompressor::new(&bytes()?[..], 1 << 12)),
            Compression::LZ4 if packed > OLD_LZ4 => {
                Err(wrong(format!("a page of {packed} bytes in the old form of LZ4, at most {OLD_LZ4} are read")))
            }
            _ => Ok(()),
        }
    }

    /// Counts the values of each row in a page that was unpacked, and the lengths of its texts.
    fn count(&mut self, page: &Page) -> Result<()> {
        if page.is_dictionary_page() {
            return Ok(());
        }
        let values = u64::from(page.num_values());
        self.left = self.left.checked_sub(values).ok_or_else(|| wrong("a column has more values than it says"))?;
        let mut rest = &page.buffer()[..];
        let mut section = |length: usize| {
            let (levels, after) = rest.split_at_checked(length).ok_or_else(|| wrong("a page ends in its levels"))?;
            rest = after;
            Ok::<_, ParquetError>(levels)
        };
        let repetition = match page {
            Page::DataPageV2 { rep_levels_byte_len, def_levels_byte_len, .. } => {
                let repetition = section(*rep_levels_byte_len as usize)?;
                section(*def_levels_byte_len as usize)?;
                repetition
            }
            Page::DataPage { rep_level_encoding, def_level_encoding, .. } => {
                let mut levels = [&[][..]; 2];
                for (which, encoding) in [rep_level_encoding, def_level_encoding].into_iter().enumerate() {
                    if !self.levels[which] {
                        continue;
                    }
                    if *encoding != Encoding::RLE {
                        return Err(wrong(format!("levels in the encoding {encoding} are not read")));
                    }
                    let length = section(4)?.iter().rev().fold(0usize, |length, &byte| length << 8 | usize::from(byte));
                    levels[which] = section(length)?;
                }
                levels[0]
            }
            Page::DictionaryPage { .. } => return Ok(()),
        };
        if page.encoding() == Encoding::DELTA_LENGTH_BYTE_ARRAY {
            // Block size, blocks, and how many lengths there are.
            let mut compact = Compact::new(rest);
            let lengths = compact.varint().and_then(|_| compact.varint()).and_then(|_| compact.varint());
            if lengths.is_none_or(|lengths| lengths > values) {
                return Err(wrong("a page has more lengths than values"));
            }
        }
        if self.levels[0] {
            self.row = longest(repetition, self.width, values, self.row, self.longest)?;
        }
        Ok(())
    }
}

/// Values of the last row so far, given those that it had before these repetition levels: runs and packed bits, as in
/// `Encodings.md`, "Run Length Encoding / Bit-Packing Hybrid". A level of zero begins a row.
///
/// # Errors
/// Where a row has more than `most`.
fn longest(levels: &[u8], width: u8, mut count: u64, mut row: u64, most: u64) -> Result<u64> {
    let broken = || wrong("the repetition levels of a page cannot be read");
    let mut compact = Compact::new(levels);
    while count > 0 {
        let head = compact.varint().ok_or_else(broken)?;
        let rest = &levels[compact.at()..];
        let taken = if head & 1 == 0 {
            let (run, bytes) = ((head >> 1).min(count), usize::from(width.div_ceil(8)));
            let level = rest.get(..bytes).ok_or_else(broken)?;
            if level.iter().any(|&byte| byte != 0) {
                row = row.saturating_add(run);
            } else if run > 0 {
                row = 1;
            }
            count -= run;
            bytes
        } else {
            let bytes = (head >> 1).checked_mul(u64::from(width)).ok_or_else(broken)?;
            // The last group may be cut short.
            let bytes = usize::try_from(bytes).map_err(|_| broken())?.min(rest.len());
            let packed = (bytes as u64 * 8 / u64::from(width)).min(count);
            if packed == 0 && head >> 1 > 0 {
                return Err(broken());
            }
            for value in 0..packed as usize {
                let bit = |bit: usize| rest[bit / 8] >> (bit % 8) & 1;
                let first = value * usize::from(width);
                let zero = (first..first + usize::from(width)).all(|at| bit(at) == 0);
                row = if zero { 1 } else { row + 1 };
                if row > most {
                    break;
                }
            }
            count -= packed;
            bytes
        };
        if row > most {
            return Err(wrong(format!("a row of {}", too_many_values())));
        }
        compact = Compact::new(levels);
        compact.pass(levels.len() - rest.len() + taken).ok_or_else(broken)?;
    }
    Ok(row)
}

impl<C: ChunkReader> PageReader for Pages<C> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.look()?;
        if let Some(header) = self.next.take() {
            self.at += header.length as u64 + header.packed as u64;
            let bytes = header.unpacked.max(header.packed) as usize;
            if self.meter.fetch_add(bytes, Ordering::Relaxed) + bytes > BATCH {
                return Err(wrong(format!("some rows are longer than {} together", mib(BATCH))));
            }
        }
        let page = self.inner.get_next_page()?;
        page.iter().try_for_each(|page| self.count(page))?;
        Ok(page)
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>> {
        self.look()?;
        self.inner.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<()> {
        self.look()?;
        if let Some(header) = self.next.take() {
            self.at += header.length as u64 + header.packed as u64;
        }
        self.inner.skip_next_page()
    }
}

impl<C: ChunkReader> Iterator for Pages<C> {
    type Item = Result<Page>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}
