//! JSONL: an object a line.

use std::io::{BufRead, Read};
use std::path::Path;

use super::limits::{ENDLESS, LONGEST, mib, too_long};
use super::{CHUNK, Chunk, Raw, Records, cannot_read, unreadable};
use crate::error::DataError;

pub(super) struct Lines<'a, R> {
    path: &'a Path,
    reader: R,
    line: usize,
}

impl<'a, R: BufRead> Lines<'a, R> {
    pub fn new(path: &'a Path, reader: R) -> Self {
        Self { path, reader, line: 0 }
    }
}

impl<R: BufRead> Records for Lines<'_, R> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        let (mut chunk, mut size) = (Vec::new(), 0);
        while size < CHUNK {
            let mut bytes = Vec::new();
            let read = (&mut self.reader).take(LONGEST as u64).read_until(b'\n', &mut bytes);
            if read.map_err(cannot_read(self.path))? == 0 {
                break;
            }
            self.line += 1;
            if bytes.len() == LONGEST && bytes.last() != Some(&b'\n') {
                let skipped =
                    (&mut self.reader).take(ENDLESS as u64).skip_until(b'\n').map_err(cannot_read(self.path))?;
                if skipped == ENDLESS {
                    let problem = format!("line {}: it does not end within {}", self.line, mib(ENDLESS));
                    return Err(unreadable(self.path, problem, "a row of JSONL is a line"));
                }
                chunk.push((self.line, Raw::Problem(too_long())));
                continue;
            }
            let kept = bytes.trim_ascii();
            if kept.is_empty() {
                continue;
            }
            size += kept.len();
            if kept.len() < bytes.len() {
                let start = bytes.iter().position(|byte| !byte.is_ascii_whitespace()).unwrap_or(0);
                let length = kept.len();
                bytes.truncate(start + length);
                bytes.drain(..start);
            }
            chunk.push((self.line, Raw::Json(bytes)));
        }
        Ok(chunk)
    }
}
