//! `temper arms`: what each stage of a recipe brings.

use std::path::Path;

use anyhow::anyhow;
use temper_eval::compare::Row;
use temper_eval::verdict::FloorDecision;
use temper_pipeline::{Arm, Arms, Options, Tried, arms, arms_folder};
use temper_recipe::Recipe;
use temper_report::{Style, count};
use temper_run::write_atomic;

use crate::base::RecipeArgs;
use crate::command::{DONE, Failure, Outcome, conclude, json};
use crate::interrupt;
use crate::run::{Reporter, cache};
use crate::table::table;

/// Stages up to which every choice of them is an arm where none are named.
const ALL_CHOICES: usize = 3;

/// Run the recipe with some of its stages left out, and judge all of these arms on the same items.
///
/// An arm is named by the kinds of its stages, in order: `sft`, `cpt+sft`, `cpt+sft+rft`; where a kind occurs twice by their numbers
/// from 0: `0+2`. What arms begin with in common is trained once. The test rows are met once by each arm: choose by validation, not by
/// this table.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// The arms; left out, every choice of up to three stages, of more all of them and all but one.
    #[arg(long, value_delimiter = ',')]
    arms: Vec<String>,
    /// What was found as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let (recipe, _) = Recipe::load(&args.recipe.recipe, &args.recipe.sets)?;
    let folder = arms_folder(&recipe.output.value);
    let kinds: Vec<String> = recipe.stages.iter().map(|stage| stage.kind.value.to_string()).collect();
    let chosen = match &args.arms[..] {
        [] => every(kinds.len()),
        named => named.iter().map(|name| stages_of(name, &kinds)).collect::<Result<_, _>>()?,
    };
    let options = Options {
        write_self: true,
        overwrite: true,
        cache: cache(false),
        interrupt: Some((&interrupt::STOP).into()),
        ..args.recipe.machine.options()
    };
    let arm = |stages: Vec<usize>| {
        let name = name_of(&stages, &kinds);
        let mut sets = args.recipe.sets.clone();
        sets.extend((0..kinds.len()).filter(|stage| !stages.contains(stage)).map(|stage| format!("stages.{stage}=")));
        sets.push(format!("output={}", folder.join(&name).display()));
        let own = RecipeArgs { recipe: args.recipe.recipe.clone(), sets, machine: args.recipe.machine.clone() };
        Ok(Arm { name, stages, prepared: own.prepare(&options)? })
    };
    let all = chosen.into_iter().map(arm).collect::<Result<Vec<_>, Failure>>()?;
    let mut reporter = Reporter::new();
    let found = arms(all, &folder, &options, &mut |event| reporter.hear(event));
    reporter.finish();
    let found = found?;
    let text = text(&found, &folder);
    write_atomic(&folder.join("arms.txt"), text.as_bytes()).map_err(Failure::run)?;
    conclude(if args.json { json(&found)? } else { text }, DONE)
}

/// Every choice of a few stages, those of fewer stages first; of more, each left out once, and all.
fn every(stages: usize) -> Vec<Vec<usize>> {
    let mut all: Vec<Vec<usize>> = if stages <= ALL_CHOICES {
        (1..1_usize << stages).map(|set| (0..stages).filter(|stage| set >> stage & 1 == 1).collect()).collect()
    } else {
        let without = |out: usize| (0..stages).filter(|&stage| stage != out).collect();
        (0..stages).map(without).chain([(0..stages).collect()]).collect()
    };
    all.sort_by_key(|arm| (arm.len(), arm.clone()));
    all
}

/// `cpt+sft`; by numbers where a kind occurs twice in the recipe.
fn name_of(stages: &[usize], kinds: &[String]) -> String {
    let twice = (0..kinds.len()).any(|stage| kinds[..stage].contains(&kinds[stage]));
    let word = |&stage: &usize| if twice { stage.to_string() } else { kinds[stage].clone() };
    stages.iter().map(word).collect::<Vec<_>>().join("+")
}

