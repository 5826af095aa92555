//! Files that claim, or unpack to, far more than they are: each is read in a process that may take little memory, and ends in
//! rows or in an error that names the file, never in a panic, an abort or a hang. The caps are in `docs/data.md`.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking, its helpers too")]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray};
use arrow_ipc::writer::{IpcWriteOptions, StreamWriter};
use arrow_ipc::{CompressionType, MetadataVersion};
use arrow_schema::{DataType, Field, Schema};
use parquet::arrow::ArrowWriter;
use parquet::basic::Encoding;
use parquet::file::properties::WriterProperties;
use temper_data::{DataError, ReadOptions, read_rows};

/// What a process may take in all: its program and threads, and less than 1 GiB for the file.
const ADDRESS_SPACE_MIB: usize = 1280;
/// The most that it may hold at a time.
const PEAK_MIB: usize = 1024;

/// Run by the tests below, each time in a process of its own: reads the file that `TEMPER_READ` names. By itself it reads a
/// table that is none of these.
#[test]
fn read_one_file() {
    let named = std::env::var_os("TEMPER_READ").map(PathBuf::from);
    let path = named.clone().unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables/chat.parquet"));
    let mut rows = 0;
    let read = read_rows(&path, &ReadOptions::default(), &mut |more| {
        rows += more.len();
        Ok::<_, DataError>(())
    });
    assert!(named.is_some() || rows == 3, "{rows} rows");
    match read {
        Ok(file) => println!("\nRESULT rows {rows} of {}", file.rows),
        Err(error) => println!("\nRESULT error {}", error.to_string().replace('\n', " ")),
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or("VmHWM: 0 kB");
    println!("PEAK {}", peak.split_whitespace().nth(1).unwrap());
}

/// What became of a file.
fn read(name: &str, bytes: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    let start = Instant::now();
    let limited = format!("ulimit -v {}; exec \"$0\" \"$@\"", ADDRESS_SPACE_MIB << 10);
    let output = Command::new("sh")
        .args(["-c", &limited])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "read_one_file", "--nocapture"])
        .env("TEMPER_READ", &path)
        .env("RAYON_NUM_THREADS", "2")
        .output()
        .unwrap();
    let (said, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let line = |mark: &str| said.lines().find_map(|line| line.strip_prefix(mark)).map(str::to_owned);
    let result = line("RESULT ").unwrap_or_else(|| panic!("{name}: no result\n{said}\n{errors}"));
    let peak = line("PEAK ").unwrap().parse::<usize>().unwrap() >> 10;
    assert!(peak < PEAK_MIB, "{name}: {peak} MiB at its peak: {result}");
    assert!(start.elapsed() < Duration::from_secs(120), "{name}: {:?}", start.elapsed());
    result
}

/// Expects an error that names the file and holds every piece.
fn refused(name: &str, bytes: &[u8], pieces: &[&str]) {
    let result = read(name, bytes);
    assert!(result.starts_with("error ") && result.contains(name), "{name}: {result}");
    for piece in pieces {
        assert!(result.contains(piece), "`{piece}` is not in: {result}");
    }
}

fn zstd(pieces: impl IntoIterator<Item = Vec<u8>>) -> Vec<u8> {
    let mut packed = zstd::Encoder::new(Vec::new(), 1).unwrap();
    pieces.into_iter().for_each(|piece| packed.write_all(&piece).unwrap());
    packed.finish().unwrap()
}

/// So many mebibytes of one letter, between `before` and `after`.
fn long(before: &str, mib: usize, after: &str) -> impl Iterator<Item = Vec<u8>> {
    let letters = std::iter::repeat_n(vec![b'a'; 1 << 20], mib);
    let (before, after) = (before.as_bytes().to_vec(), after.as_bytes().to_vec());
    std::iter::once(before).chain(letters).chain(std::iter::once(after))
}

