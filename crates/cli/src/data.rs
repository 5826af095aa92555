//! `temper data`: what is in files of rows, and what becomes of it.

mod check;
mod convert;
mod show;

use std::collections::BTreeMap;
use std::path::PathBuf;

use temper_data::{DataError, Format, ReadOptions, is_known_ending, known_endings};
use temper_pipeline::{PipelineError, find_rows};

pub use check::findings;

use crate::command::{Failure, Outcome};
use crate::run::Reporter;

/// Work with data.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Show rows token by token: trained ones green (without colour: in brackets), masked ones dim.
    Show(show::Args),
    /// Write rows in another format, and list what it cannot hold.
    Convert(convert::Args),
    Check(check::Args),
}

/// How files are read.
#[derive(clap::Args)]
pub struct Input {
    /// Format of the rows, where it cannot be told by their fields.
    #[arg(long, value_name = "FORMAT", value_parser = named_format)]
    format: Option<Format>,
    /// A field by the name that the format expects, and its name in the file; as often as needed.
    #[arg(long = "column", value_name = "EXPECTED=GIVEN", value_parser = column)]
    columns: Vec<(String, String)>,
    /// What the standard input or a file of another name holds, by the ending of a file of its kind: csv, txt, ...; packed or not.
    #[arg(long, value_name = "ENDING", value_parser = ending)]
    ending: Option<String>,
}

/// Files of rows, and how they are read.
#[derive(clap::Args)]
pub struct Rows {
    /// Files of rows, folders, patterns or hf:datasets/OWNER/NAME; `-` for the standard input.
    #[arg(required = true)]
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
}

impl Rows {
    fn find(&self) -> Result<Vec<PathBuf>, Failure> {
        files(&self.files, self.offline)
    }
}

impl Input {
    fn options(&self) -> ReadOptions {
        ReadOptions {
            format: self.format,
            columns: self.columns.iter().cloned().collect::<BTreeMap<_, _>>(),
            ending: self.ending.clone(),
        }
    }
}

fn named_format(name: &str) -> Result<Format, String> {
    let known = Format::ALL.map(Format::name).join(", ");
    Format::named(name).ok_or_else(|| format!("no such format, expected one of {known}"))
}

fn ending(text: &str) -> Result<String, String> {
    let ending = text.trim_start_matches('.').to_ascii_lowercase();
    if is_known_ending(&ending) { Ok(ending) } else { Err(format!("expected one of {}", known_endings())) }
}

fn column(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((expected, given)) if !expected.is_empty() && !given.is_empty() => {
            Ok((expected.to_owned(), given.to_owned()))
        }
        _ => Err("expected two names, as in `text=body`".to_owned()),
    }
}

/// The files that paths stand for, in order.
fn files(paths: &[PathBuf], offline: bool) -> Result<Vec<PathBuf>, Failure> {
    let mut reporter = Reporter::new();
    let found = paths.iter().map(|path| find_rows(path, offline, &mut |event| reporter.hear(event)));
    let found = found.collect::<Result<Vec<_>, _>>()?;
    reporter.finish();
    Ok(found.concat())
}

fn input(error: DataError) -> Failure {
    PipelineError::from(error).into()
}

pub fn run(command: &Command) -> Outcome {
    match command {
        Command::Show(args) => show::run(args),
        Command::Convert(args) => convert::run(args),
        Command::Check(args) => check::run(args),
    }
}
