//! What a search on a small open model says of a large one: a hypothesis, by rules that have been published.

use crate::recipe::Recipe;
use crate::stage::usual_rate;

/// A rule by which a value is carried to another model.
#[derive(Debug, Clone, Copy)]
pub struct Transfer {
    /// The value.
    pub what: &'static str,
    /// What is carried.
    pub rule: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// The rules.
pub const TRANSFER: &[Transfer] = &[
    Transfer {
        what: "learning rate",
        rule: "as a multiple of the default, at most half to twice: the best rate of LoRA hardly depends on rank, but laws over model \
               size bend",
        source: "LoRA Without Regret, 2025; arXiv 2606.29158",
    },
    Transfer {
        what: "share of the user's rows",
        rule: "as it is: mixtures keep their order from small models to large ones, and the share at which general ability breaks grows \
               with size",
        source: "RegMix, arXiv 2407.01492; critical mixture ratio, arXiv 2407.17467",
    },
    Transfer {
        what: "passes over the rows",
        rule: "as they are, at most one for continued pretraining: extrapolating in data is safer than in size",
        source: "arXiv 2606.29158; AWS ML blog, June 2026",
    },
    Transfer {
        what: "warm-up",
        rule: "as a share of the steps",
        source: "AWS blog, Nova Forge SDK part 2, April 2026: 5 to 10 %",
    },
    Transfer {
        what: "batch size",
        rule: "not carried: the best one follows the noise of the model's own gradient",
        source: "Surge, arXiv 2405.14578",
    },
    Transfer {
        what: "rank, alpha",
        rule: "not carried: Nova's rank is no public knob, and alpha means nothing without it",
        source: "aws/sagemaker-hyperpod-recipes @ 2631995",
    },
];

/// Values that were tuned on a small model.
#[derive(Debug, Clone, PartialEq)]
pub struct Hypothesis {
    /// The model they were tuned on.
    pub model: String,
    /// The search or recipe that they come from.
    pub from: String,
    /// The tuned learning rate, and what Temper takes by default in this kind of stage.
    pub rate: Option<(f64, f64)>,
    /// Percent of the user's own rows.
    pub domain: Option<f64>,
}

impl Hypothesis {
    /// What the first stage of a tuned recipe says.
    pub fn of(recipe: &Recipe, from: &str) -> Option<Self> {
        let stage = recipe.stages.first()?;
        let (default, _) = usual_rate(Some(stage.kind.value), Some(stage.mode.value));
        Some(Self {
            model: recipe.base.source.value.to_string(),
            from: from.to_owned(),
            rate: Some((stage.learning_rate.value, default)),
            domain: stage.mix.as_ref().map(|mix| mix.domain.value),
        })
    }

    /// By how much the tuned rate is above the default.
    pub fn rate_times(&self) -> Option<f64> {
        self.rate.map(|(tuned, default)| tuned / default)
    }
}

/// The short search that confirms a hypothesis: recipes around it, to be tried one after the other.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    /// The recipes, in order.
    pub recipes: Vec<Tried>,
    /// In which order to try them and when to stop, as Markdown.
    pub order: String,
}

/// A recipe of a search.
#[derive(Debug, Clone, PartialEq)]
pub struct Tried {
    /// Its file's name, without the ending.
    pub name: String,
    /// What it tells.
    pub why: String,
    /// Its text.
    pub text: String,
}