#[test]
fn a_line_that_does_not_end_is_given_up() {
    let endless = zstd(long("{\"text\": \"", 1100, ""));
    refused("rows.jsonl.zst", &endless, &["line 1: it does not end within 1024 MiB", "a row of JSONL is a line"]);
    refused("rows.json.zst", &endless, &["line 1: an object does not end within 1024 MiB"]);
    // One that ends is a bad row, and the rows after it are looked at.
    let long = zstd(long("{\"text\": \"", 300, "\"}\n{\"text\": 1}\n"));
    refused("rows.jsonl.zst", &long, &[":1: longer than 64 MiB", ":2: ", "2 bad rows"]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(b'a'), 200 << 20), &mut packed).unwrap();
    refused("rows.jsonl.gz", &packed.finish().unwrap(), &[":1: longer than 64 MiB"]);
    // Under no name at all.
    refused("rows", &endless, &["does not end within"]);
}

#[test]
fn a_row_of_millions_of_values_is_refused() {
    let row = format!("{{\"text\": \"a\", \"more\": [{}1]}}", "1,".repeat(3 << 20));
    refused("rows.jsonl", row.as_bytes(), &["rows.jsonl:1: ", "more than 1048576 values"]);
    refused("rows.json", format!("[{row}]").as_bytes(), &["more than 1048576 values"]);
    let row = format!("{{\"text\": \"a\", \"more\": {}1{}}}", "[".repeat(1 << 20), "]".repeat(1 << 20));
    refused("rows.jsonl", row.as_bytes(), &["recursion limit exceeded"]);
}

#[test]
fn a_quote_that_is_not_closed_does_not_take_the_file_into_memory() {
    refused(
        "rows.csv.zst",
        &zstd(long("text\nfirst\n\"", 900, "")),
        &["line 3: a record of more than 64 MiB", "quote"],
    );
    refused("rows.csv.zst", &zstd(long("text,\"", 900, "")), &["line 1: a record of more than 1 MiB"]);
    let names: Vec<String> = (0..60_000).map(|n| n.to_string()).collect();
    refused("rows.csv", (names.join(",") + "\n").as_bytes(), &["60000 columns, at most 10000 are read"]);
    // A record of nothing but commas.
    let commas = std::iter::once(b"text\n".to_vec()).chain(std::iter::repeat_n(vec![b','; 1 << 20], 60));
    refused("rows.csv.zst", &zstd(commas), &[":2: ", "cells, expected 1"]);
}

#[test]
fn a_packed_file_with_a_window_of_gigabytes_is_refused() {
    // A frame without content: no single segment, a window of 2^31 bytes, one empty last block (RFC 8878, section 3.1).
    let frame = [0x28, 0xB5, 0x2F, 0xFD, 0x00, 21 << 3, 0x01, 0x00, 0x00];
    refused("rows.jsonl.zst", &frame, &["zstd does not unpack", "128 MiB"]);
    refused("rows.jsonl.gz", &[0x1F, 0x8B, 8, 0, 0, 0, 0, 0, 0, 3, 7, 7, 7, 7], &["gzip does not unpack"]);
}

#[test]
fn a_document_longer_than_a_row_may_be_is_refused() {
    refused("book.txt.zst", &zstd(long("", 600, "")), &["longer than 64 MiB, and a file of text is one document"]);
    assert_eq!(read("book.txt.zst", &zstd(long("", 64, ""))), "rows 1 of 1");
}

/// Thrift's compact protocol, as far as Parquet needs it.
#[derive(Default)]
struct Thrift {
    bytes: Vec<u8>,
    before: u8,
}

impl Thrift {
    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    fn head(&mut self, id: u8, kind: u8) {
        self.bytes.push((id - self.before) << 4 | kind);
        self.before = id;
    }

    fn zigzag(&mut self, value: i64) {
        self.varint((value << 1 ^ value >> 63) as u64);
    }

    fn int(mut self, id: u8, value: i64) -> Self {
        self.head(id, 5);
        self.zigzag(value);
        self
    }

    fn long(mut self, id: u8, value: i64) -> Self {
        self.head(id, 6);
        self.zigzag(value);
        self
    }

