//! Both axes as intervals against their floors, and as a table.

use serde::Serialize;
use temper_eval::compare::{Comparison, Metric, Row};
use temper_eval::verdict::FloorDecision;

use crate::number::{Style, count, place, tick_labels, ticks};

/// Rows that share a scale.
#[derive(Serialize)]
pub(crate) struct Panel {
    /// Empty: none, and then no unit and direction either.
    pub title: String,
    pub unit: String,
    pub direction: &'static str,
    /// Where no difference is. Places are in percent of the width, as text.
    pub zero: String,
    pub ticks: Vec<Tick>,
    pub rows: Vec<Bar>,
}

/// A mark of an axis.
#[derive(Serialize)]
pub(crate) struct Tick {
    pub at: String,
    pub label: String,
}

/// A difference with its interval.
#[derive(Serialize)]
pub(crate) struct Bar {
    pub label: String,
    pub minor: String,
    pub low: String,
    pub high: String,
    pub estimate: String,
    pub zone: Option<Zone>,
    pub class: &'static str,
    /// What is compared: before and after.
    pub sides: String,
    /// The difference.
    pub numbers: String,
    pub decision: String,
    /// For readers who do not see the plot.
    pub description: String,
}

/// A difference that is to be drawn.
pub(crate) struct Entry<'r> {
    pub label: String,
    pub minor: String,
    pub row: &'r Row,
    pub class: &'static str,
    pub decision: String,
}

/// What lies beyond the floor.
#[derive(Serialize)]
pub(crate) struct Zone {
    x: String,
    width: String,
    edge: String,
}

/// A line of the table.
#[derive(Serialize)]
pub(crate) struct TableRow {
    pub suite: String,
    pub metric: &'static str,
    pub base: String,
    pub tuned: String,
    pub difference: String,
    pub interval: String,
    pub items: String,
    pub sources: String,
    pub floor: String,
    pub class: &'static str,
}

/// Name of the domain's rows in a comparison.
const DOMAIN: &str = "domain";

/// The rows worth a drawing, by axis and unit. Per-byte metrics repeat others and stand in the table only.
pub(crate) fn panels(comparison: &Comparison) -> Vec<Panel> {
    let drawn = |row: &&Row| !matches!(row.metric, Metric::BitsPerByte | Metric::AccuracyPerByte);
    let mut groups: Vec<(bool, &'static str, bool, Vec<&Row>)> = Vec::new();
    for row in comparison.rows.iter().filter(drawn) {
        let (domain, unit) = (row.suite == DOMAIN, Style::of(row.metric).unit);
        match groups.iter_mut().find(|g| (g.0, g.1, g.2) == (domain, unit, row.higher_is_better)) {
            Some(group) => group.3.push(row),
            None => groups.push((domain, unit, row.higher_is_better, vec![row])),
        }
    }
    // The domain first, then what is judged by a floor before what is only shown.
    groups.sort_by_key(|(domain, _, _, rows)| (!domain, rows.iter().all(|row| row.floor.is_none())));
    groups.into_iter().map(|(domain, _, higher, rows)| panel(domain, higher, &rows)).collect()
}

fn panel(domain: bool, higher_is_better: bool, rows: &[&Row]) -> Panel {
    let entries = rows.iter().map(|row| {
        let (class, decision) = decision(row, domain);
        let label = row.kind.as_ref().map_or(row.suite.clone(), |kind| format!("{} / {kind}", row.suite));
        Entry { label, minor: metric_name(row.metric).to_owned(), row, class, decision }
    });
    let title = if domain { "What was gained: the domain" } else { "What was kept: general ability" };
    Panel::of(title.to_owned(), higher_is_better, entries.collect())
}

impl Panel {
    /// Of rows in one unit, of which more or less is better; a floor is drawn where a row has one.
    pub fn of(title: String, higher_is_better: bool, entries: Vec<Entry<'_>>) -> Self {
        // A margin on the side where the model got worse.
        let edge = |row: &Row| row.floor.map(|floor| if higher_is_better { -floor.margin } else { floor.margin });
        let (mut low, mut high) = (0.0f64, 0.0f64);
        for row in entries.iter().map(|entry| entry.row) {
            let style = Style::of(row.metric);
            for value in [Some(row.difference.low), Some(row.difference.high), edge(row)].into_iter().flatten() {
                (low, high) = (low.min(style.scaled(value)), high.max(style.scaled(value)));
            }
        }
        let padding = 0.08 * (high - low).max(f64::MIN_POSITIVE);
        let (low, high) = (low - padding, high + padding);
        let at = |value: f64| 100.0 * (value - low) / (high - low);
        let marks = ticks(low, high, 6);
        let labels = tick_labels(&marks);
        let unit = entries.first().map_or("", |entry| Style::of(entry.row.metric).unit);
        let bar = |Entry { label, minor, row, class, decision }: Entry<'_>| {
            let style = Style::of(row.metric);
            let on = |value: f64| at(style.scaled(value));
            let d = &row.difference;
            let zone = edge(row).map(|edge| {
                let edge = on(edge);
                let (x, width) = if higher_is_better { (0.0, edge) } else { (edge, 100.0 - edge) };
                Zone { x: place(x), width: place(width), edge: place(edge) }
            });
            let numbers = style.interval(d);
            let sides = match row.base {
                Some(base) => format!("{} \u{2192} {}", style.value(base), style.value(row.tuned)),
                None => String::new(),
            };
            Bar {
                description: format!("{label}, {minor}: {sides} {numbers} {unit}. {decision}."),
                label,
                minor,
                low: place(on(d.low)),
                high: place(on(d.high)),
                estimate: place(on(d.estimate)),
                zone,
                class,
                sides,
                numbers,
                decision,
            }
        };
        Self {
            title,
            unit: unit.to_owned(),
            direction: if higher_is_better { "more is better" } else { "less is better" },
            zero: place(at(0.0)),
            rows: entries.into_iter().map(bar).collect(),
            ticks: marks.iter().zip(labels).map(|(&mark, label)| Tick { at: place(at(mark)), label }).collect(),
        }
    }
}

