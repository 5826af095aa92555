//! What each stage of a recipe brings: the recipe with some of its stages left out, ranked and held against one another, as one page.
//!
//! [`Arms`] is what `arms.json` holds; [`Arms::render`] makes the page. `ranked` is its table, `axes` shows gain against what
//! was kept, `pairs` one arm beside another.

mod axes;
mod pairs;
mod ranked;

use std::path::{Path, PathBuf};

use minijinja::context;
use serde::Serialize;
use temper_eval::compare::{Comparison, Metric, Row};
use temper_eval::stats::Interval;
use temper_eval::verdict::FloorDecision;

use crate::error::ReportError;
use crate::number::{Style, count};
use crate::page::{PLOT_STYLE, Page, value};

const TEMPLATE: &str = include_str!("../../template/arms.html");
const ARMS_STYLE: &str = include_str!("../../template/arms.css");

/// Name of the domain's rows in a comparison.
const DOMAIN: &str = "domain";

/// All arms of a recipe.
#[derive(Debug, Serialize)]
pub struct Arms {
    /// The recipe's name.
    pub name: String,
    /// Kinds of the recipe's stages, in order.
    pub kinds: Vec<String>,
    /// In the order asked for.
    pub arms: Vec<Tried>,
    /// Each pair of arms that were judged, once.
    pub differences: Vec<Difference>,
}

/// What became of an arm.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// `sft+rft`.
    pub name: String,
    /// Which of the recipe's stages, from 0.
    pub stages: Vec<usize>,
    /// Its run.
    pub folder: PathBuf,
    /// Tokens of its rows, drawn over all stages.
    pub processed_tokens: usize,
    /// Of these, tokens that carried loss.
    pub trained_tokens: usize,
    /// Tokens of completions that its rounds sampled and trained on.
    pub sampled_tokens: u64,
    /// Seconds of the run; stages that another arm had made take none.
    pub seconds: f64,
    /// It against the base; none where it was refused.
    pub comparison: Option<Comparison>,
    /// Why it ended without a result.
    pub refused: Option<String>,
}

/// Two arms on the same items.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// The arm of which it is told: the longer one, or the later of two that are equally long.
    pub of: String,
    /// The arm that it is held against.
    pub beside: String,
    /// The one stage that the first has beside all of the second, from 0; none where they differ otherwise.
    pub adds: Option<usize>,
    /// First minus second.
    pub rows: Vec<Row>,
}

/// In a few words, in a sentence, and how good that is.
#[derive(Serialize)]
struct Answer {
    short: String,
    reason: String,
    class: &'static str,
}

/// The rows by which arms are shown: the first of each suite, by which it is judged, and of the domain all.
pub fn shown_rows(rows: &[Row]) -> Vec<&Row> {
    let first =
        |row: &&Row| rows.iter().find(|other| other.suite == row.suite).is_some_and(|one| std::ptr::eq(one, *row));
    rows.iter().filter(|row| row.kind.is_none() && (row.suite == DOMAIN || first(row))).collect()
}

/// The row of this suite and metric, over all kinds of items.
fn row_of<'r>(rows: &'r [Row], (suite, metric): (&str, Metric)) -> Option<&'r Row> {
    rows.iter().find(|row| row.suite == suite && row.metric == metric && row.kind.is_none())
}

impl Tried {
    /// What it scored, row by row; nothing where it was refused.
    pub fn rows(&self) -> &[Row] {
        self.comparison.as_ref().map_or(&[], |comparison| &comparison.rows)
    }

    /// How many floors it broke; none where there is no floor to break.
    pub fn broken(&self) -> Option<usize> {
        let floors: Vec<_> = self.rows().iter().filter_map(|row| row.floor).collect();
        let broken = floors.iter().filter(|floor| floor.decision == FloorDecision::Forgot).count();
        (!floors.is_empty()).then_some(broken)
    }

    /// What its gain is decided on.
    fn headline(&self) -> Option<&Row> {
        row_of(self.rows(), (DOMAIN, Metric::Accuracy))
    }

    /// All tokens that it took: of rows and sampled.
    fn tokens(&self) -> u64 {
        self.processed_tokens as u64 + self.sampled_tokens
    }

    /// Its report beside the page, where there is one.
    fn report(&self) -> Option<String> {
        let name = self.folder.file_name()?.to_str()?;
        self.folder.join("report.html").is_file().then(|| format!("{name}/report.html"))
    }
}

impl Difference {
    /// In what the gain is decided on.
    fn headline(&self) -> Option<Interval> {
        row_of(&self.rows, (DOMAIN, Metric::Accuracy)).map(|row| row.difference)
    }
}

/// Whether an interval leaves zero out.
fn beyond_noise(interval: &Interval) -> bool {
    interval.low > 0.0 || interval.high < 0.0
}

