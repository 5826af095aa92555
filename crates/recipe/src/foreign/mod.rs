//! Recipes of other tools: read with the place of every key, checked by rules, carried here and back.
//!
//! ```text
//! file -- Document::read --> Document -- View::of --> View -- rules::RULES --> findings
//!                               |-- the tool's own keys, ranges and rules ------------^
//!                               |-- import --> a recipe of Temper + what has no counterpart
//! Recipe -- View::of_recipe --> View -- rules::RULES --> findings
//!        -- export --> a recipe of the tool + what has no counterpart
//! ```
//! One file per tool says what its keys are and what they mean. A rule that holds for several tools sees only a [`View`]: the few
//! values that all of them have under other names, each with its key and place. So the same rule serves Temper's own recipes.

mod axolotl;
mod carry;
mod document;
mod family;
mod finding;
mod hypothesis;
mod keys;
mod llamafactory;
mod mlx;
mod models;
mod nova;
mod reward;
mod rules;
mod script;
mod trl;
mod unsloth;
mod view;

use std::path::Path;

use crate::recipe::Recipe;
use crate::tree::{Content, Node};

pub use carry::{Carried, Given, Listed};
pub use document::Document;
pub use family::BEGINNINGS;
pub use finding::{Cited, Finding, Severity};
pub use hypothesis::{Hypothesis, Search, TRANSFER, Transfer, Tried};
pub use nova::{Platform, RowTechnique, row_technique};
pub use reward::check_reward;
pub use rules::{RULES, Rule};
pub use view::{Known, Said, Technique, View};

crate::kind::words! {
    /// A tool whose recipes are understood.
    pub enum Tool {
        /// Amazon Nova Forge: HyperPod recipes, SageMaker hyperparameters, Bedrock customization jobs.
        Nova = "nova",
        /// Axolotl.
        Axolotl = "axolotl",
        /// LLaMA-Factory.
        LlamaFactory = "llamafactory",
        /// TRL: a YAML configuration, or a command line of `trl` or `accelerate launch`.
        Trl = "trl",
        /// Unsloth's command line tool.
        Unsloth = "unsloth",
        /// mlx-lm.
        MlxLm = "mlx-lm",
        /// Temper itself.
        Temper = "temper",
    }
}

impl Tool {
    /// Its name in sentences.
    pub fn name(self) -> &'static str {
        match self {
            Self::Nova => "Nova Forge",
            Self::Axolotl => "Axolotl",
            Self::LlamaFactory => "LLaMA-Factory",
            Self::Trl => "TRL",
            Self::Unsloth => "Unsloth",
            Self::MlxLm => "mlx-lm",
            Self::Temper => "Temper",
        }
    }

    /// The tool of this name.
    pub fn named(name: &str) -> Option<Self> {
        <Self as crate::kind::Choice>::ALL.iter().find(|(word, _)| *word == name).map(|(_, tool)| *tool)
    }

    /// The tool that the top keys tell. What only one tool has comes first.
    pub(crate) fn of(root: &Node) -> Option<Self> {
        let Content::Map(entries) = &root.content else { return None };
        let has = |key: &str| entries.iter().any(|entry| entry.key == key);
        let map =
            |key: &str| entries.iter().any(|entry| entry.key == key && matches!(entry.value.content, Content::Map(_)));
        let any = |keys: &[&str]| keys.iter().any(|key| has(key));
        Some(if has("stages") && any(&["base", "name"]) {
            Self::Temper
        } else if map("run") && any(&["training_config", "evaluation", "inference", "data_mixing", "rl_env"])
            || any(&["training_config", "customizationType", "baseModelIdentifier", "customer_data_percent"])
            || map("HyperParameters")
        {
            Self::Nova
        } else if has("base_model") {
            Self::Axolotl
        } else if any(&["cutoff_len", "finetuning_type", "dataset_dir", "lora_target", "pref_beta", "val_size"])
            || has("stage") && has("model_name_or_path")
        {
            Self::LlamaFactory
        } else if map("training") && any(&["lora", "data", "model"]) {
            Self::Unsloth
        } else if any(&["lora_parameters", "iters", "fine_tune_type", "steps_per_eval"])
            || has("model") && any(&["train", "adapter_path"])
        {
            Self::MlxLm
        } else if has("model_name_or_path") {
            Self::Trl
        } else {
            return None;
        })
    }
}

