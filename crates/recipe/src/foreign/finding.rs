//! What a check found: all of it that a reader needs to decide, in one value.

use std::fmt;

use serde::Serialize;
pub use temper_run::Severity;

use crate::problem::Place;

/// Where a statement comes from: a document or a package, and its date or version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Cited {
    /// The document, repository or package.
    pub what: &'static str,
    /// Its date or version.
    pub when: &'static str,
}

impl fmt::Display for Cited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {}", self.what, self.when)
    }
}

/// One thing that is wrong with, or dangerous in, a recipe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Finding {
    /// The rule, such as `validation-never-fires`; `docs/other-tools.md` lists them.
    pub rule: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What was found.
    pub found: String,
    /// Why that is bad.
    pub reason: String,
    /// Who says so.
    pub source: String,
    /// The line as it should be, where one line mends it.
    pub corrected: Option<String>,
}

/// Findings in the order in which they are read: by place, the gravest first at each; none twice.
pub(crate) fn in_order(mut findings: Vec<Finding>) -> Vec<Finding> {
    findings.sort_by(|a, b| (&a.place, a.severity, a.rule).cmp(&(&b.place, b.severity, b.rule)));
    findings.dedup();
    findings
}
