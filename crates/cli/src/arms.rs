//! `temper arms`: what each stage of a recipe brings.

use std::path::Path;

use anyhow::anyhow;
use temper_eval::compare::Row;
use temper_pipeline::{Arm, Options, arms, arms_folder};
use temper_recipe::Recipe;
use temper_report::arms::{Arms, shown_rows};
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
/// from 0: `0+2`. What arms begin with in common is trained once. The table is also a page, `arms.html`, which links to each run's report. The
/// test rows are met once by each arm: choose by validation, not by this table.
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
        let mut own = args.recipe.with_output(&folder.join(&name));
        let left_out = (0..kinds.len()).filter(|stage| !stages.contains(stage));
        own.sets.extend(left_out.map(|stage| format!("stages.{stage}=")));
        Ok(Arm { name, stages, prepared: own.prepare(&options)? })
    };
    let all = chosen.into_iter().map(arm).collect::<Result<Vec<_>, Failure>>()?;
    let mut reporter = Reporter::new();
    let found = arms(all, kinds.clone(), &folder, &options, &mut |event| reporter.hear(event));
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

/// A value, or a difference with its interval.
fn cell(row: &Row) -> String {
    let style = Style::of(row.metric);
    let value = if row.base.is_some() { format!("{} ", style.plain_value(row.tuned)) } else { String::new() };
    value + &style.plain_interval(&row.difference)
}

fn text(found: &Arms, folder: &Path) -> String {
    let done = found.arms.iter().find_map(|arm| arm.comparison.as_ref());
    let columns: Vec<(String, _)> =
        done.iter().flat_map(|c| shown_rows(&c.rows)).map(|row| (row.suite.clone(), row.metric)).collect();
    let mut heads = ["arm", "tokens", "trained", "sampled"].map(str::to_owned).to_vec();
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
        let mut cells = vec!["base".to_owned(), String::new(), String::new(), String::new()];
        cells.extend(columns.iter().map(base));
        cells.push(String::new());
        rows.push(cells);
    }
    for arm in &found.arms {
        let mut cells = vec![arm.name.clone(), count(arm.processed_tokens), count(arm.trained_tokens)];
        cells.push(if arm.sampled_tokens > 0 { count(arm.sampled_tokens) } else { String::new() });
        cells.extend(columns.iter().map(|column| find(arm.rows(), column)));
        cells.push(match (&arm.refused, arm.broken()) {
            (Some(_), _) => "refused".to_owned(),
            (None, None) => String::new(),
            (None, Some(0)) => "none broken".to_owned(),
            (None, Some(n)) => format!("{n} BROKEN"),
        });
        rows.push(cells);
    }
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let right: Vec<usize> = (1..heads.len() - 1).collect();
    let mut out = format!(
        "each arm beside the base, on the same items; differences are paired, with 95 % intervals\n{}\n",
        table(&heads, rows, &right)
    );
    for arm in &found.arms {
        if let Some(reason) = &arm.refused {
            out += &format!("\n{}: {reason}", arm.name);
        }
    }
    for pair in found.differences.iter().filter(|pair| pair.adds.is_some()) {
        let told = |row: &&Row| format!("{} {} {}", row.suite, Style::of(row.metric).short, cell(row));
        let cells: Vec<String> = shown_rows(&pair.rows).iter().map(told).collect();
        out += &format!("\n{} beside {}: {}", pair.of, pair.beside, cells.join("; "));
    }
    out + &format!("\n\npage {}\nwritten to {}\n", folder.join("arms.html").display(), folder.display())
}
