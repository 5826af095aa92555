//! `temper data check`: what is wrong with rows, before anything is trained on them.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use temper_data::{CheckOptions, CheckReport, DataError, Finding, HeldOut, HeldOutKind, LengthUnit, check_files};
use temper_pipeline::check_stage;
use temper_recipe::Recipe;
use temper_report::{count, percent};

use super::{Input, files, input};
use crate::base::open;
use crate::command::{DONE, Failure, Outcome, REFUSED, conclude, json};
use crate::plan::not_read;
use crate::run::Reporter;
use crate::table::table;

/// Look for duplicates, overlap with held-out rows, contradictions, broken turns and text, secrets; count languages and lengths. All files are checked as one set.
#[derive(clap::Args)]
pub struct Args {
    /// Files of rows, folders, patterns or hf:datasets/OWNER/NAME; `-` for the standard input. With --recipe, what its stage trains on where left out.
    #[arg(required_unless_present = "recipe")]
    files: Vec<PathBuf>,
    #[command(flatten)]
    input: Input,
    /// Never use the network.
    #[arg(long)]
    offline: bool,
    /// A recipe, by a stage of which rows are checked: its base, rules of rendering, longest row, filters, and all that judges it.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["base", "max_length", "validation"])]
    recipe: Option<PathBuf>,
    /// Overrides a value of the recipe: `stages.0.max_length=512`.
    #[arg(long = "set", value_name = "PATH=VALUE", requires = "recipe")]
    sets: Vec<String>,
    /// The stage of the recipe, from 0.
    #[arg(long, value_name = "N", requires = "recipe", default_value_t = 0)]
    stage: usize,
    /// A base by whose tokenizer and template rows are rendered: lengths in tokens, what is trained.
    #[arg(long)]
    base: Option<String>,
    /// Longest row in tokens.
    #[arg(long, requires = "base")]
    max_length: Option<usize>,
    /// Rows that choose the weights: none of them may be trained on.
    #[arg(long, value_name = "FILE")]
    validation: Option<PathBuf>,
    /// Rows or items that judge the result: training must not share words with them.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    against: Vec<PathBuf>,
    /// The report as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let report = match &args.recipe {
        Some(recipe) => by_recipe(recipe, args)?,
        None => alone(args)?,
    };
    let shown = if args.json { json(&report)? } else { text(&report) };
    conclude(shown, if report.refuses() { REFUSED } else { DONE })
}

/// By a stage of a recipe.
fn by_recipe(recipe: &Path, args: &Args) -> Result<CheckReport, Failure> {
    let (recipe, _) = Recipe::load(recipe, &args.sets)?;
    let given = if args.files.is_empty() {
        None
    } else {
        let read = args.input.options();
        Some(files(&args.files, args.offline)?.into_iter().map(|file| (file, read.clone())).collect())
    };
    let (more, mut reporter) = (held_out(args)?, Reporter::new());
    let report = check_stage(&recipe, args.stage, given, more, args.offline, &mut |event| reporter.hear(event))?;
    reporter.finish();
    Ok(report)
}

/// By what the command line says.
fn alone(args: &Args) -> Result<CheckReport, Failure> {
    let (read, found, held_out) = (args.input.options(), files(&args.files, args.offline)?, held_out(args)?);
    let base = args.base.as_ref().map(|base| open(base, args.offline)).transpose()?;
    let renderer = base.as_ref().map(|base| &base.renderer);
    let options = CheckOptions { held_out, renderer, max_length: args.max_length, ..CheckOptions::default() };
    check_files(found.iter().map(|file| (file.as_path(), &read)), options).map_err(input)
}

/// What the command line holds out.
fn held_out(args: &Args) -> Result<Vec<HeldOut>, Failure> {
    let read = args.input.options();
    let mut held_out = Vec::new();
    let validation = args.validation.iter().map(|path| (path, HeldOutKind::Validation));
    for (path, kind) in validation.chain(args.against.iter().map(|path| (path, HeldOutKind::Test))) {
        for file in files(std::slice::from_ref(path), args.offline)? {
            let name = file.display().to_string();
            let rows = HeldOut::read(&name, kind, &file, &read);
            // Items of a suite need not be rows: then their texts are compared.
            let items = |error| match error {
                DataError::BadRows { .. } if kind == HeldOutKind::Test => {
                    HeldOut::read(&name, HeldOutKind::Suite, &file, &read).map_err(|_| error)
                }
                error => Err(error),
            };
            held_out.push(rows.or_else(items).map_err(input)?);
        }
    }
    Ok(held_out)
}

