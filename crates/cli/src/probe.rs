//! `temper probe`: the same short training from each of the recipe's `checkpoints`, and both axes of all.

use std::path::Path;

use anyhow::anyhow;
use temper_eval::compare::{Metric, Row};
use temper_eval::stats::Interval;
use temper_eval::verdict::FloorDecision;
use temper_pipeline::{Candidate, Options, Probe, Probed, probe, probe_folder, probed_winner};
use temper_recipe::Recipe;
use temper_report::{Style, count};

use crate::base::RecipeArgs;
use crate::command::{DONE, Failure, Outcome, conclude, json};
use crate::interrupt;
use crate::run::{Reporter, cache};
use crate::table::table;

/// Try each of the recipe's `checkpoints` by the same short training, and rank them on both axes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Optimiser steps of each stage.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..))]
    steps: u64,
    /// Moves older runs of the probe aside (to NAME.1) instead of refusing.
    #[arg(long)]
    overwrite: bool,
    /// The ranks as JSON.
    #[arg(long)]
    json: bool,
}

pub fn run(args: &Args) -> Outcome {
    let (recipe, _) = Recipe::load(&args.recipe.recipe, &args.recipe.sets)?;
    let folder = probe_folder(&recipe.output.value);
    let options = Options {
        write_self: true,
        overwrite: args.overwrite,
        cache: cache(false),
        interrupt: Some((&interrupt::STOP).into()),
        ..args.recipe.machine.options()
    };
    let candidates = recipe.checkpoints.iter().map(|checkpoint| {
        let mut own = args.recipe.with_output(&folder.join(checkpoint.name.value.to_lowercase()));
        let sets = &mut own.sets;
        sets.push(checkpoint.as_base());
        // Equally many tokens: nothing ends one of them early.
        sets.extend((0..recipe.stages.len()).map(|stage| format!("stages.{stage}.max_steps={}", args.steps)));
        let validated = recipe.stages.iter().enumerate().filter(|(_, stage)| stage.validation.is_some());
        sets.extend(validated.map(|(stage, _)| format!("stages.{stage}.early_stopping_patience=0")));
        sets.extend(recipe.evaluation.iter().map(|_| "evaluation.watch_items=0".to_owned()));
        let prepared = own.prepare(&options)?;
        Ok(Candidate { name: checkpoint.name.value.clone(), kind: checkpoint.kind.value, prepared })
    });
    let candidates = candidates.collect::<Result<Vec<_>, Failure>>()?;
    let mut reporter = Reporter::new();
    let probe = probe(candidates, &folder, &options, &mut |event| reporter.hear(event));
    reporter.finish();
    let probe = probe?;
    let text = if args.json { json(&probe)? } else { text(&probe, &args.recipe.recipe, &folder) };
    conclude(text, DONE)
}

/// The `--set` argument that makes the checkpoint that was found best the base.
pub fn winner(recipe: &Path, sets: &[String]) -> Result<String, Failure> {
    let (recipe, _) = Recipe::load(recipe, sets)?;
    let folder = probe_folder(&recipe.output.value);
    let name = probed_winner(&folder)?;
    let checkpoint = recipe.checkpoints.iter().find(|checkpoint| checkpoint.name.value == name);
    let checkpoint = checkpoint.ok_or_else(|| {
        let file = folder.display();
        Failure::input(anyhow!("{file}: the recipe has no checkpoint `{name}` any more\nhint: `temper probe` anew"))
    })?;
    Ok(checkpoint.as_base())
}

/// A line a checkpoint, the best first.
fn text(probe: &Probe, recipe: &Path, folder: &Path) -> String {
    // The row by which each suite is judged is its first; the second in rank has one for each.
    let mut suites: Vec<(&str, Metric)> = Vec::new();
    for row in probe.ranked.get(1).iter().flat_map(|second| &second.to_first) {
        if suites.iter().all(|(suite, _)| *suite != row.suite) {
            suites.push((&row.suite, row.metric));
        }
    }
    let mut heads: Vec<String> =
        ["", "checkpoint", "kind", "validation loss", "to the first"].map(str::to_owned).to_vec();
    heads.extend(suites.iter().map(|(suite, metric)| format!("{suite} {}, to the first", Style::of(*metric).short)));
    heads.push("floors, to its start".to_owned());
    let line = |(rank, one): (usize, &Probed)| {
        let mut cells = vec![(rank + 1).to_string(), one.name.clone(), one.kind.to_string()];
        cells.push(one.validation.map_or(String::new(), |loss| format!("{loss:.4}")));
        let nats = |d: &Interval| format!("{:+.4} [{:+.4}, {:+.4}]", d.estimate, d.low, d.high);
        cells.push(one.validation_to_first.as_ref().map_or(String::new(), nats));
        cells.extend(suites.iter().map(|(suite, metric)| {
            let row = one.to_first.iter().find(|row| (row.suite.as_str(), row.metric) == (*suite, *metric));
            row.map_or(String::new(), interval)
        }));
        let rows = one.comparison.iter().flat_map(|comparison| &comparison.rows);
        let broken = rows.filter(|row| row.floor.is_some_and(|f| f.decision == FloorDecision::Forgot)).count();
        cells.push(match (one.kept, broken) {
            (None, _) => String::new(),
            (_, 0) => "none broken".to_owned(),
            (_, n) => format!("{n} BROKEN"),
        });
        cells
    };
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let right: Vec<usize> = (3..heads.len() - 1).collect();
    let rows = probe.ranked.iter().enumerate().map(line).collect();
    format!(
        "{} steps on {} tokens, {} of them trained, from each; differences are paired, with 95 % intervals\n{}\n\nfirst: {}\n\
         written to {}; `temper run {} --probed` starts from the first\n",
        probe.steps.iter().map(ToString::to_string).collect::<Vec<_>>().join(" + "),
        count(probe.processed_tokens),
        count(probe.trained_tokens),
        table(&heads, rows, &right),
        probe.reason,
        folder.display(),
        recipe.display()
    )
}

/// A difference with its interval.
fn interval(row: &Row) -> String {
    Style::of(row.metric).plain_interval(&row.difference)
}
