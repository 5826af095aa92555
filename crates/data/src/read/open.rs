//! What a file is, by its name and its first bytes; which files a path stands for.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

use flate2::bufread::MultiGzDecoder;

use super::array::Array;
use super::columns::{Columns, Container};
use super::document::Document;
use super::lines::Lines;
use super::table::Table;
use super::{Records, cannot_read, unreadable};
use crate::error::DataError;

/// Bytes of a buffer before a file.
const BUFFER: usize = 1 << 18;

/// Endings of files that hold rows, and of those that are a row each.
const TABLES: [&str; 9] = ["jsonl", "ndjson", "json", "csv", "tsv", "parquet", "arrow", "feather", "ipc"];
const DOCUMENTS: [&str; 4] = ["txt", "text", "md", "markdown"];
/// What `datasets` keeps beside rows, and documents that are about them where there are any.
const BESIDE: [&str; 4] = ["dataset_info", "dataset_infos", "dataset_dict", "state"];
const ABOUT: [&str; 5] = ["readme", "license", "licence", "notice", "changelog"];
const PACKED: [&str; 4] = ["gz", "gzip", "zst", "zstd"];

/// The ending that tells what is in a file, before that of a packer.
fn ending(path: &Path) -> String {
    let lower = |path: &Path| path.extension().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
    let last = lower(path);
    if PACKED.contains(&last.as_str()) { lower(Path::new(path.file_stem().unwrap_or_default())) } else { last }
}

/// Whether a file may end so.
pub fn is_known_ending(ending: &str) -> bool {
    TABLES.contains(&ending) || DOCUMENTS.contains(&ending)
}

/// The endings that files of rows have, for people.
pub fn known_endings() -> String {
    TABLES.iter().chain(&DOCUMENTS).map(|ending| format!(".{ending}")).collect::<Vec<_>>().join(", ")
}

/// The records of a file, or of the standard input for `-`; `told` is the ending that says what it holds, in place of its own.
pub(super) fn records<'a>(path: &'a Path, told: Option<&str>) -> Result<Box<dyn Records + 'a>, DataError> {
    let ending = told.map_or_else(|| ending(path), str::to_owned);
    if path == Path::new("-") {
        return of_stream(path, std::io::stdin(), &ending);
    }
    let open = || {
        File::open(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => DataError::Missing { path: path.to_owned() },
            _ => DataError::Read { path: path.to_owned(), source },
        })
    };
    let mut file = open()?;
    let meta = file.metadata().map_err(cannot_read(path))?;
    if meta.is_dir() {
        return Err(unreadable(
            path,
            "it is a folder, expected a file",
            "name a file in it, or all of it where a list of files is taken",
        ));
    }
    if !meta.is_file() {
        return of_stream(path, file, &ending);
    }
    let mut magic = [0; 6];
    let read = file.read(&mut magic).map_err(cannot_read(path))?;
    if let Some(container) = Container::of(&magic[..read], &ending) {
        return Ok(Box::new(Columns::open(path, open()?, container)?));
    }
    of_bytes(path, Box::new(BufReader::with_capacity(BUFFER, open()?)), &ending)
}

/// The records of a content in memory.
pub(super) fn records_of<'a>(
    path: &'a Path,
    bytes: Vec<u8>,
    told: Option<&str>,
) -> Result<Box<dyn Records + 'a>, DataError> {
    let ending = told.map_or_else(|| ending(path), str::to_owned);
    if let Some(container) = Container::of(&bytes, &ending) {
        return Ok(Box::new(Columns::of_bytes(path, bytes, container)?));
    }
    of_bytes(path, Box::new(Cursor::new(bytes)), &ending)
}

/// The records of what can be read once, from its start to its end: the standard input, a named pipe.
fn of_stream<'a>(
    path: &'a Path,
    stream: impl Read + 'static,
    ending: &str,
) -> Result<Box<dyn Records + 'a>, DataError> {
    let mut reader = begun(path, stream)?;
    match Container::of(reader.fill_buf().map_err(cannot_read(path))?, ending) {
        None => of_bytes(path, reader, ending),
        Some(Container::ArrowStream) => Ok(Box::new(Columns::of_stream(path, reader))),
        Some(Container::Parquet | Container::ArrowFile) => {
            let problem = "Parquet and Feather say at their end where their rows lie, and of a pipe the end comes last";
            Err(unreadable(path, problem, "write it to a file, and name that"))
        }
    }
}