    fn text(mut self, id: u8, text: &str) -> Self {
        self.head(id, 8);
        self.varint(text.len() as u64);
        self.bytes.extend(text.bytes());
        self
    }

    fn structure(mut self, id: u8, inner: Thrift) -> Self {
        self.head(id, 12);
        self.bytes.extend(inner.end());
        self
    }

    fn list(mut self, id: u8, kind: u8, items: &[Vec<u8>]) -> Self {
        self.head(id, 9);
        self.bytes.push(0xF0 | kind);
        self.varint(items.len() as u64);
        items.iter().for_each(|item| self.bytes.extend(item));
        self
    }

    fn end(mut self) -> Vec<u8> {
        self.bytes.push(0);
        self.bytes
    }
}

const UNCOMPRESSED: i64 = 0;
const GZIP: i64 = 2;
const BROTLI: i64 = 4;
const ZSTD: i64 = 6;
const PLAIN: i64 = 0;
const DELTA_LENGTH: i64 = 6;
const DELTA_TEXTS: i64 = 7;
const RLE_DICTIONARY: i64 = 8;

fn data_page(values: i64, encoding: i64, unpacked: i64, packed: &[u8]) -> Vec<u8> {
    let inner = Thrift::default().int(1, values).int(2, encoding).int(3, 3).int(4, 3);
    let header = Thrift::default().int(1, 0).int(2, unpacked).int(3, packed.len() as i64).structure(5, inner);
    [header.end(), packed.to_vec()].concat()
}

fn dictionary_page(values: i64, unpacked: i64, packed: &[u8]) -> Vec<u8> {
    let inner = Thrift::default().int(1, values).int(2, PLAIN);
    let header = Thrift::default().int(1, 2).int(2, unpacked).int(3, packed.len() as i64).structure(7, inner);
    [header.end(), packed.to_vec()].concat()
}

/// An element of a schema: text, required, where it has no children.
fn element(name: &str, children: i64, repetition: i64) -> Vec<u8> {
    let element = Thrift::default();
    let element = if children == 0 { element.int(1, 6) } else { element };
    let element = element.int(3, repetition).text(4, name);
    let element = if children > 0 { element.int(5, children) } else { element.int(6, 0) };
    element.end()
}

/// A file of one column in one row group.
fn parquet_of(schema: &[Vec<u8>], path: &[&str], codec: i64, rows: i64, values: i64, pages: &[Vec<u8>]) -> Vec<u8> {
    let body = pages.concat();
    let name = |name: &&str| {
        let mut text = Thrift::default();
        text.varint(name.len() as u64);
        [text.bytes, name.as_bytes().to_vec()].concat()
    };
    let dictionary = pages.first().is_some_and(|page| page[1] == 4);
    let column = Thrift::default()
        .int(1, 6)
        .list(2, 5, &[vec![0]])
        .list(3, 8, &path.iter().map(name).collect::<Vec<_>>())
        .int(4, codec)
        .long(5, values)
        .long(6, body.len() as i64)
        .long(7, body.len() as i64);
    let column = column.long(9, 4);
    let column = if dictionary { column.long(11, 4) } else { column };
    let chunk = Thrift::default().long(2, 4).structure(3, column).end();
    let group = Thrift::default().list(1, 12, &[chunk]).long(2, body.len() as i64).long(3, rows).end();
    let footer = Thrift::default().int(1, 2).list(2, 12, schema).long(3, rows).list(4, 12, &[group]).end();
    let length = (footer.len() as u32).to_le_bytes().to_vec();
    [b"PAR1".to_vec(), body, footer, length, b"PAR1".to_vec()].concat()
}

/// Of rows with a column `text`.
fn texts(codec: i64, rows: i64, pages: &[Vec<u8>]) -> Vec<u8> {
    parquet_of(&[element("schema", 1, 0), element("text", 0, 0)], &["text"], codec, rows, rows, pages)
}

