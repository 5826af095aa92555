//! Curves: what trials reported by budget, and where and why they ended.

use serde::Serialize;
use temper_search::{Measured, State};

use super::dots::Strays;
use super::view::{Shown, View, state_name};
use crate::axis::Axis;
use crate::number::count;
use crate::plot::{Dot, Line, Plot, path, percent};

/// The curves of one objective, and the same as a table: a row a trial, a column a rung.
#[derive(Serialize)]
pub(crate) struct Curves {
    plot: Plot,
    /// In percent of the width.
    rungs: Vec<String>,
    heads: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    trial: u64,
    state: &'static str,
    cells: Vec<String>,
}

/// A curve: steps and values, as they are shown.
struct Curve<'v> {
    shown: &'v Shown<'v>,
    points: Vec<(u64, f64)>,
}

pub(crate) fn pictures(view: &View) -> Vec<Curves> {
    (0..view.measures.len()).filter_map(|objective| picture(view, objective)).collect()
}

fn picture(view: &View, objective: usize) -> Option<Curves> {
    let last_step = view.trials.iter().filter_map(|shown| shown.trial.last()).map(|report| report.step).max()?;
    let last_step = last_step.max(view.page.rungs.last().copied().unwrap_or(0));
    let mut curves: Vec<Curve> =
        view.trials.iter().filter_map(|shown| curve(view, shown, objective, last_step)).collect();
    let first_step = curves.iter().filter_map(|curve| curve.points.first()).map(|(step, _)| *step).min()?;
    let values: Vec<f64> = curves.iter().flat_map(|curve| &curve.points).map(|(_, value)| *value).collect();
    let keep: Vec<f64> = curves
        .iter()
        .filter(|curve| curve.shown.default || curve.shown.recommended)
        .flat_map(|curve| curve.points.iter().map(|(_, value)| *value))
        .collect();
    let y = Axis::over(&values, &keep, view.higher_is_better(objective), 6)?;
    let rungs: Vec<u64> = view.page.rungs.iter().copied().filter(|rung| *rung >= first_step).collect();
    let x = Axis::budget(&rungs, first_step, last_step, 6);
    curves.sort_by_key(|curve| (curve.shown.recommended, curve.shown.default, curve.shown.best, curve.shown.whole));

    let mut strays = Strays::default();
    let mut points = Vec::new();
    let mut lines = Vec::new();
    for Curve { shown, points: reports } in &curves {
        let role = match (shown.recommended, shown.default) {
            (true, _) => " recommended",
            (false, true) => " default",
            (false, false) if shown.best => " best",
            _ => "",
        };
        let place = |(step, value): &(u64, f64)| {
            (!value.is_nan()).then(|| (x.at(*step as f64).share, 1.0 - y.at(*value).share))
        };
        let line = path(reports.iter().map(place));
        if line.contains('L') {
            lines.push(Line { class: format!("{}{role}", shown.class()), path: line, title: view.called(shown) });
        }
        let Some((step, value)) = reports.iter().rfind(|(_, value)| !value.is_nan()) else {
            strays.missing += 1;
            continue;
        };
        strays.beyond += usize::from(reports.iter().any(|(_, value)| y.at(*value).beyond));
        points.push(Dot {
            x: percent(x.at(*step as f64).share),
            y: percent(1.0 - y.at(*value).share),
            class: format!("{}{role}", shown.class()),
            mark: match shown.trial.state {
                State::Complete => "",
                State::Pruned | State::Failed => "cross",
                State::Paused => "pause",
                State::Running | State::Stale => "ring",
            },
            stop: shown.default || shown.recommended,
            title: title(view, shown, objective, *value),
        });
    }
    let silent = view.trials.iter().filter(|shown| shown.trial.state == State::Failed && shown.trial.last().is_none());
    let silent = match silent.count() {
        0 => String::new(),
        number => format!(" {} failed before a first report.", count(number)),
    };
    let columns = if rungs.is_empty() { steps(&curves) } else { rungs.clone() };
    Some(Curves {
        rungs: rungs.iter().map(|rung| percent(x.at(*rung as f64).share)).collect(),
        heads: columns.iter().map(|step| count(*step)).collect(),
        rows: rows(view, objective, &mut curves, &columns),
        plot: Plot {
            title: view.measures[objective].label.clone(),
            unit: view.unit(objective),
            x_label: view.page.budget_unit.to_owned(),
            x_ticks: x.across(60),
            y_ticks: y.upwards(),
            description: format!(
                "Reports of {} trials up to {} {}.",
                curves.len(),
                count(last_step),
                view.page.budget_unit
            ),
            note: format!("{}{silent}", strays.note("trial")).trim().to_owned(),
            lines,
            limits: Vec::new(),
            points,
            labels: Vec::new(),
        },
    })
}

/// What a trial reported, with its result at the end of the full budget where it did not report there.
fn curve<'v>(view: &View, shown: &'v Shown<'v>, objective: usize, last: u64) -> Option<Curve<'v>> {
    let value =
        |measured: &Measured| view.scaled(measured.values.get(objective).copied().unwrap_or(f64::NAN), objective);
    let mut points: Vec<(u64, f64)> =
        shown.trial.reports.iter().map(|report| (report.step, value(&report.measured))).collect();
    if let (true, Some(measured)) = (shown.whole, shown.measured)
        && points.last().is_none_or(|(step, _)| *step < last)
    {
        points.push((last, value(measured)));
    }
    (!points.is_empty()).then_some(Curve { shown, points })
}

fn title(view: &View, shown: &Shown, objective: usize, value: f64) -> String {
    let reason = shown.trial.reason.as_deref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{}, {} {}{reason}", view.called(shown), view.measures[objective].label, view.written(value, objective))
}

/// Steps at which most trials report, where no rungs are known: at most eight.
fn steps(curves: &[Curve]) -> Vec<u64> {
    let mut steps: Vec<u64> = curves.iter().flat_map(|curve| curve.points.iter().map(|(step, _)| *step)).collect();
    steps.sort_unstable();
    steps.dedup();
    let every = steps.len().div_ceil(8).max(1);
    steps.into_iter().rev().step_by(every).collect::<Vec<_>>().into_iter().rev().collect()
}

fn rows(view: &View, objective: usize, curves: &mut [Curve], columns: &[u64]) -> Vec<Row> {
    curves.sort_by_key(|curve| curve.shown.trial.number);
    let row = |curve: &Curve| Row {
        trial: curve.shown.trial.number,
        state: state_name(curve.shown.trial.state),
        cells: columns
            .iter()
            .map(|step| {
                curve
                    .points
                    .iter()
                    .find(|(at, _)| at == step)
                    .map_or_else(String::new, |(_, value)| view.written(*value, objective))
            })
            .collect(),
    };
    curves.iter().map(row).collect()
}
