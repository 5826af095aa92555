//! Figures over steps: lines, bands and dots in a frame, drawn as the template wants them.

use serde::Serialize;

use crate::intervals::Tick;
use crate::number::{count, loss, place, tick_labels, ticks};
use crate::plot::BOX;

/// Points of a line; more are averaged, so that the page stays small.
const MOST_POINTS: usize = 300;

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
    alarms: Vec<String>,
    series: Vec<Line>,
}

#[derive(Serialize)]
struct Line {
    name: String,
    class: String,
    path: String,
    /// The outline of what is shaded around the line; empty for nothing.
    band: String,
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
#[derive(Default)]
pub(crate) struct Series {
    pub name: String,
    /// How it is drawn: a colour `c0` to `c5`, or `all`, and `dashed` where it is.
    pub class: String,
    pub values: Vec<(usize, f64)>,
    /// What is shaded around the line: step, from, to.
    pub band: Vec<(usize, f64, f64)>,
    /// Whether each value has a dot.
    pub dotted: bool,
    /// Which value is the best.
    pub best: Option<usize>,
}

impl Series {
    /// A line alone, in the colour of this number.
    pub fn line(name: &str, colour: usize, values: Vec<(usize, f64)>) -> Self {
        Self { name: name.to_owned(), class: format!("c{}", colour % 6), values, ..Self::default() }
    }
}

/// The steps that every figure shows.
pub(crate) struct Frame {
    pub last: usize,
    /// Steps at which a stage begins, but for the first.
    pub starts: Vec<usize>,
    /// Steps after which there was an alarm.
    pub alarms: Vec<usize>,
    /// What is counted from left to right.
    pub x_label: &'static str,
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
        let lines = series.iter().flat_map(|one| averaged(&one.values)).map(|(_, value)| value);
        let bands = series.iter().flat_map(|one| edges(&one.band)).flatten().map(|(_, value)| value);
        let (low, high) = lines.chain(bands).fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
        if low > high {
            return None;
        }
        let low = if from_zero { 0.0f64.min(low) } else { low };
        let padded = Scale::padded(low, high);
        Some(if from_zero { Scale { low, ..padded } } else { padded })
    }

    /// A figure, if any value is finite.
    pub fn chart(
        &self,
        title: &'static str,
        unit: impl Into<String>,
        description: String,
        series: &[Series],
        from_zero: bool,
    ) -> Option<Chart> {
        let scale = self.scale(series, from_zero)?;
        let mut notes = Vec::new();
        let longest = series.iter().map(|one| one.values.len()).max().unwrap_or(0);
        if longest > MOST_POINTS {
            notes.push(format!("Each point is the mean of {} values.", longest.div_ceil(MOST_POINTS)));
        }
        let lost: usize = series.iter().map(|one| one.values.iter().filter(|(_, v)| !v.is_finite()).count()).sum();
        if lost > 0 {
            notes.push(format!("{} values are not finite and not drawn.", count(lost as u64)));
        }
        Some(Chart {
            title: title.to_owned(),
            unit: unit.into(),
            description,
            note: notes.join(" "),
            x_label: self.x_label,
            x_ticks: axis(whole(ticks(0.0, self.last as f64, 6)), |step| self.x(step)),
            y_ticks: axis(ticks(scale.low, scale.high, 6), |value| scale.y(value)),
            stage_starts: self.starts.iter().map(|&start| place(100.0 * self.x(start as f64))).collect(),
            alarms: self.alarms.iter().map(|&step| place(100.0 * self.x(step as f64))).collect(),
            series: series.iter().map(|one| self.line(one, &scale)).collect(),
        })
    }

    fn line(&self, one: &Series, scale: &Scale) -> Line {
        let dot = |(i, &(step, value)): (usize, &(usize, f64))| Dot {
            x: place(100.0 * self.x(step as f64)),
            y: place(100.0 * scale.y(value)),
            title: format!("step {}: {}", count(step as u64), loss(value)),
            best: one.best == Some(i),
        };
        let dots = one.values.iter().enumerate().filter(|(_, (_, value))| one.dotted && value.is_finite());
        // There along the upper edge and back along the lower one.
        let [low, high] = edges(&one.band);
        let outline: Vec<(f64, f64)> = high.into_iter().chain(low.into_iter().rev()).collect();
        Line {
            name: one.name.clone(),
            class: one.class.clone(),
            path: self.path(&averaged(&one.values), scale),
            band: if outline.is_empty() { String::new() } else { self.path(&outline, scale) + "Z" },
            points: dots.map(dot).collect(),
        }
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
    let series = vec![Line {
        name: "weights".into(),
        class: "c0".into(),
        path: format!("M{}", path.join("L")),
        band: String::new(),
        points,
    }];
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
        alarms: Vec::new(),
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

/// The lower and the upper edge of a band, averaged as the line is.
fn edges(band: &[(usize, f64, f64)]) -> [Vec<(f64, f64)>; 2] {
    let of = |edge: fn(&(usize, f64, f64)) -> f64| {
        averaged(&band.iter().map(|part| (part.0, edge(part))).collect::<Vec<_>>())
    };
    [of(|part| part.1), of(|part| part.2)]
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
        let frame = Frame { last: 4, starts: vec![2], alarms: vec![1], x_label: "step" };
        let mut series = [Series::line("a", 6, vec![(0, 0.0), (4, 10.0)])];
        let chart = frame.chart("Loss", "nats", String::new(), &series, true).unwrap();
        assert_eq!(chart.series[0].path, "M0.0 1000.0L1000.0 56.6");
        assert_eq!((&*chart.series[0].class, &*chart.series[0].band), ("c0", ""));
        assert_eq!((&*chart.stage_starts, &*chart.alarms), (&["50.00".to_owned()][..], &["25.00".to_owned()][..]));
        assert_eq!(chart.x_ticks.iter().map(|t| t.label.as_str()).collect::<Vec<_>>(), ["0", "1", "2", "3", "4"]);
        // A band widens the scale, and is drawn there and back.
        series[0].band = vec![(0, -10.0, 10.0), (4, 0.0, 20.0)];
        let chart = frame.chart("Loss", "nats", String::new(), &series, false).unwrap();
        assert_eq!(chart.series[0].band, "M0.0 351.2L1000.0 53.6L1000.0 648.8L0.0 946.4Z");
    }
}
