//! The front: two objectives against each other; of one objective, what was found by which trial.

use serde::Serialize;
use temper_search::Direction;

use super::dots::Strays;
use super::view::{Shown, View};
use crate::axis::Axis;
use crate::number::count;
use crate::plot::{BOX, Dot, Label, Limit, Line, Plot, percent};

/// A picture and the same as a table.
#[derive(Serialize)]
pub(crate) struct Front {
    plot: Plot,
    heads: Vec<String>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    trial: u64,
    role: &'static str,
    cells: Vec<String>,
}

/// The first objective against each other one, or over the trials where it is the only one.
pub(crate) fn pictures(view: &View) -> Vec<Front> {
    let others: Vec<usize> = (1..view.measures.len()).collect();
    let plots: Vec<Plot> = if others.is_empty() {
        progress(view).into_iter().collect()
    } else {
        others.into_iter().filter_map(|other| pair(view, other)).collect()
    };
    // The table is that of the whole front, once.
    let table = |(index, plot): (usize, Plot)| {
        let rows = if index == 0 { rows(view) } else { Vec::new() };
        Front { plot, heads: (0..view.measures.len()).map(|objective| view.title(objective)).collect(), rows }
    };
    plots.into_iter().enumerate().map(table).collect()
}

fn pair(view: &View, other: usize) -> Option<Plot> {
    let (x, y) = (view.axis(0, 6)?, view.axis(other, 6)?);
    let mut strays = Strays::default();
    let at = |shown: &Shown| [(&x, view.value(shown, 0)), (&y, view.value(shown, other))];
    let points = dots(view, &mut strays, at);
    let front: Vec<&Shown> = view.trials.iter().filter(|shown| shown.best).collect();
    let mut lines = Vec::new();
    if view.measures.len() == 2 {
        lines.extend(staircase(view, &front, [&x, &y]));
    }
    // The limit's name stands where the names of points do not.
    let right = !view.trials.iter().any(|one| (one.default || one.recommended) && x.at(view.value(one, 0)).share > 0.5);
    let limits = view.page.bounds.iter().filter_map(|bound| {
        let upright = match bound.objective {
            0 => true,
            objective if objective == other => false,
            _ => return None,
        };
        let at = if upright { &x } else { &y }.at(view.scaled(bound.at, bound.objective)).share;
        let at = percent(if upright { at } else { 1.0 - at });
        Some(Limit { upright, at, label: bound.label.clone(), right })
    });
    let described = front.iter().map(|shown| view.says(shown)).collect::<Vec<_>>().join(". ");
    Some(Plot {
        title: format!("{} against {}", view.measures[other].label, view.measures[0].label),
        unit: format!("{}; {}", view.title(other), better(view, other)),
        x_label: format!("{}; {}", view.title(0), better(view, 0)),
        x_ticks: x.across(60),
        y_ticks: y.upwards(),
        description: format!("{} trials; on the front: {described}.", count(view.trials.len())),
        note: strays.note("trial"),
        lines,
        limits: limits.collect(),
        labels: labels(view, at),
        points,
    })
}

/// What each trial came to, in their order, and the best until then.
fn progress(view: &View) -> Option<Plot> {
    let y = view.axis(0, 6)?;
    let last = view.trials.last()?.trial.number.max(1) as f64;
    let x = Axis::linear(-0.02 * last, 1.02 * last, 6);
    let mut strays = Strays::default();
    let at = |shown: &Shown| [(&x, shown.trial.number as f64), (&y, view.value(shown, 0))];
    let points = dots(view, &mut strays, at);
    let mut best = f64::NAN;
    let mut path = String::new();
    for shown in view.trials.iter().filter(|shown| shown.whole && shown.feasible == Some(true)) {
        let value = view.value(shown, 0);
        let better = if view.higher_is_better(0) { value > best } else { value < best };
        if better || best.is_nan() && !value.is_nan() {
            best = value;
            let (right, up) = (BOX * x.at(shown.trial.number as f64).share, BOX * (1.0 - y.at(best).share));
            path += &if path.is_empty() { format!("M{right:.0} {up:.0}") } else { format!("H{right:.0}V{up:.0}") };
        }
    }
    if !path.is_empty() {
        path += &format!("H{:.0}", BOX * x.at(last).share);
    }
    let lines = vec![Line { class: "front".into(), path, title: String::new() }];
    let limits = view.page.bounds.iter().map(|bound| Limit {
        upright: false,
        at: percent(1.0 - y.at(view.scaled(bound.at, 0)).share),
        label: bound.label.clone(),
        right: false,
    });
    Some(Plot {
        title: format!("{} of each trial, and the best until then", view.measures[0].label),
        unit: view.unit(0),
        x_label: "trial".into(),
        x_ticks: x.across(60).into_iter().filter(|tick| !tick.label.contains(['.', '−'])).collect(),
        y_ticks: y.upwards(),
        description: format!(
            "{} trials; the best that finished came to {}.",
            count(view.trials.len()),
            view.written(best, 0)
        ),
        note: strays.note("trial"),
        lines: lines.into_iter().filter(|line| !line.path.is_empty()).collect(),
        limits: limits.collect(),
        labels: labels(view, at),
        points,
    })
}