fn plain(texts: &[&str]) -> Vec<u8> {
    texts.iter().flat_map(|text| [&(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()).collect()
}

/// A run of one value, of so many bits.
fn run(count: u64, value: u8, bits: u8) -> Vec<u8> {
    let mut run = Thrift::default();
    run.varint(count << 1);
    run.bytes.extend(if bits == 0 { vec![] } else { vec![value] });
    run.bytes
}

#[test]
fn a_page_of_parquet_is_held_against_what_it_says() {
    let values = plain(&["one", "two", "three"]);
    // What is made here is read, so that what is refused below is refused for its lie.
    let page = data_page(3, PLAIN, values.len() as i64, &values);
    assert_eq!(read("rows.parquet", &texts(UNCOMPRESSED, 3, std::slice::from_ref(&page))), "rows 3 of 3");

    let lies = data_page(3, PLAIN, i64::from(i32::MAX), &zstd([values.clone()]));
    refused("rows.parquet", &texts(ZSTD, 3, &[lies]), &["after row 0", "a page of 2047 MiB, at most 128 MiB are read"]);
    let lies = dictionary_page(i64::from(i32::MAX), values.len() as i64, &values);
    refused("rows.parquet", &texts(UNCOMPRESSED, 3, &[lies, page.clone()]), &["2147483647 entries in 23 bytes"]);
    // Gzip and brotli unpack as long as there is something.
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    std::io::copy(&mut std::io::Read::take(std::io::repeat(0), 1500 << 20), &mut packed).unwrap();
    let bomb = data_page(3, PLAIN, 1000, &packed.finish().unwrap());
    refused("rows.parquet", &texts(GZIP, 3, &[bomb]), &["unpacks to more than the 1000 bytes that it says"]);
    let bomb = data_page(3, PLAIN, 1000, &[0x8B, 0x02, 0x80, 0x03]);
    refused("rows.parquet", &texts(BROTLI, 3, &[bomb]), &["rows.parquet"]);
    // Of the others a page that is longer than it says is an error of its own.
    let bomb = data_page(3, PLAIN, 1000, &zstd(long("", 900, "")));
    refused("rows.parquet", &texts(ZSTD, 3, &[bomb]), &["after row 0"]);
    // 2^40 lengths of texts.
    let mut lengths = Thrift::default();
    [128, 4, 1 << 40, 0].into_iter().for_each(|number| lengths.varint(number));
    let lies = data_page(3, DELTA_LENGTH, lengths.bytes.len() as i64, &lengths.bytes);
    refused("rows.parquet", &texts(UNCOMPRESSED, 3, &[lies]), &["a page has more lengths than values"]);
    // More values in pages than the column has.
    refused("rows.parquet", &texts(UNCOMPRESSED, 3, &[page.clone(), page]), &["rows.parquet"]);
}

#[test]
fn texts_of_a_dictionary_are_shared_and_not_copied() {
    // 64 rows that show one text of 48 MiB: 3 GiB of rows in a file of some kilobytes.
    let text = [&(48u32 << 20).to_le_bytes()[..], &vec![b'a'; 48 << 20]].concat();
    let (length, packed) = (text.len() as i64, zstd([text]));
    let indices = [vec![1], run(64, 0, 1)].concat();
    let pages =
        [dictionary_page(1, length, &packed), data_page(64, RLE_DICTIONARY, indices.len() as i64, &zstd([indices]))];
    assert_eq!(read("rows.parquet", &texts(ZSTD, 64, &pages)), "rows 64 of 64");
    // A text that is longer than a row may be.
    let text = [&(70u32 << 20).to_le_bytes()[..], &vec![b'a'; 70 << 20]].concat();
    let page = data_page(1, PLAIN, text.len() as i64, &zstd([text]));
    refused("rows.parquet", &texts(ZSTD, 1, &[page]), &["rows.parquet:1: column `text`: longer than 64 MiB"]);

    let keys = Int32Array::from(vec![0; 40]);
    let value: ArrayRef = Arc::new(StringArray::from(vec!["a".repeat(48 << 20)]));
    let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, value).unwrap());
    let bytes = stream(&[("text", column)], Some(CompressionType::ZSTD));
    assert_eq!(read("rows.arrow", &bytes), "rows 40 of 40");
}

