//! What Amazon Nova asks of rows: schema, order of turns, reserved words, ids of tools, limits by technique and platform.
//!
//! Rows are looked at as they lie in the file, not as they are read here: the reader forgives what the service refuses.

mod nova;

use std::collections::{BTreeMap, HashSet};
use std::path::Path;

use serde::Serialize;
use serde_json::{Map, Value};

use crate::check::Severity;
use crate::error::DataError;
use crate::read::records_of_file;

/// For what rows are meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `{"text"}`.
    Cpt,
    /// Conversations.
    Sft,
    /// Conversations whose last turn has two candidates.
    Dpo,
    /// Prompts for a reward.
    Rft,
    /// Prompts for an environment of several turns.
    RftMultiTurn,
    /// Questions with answers for an evaluation, `gen_qa.jsonl`.
    Questions,
    /// Pairs of answers for a judge, `llm_judge.jsonl`.
    Judged,
}

/// What rows must keep.
#[derive(Debug, Clone, Copy)]
pub struct Contract {
    /// For what they are meant.
    pub purpose: Purpose,
    /// Whether they are for Nova 2, which reasons and reads PDF.
    pub second: bool,
    /// Whether Bedrock reads them, which takes so many rows only.
    pub bedrock: bool,
}

/// A way in which rows break a contract.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breach {
    /// The rule.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// What was found.
    pub found: String,
    /// Why that is bad.
    pub reason: &'static str,
    /// Who says so.
    pub source: &'static str,
    /// How many rows.
    pub rows: usize,
    /// The first of them, at most five.
    pub first_lines: Vec<usize>,
}

/// What was found in a file.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct ContractReport {
    /// Its rows.
    pub rows: usize,
    /// Of them, those in which the assistant reasons.
    pub reasoning_rows: usize,
    /// How they break it, the gravest first, in order of their first line.
    pub breaches: Vec<Breach>,
}

/// One breach of one row.
pub(crate) struct Found {
    pub rule: &'static str,
    pub severity: Severity,
    pub found: String,
    pub reason: &'static str,
    pub source: &'static str,
}

/// What breaks a contract so far, row by row.
pub(crate) struct Breaches {
    contract: Contract,
    all: BTreeMap<(Severity, &'static str, String), Breach>,
    ids: HashSet<String>,
    /// Rows in which the assistant reasons.
    pub reasoning_rows: usize,
}

impl Breaches {
    pub fn of(contract: Contract) -> Self {
        Self { contract, all: BTreeMap::new(), ids: HashSet::new(), reasoning_rows: 0 }
    }

    /// What breaks it in a row that stands alone; and whether the assistant reasons in it.
    pub fn of_row(&self, row: &Map<String, Value>) -> (Vec<Found>, bool) {
        nova::row(row, &self.contract)
    }

    /// Counts what was found in a row, and an id that an earlier row has.
    pub fn count(&mut self, line: usize, row: &Map<String, Value>, found: Vec<Found>) {
        found.into_iter().for_each(|found| self.add(line, found));
        if let Some(id) = row.get("id").and_then(Value::as_str)
            && !self.ids.insert(id.to_owned())
        {
            self.add(line, nova::twice());
        }
    }

    fn add(&mut self, line: usize, found: Found) {
        let Found { rule, severity, found, reason, source } = found;
        let empty =
            || Breach { rule, severity, found: found.clone(), reason, source, rows: 0, first_lines: Vec::new() };
        let breach = self.all.entry((severity, rule, found.clone())).or_insert_with(empty);
        breach.rows += 1;
        if breach.first_lines.len() < 5 {
            breach.first_lines.push(line);
        }
    }

    /// All of them, of so many rows, the gravest first, in order of their first line.
    pub fn finish(mut self, rows: usize) -> Vec<Breach> {
        if let Some(found) = nova::how_many(rows, &self.contract) {
            self.add(0, found);
        }
        let mut all: Vec<Breach> = self.all.into_values().collect();
        all.sort_by_key(|breach| (breach.severity != Severity::Error, breach.first_lines.first().copied()));
        all
    }
}

/// Looks at every row of a file.
///
/// # Errors
/// Where the file cannot be read at all; a row that is no JSON object is a breach.
pub fn keeps(path: &Path, contract: &Contract) -> Result<ContractReport, DataError> {
    let mut breaches = Breaches::of(*contract);
    let mut rows = 0;
    records_of_file(path, &mut |line, row: Result<Map<String, Value>, String>| {
        rows += 1;
        match row {
            Ok(row) => {
                let (found, reasons) = breaches.of_row(&row);
                breaches.reasoning_rows += usize::from(reasons);
                breaches.count(line, &row, found);
            }
            Err(problem) => breaches.add(line, nova::unreadable(problem)),
        }
    })?;
    Ok(ContractReport { rows, reasoning_rows: breaches.reasoning_rows, breaches: breaches.finish(rows) })
}

#[cfg(test)]
mod tests;
