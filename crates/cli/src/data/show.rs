//! `temper data show`: each token as trained or masked, from the code that trains.

use std::io::IsTerminal;
use std::path::PathBuf;

use anyhow::anyhow;
use temper_data::{Example, LoadedRows, Row, RowKind, RowRules, Source, load_rows, prepare};
use temper_report::{ShownRow, ShownToken, count, rows_page};
use temper_run::write_atomic;
use temper_text::Tokenizer;

use super::{Input, input};
use crate::base::open;
use crate::command::{DONE, Failure, Outcome, print, tell};

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// File of rows; `-` for the standard input.
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// The base whose tokenizer and template are used.
    #[arg(long)]
    base: String,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
    /// Rows to show, from the first.
    #[arg(long, default_value_t = 3)]
    rows: usize,
    /// The row of this line alone, or of this number where a file has no lines; as often as needed.
    #[arg(long, value_name = "N", conflicts_with = "rows")]
    row: Vec<usize>,
    /// Longest row in tokens; longer ones are dropped and counted.
    #[arg(long, default_value_t = 1024)]
    max_length: usize,
    /// Write a page for the browser in place of the text.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(args: &Args) -> Outcome {
    let base = open(&args.base, args.offline)?;
    let rows = load_rows(&args.file, &args.input.options()).map_err(input)?;
    let rules = RowRules { pairs: rows.kind == RowKind::Preference, ..args.max_length.into() };
    let source = prepare(&rows, &base.renderer, rules, "data", 1.0).map_err(input)?;
    let report = &source.report;
    let mut summary = format!(
        "{} rows of the format {}, {} kept, {} tokens, {} trained.",
        count(report.rows),
        report.format,
        count(report.kept),
        count(report.processed_tokens),
        count(report.trained_tokens)
    );
    for (reason, dropped) in &report.dropped {
        summary += &format!(" Dropped {}: {reason} (first lines {:?}).", dropped.count, dropped.first_lines);
    }
    if report.split.documents > 0 {
        summary += &format!(" {} documents are trained in {} parts.", report.split.documents, report.split.parts);
    }
    let shown = shown(args, &rows, &source, base.renderer.tokenizer())?;
    let name = args.file.display().to_string();
    if let Some(path) = &args.html {
        let page = rows_page(&name, &summary, &shown).map_err(Failure::run)?;
        write_atomic(path, page.as_bytes()).map_err(Failure::run)?;
        tell(format_args!("wrote {}", path.display()));
        return Ok(DONE);
    }
    print(format_args!("{name}: {summary}\n"))?;
    let coloured = std::io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
    for row in &shown {
        print(text(row, coloured))?;
    }
    Ok(DONE)
}

/// The rows that are asked for; a document that is trained in parts comes in its parts, a pair as its two answers, the better
/// one first.
fn shown(args: &Args, rows: &LoadedRows, source: &Source, tokenizer: &Tokenizer) -> Result<Vec<ShownRow>, Failure> {
    let examples = &source.examples;
    let wanted: Vec<usize> = if args.row.is_empty() {
        (0..examples.len().min(args.rows)).collect()
    } else {
        let mut wanted = Vec::new();
        for &line in &args.row {
            let before = wanted.len();
            wanted.extend((0..examples.len()).filter(|&index| examples.line(index) == line));
            if wanted.len() > before {
                continue;
            }
            let there = rows.rows.iter().any(|row: &Row| row.line == line);
            let why = if there { "its row is not trained: it is among the dropped" } else { "no row is there" };
            return Err(Failure::input(anyhow!("{}:{line}: {why}", args.file.display())));
        }
        wanted
    };
    let mut shown = Vec::new();
    for index in wanted {
        if source.report.kind == RowKind::Preference {
            let answers = source.pair(index).map_err(input)?.answers();
            shown.extend(answers.iter().map(|answer| row(answer, tokenizer)));
        } else {
            shown.push(row(&source.example(index).map_err(input)?, tokenizer));
        }
    }
    Ok(shown)
}

fn row(example: &Example, tokenizer: &Tokenizer) -> ShownRow {
    let token = |(&id, &weight): (&u32, &f32)| {
        let text = tokenizer.decode(&[id], false);
        // A part of a character is shown by its bytes.
        let text = if text.contains('\u{FFFD}') { tokenizer.token(id).unwrap_or(text) } else { text };
        ShownToken { id, text, trained: weight > 0.0, control: tokenizer.is_special(id) }
    };
    let tokens = example.ids.iter().zip(&example.weights).map(token).collect();
    ShownRow { line: example.row, trained: example.trained_tokens(), tokens }
}

fn text(row: &ShownRow, coloured: bool) -> String {
    let mut text = format!("\nline {}, {} tokens, {} trained\n", row.line, row.tokens.len(), row.trained);
    for token in &row.tokens {
        let said = &token.text;
        text.push_str(&match (token.trained, coloured) {
            (true, true) => format!("\x1b[32m{said}\x1b[0m"),
            (false, true) => format!("\x1b[2m{said}\x1b[0m"),
            (true, false) => format!("[{said}]"),
            (false, false) => said.clone(),
        });
    }
    text + "\n"
}
