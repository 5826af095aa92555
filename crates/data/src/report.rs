//! What became of rows: kept, left out and why, in parts; their lengths.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::format::Format;
use crate::row::RowKind;

/// How many line numbers a reason shows; it counts all.
const SHOWN_LINES: usize = 5;

/// Why a row was left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DropReason {
    /// More tokens than the maximum length.
    TooLong,
    /// No token is trained.
    NoTarget,
    /// A pair of answers whose tokens are the same.
    SameAnswers,
    /// A character has no token in the vocabulary and would be lost.
    Unencodable,
    /// Written by the base: the answer did not end within the limit of new tokens.
    CutOff,
    /// Written by the base: no letter and no digit.
    Wordless,
    /// Written by the base: a control token, or bytes that are no UTF-8.
    NotText,
    /// Runs of words come again and again.
    Repetitive,
    /// Written by the base: letters of a script in which nothing was asked.
    OtherScript,
    /// It shares a run of words with an evaluation file.
    Evaluated,
    /// The same prompt and answer as an earlier row.
    Duplicate,
    /// Almost the same as an earlier row; of what the base wrote: its answer.
    NearDuplicate,
    /// Filtered: it holds a secret.
    Secret,
    /// Filtered: it holds personal data.
    PersonalData,
    /// Filtered: text that was decoded wrongly.
    Mojibake,
    /// Filtered: fewer characters than wanted.
    TooShort,
}

impl fmt::Display for DropReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            DropReason::TooLong => "longer than the maximum length",
            DropReason::NoTarget => "no trained token",
            DropReason::SameAnswers => "both answers the same",
            DropReason::Unencodable => "a character without a token",
            DropReason::CutOff => "not ended within max_new_tokens",
            DropReason::Wordless => "no words",
            DropReason::NotText => "a control token or broken bytes",
            DropReason::Repetitive => "repetitive",
            DropReason::OtherScript => "in another script than the prompts",
            DropReason::Evaluated => "words of an evaluation file",
            DropReason::Duplicate => "a duplicate",
            DropReason::NearDuplicate => "nearly a duplicate",
            DropReason::Secret => "with a secret",
            DropReason::PersonalData => "with personal data",
            DropReason::Mojibake => "decoded wrongly",
            DropReason::TooShort => "shorter than min_chars",
        })
    }
}

/// Rows left out for one reason.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Dropped {
    /// How many.
    pub count: usize,
    /// Their tokens, where they could be encoded.
    #[serde(default)]
    pub tokens: usize,
    /// The lines of the first of them, at most five.
    pub first_lines: Vec<usize>,
}

impl Dropped {
    /// One more row, of so many tokens.
    pub fn add(&mut self, line: usize, tokens: usize) {
        self.count += 1;
        self.tokens += tokens;
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
    pub fn new(lengths: impl IntoIterator<Item = usize>) -> LengthReport {
        let mut counts = BTreeMap::new();
        lengths.into_iter().for_each(|length| *counts.entry(length).or_insert(0) += 1);
        LengthReport::of(&counts)
    }

    /// The report on lengths that each occur so often.
    pub(crate) fn of(counts: &BTreeMap<usize, usize>) -> LengthReport {
        let all: usize = counts.values().sum();
        let at = |percent: usize| {
            let mut left = (all * percent).div_ceil(100).max(1);
            let found = counts.iter().find(|(_, count)| {
                let found = **count >= left;
                left = left.saturating_sub(**count);
                found
            });
            found.map_or(0, |(length, _)| *length)
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
    /// How they are written.
    pub format: Format,
    /// Rows in the file.
    pub rows: usize,
    /// Rows that are trained on.
    pub kept: usize,
    /// Rows left out, by reason. `rows` = `kept` + all of these.
    pub dropped: BTreeMap<DropReason, Dropped>,
    /// Rows in which something private was masked.
    #[serde(default)]
    pub masked: usize,
    /// Documents longer than the maximum length, which are trained in parts.
    #[serde(default)]
    pub split: Split,
    /// Conversations of which each turn is a row of its own.
    #[serde(default)]
    pub turns_apart: TurnsApart,
    /// Trained turns whose reasoning the chat template leaves out.
    #[serde(default)]
    pub reasoning_dropped: usize,
    /// Tokens of the kept rows that go through the model in one epoch.
    pub processed_tokens: usize,
    /// Tokens of the kept rows that are targets in one epoch.
    pub trained_tokens: usize,
    /// Lengths of all rows that could be encoded, those too long included.
    pub lengths: LengthReport,
    /// Fields of the file that were not read, each with the number of rows that have it.
    pub ignored_fields: BTreeMap<String, usize>,
}

/// Conversations whose turns are trained in rows of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct TurnsApart {
    /// How many conversations.
    pub conversations: usize,
    /// Their trained turns.
    pub turns: usize,
    /// Turns of these that are left out, since the conversation up to them is longer than the maximum length.
    pub too_long: usize,
}

/// Documents that are trained in parts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Split {
    /// How many.
    pub documents: usize,
    /// Of how many parts. Each but the first begins with the last token of the part before it, so that every token is
    /// trained once.
    pub parts: usize,
}
