//! How alike two points are.

use crate::space::{Domain, Space};

/// How coordinates of a parameter differ.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    /// By their distance.
    Number,
    /// Alike or not.
    Choice,
}

/// The kinds of a space's parameters.
pub(super) fn kinds(space: &Space) -> Vec<Kind> {
    let kind = |domain: &Domain| if domain.choices().is_some() { Kind::Choice } else { Kind::Number };
    space.parameters().iter().map(|parameter| kind(&parameter.domain)).collect()
}

impl Kind {
    /// The squared distance of two coordinates. A number that is not active lies half a scale beside the middle of those that
    /// are, so that distances are those of points in a plane, and the kernel stays positive; a choice that is not active is
    /// one more choice.
    pub(super) fn squared(self, a: f64, b: f64) -> f64 {
        match (self, a.is_nan(), b.is_nan()) {
            (_, true, true) => 0.0,
            (Self::Number, false, false) => (a - b) * (a - b),
            (Self::Number, ..) => {
                let off = if a.is_nan() { b } else { a } - 0.5;
                off * off + 0.25
            }
            (Self::Choice, ..) => f64::from(a != b),
        }
    }

    /// The derivative of [`Self::squared`] by `a`.
    pub(super) fn slope(self, a: f64, b: f64) -> f64 {
        match (self, a.is_nan(), b.is_nan()) {
            (Self::Number, false, false) => 2.0 * (a - b),
            (Self::Number, false, true) => 2.0 * (a - 0.5),
            _ => 0.0,
        }
    }
}

const SQRT_5: f64 = 2.236_067_977_499_79;

/// The Matern kernel of smoothness 5/2 at a squared distance, and its derivative by it (Rasmussen and Williams, 2006, 4.2.1).
pub(super) fn matern(squared: f64) -> (f64, f64) {
    let distance = SQRT_5 * squared.max(0.0).sqrt();
    let decay = (-distance).exp();
    ((1.0 + distance + distance * distance / 3.0) * decay, -5.0 / 6.0 * (1.0 + distance) * decay)
}
