//! Points between base and tuned: what was gained against what was lost, as a table and as fronts.

use serde::{Deserialize, Deserializer, Serialize};
use temper_eval::compare::{Comparison, Metric, Row};
use temper_eval::verdict::FloorDecision;

use crate::chart::{Chart, Mark, front};
use crate::folder::RunFolder;
use crate::number::{Style, loss};

/// `average.json`.
#[derive(Deserialize)]
pub(crate) struct Averages {
    points: Vec<Point>,
    chosen: Option<f64>,
    reason: String,
}

#[derive(Deserialize)]
struct Point {
    weight: f64,
    #[serde(deserialize_with = "finite")]
    validation: Option<f64>,
    comparison: Option<Comparison>,
    kept: Option<bool>,
}

/// A number; the name of one that is not finite is none.
fn finite<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    Ok(Option::<serde_json::Value>::deserialize(from)?.and_then(|value| value.as_f64()))
}

/// The section of the page.
#[derive(Serialize)]
pub(crate) struct Section {
    reason: String,
    heads: Vec<String>,
    rows: Vec<Line>,
    charts: Vec<Chart>,
}

#[derive(Serialize)]
struct Line {
    weight: String,
    cells: Vec<String>,
    floors: &'static str,
    class: &'static str,
    chosen: bool,
}

impl Point {
    fn rows(&self) -> Vec<&Row> {
        point_rows(self.comparison.as_ref())
    }

    fn row(&self, like: &Row) -> Option<&Row> {
        self.rows().into_iter().find(|row| (&row.suite, row.metric) == (&like.suite, like.metric))
    }
}

/// The rows of a comparison by which a point is shown: the domain's, and those that have a floor.
pub fn point_rows(comparison: Option<&Comparison>) -> Vec<&Row> {
    let rows = comparison.into_iter().flat_map(|comparison| &comparison.rows);
    rows.filter(|row| row.kind.is_none() && (row.floor.is_some() || row.suite == "domain")).collect()
}

/// Nothing where the run was not averaged.
pub(crate) fn section(run: &RunFolder) -> Option<Section> {
    let averages = run.averages.as_ref()?;
    let columns = averages.points.first().map(Point::rows).unwrap_or_default();
    let mut heads = vec!["validation loss".to_owned()];
    heads.extend(columns.iter().map(|row| format!("{}, {}", row.suite, Style::of(row.metric).short)));
    let line = |point: &Point| {
        let mut cells = vec![point.validation.map_or(String::new(), loss)];
        cells.extend(columns.iter().map(|column| {
            point.row(column).map_or(String::new(), |row| Style::of(row.metric).interval(&row.difference))
        }));
        let forgot = point.rows().iter().any(|row| row.floor.is_some_and(|f| f.decision == FloorDecision::Forgot));
        let (floors, class) = match (point.kept, forgot) {
            (None, _) => ("", ""),
            (Some(true), _) => ("kept", "good"),
            (Some(false), true) => ("broken", "bad"),
            (Some(false), false) => ("cannot tell", "unsure"),
        };
        let chosen = averages.chosen == Some(point.weight);
        Line { weight: point.weight.to_string(), cells, floors, class, chosen }
    };
    let floored = columns.iter().filter(|row| row.floor.is_some());
    let charts = floored.filter_map(|row| chart(averages, row)).collect();
    Some(Section { reason: averages.reason.clone(), heads, rows: averages.points.iter().map(line).collect(), charts })
}

/// The domain, or without one the validation loss, against one suite.
fn chart(averages: &Averages, suite: &Row) -> Option<Chart> {
    let domain = |point: &Point| {
        let row = point.rows().into_iter().find(|row| row.suite == "domain" && row.metric == Metric::Accuracy)?;
        Some(Style::of(row.metric).scaled(row.difference.estimate))
    };
    let by_domain = averages.points.iter().all(|point| domain(point).is_some());
    let style = Style::of(suite.metric);
    let mark = |point: &Point| {
        let x = if by_domain { domain(point) } else { point.validation }?;
        let row = point.row(suite)?;
        let title = format!("weight {}: {}", point.weight, style.signed(row.difference.estimate));
        Some(Mark { x, y: style.scaled(row.difference.estimate), title, best: averages.chosen == Some(point.weight) })
    };
    let marks: Vec<Mark> = averages.points.iter().filter_map(mark).collect();
    let x_label = if by_domain { "domain accuracy, tuned minus base, points" } else { "validation loss" };
    let better = if suite.higher_is_better { "higher" } else { "lower" };
    front(
        format!("{} by weight", suite.suite),
        format!("{}, {} tuned minus base; {better} is better", style.unit, style.short),
        x_label,
        format!("Each point is a weight, from the base to the run's result; {}.", averages.reason),
        &marks,
    )
}
