//! One arm beside another on the same items: what a stage adds, and every pair.

use serde::Serialize;
use temper_eval::compare::{Metric, Row};

use super::{Arms, Difference, beyond_noise, row_of, shown_rows};
use crate::intervals::{Entry, Panel};
use crate::number::Style;

/// What each stage adds, a panel a metric.
pub(super) fn panels(arms: &Arms) -> Vec<Panel> {
    let added: Vec<&Difference> = arms.differences.iter().filter(|difference| difference.adds.is_some()).collect();
    let panel = |(suite, metric): &(&str, Metric)| {
        let entries: Vec<Entry<'_>> = added.iter().filter_map(|pair| entry(arms, pair, (*suite, *metric))).collect();
        let higher = entries.first()?.row.higher_is_better;
        Some(Panel::of(format!("{suite} {}", Style::of(*metric).short), higher, entries))
    };
    columns(arms).iter().filter_map(panel).collect()
}

fn entry<'a>(arms: &Arms, pair: &'a Difference, column: (&str, Metric)) -> Option<Entry<'a>> {
    let row = row_of(&pair.rows, column)?;
    let kind = arms.kinds.get(pair.adds?).map_or("", String::as_str);
    let (class, decision) = match decided(row) {
        (false, _) => ("unsure", "within noise"),
        (true, true) => ("good", "more than noise"),
        (true, false) => ("bad", "more than noise"),
    };
    let (label, minor) = (format!("{} beside {}", pair.of, pair.beside), format!("adds {kind}"));
    Some(Entry { label, minor, row, class, decision: decision.to_owned() })
}

/// Whether a difference is more than noise, and whether it is for the better.
fn decided(row: &Row) -> (bool, bool) {
    (beyond_noise(&row.difference), (row.difference.estimate > 0.0) == row.higher_is_better)
}

/// What all pairs are shown by: a divergence is from each one's own start, and has no place between two arms.
fn columns(arms: &Arms) -> Vec<(&str, Metric)> {
    let first = arms.differences.first().map_or_else(Vec::new, |pair| shown_rows(&pair.rows));
    first.into_iter().map(|row| (row.suite.as_str(), row.metric)).collect()
}

/// Every pair.
#[derive(Serialize)]
pub(super) struct Table {
    heads: Vec<String>,
    rows: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    of: String,
    beside: String,
    cells: Vec<Cell>,
}

#[derive(Serialize)]
struct Cell {
    text: String,
    /// Whether zero is outside of the interval.
    sure: bool,
    class: &'static str,
}

/// None where no pair differs by more than a stage: the panels hold them all.
pub(super) fn table(arms: &Arms) -> Option<Table> {
    arms.differences.iter().find(|pair| pair.adds.is_none())?;
    let columns = columns(arms);
    let cell = |row: Option<&Row>| {
        let Some(row) = row else { return Cell { text: String::new(), sure: false, class: "" } };
        let (sure, better) = decided(row);
        let class = match (sure, better) {
            (false, _) => "muted",
            (true, true) => "better",
            (true, false) => "worse",
        };
        Cell { text: Style::of(row.metric).interval(&row.difference), sure, class }
    };
    let line = |pair: &Difference| Line {
        of: pair.of.clone(),
        beside: pair.beside.clone(),
        cells: columns.iter().map(|column| cell(row_of(&pair.rows, *column))).collect(),
    };
    let head = |(suite, metric): &(&str, Metric)| {
        let style = Style::of(*metric);
        format!("{suite} {}, {}", style.short, style.unit)
    };
    Some(Table { heads: columns.iter().map(head).collect(), rows: arms.differences.iter().map(line).collect() })
}
