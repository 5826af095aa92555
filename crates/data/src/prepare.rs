//! Rows become token ids and loss weights. Nothing is truncated: a row is kept whole or left out, counted.

use std::collections::BTreeMap;
use std::fmt;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use temper_text::{RenderError, Rendered, Renderer};

use crate::rows::RowProblem;
use crate::{DataError, LoadedRows, RowContent, RowKind};

/// How many line numbers a reason shows; it counts all.
const SHOWN_LINES: usize = 5;

/// A row ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// Token ids, at least two.
    pub ids: Vec<u32>,
    /// `weights[i]` is the weight of predicting `ids[i]` from `ids[..i]`; 0 where not trained, and for the first.
    pub weights: Vec<f32>,
    /// Line of the row in its file, from 1.
    pub row: usize,
}

impl Example {
    /// Tokens that go through the model.
    pub fn processed_tokens(&self) -> usize {
        self.ids.len()
    }

    /// Tokens that are targets.
    pub fn trained_tokens(&self) -> usize {
        self.weights.iter().filter(|&&weight| weight > 0.0).count()
    }
}

/// Why a row was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// More tokens than the maximum length.
    TooLong,
    /// No token is trained.
    NoTarget,
    /// A character has no token in the vocabulary and would be lost.
    Unencodable,
    /// Written by the base: the answer did not end within the limit of new tokens.
    CutOff,
    /// Written by the base: no letter and no digit.
    Wordless,
    /// Written by the base: a control token, or bytes that are no UTF-8.
    NotText,
    /// Written by the base: runs of words come again and again.
    Repetitive,
    /// Written by the base: letters of a script in which nothing was asked.
    OtherScript,
    /// Written by the base: it shares a run of words with an evaluation file.
    Evaluated,
    /// Written by the base: the same prompt and answer as an earlier row.
    Duplicate,
    /// Written by the base: an answer almost the same as that of an earlier row.
    NearDuplicate,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::TooLong => "longer than the maximum length",
            DropReason::NoTarget => "no trained token",
            DropReason::Unencodable => "a character without a token",
            DropReason::CutOff => "not ended within max_new_tokens",
            DropReason::Wordless => "no words",
            DropReason::NotText => "a control token or broken bytes",
            DropReason::Repetitive => "repetitive",
            DropReason::OtherScript => "in another script than the prompts",
            DropReason::Evaluated => "words of an evaluation file",
            DropReason::Duplicate => "a duplicate",
            DropReason::NearDuplicate => "nearly a duplicate",
        })
    }
}

/// Rows left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// The lines of the first of them, at most five.
    pub first_lines: Vec<usize>,
}

impl Dropped {
    /// One more row.
    pub fn add(&mut self, line: usize) {
        self.count += 1;
        if self.first_lines.len() < SHOWN_LINES {
            self.first_lines.push(line);
        }
    }
}

/// Lengths in tokens. A quantile is the smallest length that at least that share of the rows does not exceed.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct LengthReport {
    /// The shortest.
    pub min: usize,
    /// The median.
    pub p50: usize,
    /// Nine of ten rows are no longer.
    pub p90: usize,
    /// 99 of 100 rows are no longer.
    pub p99: usize,
    /// The longest.
    pub max: usize,
}

impl LengthReport {
    /// The report on these lengths.
    pub fn new(mut lengths: Vec<usize>) -> LengthReport {
        lengths.sort_unstable();
        let at = |percent: usize| {
            let rank = (lengths.len() * percent).div_ceil(100).max(1);
            lengths.get(rank - 1).copied().unwrap_or(0)
        };
        LengthReport { min: at(0), p50: at(50), p90: at(90), p99: at(99), max: at(100) }
    }
}

impl fmt::Display for LengthReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "minimum {}, median {}, maximum {}", self.min, self.p50, self.max)
    }
}

/// What became of a file's rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceReport {
    /// What the rows hold.
    pub kind: RowKind,
    /// Rows in the file.
    pub rows: usize,
    /// Rows that are trained on.
    pub kept: usize,
    /// Rows left out, by reason. `rows` = `kept` + all of these.
    pub dropped: BTreeMap<DropReason, Dropped>,
    /// Tokens of the kept rows that go through the model in one epoch.
    pub processed_tokens: usize,
    /// Tokens of the kept rows that are targets in one epoch.
    pub trained_tokens: usize,
    /// Lengths of all rows that could be encoded, those too long included.
    pub lengths: LengthReport,
    /// Fields of the file that were not read, each with the number of rows that have it.
    pub ignored_fields: BTreeMap<String, usize>,
}

