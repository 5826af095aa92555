//! `temper report`: the report of a run, made again from its folder.

use std::path::PathBuf;

use temper_report::{ReportError, RunFolder};

use crate::command::{DONE, Failure, Outcome, conclude};

/// Make the report of a run again: one HTML file, read in any browser, without a network.
#[derive(clap::Args)]
pub struct Args {
    /// The run folder, such as runs/NAME. It may be unfinished.
    run: PathBuf,
    /// Leaves texts of rows and answers out: ids and scores only.
    #[arg(long)]
    no_samples: bool,
    /// Where to write it, in place of RUN/report.html.
    #[arg(long)]
    output: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let path = args.output.clone().unwrap_or_else(|| args.run.join("report.html"));
    let write = || RunFolder::read(&args.run)?.write_report(&path, !args.no_samples);
    write().map_err(|error: ReportError| match error {
        ReportError::Write(_) => Failure::run(error),
        _ => Failure::input(error),
    })?;
    conclude(format!("{}\n", path.display()), DONE)
}
