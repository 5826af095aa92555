//! What to do after a run or a search: findings by rank, and the next experiment. Who advises says so; here it is shown.

use minijinja::context;
use minijinja::value::Value;
use serde::Serialize;

use crate::page::value;

/// What is advised.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Advice {
    /// The findings, by rank.
    pub findings: Vec<Advised>,
    /// The next experiment; none where nothing is to be tried.
    pub next: Option<NextStep>,
}

/// A finding.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Advised {
    /// The rule's name.
    pub rule: String,
    /// `error`, `warning` or `note`.
    pub severity: String,
    /// Whether it says that nothing is to be mended.
    pub good: bool,
    /// The field or stage that it is about; empty where it is about the whole.
    pub place: String,
    /// What was found.
    pub found: String,
    /// Why it matters.
    pub reason: String,
    /// Who says so.
    pub source: String,
    /// What to do.
    pub action: String,
    /// What it is of that which was seen, such as "likeliest cause"; empty where it explains nothing.
    pub role: String,
}

/// An experiment that a machine can make.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NextStep {
    /// The rule that asks for it.
    pub rule: String,
    /// What changes, a line each.
    pub lines: Vec<String>,
    /// The command that does so.
    pub command: String,
}

/// How a severity is coloured.
pub(crate) fn class(severity: &str) -> &'static str {
    match severity {
        "error" => "bad",
        "warning" => "unsure",
        _ => "",
    }
}

/// A finding as the template has it.
#[derive(Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    finding: &'a Advised,
    class: &'static str,
}

/// What the section of a page shows; nothing where nobody was asked for advice.
pub(crate) fn section(advice: Option<&Advice>) -> Value {
    let Some(advice) = advice else { return Value::from(()) };
    let shown = |finding| Shown { finding, class: if finding.good { "good" } else { class(&finding.severity) } };
    let findings: Vec<Shown<'_>> = advice.findings.iter().map(shown).collect();
    context! { findings => value(findings), next => value(&advice.next) }
}
