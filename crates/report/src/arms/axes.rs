//! Both axes of every arm: what was gained in the domain against what was kept of each suite.

use temper_eval::compare::{Metric, Row};
use temper_eval::stats::Interval;
use temper_eval::verdict::FloorDecision;

use super::{Arms, DOMAIN, Tried, row_of};
use crate::axis::Axis;
use crate::number::Style;
use crate::plot::{BOX, Dot, Label, Limit, Line, Plot, percent};

/// A metric of a suite.
type Measure<'a> = (&'a str, Metric);

/// Each metric of the domain against each suite, those with floors first.
pub(super) fn pictures(arms: &Arms) -> Vec<Plot> {
    let columns = arms.columns();
    let (mut kept, mut gained) = (Vec::new(), Vec::<Measure<'_>>::new());
    for row in columns {
        let measure = (row.suite.as_str(), row.metric);
        if row.suite != DOMAIN {
            kept.push((row.floor.is_none(), measure));
        } else if !gained.first().is_some_and(|&first| same(arms, first, measure)) {
            gained.push(measure);
        }
    }
    kept.sort_by_key(|(without_floor, _)| *without_floor);
    let pairs = gained.iter().flat_map(|&up| kept.iter().map(move |&(_, across)| (across, up)));
    pairs.filter_map(|(across, up)| picture(arms, across, up)).collect()
}

/// Whether two metrics of the domain say the same of every arm: the mean reward does where an answer earns all or nothing.
fn same(arms: &Arms, one: Measure<'_>, other: Measure<'_>) -> bool {
    let of = |arm: &Tried, measure| row_of(arm.rows(), measure).map(|row| (row.tuned, row.difference.estimate));
    arms.arms.iter().all(|arm| of(arm, one) == of(arm, other))
}

/// An arm on both axes.
struct Mark<'a> {
    arm: &'a Tried,
    across: &'a Row,
    up: &'a Row,
}

impl Mark<'_> {
    fn scaled(row: &Row) -> Interval {
        let (style, d) = (Style::of(row.metric), row.difference);
        Interval { estimate: style.scaled(d.estimate), low: style.scaled(d.low), high: style.scaled(d.high), ..d }
    }

    /// "sft: domain accuracy +54.0 [+49.6, +58.2], heldout relative loss −3.40 [−3.90, −2.90]".
    fn says(&self) -> String {
        let said = |row: &Row| {
            let style = Style::of(row.metric);
            format!("{} {} {} {}", row.suite, style.short, style.interval(&row.difference), style.unit)
        };
        format!("{}: {}, {}", self.arm.name, said(self.up), said(self.across))
    }
}