/// A metric beside the name of its suite, without the unit that the panel names.
fn metric_name(metric: Metric) -> &'static str {
    match metric {
        Metric::RelativeLoss => "loss",
        Metric::NatsPerToken => "loss per token",
        Metric::Kl => "KL(base || tuned) per token",
        other => Style::of(other).name,
    }
}

/// Colour and words of a row: by its floor, else, on the domain, by whether zero lies outside.
fn decision(row: &Row, domain: bool) -> (&'static str, String) {
    if let Some(floor) = &row.floor {
        let style = Style::of(row.metric);
        let limit = style.signed(if row.higher_is_better { -floor.margin } else { floor.margin });
        return match floor.decision {
            FloorDecision::Kept => ("good", format!("floor {limit}: kept")),
            FloorDecision::Forgot => ("bad", format!("floor {limit}: forgot")),
            FloorDecision::CannotTell { about_n } => {
                ("unsure", format!("floor {limit}: cannot tell, needs about {} items", count(about_n)))
            }
        };
    }
    let d = &row.difference;
    let (better, worse) = if row.higher_is_better { (d.low > 0.0, d.high < 0.0) } else { (d.high < 0.0, d.low > 0.0) };
    match (domain, better, worse) {
        (true, true, _) => ("good", "gained".to_owned()),
        (true, _, true) => ("bad", "worse".to_owned()),
        (true, ..) => ("unsure", "no gain shown".to_owned()),
        (false, ..) => ("plain", "no floor".to_owned()),
    }
}

/// Every row as text.
pub(crate) fn table(comparison: &Comparison) -> Vec<TableRow> {
    let row = |row: &Row| {
        let (style, d) = (Style::of(row.metric), &row.difference);
        let (class, floor) = decision(row, row.suite == DOMAIN);
        TableRow {
            suite: row.kind.as_ref().map_or(row.suite.clone(), |kind| format!("{} / {kind}", row.suite)),
            metric: style.name,
            base: row.base.map_or("\u{2013}".to_owned(), |base| style.value(base)),
            tuned: style.value(row.tuned),
            difference: format!("{} {}", style.signed(d.estimate), style.unit),
            interval: format!("{} to {}", style.signed(d.low), style.signed(d.high)),
            items: count(d.n as u64),
            sources: count(d.clusters as u64),
            floor: if row.floor.is_some() { floor } else { String::new() },
            class,
        }
    };
    comparison.rows.iter().map(row).collect()
}
