//! `temper check`: what would cost a run, before it is paid for; of Temper's own recipes and of other tools'.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde::Serialize;
use temper_data::{Breach, Contract, FileRows, Purpose, ReadOptions, Row, RowKind, keeps, read_rows};
use temper_pipeline::{Options, PipelineError, StagePlan};
use temper_recipe::foreign::{Document, Finding, Known, Severity, Tool, check, check_recipe, check_reward};
use temper_recipe::foreign::{Platform, RowTechnique, row_technique};
use temper_recipe::{Place, Recipe};
use temper_report::count;

use crate::base::MachineArgs;
use crate::command::{DONE, Failure, Outcome, REFUSED, conclude, json, tell};
use crate::import::tool;

/// Say what is wrong with a recipe, and what would cost a run, without running it.
///
/// FILE is a recipe of Temper; a recipe of Nova Forge (HyperPod YAML, SageMaker hyperparameters, Bedrock job), Axolotl,
/// LLaMA-Factory, Unsloth or mlx-lm; a YAML of TRL, or a script with its command line. Rules and sources: docs/other-tools.md.
#[derive(clap::Args)]
pub struct Args {
    /// The recipe.
    file: PathBuf,
    /// Whose recipe it is, where its keys do not tell: nova, axolotl, llamafactory, trl, unsloth, mlx-lm or temper.
    #[arg(long, value_name = "TOOL", value_parser = tool)]
    from: Option<Tool>,
    /// Files of rows that it trains on: their number, and whether they are what the technique takes.
    #[arg(long, value_name = "FILE", num_args = 1..)]
    data: Vec<PathBuf>,
    /// A Python file with the reward, looked at without running it.
    #[arg(long, value_name = "FILE")]
    reward: Option<PathBuf>,
    /// Overrides a value of a recipe of Temper's: `stages.0.max_length=512`.
    #[arg(long = "set", value_name = "PATH=VALUE")]
    sets: Vec<String>,
    /// The findings as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// A finding with the file that it is in.
#[derive(Serialize)]
struct Shown {
    file: PathBuf,
    #[serde(flatten)]
    finding: Finding,
}

#[derive(Serialize)]
struct Report {
    tool: Tool,
    rows: Option<u64>,
    findings: Vec<Shown>,
}

pub fn run(args: &Args) -> Outcome {
    // Temper's own reader says more of a recipe that it cannot read than any other could.
    let document = Document::read(&args.file, args.from)?;
    let report = match document.tool {
        Tool::Temper => own(args)?,
        _ => foreign(args, &document)?,
    };
    let refused = report.findings.iter().any(|shown| shown.finding.severity == Severity::Error);
    let shown = if args.json { json(&report)? } else { text(&report, &args.file) };
    conclude(shown, if refused { REFUSED } else { DONE })
}

fn foreign(args: &Args, document: &Document) -> Result<Report, Failure> {
    if let Some(set) = args.sets.first() {
        let problem =
            format!("--set {set}: it belongs to a recipe of Temper's, and this is one of {}", document.tool.name());
        return Err(Failure::input(anyhow!("{problem}\nhint: change the file")));
    }
    let mut shown = Vec::new();
    let known = if args.data.is_empty() { Known::default() } else { rows(args, document, &mut shown)? };
    let findings = check(document, &known);
    let mut all: Vec<Shown> = findings.into_iter().map(|finding| Shown { file: args.file.clone(), finding }).collect();
    all.extend(shown);
    all.extend(reward(args, document.tool)?);
    Ok(Report { tool: document.tool, rows: known.rows, findings: all })
}

/// A recipe of Temper's: what its reader says, the rules, and the warnings of its plan, as far as nothing need be fetched.
fn own(args: &Args) -> Result<Report, Failure> {
    if !args.data.is_empty() {
        let problem = "--data: a recipe of Temper's names its rows itself";
        return Err(Failure::input(anyhow!("{problem}\nhint: leave it out")));
    }
    let shown = |finding| Shown { file: args.file.clone(), finding };
    let (recipe, notes) = match Recipe::load(&args.file, &args.sets) {
        Ok(read) => read,
        Err(errors) => {
            let finding = |problem: temper_recipe::Problem| Finding {
                rule: "recipe",
                severity: Severity::Error,
                place: problem.place,
                found: problem.message,
                reason: problem.hint,
                source: "docs/recipe.md".to_owned(),
                corrected: None,
            };
            let findings = errors.problems.into_iter().map(finding).map(shown).collect();
            return Ok(Report { tool: Tool::Temper, rows: None, findings });
        }
    };
    let mut findings = Vec::new();
    let mut known = Known::default();
    let options = Options { offline: true, measure: false, cache: crate::run::cache(false), ..args.machine.options() };
    match temper_pipeline::prepare(recipe.clone(), notes, &options, &mut |_| ()) {
        Ok(prepared) => {
            let plan = prepared.plan();
            known.rows = plan.stages.first().and_then(|stage| domain_rows(&recipe, stage));
            for warning in &plan.warnings {
                findings.push(of_plan("plan", Severity::Warning, warning.to_string()));
            }
            for stage in &plan.stages {
                for found in &stage.checks.findings {
                    let rows = format!("{} of {} rows {}", count(found.count), count(found.of), found.check.text());
                    let mut finding = of_plan("rows", found.severity, rows);
                    finding.reason = found.hint.clone();
                    finding.source = format!("docs/data-checks.md, {}", found.check);
                    findings.push(finding);
                }
            }
        }
        Err(error) => {
            let bad = error.is_bad_input();
            let mut finding = of_plan("plan", if bad { Severity::Error } else { Severity::Note }, error.to_string());
            finding.reason = "nothing is fetched and nothing is trained here: `temper plan` says the rest".to_owned();
            // What only a network would bring is no fault of the recipe's.
            if recipe.base.source.value.to_string().contains(':') {
                finding.severity = Severity::Note;
            }
            findings.push(finding);
        }
    }
    findings.extend(check_recipe(&recipe, &known));
    findings.sort_by(|a, b| a.place.cmp(&b.place));
    let mut all: Vec<Shown> = findings.into_iter().map(shown).collect();
    all.extend(reward(args, Tool::Temper)?);
    Ok(Report { tool: Tool::Temper, rows: known.rows, findings: all })
}

/// Rows of the domain in the first stage, of all sources that the mix does not name.
fn domain_rows(recipe: &Recipe, stage: &StagePlan) -> Option<u64> {
    let mix = recipe.stages.first()?.mix.as_ref();
    let general = |name: &str| mix.is_some_and(|mix| mix.general.iter().any(|source| source.name.value == name));
    let own = stage.shares.sources.iter().filter(|source| !general(&source.name) && source.epochs > 0.0);
    let rows: f64 = own.map(|source| source.drawn.samples as f64 / source.epochs).sum();
    (rows >= 1.0).then_some(rows.round() as u64)
}

fn of_plan(rule: &'static str, severity: Severity, found: String) -> Finding {
    let reason = "the plan says so".to_owned();
    Finding { rule, severity, place: Place::Whole, found, reason, source: "temper plan".to_owned(), corrected: None }
}

/// Counts rows, and looks whether they are what the technique takes.
fn rows(args: &Args, document: &Document, shown: &mut Vec<Shown>) -> Result<Known, Failure> {
    let mut known = Known { rows: Some(0), ..Known::default() };
    for path in &args.data {
        let add = |known: &mut Known, rows: usize| known.rows = Some(known.rows.unwrap_or(0) + rows as u64);
        if document.tool == Tool::Nova {
            let (technique, second, platform) = row_technique(document);
            let Some(technique) = technique else { continue };
            let purpose = match technique {
                RowTechnique::Cpt => Purpose::Cpt,
                RowTechnique::Sft => Purpose::Sft,
                RowTechnique::Dpo => Purpose::Dpo,
                RowTechnique::Rft => Purpose::Rft,
                RowTechnique::RftMultiTurn => Purpose::RftMultiTurn,
                RowTechnique::Questions => Purpose::Questions,
                RowTechnique::Judged => Purpose::Judged,
            };
            let contract = Contract { purpose, second, bedrock: platform == Platform::Bedrock };
            let report = keeps(path, &contract).map_err(PipelineError::from)?;
            add(&mut known, report.rows);
            known.reasoning_rows = Some(known.reasoning_rows.unwrap_or(0) + report.reasoning_rows as u64);
            shown.extend(
                report.breaches.into_iter().map(|breach| Shown { file: path.clone(), finding: broken(breach) }),
            );
            continue;
        }
        let mut beginnings = 0;
        let mut first = 0;
        let file = read_rows(path, &ReadOptions::default(), &mut |rows: Vec<Row>| {
            for row in &rows {
                if begins_twice(row) {
                    beginnings += 1;
                    first = if first == 0 { row.line } else { first };
                }
            }
            Ok::<_, temper_data::DataError>(())
        });
        let file = file.map_err(PipelineError::from)?;
        add(&mut known, file.rows);
        known.conversations = Some(known.conversations.unwrap_or(false) || file.kind == RowKind::Messages);
        shown.extend(kind(document, path, &file));
        if beginnings > 0 {
            shown.push(Shown {
                file: path.clone(),
                finding: Finding {
                    rule: "double-bos",
                    severity: Severity::Error,
                    place: Place::File { line: first, column: 1 },
                    found: format!("{} rows begin with the token that a tokenizer adds by itself", count(beginnings)),
                    reason: "the tokenizer adds it again: the model never saw two of them".to_owned(),
                    source: "OpenRLHF/OpenRLHF#393, huggingface/trl#1400".to_owned(),
                    corrected: None,
                },
            });
        }
    }
    Ok(known)
}

fn broken(breach: Breach) -> Finding {
    let line = breach.first_lines.first().copied().filter(|line| *line > 0);
    let found = match breach.first_lines.len() {
        0 | 1 if breach.rows <= 1 => breach.found,
        _ => format!("{} ({} rows, first {:?})", breach.found, count(breach.rows), breach.first_lines),
    };
    Finding {
        rule: breach.rule,
        severity: breach.severity,
        place: line.map_or(Place::Whole, |line| Place::File { line, column: 1 }),
        found,
        reason: breach.reason.to_owned(),
        source: breach.source.to_owned(),
        corrected: None,
    }
}

/// Whether a text of the row begins with a token that a tokenizer adds.
fn begins_twice(row: &Row) -> bool {
    use temper_data::RowContent::{Completion, Text};
    let text = match &row.content {
        Text(text) => text,
        Completion { prompt, .. } => prompt,
        _ => return false,
    };
    temper_recipe::foreign::BEGINNINGS.iter().any(|beginning| text.starts_with(beginning))
}

/// Rows of another kind than the technique takes.
fn kind(document: &Document, path: &Path, file: &FileRows) -> Option<Shown> {
    use temper_recipe::foreign::Technique;
    let technique = temper_recipe::foreign::technique(document)?;
    let fits = match technique {
        Technique::Cpt => file.kind == RowKind::Text,
        Technique::Dpo => file.kind == RowKind::Preference,
        Technique::Rft => matches!(file.kind, RowKind::Task | RowKind::Messages | RowKind::Completion),
        Technique::Sft => matches!(file.kind, RowKind::Messages | RowKind::Completion | RowKind::Text),
        Technique::Evaluation => true,
    };
    (!fits).then(|| Shown {
        file: path.to_owned(),
        finding: Finding {
            rule: "rows-against-technique",
            severity: Severity::Error,
            place: Place::Whole,
            found: format!("rows of {}, written as `{}`", file.kind, file.format),
            reason: "the technique takes rows of another kind".to_owned(),
            source: "docs/other-tools.md".to_owned(),
            corrected: None,
        },
    })
}

fn reward(args: &Args, tool: Tool) -> Result<Vec<Shown>, Failure> {
    let Some(path) = &args.reward else { return Ok(Vec::new()) };
    let text = std::fs::read_to_string(path).map_err(|error| {
        Failure::input(anyhow!("{}: cannot read: {error}\nhint: name the Python file of the reward", path.display()))
    })?;
    Ok(check_reward(&text, tool).into_iter().map(|finding| Shown { file: path.clone(), finding }).collect())
}

/// The findings for people.
fn text(report: &Report, file: &Path) -> String {
    let mut out = String::new();
    for Shown { file, finding } in &report.findings {
        let Finding { rule, severity, place, found, reason, source, corrected } = finding;
        let _ = writeln!(out, "{}: {severity}: {found} [{rule}]", place.of(file));
        let _ = writeln!(out, "  {reason}");
        let _ = writeln!(out, "  source: {source}");
        if let Some(corrected) = corrected {
            let _ = writeln!(out, "  corrected: {corrected}");
        }
    }
    let of = |severity: Severity| {
        let many = report.findings.iter().filter(|shown| shown.finding.severity == severity).count();
        format!("{many} {severity}{}", if many == 1 { "" } else { "s" })
    };
    let rows = report.rows.map_or_else(String::new, |rows| format!(", {} rows", count(rows as usize)));
    let _ = writeln!(
        out,
        "{}: a recipe of {}{rows}: {}, {}, {}",
        file.display(),
        report.tool.name(),
        of(Severity::Error),
        of(Severity::Warning),
        of(Severity::Note)
    );
    if report.tool != Tool::Temper && report.rows.is_none() {
        tell(format_args!("note: without --data neither steps against rows nor the rows themselves were looked at"));
    }
    out
}
