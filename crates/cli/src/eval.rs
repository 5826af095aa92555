//! `temper eval`: both axes of an adapter that was trained before.

use std::path::PathBuf;

use temper_pipeline::{Event, Split};

use crate::base::{RecipeArgs, check_adapter};
use crate::command::{Outcome, conclude, json};
use crate::run::Reporter;
use crate::verdict;

/// Judge an adapter on both axes of the recipe's `evaluation`.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The adapter folder, such as runs/NAME/adapter.
    #[arg(long)]
    adapter: PathBuf,
    /// Takes an adapter that was trained over other weights.
    #[arg(long)]
    any_base: bool,
    /// Scores the test rows of the domain. Left out: the validation rows, which may steer.
    #[arg(long)]
    test: bool,
    /// The comparison as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    check_adapter(&args.adapter)?;
    let prepared = args.recipe.prepare(false)?;
    args.recipe.tell_notes(&prepared);
    let split = if args.test { Split::Test } else { Split::Validation };
    let mut reporter = Reporter::new();
    let mut hear = |event: &Event| reporter.hear(event);
    let comparison = temper_pipeline::judge_adapter(&prepared, &args.adapter, args.any_base, split, &mut hear)?;
    reporter.finish();
    let text = if args.json { json(&comparison)? } else { verdict::text(&comparison) + "\n" };
    conclude(text, verdict::exit_code(&comparison))
}
