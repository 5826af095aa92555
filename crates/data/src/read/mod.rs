//! Files to rows, a piece at a time: what a file is, its records, and what each holds.
//!
//! ```text
//! path -- open --> a stream of bytes, unpacked -- records --> chunks of raw records -- Format::read, in parallel --> rows
//! ```
//! No reader holds more of a file than a few mebibytes, whatever its size; what a file may ask for beyond that is in `limits`.

mod array;
mod arrow;
mod columns;
mod document;
mod limits;
mod lines;
mod open;
mod parquet;
mod table;
mod thrift;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use serde_json::{Map, Value};
use temper_text::strict;

use crate::error::{DataError, RowProblem, SHOWN_PROBLEMS};
use crate::format::{Format, LOOKED_AT, unfolded};
use crate::row::{LoadedRows, Row, RowKind};

pub use open::{Expanded, expand, is_known_ending, known_endings};

/// Bytes of records that are read together.
const CHUNK: usize = 4 << 20;

/// A number as files hold it: its lowest byte first.
fn little_endian(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |number, &byte| number << 8 | u32::from(byte))
}

/// How a file is read, where its content does not tell.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ReadOptions {
    /// Its format; what is left out is told by the first rows.
    pub format: Option<Format>,
    /// Fields by the name that the format expects, each with the name that it has in the file.
    pub columns: BTreeMap<String, String>,
    /// The ending that says what it holds, as `csv`, in place of that of its name; the standard input has none of its own.
    pub ending: Option<String>,
}

/// What a file's rows are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileRows {
    /// How they are written.
    pub format: Format,
    /// What they hold.
    pub kind: RowKind,
    /// How many there are.
    pub rows: usize,
    /// Fields that are not read, each with the number of rows that have it.
    pub ignored_fields: BTreeMap<String, usize>,
}

/// A record as it lies in a file.
enum Raw {
    /// A JSON object, by its bytes.
    Json(Vec<u8>),
    /// Fields that were taken apart already.
    Fields(Map<String, Value>),
    /// What cannot be read.
    Problem(String),
}

impl Raw {
    /// Its fields.
    fn fields(self) -> Result<Map<String, Value>, String> {
        match self {
            Self::Json(bytes) => strict::object(&bytes),
            Self::Fields(fields) => Ok(fields),
            Self::Problem(problem) => Err(problem),
        }
    }
}

/// The fields of a record with its line or number, or why it has none.
type Taken = (usize, Result<Map<String, Value>, String>);

/// Records with their line or number, from 1.
type Chunk = Vec<(usize, Raw)>;

/// The records of a file, in order; an empty chunk is the end.
trait Records {
    fn next(&mut self) -> Result<Chunk, DataError>;
}

/// Reads a file and hands its rows on, some thousand at a time, in order. When a row is bad, the rows after it are only checked.
///
/// Taken are JSONL, JSON (a list of objects), CSV and TSV with a header, Parquet, Arrow (files and streams), and plain text and
/// Markdown; all but Parquet and Arrow also packed by gzip or zstd; all but Parquet and Arrow's files also from the standard input
/// (`-`) or a named pipe. A byte order mark, CRLF line ends, blank lines and a missing last newline change nothing.
///
/// # Errors
/// [`DataError`]: each with the file, and with the line where there is one; all bad rows at once; and what `each` returns.
pub fn read_rows<E: From<DataError>>(
    path: &Path,
    options: &ReadOptions,
    each: &mut dyn FnMut(Vec<Row>) -> Result<(), E>,
) -> Result<FileRows, E> {
    let records = open::records(path, options.ending.as_deref())?;
    read_records(path, records, options, each)
}

/// Reads all rows of a file.
///
/// # Errors
/// As [`read_rows`].
pub fn load_rows(path: impl AsRef<Path>, options: &ReadOptions) -> Result<LoadedRows, DataError> {
    let path = path.as_ref();
    collect(path, open::records(path, options.ending.as_deref())?, options)
}

/// As [`load_rows`], of a content that is in memory already; `path` is what errors name, and its ending tells what the content
/// is.
///
/// # Errors
/// As [`load_rows`], but for those of opening.
pub fn parse_rows(path: &Path, bytes: &[u8], options: &ReadOptions) -> Result<LoadedRows, DataError> {
    collect(path, open::records_of(path, bytes.to_vec(), options.ending.as_deref())?, options)
}

/// Hands on every record of a file as it lies there, with its line or number, in order.
pub(crate) fn records_of_file(
    path: &Path,
    each: &mut dyn FnMut(usize, Result<Map<String, Value>, String>),
) -> Result<(), DataError> {
    let mut records = open::records(path, None)?;
    loop {
        let chunk = records.next()?;
        if chunk.is_empty() {
            return Ok(());
        }
        for (line, raw) in chunk {
            each(line, raw.fields());
        }
    }
}

fn collect(path: &Path, records: Box<dyn Records + '_>, options: &ReadOptions) -> Result<LoadedRows, DataError> {
    let mut rows = Vec::new();
    let FileRows { format, kind, ignored_fields, .. } = read_records(path, records, options, &mut |more| {
        rows.extend(more);
        Ok::<_, DataError>(())
    })?;
    Ok(LoadedRows { path: path.to_owned(), format, kind, rows, ignored_fields })
}