fn picture(arms: &Arms, across: Measure<'_>, up: Measure<'_>) -> Option<Plot> {
    let ranked = arms.ranked();
    let marks: Vec<Mark<'_>> = ranked
        .iter()
        .filter_map(|arm| Some(Mark { arm, across: row_of(arm.rows(), across)?, up: row_of(arm.rows(), up)? }))
        .collect();
    let first = marks.first()?;
    let floor = first.across.floor.map(|floor| {
        let style = Style::of(across.1);
        let edge = if first.across.higher_is_better { -floor.margin } else { floor.margin };
        (style.scaled(edge), format!("floor {}", style.signed(edge)))
    });
    let reach = |of: fn(&Mark<'_>) -> Interval, also: Option<f64>| {
        let ends = marks.iter().map(of).flat_map(|d| [d.low, d.high]).chain(also);
        ends.filter(|end| end.is_finite()).fold((0.0f64, 0.0f64), |(low, high), end| (low.min(end), high.max(end)))
    };
    let (left, right) = reach(|mark| Mark::scaled(mark.across), floor.as_ref().map(|(edge, _)| *edge));
    let (low, high) = reach(|mark| Mark::scaled(mark.up), None);
    let (x, y) = (Axis::around(left, right, 6), Axis::around(low, high, 6));
    let place = |x_value: f64, y_value: f64| (x.at(x_value).share, 1.0 - y.at(y_value).share);
    let mut lines = Vec::new();
    let mut points = vec![dot(place(0.0, 0.0), "whole default", "diamond", "base".to_owned())];
    let mut named = vec![(place(0.0, 0.0), "base")];
    for (rank, mark) in marks.iter().enumerate() {
        let (h, v) = (Mark::scaled(mark.across), Mark::scaled(mark.up));
        let (at, from, to) = (place(h.estimate, v.estimate), place(h.low, v.low), place(h.high, v.high));
        let [(right, down), (left, bottom), (end, top)] = [at, from, to].map(|(x, y)| (BOX * x, BOX * y));
        let path = format!("M{left:.0} {down:.0}H{end:.0}M{right:.0} {bottom:.0}V{top:.0}");
        lines.push(Line { class: "whisker".into(), path, title: String::new() });
        let broke = mark.across.floor.is_some_and(|floor| floor.decision == FloorDecision::Forgot);
        let (class, shape) = match (broke, rank) {
            (true, _) => ("whole broken", "cross"),
            (false, 0) => ("whole recommended", "star"),
            (false, _) => ("whole", ""),
        };
        points.push(dot(at, class, shape, mark.says()));
        named.push((at, mark.arm.name.as_str()));
    }
    // The first arm above all others.
    points[1..].reverse();
    let (style, kept) = (Style::of(up.1), Style::of(across.1));
    let better = |row: &Row| if row.higher_is_better { "more is better" } else { "less is better" };
    Some(Plot {
        title: format!("{} {} against {} {}", up.0, style.short, across.0, kept.short),
        unit: format!("{} {}, {} to the base; {}", up.0, style.short, style.unit, better(first.up)),
        x_label: format!("{} {}, {} to the base; {}", across.0, kept.short, kept.unit, better(first.across)),
        x_ticks: x.across(60),
        y_ticks: y.upwards(),
        description: marks.iter().map(Mark::says).collect::<Vec<_>>().join(". "),
        note: String::new(),
        lines,
        limits: floor
            .into_iter()
            .map(|(edge, label)| Limit { upright: true, at: percent(x.at(edge).share), label, right: false })
            .collect(),
        points,
        labels: labels(&named),
    })
}

fn dot((x, y): (f64, f64), class: &str, mark: &'static str, title: String) -> Dot {
    Dot { x: percent(x), y: percent(y), class: class.to_owned(), mark, stop: false, title }
}

/// Size of a plot in pixels by which names are kept apart, and of a letter and a line.
const PLOT: (f64, f64) = (640.0, 380.0);
const LETTER: (f64, f64) = (7.5, 15.0);

/// Each name off its point to where it covers no other: to the right and above first.
fn labels(named: &[((f64, f64), &str)]) -> Vec<Label> {
    let mut taken: Vec<[f64; 4]> = Vec::new();
    let label = |&((x, y), name): &((f64, f64), &str)| {
        let (width, (left, top)) = (LETTER.0 * name.chars().count() as f64, (PLOT.0 * x, PLOT.1 * y));
        let box_of = |(right, dy): (bool, i32)| {
            let from = if right { left + 9.0 } else { left - 9.0 - width };
            let line = top + f64::from(dy);
            [from, line - LETTER.1 + 3.0, from + width, line + 3.0]
        };
        let free = |place: &(bool, i32)| {
            let [x0, y0, x1, y1] = box_of(*place);
            let inside = x0 >= 0.0 && x1 <= PLOT.0 && y0 >= -10.0 && y1 <= PLOT.1;
            inside && taken.iter().all(|t| x1 <= t[0] || t[2] <= x0 || y1 <= t[1] || t[3] <= y0)
        };
        let mut places = [-8, 17, -23, 32, -38, 47].into_iter().flat_map(|dy| [(true, dy), (false, dy)]);
        let (right, dy) = places.find(free).unwrap_or((x < 0.5, -8));
        taken.push(box_of((right, dy)));
        Label {
            x: percent(x),
            y: percent(y),
            text: name.to_owned(),
            anchor: if right { "start" } else { "end" },
            dx: if right { 9 } else { -9 },
            dy,
        }
    };
    named.iter().map(label).collect()
}
