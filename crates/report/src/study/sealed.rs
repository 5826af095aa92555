//! The sealed test: recommended minus default on data that the search never saw, as intervals.

use super::{Sealed, StudyPage};
use crate::axis::Axis;
use crate::intervals::{Bar, Panel};
use crate::number::short;
use crate::plot::percent;

pub(crate) fn panels(page: &StudyPage) -> Vec<Panel> {
    let mut groups: Vec<(&str, Vec<&Sealed>)> = Vec::new();
    for row in &page.sealed {
        match groups.iter_mut().find(|(unit, _)| *unit == row.unit) {
            Some((_, rows)) => rows.push(row),
            None => groups.push((&row.unit, vec![row])),
        }
    }
    groups.into_iter().map(|(_, rows)| panel(&rows)).collect()
}

fn panel(rows: &[&Sealed]) -> Panel {
    let ends: Vec<f64> = rows.iter().flat_map(|row| row.difference).chain([0.0]).collect();
    let finite: Vec<f64> = ends.into_iter().filter(|end| end.is_finite()).collect();
    let (low, high) = finite.iter().fold((0.0f64, 0.0f64), |(low, high), end| (low.min(*end), high.max(*end)));
    let room = if high > low { 0.06 * (high - low) } else { 1.0 };
    let axis = Axis::linear(low - room, high + room, 4);
    Panel {
        title: String::new(),
        unit: String::new(),
        direction: "",
        zero: percent(axis.at(0.0).share),
        ticks: axis.across(60),
        rows: rows
            .iter()
            .filter(|row| row.difference.iter().all(|end| !end.is_nan()))
            .map(|one| row(one, &axis))
            .collect(),
    }
}

fn row(sealed: &Sealed, axis: &Axis) -> Bar {
    let [low, estimate, high] = sealed.difference;
    let class = match sealed.good {
        Some(true) => "good",
        Some(false) => "bad",
        None => "unsure",
    };
    let signed = |value: f64| if value > 0.0 { format!("+{}", short(value)) } else { short(value) };
    let sides = format!("{} → {}", short(sealed.default), short(sealed.recommended));
    let numbers = format!("{} [{}, {}]", signed(estimate), signed(low), signed(high));
    let direction = if sealed.higher_is_better { "higher is better" } else { "lower is better" };
    let unit = if sealed.unit.is_empty() { String::new() } else { format!("{}; ", sealed.unit) };
    Bar {
        label: sealed.what.clone(),
        minor: format!("{unit}{direction}"),
        low: percent(axis.at(low).share),
        high: percent(axis.at(high).share),
        estimate: percent(axis.at(estimate).share),
        zone: None,
        class,
        description: format!("{}: default and recommended {sides}, difference {numbers} {}", sealed.what, sealed.unit),
        sides,
        numbers,
        decision: sealed.decision.clone(),
    }
}
