//! `temper average`: the weights between the base and what a run made of it, each judged on both axes.

use std::path::PathBuf;

use temper_eval::verdict::FloorDecision;
use temper_pipeline::advise::with_advice;
use temper_pipeline::{AveragePoint, Averages, Options, Provenance, average, recorded_recipe};
use temper_report::{RunFolder, Style, point_rows};

use crate::base::{MachineArgs, prepare};
use crate::command::{DONE, Failure, Outcome, conclude, json};
use crate::run::{Reporter, cache};
use crate::table::table;

/// Judge a finished run at weights between its base and its result, and write the one that is best.
#[derive(clap::Args)]
pub struct Args {
    /// The run folder.
    run: PathBuf,
    /// Weights of the tuned model: 0 is the base, 1 the run's result.
    #[arg(long, value_delimiter = ',', default_values_t = [0.0, 0.25, 0.5, 0.75, 1.0], alias = "steps")]
    weights: Vec<f64>,
    /// Judges and writes no model.
    #[arg(long)]
    no_export: bool,
    /// All points as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

pub fn run(args: &Args) -> Outcome {
    let file = recorded_recipe(&args.run);
    if !file.is_file() {
        return Err(Failure::input(anyhow::anyhow!(
            "{} holds no run: there is no recipe.json\nhint: name the folder that `temper run` wrote (its `output`)",
            args.run.display()
        )));
    }
    let options = Options { cache: cache(false), write_self: true, ..args.machine.options() };
    let mut prepared = prepare(&file, &[format!("output={}", args.run.display())], &options)?;
    prepared.provenance = Provenance::recorded(&args.run).unwrap_or_default();
    let mut reporter = Reporter::new();
    let averages = average(&prepared, &args.run, &args.weights, !args.no_export, &mut |event| reporter.hear(event))?;
    reporter.finish();
    let report = args.run.join("report.html");
    let texts = !prepared.provenance.no_samples;
    let folder = with_advice(RunFolder::read(&args.run).map_err(Failure::run)?, texts)?;
    folder.write_report(&report, texts).map_err(Failure::run)?;
    let text = if args.json { json(&averages)? } else { text(&averages) + &format!("report {}\n", report.display()) };
    conclude(text, DONE)
}

/// A line a weight: what was gained, what was lost.
fn text(averages: &Averages) -> String {
    // What all points were measured by, in the order of the first.
    let columns = averages.points.first().map(|point| point_rows(point.comparison.as_ref())).unwrap_or_default();
    let mut heads = vec!["weight".to_owned(), "validation loss".to_owned()];
    heads.extend(columns.iter().map(|row| format!("{} {}", row.suite, Style::of(row.metric).short)));
    heads.extend(["floors".to_owned(), String::new()]);
    let line = |point: &AveragePoint| {
        let mut cells =
            vec![point.weight.to_string(), point.validation.map_or(String::new(), |loss| format!("{loss:.4}"))];
        let rows = point_rows(point.comparison.as_ref());
        cells.extend(columns.iter().map(|column| {
            let row = rows.iter().find(|row| (&row.suite, row.metric) == (&column.suite, column.metric));
            row.map_or(String::new(), |row| Style::of(row.metric).plain_interval(&row.difference))
        }));
        let broken = rows.iter().filter(|row| row.floor.is_some_and(|f| f.decision == FloorDecision::Forgot)).count();
        cells.push(match (point.kept, broken) {
            (None, _) => String::new(),
            (Some(true), _) => "kept".to_owned(),
            (Some(false), 0) => "cannot tell".to_owned(),
            (Some(false), n) => format!("{n} BROKEN"),
        });
        cells.push(if averages.chosen == Some(point.weight) { "<- proposed".to_owned() } else { String::new() });
        cells
    };
    let heads: Vec<&str> = heads.iter().map(String::as_str).collect();
    let right: Vec<usize> = (0..heads.len() - 2).collect();
    let mut out = table(&heads, averages.points.iter().map(line).collect(), &right);
    out.push_str(&format!("\nproposed: {}\n", averages.reason));
    for path in &averages.written {
        out.push_str(&format!("wrote {}\n", path.display()));
    }
    out
}
