//! The arms in their rank, as a table.

use serde::Serialize;
use temper_eval::compare::Row;

use super::{Arms, Tried, beyond_noise, row_of};
use crate::number::{Style, count, duration};

/// The table.
#[derive(Serialize)]
pub(super) struct Table {
    /// Suites with their metrics.
    heads: Vec<String>,
    /// The base's values.
    base: Vec<String>,
    rows: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    /// Empty of one that was refused.
    rank: String,
    name: String,
    processed: String,
    trained: String,
    sampled: String,
    seconds: String,
    cells: Vec<Cell>,
    floors: String,
    floors_class: &'static str,
    /// It beside the first.
    beside: String,
    beside_class: &'static str,
    /// The report of its run.
    report: Option<String>,
}

/// A value, and how far from the base it is.
#[derive(Serialize)]
struct Cell {
    value: String,
    difference: String,
}

pub(super) fn table(arms: &Arms) -> Table {
    let (columns, ranked) = (arms.columns(), arms.ranked());
    let head = |row: &&Row| format!("{} {}", row.suite, Style::of(row.metric).short);
    let base = |row: &&Row| row.base.map_or(String::new(), |value| Style::of(row.metric).value(value));
    Table {
        heads: columns.iter().map(head).collect(),
        base: columns.iter().map(base).collect(),
        rows: ranked.iter().enumerate().map(|(at, arm)| line(arms, &columns, (at, arm), ranked[0])).collect(),
    }
}

fn line(arms: &Arms, columns: &[&Row], (at, arm): (usize, &Tried), first: &Tried) -> Line {
    let cell = |column: &&Row| {
        let Some(row) = row_of(arm.rows(), (&column.suite, column.metric)) else {
            return Cell { value: String::new(), difference: String::new() };
        };
        let style = Style::of(row.metric);
        let value = row.base.map_or(String::new(), |_| style.value(row.tuned));
        Cell { value, difference: style.interval(&row.difference) }
    };
    let (floors, floors_class) = match (&arm.refused, arm.broken()) {
        (Some(_), _) => ("refused".to_owned(), "bad"),
        (None, None) => (String::new(), ""),
        (None, Some(0)) => ("none broken".to_owned(), "good"),
        (None, Some(broken)) => (format!("{} broken", count(broken)), "bad"),
    };
    let (beside, beside_class) = match arms.between(arm, first) {
        None => ("", ""),
        Some(difference) if beyond_noise(&difference) => ("more than noise", "plain"),
        Some(_) => ("within noise", "unsure"),
    };
    let sampled = if arm.sampled_tokens > 0 { count(arm.sampled_tokens) } else { "\u{2013}".to_owned() };
    Line {
        rank: if arm.comparison.is_some() { (at + 1).to_string() } else { String::new() },
        name: arm.name.clone(),
        processed: count(arm.processed_tokens),
        trained: count(arm.trained_tokens),
        sampled,
        seconds: if arm.refused.is_none() { duration(arm.seconds) } else { String::new() },
        cells: columns.iter().map(cell).collect(),
        floors,
        floors_class,
        beside: beside.to_owned(),
        beside_class,
        report: arm.report(),
    }
}