#[test]
fn a_row_of_a_list_without_end_is_refused() {
    // One row of 2^30 texts: repetition levels 0, then 1; all defined; all the same entry of the dictionary.
    let count = 1u64 << 30;
    let section = |levels: Vec<u8>| [(levels.len() as u32).to_le_bytes().to_vec(), levels].concat();
    let levels = section([run(1, 0, 1), run(count - 1, 1, 1)].concat());
    let body = [levels, section(run(count, 1, 1)), vec![1], run(count, 0, 1)].concat();
    let pages =
        [dictionary_page(1, 5, &plain(&["a"])), data_page(count as i64, RLE_DICTIONARY, body.len() as i64, &body)];
    let schema = [element("schema", 1, 0), element("text", 0, 2)];
    let bytes = parquet_of(&schema, &["text"], UNCOMPRESSED, 1, count as i64, &pages);
    refused("rows.parquet", &bytes, &["after row 0: ", "a row of more than 1048576 values"]);
    // The same row in many pages.
    let count = 400_000u64;
    let of = |first: bool| {
        let repetition = if first { [run(1, 0, 1), run(count - 1, 1, 1)].concat() } else { run(count, 1, 1) };
        let body = [section(repetition), section(run(count, 1, 1)), vec![1], run(count, 0, 1)].concat();
        data_page(count as i64, RLE_DICTIONARY, body.len() as i64, &body)
    };
    let mut pages = vec![dictionary_page(1, 5, &plain(&["a"])), of(true)];
    pages.extend((0..200).map(|_| of(false)));
    let bytes = parquet_of(&schema, &["text"], UNCOMPRESSED, 1, count as i64 * 201, &pages);
    refused("rows.parquet", &bytes, &["a row of more than 1048576 values"]);
}

#[test]
fn what_describes_a_table_is_looked_at_first() {
    let mut bytes = texts(UNCOMPRESSED, 0, &[]);
    let at = bytes.len() - 8;
    bytes[at..at + 4].copy_from_slice(&0xFFFF_FFF0u32.to_le_bytes());
    refused("rows.parquet", &bytes, &["its metadata has 4095 MiB, at most 8 MiB are read"]);
    // Groups in groups: the reader calls itself for each.
    let mut schema = vec![element("schema", 1, 0)];
    schema.extend((0..200_000).map(|_| element("g", 1, 0)));
    schema.push(element("text", 0, 0));
    let bytes = parquet_of(&schema, &["text"], UNCOMPRESSED, 0, 0, &[]);
    refused("rows.parquet", &bytes, &["its schema is deeper than 64"]);
    let mut schema = vec![element("schema", 30_000, 0)];
    schema.extend((0..30_000).map(|n| element(&n.to_string(), 0, 0)));
    let bytes = parquet_of(&schema, &["0"], UNCOMPRESSED, 0, 0, &[]);
    refused("rows.parquet", &bytes, &["more than 10000 columns"]);
    refused("rows.parquet", b"PAR1", &["it seems to be cut off"]);
    refused("rows.parquet", b"PAR1\0\0\0\0PARE", &["it is encrypted"]);
    refused("rows.feather", b"ARROW1\0\0\xFF\xFF\xFF\x7FARROW1", &["its footer has 2047 MiB"]);
}

/// A number of `DELTA_BINARY_PACKED`, so many times: blocks of 128 in one group, all differences zero.
fn repeated(number: i64, count: u64) -> Vec<u8> {
    let mut bytes = Thrift::default();
    [128, 1, count].into_iter().for_each(|number| bytes.varint(number));
    bytes.zigzag(number);
    let mut bytes = bytes.bytes;
    // The least difference, and the bits of what is beyond it.
    bytes.extend(std::iter::repeat_n([0, 0], (count.saturating_sub(1)).div_ceil(128) as usize).flatten());
    bytes
}

