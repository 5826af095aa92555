//! What one parameter may be, and its place on a scale from 0 to 1.

use serde::{Deserialize, Serialize};

use super::{SpaceError, Value};

/// What one parameter may be.
///
/// Every numeric domain lies on a *unit scale*: 0 to 1, linear or logarithmic, on which samplers work. A domain of finitely
/// many numbers (whole numbers, steps) divides the scale into cells: equal ones on a linear scale; on a logarithmic one each
/// reaches half a step to both sides. A number's own place is the middle of its cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Domain {
    /// A float.
    Float {
        /// The lowest.
        low: f64,
        /// The highest.
        high: f64,
        /// On a logarithmic scale; `low` is above 0, and there is no step.
        log: bool,
        /// Only `low`, `low + step`, ..; none: any.
        step: Option<f64>,
    },
    /// A whole number.
    Int {
        /// The lowest.
        low: i64,
        /// The highest.
        high: i64,
        /// On a logarithmic scale; `low` is above 0 and the step 1.
        log: bool,
        /// Only `low`, `low + step`, ..
        step: i64,
    },
    /// One of these, without an order.
    Choice {
        /// At least one, no two the same.
        values: Vec<Value>,
    },
}

impl Domain {
    /// Any float from `low` to `high`.
    pub fn float(low: f64, high: f64) -> Self {
        Self::Float { low, high, log: false, step: None }
    }

    /// Any float from `low` to `high`, on a logarithmic scale.
    pub fn log_float(low: f64, high: f64) -> Self {
        Self::Float { low, high, log: true, step: None }
    }

    /// Any whole number from `low` to `high`.
    pub fn int(low: i64, high: i64) -> Self {
        Self::Int { low, high, log: false, step: 1 }
    }

