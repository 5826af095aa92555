//! `temper resume`: goes on with a run that was stopped, to the bytes that it would have given.

use std::path::PathBuf;

use temper_pipeline::{Change, Options, Provenance, changes, recorded_recipe};

use crate::base::{MachineArgs, prepare};
use crate::command::{DONE, Failure, Outcome, tell};
use crate::interrupt::STOP;
use crate::run::{cache, carry_out};

/// Go on with a run that was stopped, crashed or killed.
#[derive(clap::Args)]
pub struct Args {
    /// The run folder.
    run: PathBuf,
    /// A changed recipe; left out, the one that the run recorded.
    #[arg(long)]
    recipe: Option<PathBuf>,
    /// Overrides a value: `stages.0.save_steps=10`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// Goes on even with changes after which it is no longer the run that was begun.
    #[arg(long)]
    accept: bool,
    /// The summary as JSON on standard output.
    #[arg(long)]
    json: bool,
    /// Neither reuse what other runs computed nor keep that of this one.
    #[arg(long)]
    no_cache: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

pub fn run(args: Args) -> Outcome {
    if args.run.join("summary.json").is_file() {
        tell(format_args!("{} is finished: nothing is left to do", args.run.display()));
        return Ok(DONE);
    }
    let file = args.recipe.clone().unwrap_or_else(|| recorded_recipe(&args.run));
    if !file.is_file() && args.recipe.is_none() {
        return Err(Failure::input(anyhow::anyhow!(
            "{} holds no run: there is no recipe.json\nhint: name the folder that `temper run` wrote (its `output`)",
            args.run.display()
        )));
    }
    let mut sets = args.sets;
    sets.push(format!("output={}", args.run.display()));
    let recorded = Provenance::recorded(&args.run);
    let mut options = Options {
        resume: true,
        write_self: true,
        cache: cache(args.no_cache),
        interrupt: Some((&STOP).into()),
        began: recorded.as_ref().and_then(|recorded| recorded.began.clone()),
        ..args.machine.options()
    };
    let mut prepared = prepare(&file, &sets, &options)?;
    prepared.provenance = recorded.unwrap_or_default();
    let mut differs = changes(&args.run, &prepared.plan())?;
    // The run folder is the one that was named, wherever it lies now.
    differs.retain(|change| change.what != "output");
    if differs.iter().any(|change| change.unsafe_to_resume) && !args.accept {
        differs.iter().for_each(|change| tell(line(change)));
        return Err(Failure::input(anyhow::anyhow!(
            "{} would no longer be the run that was begun\nhint: --accept goes on all the same; `temper run` begins a new one",
            args.run.display()
        )));
    }
    options.changes = differs;
    carry_out(&prepared, &options, args.json)
}

/// A change in one line.
pub fn line(change: &Change) -> String {
    let kind = if change.unsafe_to_resume { "changed (needs --accept)" } else { "changed" };
    format!("{kind}: {}: {} -> {} ({})", change.what, change.before, change.now, change.note)
}
