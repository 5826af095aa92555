//! Curves over the steps of a run: losses, learning rate, gradient norm.

use serde::Serialize;

use crate::folder::RunFolder;
use crate::intervals::Tick;
use crate::metrics::{General, Preference, Step, Validation};
use crate::number::{count, loss, place, scientific, signed_loss, signed_percent, tick_labels, ticks};

/// Points of a line; more are averaged, so that the page stays small.
const MOST_POINTS: usize = 300;

/// Side of the box that paths are drawn in.
const BOX: f64 = 1000.0;

/// One figure. Places are in percent of its sides, as text.
#[derive(Serialize)]
pub(crate) struct Chart {
    title: String,
    unit: String,
    description: String,
    note: String,
    x_label: &'static str,
    x_ticks: Vec<Tick>,
    y_ticks: Vec<Tick>,
    stage_starts: Vec<String>,
    series: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    class: String,
    path: String,
    points: Vec<Dot>,
}

#[derive(Serialize)]
struct Dot {
    x: String,
    y: String,
    title: String,
    best: bool,
}

/// Values by step.
struct Series {
    name: String,
    class: String,
    values: Vec<(usize, f64)>,
}

/// Every figure for which there are values.
pub(crate) fn charts(run: &RunFolder) -> Vec<Chart> {
    let steps = &run.metrics.steps;
    let planned: usize = run.plan.stages.iter().map(|stage| stage.steps).sum();
    let last = planned.max(steps.last().map_or(0, |step| step.at));
    let mut starts = Vec::new();
    for stage in &run.plan.stages {
        starts.push(starts.last().copied().unwrap_or(0) + stage.steps);
    }
    starts.pop();
    let frame = Frame { last, starts };
    let mut charts = Vec::new();
    let of = |value: fn(&Step) -> f64| steps.iter().map(|step| (step.at, value(step))).collect::<Vec<_>>();

    if let (Some(first), Some(last)) = (steps.first(), steps.last()) {
        let mut series = by_source(run);
        let all = of(|step| step.loss);
        let several = series.len() > 1;
        if several {
            series.push(Series { name: "all, weighted: what is minimised".into(), class: "all".into(), values: all });
        } else {
            series = vec![Series { name: "train".into(), class: "c0".into(), values: all }];
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
    if !run.metrics.validations.is_empty() {
        charts.extend(validation(&frame, &run.metrics.validations, loss_unit(run)));
    }
    charts.extend(preferences(&frame, run));
    charts.extend(general(&frame, &run.metrics.general));
    if !steps.is_empty() {
        let rates = of(|step| step.learning_rate);
        let peak = rates.iter().map(|&(_, rate)| rate).fold(0.0, f64::max);
        let description = format!("Peak {}.", scientific(peak));
        let series = [Series { name: "learning rate".into(), class: "c0".into(), values: rates }];
        charts.extend(frame.chart("Learning rate", "", description, &series, true));
        let norms = of(|step| step.gradient_norm);
        let largest = norms.iter().filter(|(_, norm)| norm.is_finite()).max_by(|a, b| a.1.total_cmp(&b.1));
        let description = largest.map_or_else(
            || "No step had a finite gradient.".to_owned(),
            |(at, norm)| format!("Before clipping; the largest was {} at step {}.", loss(*norm), count(*at as u64)),
        );
        let series = [Series { name: "gradient norm".into(), class: "c0".into(), values: norms }];
        charts.extend(frame.chart("Gradient norm", "L2", description, &series, true));
    }
    charts
}

/// The loss of each source over all stages; sources of one name are one line.
fn by_source(run: &RunFolder) -> Vec<Series> {
    let mut series: Vec<Series> = Vec::new();
    for step in &run.metrics.steps {
        let Some(stage) = run.plan.stages.get(step.stage) else { continue };
        for (share, &value) in stage.shares.sources.iter().zip(&step.by_source) {
            match series.iter_mut().find(|one| one.name == share.name) {
                Some(one) => one.values.push((step.at, value)),
                None => {
                    let class = format!("c{}", series.len() % 6);
                    series.push(Series { name: share.name.clone(), class, values: vec![(step.at, value)] });
                }
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
    let pairs = run.plan.stages.iter().filter(|stage| stage.kind == "dpo").count();
    match pairs {
        0 => "nats per trained token",
        _ if pairs == run.plan.stages.len() => "mean loss of a pair",
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
    let line = |name: &str, class: &str, points: &[(usize, Preference)], value: fn(&Preference) -> f64| Series {
        name: name.to_owned(),
        class: class.to_owned(),
        values: points.iter().map(|(at, preference)| (*at, value(preference))).collect(),
    };
    let both = |value: fn(&Preference) -> f64| {
        let all = [line("train", "c0", &steps, value), line("validation", "c1", &validations, value)];
        all.into_iter().filter(|one| !one.values.is_empty()).collect::<Vec<_>>()
    };
    let answers = |chosen: fn(&Preference) -> f64, rejected: fn(&Preference) -> f64| {
        [line("better answers", "c0", &steps, chosen), line("worse answers", "c1", &steps, rejected)]
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

fn validation(frame: &Frame, validations: &[Validation], unit: &'static str) -> Option<Chart> {
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
    let series = [Series { name: "validation".into(), class: "c0".into(), values }];
    let mut chart = frame.chart("Validation loss", unit, description, &series, false)?;
    let scale = frame.scale(&series, false)?;
    let finite = validations.iter().filter(|v| v.loss.is_finite());
    let dot = |v: &Validation| Dot {
        x: place(100.0 * frame.x(v.at as f64)),
        y: place(100.0 * scale.y(v.loss)),
        title: format!("step {}: {}", count(v.at as u64), loss(v.loss)),
        best: best.is_some_and(|best| (best.stage, best.at) == (v.stage, v.at)),
    };
    if let Some(line) = chart.series.first_mut() {
        line.points = finite.map(dot).collect();
    }
    Some(chart)
}

/// Held-out text of each general suite that was scored at validations.
fn general(frame: &Frame, looks: &[General]) -> Option<Chart> {
    let mut series: Vec<Series> = Vec::new();
    let mut said = Vec::new();
    for look in looks {
        match series.iter_mut().find(|one| one.name == look.suite) {
            Some(one) => one.values.push((look.at, look.loss)),
            None => {
                let class = format!("c{}", series.len() % 6);
                series.push(Series { name: look.suite.clone(), class, values: vec![(look.at, look.loss)] });
            }
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

/// The steps that every figure shows.
struct Frame {
    last: usize,
    starts: Vec<usize>,
}

/// The values that a figure shows, from bottom to top.
struct Scale {
    low: f64,
    high: f64,
}

impl Scale {
    /// With room below the lowest and above the highest.
    fn padded(low: f64, high: f64) -> Scale {
        let padding = if high > low { 0.06 * (high - low) } else { 0.5 * high.abs().max(1e-9) };
        Scale { low: low - padding, high: high + padding }
    }

    /// Share of the height, from the top.
    fn y(&self, value: f64) -> f64 {
        (self.high - value) / (self.high - self.low)
    }
}

impl Frame {
    /// Share of the width.
    fn x(&self, step: f64) -> f64 {
        step / self.last.max(1) as f64
    }

    fn scale(&self, series: &[Series], from_zero: bool) -> Option<Scale> {
        let values = series.iter().flat_map(|one| averaged(&one.values)).map(|(_, value)| value);
        let (low, high) = values.fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        let low = if from_zero { 0.0f64.min(low) } else { low };
        let padded = Scale::padded(low, high);
        Some(if from_zero { Scale { low, ..padded } } else { padded })
    }

    /// A figure, if any value is finite.
    fn chart(
        &self,
        title: &'static str,
        unit: &'static str,
        description: String,
        series: &[Series],
        from_zero: bool,
    ) -> Option<Chart> {
        let scale = self.scale(series, from_zero)?;
        let mut notes = Vec::new();
        let longest = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
        if longest > MOST_POINTS {
            notes.push(format!("Each point is the mean of {} steps.", longest.div_ceil(MOST_POINTS)));
        }
        let lost: usize = series.iter().map(|one| one.values.iter().filter(|(_, v)| !v.is_finite()).count()).sum();
        if lost > 0 {
            notes.push(format!("{} values are not finite and not drawn.", count(lost as u64)));
        }
        let lines = series.iter().map(|one| Line {
            name: one.name.clone(),
            class: one.class.clone(),
            path: self.path(&averaged(&one.values), &scale),
            points: Vec::new(),
        });
        Some(Chart {
            title: title.to_owned(),
            unit: unit.to_owned(),
            description,
            note: notes.join(" "),
            x_label: "optimiser step",
            x_ticks: axis(whole(ticks(0.0, self.last as f64, 6)), |step| self.x(step)),
            y_ticks: axis(ticks(scale.low, scale.high, 6), |value| scale.y(value)),
            stage_starts: self.starts.iter().map(|&start| place(100.0 * self.x(start as f64))).collect(),
            series: lines.collect(),
        })
    }

    fn path(&self, values: &[(f64, f64)], scale: &Scale) -> String {
        let point = |(step, value): &(f64, f64)| format!("{:.1} {:.1}", BOX * self.x(*step), BOX * scale.y(*value));
        let points: Vec<String> = values.iter().map(point).collect();
        format!("M{}", points.join("L"))
    }
}

/// A point of a [`front`].
pub(crate) struct Mark {
    pub x: f64,
    pub y: f64,
    pub title: String,
    pub best: bool,
}

/// Points that are joined in their order, of two measures against each other; nothing where fewer than two are finite.
pub(crate) fn front(
    title: String,
    unit: String,
    x_label: &'static str,
    description: String,
    marks: &[Mark],
) -> Option<Chart> {
    let marks: Vec<&Mark> = marks.iter().filter(|mark| mark.x.is_finite() && mark.y.is_finite()).collect();
    if marks.len() < 2 {
        return None;
    }
    let range = |of: fn(&Mark) -> f64| {
        let (low, high) = marks
            .iter()
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), mark| (low.min(of(mark)), high.max(of(mark))));
        Scale::padded(low, high)
    };
    let (width, height) = (range(|mark| mark.x), range(|mark| mark.y));
    let (x, y) = (|value: f64| 1.0 - width.y(value), |value: f64| height.y(value));
    let path: Vec<String> = marks.iter().map(|m| format!("{:.1} {:.1}", BOX * x(m.x), BOX * y(m.y))).collect();
    let dot = |mark: &&Mark| Dot {
        x: place(100.0 * x(mark.x)),
        y: place(100.0 * y(mark.y)),
        title: mark.title.clone(),
        best: mark.best,
    };
    let points = marks.iter().map(dot).collect();
    let series =
        vec![Line { name: "weights".into(), class: "c0".into(), path: format!("M{}", path.join("L")), points }];
    let x_ticks = axis(ticks(width.low, width.high, 6), x);
    let y_ticks = axis(ticks(height.low, height.high, 6), y);
    Some(Chart {
        title,
        unit,
        description,
        note: String::new(),
        x_label,
        x_ticks,
        y_ticks,
        stage_starts: Vec::new(),
        series,
    })
}

/// The marks of an axis, each at its share of the length.
fn axis(marks: Vec<f64>, at: impl Fn(f64) -> f64) -> Vec<Tick> {
    let labels = tick_labels(&marks);
    marks.iter().zip(labels).map(|(&mark, label)| Tick { at: place(100.0 * at(mark)), label }).collect()
}

/// Steps are whole; between 0 and 3 there are no halves.
fn whole(marks: Vec<f64>) -> Vec<f64> {
    marks.into_iter().filter(|mark| mark.fract() == 0.0).collect()
}

/// At most [`MOST_POINTS`] finite points, each the mean of as many neighbours as that takes.
fn averaged(values: &[(usize, f64)]) -> Vec<(f64, f64)> {
    let size = values.len().div_ceil(MOST_POINTS).max(1);
    let mean = |chunk: &[(usize, f64)]| {
        let finite: Vec<_> = chunk.iter().filter(|(_, value)| value.is_finite()).collect();
        let n = finite.len() as f64;
        let step = finite.iter().map(|(step, _)| *step as f64).sum::<f64>() / n;
        (!finite.is_empty()).then(|| (step, finite.iter().map(|(_, value)| value).sum::<f64>() / n))
    };
    values.chunks(size).filter_map(mean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_runs_are_averaged_and_what_is_not_finite_is_left_out() {
        let values: Vec<(usize, f64)> =
            (1..=900).map(|step| (step, if step == 2 { f64::NAN } else { step as f64 })).collect();
        let points = averaged(&values);
        assert_eq!(points.len(), 300);
        // Steps 1 and 3 are left of the first three.
        assert_eq!((points[0], points[1]), ((2.0, 2.0), (5.0, 5.0)));
        assert_eq!(averaged(&[(1, f64::NAN)]), []);
    }

    #[test]
    fn a_path_runs_from_left_to_right_and_larger_is_higher() {
        let frame = Frame { last: 4, starts: vec![2] };
        let series = [Series { name: "a".into(), class: "c0".into(), values: vec![(0, 0.0), (4, 10.0)] }];
        let chart = frame.chart("Loss", "nats", String::new(), &series, true).unwrap();
        assert_eq!(chart.series[0].path, "M0.0 1000.0L1000.0 56.6");
        assert_eq!(chart.stage_starts, ["50.00"]);
        assert_eq!(chart.x_ticks.iter().map(|t| t.label.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
    }
}