fn stages_of(name: &str, kinds: &[String]) -> Result<Vec<usize>, Failure> {
    let refuse = |what: String| {
        Failure::input(anyhow!("--arms {name}: {what}\nhint: the recipe's stages are {}", kinds.join(", ")))
    };
    let mut stages = Vec::new();
    for word in name.split('+').map(str::trim) {
        let of_kind: Vec<usize> = (0..kinds.len()).filter(|&stage| kinds[stage] == word).collect();
        let stage = match (word.parse::<usize>(), &of_kind[..]) {
            (Ok(stage), _) if stage < kinds.len() => stage,
            (_, [stage]) => *stage,
            (_, []) => return Err(refuse(format!("there is no stage `{word}`"))),
            _ => return Err(refuse(format!("`{word}` is more than one stage: use their numbers, from 0"))),
        };
        if stages.last().is_some_and(|&last| last >= stage) {
            return Err(refuse("stages stay in the recipe's order".to_owned()));
        }
        stages.push(stage);
    }
    Ok(stages)
}

/// The first row of each suite, by which it is judged, and of the domain all.
fn shown(rows: &[Row]) -> Vec<&Row> {
    let first =
        |row: &&Row| rows.iter().find(|other| other.suite == row.suite).is_some_and(|one| std::ptr::eq(one, *row));
    rows.iter().filter(|row| row.kind.is_none() && (row.suite == "domain" || first(row))).collect()
}

/// A value, or a difference with its interval.
fn cell(row: &Row) -> String {
    let (style, d) = (Style::of(row.metric), &row.difference);
    let signed = |value: f64| style.plain_signed(value);
    let value = if row.base.is_some() { format!("{} ", style.plain_value(row.tuned)) } else { String::new() };
    format!("{value}{} [{}, {}]", signed(d.estimate), signed(d.low), signed(d.high))
}

fn text(found: &Arms, folder: &Path) -> String {
    let done = found.arms.iter().find_map(|arm| arm.comparison.as_ref());
    let columns: Vec<(String, _)> =
        done.iter().flat_map(|c| shown(&c.rows)).map(|row| (row.suite.clone(), row.metric)).collect();
    let mut heads = vec!["arm".to_owned(), "tokens".to_owned(), "trained".to_owned()];
    heads.extend(columns.iter().map(|(suite, metric)| format!("{suite} {}", Style::of(*metric).short)));
    heads.push("floors".to_owned());
    let find = |rows: &[Row], (suite, metric): &(String, _)| {
        let row = rows.iter().find(|row| row.suite == *suite && row.metric == *metric && row.kind.is_none());
        row.map_or(String::new(), cell)
    };
    let mut rows = Vec::new();
    if let Some(comparison) = done {
        let base = |(suite, metric): &(String, _)| {
            let row = comparison.rows.iter().find(|row| row.suite == *suite && row.metric == *metric);
            row.and_then(|row| row.base).map_or(String::new(), |value| Style::of(*metric).plain_value(value))
        };
        let mut cells = vec!["base".to_owned(), String::new(), String::new()];
        cells.extend(columns.iter().map(base));
        cells.push(String::new());
        rows.push(cells);
    }
    for arm in &found.arms {
        let mut cells = vec![arm.name.clone(), count(arm.processed_tokens), count(arm.trained_tokens)];
        let of = arm.comparison.as_ref().map_or(&[][..], |comparison| &comparison.rows);
        cells.extend(columns.iter().map(|column| find(of, column)));
        let broken = of.iter().filter(|row| row.floor.is_some_and(|f| f.decision == FloorDecision::Forgot)).count();
        let judged = of.iter().any(|row| row.floor.is_some());
        cells.push(match (&arm.refused, judged, broken) {
            (Some(_), ..) => "refused".to_owned(),
            (None, false, _) => String::new(),
            (None, true, 0) => "none broken".to_owned(),
            (None, true, n) => format!("{n} BROKEN"),
        });
        rows.push(cells);
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let right: Vec<usize> = (1..heads.len() - 1).collect();
    let mut out = format!(
        "each arm beside the base, on the same items; differences are paired, with 95 % intervals\n{}\n",
        table(&heads, rows, &right)
    );
    for Tried { name, against, refused, .. } in &found.arms {
        if let Some(reason) = refused {
            out += &format!("\n{name}: {reason}");
        }
        for (other, rows) in against {
            let cells: Vec<String> = shown(rows)
                .iter()
                .map(|row| format!("{} {} {}", row.suite, Style::of(row.metric).short, cell(row)))
                .collect();
            out += &format!("\n{name} beside {other}: {}", cells.join("; "));
        }
    }
    out + &format!("\n\nwritten to {}\n", folder.display())
}
