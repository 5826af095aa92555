//! JSON: a list of objects, taken apart without holding it, or objects one after another.

use std::io::BufRead;
use std::path::Path;

use super::limits::{ENDLESS, LONGEST, mib, too_long};
use super::{CHUNK, Chunk, Raw, Records, cannot_read, unreadable};
use crate::error::DataError;

const HINT: &str = "a JSON file holds a list of objects, `[{...}, {...}]`, or one object after another";

pub(super) struct Array<'a, R> {
    path: &'a Path,
    reader: R,
    /// The line that is read, from 1.
    line: usize,
    /// Whether the objects lie in a list; not known before the first.
    list: Option<bool>,
    over: bool,
    /// Whether an object was read since the last comma.
    after_object: bool,
}

impl<'a, R: BufRead> Array<'a, R> {
    pub fn new(path: &'a Path, reader: R) -> Self {
        Self { path, reader, line: 1, list: None, over: false, after_object: false }
    }

    fn peek(&mut self) -> Result<Option<u8>, DataError> {
        Ok(self.reader.fill_buf().map_err(cannot_read(self.path))?.first().copied())
    }

    /// The start of the next object, or the end.
    fn seek(&mut self) -> Result<bool, DataError> {
        while let Some(byte) = self.peek()? {
            match byte {
                b'\n' => self.line += 1,
                b' ' | b'\t' | b'\r' => {}
                b'[' if self.list.is_none() => self.list = Some(true),
                b'{' if !(self.over || self.list == Some(true) && self.after_object) => {
                    self.list.get_or_insert(false);
                    return Ok(true);
                }
                b',' if self.list == Some(true) && self.after_object => self.after_object = false,
                b']' if self.list == Some(true) && !self.over => self.over = true,
                other => {
                    let problem = format!("line {}: unexpected {:?}", self.line, char::from(other));
                    return Err(unreadable(self.path, problem, HINT));
                }
            }
            self.reader.consume(1);
        }
        if self.list == Some(true) && !self.over {
            return Err(unreadable(self.path, "the list does not end: the file seems to be cut off", HINT));
        }
        Ok(false)
    }

    /// One object, by its brackets; strings may hold any.
    fn object(&mut self) -> Result<Raw, DataError> {
        let (mut bytes, mut depth, mut text, mut escaped, mut size) = (Vec::new(), 0usize, false, false, 0);
        let first = self.line;
        loop {
            let buffer = self.reader.fill_buf().map_err(cannot_read(self.path))?;
            if buffer.is_empty() {
                return Ok(Raw::Problem("the object does not end: the file seems to be cut off".to_owned()));
            }
            let mut used = buffer.len();
            for (at, &byte) in buffer.iter().enumerate() {
                match byte {
                    b'\n' => self.line += 1,
                    _ if escaped => {
                        escaped = false;
                        continue;
                    }
                    b'\\' if text => escaped = true,
                    b'"' => text = !text,
                    b'{' | b'[' if !text => depth += 1,
                    b'}' | b']' if !text => depth -= 1,
                    _ => {}
                }
                if depth == 0 {
                    used = at + 1;
                    break;
                }
            }
            size += used;
            if size > ENDLESS {
                let problem = format!("line {first}: an object does not end within {}", mib(ENDLESS));
                return Err(unreadable(self.path, problem, HINT));
            }
            let long = size > LONGEST;
            if !long {
                bytes.extend_from_slice(&buffer[..used]);
            }
            self.reader.consume(used);
            if depth == 0 {
                return Ok(if long { Raw::Problem(too_long()) } else { Raw::Json(bytes) });
            }
        }
    }
}

impl<R: BufRead> Records for Array<'_, R> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        let (mut chunk, mut size) = (Vec::new(), 0);
        while size < CHUNK && self.seek()? {
            let line = self.line;
            let raw = self.object()?;
            self.after_object = true;
            size += if let Raw::Json(bytes) = &raw { bytes.len() } else { 0 };
            chunk.push((line, raw));
        }
        Ok(chunk)
    }
}
