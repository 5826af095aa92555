//! The space: named parameters, what binds them, and the way from coordinates to a point and back.

mod domain;
mod expression;
mod simplex;
mod value;

use std::collections::BTreeMap;

pub use domain::Domain;
pub use expression::{Expression, ExpressionError};
pub use simplex::Simplex;
pub use value::Value;

/// A point of the space: a value for each active name. What a trial is identified by, and what history is keyed by.
pub type Point = BTreeMap<String, Value>;

/// A space that cannot be searched, or a point that is not of it.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{name}: {what}")]
pub struct SpaceError {
    /// The parameter.
    pub name: String,
    /// What is wrong, with what was expected.
    pub what: String,
}

/// A parameter that is chosen.
#[derive(Clone, Debug, PartialEq)]
pub struct Parameter {
    /// Its name: the path of a recipe's field.
    pub name: String,
    /// What it may be.
    pub domain: Domain,
    /// It is there only while this holds; none: always.
    pub when: Option<Condition>,
    /// Not above the value of this parameter, an earlier one, where that is active.
    pub at_most: Option<String>,
    /// Not below the value of this parameter, an earlier one, where that is active.
    pub at_least: Option<String>,
    /// Where good values are expected; none: anywhere alike.
    pub prior: Option<Prior>,
}

/// A parameter is active while another, an earlier one, is active and has one of these values.
#[derive(Clone, Debug, PartialEq)]
pub struct Condition {
    /// The other parameter.
    pub name: String,
    /// Its values.
    pub values: Vec<Value>,
}

/// Where good values of a parameter are expected: a hint to samplers, never a bound.
#[derive(Clone, Debug, PartialEq)]
pub struct Prior {
    /// The most likely value.
    pub around: Value,
    /// Of a number: one standard deviation, as a share of the unit scale. Of a choice: not read.
    pub spread: f64,
    /// Where this is known from.
    pub source: String,
}

/// A field that follows from others.
#[derive(Clone, Debug, PartialEq)]
pub struct Tie {
    /// The field.
    pub name: String,
    /// Its value, from parameters and fields before it.
    pub value: Expression,
    /// Rounded to a whole number.
    pub whole: bool,
}

/// What is searched.
///
/// *Coordinates* are one number a parameter, in order: its place on the unit scale or the index of its choice ([`Domain`]); NaN
/// where it is not active. Shares of a [`Simplex`] are drawn by one parameter less than there are shares.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Space {
    parameters: Vec<Parameter>,
    simplexes: Vec<Simplex>,
    ties: Vec<Tie>,
}

impl Parameter {
    /// Always active, without bounds by others, without a prior.
    pub fn new(name: impl Into<String>, domain: Domain) -> Self {
        Self { name: name.into(), domain, when: None, at_most: None, at_least: None, prior: None }
    }
}

impl Space {
    /// Puts a space together and checks it. The parameters of simplexes come after `parameters`.
    ///
    /// # Errors
    /// [`SpaceError`] at the first name that is there twice, domain that is wrong, or condition, bound or tie on what does not
    /// come before.
    pub fn new(parameters: Vec<Parameter>, simplexes: Vec<Simplex>, ties: Vec<Tie>) -> Result<Self, SpaceError> {
        let mut space = Self::default();
        let breaks = simplexes.iter().map(Simplex::parameters).collect::<Result<Vec<_>, _>>()?;
        for parameter in parameters.into_iter().chain(breaks.into_iter().flatten()) {
            let checked = space.check(parameter)?;
            space.parameters.push(checked);
        }
        let mut names: Vec<&str> = space.parameters.iter().map(|parameter| parameter.name.as_str()).collect();
        for simplex in &simplexes {
            for share in simplex.shares() {
                if names.contains(&share) {
                    return Err(error(share, "is there twice"));
                }
                names.push(share);
            }
        }
        for tie in &ties {
            if names.contains(&tie.name.as_str()) {
                return Err(error(&tie.name, "is there twice"));
            }
            if let Some(unknown) = tie.value.names().into_iter().find(|name| !names.contains(name)) {
                return Err(error(&tie.name, format!("follows from {unknown}, which is no parameter before it")));
            }
            names.push(&tie.name);
        }
        Ok(Self { simplexes, ties, ..space })
    }