/// They were refused by name, as few bytes of them stand for any number of texts.
#[test]
fn texts_that_leave_out_what_they_share_are_read_as_long_as_they_are_few() {
    let numbers: Vec<String> = (0..5000).map(|n| format!("text of number {}", n * n)).collect();
    let column: ArrayRef = Arc::new(StringArray::from(numbers.clone()));
    let batch = RecordBatch::try_from_iter([("text", column)]).unwrap();
    for encoding in [Encoding::DELTA_BYTE_ARRAY, Encoding::DELTA_LENGTH_BYTE_ARRAY] {
        let properties = WriterProperties::builder().set_dictionary_enabled(false).set_encoding(encoding);
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties.build())).unwrap();
        writer.write(&batch).unwrap();
        let bytes = writer.into_inner().unwrap();
        let loaded = temper_data::parse_rows(Path::new("rows.parquet"), &bytes, &ReadOptions::default()).unwrap();
        let read: Vec<_> = loaded.rows.into_iter().map(|row| row.content).collect();
        let expected: Vec<_> = numbers.iter().cloned().map(temper_data::RowContent::Text).collect();
        assert!(read == expected, "{encoding}");
    }
    // A text of a mebibyte, and a million that are the same.
    let page = |count: u64, prefix: &[u8], suffix: &[u8], rest: &[u8]| {
        let body = [prefix, suffix, rest].concat();
        let length = body.len() as i64;
        texts(ZSTD, count as i64, &[data_page(count as i64, DELTA_TEXTS, length, &zstd([body]))])
    };
    let mut first = Thrift::default();
    [128, 1, 2].into_iter().for_each(|number| first.varint(number));
    first.zigzag(0);
    first.zigzag(1 << 20);
    first.bytes.push(0);
    let twice = page(
        2,
        &first.bytes,
        &{
            let mut suffix = Thrift::default();
            [128, 1, 2].into_iter().for_each(|number| suffix.varint(number));
            suffix.zigzag(1 << 20);
            suffix.zigzag(-(1 << 20));
            suffix.bytes.push(0);
            suffix.bytes
        },
        &vec![b'a'; 1 << 20],
    );
    assert_eq!(read("rows.parquet", &twice), "rows 2 of 2");
    let bomb = page(1 << 20, &repeated(1 << 20, 1 << 20), &repeated(0, 1 << 20), &[]);
    refused("rows.parquet", &bomb, &["a page with texts of 1048576 MiB, at most 128 MiB are read"]);
    let negative = page(3, &repeated(-1, 3), &repeated(1, 3), b"abc");
    refused("rows.parquet", &negative, &["the lengths of a page's texts cannot be read"]);
    // The lengths of two thousand million empty texts, in one group.
    let count = i32::MAX as u64;
    let mut lengths = Thrift::default();
    [1 << 31, 1, count, 0].into_iter().for_each(|number| lengths.varint(number));
    lengths.bytes.extend([0, 0]);
    for encoding in [DELTA_LENGTH, DELTA_TEXTS] {
        let body = [&lengths.bytes[..], &lengths.bytes].concat();
        let lies = data_page(count as i64, encoding, body.len() as i64, &body);
        refused("rows.parquet", &texts(UNCOMPRESSED, count as i64, &[lies]), &["a page of 2147483647 texts"]);
    }
}

fn stream(columns: &[(&str, ArrayRef)], packing: Option<CompressionType>) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns.iter().cloned()).unwrap();
    let options =
        IpcWriteOptions::try_new(8, false, MetadataVersion::V5).unwrap().try_with_compression(packing).unwrap();
    let mut writer = StreamWriter::try_new_with_options(Vec::new(), &batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.into_inner().unwrap()
}

/// The bytes with the one place that holds `number` holding `lie`.
fn lying(bytes: &[u8], number: i64, lie: i64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let places: Vec<usize> =
        bytes.windows(8).enumerate().filter(|(_, window)| *window == number.to_le_bytes()).map(|(at, _)| at).collect();
    assert!(!places.is_empty(), "{number} is nowhere");
    for at in places {
        bytes[at..at + 8].copy_from_slice(&lie.to_le_bytes());
    }
    bytes
}

