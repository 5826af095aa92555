//! The answer: what is recommended, why, what changes in the recipe, and what the search took.

use serde::Serialize;
use temper_search::State;

use super::view::View;
use crate::axis::text;
use crate::number::{count, duration};

/// The head of the page.
#[derive(Serialize)]
pub(crate) struct Answer {
    pub short: String,
    reason: String,
    class: &'static str,
    /// Each field in which the recommended trial differs from the default.
    changes: Vec<Change>,
    /// Fields that both have alike.
    kept: usize,
    /// What the search took, in facts.
    facts: Vec<Fact>,
    notes: Vec<String>,
}

#[derive(Serialize)]
struct Change {
    label: String,
    full: String,
    default: String,
    recommended: String,
}

#[derive(Serialize)]
struct Fact {
    name: &'static str,
    value: String,
}

pub(crate) fn answer(view: &View) -> Answer {
    let page = view.page;
    let finished = view.trials.iter().filter(|shown| shown.trial.state == State::Complete).count();
    let recommended = view.trials.iter().find(|shown| shown.recommended);
    let default = view.trials.iter().find(|shown| shown.default);
    let (short, reason, class) = match (&page.recommended, recommended) {
        (Some(why), Some(shown)) if shown.default => {
            (format!("Keep the default (trial {})", why.trial), why.reason.clone(), "unsure")
        }
        (Some(why), _) => (
            format!("Trial {} is recommended", why.trial),
            why.reason.clone(),
            if why.sure { "good" } else { "unsure" },
        ),
        (None, _) if view.trials.is_empty() => {
            ("Nothing was tried".into(), "The study has no trial yet.".into(), "unsure")
        }
        (None, _) if finished == 0 => {
            ("No answer yet".into(), "No trial has come to its end: there is nothing to compare.".into(), "unsure")
        }
        (None, _) => {
            let feasible = view.trials.iter().any(|shown| shown.whole && shown.feasible == Some(true));
            let reason =
                if feasible { "No trial is recommended yet." } else { "No trial that finished holds all constraints." };
            ("No recommendation".into(), reason.into(), "unsure")
        }
    };
    let mut changes = Vec::new();
    let mut kept = 0;
    if let (Some(default), Some(recommended)) = (default, recommended) {
        for field in &view.fields {
            let (before, after) = (default.point.get(&field.name), recommended.point.get(&field.name));
            match (before, after) {
                (Some(before), Some(after)) if before.same(after) => kept += 1,
                (None, None) => {}
                _ => changes.push(Change {
                    label: field.label.clone(),
                    full: field.name.clone(),
                    default: before.map_or_else(|| "not active".into(), text),
                    recommended: after.map_or_else(|| "not active".into(), text),
                }),
            }
        }
    }
    Answer { short, reason, class, changes, kept, facts: facts(view), notes: page.notes.clone() }
}

fn facts(view: &View) -> Vec<Fact> {
    let page = view.page;
    let goals = page.history.goals();
    let mut facts = Vec::new();
    let trials = format!("{}: {}", count(view.trials.len()), view.states().join(", "));
    facts.push(Fact { name: "trials", value: trials.trim_end_matches(": ").to_owned() });
    let tokens: u64 = page.spent.values().map(|spent| spent.tokens).sum();
    if tokens > 0 {
        facts.push(Fact { name: "tokens", value: count(tokens) });
    }
    let seconds: f64 = page.spent.values().map(|spent| spent.seconds).sum();
    if seconds > 0.0 {
        facts.push(Fact { name: "time, all workers together", value: duration(seconds) });
    }
    let objectives: Vec<String> = (0..view.measures.len())
        .map(|objective| format!("{} ({})", view.title(objective), super::front::better(view, objective)))
        .collect();
    facts.push(Fact { name: "sought", value: objectives.join("; ") });
    if !goals.constraints.is_empty() {
        let measured = || view.trials.iter().filter(|shown| shown.whole && shown.measured.is_some());
        let broken = measured().filter(|shown| shown.feasible == Some(false)).count();
        let names = goals.constraints.join(", ");
        let value = match measured().count() {
            0 => names,
            1 => format!("{names}; {} by the trial that finished", if broken == 1 { "broken" } else { "held" }),
            whole => format!("{names}; broken by {} of the {} trials that finished", count(broken), count(whole)),
        };
        facts.push(Fact { name: "constraints", value });
    }
    facts
}
