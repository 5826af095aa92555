//! Shares that sum to a whole.

use serde::Serialize;

use super::{Domain, Parameter, Point, SpaceError, Value};

/// Shares of a whole, such as those of a mix: each at least its `floor`, all together `total`.
///
/// They are drawn by breaking a stick: of `k` shares the first `k - 1` each take a part of what is left. A part is a parameter
/// of its own on a scale from 0 to 1, named `NAME/1` to `NAME/(k-1)`, so stretched that even draws of all parts are even over
/// the shares: with `u` uniform, `1 - (1 - u)^(1/r)` for `r` shares still to come is the Beta(1, r) of a flat Dirichlet
/// (Devroye, Non-Uniform Random Variate Generation, 1986, XI.4).
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Simplex {
    name: String,
    shares: Vec<(String, f64)>,
    total: f64,
    grain: f64,
}

impl Simplex {
    /// Shares by field and floor, and their sum. Shares are rounded to `grain`; the last takes what rounding left.
    ///
    /// # Errors
    /// [`SpaceError`] with fewer than two shares, a floor below 0, floors that take the whole, or a grain that does not divide it.
    pub fn new(
        name: impl Into<String>,
        shares: Vec<(String, f64)>,
        total: f64,
        grain: f64,
    ) -> Result<Self, SpaceError> {
        let name = name.into();
        let wrong = |what: String| Err(SpaceError { name: name.clone(), what });
        if shares.len() < 2 {
            return wrong(format!("expected at least two shares, got {}", shares.len()));
        }
        if let Some((share, floor)) = shares.iter().find(|(_, floor)| !(*floor >= 0.0 && floor.is_finite())) {
            return wrong(format!("the floor of {share} is below 0: {floor}"));
        }
        let floors: f64 = shares.iter().map(|(_, floor)| floor).sum();
        if !(total.is_finite() && floors < total) {
            return wrong(format!("the floors take {floors} of {total}: nothing is left to be shared"));
        }
        let grains = total / grain;
        if !(grain > 0.0 && (grains - grains.round()).abs() < 1e-6) {
            return wrong(format!("{total} is no multiple of {grain}"));
        }
        Ok(Self { name, shares, total, grain })
    }

    /// The fields, in order.
    pub fn shares(&self) -> impl Iterator<Item = &str> {
        self.shares.iter().map(|(field, _)| field.as_str())
    }

    /// Whether a parameter of that name draws its shares.
    pub fn is_part(&self, name: &str) -> bool {
        (0..self.shares.len() - 1).any(|index| self.part(index) == name)
    }

    fn part(&self, index: usize) -> String {
        format!("{}/{}", self.name, index + 1)
    }

    /// What draws the shares.
    pub(super) fn parameters(&self) -> Result<Vec<Parameter>, SpaceError> {
        Ok((0..self.shares.len() - 1).map(|index| Parameter::new(self.part(index), Domain::float(0.0, 1.0))).collect())
    }

    /// The parts that give `values`, in the order of the shares; none where these are below a floor or do not sum to the whole.
    pub fn parts(&self, values: &[f64]) -> Option<Point> {
        let free = self.total - self.shares.iter().map(|(_, floor)| floor).sum::<f64>();
        let over: Vec<f64> = self.shares.iter().zip(values).map(|((_, floor), value)| value - floor).collect();
        let sums = (values.iter().sum::<f64>() - self.total).abs() <= 1e-6 * self.total;
        if values.len() != self.shares.len() || !sums || over.iter().any(|over| *over < -1e-9 * self.total) {
            return None;
        }
        let (mut left, mut parts) = (free, Point::new());
        for (index, over) in over[..over.len() - 1].iter().enumerate() {
            let to_come = (self.shares.len() - 1 - index) as f64;
            let part = if left > 0.0 { (over / left).clamp(0.0, 1.0) } else { 0.0 };
            parts.insert(self.part(index), Value::Float(1.0 - (1.0 - part).powf(to_come)));
            left -= over;
        }
        Some(parts)
    }

    /// Puts the shares in the place of what draws them.
    pub(super) fn resolve(&self, fields: &mut Point) {
        let free = self.total - self.shares.iter().map(|(_, floor)| floor).sum::<f64>();
        let rounded = |share: f64| (share / self.grain).round() * self.grain;
        let (mut left, mut given) = (free, 0.0);
        for (index, (field, floor)) in self.shares.iter().enumerate() {
            let to_come = (self.shares.len() - 1 - index) as f64;
            let share = match fields.remove(&self.part(index)).and_then(|unit| unit.number()) {
                Some(unit) if to_come > 0.0 => left * (1.0 - (1.0 - unit).powf(1.0 / to_come)),
                _ => left,
            };
            left -= share;
            let share = if to_come > 0.0 { rounded(floor + share) } else { self.total - given };
            given += share;
            // As many decimals as the grain has: 0.1 is not to become 0.30000000000000004.
            let exact = (share / self.grain).round() * self.grain;
            let text = format!("{exact:.9}");
            fields.insert(field.clone(), Value::Float(text.parse().unwrap_or(exact)));
        }
    }
}
