//! The evaluation: the domain task, general suites, and the floors under which the model must not fall.

use std::collections::HashSet;
use std::path::PathBuf;

use serde::{Serialize, Serializer};

use crate::kind::{choice, closest, data_file, integer, list, name, number, text};
use crate::reader::{Alternative, Read, Section, section};
use crate::recipe::real;
use crate::reward::{Reward, check_names};
use crate::settings::{Setting, Settings, Valued, is, said};

/// Resamples of a bootstrap, where the recipe does not say how many.
pub const BOOTSTRAP_SAMPLES: u64 = 2000;

crate::kind::words! {
    /// The task of the user's domain.
    pub enum Task {
        /// One label out of several.
        Classification = "classification",
        /// Whatever rewards score: the model answers prompts, and its likeliest answers are scored.
        Reward = "reward",
    }
}

crate::kind::words! {
    /// What a general suite measures.
    pub enum SuiteKind {
        /// Mean next-token loss on text.
        TextLoss = "text_loss",
        /// Accuracy of choosing the likeliest answer.
        MultipleChoice = "multiple_choice",
        /// KL(base || tuned) per token on answers of the base model.
        ChatKl = "chat_kl",
        /// Accuracy of following instructions that can be checked.
        InstructionFollowing = "instruction_following",
    }
}

impl SuiteKind {
    /// Whether the model writes answers in such a suite.
    fn generates(self) -> bool {
        matches!(self, Self::ChatKl | Self::InstructionFollowing)
    }

    /// The bound a floor of such a suite has.
    fn bound(self) -> &'static str {
        match self {
            Self::TextLoss => "max_increase_percent",
            Self::MultipleChoice | Self::InstructionFollowing => "max_drop_points",
            Self::ChatKl => "max_kl",
        }
    }
}

section! {
    /// How the tuned model is judged against its base.
    pub struct Evaluation |f| {
        /// The user's own task.
        domain: Option<DomainEvaluation> = f.section();
        /// Suites of general ability.
        general: Vec<Suite> = f.sections(0);
        /// By the name of a general suite: how much may be lost. Bounds of the interval of tuned - base.
        floors: Vec<Floor> = f
            .named_sections("suite", |cx, suite, place| {
                let Some(general) = &general else { return };
                let names = || general.iter().map(|suite| suite.name.as_str());
                if names().any(|name| name == suite) {
                    return;
                }
                let hint = match closest(suite, names()) {
                    Some(name) => format!("did you mean `{name}`?"),
                    None => format!("general suites here: {}", names().collect::<Vec<_>>().join(", ")),
                };
                cx.problem(place.clone(), format!("there is no general suite `{suite}`"), hint);
            })
            .map(|floors| floors.into_iter().map(|(suite, FloorBound(bound))| Floor { suite, bound }).collect());
        /// Resamples of the bootstrap.
        bootstrap_samples: Valued<u64> = f.default(
            integer(200..=1_000_000),
            BOOTSTRAP_SAMPLES,
            "decision: enough for 95 % bounds (Efron and Tibshirani 1993 ask for 1000 or more)",
        );
        /// Items of each `text_loss` suite with a floor that are also scored at every validation, so that a run which has
        /// forgotten beyond recovery ends early; 0 scores none.
        watch_items: Valued<u64> = f.default(
            integer(0..),
            32,
            "decision: a few seconds a validation, and an interval narrow enough for a floor broken several times over",
        );
    }
    check |r| {
        if let (Some(domain), Some(general)) = (&domain, &general) {
            if domain.is_none() && general.is_empty() {
                let message = format!("`{}` evaluates nothing", r.path);
                r.problem(None, message, "give `domain`, `general`, or both; or remove `evaluation`");
            }
            let mut seen = HashSet::new();
            for suite in general {
                if !seen.insert(suite.name.as_str()) {
                    let message = format!("`{}`: a second suite named `{}`", suite.name.path, suite.name.value);
                    r.problem(suite.name.place(), message, "give each suite its own name; floors refer to it");
                }
            }
            for Floor { suite: name, bound } in floors.iter().flatten() {
                let Some(suite) = general.iter().find(|suite| suite.name.value == *name) else { continue };
                let (kind, fits) = (suite.kind.value, suite.kind.bound());
                if fits != bound.key() {
                    let message = format!("`{}` is not a bound of a `{kind}` suite", bound.path);
                    r.problem(bound.place(), message, format!("`{name}` is a `{kind}` suite; its bound is `{fits}`"));
                }
            }
        }
    }
}

