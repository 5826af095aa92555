//! The sealed test: recommended minus default on data that the search never saw, as intervals.

use serde::Serialize;

use super::axis::Axis;
use super::plot::percent;
use super::{Sealed, StudyPage};
use crate::intervals::Tick;
use crate::number::short;

/// Rows that share a scale.
#[derive(Serialize)]
pub(crate) struct Panel {
    unit: String,
    /// Where no difference is.
    zero: String,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
}

/// One measure.
#[derive(Serialize)]
pub(crate) struct Row {
    pub what: String,
    pub unit: String,
    pub direction: &'static str,
    pub low: String,
    pub high: String,
    pub estimate: String,
    pub class: &'static str,
    pub sides: String,
    pub numbers: String,
    pub decision: String,
    pub description: String,
}

pub(crate) fn panels(page: &StudyPage) -> Vec<Panel> {
    let mut groups: Vec<(&str, Vec<&Sealed>)> = Vec::new();
    for row in &page.sealed {
        match groups.iter_mut().find(|(unit, _)| *unit == row.unit) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((&row.unit, vec![row])),
        }
    }
    groups.into_iter().filter_map(|(unit, rows)| panel(unit, &rows)).collect()
}

fn panel(unit: &str, rows: &[&Sealed]) -> Option<Panel> {
    let ends: Vec<f64> = rows.iter().flat_map(|row| row.difference).chain([0.0]).collect();
    let finite: Vec<f64> = ends.into_iter().filter(|end| end.is_finite()).collect();
    let (low, high) = finite.iter().fold((0.0f64, 0.0f64), |(low, high), end| (low.min(*end), high.max(*end)));
    let room = if high > low { 0.06 * (high - low) } else { 1.0 };
    let axis = Axis::linear(low - room, high + room, 4);
    Some(Panel {
        unit: unit.to_owned(),
        zero: percent(axis.at(0.0).share),
        ticks: axis.across(60),
        rows: rows
            .iter()
            .filter(|row| row.difference.iter().all(|end| !end.is_nan()))
            .map(|one| row(one, &axis))
            .collect(),
    })
}

fn row(sealed: &Sealed, axis: &Axis) -> Row {
    let [low, estimate, high] = sealed.difference;
    let class = match sealed.good {
        Some(true) => "good",
        Some(false) => "bad",
        None => "unsure",
    };
    let signed = |value: f64| if value > 0.0 { format!("+{}", short(value)) } else { short(value) };
    let sides = format!("{} → {}", short(sealed.default), short(sealed.recommended));
    let numbers = format!("{} [{}, {}]", signed(estimate), signed(low), signed(high));
    Row {
        what: sealed.what.clone(),
        unit: sealed.unit.clone(),
        direction: if sealed.higher_is_better { "higher is better" } else { "lower is better" },
        low: percent(axis.at(low).share),
        high: percent(axis.at(high).share),
        estimate: percent(axis.at(estimate).share),
        class,
        description: format!("{}: default and recommended {sides}, difference {numbers} {}", sealed.what, sealed.unit),
        sides,
        numbers,
        decision: sealed.decision.clone(),
    }
}
