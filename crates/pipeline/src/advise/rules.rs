//! The rules as data: each says at most one thing of a stage, of a run or of a study.
//!
//! The order of the tables is the order of causes: of two that explain the same, the earlier one is likelier, and is to be
//! mended first.
//! So the mix stands before the learning rate, as Amazon's guide has it.

mod judged;
mod mixing;
mod rates;
mod reinforcement;
mod schedule;
mod start;
mod study;
mod trained;

use std::fmt;

use serde::Serialize;
pub use temper_recipe::foreign::Cited;
pub use temper_run::Severity;

use super::signals::{Planned, Ran, StageView, Trained};
use super::study::Searched;

/// What a run showed that wants a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Symptom {
    /// General ability fell.
    Forgetting,
    /// The domain did not gain.
    NoGain,
    /// The training rows are learnt by heart.
    Overfitting,
    /// The loss or the gradient left the ground.
    Instability,
    /// The reward does not rise, or rises for nothing.
    RewardLost,
}

impl fmt::Display for Symptom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Forgetting => "forgetting",
            Self::NoGain => "no gain",
            Self::Overfitting => "overfitting",
            Self::Instability => "instability",
            Self::RewardLost => "a reward that is lost",
        })
    }
}

/// A rule.
pub struct Rule {
    /// Its name.
    pub id: &'static str,
    /// How much it matters.
    pub severity: Severity,
    /// Its condition in words.
    pub when: &'static str,
    /// Why that is bad; of good news, why it is good.
    pub reason: &'static str,
    /// Who says so.
    pub source: Cited,
    /// What to do.
    pub action: &'static str,
    /// What it shows, where it looks at what happened.
    pub shows: Option<Symptom>,
    /// What it may be the cause of.
    pub explains: &'static [Symptom],
    pub(super) find: Find,
}

/// What a rule looks at.
pub(super) enum Find {
    /// Each stage of a plan: of a recipe, and of a run too.
    Stage(fn(&StageView<'_>) -> Option<Hit>),
    /// Each stage of a run.
    Trained(fn(&StageView<'_>, &Trained) -> Option<Hit>),
    /// A run as a whole.
    Run(fn(&Planned, &Ran) -> Option<Hit>),
    /// A study.
    Study(fn(&Searched) -> Option<Hit>),
}

impl Rule {
    /// What it looks at, in a word.
    pub fn looks_at(&self) -> &'static str {
        match self.find {
            Find::Stage(_) => "recipe",
            Find::Trained(_) | Find::Run(_) => "run",
            Find::Study(_) => "study",
        }
    }
}

/// What a rule found.
pub(super) struct Hit {
    /// The field or stage that it is about.
    pub place: String,
    pub found: String,
    /// Fields of the recipe and their values; none takes the field away.
    pub changes: Vec<(String, Option<String>)>,
    /// A command of `temper` instead, with [`RECIPE`] or [`FOLDER`] where these belong.
    pub command: Vec<String>,
}

/// Stands for the recipe's file in a command.
pub(super) const RECIPE: &str = "RECIPE";
/// Stands for the folder of the run or the study in a command.
pub(super) const FOLDER: &str = "FOLDER";

/// A finding about a place, with nothing to change by machine.
fn hit(place: impl Into<String>, found: impl Into<String>) -> Hit {
    Hit { place: place.into(), found: found.into(), changes: Vec::new(), command: Vec::new() }
}

impl Hit {
    fn set(mut self, path: impl Into<String>, value: impl fmt::Display) -> Self {
        self.changes.push((path.into(), Some(value.to_string())));
        self
    }

    fn remove(mut self, path: impl Into<String>) -> Self {
        self.changes.push((path.into(), None));
        self
    }

    /// Another length of the stage: so many times its own.
    fn stretched(self, view: &StageView<'_>, times: f64) -> Self {
        match (view.number("max_steps"), view.number("num_train_epochs")) {
            (Some(steps), _) => self.set(view.path("max_steps"), (steps * times).round().max(1.0)),
            (None, Some(epochs)) => self.set(view.path("num_train_epochs"), short(epochs * times)),
            (None, None) => self,
        }
    }

    fn run(mut self, command: &[&str]) -> Self {
        self.command = command.iter().map(|&word| word.to_owned()).collect();
        self
    }
}

/// Three digits, without those that binary arithmetic adds.
fn short(value: f64) -> f64 {
    format!("{value:.2e}").parse().unwrap_or(value)
}

/// A number as YAML takes it and people read it.
fn shown(value: f64) -> String {
    if value != 0.0 && value.abs() < 1e-3 { format!("{:e}", short(value)) } else { short(value).to_string() }
}

fn percent(share: f64) -> String {
    format!("{:.1} %", 100.0 * share)
}

const ARTICLE: Cited = Cited { what: "AWS ML blog on the hyperparameters of Nova Forge", when: "June 2026" };
const SDK_BLOG: Cited = Cited { what: "AWS blog, Nova Forge SDK series part 2", when: "April 2026" };
const VOC: Cited = Cited { what: "AWS blog on data mixing, voice-of-customer task", when: "March 2026" };
const GUIDE: Cited = Cited { what: "Amazon Nova user guide", when: "2026" };
const DECISION: Cited = Cited { what: "decision of Temper (docs/decisions/0031-advice.md)", when: "November 2026" };

/// The rule whose finding is that nothing is to be mended.
pub(super) const ALL_GOOD: &str = "all-good";

/// The rule whose finding is that a study's answer is to be taken.
pub(super) const APPLY: &str = "apply-the-winner";

/// All rules, by rank.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    let recipe = [mixing::RULES, schedule::RULES, start::RULES, rates::RULES, reinforcement::RULES];
    let run = [judged::RULES, trained::RULES];
    recipe.into_iter().chain(run).chain([study::RULES]).flatten()
}
