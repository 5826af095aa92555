//! CSV and TSV with a header.

use std::cell::Cell;
use std::collections::HashSet;
use std::io::{Error, Read};
use std::path::Path;
use std::rc::Rc;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use serde_json::Map;

use super::limits::{COLUMNS, HEADER, LONGEST, mib};
use super::{CHUNK, Chunk, Raw, Records, cannot_read, unreadable};
use crate::error::DataError;

pub(super) struct Table<'a, R> {
    path: &'a Path,
    reader: Reader<Metered<R>>,
    /// Bytes that may be read before a record ends.
    left: Rc<Cell<usize>>,
    names: Vec<String>,
}

/// Bytes as they are, as long as there are some left: the reader of records goes on until a quote is closed, or to the end of the
/// file, which it takes for the end of the record.
struct Metered<R> {
    bytes: R,
    delimiter: u8,
    left: Rc<Cell<usize>>,
    place: Place,
}

/// What the last byte was, to the reader of records.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    /// The end of a cell, or nothing.
    Between,
    Plain,
    Quoted,
    /// A quote in a quoted cell, which ends it or stands for itself.
    Quote,
}

impl<R: Read> Read for Metered<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let most = buffer.len().min(self.left.get());
        if most == 0 && !buffer.is_empty() {
            return Err(Error::other(TooLong));
        }
        let read = self.bytes.read(&mut buffer[..most])?;
        self.left.set(self.left.get() - read);
        self.place = buffer[..read].iter().fold(self.place, |place, &byte| match (place, byte) {
            (Place::Quoted, b'"') => Place::Quote,
            (Place::Quoted, _) | (Place::Between | Place::Quote, b'"') => Place::Quoted,
            (_, b'\n' | b'\r') => Place::Between,
            (_, byte) if byte == self.delimiter => Place::Between,
            _ => Place::Plain,
        });
        if read == 0 && most > 0 && self.place == Place::Quoted { Err(Error::other(NotClosed)) } else { Ok(read) }
    }
}

/// A record does not end where it should.
#[derive(Debug, thiserror::Error)]
#[error("a record is too long")]
struct TooLong;

/// The file ends inside of quotes.
#[derive(Debug, thiserror::Error)]
#[error("a quote is not closed")]
struct NotClosed;

impl<'a, R: Read> Table<'a, R> {
    pub fn new(path: &'a Path, reader: R, delimiter: u8) -> Result<Self, DataError> {
        let left = Rc::new(Cell::new(HEADER));
        let metered = Metered { bytes: reader, delimiter, left: left.clone(), place: Place::Between };
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(metered);
        let header = reader.headers().map_err(|error| broken(path, 1, HEADER, error))?;
        let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{FEFF}').to_owned()).collect();
        if names.len() > COLUMNS {
            let problem = format!("{} columns, at most {COLUMNS} are read", names.len());
            return Err(unreadable(path, problem, "the first line holds a name for each column"));
        }
        let mut seen = HashSet::new();
        for name in &names {
            if !seen.insert(name) {
                let problem = format!("two columns are named `{name}`");
                return Err(unreadable(path, problem, "the first line holds a name for each column"));
            }
        }
        Ok(Self { path, reader, left, names })
    }
}

impl<R: Read> Records for Table<'_, R> {
    /// An empty cell counts as not given.
    fn next(&mut self) -> Result<Chunk, DataError> {
        let (mut chunk, mut size) = (Vec::new(), 0);
        let mut record = StringRecord::new();
        while size < CHUNK {
            let line = self.reader.position().line() as usize;
            self.left.set(LONGEST);
            match self.reader.read_record(&mut record) {
                Ok(false) => break,
                Ok(true) => {
                    let line = record.position().map_or(line, |position| position.line() as usize);
                    let cells = self.names.iter().zip(&record).filter(|(_, cell)| !cell.is_empty());
                    let fields: Map<_, _> = cells.map(|(name, cell)| (name.clone(), cell.into())).collect();
                    size += record.as_slice().len() + 1;
                    chunk.push((line, Raw::Fields(fields)));
                }
                Err(error) => {
                    let problem = match error.kind() {
                        ErrorKind::UnequalLengths { expected_len, len, .. } => {
                            format!("{len} cells, expected {expected_len} as in the first line")
                        }
                        ErrorKind::Utf8 { err, .. } => format!("not UTF-8 in cell {}", err.field() + 1),
                        _ => return Err(broken(self.path, line, LONGEST, error)),
                    };
                    let line = error.position().map_or(line, |position| position.line() as usize);
                    chunk.push((line, Raw::Problem(problem)));
                }
            }
        }
        Ok(chunk)
    }
}

/// `line` is where the record began, which may have `most` bytes.
fn broken(path: &Path, line: usize, most: usize, error: csv::Error) -> DataError {
    let text = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<TooLong>()) => {
            let problem = format!("line {line}: a record of more than {}", mib(most));
            unreadable(path, problem, "look for a quote that is opened there and not closed")
        }
        ErrorKind::Io(error) if error.get_ref().is_some_and(|inner| inner.is::<NotClosed>()) => {
            let problem = format!("line {line}: the file ends inside of quotes that a record opens which begins there");
            unreadable(path, problem, "close them, or double a quote that is meant; a file that is cut off ends so too")
        }
        ErrorKind::Io(error) => cannot_read(path)(error),
        _ => unreadable(path, text, "the first line holds the names of the columns, in UTF-8"),
    }
}
