//! Plain text and Markdown: a file is one document, whatever its length.

use std::io::{BufRead, Read};
use std::path::Path;

use serde_json::Map;

use super::limits::{LONGEST, mib};
use super::{Chunk, Raw, Records, cannot_read, unreadable};
use crate::error::DataError;

pub(super) struct Document<'a, R> {
    path: &'a Path,
    reader: R,
}

impl<'a, R: BufRead> Document<'a, R> {
    pub fn new(path: &'a Path, reader: R) -> Self {
        Self { path, reader }
    }
}

impl<R: BufRead> Records for Document<'_, R> {
    fn next(&mut self) -> Result<Chunk, DataError> {
        let mut bytes = Vec::new();
        (&mut self.reader).take(LONGEST as u64 + 1).read_to_end(&mut bytes).map_err(cannot_read(self.path))?;
        if bytes.len() > LONGEST {
            let problem = format!("longer than {}, and a file of text is one document", mib(LONGEST));
            return Err(unreadable(self.path, problem, "write its documents as JSONL, `{\"text\": ...}` a line"));
        }
        if bytes.trim_ascii().is_empty() {
            return Ok(Vec::new());
        }
        let raw = match String::from_utf8(bytes) {
            Ok(text) => {
                let text = if text.contains('\r') { text.replace("\r\n", "\n") } else { text };
                Raw::Fields(Map::from_iter([("text".to_owned(), text.into())]))
            }
            Err(error) => {
                let good = &error.as_bytes()[..error.utf8_error().valid_up_to()];
                let line = 1 + good.iter().filter(|&&byte| byte == b'\n').count();
                return Ok(vec![(line, Raw::Problem("not UTF-8".to_owned()))]);
            }
        };
        Ok(vec![(1, raw)])
    }
}