fn of_bytes<'a>(
    path: &'a Path,
    reader: Box<dyn BufRead + 'a>,
    ending: &str,
) -> Result<Box<dyn Records + 'a>, DataError> {
    let mut reader = unpacked(path, reader)?;
    let first = peek(path, &mut reader, 3)?;
    // A byte order mark says nothing, but that of another encoding.
    if first.starts_with(b"\xEF\xBB\xBF") {
        reader.consume(3);
    } else if first.starts_with(b"\xFF\xFE") || first.starts_with(b"\xFE\xFF") {
        let hint = "`iconv -f UTF-16 -t UTF-8 FILE > NEW` writes it anew";
        return Err(unreadable(path, "it is in UTF-16, expected UTF-8", hint));
    }
    Ok(match ending {
        "jsonl" | "ndjson" => Box::new(Lines::new(path, reader)),
        "csv" => {
            let separator = separator(reader.fill_buf().map_err(cannot_read(path))?);
            Box::new(Table::new(path, reader, separator)?)
        }
        "tsv" => Box::new(Table::new(path, reader, b'\t')?),
        "txt" | "text" | "md" | "markdown" => Box::new(Document::new(path, reader)),
        // Many a `.json` holds lines: objects one after another are read as a list is.
        "json" => Box::new(Array::new(path, reader)),
        _ => match first_byte(path, &mut reader)? {
            Some(b'[') => Box::new(Array::new(path, reader)),
            Some(b'{') | None => Box::new(Lines::new(path, reader)),
            Some(_) => {
                let problem = "neither its name nor its first bytes tell what it holds";
                let known = known_endings();
                let hint = if path == Path::new("-") {
                    format!("`--ending csv` says it of the standard input; known are {known}")
                } else {
                    format!(
                        "known are {known}, and .gz or .zst after them; of other names `temper data --ending csv` says it"
                    )
                };
                return Err(unreadable(path, problem, &hint));
            }
        },
    })
}

/// What parts the cells of a `.csv`: a comma where the first line has one outside of quotes, else a semicolon or a tab that it has, as
/// spreadsheets write where the comma is in numbers.
fn separator(text: &[u8]) -> u8 {
    let mut quoted = false;
    let line = text.iter().take_while(|&&byte| byte != b'\n').filter(|&&byte| {
        quoted ^= byte == b'"';
        !quoted
    });
    let line: Vec<u8> = line.copied().collect();
    *b",;\t".iter().find(|separator| line.contains(separator)).unwrap_or(&b',')
}

/// The bytes of a file that may be packed.
fn unpacked<'a>(path: &Path, mut reader: Box<dyn BufRead + 'a>) -> Result<Box<dyn BufRead + 'a>, DataError> {
    let magic = peek(path, &mut reader, 4)?;
    if magic.starts_with(&[0x1F, 0x8B]) {
        return begun(path, Unpacked("gzip", MultiGzDecoder::new(reader)));
    }
    if magic.starts_with(&[0x28, 0xB5, 0x2F, 0xFD]) {
        let decoder = zstd::Decoder::with_buffer(reader).map_err(cannot_read(path))?;
        return begun(path, Unpacked("zstd", decoder));
    }
    Ok(reader)
}

/// A reader whose first bytes can be looked at all at once: a pipe gives what was written to it so far, be it one byte.
fn begun<'a>(path: &Path, mut reader: impl Read + 'a) -> Result<Box<dyn BufRead + 'a>, DataError> {
    let mut first = Vec::new();
    (&mut reader).take(BUFFER as u64).read_to_end(&mut first).map_err(cannot_read(path))?;
    Ok(Box::new(Cursor::new(first).chain(BufReader::with_capacity(BUFFER, reader))))
}

/// What a packed file holds; an error says that it was unpacking.
struct Unpacked<R>(&'static str, R);

impl<R: Read> Read for Unpacked<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        self.1.read(buffer).map_err(|error| {
            let zstd = if self.0 == "zstd" { "; a window of more than 128 MiB (`--long`) is not read" } else { "" };
            std::io::Error::new(error.kind(), format!("{} does not unpack: {error}{zstd}", self.0))
        })
    }
}