    fn check(&self, parameter: Parameter) -> Result<Parameter, SpaceError> {
        let name = &parameter.name;
        if self.parameter(name).is_some() {
            return Err(error(name, "is there twice"));
        }
        if let Some(condition) = &parameter.when {
            let Some(parent) = self.parameter(&condition.name) else {
                return Err(error(name, format!("depends on {}, which is no parameter before it", condition.name)));
            };
            if let Some(value) = condition.values.iter().find(|value| parent.domain.coordinate(value).is_none()) {
                return Err(error(name, format!("depends on {} being {value}, which it never is", condition.name)));
            }
            if condition.values.is_empty() {
                return Err(error(name, "depends on no value: it would never be active"));
            }
        }
        for bound in [&parameter.at_most, &parameter.at_least].into_iter().flatten() {
            let Some(other) = self.parameter(bound) else {
                return Err(error(name, format!("is bounded by {bound}, which is no parameter before it")));
            };
            if other.domain.choices().is_some() || parameter.domain.choices().is_some() {
                return Err(error(name, format!("is bounded by {bound}: only numbers are bounded, and by numbers")));
            }
        }
        let domain = parameter.domain.clone().checked(name)?;
        if let Some(prior) = &parameter.prior {
            if domain.coordinate(&prior.around).is_none() {
                return Err(error(name, format!("its prior, {}, is not in its domain", prior.around)));
            }
            if prior.spread.is_nan() || prior.spread <= 0.0 {
                return Err(error(name, format!("its prior spreads by more than 0, got {}", prior.spread)));
            }
        }
        Ok(Parameter { domain, ..parameter })
    }

    /// The parameters, those before others that they bind.
    pub fn parameters(&self) -> &[Parameter] {
        &self.parameters
    }

    /// The simplexes.
    pub fn simplexes(&self) -> &[Simplex] {
        &self.simplexes
    }

    /// The fields that follow from others.
    pub fn ties(&self) -> &[Tie] {
        &self.ties
    }

    /// The parameter of that name.
    pub fn parameter(&self, name: &str) -> Option<&Parameter> {
        self.parameters.iter().find(|parameter| parameter.name == name)
    }

    /// How many points there are; none: more than can be counted. Bounds by other parameters are not subtracted.
    pub fn size(&self) -> Option<u64> {
        // By the last parameter first: the number of points below each value of a parameter is that of those which depend on it.
        fn below(space: &Space, from: usize, chosen: &mut Vec<(usize, Value)>) -> Option<u64> {
            let Some(parameter) = space.parameters.get(from) else { return Some(1) };
            let active = parameter.when.as_ref().is_none_or(|condition| {
                chosen.iter().any(|(index, value)| {
                    space.parameters[*index].name == condition.name && condition.values.iter().any(|v| v.same(value))
                })
            });
            if !active {
                return below(space, from + 1, chosen);
            }
            let cells = parameter.domain.cells()?;
            let parent = space.parameters[from + 1..]
                .iter()
                .any(|later| later.when.as_ref().is_some_and(|condition| condition.name == parameter.name));
            if !parent {
                return below(space, from + 1, chosen)?.checked_mul(cells);
            }
            if cells > 1000 {
                return None;
            }
            (0..cells).try_fold(0u64, |sum, cell| {
                chosen.push((from, parameter.domain.at(parameter.domain.nth(cell))));
                let count = below(space, from + 1, chosen);
                chosen.pop();
                sum.checked_add(count?)
            })
        }
        below(self, 0, &mut Vec::new())
    }

