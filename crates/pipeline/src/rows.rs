//! Data files as tokens, kept in the cache: a file is read and tokenised once for each way in which it is asked for.

use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use temper_data::{Example, Source, SourceReport, load_rows, prepare};
use temper_run::sha256_file;
use temper_text::Renderer;

use crate::PipelineError;
use crate::cache::{Kept, Kind};
use crate::identity::NUMERICS;

/// A renderer, and where what it rendered is kept.
#[derive(Clone, Copy)]
pub(crate) struct Tokens<'a> {
    pub renderer: &'a Renderer,
    /// The hash of tokenizer and chat template.
    pub tokenizer_sha256: &'a str,
    pub kept: Kept<'a>,
}

/// A source as it is kept: what was dropped is in the report, so the same reasons are told again.
#[derive(Serialize, Deserialize)]
struct KeptSource {
    report: SourceReport,
    rows: Vec<KeptRow>,
}

#[derive(Serialize, Deserialize)]
struct KeptRow {
    line: usize,
    ids: Vec<u32>,
    /// Runs of trained tokens: first and one past the last, one after the other.
    trained: Vec<usize>,
}

impl Tokens<'_> {
    /// What the rendering of a file depends on, and `of` how it is asked for.
    pub fn ingredients(self, what: &str, file: &Path, of: Value) -> Result<Value, PipelineError> {
        Ok(json!({
            "what": format!("{what} {}", file.file_name().unwrap_or_default().to_string_lossy()),
            "temper": [json!(env!("CARGO_PKG_VERSION")), json!(NUMERICS)],
            "file": sha256_file(file)?,
            "tokenizer": self.tokenizer_sha256,
            "of": of,
        }))
    }

    /// [`temper_data::prepare`] of a file.
    pub fn source(self, path: &Path, max_length: usize, name: &str, loss_weight: f32) -> Result<Source, PipelineError> {
        // What cannot be read is refused by the reader, in its own words.
        let key = if path.is_file() { Some(self.ingredients("tokens of", path, json!(max_length))?) } else { None };
        let known: Option<KeptSource> = key.as_ref().and_then(|key| self.kept.get(Kind::Rows, key));
        if let Some(KeptSource { report, rows }) = known {
            let examples = rows.into_iter().map(|row| row.example(loss_weight)).collect();
            return Ok(Source { name: name.to_owned(), examples, report });
        }
        let source = prepare(&load_rows(path)?, self.renderer, max_length, name, loss_weight)?;
        if let Some(key) = key.filter(|_| self.kept.0.is_some()) {
            let rows = source.examples.iter().map(KeptRow::of).collect();
            self.kept.put(Kind::Rows, &key, &KeptSource { report: source.report.clone(), rows });
        }
        Ok(source)
    }
}

impl KeptRow {
    fn of(example: &Example) -> Self {
        let mut trained = Vec::new();
        for (at, &weight) in example.weights.iter().enumerate() {
            let open = trained.len() % 2 == 1;
            if (weight > 0.0) != open {
                trained.push(at);
            }
        }
        if trained.len() % 2 == 1 {
            trained.push(example.weights.len());
        }
        Self { line: example.row, ids: example.ids.clone(), trained }
    }

    fn example(self, loss_weight: f32) -> Example {
        let mut weights = vec![0.0; self.ids.len()];
        for run in self.trained.chunks_exact(2) {
            weights[run[0]..run[1]].fill(loss_weight);
        }
        Example { ids: self.ids, weights, row: self.line }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_as_they_were() {
        for weights in [vec![0.0, 0.5, 0.5, 0.0, 0.5], vec![0.0, 0.5], vec![0.0, 0.0, 0.5, 0.0]] {
            let example = Example { ids: (0..weights.len() as u32).collect(), weights, row: 7 };
            assert_eq!(KeptRow::of(&example).example(0.5), example);
        }
    }
}
