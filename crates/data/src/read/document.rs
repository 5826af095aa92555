//! Plain text and Markdown: one document a file. A file of more than a few mebibytes is taken in parts that end at a blank
//! line, or else at the end of a line, each a document.

use std::io::BufRead;
use std::path::Path;

use serde_json::Map;

use super::limits::LONGEST;
use super::{CHUNK, Chunk, Raw, Records, cannot_read};
use crate::error::DataError;

pub(super) struct Document<'a, R> {
    path: &'a Path,
    reader: R,
    line: usize,
    over: bool,
}

impl<'a, R: BufRead> Document<'a, R> {
    pub fn new(path: &'a Path, reader: R) -> Self {
        Self { path, reader, line: 1, over: false }
    }
}

impl<R: BufRead> Records for Document<'_, R> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        let mut bytes = Vec::new();
        let first = self.line;
        while !self.over {
            let before = bytes.len();
            let read = std::io::Read::take(&mut self.reader, (LONGEST - before) as u64).read_until(b'\n', &mut bytes);
            self.over = read.map_err(cannot_read(self.path))? == 0;
            self.line += usize::from(bytes.last() == Some(&b'\n') && !self.over);
            let blank = bytes[before..].trim_ascii().is_empty();
            if bytes.len() >= CHUNK && blank || bytes.len() >= 2 * CHUNK {
                break;
            }
        }
        if bytes.trim_ascii().is_empty() {
            // Nothing but blank lines: the end, or a part that says nothing.
            return if self.over { Ok(Vec::new()) } else { self.next() };
        }
        let raw = match String::from_utf8(bytes) {
            Ok(text) => {
                let text = if text.contains('\r') { text.replace("\r\n", "\n") } else { text };
                Raw::Fields(Map::from_iter([("text".to_owned(), text.into())]))
            }
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = first + good.iter().filter(|&&byte| byte == b'\n').count();
                return Ok(vec![(line, Raw::Problem("not UTF-8".to_owned()))]);
            }
        };
        Ok(vec![(first, raw)])
    }
}