    /// Every point of a finite space, in order: the last parameter changes fastest. Of an infinite space: nothing.
    pub fn points(&self) -> impl Iterator<Item = Point> + '_ {
        let finite = self.size().is_some();
        let cells: Vec<u64> = self.parameters.iter().map(|parameter| parameter.domain.cells().unwrap_or(0)).collect();
        let mut next = finite.then(|| vec![0u64; cells.len()]);
        std::iter::from_fn(move || {
            loop {
                let place = next.clone()?;
                let coordinate = |(index, cell): (usize, &u64)| self.parameters[index].domain.nth(*cell);
                let point = self.point(&place.iter().enumerate().map(coordinate).collect::<Vec<_>>());
                // The place after it, as a number is counted up; none after the last.
                next = (0..cells.len()).rev().find(|&index| place[index] + 1 < cells[index]).map(|index| {
                    let mut after = place.clone();
                    after[index] += 1;
                    after[index + 1..].fill(0);
                    after
                });
                // A parameter that is not active would give the same point once for each of its values.
                let active = |(parameter, cell): (&Parameter, &u64)| *cell == 0 || point.contains_key(&parameter.name);
                if self.parameters.iter().zip(&place).all(active) {
                    return Some(point);
                }
            }
        })
    }

    /// The point at `coordinates`: values of the active parameters, brought within the bounds by others.
    ///
    /// # Panics
    /// When there are not as many coordinates as parameters.
    pub fn point(&self, coordinates: &[f64]) -> Point {
        assert_eq!(coordinates.len(), self.parameters.len(), "one coordinate a parameter");
        let mut point = Point::new();
        for (parameter, &coordinate) in self.parameters.iter().zip(coordinates) {
            if !is_active(parameter, &point) {
                continue;
            }
            let bound = |name: &Option<String>| name.as_ref().and_then(|name| point.get(name)?.number());
            let mut value = parameter.domain.at(coordinate);
            if let (Some(bound), Some(number)) = (bound(&parameter.at_least), value.number())
                && number < bound
            {
                value = parameter.domain.at_least(bound);
            }
            if let (Some(bound), Some(number)) = (bound(&parameter.at_most), value.number())
                && number > bound
            {
                value = parameter.domain.at_most(bound);
            }
            point.insert(parameter.name.clone(), value);
        }
        point
    }

    /// The coordinates of a point; NaN where a parameter is not active in it, is missing, or has a value that its domain no
    /// longer holds. What a point has under other names is passed over: history outlives a change of the space.
    pub fn coordinates(&self, point: &Point) -> Vec<f64> {
        let place = |parameter: &Parameter| {
            let value = is_active(parameter, point).then(|| point.get(&parameter.name)).flatten()?;
            parameter.domain.coordinate(value)
        };
        self.parameters.iter().map(|parameter| place(parameter).unwrap_or(f64::NAN)).collect()
    }

    /// Checks that `point` is a whole point of the space: what the user gives, such as trial 0.
    ///
    /// # Errors
    /// [`SpaceError`] at the first parameter that is missing, out of its domain or bounds, or not active.
    pub fn check_point(&self, point: &Point) -> Result<(), SpaceError> {
        for parameter in &self.parameters {
            let name = &parameter.name;
            let (active, value) = (is_active(parameter, point), point.get(name));
            match value {
                None if active => return Err(error(name, "has no value")),
                Some(_) if !active => return Err(error(name, "is not active with these values of the others")),
                Some(value) if parameter.domain.coordinate(value).is_none() => {
                    return Err(error(name, format!("{value} is not in its domain")));
                }
                Some(value) => self.check_bounds(parameter, value, point)?,
                None => {}
            }
        }
        if let Some(name) = point.keys().find(|name| self.parameter(name).is_none()) {
            return Err(error(name, "is no parameter of the space"));
        }
        Ok(())
    }

    /// Checks a value against the bounds that other parameters set, as far as the domain lets it keep them.
    fn check_bounds(&self, parameter: &Parameter, value: &Value, point: &Point) -> Result<(), SpaceError> {
        let Some(number) = value.number() else { return Ok(()) };
        let bound = |name: &Option<String>| name.as_ref().and_then(|name| point.get(name)?.number());
        let beyond = |nearest: Value| nearest.number().is_some_and(|nearest| nearest != number);
        let wrong = |how: &str, by: &Option<String>, bound: f64| {
            let by = by.as_deref().unwrap_or_default();
            Err(error(&parameter.name, format!("{value} is {how} its bound {by}, {bound}")))
        };
        match (bound(&parameter.at_least), bound(&parameter.at_most)) {
            (Some(low), _) if number < low && beyond(parameter.domain.at_least(low)) => {
                wrong("below", &parameter.at_least, low)
            }
            (_, Some(high)) if number > high && beyond(parameter.domain.at_most(high)) => {
                wrong("above", &parameter.at_most, high)
            }
            _ => Ok(()),
        }
    }

    /// Every field that a trial at `point` sets: the parameters themselves, the shares of simplexes in place of what draws them,
    /// and what follows.
    ///
    /// # Errors
    /// [`SpaceError`] where a tie needs a number that is not there.
    pub fn fields(&self, point: &Point) -> Result<Point, SpaceError> {
        let mut fields = point.clone();
        for simplex in &self.simplexes {
            simplex.resolve(&mut fields);
        }
        for tie in &self.ties {
            let known = tie.value.names().iter().all(|name| fields.contains_key(*name));
            if !known {
                continue;
            }
            let number = tie.value.evaluate(&|name| fields.get(name)?.number());
            let Some(number) = number.filter(|number| number.is_finite()) else {
                return Err(error(&tie.name, format!("`{}` is no finite number here", tie.value)));
            };
            let value = if tie.whole { Value::Int(number.round() as i64) } else { Value::Float(number) };
            fields.insert(tie.name.clone(), value);
        }
        Ok(fields)
    }
}

fn is_active(parameter: &Parameter, point: &Point) -> bool {
    parameter.when.as_ref().is_none_or(|condition| {
        point.get(&condition.name).is_some_and(|value| condition.values.iter().any(|one| one.same(value)))
    })
}

fn error(name: &str, what: impl Into<String>) -> SpaceError {
    SpaceError { name: name.to_owned(), what: what.into() }
}

#[cfg(test)]
mod tests;