/// A file ready for training.
#[derive(Debug, Clone, PartialEq)]
pub struct Source {
    /// Its name in the recipe.
    pub name: String,
    /// Its rows, in order of the file.
    pub examples: Vec<Example>,
    /// What was kept and what was not.
    pub report: SourceReport,
}

/// Renders all rows; each trained token gets the weight `loss_weight`.
///
/// Left out and counted are rows of more than `max_length` tokens, rows without a trained token, and rows with a
/// character that the vocabulary cannot spell. A row that breaks a rule (a role that is not supported, no assistant turn,
/// ...) is the file's fault and refuses the file.
///
/// # Errors
/// [`DataError::BadRows`] with all such rows, [`DataError::Template`], [`DataError::LossWeight`], and
/// [`DataError::NothingLeft`] where every row would be left out.
pub fn prepare(
    loaded: &LoadedRows,
    renderer: &Renderer,
    max_length: usize,
    source_name: &str,
    loss_weight: f32,
) -> Result<Source, DataError> {
    if !(loss_weight.is_finite() && loss_weight > 0.0) {
        return Err(DataError::LossWeight { name: source_name.to_owned(), weight: loss_weight });
    }
    if loaded.kind == RowKind::Messages {
        renderer.check_template().map_err(|source| DataError::Template { path: loaded.path.clone(), source })?;
    }
    let rendered: Vec<Result<Rendered, RenderError>> = loaded
        .rows
        .par_iter()
        .map(|row| match &row.content {
            RowContent::Messages(messages) => renderer.chat(messages),
            RowContent::Completion { prompt, completion } => renderer.completion(prompt, completion),
            RowContent::Text(text) => renderer.text(text),
        })
        .collect();

    let mut examples = Vec::new();
    let mut dropped: BTreeMap<DropReason, Dropped> = BTreeMap::new();
    let mut problems = Vec::new();
    let mut lengths = Vec::new();
    for (row, rendered) in loaded.rows.iter().zip(rendered) {
        let line = row.line;
        let reason = match rendered {
            Err(RenderError::Unencodable { .. }) => DropReason::Unencodable,
            Err(error) => {
                problems.push(RowProblem { line, message: error.to_string() });
                continue;
            }
            Ok(Rendered { ids, trained }) => {
                lengths.push(ids.len());
                if ids.len() > max_length {
                    DropReason::TooLong
                } else if !trained.contains(&true) {
                    DropReason::NoTarget
                } else {
                    let weights = trained.iter().map(|&trained| if trained { loss_weight } else { 0.0 }).collect();
                    examples.push(Example { ids, weights, row: line });
                    continue;
                }
            }
        };
        dropped.entry(reason).or_default().add(line);
    }
    if !problems.is_empty() {
        return Err(DataError::bad_rows(&loaded.path, problems));
    }
    let lengths = LengthReport::new(lengths);
    if examples.is_empty() {
        let reasons: Vec<String> =
            dropped.iter().map(|(reason, dropped)| format!("{} {reason} ({max_length})", dropped.count)).collect();
        let reasons = reasons.join(", ");
        let hint = if dropped.contains_key(&DropReason::TooLong) {
            format!("raise the maximum length from {max_length}, or split the rows")
        } else {
            "look at the first rows of the file".to_owned()
        };
        let (path, rows) = (loaded.path.clone(), loaded.rows.len());
        return Err(DataError::NothingLeft { path, rows, reasons, lengths, hint });
    }
    let report = SourceReport {
        kind: loaded.kind,
        rows: loaded.rows.len(),
        kept: examples.len(),
        dropped,
        processed_tokens: examples.iter().map(Example::processed_tokens).sum(),
        trained_tokens: examples.iter().map(Example::trained_tokens).sum(),
        lengths,
        ignored_fields: loaded.ignored_fields.clone(),
    };
    Ok(Source { name: source_name.to_owned(), examples, report })
}
