//! Curves over the steps of a run: losses, learning rate, gradient norm. Stages that reinforce have rewards in place of losses, and
//! curves of their own.

use crate::chart::{Chart, Frame, Series};
use crate::folder::RunFolder;
use crate::metrics::{General, Preference, Step, Validation};
use crate::number::{count, loss, scientific, signed_loss, signed_percent};

/// Every figure for which there are values.
pub(crate) fn charts(run: &RunFolder) -> Vec<Chart> {
    let steps: Vec<&Step> = run.metrics.steps.iter().filter(|step| !run.reinforces(step.stage)).collect();
    let planned: usize = run.plan.stages.iter().map(|stage| stage.steps).sum();
    let last = planned.max(run.metrics.steps.last().map_or(0, |step| step.at));
    let mut starts = Vec::new();
    for stage in &run.plan.stages {
        starts.push(starts.last().copied().unwrap_or(0) + stage.steps);
    }
    starts.pop();
    let frame = Frame { last, starts, alarms: Vec::new(), x_label: "optimiser step" };
    let mut charts = Vec::new();
    let of = |value: fn(&Step) -> f64| steps.iter().map(|step| (step.at, value(step))).collect::<Vec<_>>();

    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let mut series = by_source(run);
        let all = of(|step| step.loss);
        let several = series.len() > 1;
        if several {
            let all = Series::line("all, weighted: what is minimised", 0, all);
            series.push(Series { class: "all".into(), ..all });
        } else {
            series = vec![Series::line("train", 0, all)];
        }
        let description = format!(
            "The minimised loss went from {} at step {} to {} at step {}.",
            loss(first.loss),
            count(first.at as u64),
            loss(last.loss),
            count(last.at as u64)
        );
        let title = if several { "Train loss by source" } else { "Train loss" };
        charts.extend(frame.chart(title, loss_unit(run), description, &series, false));
    }
    let validations: Vec<&Validation> = run.metrics.validations.iter().filter(|v| !run.reinforces(v.stage)).collect();
    charts.extend(validation(&frame, &validations, loss_unit(run)));
    charts.extend(preferences(&frame, run));
    charts.extend(general(&frame, &run.metrics.general));
    if !run.metrics.steps.is_empty() {
        let rates: Vec<_> = run.metrics.steps.iter().map(|step| (step.at, step.learning_rate)).collect();
        let peak = rates.iter().map(|&(_, rate)| rate).fold(0.0, f64::max);
        let description = format!("Peak {}.", scientific(peak));
        charts.extend(frame.chart("Learning rate", "", description, &[Series::line("learning rate", 0, rates)], true));
    }
    charts.extend(gradient_norm(&frame, of(|step| step.gradient_norm)));
    charts
}

/// Gradient norms by step.
pub(crate) fn gradient_norm(frame: &Frame, norms: Vec<(usize, f64)>) -> Option<Chart> {
    let largest = norms.iter().filter(|(_, norm)| norm.is_finite()).max_by(|a, b| a.1.total_cmp(&b.1));
    let description = largest.map_or_else(
        || "No step had a finite gradient.".to_owned(),
        |(at, norm)| format!("Before clipping; the largest was {} at step {}.", loss(*norm), count(*at as u64)),
    );
    frame.chart("Gradient norm", "L2", description, &[Series::line("gradient norm", 0, norms)], true)
}

/// The loss of each source over all stages; sources of one name are one line.
fn by_source(run: &RunFolder) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for step in run.metrics.steps.iter().filter(|step| !run.reinforces(step.stage)) {
        let Some(stage) = run.plan.stages.get(step.stage) else { continue };
        for (share, &value) in stage.shares.sources.iter().zip(&step.by_source) {
            match series.iter_mut().find(|one| one.name == share.name) {
                Some(one) => one.values.push((step.at, value)),
                None => series.push(Series::line(&share.name, series.len(), vec![(step.at, value)])),
            }
        }
    }
    // That a step has no row of a source is no loss of NaN.
    series.iter_mut().for_each(|one| one.values.retain(|(_, value)| !value.is_nan()));
    series.retain(|one| !one.values.is_empty());
    series
}

/// What losses are of: tokens, or preference pairs, or each in stages of its own.
fn loss_unit(run: &RunFolder) -> &'static str {
    let of = |kind: &str| run.plan.stages.iter().filter(|stage| stage.kind == kind).count();
    match of("dpo") {
        0 => "nats per trained token",
        pairs if pairs + of("rft") == run.plan.stages.len() => "mean loss of a pair",
        _ => "nats per trained token; of dpo: mean loss of a pair",
    }
}

