//! Slices: each parameter against each objective; and where the best trials lie on each parameter.

use serde::Serialize;
use temper_search::Value;

use super::dots::Strays;
use super::view::{Field, Shown, View};
use crate::axis::{Axis, text};
use crate::number::{count, short};
use crate::plot::{Dot, Plot};

/// The slices of one objective.
#[derive(Serialize)]
pub(crate) struct Slices {
    title: String,
    note: String,
    plots: Vec<Plot>,
}

/// Where trials lie on one field.
#[derive(Serialize)]
pub(crate) struct Habit {
    label: String,
    full: String,
    default: String,
    recommended: String,
    best: String,
    all: String,
}

/// The best part of the trials whose values a [`Habit`] tells, and the fewest that are a part.
const BEST: usize = 5;
const FEWEST: usize = 3;

pub(crate) fn pictures(view: &View) -> Vec<Slices> {
    let of = |objective: usize| {
        let axis = view.axis(objective, 4)?;
        let plots: Vec<Plot> =
            view.varying().into_iter().filter_map(|field| plot(view, field, objective, &axis)).collect();
        let title = format!("{}, {}", view.measures[objective].label, view.unit(objective));
        let mut strays = Strays::default();
        for value in
            view.trials.iter().filter(|shown| shown.measured.is_some()).map(|shown| view.value(shown, objective))
        {
            strays.missing += usize::from(value.is_nan());
            strays.beyond += usize::from(!value.is_nan() && axis.at(value).beyond);
        }
        (!plots.is_empty()).then(|| Slices { title, note: strays.note("trial"), plots })
    };
    (0..view.measures.len()).filter_map(of).collect()
}

fn plot(view: &View, field: &Field, objective: usize, y: &Axis) -> Option<Plot> {
    let (x, across) = (field.axis(view, 4)?, Axis::linear(0.0, 1.0, 1));
    let mut trials: Vec<&Shown> = view.trials.iter().filter(|shown| shown.measured.is_some()).collect();
    trials.sort_by_key(|shown| (shown.recommended, shown.default, shown.best, shown.whole));
    let dot = |shown: &&Shown| {
        let value = shown.point.get(&field.name)?;
        let at = x.of(value)?;
        let dot = view.dot(shown, [(&across, at.share), (y, view.value(shown, objective))], &mut Strays::default())?;
        let title = format!(
            "Trial {}: {}, {}",
            shown.trial.number,
            text(value),
            view.written(view.value(shown, objective), objective)
        );
        Some(Dot { title, ..dot })
    };
    let points: Vec<Dot> = trials.iter().filter_map(dot).collect();
    let inactive = view.trials.iter().filter(|shown| !shown.point.contains_key(&field.name)).count();
    let note = if inactive > 0 { format!("not active in {}", count(inactive)) } else { String::new() };
    Some(Plot {
        title: field.label.clone(),
        unit: if field.is_log() { "log".into() } else { String::new() },
        x_label: field.name.clone(),
        x_ticks: x.across(26),
        y_ticks: y.upwards(),
        description: format!("{} trials by {}.", count(points.len()), field.name),
        note,
        lines: Vec::new(),
        limits: Vec::new(),
        points,
        labels: Vec::new(),
    })
}

/// The values of the best fifth of the trials that finished and hold the constraints, by the first objective, beside all.
pub(crate) fn habits(view: &View) -> Vec<Habit> {
    let mut whole: Vec<&Shown> = view
        .trials
        .iter()
        .filter(|shown| shown.whole && shown.feasible == Some(true) && view.value(shown, 0).is_finite())
        .collect();
    whole.sort_by(|a, b| {
        let (a, b) = (view.value(a, 0), view.value(b, 0));
        if view.higher_is_better(0) { b.total_cmp(&a) } else { a.total_cmp(&b) }
    });
    whole.truncate(whole.len().div_ceil(BEST));
    let habit = |field: &&Field| {
        let of = |found: Option<&Shown>| {
            found.and_then(|shown| shown.point.get(&field.name)).map_or_else(|| "–".to_owned(), text)
        };
        let values = |trials: &mut dyn Iterator<Item = &Shown>| {
            range(&trials.filter_map(|shown| shown.point.get(&field.name)).collect::<Vec<_>>())
        };
        Habit {
            label: field.label.clone(),
            full: field.name.clone(),
            default: of(view.trials.iter().find(|shown| shown.default)),
            recommended: of(view.trials.iter().find(|shown| shown.recommended)),
            best: if whole.len() < FEWEST { "too few".into() } else { values(&mut whole.iter().copied()) },
            all: values(&mut view.trials.iter()),
        }
    };
    view.varying().iter().map(habit).collect()
}

/// From the lowest to the highest, or each choice with how often.
fn range(values: &[&Value]) -> String {
    let numbers: Vec<f64> = values.iter().filter_map(|value| value.number()).collect();
    if values.is_empty() {
        return "–".to_owned();
    }
    if numbers.len() == values.len() {
        let low = numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let high = numbers.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        return if low == high { short(low) } else { format!("{} to {}", short(low), short(high)) };
    }
    let mut choices: Vec<(&Value, usize)> = Vec::new();
    for value in values {
        match choices.iter_mut().find(|(one, _)| one.same(value)) {
            Some((_, times)) => *times += 1,
            None => choices.push((value, 1)),
        }
    }
    choices.sort_by_key(|(_, times)| std::cmp::Reverse(*times));
    choices.iter().map(|(value, times)| format!("{} {}×", text(value), count(*times))).collect::<Vec<_>>().join(", ")
}
