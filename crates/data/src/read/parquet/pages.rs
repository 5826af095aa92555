//! The pages of a column, each looked at before it is unpacked and read: its header first, then its levels.

use std::io::Read;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use flate2::read::MultiGzDecoder;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{Page, PageMetadata, PageReader};
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::reader::ChunkReader;
use parquet::file::serialized_reader::SerializedPageReader;
use temper_text::strict::too_many_values;

use super::{delta, wrong};
use crate::read::limits::{BATCH, PAGE, mib};
use crate::read::little_endian;
use crate::read::thrift::{Compact, kind};

/// Bytes of a page's header: first as many as most have, then as many as any may have.
const PAGE_HEADERS: [usize; 2] = [1 << 12, 1 << 20];
/// Of the codec LZ4 that LZ4_RAW replaced, a page unpacks to up to 255 times its bytes, whatever it says.
const OLD_LZ4: usize = 2 << 20;

/// The pages of a column in a row group.
pub(super) struct Pages<C: ChunkReader> {
    inner: SerializedPageReader<C>,
    chunks: Arc<C>,
    /// Bytes of pages that were read for this batch, of all columns.
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
    /// Of the second version: bytes of levels, which are not packed, and whether the values are.
    levels: [i64; 2],
    plain: bool,
}

/// Kinds of page by their numbers in `parquet.thrift`.
const INDEX: i64 = 1;
const DICTIONARY: i64 = 2;

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
                        (kind::I32, 8, 5 | 6) => header.levels[inner as usize - 5] = compact.number()?,
                        (kind::FALSE, 8, 7) => {
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
    /// Those of a column of so many rows, of which none may have more than `longest` values.
    pub(super) fn of(
        chunks: Arc<C>,
        column: &ColumnChunkMetaData,
        rows: usize,
        meter: Arc<AtomicUsize>,
        longest: u64,
    ) -> Result<Self> {
        let ((start, length), descriptor) = (column.byte_range(), column.column_descr());
        Ok(Self {
            inner: SerializedPageReader::new(chunks.clone(), column, rows, None)?,
            chunks,
            meter,
            codec: column.compression(),
            at: start,
            end: start.checked_add(length).ok_or_else(|| wrong("a column lies outside of the file"))?,
            next: None,
            left: u64::try_from(column.num_values())?,
            levels: [descriptor.max_rep_level(), descriptor.max_def_level()].map(|most| most > 0),
            width: (16 - descriptor.max_rep_level().leading_zeros()) as u8,
            row: 0,
            longest,
        })
    }

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
            self.unpacks(&header, from, packed, unpacked)?;
            self.next = Some(header);
        }
        Ok(())
    }

    /// Counts bytes that are read for this batch.
    fn meter(&self, bytes: usize) -> Result<()> {
        if self.meter.fetch_add(bytes, Ordering::Relaxed) + bytes > BATCH {
            return Err(wrong(format!("some rows are longer than {} together", mib(BATCH))));
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
                    let length = little_endian(section(4)?) as usize;
                    levels[which] = section(length)?;
                }
                levels[0]
            }
            Page::DictionaryPage { .. } => return Ok(()),
        };
        if matches!(page.encoding(), Encoding::DELTA_LENGTH_BYTE_ARRAY | Encoding::DELTA_BYTE_ARRAY) {
            let texts = delta::bytes(rest, values, page.encoding() == Encoding::DELTA_BYTE_ARRAY).map_err(wrong)?;
            if texts > PAGE as u64 {
                return Err(wrong(format!(
                    "a page with texts of {}, at most {} are read",
                    mib(texts as usize),
                    mib(PAGE)
                )));
            }
            self.meter(texts as usize)?;
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
        compact.pass(taken).ok_or_else(broken)?;
    }
    Ok(row)
}

impl<C: ChunkReader> PageReader for Pages<C> {
    fn get_next_page(&mut self) -> Result<Option<Page>> {
        self.look()?;
        if let Some(header) = self.next.take() {
            self.at += header.length as u64 + header.packed as u64;
            self.meter(header.unpacked.max(header.packed) as usize)?;
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
