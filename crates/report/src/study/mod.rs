//! What a search came to: one page with its answer, its pictures and all its trials, and the same as plain text.
//!
//! [`StudyPage::render`] makes the page from the history and from what the caller knows of it: which trial is recommended and
//! why, what finalists came to over seeds, what the sealed test said. Each picture has a file of its own; `view`
//! says of each trial how it is shown. [`text`] is for terminals.

mod answer;
mod curves;
mod dots;
mod finalists;
mod front;
mod importance;
mod parallel;
mod sealed;
mod slices;
mod table;
pub mod text;
mod view;

use std::collections::BTreeMap;

use minijinja::context;
use minijinja::value::Value;
use temper_search::{History, Measured};

use crate::advice::{self, Advice};
use crate::error::ReportError;
use crate::page::{PLOT_STYLE, Page, value};
use view::View;

const TEMPLATE: &str = include_str!("../../template/study.html");
const STUDY_STYLE: &str = include_str!("../../template/study.css");
const SCRIPT: &str = include_str!("../../template/study.js");
/// Of [`SCRIPT`] between its tags: the only script that the page may run.
const SCRIPT_HASH: &str = "sha256-RKjzVAWR1k/87UbIa+GYD7cWOhr9DWocz17P5MN3rT4=";

/// What a study's page is made from.
#[derive(Clone, Debug)]
pub struct StudyPage<'a> {
    /// The study's name.
    pub name: &'a str,
    /// All its trials.
    pub history: &'a History,
    /// Fields that are shown, by the names of [`Space::fields`](temper_search::Space::fields), shares and ties as well. Empty:
    /// those of the space, the shares of its simplexes in place of what draws them.
    pub fields: Vec<String>,
    /// How each objective is written, in their order; what is missing is written by the goal's name.
    pub measures: Vec<Measure>,
    /// Limits that lie on an objective's axis.
    pub bounds: Vec<Bound>,
    /// The trial of the values that were there before the search.
    pub default: Option<u64>,
    /// The trial that is recommended; none: no trial can be.
    pub recommended: Option<Recommended>,
    /// What the best came to with other seeds.
    pub finalists: Vec<Finalist>,
    /// Default and recommended on the test data that the search never saw.
    pub sealed: Vec<Sealed>,
    /// What each trial took, by number.
    pub spent: BTreeMap<u64, Spent>,
    /// What a report's step counts: "steps", "tokens".
    pub budget_unit: &'a str,
    /// Steps at which trials were to report and could be stopped.
    pub rungs: Vec<u64>,
    /// Sentences for the reader: how the sampler was chosen, why the search ended.
    pub notes: Vec<String>,
    /// What to do next; none: nobody was asked.
    pub advice: Option<Advice>,
}

/// How an objective is written.
#[derive(Clone, Debug, PartialEq)]
pub struct Measure {
    /// In words.
    pub label: String,
    /// After the label: "%", "nats per token"; empty: none.
    pub unit: String,
    /// A value times this is in that unit: 100 for shares in percent.
    pub scale: f64,
}

/// A limit on an objective's axis, such as a floor.
#[derive(Clone, Debug, PartialEq)]
pub struct Bound {
    /// Number of the objective.
    pub objective: usize,
    /// Where, in the objective's own unit.
    pub at: f64,
    /// In words.
    pub label: String,
}

/// What is recommended.
#[derive(Clone, Debug, PartialEq)]
pub struct Recommended {
    /// The trial.
    pub trial: u64,
    /// A sentence: why this one, and how sure that is.
    pub reason: String,
    /// Whether the lead over the default is more than noise.
    pub sure: bool,
}

/// A trial that was repeated over seeds.
#[derive(Clone, Debug, PartialEq)]
pub struct Finalist {
    /// The trial.
    pub trial: u64,
    /// Each seed with what was measured.
    pub seeds: Vec<(u64, Measured)>,
}

/// A line of the comparison on sealed test data; numbers in the unit in which they are shown.
#[derive(Clone, Debug, PartialEq)]
pub struct Sealed {
    /// What was measured.
    pub what: String,
    /// Its unit.
    pub unit: String,
    /// The default's value.
    pub default: f64,
    /// The recommended trial's value.
    pub recommended: f64,
    /// The difference, recommended minus default, and its 95 % interval: low, difference, high.
    pub difference: [f64; 3],
    /// Whether a higher value is better.
    pub higher_is_better: bool,
    /// What follows, in a word or two: "better", "kept".
    pub decision: String,
    /// Whether that is good news; none: it cannot be told.
    pub good: Option<bool>,
}

/// What a trial took.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Tokens that were trained on, prompt tokens among them.
    pub tokens: u64,
    /// Seconds of work.
    pub seconds: f64,
}

impl<'a> StudyPage<'a> {
    /// A page of the history alone.
    pub fn new(name: &'a str, history: &'a History) -> Self {
        Self {
            name,
            history,
            fields: Vec::new(),
            measures: Vec::new(),
            bounds: Vec::new(),
            default: None,
            recommended: None,
            finalists: Vec::new(),
            sealed: Vec::new(),
            spent: BTreeMap::new(),
            budget_unit: "steps",
            rungs: Vec::new(),
            notes: Vec::new(),
            advice: None,
        }
    }

    /// The page: it needs no other file and asks nothing of the network. Its script sorts the table and shows what a point is
    /// under a finger or the keyboard; without it nothing is missing.
    ///
    /// # Errors
    /// [`ReportError::Template`], which no history should cause.
    pub fn render(&self) -> Result<String, ReportError> {
        let view = View::of(self);
        let answer = answer::answer(&view);
        let page = Page {
            template: TEMPLATE,
            title: format!("{}: {}", self.name, answer.short),
            styles: &[PLOT_STYLE, STUDY_STYLE],
            script_hash: Some(SCRIPT_HASH),
        };
        page.render(context! {
            script => Value::from_safe_string(SCRIPT.trim_end().to_owned()),
            name => self.name,
            // Lines of many trials are the thinner, so that what they share is seen.
            thin => format!("{:.2}", (100.0 / view.trials.len().max(1) as f64).clamp(0.25, 1.0)),
            answer => value(answer),
            advice => advice::section(self.advice.as_ref()),
            sealed => value(sealed::panels(self)),
            finalists => value(finalists::panels(&view)),
            fronts => value(front::pictures(&view)),
            parallel => value(parallel::picture(&view)),
            importance => value(importance::pictures(&view)),
            slices => value(slices::pictures(&view)),
            habits => value(slices::habits(&view)),
            curves => value(curves::pictures(&view)),
            table => value(table::table(&view)),
        })
    }
}
