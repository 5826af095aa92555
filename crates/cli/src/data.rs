//! `temper data show`: each token as trained or masked, from the code that trains.

use std::io::IsTerminal;
use std::path::PathBuf;

use temper_data::{ReadOptions, load_rows, prepare};
use temper_pipeline::PipelineError;
use temper_report::count;

use crate::command::{DONE, Failure, Outcome, print};
use crate::run::Reporter;

/// Work with data.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show rows token by token: trained ones green (without colour: in brackets), masked ones dim.
    Show(Args),
}

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// JSONL of `messages`, `prompt`/`completion` or `text`.
    file: PathBuf,
    /// The base whose tokenizer and template are used.
    #[arg(long)]
    base: String,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
    /// Rows to show.
    #[arg(long, default_value_t = 3)]
    rows: usize,
    /// Longest row in tokens; longer ones are dropped and counted.
    #[arg(long, default_value_t = 1024)]
    max_length: usize,
}

pub fn run(command: &Command) -> Outcome {
    let Command::Show(args) = command;
    let mut reporter = Reporter::new();
    let base = temper_pipeline::open_base(&args.base, None, args.offline, &mut |event| reporter.hear(event))?;
    reporter.finish();
    let input = |e: temper_data::DataError| Failure::from(PipelineError::from(e));
    let rows = load_rows(&args.file, &ReadOptions::default()).map_err(input)?;
    let source = prepare(&rows, &base.renderer, args.max_length, "data", 1.0).map_err(input)?;
    let report = &source.report;
    print(format_args!(
        "{}: {} rows, {} kept, {} tokens, {} trained\n",
        args.file.display(),
        count(report.rows),
        count(report.kept),
        count(report.processed_tokens),
        count(report.trained_tokens)
    ))?;
    for (reason, dropped) in &report.dropped {
        print(format_args!("dropped {}: {reason} (first lines {:?})\n", dropped.count, dropped.first_lines))?;
    }
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    let tokenizer = base.renderer.tokenizer();
    for index in 0..source.examples.len().min(args.rows) {
        let example = source.example(index).map_err(input)?;
        let mut text = format!("\nline {}, {} tokens\n", example.row, example.ids.len());
        for (&id, &weight) in example.ids.iter().zip(&example.weights) {
            let token = tokenizer.decode(&[id], false);
            let token = if token.contains('\u{FFFD}') { tokenizer.token(id).unwrap_or(token) } else { token };
            text.push_str(&match (weight > 0.0, coloured) {
                (true, true) => format!("\x1b[32m{token}\x1b[0m"),
                (false, true) => format!("\x1b[2m{token}\x1b[0m"),
                (true, false) => format!("[{token}]"),
                (false, false) => token,
            });
        }
        print(text + "\n")?;
    }
    Ok(DONE)
}