/// By what a recipe of another tool trains, as far as its keys tell.
pub fn technique(document: &Document) -> Option<Technique> {
    view(document).technique
}

/// The recipe as rules see it.
fn view(document: &Document) -> View {
    match document.tool {
        Tool::Nova => nova::view(document),
        Tool::Axolotl => axolotl::view(document),
        Tool::LlamaFactory => llamafactory::view(document),
        Tool::Trl => trl::view(document),
        Tool::Unsloth => unsloth::view(document),
        Tool::MlxLm => mlx::view(document),
        Tool::Temper => View::default(),
    }
}

/// Every finding of a recipe of another tool, by place; `known` is what is known beside it.
pub fn check(document: &Document, known: &Known) -> Vec<Finding> {
    let mut findings = match document.tool {
        Tool::Nova => nova::findings(document, known),
        Tool::Axolotl => axolotl::findings(document),
        Tool::LlamaFactory => llamafactory::findings(document),
        Tool::Trl => trl::findings(document, known),
        Tool::Unsloth => unsloth::findings(document),
        Tool::MlxLm => mlx::findings(document),
        Tool::Temper => Vec::new(),
    };
    findings.extend(rules::findings(&view(document), known, |key, value| document.line(key, value)));
    finding::in_order(findings)
}

/// The findings of the rules that hold for every tool, for a recipe of Temper's own.
pub fn check_recipe(recipe: &Recipe, known: &Known) -> Vec<Finding> {
    let stages = (0..recipe.stages.len()).flat_map(|stage| {
        let rows = known.rows.filter(|_| stage == 0);
        let known = Known { rows, ..known.clone() };
        rules::findings(&View::of_recipe(recipe, stage), &known, |key, value| {
            format!("{}: {value}", key.rsplit('.').next().unwrap_or(key))
        })
    });
    finding::in_order(stages.collect())
}

/// A recipe of another tool as one of Temper's, with all that has no counterpart.
///
/// # Errors
/// What of it no recipe of Temper can be made of.
pub fn import(document: &Document, given: &Given) -> Result<Carried, crate::problem::RecipeErrors> {
    let carried = match document.tool {
        Tool::Nova => nova::import(document, given),
        Tool::Axolotl => axolotl::import(document, given),
        Tool::LlamaFactory => llamafactory::import(document, given),
        Tool::Trl => trl::import(document, given),
        Tool::Unsloth => unsloth::import(document, given),
        Tool::MlxLm => mlx::import(document, given),
        Tool::Temper => Err(carry::refusal("it is a recipe of Temper's already", "use it as it is")),
    };
    carried.map_err(|problem| crate::problem::RecipeErrors { file: document.file.clone(), problems: vec![problem] })
}

/// A recipe of Temper's as one of another tool's, with all that has no counterpart. `rows` are those of the first stage's domain,
/// where they were counted.
///
/// # Errors
/// Where the tool has nothing that the recipe asks for.
pub fn export(
    recipe: &Recipe,
    file: &Path,
    to: Tool,
    rows: Option<u64>,
    hypothesis: Option<&Hypothesis>,
) -> Result<Carried, crate::problem::RecipeErrors> {
    let carried = match to {
        Tool::Nova => nova::export(recipe, rows, hypothesis),
        Tool::Axolotl => axolotl::export(recipe),
        Tool::LlamaFactory => llamafactory::export(recipe),
        Tool::Trl => trl::export(recipe),
        Tool::Unsloth | Tool::MlxLm | Tool::Temper => Err(carry::refusal(
            &format!("recipes are not written for {}", to.name()),
            "--to nova, axolotl, llamafactory or trl",
        )),
    };
    carried.map_err(|problem| crate::problem::RecipeErrors { file: file.to_path_buf(), problems: vec![problem] })
}

/// The short search around a hypothesis about Nova; `rows` as in [`export`].
///
/// # Errors
/// As [`export`].
pub fn search(
    recipe: &Recipe,
    file: &Path,
    rows: Option<u64>,
    hypothesis: &Hypothesis,
) -> Result<Search, crate::problem::RecipeErrors> {
    nova::search(recipe, rows, hypothesis)
        .map_err(|problem| crate::problem::RecipeErrors { file: file.to_path_buf(), problems: vec![problem] })
}
