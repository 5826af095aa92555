//! `temper data show`: each token as trained or masked, from the code that trains.

use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_data::{
    DropReason, Example, ExamplesWriter, Preparing, RowKind, RowRules, Source, Tell, Wanted, prepare_filtered,
};
use temper_pipeline::{Base, stage_rows};
use temper_recipe::Recipe;
use temper_report::{ShownRow, ShownToken, count, rows_page};
use temper_run::write_atomic;
use temper_text::Tokenizer;

use super::{Input, files, input};
use crate::base::open;
use crate::command::{DONE, Failure, Outcome, print, tell};
use crate::plan::remarks;
use crate::run::Reporter;

/// What to show.
#[derive(clap::Args)]
pub struct Args {
    /// File of rows, or a folder, a pattern or hf:datasets/OWNER/NAME that stands for one; `-` for the standard input.
    file: PathBuf,
    #[command(flatten)]
    input: Input,
    /// The base whose tokenizer and template are used.
    #[arg(long, required_unless_present = "recipe")]
    base: Option<String>,
    /// A recipe, by a stage of which rows become tokens: its base, its rules of rendering, its longest row, its filters.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "max_length"])]
    recipe: Option<PathBuf>,
    /// Overrides a value of the recipe: `stages.0.mask_history=true`.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "recipe")]
    sets: Vec<String>,
    /// The stage of the recipe, from 0.
    #[arg(long, value_name = "N", requires = "recipe", default_value_t = 0)]
    stage: usize,
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
    let found = files(std::slice::from_ref(&args.file), args.offline)?;
    let [file] = &found[..] else {
        let names: Vec<String> = found.iter().take(3).map(|file| file.display().to_string()).collect();
        let (given, many) = (args.file.display(), found.len());
        return Err(Failure::input(anyhow!(
            "{given}: {many} files, expected one\nhint: name it: {}",
            names.join(", ")
        )));
    };
    let mut left_out = BTreeMap::new();
    let mut heard = |line, reason, tokens| {
        if args.row.contains(&line) {
            left_out.insert(line, (reason, tokens));
        }
    };
    let (base, source) = rows(args, file, &mut heard)?;
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
    for remark in remarks(report) {
        summary += &format!(" Note: {remark}.");
    }
    let shown = shown(args, file, (&source, &left_out), base.renderer.tokenizer())?;
    let name = file.display().to_string();
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

/// The base, and the rows of a file as tokens.
fn rows(args: &Args, file: &Path, tell: Tell<'_>) -> Result<(Base, Source), Failure> {
    let given = args.input.options();
    if let Some(recipe) = &args.recipe {
        let (recipe, _) = Recipe::load(recipe, &args.sets)?;
        let mut reporter = Reporter::new();
        let on_event = &mut |event: &_| reporter.hear(event);
        let found = stage_rows(&recipe, args.stage, (file, &given), tell, args.offline, on_event)?;
        reporter.finish();
        return Ok(found);
    }
    let base = open(args.base.as_deref().unwrap_or_default(), args.offline)?;
    let rules = RowRules { wanted: Wanted::Any, ..args.max_length.into() };
    let tokens = ExamplesWriter::in_temporary_file().map_err(input)?;
    let preparing = Preparing::new(&base.renderer, rules, tokens).telling(tell);
    let source = prepare_filtered(file, &given, None, preparing, ("data", 1.0)).map_err(input)?;
    Ok((base, source))
}

/// Rows that are left out, by their lines: why, and their tokens where they were counted.
type LeftOut = BTreeMap<usize, (DropReason, usize)>;

/// The rows that are asked for; a document that is trained in parts comes in its parts, a pair as its two answers, the better
/// one first.
fn shown(
    args: &Args,
    file: &Path,
    (source, left_out): (&Source, &LeftOut),
    tokenizer: &Tokenizer,
) -> Result<Vec<ShownRow>, Failure> {
    let examples = &source.examples;
    let of_index = |index: usize| -> Result<Vec<ShownRow>, Failure> {
        if source.report.kind == RowKind::Preference {
            let answers = source.pair(index).map_err(input)?.answers();
            return Ok(answers.iter().map(|answer| row(answer, tokenizer)).collect());
        }
        Ok(vec![row(&source.example(index).map_err(input)?, tokenizer)])
    };
    let mut shown = Vec::new();
    if args.row.is_empty() {
        for index in 0..examples.len().min(args.rows) {
            shown.extend(of_index(index)?);
        }
    }
    for &line in &args.row {
        let before = shown.len();
        if let Some((reason, tokens)) = left_out.get(&line) {
            let tokens = if *tokens > 0 { format!(", {} tokens", count(*tokens)) } else { String::new() };
            let why = Some(format!("{reason}{tokens}"));
            shown.push(ShownRow { line, trained: 0, tokens: Vec::new(), left_out: why });
        }
        for index in (0..examples.len()).filter(|&index| examples.line(index) == line) {
            shown.extend(of_index(index)?);
        }
        if shown.len() == before {
            return Err(Failure::input(anyhow!("{}:{line}: no row begins there", file.display())));
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
    ShownRow { line: example.row, trained: example.trained_tokens(), tokens, left_out: None }
}

fn text(row: &ShownRow, coloured: bool) -> String {
    if let Some(why) = &row.left_out {
        return format!("\nline {}, left out: {why}\n", row.line);
    }
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
