//! What plots have in common: marks of axes, points, lines.

use serde::Serialize;

use crate::intervals::Tick;
use crate::number::place;

/// A plot: two axes, what lies on them, and what is said of it. Places are in percent of its sides, as text; paths are in a
/// box of [`BOX`] to [`BOX`].
#[derive(Serialize)]
pub(crate) struct Plot {
    pub title: String,
    /// Below the title: unit and direction of the vertical axis.
    pub unit: String,
    pub x_label: String,
    pub x_ticks: Vec<Tick>,
    pub y_ticks: Vec<Tick>,
    /// For readers who do not see it.
    pub description: String,
    pub note: String,
    pub lines: Vec<Line>,
    pub limits: Vec<Limit>,
    pub points: Vec<Dot>,
    pub labels: Vec<Label>,
}

/// Side of the box that paths are drawn in.
pub(crate) const BOX: f64 = 1000.0;

/// A path.
#[derive(Serialize)]
pub(crate) struct Line {
    pub class: String,
    pub path: String,
    pub title: String,
}

/// A limit: a line across the plot.
#[derive(Serialize)]
pub(crate) struct Limit {
    /// Whether it stands on the horizontal axis.
    pub upright: bool,
    pub at: String,
    pub label: String,
    /// Where the label of a line that lies stands: right or left.
    pub right: bool,
}

/// A point.
#[derive(Serialize)]
pub(crate) struct Dot {
    pub x: String,
    pub y: String,
    pub class: String,
    /// Its shape: a name of a mark in the template; empty: a circle.
    pub mark: &'static str,
    /// Whether the keyboard comes by.
    pub stop: bool,
    pub title: String,
}

/// A text beside a point.
#[derive(Serialize)]
pub(crate) struct Label {
    pub x: String,
    pub y: String,
    pub text: String,
    /// Which way it runs from the point.
    pub anchor: &'static str,
    /// Pixels from the point to the line that it stands on.
    pub dx: i32,
    pub dy: i32,
}

/// A share in percent, as short as the eye needs.
pub(crate) fn percent(share: f64) -> String {
    let text = place(100.0 * share);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A path through places in the box; it is broken where there is none.
pub(crate) fn path(places: impl IntoIterator<Item = Option<(f64, f64)>>) -> String {
    let (mut path, mut pen) = (String::new(), false);
    for at in places {
        if let Some((x, y)) = at {
            path += &format!("{}{:.0} {:.0}", if pen { 'L' } else { 'M' }, BOX * x, BOX * y);
        }
        pen = at.is_some();
    }
    path
}
