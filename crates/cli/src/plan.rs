//! `temper plan`: everything that a run would do, computed but not done.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use temper_data::SourceReport;
use temper_pipeline::advise::{Finding, KindAdvice, of_plan};
use temper_pipeline::{Baseline, BaselineVerdict, Options, Plan, Prepared, SelfPlan, StagePlan};
use temper_report::{bytes, count, duration, percent};

use crate::base::RecipeArgs;
use crate::command::{DONE, Failure, Outcome, conclude, json};
use crate::data::findings;
use crate::run::Reporter;
use crate::table::table;

/// Show every resolved value with its source, what will be seen, and what it takes.
#[derive(clap::Args)]
pub struct Args {
    #[command(flatten)]
    recipe: RecipeArgs,
    /// Lets the base write the rows of `path: self` now, so that the plan is made of them.
    #[arg(long)]
    generate: bool,
    /// The plan as JSON.
    #[arg(long)]
    json: bool,
    /// What an hour of this machine costs; the plan then says what the run costs.
    #[arg(long, value_name = "MONEY", value_parser = parse_rate)]
    rate: Option<f64>,
}

pub fn run(args: &Args) -> Outcome {
    let cache = crate::run::cache(false);
    let options = Options { write_self: args.generate, measure: true, cache, ..args.recipe.machine.options() };
    let prepared = args.recipe.prepare(&options)?;
    measure_baseline(&prepared)?;
    let plan = prepared.plan();
    let cost = args.rate.map(|rate| (rate, plan.estimate.seconds / 3600.0 * rate));
    let recipe = &args.recipe.recipe;
    let shown = match (args.json, cost) {
        (true, None) => json(&plan)?,
        (true, Some((rate, cost))) => {
            let mut plan = serde_json::to_value(&plan).map_err(Failure::run)?;
            plan["estimate"]["cost"] = serde_json::json!({"rate_per_hour": rate, "cost": cost});
            json(&plan)?
        }
        (false, None) => text(&plan, recipe) + &advice(&plan, recipe)?,
        (false, Some((rate, cost))) => {
            text(&plan, recipe) + &format!("cost     {cost:.2} at {rate} an hour\n") + &advice(&plan, recipe)?
        }
    };
    conclude(shown, DONE)
}

/// What the base earns, where the first stage reinforces it, with progress.
pub fn measure_baseline(prepared: &Prepared) -> Result<(), Failure> {
    let mut reporter = Reporter::new();
    let measured = prepared.measure_baseline(&mut |event| reporter.hear(event)).map(drop);
    reporter.finish();
    measured.map_err(Failure::from)
}

fn parse_rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| rate.is_finite() && *rate >= 0.0);
    rate.ok_or_else(|| "expected a number of at least 0, without a currency".to_owned())
}

