//! Importance: which parameters each objective depends on, as bars with their standard errors.

use serde::Serialize;
use temper_search::importance::{Importance, importance};

use super::view::View;
use crate::number::{count, percent as share};
use crate::plot::percent;

/// The bars of one objective, or why there are none.
#[derive(Serialize)]
pub(crate) struct Bars {
    title: String,
    /// Why there is no answer; empty: there is one.
    untold: String,
    bars: Vec<Bar>,
    note: String,
}

#[derive(Serialize)]
struct Bar {
    label: String,
    full: String,
    width: String,
    low: String,
    high: String,
    text: String,
}

pub(crate) fn pictures(view: &View) -> Vec<Bars> {
    let of = |objective: usize| {
        let title = view.measures[objective].label.clone();
        match importance(view.page.history, objective) {
            Ok(found) => Bars { title, untold: String::new(), note: note(view, &found), bars: bars(view, &found) },
            Err(why) => Bars { title, untold: format!("Not told: {why}."), bars: Vec::new(), note: String::new() },
        }
    };
    (0..view.measures.len()).map(of).collect()
}

fn bars(view: &View, found: &Importance) -> Vec<Bar> {
    let bar = |one: &temper_search::importance::Share| {
        let label = view.fields.iter().find(|field| field.name == one.name).map_or(&one.name, |field| &field.label);
        Bar {
            label: label.clone(),
            full: one.name.clone(),
            width: percent(one.share),
            low: percent((one.share - one.error).max(0.0)),
            high: percent((one.share + one.error).min(1.0)),
            text: format!("{:.0} % ± {:.0}", 100.0 * one.share, 100.0 * one.error),
        }
    };
    let mut bars: Vec<Bar> = found.shares.iter().map(bar).collect();
    let rest = (1.0 - found.shares.iter().map(|one| one.share).sum::<f64>()).max(0.0);
    bars.push(Bar {
        label: "together only".into(),
        full: "what several parameters do together and none alone".into(),
        width: percent(rest),
        low: percent(rest),
        high: percent(rest),
        text: format!("{:.0} %", 100.0 * rest),
    });
    bars
}

fn note(view: &View, found: &Importance) -> String {
    let at = match found.step {
        None => "at their end".to_owned(),
        Some(step) => format!("at {} {}, since too few came to the end", count(step), view.page.budget_unit),
    };
    let mut said = vec![format!(
        "From {} trials {at}; the fit explains {} of the differences between trials that it had not seen.",
        count(found.trials),
        share(found.explained)
    )];
    if found.left_out > 0 {
        said.push(format!("{} failed, have no number or are outside the space: left out.", count(found.left_out)));
    }
    if found.clipped > 0 {
        said.push(format!("{} far or infinite values were brought to the fence.", count(found.clipped)));
    }
    said.join(" ")
}