/// The first bytes; a reader of a file, of memory, or one that has [`begun`] gives more than a few.
fn peek(path: &Path, reader: &mut Box<dyn BufRead + '_>, count: usize) -> Result<Vec<u8>, DataError> {
    let buffer = reader.fill_buf().map_err(cannot_read(path))?;
    Ok(buffer[..count.min(buffer.len())].to_vec())
}

/// The first byte that is no white space; what stands before it is gone.
fn first_byte(path: &Path, reader: &mut Box<dyn BufRead + '_>) -> Result<Option<u8>, DataError> {
    loop {
        let buffer = reader.fill_buf().map_err(cannot_read(path))?;
        match buffer.first() {
            Some(byte) if byte.is_ascii_whitespace() => reader.consume(1),
            first => return Ok(first.copied()),
        }
    }
}

/// The files that a path stands for, sorted by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Expanded {
    /// Those that hold rows.
    pub files: Vec<PathBuf>,
    /// Those of a folder that hold none, by their names.
    pub passed: Vec<PathBuf>,
}

/// The files that a path stands for: itself, the files of rows in a folder and below it, or those that fit a pattern with `*`, `?`,
/// `[...]` or `**`. In a folder, what `datasets` keeps beside rows (`state.json`, ...) is none, nor is a README or a licence beside
/// rows that are no documents.
///
/// # Errors
/// [`DataError`] where there is none, or a folder holds none that could be rows.
pub fn expand(path: &Path) -> Result<Expanded, DataError> {
    if path.is_dir() {
        let mut all = Vec::new();
        below(path, &mut all)?;
        all.sort();
        let named = |file: &Path, names: &[&str]| {
            let stem = file.file_stem().and_then(OsStr::to_str).unwrap_or_default().to_ascii_lowercase();
            names.contains(&stem.as_str())
        };
        let document = |file: &Path| DOCUMENTS.contains(&ending(file).as_str());
        let table =
            |file: &Path| TABLES.contains(&ending(file).as_str()) && !(ending(file) == "json" && named(file, &BESIDE));
        let tables = all.iter().any(|file| table(file));
        let (files, passed): (Vec<_>, Vec<_>) =
            all.into_iter().partition(|file| table(file) || document(file) && !(tables && named(file, &ABOUT)));
        if files.is_empty() {
            let known = known_endings();
            return Err(unreadable(path, "no file in this folder holds rows", &format!("known are {known}")));
        }
        return Ok(Expanded { files, passed });
    }
    let text = path.to_string_lossy();
    if path.exists() || path == Path::new("-") || !text.contains(['*', '?', '[']) {
        return Ok(Expanded { files: vec![path.to_owned()], passed: Vec::new() });
    }
    let wrong = |problem: String| unreadable(path, problem, "a pattern has `*`, `?`, `[...]`, and `**` for folders");
    let options = glob::MatchOptions { require_literal_leading_dot: true, ..glob::MatchOptions::new() };
    let mut files = Vec::new();
    for file in glob::glob_with(&text, options).map_err(|error| wrong(error.to_string()))? {
        let file = file.map_err(|error| cannot_read(error.path())(std::io::Error::from(error.error().kind())))?;
        if file.is_file() {
            files.push(file);
        }
    }
    if files.is_empty() {
        return Err(wrong("no file fits this pattern".to_owned()));
    }
    files.sort();
    Ok(Expanded { files, passed: Vec::new() })
}

/// The files in a folder and below it; what begins with a dot is left alone.
fn below(folder: &Path, files: &mut Vec<PathBuf>) -> Result<(), DataError> {
    for entry in std::fs::read_dir(folder).map_err(cannot_read(folder))? {
        let path = entry.map_err(cannot_read(folder))?.path();
        let hidden = path.file_name().and_then(OsStr::to_str).is_some_and(|name| name.starts_with('.'));
        if hidden {
            continue;
        }
        if path.is_dir() {
            below(&path, files)?;
        } else {
            files.push(path);
        }
    }
    Ok(())
}