/// The plan for people.
fn text(plan: &Plan, file: &std::path::Path) -> String {
    let mut out = String::new();
    let mut line = |text: String| {
        let _ = writeln!(out, "{text}");
    };
    line(format!("plan of {}", plan.name));
    line(format!("  base     {}", plan.base.description));
    let licence = plan.base.licence.as_deref().unwrap_or("unknown");
    line(format!("           {} weights, {}, licence {licence}", count(plan.base.parameters), plan.base.precision));
    if let Some(stored) = &plan.base.as_stored {
        line(format!(
            "           {} frozen weights stay as they are stored, {} in all; {}",
            stored.weights,
            bytes(stored.bytes as u64),
            match &stored.decoded[..] {
                [] => "none is decoded".to_owned(),
                decoded => format!("decoded: {}", decoded.join(", ")),
            }
        ));
    }
    for (file, hash) in &plan.base.sha256s {
        line(format!("           sha256 {hash} {file}"));
    }
    for input in plan.inputs.iter().filter(|input| input.trained) {
        let licence = input.licence.as_deref().unwrap_or("unknown");
        line(format!("  data     {}, licence {licence}", input.path.display()));
        line(format!("           sha256 {}", input.sha256));
    }
    line(format!("  device   {}", plan.device));
    line("\nsettings".to_owned());
    let width = |of: fn(&temper_recipe::Setting) -> usize| plan.settings.iter().map(of).max().unwrap_or(0).min(56);
    let (paths, values) = (width(|s| s.path.len()), width(|s| s.value.to_string().len()));
    for s in &plan.settings {
        let value = s.value.to_string();
        line(format!("  {:paths$}  {value:values$}  {}", s.path, s.source));
    }
    for note in &plan.notes {
        line(format!("note: {}: {}", note.place.of(file), note.message));
    }
    for own in &plan.self_data {
        line(self_text(own));
    }
    for (i, stage) in plan.stages.iter().enumerate() {
        line(stage_text(i, stage));
    }
    for KindAdvice { kinds, because } in &plan.advice {
        let kinds: Vec<String> = kinds.iter().map(ToString::to_string).collect();
        line(format!("advice: start from a checkpoint that is {}: {because}", kinds.join(" or ")));
    }
    if !plan.advice.is_empty() {
        line(
            "        said of Amazon's Nova models; `temper probe` measures it for these rows and these checkpoints"
                .to_owned(),
        );
    }
    for warning in &plan.warnings {
        line(format!("warning: {warning}"));
    }
    let e = &plan.estimate;
    line(format!(
        "in all   {} {} ({} of it validation, {} the judgement, {} opening and saving), {} of memory, {} of disk; {} tokens, {} of them trained",
        if e.rough { "roughly" } else { "about" },
        duration(e.seconds),
        duration(e.validation_seconds),
        duration(e.judgement_seconds),
        duration(e.saving_seconds),
        bytes(e.memory_bytes as u64),
        bytes(e.disk_bytes as u64),
        count(e.processed_tokens),
        count(e.trained_tokens)
    ));
    if e.mapped_bytes > 0 {
        line(format!(
            "         of the memory {} are the packed base, mapped from the cache (which takes as much disk) and shared by runs",
            bytes(e.mapped_bytes as u64)
        ));
    }
    out
}

/// What `temper advise` says of the recipe and the plan does not: what was found and what to do, by rank.
fn advice(plan: &Plan, file: &std::path::Path) -> Result<String, Failure> {
    let advised = of_plan(plan)?;
    let mut out = String::new();
    for Finding { rule, severity, place, found, action, .. } in
        advised.findings.iter().filter(|finding| !plan.says(finding))
    {
        let place = if place.is_empty() { String::new() } else { format!(" ({place})") };
        let _ = writeln!(out, "  {severity} {rule}{place}: {found}\n    do: {action}");
    }
    if out.is_empty() {
        return Ok(out);
    }
    Ok(format!("\nadvice, by rank\n{out}  reasons and sources: temper advise {}\n", file.display()))
}

/// What a start earns, in words.
pub fn baseline_text(baseline: &Baseline) -> String {
    let share = |share: f64| format!("{:.1} %", 100.0 * share);
    let reward = baseline.reward.map_or("no reward".to_owned(), |reward| format!("mean reward {reward:.3}"));
    let pass: Vec<String> = baseline.pass_at.iter().map(|(k, chance)| format!("pass@{k} {}", share(*chance))).collect();
    let mut out = format!(
        "baseline over {} prompts with {} completions each: {reward}, {}; {} of the groups are mixed, {} of the completions cut\n",
        baseline.prompts,
        baseline.generations,
        pass.join(", "),
        share(baseline.mixed),
        share(baseline.cut)
    );
    if let Some((answer, reward)) = &baseline.majority {
        let answer = answer.as_ref().map_or(String::new(), |answer| format!(", {answer:?},"));
        let _ = writeln!(out, "  the commonest answer{answer} given to every prompt earns {reward:.3}");
    }
    let verdict = match baseline.verdict {
        BaselineVerdict::SftFirst => "supervised training first",
        BaselineVerdict::Worthwhile => "worthwhile",
        BaselineVerdict::NotNeeded => "not needed",
    };
    let _ = writeln!(out, "  {verdict}: {}\n", baseline.reason());
    out
}

