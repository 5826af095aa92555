//! The points of trials: where each stands, and how many stand nowhere.

use super::view::{Shown, View};
use crate::axis::Axis;
use crate::number::count;
use crate::plot::{Dot, percent};

/// Counts what could not be drawn where it belongs.
#[derive(Default)]
pub(crate) struct Strays {
    /// Drawn at the edge.
    pub beyond: usize,
    /// Not drawn: no number.
    pub missing: usize,
}

impl Strays {
    /// A sentence on each, or nothing.
    pub fn note(&self, what: &str) -> String {
        let several = |number: usize| if number == 1 { what.to_owned() } else { format!("{what}s") };
        let mut said = Vec::new();
        if self.beyond > 0 {
            said.push(format!("{} {} beyond the axis: drawn at its edge.", count(self.beyond), several(self.beyond)));
        }
        if self.missing > 0 {
            said.push(format!("{} {} without a number: not drawn.", count(self.missing), several(self.missing)));
        }
        said.join(" ")
    }
}

impl View<'_> {
    /// A trial's point; none, and counted, where a value is no number. The infinities are beyond the axis.
    pub fn dot(&self, shown: &Shown, at: [(&Axis, f64); 2], strays: &mut Strays) -> Option<Dot> {
        let [x, y] = at;
        if x.1.is_nan() || y.1.is_nan() {
            strays.missing += 1;
            return None;
        }
        let (x, y) = (x.0.at(x.1), y.0.at(y.1));
        let beyond = x.beyond || y.beyond;
        strays.beyond += usize::from(beyond);
        let role = match (shown.recommended, shown.default) {
            (true, _) => " recommended",
            (false, true) => " default",
            (false, false) if shown.best => " best",
            _ => "",
        };
        let mark = match (shown.recommended, shown.default) {
            (true, _) => "star",
            (false, true) => "diamond",
            (false, false) if shown.feasible == Some(false) => "cross",
            _ => "",
        };
        Some(Dot {
            x: percent(x.share),
            y: percent(1.0 - y.share),
            class: format!("{}{role}{}", shown.class(), if beyond { " beyond" } else { "" }),
            mark,
            stop: false,
            title: String::new(),
        })
    }
}
