//! What a search will take, for people.

use std::fmt::Write as _;

use temper_pipeline::tune::StudyPlan;
use temper_report::{bytes, count, duration};

/// The plan as text.
pub fn text(plan: &StudyPlan, notes: &[String]) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    for note in notes {
        line(format!("note: {note}"));
    }
    let points = plan.points.map_or(String::new(), |points| format!(" ({} points)", count(points as usize)));
    line(format!("space{points}"));
    for parameter in &plan.space {
        line(format!("  {parameter}"));
    }
    line(format!("objectives  {}", plan.objectives.join(", ")));
    if !plan.constraints.is_empty() {
        line(format!("constraints {}", plan.constraints.join(", ")));
    }
    let rungs: Vec<String> = plan.rungs.iter().map(|rung| format!("{} %", *rung as f64 / 10.0)).collect();
    line(format!("compared at {} of the full length", rungs.join(", ")));
    let trial = &plan.trial;
    line(format!(
        "one trial   {} and {} tokens at its full length; {} of memory, {} of disk",
        duration(trial.seconds),
        count(trial.tokens as usize),
        bytes(trial.memory_bytes),
        bytes(trial.disk_bytes)
    ));
    if plan.shared.stages > 0 {
        line(format!(
            "shared      the first {} of the stages, trained once: saves {} and {} tokens",
            plan.shared.stages,
            duration(plan.shared.seconds),
            count(plan.shared.tokens as usize)
        ));
    }
    line(format!(
        "in all      about {} trials, at {:.0} % of the full length on average: {}, {} tokens, at most {} of disk",
        plan.trials,
        100.0 * plan.share,
        duration(plan.seconds),
        count(plan.tokens as usize),
        bytes(plan.disk_bytes)
    ));
    line(format!("            of it {} for the finalists' other seeds and the test rows", duration(plan.kept_back)));
    let budget = plan.budget;
    let bounds = [
        budget.trials.map(|trials| format!("{trials} trials")),
        budget.seconds.map(duration),
        budget.tokens.map(|tokens| format!("{} tokens", count(tokens as usize))),
    ];
    let bounds: Vec<String> = bounds.into_iter().flatten().collect();
    line(format!("ends after  {}, whatever comes first", bounds.join(" or ")));
    out
}
