//! `temper eval`: both axes of an adapter that was trained before.

use std::path::PathBuf;

use temper_pipeline::{Options, Split};

use crate::command::{Outcome, load_recipe, print_json};
use crate::run::Reporter;
use crate::verdict;

/// Judge an adapter on both axes of the recipe's `evaluation`.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    recipe: PathBuf,
    /// The adapter folder, such as runs/NAME/adapter.
    #[arg(long)]
    adapter: PathBuf,
    /// Overrides a value of the recipe.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Scores the test rows of the domain. Left out: the validation rows, which may steer.
    #[arg(long)]
    test: bool,
    /// The comparison as JSON.
    #[arg(long)]
    json: bool,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
    /// Threads; as many as the machine has when left out.
    #[arg(long, default_value_t = 0)]
    threads: usize,
}

pub fn run(args: &Args) -> Outcome {
    let (recipe, notes) = load_recipe(&args.recipe, &args.sets)?;
    let options = Options { threads: args.threads, offline: args.offline, ..Options::default() };
    let mut reporter = Reporter::new();
    let prepared = temper_pipeline::prepare(recipe, notes, &options, &mut |event| reporter.hear(event))?;
    let split = if args.test { Split::Test } else { Split::Validation };
    let comparison =
        temper_pipeline::judge_adapter(&prepared, &args.adapter, split, &mut |event| reporter.hear(event))?;
    reporter.finish();
    if args.json {
        print_json(&comparison)?
    } else {
        anstream::println!("{}", verdict::text(&comparison))
    }
    Ok(verdict::exit_code(&comparison))
}
