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

/// What the pages have in common: their head, and macros.
const SHARED: [(&str, &str); 4] = [
    ("advice.html", include_str!("../template/advice.html")),
    ("head.html", include_str!("../template/head.html")),
    ("intervals.html", include_str!("../template/intervals.html")),
    ("plot.html", include_str!("../template/plot.html")),
];
const STYLE: &str = include_str!("../template/report.css");
/// Of pages with plots, beside what all pages have.
pub(crate) const PLOT_STYLE: &str = include_str!("../template/plot.css");

/// A page, whole in one file: it loads nothing, and runs no script but the one of this hash.
pub(crate) struct Page<'a> {
    pub template: &'static str,
    /// Of the window.
    pub title: String,
    /// Styles beside those that all pages have.
    pub styles: &'a [&'a str],
    /// As a content security policy names it.
    pub script_hash: Option<&'static str>,
}

impl Page<'_> {
    /// With these parts in its template.
    pub fn render(&self, parts: Value) -> Result<String, ReportError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        // Names that end in .html: every value is escaped.
        for (name, shared) in SHARED {
            environment.add_template(name, shared)?;
        }
        environment.add_template("page.html", self.template)?;
        let styles: Vec<&str> = [STYLE].into_iter().chain(self.styles.iter().copied()).map(str::trim_end).collect();
        Ok(environment.get_template("page.html")?.render(context! {
            temper => env!("CARGO_PKG_VERSION"),
            css => Value::from_safe_string(styles.join("\n")),
            title => &self.title,
            script_hash => self.script_hash,
            ..parts
        })?)
    }
}

impl RunFolder {
    /// The page. Without `texts` no row and no answer is in it, only their lines and scores.
    ///
    /// # Errors
    /// [`ReportError::Template`], which no run folder should cause.
    pub fn report(&self, texts: bool) -> Result<String, ReportError> {
        let comparison = self.comparison.as_ref();
        let records = self.items.as_deref();
        let answer = answer::answer(self);
        let title = format!("{}: {}", self.plan.name, answer.short);
        let page = Page { template: TEMPLATE, title, styles: &[], script_hash: None };
        page.render(context! {
            name => &self.plan.name,
            question => answer::question(self),
            answer => value(answer),
            advice => advice::section(self.advice.as_ref()),
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
        })
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
