//! Both axes as a table, and the verdict as a sentence.

use temper_eval::compare::{Comparison, Row};
use temper_eval::verdict::{FloorDecision, Verdict};
use temper_report::Style;

use crate::command;
use crate::table::table;

/// Metric, base, tuned, difference with its interval, floor; then the verdict.
pub fn text(comparison: &Comparison) -> String {
    let rows = comparison.rows.iter().map(row).collect();
    let heads = ["suite", "metric", "base", "tuned", "tuned - base [95 % interval]", "floor"];
    let mut out = table(&heads, rows, &[2, 3, 4]);
    if let Some(judgement) = &comparison.judgement {
        out.push_str(&format!("\nverdict: {}\n", judgement.reason));
    }
    out
}

fn row(row: &Row) -> Vec<String> {
    let style = Style::of(row.metric);
    let floor = row.floor.as_ref().map_or(String::new(), |floor| {
        let decision = match floor.decision {
            FloorDecision::Kept => "kept".to_owned(),
            FloorDecision::Forgot => "FORGOT".to_owned(),
            FloorDecision::CannotTell { about_n } => format!("cannot tell (needs about {about_n} items)"),
        };
        let sign = if row.higher_is_better { -1.0 } else { 1.0 };
        format!("{}: {decision}", style.plain_signed(sign * floor.margin))
    });
    let mut cells = compared(row);
    cells.push(floor);
    cells
}

/// Suite, metric, base, tuned, and their difference with its interval.
pub fn compared(row: &Row) -> Vec<String> {
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

/// 4 where a floor was broken or the domain got worse, else 0.
pub fn exit_code(comparison: &Comparison) -> u8 {
    match comparison.judgement.as_ref().map(|j| &j.verdict) {
        Some(Verdict::Forgot | Verdict::Lost) => command::REFUSED,
        _ => command::DONE,
    }
}
