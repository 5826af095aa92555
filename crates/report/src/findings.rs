//! What the checks found in the rows of each stage. A finding names rows by file and line; no text of a row is in it.

use serde::Serialize;

use crate::advice::class;
use crate::folder::{Checks, Finding, Place, RunFolder, Stage};
use crate::number::{count, percent};
use crate::provenance::stage_title;

/// The findings of one stage.
#[derive(Serialize)]
pub(crate) struct FindingGroup {
    title: String,
    /// How many rows were looked at, or why there is nothing to tell.
    rows: String,
    findings: Vec<FindingRow>,
}

#[derive(Serialize)]
struct FindingRow {
    severity: String,
    class: &'static str,
    check: String,
    count: String,
    share: String,
    kinds: String,
    first: String,
    action: String,
    hint: String,
}

pub(crate) fn findings(run: &RunFolder) -> Vec<FindingGroup> {
    let several = run.plan.stages.len() > 1;
    let stages = run.plan.stages.iter().enumerate();
    let group = |(index, stage): (usize, &Stage)| {
        let title = if several { stage_title(index, &stage.kind) } else { String::new() };
        let (rows, findings) = match &stage.checks {
            None => ("The version that planned this run did not check rows.".to_owned(), Vec::new()),
            Some(checks) if checks.findings.is_empty() => {
                (format!("{} rows were checked; nothing was found.", count(checks.rows)), Vec::new())
            }
            Some(checks) => {
                let rows = checks.findings.iter().map(|finding| row(finding, checks)).collect();
                (format!("{} rows were checked.", count(checks.rows)), rows)
            }
        };
        FindingGroup { title, rows, findings }
    };
    stages.map(group).collect()
}

fn row(finding: &Finding, checks: &Checks) -> FindingRow {
    let kind = |(kind, rows): &(String, u64)| if *rows > 0 { format!("{kind} {}", count(*rows)) } else { kind.clone() };
    let kinds: Vec<String> = finding.kinds.iter().map(kind).collect();
    let first: Vec<String> = finding.first.iter().map(place).collect();
    let more = finding.count > finding.first.len() as u64 && !first.is_empty();
    FindingRow {
        severity: finding.severity.clone(),
        class: class(&finding.severity),
        check: finding.check.replace('_', " "),
        count: count(finding.count),
        share: percent(finding.count as f64 / checks.rows.max(1) as f64),
        kinds: kinds.join(", "),
        first: first.join(", ") + if more { ", ..." } else { "" },
        action: finding.action.clone(),
        hint: finding.hint.clone(),
    }
}

/// `train.jsonl:3`, and the row that it is like; the path as far as its name.
fn place(place: &Place) -> String {
    let name = |path: &str| path.rsplit(['/', '\\']).next().unwrap_or(path).to_owned();
    match &place.like {
        Some(like) => format!("{}:{} (as {})", name(&place.file), place.line, name(like)),
        None => format!("{}:{}", name(&place.file), place.line),
    }
}
