//! `temper bench data`: a file of rows to packed batches, cold, for `bench/data`.

use std::path::PathBuf;
use std::time::Instant;

use temper_data::{ExamplesWriter, Extent, MixUnit, ReadOptions, RowRules, micro_batches, prepare_file, schedule};

use crate::base::open;
use crate::command::{DONE, Failure, Outcome, print};

/// A file and how it becomes batches.
#[derive(clap::Args)]
pub struct DataArgs {
    /// File of rows.
    file: PathBuf,
    /// The base whose tokenizer and template are used.
    #[arg(long)]
    base: String,
    /// Tokens of the longest row, and of a packed batch.
    #[arg(long, default_value_t = 1024)]
    max_length: usize,
    /// Rows that are packed together.
    #[arg(long, default_value_t = 1000)]
    rows_together: usize,
    /// Write the base's tokenizer to this folder first, for a peer.
    #[arg(long, value_name = "FOLDER")]
    write_tokenizer: Option<PathBuf>,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
}

/// Reads, renders, tokenises to a file that goes away, and packs one epoch; prints what each took.
pub fn run(args: &DataArgs) -> Outcome {
    let base = open(&args.base, args.offline)?;
    if let Some(folder) = &args.write_tokenizer {
        base.renderer.tokenizer().save(folder).map_err(Failure::run)?;
    }
    let fail = |error: temper_data::DataError| Failure::input(error);
    let start = Instant::now();
    let rules = RowRules::from(args.max_length);
    let examples = ExamplesWriter::in_temporary_file().map_err(fail)?;
    let options = ReadOptions::default();
    let source = prepare_file(&args.file, &options, &base.renderer, rules, ("data", 1.0), examples).map_err(fail)?;
    let prepared = start.elapsed().as_secs_f64();
    let (report, sources) = (source.report.clone(), [source]);
    let extent = Extent::Epochs(1.0);
    let schedule =
        schedule(&sources, &[1.0], MixUnit::Samples, args.rows_together.max(1), extent, 0).map_err(Failure::input)?;
    let (mut batches, mut tokens, mut targets) = (0, 0, 0);
    for step in 0..schedule.steps().len() {
        let rows = schedule.rows(step, &sources).map_err(fail)?;
        let rows: Vec<_> = rows.iter().map(|(source, row)| (*source, row)).collect();
        for batch in micro_batches(&rows, args.max_length) {
            batches += 1;
            tokens += batch.ids.len();
            targets += batch.targets.len();
        }
    }
    let seconds = start.elapsed().as_secs_f64();
    let bytes = std::fs::metadata(&args.file).map(|meta| meta.len()).unwrap_or_default();
    let about = serde_json::json!({
        "bytes": bytes, "rows": report.rows, "kept": report.kept, "tokens": tokens, "trained": targets, "batches": batches,
        "seconds": seconds, "prepare_seconds": prepared, "pack_seconds": seconds - prepared,
        "filled": tokens as f64 / (batches * args.max_length) as f64,
    });
    print(format_args!("{about}\n"))?;
    Ok(DONE)
}