/// What the base writes itself, by category.
fn self_text(own: &SelfPlan) -> String {
    let r = &own.report;
    let mut out = match own.seconds {
        Some(seconds) => format!(
            "\n{}: the base will answer {} prompts of {} tokens, in about {}\n",
            r.setting,
            count(r.rows),
            count(r.prompt_tokens),
            duration(seconds)
        ),
        None => format!("\n{}: {} rows written by the base in {}\n", r.setting, count(r.rows), r.path.display()),
    };
    let share = |part: usize, whole: usize| percent(part as f64 / whole.max(1) as f64);
    let row = |(category, (rows, kept)): (&String, &(usize, usize))| {
        let kept = if r.written { vec![count(*kept), share(*kept, r.kept)] } else { Vec::new() };
        [vec![category.clone(), count(*rows), share(*rows, r.rows)], kept].concat()
    };
    let heads = ["category", "written", "share", "kept", "share"];
    let (heads, right) = if r.written { (&heads[..], &[1, 2, 3, 4][..]) } else { (&heads[..3], &[1, 2][..]) };
    let _ = write!(out, "{}", table(heads, r.categories.iter().map(row).collect(), right));
    out
}

/// What became of a file's rows beside being kept or dropped.
pub fn remarks(report: &SourceReport) -> Vec<String> {
    let mut remarks = Vec::new();
    if report.split.documents > 0 {
        let (documents, parts) = (count(report.split.documents), count(report.split.parts));
        remarks.push(format!("{documents} documents longer than max_length are trained in {parts} parts"));
    }
    let apart = &report.turns_apart;
    if apart.conversations > 0 {
        let (turns, conversations) = (count(apart.turns), count(apart.conversations));
        remarks.push(format!(
            "{turns} turns of {conversations} conversations are rows of their own; {} of them are too long and left out",
            count(apart.too_long)
        ));
    }
    if report.masked > 0 {
        remarks.push(format!("{} rows have something private masked", count(report.masked)));
    }
    if report.reasoning_dropped > 0 {
        let turns = count(report.reasoning_dropped);
        remarks.push(format!("the chat template leaves out the reasoning of {turns} trained turns"));
    }
    remarks.extend(not_read(&report.ignored_fields));
    remarks
}

/// Names the fields that are not read, where there are any.
pub fn not_read(fields: &BTreeMap<String, usize>) -> Option<String> {
    let each: Vec<String> = fields.iter().map(|(name, rows)| format!("`{name}` ({})", count(*rows))).collect();
    (!each.is_empty()).then(|| format!("fields that are not read, with their rows: {}", each.join(", ")))
}

