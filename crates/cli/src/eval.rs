//! `temper eval`: both axes of an adapter that was trained before.

use std::path::PathBuf;

use serde::Serialize;
use temper_eval::compare::Comparison;
use temper_pipeline::{Event, Options, Split};

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

/// The comparison, with what is to be known of adapter and base.
#[derive(Serialize)]
struct Judgement<'c> {
    #[serde(flatten)]
    comparison: &'c Comparison,
    warnings: Vec<String>,
}

pub fn run(args: &Args) -> Outcome {
    check_adapter(&args.adapter)?;
    let options = Options { cache: crate::run::cache(false), ..args.recipe.machine.options() };
    let prepared = args.recipe.prepare(&options)?;
    args.recipe.tell_notes(&prepared);
    let split = if args.test { Split::Test } else { Split::Validation };
    let mut reporter = Reporter::new();
    // What is said of adapter and base belongs to the result: it must not be lost with standard error.
    let mut warnings: Vec<String> = Vec::new();
    let mut hear = |event: &Event| {
        if let Event::Warning { message } = event {
            warnings.push(message.clone());
        }
        reporter.hear(event);
    };
    let comparison = temper_pipeline::judge_adapter(&prepared, &args.adapter, args.any_base, split, &mut hear)?;
    reporter.finish();
    let text = if args.json {
        json(&Judgement { comparison: &comparison, warnings })?
    } else {
        warnings.iter().map(|warning| format!("warning: {warning}\n")).collect::<String>()
            + &verdict::text(&comparison)
            + "\n"
    };
    conclude(text, verdict::exit_code(&comparison))
}
