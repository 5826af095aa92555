//! `temper schema`: the JSON Schema of the recipe, for editors.

use crate::command::{DONE, Outcome, conclude, json};

/// Print the JSON Schema of the recipe (draft 2020-12).
///
/// `temper schema > recipe.schema.json`, and as a first line of a recipe
/// `# yaml-language-server: $schema=recipe.schema.json`.
#[derive(clap::Args)]
pub struct Args {}

pub fn run(_: &Args) -> Outcome {
    conclude(json(&temper_recipe::schema())?, DONE)
}