fn stage_text(index: usize, stage: &StagePlan) -> String {
    let mut out = format!("\nstage {} of kind {}, {}: {} steps\n", index + 1, stage.kind, stage.mode, stage.steps);
    if let Some(rule) = &stage.rule {
        let _ = writeln!(out, "{rule}");
    }
    let rows = stage
        .files
        .iter()
        .map(|(file, report)| {
            let dropped = report
                .dropped
                .iter()
                .map(|(reason, d)| format!("{} {reason} (first lines {:?})", d.count, d.first_lines));
            let dropped = dropped.collect::<Vec<_>>().join(", ");
            let l = &report.lengths;
            vec![
                file.clone(),
                count(report.rows),
                count(report.kept),
                if dropped.is_empty() { "none".to_owned() } else { dropped },
                count(report.processed_tokens),
                count(report.trained_tokens),
                format!("{} / {} / {}", l.min, l.p50, l.max),
            ]
        })
        .collect();
    let heads = ["file", "rows", "kept", "dropped", "tokens", "trained tokens", "length min / median / max"];
    let _ = writeln!(out, "{}", table(&heads, rows, &[1, 2, 4, 5]));
    for (file, report) in &stage.files {
        for what in remarks(report) {
            let _ = writeln!(out, "{file}: {what}");
        }
    }

    if !stage.checks.findings.is_empty() {
        let _ = writeln!(out, "checks of {} rows\n{}\n", count(stage.checks.rows), findings(&stage.checks.findings));
    }
    let unit = serde_json::to_value(stage.shares.unit).map(|u| u.as_str().unwrap_or("").to_owned()).unwrap_or_default();
    let _ = writeln!(out, "mix, by {unit}: planned / drawn share in each unit, and what is drawn");
    let rows = stage
        .shares
        .sources
        .iter()
        .map(|s| {
            let pair = |planned: f64, drawn: f64| format!("{} / {}", percent(planned), percent(drawn));
            vec![
                s.name.clone(),
                pair(s.planned.samples, s.actual.samples),
                pair(s.planned.processed_tokens, s.actual.processed_tokens),
                pair(s.planned.trained_tokens, s.actual.trained_tokens),
                count(s.drawn.samples),
                count(s.drawn.processed_tokens),
                count(s.drawn.trained_tokens),
                format!("{:.2}", s.epochs),
                count(s.repeated),
            ]
        })
        .collect();
    let heads = ["source", "rows", "tokens", "trained tokens", "rows", "tokens", "trained", "epochs", "repeated"];
    let _ = writeln!(out, "{}", table(&heads, rows, &[1, 2, 3, 4, 5, 6, 7, 8]));

    let drawn = |of: fn(&temper_data::Units<usize>) -> usize| {
        let all: usize = stage.shares.sources.iter().map(|source| of(&source.drawn)).sum();
        count((all as f64 / stage.steps.max(1) as f64).round() as usize)
    };
    let advice = match stage.kind.as_str() {
        "cpt" => " (Amazon Nova Forge advises 2 to 20 million tokens a step for its own models)",
        _ => "",
    };
    let (tokens, trained) = (drawn(|d| d.processed_tokens), drawn(|d| d.trained_tokens));
    let _ = writeln!(out, "a step sees {tokens} tokens on average, {trained} of them trained{advice}\n");
    if let (Some(reference), Some(pairs)) = (&stage.reference, &stage.fit.preference) {
        let loss = serde_json::to_value(pairs.loss_type).map(|word| word.as_str().unwrap_or("").to_owned());
        let _ = writeln!(
            out,
            "preference pairs: loss {}, beta {}, label smoothing {}, weight of the better answers' own loss {}\n\
             reference: the {}; it scores {} pairs of {} tokens before training\n",
            loss.unwrap_or_default(),
            pairs.beta,
            pairs.label_smoothing,
            pairs.rpo_alpha,
            reference.model,
            count(reference.pairs),
            count(reference.tokens)
        );
    }
    if let (Some(rounds), Some(policy)) = (&stage.rounds, &stage.fit.policy) {
        let _ = writeln!(
            out,
            "{} rounds of {} completions, at most {} tokens each, at temperature {}; {} optimiser steps a round; at most {} \
             tokens sampled, and {} validations of {} completions\n\
             rewards: {}; divergence from the reference weighs {}",
            rounds.rounds,
            count(rounds.completions),
            count(rounds.longest),
            policy.temperature,
            rounds.steps,
            count(rounds.sampled_tokens),
            rounds.validations,
            count(rounds.validation_completions),
            rounds.rewards.join(", "),
            policy.beta
        );
        match &rounds.baseline {
            Some(baseline) => out.push_str(&baseline_text(baseline)),
            None => out.push_str("baseline: measured when the stage begins, from what the stages before it make\n\n"),
        }
    }
    let peak = stage.fit.learning_rate.peak;
    let _ = writeln!(out, "learning rate, peak {peak:e}, last {:.2e}", stage.learning_rates.last().unwrap_or(&0.0));
    let _ = writeln!(out, "{}", curve(&stage.learning_rates, peak));
    for part in &stage.rates {
        let what = if part.modules.is_empty() { "the rest".to_owned() } else { part.modules.join(", ") };
        let _ = writeln!(out, "  peak {:e} for {what}: {} parameters", part.learning_rate, count(part.parameters));
    }
    let e = &stage.estimate;
    let _ = writeln!(
        out,
        "{} trained parameters; about {} of memory; about {} of training and {} of validation ({:.0} GFLOP/s in products now)",
        count(stage.trained_parameters),
        bytes(e.memory_bytes as u64),
        duration(e.seconds),
        duration(e.validation_seconds),
        e.gflops
    );
    out
}

/// A curve of one character a column, scaled to `top`.
fn curve(values: &[f64], top: f64) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let columns = values.len().min(80);
    let bar = |c: usize| {
        let value = values[c * values.len() / columns];
        BARS[((value / top * 8.0) as usize).min(7)]
    };
    (0..columns).map(bar).collect()
}