section! {
    /// The user's own task, on rows with a known answer.
    pub struct DomainEvaluation |f| {
        /// The task.
        task: Valued<Task> = f.required(choice());
        /// File of the rows by which to steer: checkpoints, search, advice.
        validation: Valued<PathBuf> = f.required(data_file());
        /// File of the rows that are read once, at the end.
        test: Valued<PathBuf> = f.required(data_file());
        /// The labels the model chooses from; only for `classification`.
        labels: Option<Valued<Vec<String>>> = {
            let because = said("task", &task);
            f.only_when(is(&task) != Some(Task::Reward), &because, |f| f.required(list(2, text())))
        };
        /// What scores an answer; only for `reward`. Left out: the rewards of the last stage of `kind: rft`.
        rewards: Vec<Reward> = {
            let because = said("task", &task);
            f.only_when(matches!(is(&task), None | Some(Task::Reward)), &because, |f| f.sections(0))
                .map(Option::unwrap_or_default)
        };
        /// Longest answer in tokens; only for `reward`.
        max_new_tokens: Option<Valued<u64>> = {
            let because = said("task", &task);
            f.only_when(matches!(is(&task), None | Some(Task::Reward)), &because, |f| {
                f.default(integer(1..=65_536), 512, "the default of a stage of rft")
            })
        };
        /// From which reward on an answer counts as right; only for `reward`.
        success_threshold: Option<Valued<f64>> = {
            let because = said("task", &task);
            f.only_when(matches!(is(&task), None | Some(Task::Reward)), &because, |f| {
                f.default(number(..), 1.0, "Amazon Nova Forge, multi-turn RFT")
            })
        };
    }
    check |r| {
        check_names(r, rewards.as_deref().unwrap_or_default());
        if let (Some(validation), Some(test)) = (&validation, &test)
            && real(validation) == real(test)
        {
            let message = format!("`{}` is the file of `validation`", test.path);
            r.problem(test.place(), message, "hold other rows out: a test that steered the tuning proves nothing");
        }
    }
}

impl DomainEvaluation {
    /// The labels of a classification; none of another task.
    pub fn labels(&self) -> &[String] {
        self.labels.as_ref().map_or(&[], |labels| &labels.value)
    }
}

section! {
    /// One suite of general ability, run on the base and on the tuned model.
    pub struct Suite |f| {
        /// Its name in reports and floors.
        name: Valued<String> = f.required(name());
        /// What it measures.
        kind: Valued<SuiteKind> = f.required(choice());
        /// File of rows.
        path: Valued<PathBuf> = f.required(data_file());
        /// Longest answer in tokens; only for `chat_kl` and `instruction_following`.
        max_new_tokens: Option<Valued<u64>> = {
            let (because, kind) = (said("kind", &kind), is(&kind));
            let default = if kind == Some(SuiteKind::ChatKl) { 32 } else { 64 };
            f.only_when(kind.is_none_or(SuiteKind::generates), &because, |f| {
                f.default(integer(1..=65_536), default, "decision: a few sentences show a change, and cost little")
            })
        };
    }
}

/// How much a general suite may lose.
#[derive(Debug, Clone, PartialEq)]
pub struct Floor {
    /// The name of the suite.
    pub suite: String,
    /// How much it may lose.
    pub bound: Valued<Bound>,
}

/// The bound of a [`Floor`]. The worse end of the confidence interval of tuned - base must keep it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Bound {
    /// Of `text_loss`: how far the loss may rise, in percent of the base model's.
    MaxIncreasePercent(f64),
    /// Of the accuracies: how far it may drop, in percentage points.
    MaxDropPoints(f64),
    /// Of `chat_kl`: KL(base || tuned) in nats per token.
    MaxKl(f64),
}

impl Bound {
    fn key(self) -> &'static str {
        match self {
            Self::MaxIncreasePercent(_) => "max_increase_percent",
            Self::MaxDropPoints(_) => "max_drop_points",
            Self::MaxKl(_) => "max_kl",
        }
    }
}

/// As the number alone: its key is in the path.
impl Serialize for Bound {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (Self::MaxIncreasePercent(value) | Self::MaxDropPoints(value) | Self::MaxKl(value)) = *self;
        serializer.serialize_f64(value)
    }
}

impl Settings for Floor {
    fn settings(&self, into: &mut Vec<Setting>) {
        self.bound.settings(into);
    }
}

/// The map that stands under the name of a suite in `floors`.
struct FloorBound(Valued<Bound>);

impl Read for FloorBound {
    const DOC: &'static str = "How much this suite may lose: the one bound that fits its kind.";

    fn read(r: &mut Section<'_>) -> Option<Self> {
        let percent = Alternative {
            name: "max_increase_percent",
            doc: "Of `text_loss`: how far the loss may rise, in percent of the base model's.",
            aliases: &[],
            kind: number(0.0..).map(Bound::MaxIncreasePercent),
        };
        let points = Alternative {
            name: "max_drop_points",
            doc: "Of `multiple_choice` and `instruction_following`: how far the accuracy may drop, in percentage points.",
            aliases: &[],
            kind: number(0.0..=100.0).map(Bound::MaxDropPoints),
        };
        let kl = Alternative {
            name: "max_kl",
            doc: "Of `chat_kl`: nats per token.",
            aliases: &[],
            kind: number(0.0..).map(Bound::MaxKl),
        };
        r.field("bound", "").one_of(vec![percent, points, kl], None).map(Self)
    }
}