/// All points, those last that must not be covered.
fn dots<'v>(view: &'v View, strays: &mut Strays, at: impl Fn(&'v Shown<'v>) -> [(&'v Axis, f64); 2]) -> Vec<Dot> {
    let mut trials: Vec<&Shown> = view.trials.iter().filter(|shown| shown.measured.is_some()).collect();
    trials.sort_by_key(|shown| (shown.recommended, shown.default, shown.best, shown.whole));
    let dot = |shown: &&'v Shown<'v>| {
        let dot = view.dot(shown, at(shown), strays)?;
        let stop = shown.best || shown.default || shown.recommended;
        Some(Dot { stop, title: view.says(shown), ..dot })
    };
    trials.iter().filter_map(dot).collect()
}

/// The names of default and recommended beside their points; the one that is higher up stands above.
fn labels<'v>(view: &'v View, at: impl Fn(&'v Shown<'v>) -> [(&'v Axis, f64); 2]) -> Vec<Label> {
    let named = view.trials.iter().filter(|shown| shown.default || shown.recommended);
    let mut named: Vec<(f64, f64, String)> = named
        .filter_map(|shown| {
            let [(x, right), (y, up)] = at(shown);
            let role = if shown.recommended { "recommended" } else { "default" };
            let text = format!("{role} ({})", shown.trial.number);
            (!right.is_nan() && !up.is_nan()).then(|| (x.at(right).share, y.at(up).share, text))
        })
        .collect();
    named.sort_by(|a, b| b.1.total_cmp(&a.1));
    let label = |(index, (right, up, text)): (usize, (f64, f64, String))| Label {
        x: percent(right),
        y: percent(1.0 - up),
        text,
        anchor: match right {
            share if share > 0.7 => "end",
            share if share < 0.3 => "start",
            _ => "middle",
        },
        dx: if right > 0.7 {
            4
        } else if right < 0.3 {
            -4
        } else {
            0
        },
        dy: if index == 0 { -11 } else { 21 },
    };
    named.into_iter().enumerate().map(label).collect()
}

/// The border of what the front beats, as steps.
fn staircase(view: &View, front: &[&Shown], axes: [&Axis; 2]) -> Option<Line> {
    let mut places: Vec<(f64, f64)> = front
        .iter()
        .map(|shown| (view.value(shown, 0), view.value(shown, 1)))
        .filter(|(x, y)| x.is_finite() && y.is_finite())
        .collect();
    let maximize = view.page.history.goals().objectives[0].direction == Direction::Maximize;
    places.sort_by(|a, b| if maximize { b.0.total_cmp(&a.0) } else { a.0.total_cmp(&b.0) });
    let at = |(x, y): &(f64, f64)| (BOX * axes[0].at(*x).share, BOX * (1.0 - axes[1].at(*y).share));
    let (first, rest) = places.split_first()?;
    let (x, y) = at(first);
    let step = |place: &(f64, f64)| {
        let (x, y) = at(place);
        format!("H{x:.0}V{y:.0}")
    };
    let path = format!("M{x:.0} {y:.0}{}", rest.iter().map(step).collect::<String>());
    Some(Line { class: "front".into(), path, title: String::new() })
}

fn rows(view: &View) -> Vec<Row> {
    let mut shown: Vec<&Shown> =
        view.trials.iter().filter(|shown| shown.best || shown.default || shown.recommended).collect();
    let up = view.higher_is_better(0);
    shown.sort_by(|a, b| {
        let (a, b) = (view.value(a, 0), view.value(b, 0));
        if up { b.total_cmp(&a) } else { a.total_cmp(&b) }
    });
    let row = |shown: &&Shown| Row {
        trial: shown.trial.number,
        role: match (shown.recommended, shown.default, shown.best) {
            (true, true, _) => "recommended, the default",
            (true, false, _) => "recommended",
            (false, true, true) => "default, on the front",
            (false, true, false) => "default",
            (false, false, _) => "on the front",
        },
        cells: (0..view.measures.len())
            .map(|objective| {
                if shown.measured.is_some() {
                    view.written(view.value(shown, objective), objective)
                } else {
                    "–".into()
                }
            })
            .collect(),
    };
    shown.iter().map(row).collect()
}

/// Which way is better, in words.
pub(crate) fn better(view: &View, objective: usize) -> &'static str {
    if view.higher_is_better(objective) { "higher is better" } else { "lower is better" }
}