fn read_records<E: From<DataError>>(
    path: &Path,
    mut records: Box<dyn Records + '_>,
    options: &ReadOptions,
    each: &mut dyn FnMut(Vec<Row>) -> Result<(), E>,
) -> Result<FileRows, E> {
    let mut found = Found { path, options, format: options.format, first: None, ignored: BTreeMap::new(), rows: 0 };
    let mut problems = Problems::default();
    loop {
        let chunk = limits::caught(|| records.next()).unwrap_or_else(|problem| {
            Err(unreadable(path, problem, "the file is damaged: write it anew, or as JSONL"))
        })?;
        if chunk.is_empty() {
            break;
        }
        let rows = found.rows_of(chunk, &mut problems)?;
        if problems.total == 0 {
            each(rows)?;
        }
    }
    if problems.total > 0 {
        let Problems { first, total } = problems;
        return Err(DataError::BadRows { path: path.to_owned(), problems: first, total }.into());
    }
    match (found.format, found.first) {
        (Some(format), Some((_, kind))) => {
            Ok(FileRows { format, kind, rows: found.rows, ignored_fields: found.ignored })
        }
        _ => Err(DataError::Empty { path: path.to_owned() }.into()),
    }
}

/// Bad rows: all counted, the first kept.
#[derive(Default)]
struct Problems {
    first: Vec<RowProblem>,
    total: usize,
}

impl Problems {
    fn add(&mut self, line: usize, message: String) {
        self.total += 1;
        if self.first.len() < SHOWN_PROBLEMS {
            self.first.push(RowProblem { line, message });
        }
    }
}

/// What is known of a file so far.
struct Found<'a> {
    path: &'a Path,
    options: &'a ReadOptions,
    format: Option<Format>,
    /// Line and kind of the first row.
    first: Option<(usize, RowKind)>,
    ignored: BTreeMap<String, usize>,
    rows: usize,
}

impl Found<'_> {
    fn rows_of(&mut self, chunk: Chunk, problems: &mut Problems) -> Result<Vec<Row>, DataError> {
        let columns = &self.options.columns;
        let fields: Vec<Taken> = chunk
            .into_par_iter()
            .map(|(line, raw)| {
                let fields = raw.fields();
                (line, fields.and_then(|fields| renamed(fields, columns)).and_then(unfolded))
            })
            .collect();
        if self.format.is_none() {
            self.format = self.told_by(&fields)?;
        }
        let Some(format) = self.format else {
            // No row could tell: each says why.
            for (line, fields) in fields {
                let problem = fields.and_then(|fields| Format::of(&fields)).err();
                problems.add(line, problem.unwrap_or_default());
            }
            return Ok(Vec::new());
        };
        let read: Vec<_> = fields
            .into_par_iter()
            .map(|(line, fields)| {
                let mut ignored = BTreeMap::new();
                (line, fields.and_then(|fields| format.read(line, fields, &mut ignored)), ignored)
            })
            .collect();
        let mut rows = Vec::with_capacity(read.len());
        for (line, row, ignored) in read {
            let row = match row {
                Ok(row) => row,
                Err(problem) => {
                    problems.add(line, problem);
                    continue;
                }
            };
            let kind = row.content.kind();
            let (first_line, first_kind) = *self.first.get_or_insert((line, kind));
            if kind != first_kind {
                problems.add(line, format!("a row of {kind}, expected {first_kind} as in line {first_line}"));
                continue;
            }
            for (field, count) in ignored {
                *self.ignored.entry(field).or_insert(0) += count;
            }
            rows.push(row);
        }
        self.rows += rows.len();
        Ok(rows)
    }

    /// The format of the first rows, which must agree.
    fn told_by(&self, rows: &[Taken]) -> Result<Option<Format>, DataError> {
        let mut told: Option<(usize, Format)> = None;
        for (line, fields) in rows.iter().take(LOOKED_AT) {
            let Some(format) = fields.as_ref().ok().and_then(|fields| Format::of(fields).ok()) else { continue };
            match told {
                Some((first_line, first_format)) if first_format != format => {
                    let (path, line) = (self.path.to_owned(), *line);
                    return Err(DataError::MixedFormats { path, first_line, first_format, line, format });
                }
                Some(_) => {}
                None => told = Some((*line, format)),
            }
        }
        Ok(told.map(|(_, format)| format))
    }
}

/// The fields under the names that the format expects.
fn renamed(mut fields: Map<String, Value>, columns: &BTreeMap<String, String>) -> Result<Map<String, Value>, String> {
    for (expected, given) in columns.iter().filter(|(expected, given)| expected != given) {
        let value =
            fields.shift_remove(given).ok_or_else(|| format!("field `{given}` is missing, which `columns` names"))?;
        if fields.insert(expected.clone(), value).is_some() {
            return Err(format!("field `{expected}` is there, and `columns` says that `{given}` is meant"));
        }
    }
    Ok(fields)
}

/// A file that is not what its name says.
fn unreadable(path: &Path, problem: impl ToString, hint: &str) -> DataError {
    DataError::Unreadable { path: path.to_owned(), problem: problem.to_string(), hint: hint.to_owned() }
}

fn cannot_read(path: &Path) -> impl Fn(std::io::Error) -> DataError {
    let path: PathBuf = path.to_owned();
    move |source| DataError::Read { path: path.clone(), source }
}
