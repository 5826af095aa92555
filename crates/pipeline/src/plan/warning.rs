//! What of a plan may surprise.

use std::fmt;

use serde::Serialize;

use crate::advise::Finding;

/// A sentence about the plan; in JSON a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Warning {
    message: String,
    /// Which stage of the recipe it is about, and which rules of advice say the same of it.
    #[serde(skip)]
    rules: Option<(usize, &'static [&'static str])>,
}

impl Warning {
    /// One that rules of advice give too, of this stage.
    pub(super) fn of(stage: usize, rules: &'static [&'static str], message: String) -> Self {
        Self { message, rules: Some((stage, rules)) }
    }

    /// Whether a finding of advice says the same.
    pub(super) fn says(&self, finding: &Finding) -> bool {
        self.rules.is_some_and(|(stage, rules)| {
            rules.contains(&finding.rule) && finding.place.starts_with(&format!("stages.{stage}."))
        })
    }
}

impl From<String> for Warning {
    fn from(message: String) -> Self {
        Self { message, rules: None }
    }
}

impl fmt::Display for Warning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}
