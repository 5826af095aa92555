//! The answer of a search, for people.

use std::fmt::Write as _;

use temper_eval::compare::Row;
use temper_eval::verdict::FloorDecision;
use temper_pipeline::PipelineError;
use temper_pipeline::tune::{Finish, Lead, Study};
use temper_report::{Style, count, duration};
use temper_search::store::Store;
use temper_search::{History, State};

use crate::command::{DONE, Failure, REFUSED};
use crate::table::table;
use crate::verdict;

/// Characters of a line, and lines, of the table of trials and the picture of the front.
const WIDTH: usize = 100;
const ROWS: usize = 20;
const HEIGHT: usize = 18;

/// The answer as text: the front, the recommendation, and what new rows say of it.
pub fn text(study: &Study, finish: &Finish, store: &mut Store) -> Result<String, Failure> {
    let spent = store.spent().map_err(PipelineError::from)?;
    let history = store.history();
    let page = study.page(history, &spent, Some(finish));
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    let ended = |state: State| history.trials().iter().filter(|trial| trial.state == state).count();
    line(format!(
        "{} trials: {} came to their full length, {} ended early, {} are paused, {} failed; {} tokens, {} of training",
        finish.trials,
        finish.complete,
        ended(State::Pruned),
        ended(State::Paused),
        ended(State::Failed),
        count(finish.tokens as usize),
        duration(finish.seconds)
    ));
    line(String::new());
    line(temper_report::study::text::trials(&page, WIDTH, ROWS).trim_end().to_owned());
    if let Some(picture) = temper_report::study::text::front(&page, WIDTH, HEIGHT) {
        line(format!("\n{}", picture.trim_end()));
    }
    if !finish.answer.front.is_empty() {
        line(format!("\nfront: no other trial is better on both axes\n{}", front(finish, history)));
    }
    line(format!("\nrecommended: {}", finish.answer.reason));
    for (name, value) in &finish.values {
        line(format!("  {name}: {value}"));
    }
    for lead in &finish.validation {
        line(format!("on validation, beside the recipe's own: {}", said(lead)));
    }
    for note in &finish.notes {
        line(format!("note: {note}"));
    }
    if let Some(sealed) = &finish.sealed {
        line("\nrows that the search has not seen, the recommended trial beside the base".to_owned());
        line(verdict::text(&sealed.comparison).trim_end().to_owned());
        if !sealed.lead.is_empty() {
            line("\nthe recommended trial beside the recipe's own values, on the same rows".to_owned());
            let rows = sealed.lead.iter().map(row).collect();
            line(table(&["suite", "metric", "own", "recommended", "difference [95 % interval]"], rows, &[2, 3, 4]));
        }
        if let Some(lead) = sealed.domain_lead() {
            line(format!("lead: {}", decided(lead)));
        }
    }
    Ok(out)
}

/// A line a trial of the front.
fn front(finish: &Finish, history: &History) -> String {
    let goals = history.goals();
    let mut heads: Vec<String> = vec!["trial".to_owned()];
    heads.extend(goals.objectives.iter().map(|objective| objective.name.clone()));
    heads.extend(goals.constraints.iter().cloned());
    heads.push(String::new());
    let rows = finish.answer.front.iter().filter_map(|number| history.trial(*number)).map(|trial| {
        let mut cells = vec![trial.number.to_string()];
        let result = trial.result.clone().unwrap_or_default();
        cells.extend(result.values.iter().map(|value| format!("{value:.4}")));
        cells.extend(
            result.constraints.iter().map(
                |by| {
                    if *by <= 0.0 { "kept".to_owned() } else { format!("broken by {by:.2}") }
                },
            ),
        );
        let mut what = Vec::new();
        what.extend((trial.number == 0).then_some("the recipe's own"));
        what.extend((finish.answer.recommended == Some(trial.number)).then_some("recommended"));
        cells.push(what.join(", "));
        cells
    });
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..=goals.objectives.len()).collect();
    table(&heads, rows.collect(), &right)
}

fn said(lead: &Lead) -> String {
    let interval = match lead.interval {
        Some((low, high)) => format!("95 % interval {low:+.4} to {high:+.4} over {} seeds", lead.seeds),
        None => "one seed, no interval".to_owned(),
    };
    let better = if lead.better { "better" } else { "no better" };
    format!("{} {:+.4} ({interval}): {better}", lead.objective, lead.difference)
}

fn row(row: &Row) -> Vec<String> {
    let style = Style::of(row.metric);
    let kind = row.kind.as_ref().map_or(String::new(), |kind| format!(" / {kind}"));
    vec![
        format!("{}{kind}", row.suite),
        style.short.to_owned(),
        row.base.map_or(String::new(), |value| style.plain_value(value)),
        style.plain_value(row.tuned),
        style.plain_interval(&row.difference),
    ]
}

/// Whether the lead in the domain is more than noise.
fn decided(lead: &Row) -> String {
    let style = Style::of(lead.metric);
    let d = &lead.difference;
    let (gained, lost) = if lead.higher_is_better { (d.low > 0.0, d.high < 0.0) } else { (d.high < 0.0, d.low > 0.0) };
    let what = match (gained, lost) {
        (true, _) => "better than the recipe's own by more than noise",
        (_, true) => "worse than the recipe's own by more than noise: what looked best on validation was luck",
        _ => "no more than noise: these rows cannot tell it from the recipe's own",
    };
    format!("{} {}, {what}", lead.suite, style.plain_signed(d.estimate))
}

/// 4 where no trial kept every constraint, or the recommended one broke a floor on new rows; else 0.
pub fn exit_code(finish: &Finish) -> u8 {
    let rows = finish.sealed.iter().flat_map(|sealed| &sealed.comparison.rows);
    let forgot = rows.filter_map(|row| row.floor.as_ref()).any(|floor| floor.decision == FloorDecision::Forgot);
    if finish.answer.feasible && !forgot { DONE } else { REFUSED }
}