impl Arms {
    /// The best first: by the domain's accuracy, those that broke a floor behind all others, those that were refused last. Without a
    /// domain those that broke none keep their order.
    pub fn ranked(&self) -> Vec<&Tried> {
        let mut ranked: Vec<&Tried> = self.arms.iter().collect();
        let score = |arm: &Tried| arm.headline().map_or(f64::NEG_INFINITY, |row| row.tuned);
        let place = |arm: &Tried| (arm.comparison.is_none(), arm.broken().is_some_and(|broken| broken > 0));
        ranked.sort_by(|a, b| place(a).cmp(&place(b)).then(score(b).total_cmp(&score(a))));
        ranked
    }

    /// `arm` minus `other` in what the gain is decided on; none where one of them has no such number.
    fn between(&self, arm: &Tried, other: &Tried) -> Option<Interval> {
        self.differences.iter().find_map(|difference| {
            let interval = difference.headline()?;
            if difference.of == arm.name && difference.beside == other.name {
                return Some(interval);
            }
            let turned =
                Interval { estimate: -interval.estimate, low: -interval.high, high: -interval.low, ..interval };
            (difference.of == other.name && difference.beside == arm.name).then_some(turned)
        })
    }

    /// Rows of the first arm that was judged, by which all are shown.
    fn columns(&self) -> Vec<&Row> {
        self.arms.iter().find(|arm| arm.comparison.is_some()).map_or_else(Vec::new, |arm| shown_rows(arm.rows()))
    }

    fn answer(&self) -> Answer {
        let ranked = self.ranked();
        let judged: Vec<&Tried> = ranked.iter().copied().filter(|arm| arm.comparison.is_some()).collect();
        let Some((first, others)) = judged.split_first() else {
            let reason = "Each was refused, or trained to no result; why stands below.".to_owned();
            return Answer { short: "No arm came to a result".to_owned(), reason, class: "bad" };
        };
        let Some(row) = first.headline() else {
            let reason =
                "The recipe's evaluation has no domain: what was kept is shown, in the order asked for.".to_owned();
            return Answer { short: "Nothing to rank by".to_owned(), reason, class: "" };
        };
        let style = Style::of(row.metric);
        let within = others.iter().filter(|other| self.between(first, other).is_some_and(|d| !beyond_noise(&d)));
        let within: Vec<&Tried> = within.copied().collect();
        let names = |arms: &[&Tried]| arms.iter().map(|arm| arm.name.as_str()).collect::<Vec<_>>().join(", ");
        let (short, class) = if first.broken().is_some_and(|broken| broken > 0) {
            ("Every arm broke a floor".to_owned(), "bad")
        } else if row.difference.low <= 0.0 {
            ("No arm is better than the base beyond noise".to_owned(), "unsure")
        } else if others.is_empty() {
            (format!("{} alone came to a result", first.name), "unsure")
        } else if within.is_empty() {
            (format!("{} is ahead", first.name), "good")
        } else {
            (format!("{} is first, within noise of {}", first.name, names(&within)), "unsure")
        };
        let mut reason = format!(
            "{}: domain {} {} ({} {} to the base, 95 % interval)",
            first.name,
            style.short,
            style.value(row.tuned),
            style.interval(&row.difference),
            style.unit
        );
        if others.iter().any(|other| other.broken().is_some_and(|broken| broken > 0)) {
            reason += ", the best of those that broke no floor";
        }
        if !others.is_empty() {
            reason += match within.is_empty() {
                true => "; every other arm differs from it by more than the 95 % interval of the difference.",
                false => "; what it is ahead of these by may be chance.",
            };
        }
        let cheapest = within.iter().copied().chain([*first]).min_by_key(|arm| arm.tokens());
        if let Some(cheapest) = cheapest.filter(|arm| !within.is_empty() && arm.name != first.name) {
            reason += &format!(" Of them {} took the fewest tokens, {}.", cheapest.name, count(cheapest.tokens()));
        }
        Answer { short, reason, class }
    }

    /// The page: it needs no other file and asks nothing of the network; the reports of the runs that it links to lie beside it.
    ///
    /// # Errors
    /// [`ReportError::Template`], which no arms should cause.
    pub fn render(&self) -> Result<String, ReportError> {
        let answer = self.answer();
        let page = Page {
            template: TEMPLATE,
            title: format!("{}: {}", self.name, answer.short),
            styles: &[PLOT_STYLE, ARMS_STYLE],
            script_hash: None,
        };
        let refused = self.arms.iter().filter_map(|arm| Some(format!("{}: {}", arm.name, arm.refused.as_ref()?)));
        page.render(context! {
            name => &self.name,
            stages => self.kinds.join(", then "),
            answer => value(answer),
            refused => refused.collect::<Vec<_>>(),
            table => value(ranked::table(self)),
            pictures => value(axes::pictures(self)),
            panels => value(pairs::panels(self)),
            pairs => value(pairs::table(self)),
        })
    }

    /// Writes the page to `path`, whole or not at all.
    ///
    /// # Errors
    /// As [`render`](Self::render), and [`ReportError::Write`].
    pub fn write_page(&self, path: &Path) -> Result<(), ReportError> {
        Ok(temper_run::write_atomic(path, self.render()?.as_bytes())?)
    }
}
