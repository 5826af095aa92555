//! Texts that training must not see, by their runs of words.

use std::collections::{HashMap, HashSet};
use std::io::{BufRead, BufReader};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::error::{DataError, RowProblem};
use crate::read::{ReadOptions, read_rows};
use crate::row::Row;
use crate::view::{Turn, View};
use crate::words::{each_text, hash_of, runs, word_hashes};

/// Words of a run that training and evaluation may not share: those of GPT-3's check (Brown et al. 2020, appendix C).
pub const SHARED_RUN: usize = 13;
/// A text shorter than a run counts as a whole, from so many words on: fewer are labels.
const LEAST_WHOLE: usize = 3;
/// Runs that more than this share of at least [`COMMON_FROM`] items have are the frame of a prompt, not its content, and do not
/// count.
const COMMON: f64 = 0.25;
const COMMON_FROM: usize = 20;

/// Runs of words of texts.
#[derive(Debug, Clone)]
pub struct RunIndex {
    length: usize,
    /// How many items have each; the last item to have it.
    runs: HashMap<u64, (u32, u32)>,
    items: u32,
}

impl RunIndex {
    /// Of runs of `length` words.
    pub fn new(length: usize) -> RunIndex {
        RunIndex { length, runs: HashMap::new(), items: 0 }
    }

    /// The texts that are added from here on are of another item.
    pub fn next_item(&mut self) {
        self.items += 1;
    }

    /// Adds a text of the item.
    pub fn add(&mut self, text: &str) {
        self.add_words(&word_hashes(text));
    }

    fn add_words(&mut self, words: &[u64]) {
        for run in runs_of(words, self.length) {
            let (count, last) = self.runs.entry(run).or_insert((0, u32::MAX));
            if *last != self.items {
                (*count, *last) = (*count + 1, self.items);
            }
        }
    }

    /// Takes out what frames many items alike.
    pub fn without_frame(&mut self) {
        if self.items as usize >= COMMON_FROM {
            let most = (COMMON * f64::from(self.items)) as u32;
            self.runs.retain(|_, (count, _)| *count <= most);
        }
    }

    /// Whether the text shares a run.
    pub fn shares(&self, text: &str) -> bool {
        runs_of(&word_hashes(text), self.length).any(|run| self.runs.contains_key(&run))
    }
}

/// The runs of a text; a shorter text is one run, unless it is a label.
fn runs_of(words: &[u64], length: usize) -> impl Iterator<Item = u64> {
    let whole = (LEAST_WHOLE..length).contains(&words.len()).then(|| hash_of(words.iter().copied()));
    whole.into_iter().chain(runs(words, length))
}

/// What a held-out file is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HeldOutKind {
    /// Rows that choose the weights.
    Validation,
    /// Rows that are read once, at the end.
    Test,
    /// Items of a general suite, or any other text.
    Suite,
}

/// A held-out file.
#[derive(Debug, Clone)]
pub struct HeldOut {
    /// What it is called.
    pub name: String,
    /// What it is for.
    pub kind: HeldOutKind,
    /// How many rows it has.
    pub rows: usize,
    /// The labels of its rows.
    pub(crate) labels: HashSet<String>,
    runs: RunIndex,
    /// Whole rows, by [`View::folded`], with their lines.
    whole: HashMap<u64, usize>,
    /// The line of each item of `runs`.
    lines: Vec<usize>,
}

/// How a row meets a held-out file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Met {
    /// It is a row of it; the line there.
    Whole(usize),
    /// They share a run of words; the line there.
    Run(usize),
}

impl HeldOut {
    /// Reads rows that are held out. Of a suite every text counts, whatever its field: prompts, choices, turns, documents.
    ///
    /// # Errors
    /// As [`read_rows`]; of a suite in JSONL as [`each_item`], as its rows may be of any form.
    pub fn read(name: &str, kind: HeldOutKind, path: &Path, options: &ReadOptions) -> Result<HeldOut, DataError> {
        let mut held_out = HeldOut {
            name: name.to_owned(),
            kind,
            rows: 0,
            labels: HashSet::new(),
            runs: RunIndex::new(SHARED_RUN),
            whole: HashMap::new(),
            lines: Vec::new(),
        };
        let lines = path.extension().is_some_and(|ending| ending == "jsonl" || ending == "ndjson");
        if kind == HeldOutKind::Suite && lines {
            each_item(path, &mut |line, texts| {
                held_out.next(line);
                texts.iter().for_each(|text| held_out.runs.add(text));
            })?;
        } else {
            read_rows(path, options, &mut |rows| {
                rows.iter().for_each(|row| held_out.add(row));
                Ok::<_, DataError>(())
            })?;
        }
        held_out.runs.without_frame();
        Ok(held_out)
    }

    fn next(&mut self, line: usize) {
        self.rows += 1;
        self.runs.next_item();
        self.lines.push(line);
    }

    fn add(&mut self, row: &Row) {
        let view = View::of(row);
        self.next(row.line);
        self.labels.extend(row.label.clone());
        self.whole.extend(view.folded().map(|whole| (whole, row.line)));
        compared(&view).for_each(|turn| self.runs.add_words(turn.words()));
    }

    /// Whether a row is one of these, or shares a run of words with one; `runs` are its [`compared_runs`].
    pub(crate) fn meets(&self, runs: &[u64], folded: Option<u64>) -> Option<Met> {
        if let Some(&line) = folded.and_then(|whole| self.whole.get(&whole)) {
            return Some(Met::Whole(line));
        }
        let (_, item) = runs.iter().find_map(|run| self.runs.runs.get(run))?;
        // Items are numbered from 1.
        Some(Met::Run(self.lines.get(*item as usize - 1).copied().unwrap_or_default()))
    }
}

/// The runs of words by which a row is compared with held-out files, each of which would make them again.
pub(crate) fn compared_runs(view: &View<'_>) -> Vec<u64> {
    compared(view).flat_map(|turn| runs_of(turn.words(), SHARED_RUN)).collect()
}

/// The texts by which rows are compared. A short answer says nothing of where it comes from: of answers only runs would count, and
/// texts of fewer words are left out.
fn compared<'v, 'r>(view: &'v View<'r>) -> impl Iterator<Item = &'v Turn<'r>> {
    let answer = view.answer.unwrap_or(view.turns.len());
    let texts = view.turns.iter().enumerate().filter(|(_, turn)| turn.role != "system");
    texts.filter(move |(at, turn)| *at < answer || turn.words().len() >= SHARED_RUN).map(|(_, turn)| turn)
}

/// The texts of each line of JSON, with its number from 1. Blank lines count as none.
///
/// # Errors
/// Where the file cannot be read, or a line is no JSON.
pub fn each_item(path: &Path, tell: &mut dyn FnMut(usize, &[String])) -> Result<(), DataError> {
    let cannot = |source| DataError::Read { path: path.to_owned(), source };
    let reader = BufReader::new(std::fs::File::open(path).map_err(cannot)?);
    let mut problems = Vec::new();
    for (line, text) in (1..).zip(reader.lines()) {
        let text = text.map_err(cannot)?;
        let text = text.strip_prefix('\u{FEFF}').unwrap_or(&text);
        if text.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<serde_json::Value>(text) {
            Ok(row) => {
                let mut texts = Vec::new();
                each_text(&row, &mut |text| texts.push(text.to_owned()));
                tell(line, &texts);
            }
            Err(error) => problems.push(RowProblem { line, message: format!("no JSON: {error}") }),
        }
    }
    if problems.is_empty() { Ok(()) } else { Err(DataError::bad_rows(path, problems)) }
}