/// Rewards, margin, accuracy and log-probabilities of the stages over preference pairs.
fn preferences(frame: &Frame, run: &RunFolder) -> Vec<Chart> {
    let steps: Vec<(usize, Preference)> =
        run.metrics.steps.iter().filter_map(|step| Some((step.at, step.preference?))).collect();
    let validations: Vec<(usize, Preference)> =
        run.metrics.validations.iter().filter_map(|v| Some((v.at, v.preference?))).collect();
    let (Some((_, first)), Some((at, last))) = (steps.first(), steps.last()) else { return Vec::new() };
    let line = |name: &str, colour: usize, points: &[(usize, Preference)], value: fn(&Preference) -> f64| {
        Series::line(name, colour, points.iter().map(|(at, preference)| (*at, value(preference))).collect())
    };
    let both = |value: fn(&Preference) -> f64| {
        let all = [line("train", 0, &steps, value), line("validation", 1, &validations, value)];
        all.into_iter().filter(|one| !one.values.is_empty()).collect::<Vec<_>>()
    };
    let answers = |chosen: fn(&Preference) -> f64, rejected: fn(&Preference) -> f64| {
        [line("better answers", 0, &steps, chosen), line("worse answers", 1, &steps, rejected)]
    };
    let shown = validations.last().unwrap_or(&steps[steps.len() - 1]);
    let whose = if validations.is_empty() { "training" } else { "validation" };
    let accuracy = format!(
        "The better answer had the higher reward in {:.0} % of the {whose} pairs at step {}.",
        100.0 * shown.1.accuracy,
        count(shown.0 as u64)
    );
    let margin = format!("Of the {whose} pairs {:.3} at step {}.", shown.1.margin, count(shown.0 as u64));
    let rewards = format!(
        "At step {}: better answers {:.3}, worse ones {:.3}.",
        count(*at as u64),
        last.rewards[0],
        last.rewards[1]
    );
    let logps = format!(
        "Better answers went from {} to {}, worse ones from {} to {}.",
        loss(first.logps[0]),
        loss(last.logps[0]),
        loss(first.logps[1]),
        loss(last.logps[1])
    );
    let unit = "beta times the log-ratio to the reference";
    [
        frame.chart("Rewards", unit, rewards, &answers(|p| p.rewards[0], |p| p.rewards[1]), false),
        frame.chart("Reward margin", unit, margin, &both(|p| p.margin), false),
        frame.chart("Reward accuracy", "share of the pairs", accuracy, &both(|p| p.accuracy), true),
        frame.chart(
            "Log-probability of answers",
            "nats per answer",
            logps,
            &answers(|p| p.logps[0], |p| p.logps[1]),
            false,
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn validation(frame: &Frame, validations: &[&Validation], unit: &'static str) -> Option<Chart> {
    let values = validations.iter().map(|v| (v.at, v.loss)).collect();
    let best = validations.iter().rev().find(|v| v.best);
    let first = validations.first()?;
    let description = match best {
        Some(best) => format!(
            "{} before training; the lowest was {} at step {} ({}).",
            loss(first.loss),
            loss(best.loss),
            count(best.at as u64),
            signed_loss(best.loss - first.loss)
        ),
        None => "No validation loss was finite.".to_owned(),
    };
    let best = validations.iter().rposition(|v| v.best);
    let series = [Series { dotted: true, best, ..Series::line("validation", 0, values) }];
    frame.chart("Validation loss", unit, description, &series, false)
}

/// Held-out text of each general suite that was scored at validations.
fn general(frame: &Frame, looks: &[General]) -> Option<Chart> {
    let mut series: Vec<Series> = Vec::new();
    let mut said = Vec::new();
    for look in looks {
        match series.iter_mut().find(|one| one.name == look.suite) {
            Some(one) => one.values.push((look.at, look.loss)),
            None => series.push(Series::line(&look.suite, series.len(), vec![(look.at, look.loss)])),
        }
    }
    for one in &series {
        if let Some(look) = looks.iter().rev().find(|look| look.suite == one.name) {
            let [low, relative, high] = look.relative.map(signed_percent);
            said.push(format!(
                "{}: {relative} [{low}, {high}] since the base, at step {}.",
                one.name,
                count(look.at as u64)
            ));
        }
    }
    frame.chart("General loss, a part of the held-out text", "nats per token", said.join(" "), &series, false)
}
