//! The page: every part put into the template.

use std::path::Path;

use minijinja::value::{Serde, Value};
use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;
use temper_run::write_atomic;

use crate::error::ReportError;
use crate::folder::RunFolder;
use crate::{advice, answer, averages, curves, findings, intervals, items, provenance, rft};

const TEMPLATE: &str = include_str!("../template/report.html");
pub(crate) const STYLE: &str = include_str!("../template/report.css");

impl RunFolder {
    /// The page. Without `texts` no row and no answer is in it, only their lines and scores.
    ///
    /// # Errors
    /// [`ReportError::Template`], which no run folder should cause.
    pub fn report(&self, texts: bool) -> Result<String, ReportError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // A name that ends in .html: every value is escaped.
        environment.add_template("report.html", TEMPLATE)?;
        let advice = advice::section(&mut environment, self.advice.as_ref())?;
        let comparison = self.comparison.as_ref();
        let records = self.items.as_deref();
        Ok(environment.get_template("report.html")?.render(context! {
            temper => env!("CARGO_PKG_VERSION"),
            css => Value::from_safe_string(STYLE.trim_end().to_owned()),
            name => &self.plan.name,
            question => answer::question(self),
            answer => value(answer::answer(self)),
            advice,
            panels => value(comparison.map(intervals::panels).unwrap_or_default()),
            comparison => value(comparison.map(intervals::table).unwrap_or_default()),
            averages => value(averages::section(self)),
            rft => value(rft::sections(self, texts)),
            charts => value(curves::charts(self)),
            mixes => value(provenance::mixes(self)),
            items => value(items::items(records, comparison.is_some(), texts)),
            samples => value(items::samples(records, texts)),
            settings => value(provenance::settings(self)),
            data => value(provenance::data(self)),
            findings => value(findings::findings(self)),
            hashes => value(provenance::hashes(self)),
            machine => value(provenance::machine(self)),
            reproduce => value(provenance::reproduce(self)),
        })?)
    }

    /// Writes the page to `path`, whole or not at all.
    ///
    /// # Errors
    /// As [`report`](Self::report), and [`ReportError::Write`].
    pub fn write_report(&self, path: &Path, texts: bool) -> Result<(), ReportError> {
        Ok(write_atomic(path, self.report(texts)?.as_bytes())?)
    }
}

/// A part of the page as a template sees it.
pub(crate) fn value(part: impl Serialize) -> Value {
    Value::from(Serde(part))
}
