//! `temper report`: the report of a run and its model cards, made again from its folder.

use std::path::PathBuf;

use temper_pipeline::advise::with_advice;
use temper_report::{ReportError, RunFolder};

use crate::command::{DONE, Failure, Outcome, conclude, tell};

/// Make the report of a run again (one HTML file, read in any browser, without a network), and its model cards.
#[derive(clap::Args)]
pub struct Args {
    /// The run folder, such as runs/NAME. It may be unfinished.
    run: PathBuf,
    /// Leaves texts of rows and answers out: ids and scores only.
    #[arg(long)]
    no_samples: bool,
    /// Where to write the report, in place of RUN/report.html; nothing in the run folder is touched then.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let path = args.output.clone().unwrap_or_else(|| args.run.join("report.html"));
    let failed = |error: ReportError| match error {
        ReportError::Write(_) => Failure::run(error),
        _ => Failure::input(error),
    };
    let run = RunFolder::read(&args.run).map_err(failed)?;
    run.reward_lines().iter().for_each(tell);
    if args.output.is_none() {
        run.write_cards().map_err(failed)?;
    }
    let texts = !args.no_samples;
    with_advice(run, texts)?.write_report(&path, texts).map_err(failed)?;
    conclude(format!("{}\n", path.display()), DONE)
}
