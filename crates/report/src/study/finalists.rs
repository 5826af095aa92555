//! Finalists over seeds: how much of a lead is the seed's.

use serde::Serialize;

use super::view::View;
use crate::axis::Axis;
use crate::intervals::Tick;
use crate::number::count;
use crate::plot::percent;

/// The finalists on one objective.
#[derive(Serialize)]
pub(crate) struct Panel {
    title: String,
    unit: String,
    ticks: Vec<Tick>,
    rows: Vec<Row>,
}

#[derive(Serialize)]
struct Row {
    label: String,
    role: &'static str,
    seeds: Vec<Seed>,
    mean: String,
    /// Mean and standard deviation, in words.
    numbers: String,
    description: String,
}

#[derive(Serialize)]
struct Seed {
    x: String,
    title: String,
}

pub(crate) fn panels(view: &View) -> Vec<Panel> {
    (0..view.measures.len()).filter_map(|objective| panel(view, objective)).collect()
}

fn panel(view: &View, objective: usize) -> Option<Panel> {
    let page = view.page;
    let values = |finalist: &super::Finalist| -> Vec<(u64, f64)> {
        let value = |measured: &temper_search::Measured| measured.values.get(objective).copied().unwrap_or(f64::NAN);
        finalist.seeds.iter().map(|(seed, measured)| (*seed, view.scaled(value(measured), objective))).collect()
    };
    let all: Vec<f64> = page.finalists.iter().flat_map(values).map(|(_, value)| value).collect();
    let finite = all.into_iter().filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), value| (l.min(value), h.max(value)));
    if low > high {
        return None;
    }
    let axis = Axis::around(low, high, 5);
    let row = |finalist: &super::Finalist| {
        let seeds = values(finalist);
        let finite: Vec<f64> = seeds.iter().map(|(_, value)| *value).filter(|value| value.is_finite()).collect();
        let number = finite.len() as f64;
        let mean = finite.iter().sum::<f64>() / number;
        let squares = finite.iter().map(|value| (value - mean).powi(2)).sum::<f64>();
        let numbers = match finite.len() {
            0 => "no number".to_owned(),
            1 => format!("{}, one seed", view.written(mean, objective)),
            seeds => {
                let deviation = (squares / (number - 1.0)).sqrt();
                format!(
                    "{} ± {} over {} seeds",
                    view.written(mean, objective),
                    view.written(deviation, objective),
                    count(seeds)
                )
            }
        };
        let lost = seeds.len() - finite.len();
        let lost = if lost > 0 { format!("; {} without a number", count(lost)) } else { String::new() };
        let role = if page.recommended.as_ref().is_some_and(|recommended| recommended.trial == finalist.trial) {
            "recommended"
        } else if page.default == Some(finalist.trial) {
            "default"
        } else {
            ""
        };
        let seed = |(seed, value): &(u64, f64)| {
            let title = format!("seed {seed}: {}", view.written(*value, objective));
            value.is_finite().then(|| Seed { x: percent(axis.at(*value).share), title })
        };
        Row {
            label: format!("Trial {}", finalist.trial),
            role,
            seeds: seeds.iter().filter_map(seed).collect(),
            mean: if finite.is_empty() { String::new() } else { percent(axis.at(mean).share) },
            description: format!("Trial {}: {numbers}{lost}", finalist.trial),
            numbers: format!("{numbers}{lost}"),
        }
    };
    Some(Panel {
        title: view.measures[objective].label.clone(),
        unit: view.unit(objective),
        ticks: axis.across(60),
        rows: page.finalists.iter().map(row).collect(),
    })
}
