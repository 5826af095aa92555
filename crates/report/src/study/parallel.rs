//! Parallel coordinates: every trial as a line through its settings and what came of them. Axes lie across, one below the
//! other, so that their names have room and the picture fits any width.

use serde::Serialize;

use super::dots::Strays;
use super::view::{Shown, View};
use crate::axis::Axis;
use crate::intervals::Tick;
use crate::plot::{Line, path, percent};

/// The picture.
#[derive(Serialize)]
pub(crate) struct Parallel {
    axes: Vec<Row>,
    lines: Vec<Line>,
    /// Steps of the colour, from worst to best.
    colours: Vec<usize>,
    coloured_by: String,
    description: String,
    note: String,
    /// Axes that are left out since no two trials differ on them.
    same: Vec<String>,
}

#[derive(Serialize)]
struct Row {
    label: String,
    full: String,
    unit: String,
    objective: bool,
    /// In percent of the height.
    y: String,
    ticks: Vec<Mark>,
}

/// A mark of an axis, where there is room and where there is little.
#[derive(Serialize)]
struct Mark {
    at: String,
    label: String,
    /// Cut.
    narrow: String,
    /// Left out where there is little room.
    spare: bool,
}

/// Steps of the colour.
const COLOURS: usize = 6;

/// An axis and where each trial stands on it.
struct Lane {
    row: Row,
    at: Vec<Option<f64>>,
}

pub(crate) fn picture(view: &View) -> Option<Parallel> {
    let mut strays = Strays::default();
    let mut lanes: Vec<Lane> = view
        .varying()
        .into_iter()
        .filter_map(|field| {
            let axis = field.axis(view, 6)?;
            let at = |shown: &Shown| axis.of(shown.point.get(&field.name)?).map(|at| at.share);
            let at = view.trials.iter().map(at).collect();
            let unit = if field.is_log() { "log" } else { "" };
            Some(Lane { row: row(&field.label, &field.name, unit.into(), false, &axis), at })
        })
        .collect();
    if lanes.is_empty() {
        return None;
    }
    for (objective, measure) in view.measures.iter().enumerate() {
        let Some(axis) = view.axis(objective, 6) else { continue };
        let at = view.trials.iter().map(|shown| {
            let value = view.value(shown, objective);
            if value.is_nan() {
                return None;
            }
            let at = axis.at(value);
            strays.beyond += usize::from(at.beyond);
            Some(at.share)
        });
        let at = at.collect();
        let way = if view.higher_is_better(objective) { "higher is better" } else { "lower is better" };
        let unit = if measure.unit.is_empty() { way.to_owned() } else { format!("{}, {way}", measure.unit) };
        lanes.push(Lane { row: row(&measure.label, &measure.label, unit, true, &axis), at });
    }
    let count = lanes.len() as f64;
    for (index, lane) in lanes.iter_mut().enumerate() {
        lane.row.y = percent((index as f64 + 0.5) / count);
    }
    let mut order: Vec<usize> = (0..view.trials.len()).collect();
    let colour = |index: usize| colour(view, &view.trials[index]);
    order.sort_by_key(|&index| {
        let shown = &view.trials[index];
        (shown.recommended, shown.default, colour(index))
    });
    let line = |&index: &usize| {
        let shown = &view.trials[index];
        let role = match (shown.recommended, shown.default) {
            (true, _) => " recommended",
            (false, true) => " default",
            _ => "",
        };
        let colour = colour(index).map_or_else(|| "none".to_owned(), |colour| format!("q{colour}"));
        let places =
            lanes.iter().enumerate().map(|(lane, Lane { at, .. })| Some((at[index]?, (lane as f64 + 0.5) / count)));
        Line { class: format!("{colour} {}{role}", shown.class()), path: path(places), title: view.says(shown) }
    };
    let lines: Vec<Line> = order.iter().map(line).filter(|line| line.path.contains('L')).collect();
    let same = view.fields.iter().filter(|field| !field.varies).map(|field| field.label.clone()).collect();
    Some(Parallel {
        lines,
        colours: (0..COLOURS).collect(),
        coloured_by: view.measures[0].label.clone(),
        description: format!(
            "Each of {} trials is a line across {} axes; the table of all trials has the same.",
            view.trials.len(),
            lanes.len()
        ),
        note: strays.note("value"),
        axes: lanes.into_iter().map(|lane| lane.row).collect(),
        same,
    })
}

fn row(label: &str, full: &str, unit: String, objective: bool, axis: &Axis) -> Row {
    Row { label: label.into(), full: full.into(), unit, objective, y: String::new(), ticks: ticks(axis) }
}

fn ticks(axis: &Axis) -> Vec<Mark> {
    let few = axis.has_choices() || axis.marks().len() <= 4;
    let mark = |(index, (wide, narrow)): (usize, (Tick, Tick))| Mark {
        at: wide.at,
        label: wide.label,
        narrow: narrow.label,
        spare: !few && index % 2 == 1,
    };
    axis.across(100).into_iter().zip(axis.across(28)).enumerate().map(mark).collect()
}

/// The step of a trial's colour by its rank on the first objective among those that have a number, the highest the best.
fn colour(view: &View, shown: &Shown) -> Option<usize> {
    let value = view.value(shown, 0);
    if value.is_nan() {
        return None;
    }
    let all: Vec<f64> = view.trials.iter().map(|other| view.value(other, 0)).filter(|value| !value.is_nan()).collect();
    let worse = all.iter().filter(|other| if view.higher_is_better(0) { **other < value } else { **other > value });
    Some(worse.count() * COLOURS / all.len())
}