#[test]
fn a_message_of_arrow_is_held_against_what_is_there() {
    let rows = 1237;
    let column: ArrayRef = Arc::new(StringArray::from(vec!["x".repeat(101); rows]));
    let whole = stream(&[("text", column.clone())], None);
    assert_eq!(read("rows.arrow", &whole), format!("rows {rows} of {rows}"));

    let mut lies = whole.clone();
    lies[4..8].copy_from_slice(&i32::MAX.to_le_bytes());
    refused("rows.arrow", &lies, &["a message is described by 2047 MiB, at most 8 MiB are read"]);
    // The body's length: offsets and texts, each padded to eight bytes.
    let padded = |length: usize| length.div_ceil(8) * 8;
    let body = (padded(4 * (rows + 1)) + padded(101 * rows)) as i64;
    refused("rows.arrow", &lying(&whole, body, 1 << 40), &["a message of 1048576 MiB, at most 512 MiB are read"]);
    refused("rows.arrow", &lying(&whole, body, 1 << 28), &["it seems to be cut off"]);
    refused("rows.arrow", &lying(&whole, rows as i64, 1 << 50), &["rows.arrow"]);
    let packed = stream(&[("text", column)], Some(CompressionType::ZSTD));
    let lies = lying(&packed, 101 * rows as i64, 1 << 40);
    refused("rows.arrow", &lies, &["a message that unpacks to 1048576 MiB"]);
    refused("rows.arrow", &whole[..whole.len() / 2], &["it seems to be cut off"]);
    // A name of two columns would lose one.
    let same: ArrayRef = Arc::new(StringArray::from(vec!["a"]));
    let schema =
        Schema::new(vec![Field::new("text", DataType::Utf8, false), Field::new("text", DataType::Utf8, false)]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![same.clone(), same]).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    writer.write(&batch).unwrap();
    refused("rows.arrow", &writer.into_inner().unwrap(), &["rows.arrow:1: two columns are named `text`"]);
}

/// Each cell of a column with a dictionary cost a look at all of the batch.
#[test]
fn a_batch_of_many_rows_with_a_dictionary_is_read_in_linear_time() {
    let rows = 300_000;
    let keys = Int32Array::from((0..rows).map(|row| row % 7).collect::<Vec<i32>>());
    let values: ArrayRef = Arc::new(StringArray::from((0..7).map(|n| format!("text {n}")).collect::<Vec<_>>()));
    let column: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).unwrap());
    assert_eq!(read("rows.arrow", &stream(&[("text", column)], None)), format!("rows {rows} of {rows}"));
}

/// Whatever bytes of a table are changed, it is read or refused.
#[test]
fn damaged_tables_are_refused_and_never_panic() {
    let tables = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/tables");
    let random = temper_run::Random::new(7, "damage");
    let mut tried = 0;
    for name in ["chat.parquet", "chat-zstd.parquet", "chat.feather", "chat-stream.arrow"] {
        let whole = std::fs::read(tables.join(name)).unwrap();
        for attempt in 0..400u64 {
            let mut bytes = whole.clone();
            for change in 0..=attempt % 3 {
                let at = random.bits(attempt * 8 + change) as usize % bytes.len();
                bytes[at] = (random.bits((1 << 20) | (attempt * 8 + change)) >> 40) as u8;
            }
            if attempt % 5 == 0 {
                bytes.truncate(random.bits(1 << 21 | attempt) as usize % bytes.len());
            }
            // An error or rows: what panics in a reader is an error, what aborts ends this test.
            match temper_data::parse_rows(Path::new(name), &bytes, &ReadOptions::default()) {
                Ok(loaded) => assert!(!loaded.rows.is_empty()),
                Err(error) => assert!(error.to_string().contains(name), "{error}"),
            }
            tried += 1;
        }
    }
    assert_eq!(tried, 1600);
}
