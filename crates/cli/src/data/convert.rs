//! `temper data convert`: rows in another format.

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_data::{Breach, Conversion, DataError, Dropped, Format, Nova, RowsWriter, Writing, convert};
use temper_report::count;

use super::{Rows, input, named_format};
use crate::command::{DONE, Failure, Outcome, tell};

/// What to write.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    rows: Rows,
    /// Format to write: messages, converse, sharegpt, alpaca, prompt_completion, question_answer, preference, rft or text.
    #[arg(long, value_name = "FORMAT", value_parser = named_format)]
    to: Format,
    /// File to write: .jsonl, .json, .csv or .tsv, packed where .gz or .zst follows, or .parquet; JSONL to the standard output where left out.
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Leave out rows that the format cannot hold, and count them; without, they are refused and no file is written.
    #[arg(long)]
    skip: bool,
    /// Which Amazon Nova the rows are for, 1 or 2: rows of rft and text must then keep its contract too, as rows of converse always
    /// must (docs/other-tools.md).
    #[arg(long, value_name = "GENERATION", value_parser = clap::value_parser!(u8).range(1..=2))]
    nova: Option<u8>,
    /// Bedrock is to read them, which takes so many rows only.
    #[arg(long)]
    bedrock: bool,
}

pub fn run(args: &Args) -> Outcome {
    let files = args.rows.find()?;
    if let Some(output) = args.output.as_ref().filter(|output| files.iter().any(|file| same(file, output))) {
        let path = output.display();
        return Err(Failure::input(anyhow!("{path}: it is read and cannot be written\nhint: give another name")));
    }
    let is_novas = matches!(args.to, Format::Converse | Format::Rft | Format::Text);
    if (args.nova.is_some() || args.bedrock) && !is_novas {
        let problem = format!("--nova and --bedrock: Amazon Nova takes no rows of the format `{}`", args.to);
        return Err(Failure::input(anyhow!("{problem}\nhint: --to converse (SFT, DPO), rft or text (CPT)")));
    }
    match write(&files, args) {
        Ok(done) => {
            report(&done, args);
            Ok(DONE)
        }
        // The reader of the standard output has gone.
        Err(DataError::Write { source, .. })
            if args.output.is_none() && source.kind() == std::io::ErrorKind::BrokenPipe =>
        {
            Ok(DONE)
        }
        Err(error @ DataError::Write { .. }) => Err(Failure::run(error)),
        Err(error) => Err(input(error)),
    }
}

fn write(files: &[PathBuf], args: &Args) -> Result<Conversion, DataError> {
    let mut rows = match &args.output {
        Some(output) => RowsWriter::create(output)?,
        None => RowsWriter::to_stdout(),
    };
    let nova = (args.nova.is_some() || args.bedrock)
        .then(|| Nova { second: args.nova.map(|generation| generation == 2), bedrock: args.bedrock });
    let to = Writing { format: args.to, shape: rows.shape(), skip: args.skip, nova };
    let done = convert(files, &args.rows.input.options(), &to, |row| rows.row(row))?;
    rows.finish()?;
    Ok(done)
}

fn same(a: &Path, b: &Path) -> bool {
    a.canonicalize().ok().zip(b.canonicalize().ok()).is_some_and(|(a, b)| a == b)
}

/// What was done, beside the data.
fn report(done: &Conversion, args: &Args) {
    let to = args.to;
    for (path, format, rows) in &done.files {
        tell(format_args!("{}: {} rows of the format `{format}`", path.display(), count(*rows)));
    }
    tell(format_args!("{} rows written as `{to}`", count(done.written)));
    let lines = |of: &Dropped| match &of.first_lines[..] {
        [] => String::new(),
        lines => format!(", first rows {lines:?}"),
    };
    for (what, of) in &done.lost {
        tell(format_args!("not in the new rows: {what} ({} rows{})", count(of.count), lines(of)));
    }
    for (why, of) in &done.left_out {
        tell(format_args!("left out: {} rows{}: {why}", count(of.count), lines(of)));
    }
    if done.named.count > 0 {
        let of = &done.named;
        tell(format_args!("given an `id`, FILE-ROW: {} rows{}", count(of.count), lines(of)));
    }
    for Breach { rule, severity, found, reason, source, rows, first_lines } in &done.breaches {
        let place = if first_lines == &[0] {
            String::new()
        } else {
            format!(" ({} rows, first rows {first_lines:?})", count(*rows))
        };
        tell(format_args!("{severity}: {found}{place} [{rule}]: {reason}; source: {source}"));
    }
    if to == Format::Rft && args.nova.is_none() && !args.bedrock {
        tell("note: whether Amazon Nova takes these rows was not looked at: --nova 2 does");
    }
}