    /// One of `values`.
    pub fn choice<V: Into<Value>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::Choice { values: values.into_iter().map(Into::into).collect() }
    }

    /// Checks it, and brings `high` down to the last step.
    ///
    /// # Errors
    /// [`SpaceError`] where bounds are not finite or cross, a logarithm has no meaning, or choices are none or twice.
    pub fn checked(self, name: &str) -> Result<Self, SpaceError> {
        let wrong = |what: String| Err(SpaceError { name: name.to_owned(), what });
        match self {
            Self::Float { low, high, log, step } => {
                if !(low.is_finite() && high.is_finite()) {
                    return wrong(format!("expected finite bounds, got {low} and {high}"));
                }
                if low > high {
                    return wrong(format!("low {low} is above high {high}"));
                }
                if log && low <= 0.0 {
                    return wrong(format!("a logarithmic scale begins above 0, got low {low}"));
                }
                let Some(size) = step else { return Ok(Self::Float { low, high, log, step }) };
                if log {
                    return wrong("a logarithmic scale has no step".into());
                }
                if !(size.is_finite() && size > 0.0) {
                    return wrong(format!("expected a step above 0, got {size}"));
                }
                let high = on_step(low, size, ((high - low) / size * (1.0 + 1e-12)).floor());
                Ok(Self::Float { low, high, log, step })
            }
            Self::Int { low, high, log, step } => {
                if low > high {
                    return wrong(format!("low {low} is above high {high}"));
                }
                if high.checked_sub(low).is_none() {
                    return wrong(format!("the range from {low} to {high} is too wide"));
                }
                if log && low <= 0 {
                    return wrong(format!("a logarithmic scale begins above 0, got low {low}"));
                }
                if step < 1 {
                    return wrong(format!("expected a step of at least 1, got {step}"));
                }
                if log && step != 1 {
                    return wrong("a logarithmic scale has no step".into());
                }
                Ok(Self::Int { low, high: low + (high - low) / step * step, log, step })
            }
            Self::Choice { values } => {
                if values.is_empty() {
                    return wrong("expected at least one choice".into());
                }
                for (index, value) in values.iter().enumerate() {
                    if matches!(value, Value::Float(number) if !number.is_finite()) {
                        return wrong(format!("expected finite choices, got {value}"));
                    }
                    if values[..index].iter().any(|earlier| earlier.same(value)) {
                        return wrong(format!("the choice {value} is given twice"));
                    }
                }
                Ok(Self::Choice { values })
            }
        }
    }

    /// How many values there are; none: more than can be counted.
    pub fn cells(&self) -> Option<u64> {
        match self {
            Self::Float { low, high, step: None, .. } => (low == high).then_some(1),
            Self::Float { low, high, step: Some(step), .. } => Some(((high - low) / step).round() as u64 + 1),
            Self::Int { low, high, step, .. } => Some(((high - low) / step) as u64 + 1),
            Self::Choice { values } => Some(values.len() as u64),
        }
    }

    /// How many choices; none for numbers.
    pub fn choices(&self) -> Option<usize> {
        match self {
            Self::Choice { values } => Some(values.len()),
            Self::Float { .. } | Self::Int { .. } => None,
        }
    }

    /// The coordinate of the `index`-th value, from 0, of a domain whose values can be counted.
    pub fn nth(&self, index: u64) -> f64 {
        match self {
            Self::Choice { .. } => index as f64,
            Self::Int { low, log: true, .. } => self.coordinate(&Value::Int(low + index as i64)).unwrap_or(0.5),
            Self::Float { .. } | Self::Int { .. } => self.middle(index as f64),
        }
    }

    /// The value at a coordinate: 0 to 1 of a number, the index of a choice. What lies outside is brought to the nearest end.
    pub fn at(&self, coordinate: f64) -> Value {
        let unit = if coordinate.is_nan() { 0.0 } else { coordinate.clamp(0.0, 1.0) };
        match self {
            Self::Float { low, high, .. } if low == high => Value::Float(*low),
            Self::Float { low, high, log: true, .. } => {
                Value::Float((low.ln() + unit * (high.ln() - low.ln())).exp().clamp(*low, *high))
            }
            Self::Float { low, high, step: None, .. } => Value::Float((low + unit * (high - low)).clamp(*low, *high)),
            Self::Float { low, step: Some(step), .. } => Value::Float(on_step(*low, *step, self.cell(unit))),
            Self::Int { low, high, log: true, .. } => {
                let (from, to) = int_ends(*low, *high);
                Value::Int(((from + unit * (to - from)).exp().round() as i64).clamp(*low, *high))
            }
            Self::Int { low, step, .. } => Value::Int(low + step * self.cell(unit) as i64),
            Self::Choice { values } => {
                let index = if coordinate.is_nan() { 0.0 } else { coordinate.clamp(0.0, (values.len() - 1) as f64) };
                values[index as usize].clone()
            }
        }
    }

    /// The coordinate of a value: the inverse of [`Self::at`]; none where the domain does not hold it.
    pub fn coordinate(&self, value: &Value) -> Option<f64> {
        match self {
            Self::Choice { values } => values.iter().position(|choice| choice.same(value)).map(|index| index as f64),
            Self::Float { low, high, log, step } => {
                let number = value.number().filter(|number| (*low..=*high).contains(number))?;
                if low == high {
                    return Some(0.5);
                }
                match step {
                    Some(step) => {
                        let cell = ((number - low) / step).round();
                        let near = (number - on_step(*low, *step, cell)).abs() <= 1e-9 * step;
                        near.then(|| self.middle(cell))
                    }
                    None if *log => Some((number.ln() - low.ln()) / (high.ln() - low.ln())),
                    None => Some((number - low) / (high - low)),
                }
            }
            Self::Int { low, high, log, step } => {
                let number = value.number().filter(|number| number.fract() == 0.0)? as i64;
                if !(*low..=*high).contains(&number) || (number - low) % step != 0 {
                    return None;
                }
                if *log {
                    let (from, to) = int_ends(*low, *high);
                    return Some(((number as f64).ln() - from) / (to - from));
                }
                Some(self.middle(((number - low) / step) as f64))
            }
        }
    }

    /// The part of the unit scale that becomes `coordinate`'s value, as (from, to); both the coordinate itself where any float may be.
    pub fn cell_of(&self, coordinate: f64) -> (f64, f64) {
        match self {
            Self::Int { low, high, log: true, .. } => {
                let (from, to) = int_ends(*low, *high);
                let value = match self.at(coordinate) {
                    Value::Int(value) => value as f64,
                    _ => return (coordinate, coordinate),
                };
                let place = |number: f64| (number.ln() - from) / (to - from);
                (place(value - 0.5), place(value + 0.5))
            }
            Self::Float { step: Some(_), .. } | Self::Int { .. } => {
                let cells = self.cells().unwrap_or(1) as f64;
                let cell = self.cell(coordinate.clamp(0.0, 1.0));
                (cell / cells, (cell + 1.0) / cells)
            }
            Self::Float { .. } | Self::Choice { .. } => (coordinate, coordinate),
        }
    }

    /// The highest value of the domain that is not above `bound`, or the lowest one where all are.
    pub fn at_most(&self, bound: f64) -> Value {
        self.nearest(bound, f64::floor)
    }

    /// The lowest value of the domain that is not below `bound`, or the highest one where all are.
    pub fn at_least(&self, bound: f64) -> Value {
        self.nearest(bound, f64::ceil)
    }

    fn nearest(&self, bound: f64, round: impl Fn(f64) -> f64) -> Value {
        // A bound that is on the grid but for the last bits of a division is on it.
        let steps = |low: f64, step: f64| {
            let exact = (bound - low) / step;
            if (exact - exact.round()).abs() < 1e-9 { exact.round() } else { round(exact) }
        };
        match self {
            Self::Float { low, high, step: None, .. } => Value::Float(bound.clamp(*low, *high)),
            Self::Float { low, high, step: Some(step), .. } => {
                Value::Float(on_step(*low, *step, steps(*low, *step)).clamp(*low, *high))
            }
            Self::Int { low, high, step, .. } => {
                let cell = steps(*low as f64, *step as f64).clamp(0.0, ((high - low) / step) as f64);
                Value::Int(low + step * cell as i64)
            }
            Self::Choice { values } => values[0].clone(),
        }
    }

    fn cell(&self, unit: f64) -> f64 {
        let cells = self.cells().unwrap_or(1) as f64;
        (unit * cells).floor().min(cells - 1.0)
    }

    fn middle(&self, cell: f64) -> f64 {
        (cell + 0.5) / self.cells().unwrap_or(1) as f64
    }
}

/// The ends of the logarithmic scale of whole numbers: half a step beyond the lowest and the highest.
fn int_ends(low: i64, high: i64) -> (f64, f64) {
    ((low as f64 - 0.5).ln(), (high as f64 + 0.5).ln())
}

/// `low + cell * step`, without the dust of binary fractions: with as many decimals as `low` and `step` are written with.
fn on_step(low: f64, step: f64, cell: f64) -> f64 {
    let decimals = |number: f64| {
        let text = format!("{number}");
        text.split_once('.').map_or(0, |(_, fraction)| fraction.len())
    };
    let exact = low + cell * step;
    format!("{exact:.*}", decimals(low).max(decimals(step))).parse().unwrap_or(exact)
}
