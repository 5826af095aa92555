//! CSV and TSV with a header.

use std::io::Read;
use std::path::Path;

use csv::{ErrorKind, Reader, ReaderBuilder, StringRecord};
use serde_json::Map;

use super::{CHUNK, Chunk, Raw, Records, cannot_read, unreadable};
use crate::error::DataError;

pub(super) struct Table<'a, R> {
    path: &'a Path,
    reader: Reader<R>,
    names: Vec<String>,
}

impl<'a, R: Read> Table<'a, R> {
    pub fn new(path: &'a Path, reader: R, delimiter: u8) -> Result<Self, DataError> {
        let mut reader = ReaderBuilder::new().delimiter(delimiter).from_reader(reader);
        let header = reader.headers().map_err(|error| broken(path, error))?;
        let names: Vec<String> = header.iter().map(|name| name.trim_start_matches('\u{FEFF}').to_owned()).collect();
        for (index, name) in names.iter().enumerate() {
            if names[..index].contains(name) {
                let problem = format!("two columns are named `{name}`");
                return Err(unreadable(path, problem, "the first line holds a name for each column"));
            }
        }
        Ok(Self { path, reader, names })
    }
}

impl<R: Read> Records for Table<'_, R> {
    /// An empty cell counts as not given.
    fn next(&mut self) -> Result<Chunk, DataError> {
        let (mut chunk, mut size) = (Vec::new(), 0);
        let mut record = StringRecord::new();
        while size < CHUNK {
            let line = self.reader.position().line() as usize;
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
                        _ => return Err(broken(self.path, error)),
                    };
                    let line = error.position().map_or(line, |position| position.line() as usize);
                    chunk.push((line, Raw::Problem(problem)));
                }
            }
        }
        Ok(chunk)
    }
}

fn broken(path: &Path, error: csv::Error) -> DataError {
    let text = error.to_string();
    match error.into_kind() {
        ErrorKind::Io(error) => cannot_read(path)(error),
        _ => unreadable(path, text, "the first line holds the names of the columns, in UTF-8"),
    }
}