/// The report for people.
fn text(report: &CheckReport) -> String {
    let mut out = String::new();
    for (file, rows) in &report.files {
        let _ = writeln!(out, "{file}: {} rows", count(*rows));
    }
    if let Some(fields) = not_read(&report.ignored_fields) {
        let _ = writeln!(out, "{fields}");
    }
    if !report.languages.is_empty() {
        let languages = largest(&report.languages);
        let asked = report.language_asked;
        let unknown = asked - report.languages.values().sum::<usize>();
        let sample =
            if asked < report.rows { format!(", of {} rows that were asked", count(asked)) } else { String::new() };
        let _ = writeln!(out, "languages: {languages}; not told {}{sample}", count(unknown));
    }
    if !report.labels.is_empty() {
        let _ = writeln!(out, "{} labels: {}", count(report.labels.len()), largest(&report.labels));
    }
    if let Some((trained, all)) = report.trained_tokens {
        let share = percent(trained as f64 / all.max(1) as f64);
        let _ = writeln!(out, "{} tokens, {} of them trained ({share})", count(all), count(trained));
    }
    let _ = write!(out, "{}", histogram(report));
    let _ = writeln!(out, "\n{}", findings(&report.findings));
    out
}

/// The most frequent of some names, each with how often it comes.
fn largest(counts: &BTreeMap<String, usize>) -> String {
    const SHOWN: usize = 10;
    let mut all: Vec<(&String, usize)> = counts.iter().map(|(name, count)| (name, *count)).collect();
    all.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let shown: Vec<String> = all.iter().take(SHOWN).map(|(name, n)| format!("{name} {}", count(*n))).collect();
    shown.join(", ") + if all.len() > SHOWN { ", ..." } else { "" }
}

/// The findings as a table, and what may be done about them.
pub fn findings(findings: &[Finding]) -> String {
    if findings.is_empty() {
        return "nothing found".to_owned();
    }
    let row = |finding: &Finding| {
        let kinds: Vec<String> =
            finding.kinds.iter().map(|(kind, n)| if *n > 0 { format!("{kind} {n}") } else { kind.clone() }).collect();
        let kinds = if kinds.is_empty() { String::new() } else { format!(": {}", kinds.join(", ")) };
        // A file is named once, before the first of its lines.
        let mut first: Vec<String> = Vec::new();
        for (index, place) in finding.first.iter().enumerate() {
            let text = place.to_string();
            let again = index > 0 && finding.first[index - 1].file == place.file;
            let short = text.strip_prefix(&format!("{}:", place.file)).filter(|_| again);
            first.push(short.unwrap_or(&text).to_owned());
        }
        let more = if finding.count > first.len() && !first.is_empty() { ", ..." } else { "" };
        vec![
            finding.severity.to_string(),
            finding.check.to_string(),
            count(finding.count),
            percent(finding.count as f64 / finding.of.max(1) as f64),
            format!("{}{kinds}", finding.check.text()),
            first.join(", ") + more,
            finding.action.to_string(),
        ]
    };
    let heads = ["", "check", "rows", "share", "what", "first", "done"];
    let mut out = table(&heads, findings.iter().map(row).collect(), &[2, 3]);
    for finding in findings {
        let _ = write!(out, "\nhint: {}: {}", finding.check, finding.hint);
    }
    out
}

/// How long rows are, a bar for each step.
fn histogram(report: &CheckReport) -> String {
    const WIDTH: usize = 40;
    let lengths = &report.lengths;
    let unit = match lengths.unit {
        LengthUnit::Characters => "characters",
        LengthUnit::Tokens => "tokens",
    };
    let q = &lengths.quantiles;
    let mut out = format!(
        "\nlength in {unit}: minimum {}, median {}, 9 of 10 at most {}, maximum {}\n",
        count(q.min),
        count(q.p50),
        count(q.p90),
        count(q.max)
    );
    let most = lengths.histogram.iter().map(|(_, rows)| *rows).max().unwrap_or(0).max(1);
    let widest = lengths.histogram.last().map_or(0, |(from, _)| count(*from).len());
    for (from, rows) in &lengths.histogram {
        // A step that has rows shows at least a sliver.
        let eighths = (rows * WIDTH * 8).div_ceil(most);
        let bar = "█".repeat(eighths / 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8];
        let _ = writeln!(out, "  {:>widest$}+ {bar} {}", count(*from), count(*rows));
    }
    out
}
