//! The `space` of a recipe as a space to search, the recipe's own values as a point of it, and a point as `--set` arguments.

use std::collections::BTreeMap;

use temper_recipe::{Condition as Asked, Mode, Recipe, Searched, StageKind, Tune, field_at};
use temper_search::space::{Condition, Expression, Prior, Simplex, SpaceError, Tie};
use temper_search::{Domain, Parameter, Point, Space, Value};

use crate::PipelineError;

/// What is searched, and where the search begins.
#[derive(Clone, Debug)]
pub struct Searchable {
    /// What is searched.
    pub space: Space,
    /// The recipe's own values: trial 0. None where a program has them, and no one said.
    pub own: Option<Point>,
    /// What the user is told of how it was made.
    pub notes: Vec<String>,
}

/// Where a default range comes from.
const LORA_RATE: &str = "LoRA's best rate is about 10 times that of full rank, whatever the rank (Thinking Machines, LoRA Without \
                         Regret, 2025); a factor of 20 below it and 50 above";
const FULL_RATE: &str = "full rank lies near the low end of 1e-6 to 1e-3 (2405.09673, 2412.13337)";
const RANK: &str =
    "rank is a knob of capacity: 1 to 512 reach the same loss until the data exceed it (LoRA Without Regret, 2025)";
const REPLAY: &str =
    "replay of 1 % already helps, 5 % is enough for a near domain, 25 % for a far one (2403.08763, 2502.06042)";
const WARMUP: &str = "short fine-tuning often needs none (2412.13337); up to a fifth of the run";

/// The space of a recipe, with its own values as a point.
///
/// # Errors
/// All that is wrong with it, at once.
pub fn of_recipe(recipe: &Recipe, tune: &Tune) -> Result<Searchable, PipelineError> {
    let values: BTreeMap<String, Value> =
        recipe.settings().into_iter().filter_map(|setting| Some((setting.path, from_json(&setting.value)?))).collect();
    if tune.space.is_empty() {
        return made(recipe, &values);
    }
    let mut problems = Vec::new();
    let mut named = BTreeMap::new();
    for path in tune.space.iter().flat_map(paths) {
        match field_at(path) {
            Ok(open) => drop(named.insert(path.to_owned(), (open.path, open.whole))),
            Err(hint) => problems.push(unfit("tune.space", format!("there is no field `{path}`"), hint)),
        }
    }
    if !problems.is_empty() {
        return Err(several(problems));
    }
    let name = |path: &str| named.get(path).map_or_else(|| path.to_owned(), |(path, _)| path.clone());
    let whole = |path: &str| named.get(path).and_then(|(_, whole)| *whole);
    let (parameters, simplexes, ties) = parts(tune, &name, &whole)?;
    let mut notes: Vec<String> = named
        .iter()
        .filter(|(given, (path, _))| given != &path && given.replace('[', ".").replace(']', "") != *path)
        .map(|(given, (path, _))| format!("`{given}` is read as `{path}`"))
        .collect();
    let parameters = parameters.into_iter().map(|parameter| widened(parameter, &values, &mut notes)).collect();
    let space = Space::new(parameters, simplexes, ties).map_err(in_space)?;
    let own = own_point(&space, &values).map_err(in_space)?;
    Ok(Searchable { space, own: Some(own), notes })
}

/// The space of a program: its names are the program's own.
///
/// # Errors
/// What is wrong with it.
pub fn of_program(tune: &Tune) -> Result<Searchable, PipelineError> {
    let (parameters, simplexes, ties) = parts(tune, &|path| path.to_owned(), &|_| None)?;
    let space = Space::new(parameters, simplexes, ties).map_err(in_space)?;
    // Where every parameter has a value around which good ones are expected, these are where a user would begin.
    let around = |parameter: &Parameter| {
        let around = &parameter.prior.as_ref()?.around;
        Some((parameter.name.clone(), of_domain(&parameter.domain, around)))
    };
    let all: Point = space.parameters().iter().filter_map(around).collect();
    let own = Some(all).filter(|all| space.check_point(all).is_ok());
    Ok(Searchable { space, own, notes: Vec::new() })
}

/// The space of jobs: its names are paths in the jobs' own recipe, whose values are trial 0.
///
/// # Errors
/// What is wrong with it, and what the recipe has no value of.
pub fn of_jobs(tune: &Tune, recipe: &serde_json::Value) -> Result<Searchable, PipelineError> {
    let (parameters, simplexes, ties) = parts(tune, &|path| path.to_owned(), &|_| None)?;
    let mut values = BTreeMap::new();
    leaves(recipe, "", &mut values);
    for Parameter { name, domain, .. } in &parameters {
        // Some platforms want numbers as texts.
        if let (Domain::Float { .. } | Domain::Int { .. }, Some(Value::Text(text))) = (domain, values.get(name))
            && let Ok(number) = text.parse::<f64>()
        {
            values.insert(name.clone(), of_domain(domain, &Value::Float(number)));
        }
    }
    let mut notes = Vec::new();
    let parameters = parameters.into_iter().map(|parameter| widened(parameter, &values, &mut notes)).collect();
    let space = Space::new(parameters, simplexes, ties).map_err(in_space)?;
    let own = own_point(&space, &values).map_err(in_space)?;
    Ok(Searchable { space, own: Some(own), notes })
}

/// The single values of a document by their paths, places in a list counted from 0.
fn leaves(json: &serde_json::Value, path: &str, into: &mut BTreeMap<String, Value>) {
    let below = |key: &str| if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") };
    match json {
        serde_json::Value::Object(map) => map.iter().for_each(|(key, value)| leaves(value, &below(key), into)),
        serde_json::Value::Array(items) => {
            items.iter().enumerate().for_each(|(index, value)| leaves(value, &below(&index.to_string()), into));
        }
        single => into.extend(from_json(single).map(|value| (path.to_owned(), value))),
    }
}

/// The paths of recipe fields that an entry names.
fn paths(searched: &Searched) -> Vec<&str> {
    let mut paths: Vec<&str> = match &searched.shares {
        Some(shares) => shares.value.iter().map(String::as_str).collect(),
        None => vec![&searched.field.value],
    };
    paths.extend(searched.when.iter().map(|condition| condition.field.value.as_str()));
    paths.extend([&searched.at_most, &searched.at_least].into_iter().flatten().map(|path| path.value.as_str()));
    paths
}

type Parts = (Vec<Parameter>, Vec<Simplex>, Vec<Tie>);

/// The entries of `tune.space`. `name`: a field's own name; `whole`: whether a field holds whole numbers, where that is known.
fn parts(
    tune: &Tune,
    name: &dyn Fn(&str) -> String,
    whole: &dyn Fn(&str) -> Option<bool>,
) -> Result<Parts, PipelineError> {
    let (mut parameters, mut simplexes, mut ties) = (Vec::new(), Vec::new(), Vec::new());
    let mut problems = Vec::new();
    for searched in &tune.space {
        let field = &searched.field.value;
        let is_whole = || searched.whole.as_ref().map(|whole| whole.value).or_else(|| whole(field));
        if let Some(shares) = &searched.shares {
            let shares = shares.value.iter().map(|path| (name(path), searched.floor.value)).collect();
            match Simplex::new(field, shares, searched.total.value, searched.grain.value) {
                Ok(simplex) => simplexes.push(simplex),
                Err(error) => problems.push(unfit("tune.space", error.to_string(), String::new())),
            }
            continue;
        }
        if let Some(equals) = &searched.equals
            && searched.when.is_empty()
            && let serde_json::Value::String(text) = &equals.value
            && let Ok(value) = Expression::parse(text).map_err(|error| {
                problems.push(unfit(
                    &equals.path,
                    error.to_string(),
                    "write it as in 2 * stages.0.lora_rank; a text that is a value is written in `values`".to_owned(),
                ));
            })
        {
            let value = value.renamed(&|path| field_at(path).map_or_else(|_| path.to_owned(), |open| open.path));
            ties.push(Tie { name: name(field), value, whole: is_whole() == Some(true) });
            continue;
        }
        let domain = match (&searched.values, &searched.equals, &searched.low, &searched.high) {
            (Some(values), ..) => Domain::Choice { values: values.value.iter().filter_map(from_json).collect() },
            (None, Some(only), ..) => Domain::Choice { values: from_json(&only.value).into_iter().collect() },
            (None, None, Some(low), Some(high)) => {
                let step = searched.step.as_ref().map(|step| step.value);
                let written = [Some(low.value), Some(high.value), step].into_iter().flatten().all(|n| n.fract() == 0.0);
                if is_whole().unwrap_or(written && !searched.log.value) {
                    let step = step.unwrap_or(1.0) as i64;
                    let (low, high) = (low.value.ceil() as i64, high.value.floor() as i64);
                    Domain::Int { low, high, log: searched.log.value, step }
                } else {
                    Domain::Float { low: low.value, high: high.value, log: searched.log.value, step }
                }
            }
            // The reader has refused all else.
            _ => continue,
        };
        let when = searched.when.first().map(|Asked { field, values }| Condition {
            name: name(&field.value),
            values: values.value.iter().filter_map(from_json).collect(),
        });
        let prior = searched.around.as_ref().and_then(|around| {
            let source = "the recipe".to_owned();
            Some(Prior { around: from_json(&around.value)?, spread: searched.spread.value, source })
        });
        let bound = |path: &Option<temper_recipe::Valued<String>>| path.as_ref().map(|path| name(&path.value));
        parameters.push(Parameter {
            name: name(field),
            domain,
            when,
            at_most: bound(&searched.at_most),
            at_least: bound(&searched.at_least),
            prior,
        });
    }
    if problems.is_empty() { Ok((parameters, simplexes, ties)) } else { Err(several(problems)) }
}

/// The domain with the recipe's own value in it: a range that does not hold it is widened, and that is said.
fn widened(parameter: Parameter, values: &BTreeMap<String, Value>, notes: &mut Vec<String>) -> Parameter {
    let Some(own) = values.get(&parameter.name).filter(|_| parameter.domain.cells() != Some(1)) else {
        return parameter;
    };
    let domain = match (&parameter.domain, own.number()) {
        (Domain::Choice { values }, _) if !values.iter().any(|value| value.same(own)) => {
            Domain::Choice { values: std::iter::once(own).chain(values).cloned().collect() }
        }
        (Domain::Float { low, high, log, step: None }, Some(number)) if number < *low || number > *high => {
            let low = if *log && number <= 0.0 { *low } else { low.min(number) };
            Domain::Float { low, high: high.max(number), log: *log, step: None }
        }
        (Domain::Int { low, high, log, step: 1 }, Some(number)) if number < *low as f64 || number > *high as f64 => {
            Domain::Int { low: (*low).min(number as i64), high: (*high).max(number as i64), log: *log, step: 1 }
        }
        _ => return parameter,
    };
    notes.push(format!("`{}`: the recipe's own value, {own}, is searched too", parameter.name));
    Parameter { domain, ..parameter }
}

/// The recipe's own values as a point.
fn own_point(space: &Space, values: &BTreeMap<String, Value>) -> Result<Point, SpaceError> {
    let mut point = Point::new();
    for simplex in space.simplexes() {
        let shares: Option<Vec<f64>> = simplex.shares().map(|path| values.get(path)?.number()).collect();
        let parts = shares.and_then(|shares| simplex.parts(&shares));
        point.extend(parts.ok_or_else(|| SpaceError {
            name: simplex.shares().collect::<Vec<_>>().join(", "),
            what: "the recipe's own shares are not among those that are searched".to_owned(),
        })?);
    }
    for parameter in space.parameters() {
        let active = parameter.when.as_ref().is_none_or(|condition| {
            point.get(&condition.name).is_some_and(|value| condition.values.iter().any(|one| one.same(value)))
        });
        if !active || point.contains_key(&parameter.name) {
            continue;
        }
        // What is fixed, is: the recipe may say it in another way, or only where it is active.
        if parameter.domain.cells() == Some(1) {
            point.insert(parameter.name.clone(), parameter.domain.at(0.0));
            continue;
        }
        let own = values.get(&parameter.name).ok_or_else(|| SpaceError {
            name: parameter.name.clone(),
            what: "the recipe has no value of its own to begin with: give it one".to_owned(),
        })?;
        if parameter.domain.coordinate(own).is_none() {
            return Err(SpaceError {
                name: parameter.name.clone(),
                what: format!("the recipe's own value, {own}, is not on a step of what is searched"),
            });
        }
        point.insert(parameter.name.clone(), of_domain(&parameter.domain, own));
    }
    // As the recipe says it, whatever another field bounds.
    Ok(point)
}

/// A value that a domain holds, exactly as it was given: a coordinate there and back may differ in the last bit.
fn of_domain(domain: &Domain, value: &Value) -> Value {
    match (domain, value.number()) {
        (Domain::Float { .. }, Some(number)) => Value::Float(number),
        (Domain::Int { .. }, Some(number)) => Value::Int(number as i64),
        _ => value.clone(),
    }
}

/// A space from the stages, with priors from what is published.
fn made(recipe: &Recipe, values: &BTreeMap<String, Value>) -> Result<Searchable, PipelineError> {
    let (mut parameters, mut ties, mut notes) = (Vec::new(), Vec::new(), Vec::new());
    let mut open = |parameter: Parameter, source: &str, notes: &mut Vec<String>| {
        let parameter = widened(parameter, values, notes);
        notes.push(format!("searched: {} ({source})", described(&parameter)));
        parameters.push(parameter);
    };
    for (index, stage) in recipe.stages.iter().enumerate() {
        let path = |field: &str| format!("stages.{index}.{field}");
        let lora = stage.mode.value != Mode::Full;
        let around = match (stage.kind.value, lora) {
            (StageKind::Dpo, true) => 1e-5,
            (StageKind::Rft, true) => 1e-5,
            (StageKind::Dpo | StageKind::Rft, false) => 1e-6,
            (_, true) => 2e-4,
            (_, false) => 2e-5,
        };
        let source = if lora { LORA_RATE } else { FULL_RATE };
        let prior = |around: Value, source: &str| Some(Prior { around, spread: 0.25, source: source.to_owned() });
        // `5e-7`, not `5.000000000000001e-7`: the bounds are shown and kept as they are written.
        let written = |bound: f64| format!("{bound:.3e}").parse().unwrap_or(bound);
        let range = Domain::log_float(written(around / 20.0), written(around * 50.0));
        let rate = Parameter::new(path("learning_rate"), range);
        open(Parameter { prior: prior(around.into(), source), ..rate }, source, &mut notes);
        if lora && stage.lora.is_some() && stage.adapter.is_none() {
            let (rank, alpha) = (path("lora_rank"), path("lora_alpha"));
            let ratio = match (values.get(&rank).and_then(Value::number), values.get(&alpha).and_then(Value::number)) {
                (Some(rank), Some(alpha)) => alpha / rank,
                _ => 2.0,
            };
            let rule = format!("{ratio:?} * {rank}");
            if let Ok(value) = Expression::parse(&rule) {
                // So that rank and rate are not two names of one knob.
                notes.push(format!("{alpha} = {rule}, as in the recipe"));
                ties.push(Tie { name: alpha, value, whole: false });
            }
            let choice = Domain::choice([4i64, 8, 16, 32, 64]);
            open(Parameter::new(rank, choice), RANK, &mut notes);
        }
        if stage.mix.as_ref().is_some_and(|mix| mix.domain.value < 100.0) {
            let domain = Parameter::new(path("mix.domain"), Domain::float(50.0, 99.0));
            open(Parameter { prior: prior(90.0.into(), REPLAY), ..domain }, REPLAY, &mut notes);
        }
        let (steps, ratio) = (path("warmup_steps"), path("warmup_ratio"));
        if values.contains_key(&ratio) {
            open(Parameter::new(ratio, Domain::float(0.0, 0.2)), WARMUP, &mut notes);
        } else if let (true, Some(length)) =
            (values.contains_key(&steps), values.get(&path("max_steps")).and_then(Value::number))
        {
            open(Parameter::new(steps, Domain::int(0, (length / 5.0) as i64)), WARMUP, &mut notes);
        }
    }
    let space = Space::new(parameters, Vec::new(), ties).map_err(in_space)?;
    let own = own_point(&space, values).map_err(in_space)?;
    Ok(Searchable { space, own: Some(own), notes })
}

/// `stages.0.learning_rate from 1e-5 to 1e-2, logarithmic`.
pub fn described(parameter: &Parameter) -> String {
    let range = |low: &dyn std::fmt::Debug, high: &dyn std::fmt::Debug, log: bool, step: Option<String>| {
        let scale = if log { ", logarithmic" } else { "" };
        let step = step.map_or(String::new(), |step| format!(", in steps of {step}"));
        format!("from {low:?} to {high:?}{scale}{step}")
    };
    let domain = match &parameter.domain {
        Domain::Float { low, high, log, step } => range(low, high, *log, step.map(|step| format!("{step:?}"))),
        Domain::Int { low, high, log, step } => range(low, high, *log, (*step > 1).then(|| step.to_string())),
        Domain::Choice { values } => {
            format!("one of {}", values.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))
        }
    };
    let when = parameter.when.as_ref().map_or(String::new(), |condition| {
        let values: Vec<String> = condition.values.iter().map(ToString::to_string).collect();
        format!(", while {} is {}", condition.name, values.join(" or "))
    });
    format!("{} {domain}{when}", parameter.name)
}

/// Digits of a float that is searched. A decision: finer steps change nothing that is noticed, and people read the recipe.
const DIGITS: i32 = 4;

/// The point with its floats as people would write them, in four digits; of a linear range, four of its width.
pub fn rounded(space: &Space, point: Point) -> Point {
    let round = |(name, value): (String, Value)| {
        let domain = space.parameter(&name).map(|parameter| &parameter.domain);
        let value = match (domain, value) {
            (Some(Domain::Float { low, high, log, step: None }), Value::Float(number)) => {
                let size = if *log { number.abs() } else { high - low };
                let decimals = (DIGITS - 1 - size.log10().floor() as i32).max(0) as usize;
                let short = format!("{number:.decimals$}").parse().unwrap_or(number);
                Value::Float(if (*low..=*high).contains(&short) { short } else { number })
            }
            (_, value) => value,
        };
        (name, value)
    };
    let shares = |name: &str| is_part(space, name);
    point.into_iter().map(|entry| if shares(&entry.0) { entry } else { round(entry) }).collect()
}

/// The `--set` arguments of a trial at `point`: every field that it sets, and every searched one that it has not, which is taken
/// out of the recipe.
///
/// # Errors
/// Where what follows from others is no number.
pub fn sets(space: &Space, point: &Point) -> Result<Vec<String>, SpaceError> {
    let fields = space.fields(point)?;
    let names = space.parameters().iter().map(|parameter| &parameter.name).filter(|name| !is_part(space, name));
    let names = names.chain(space.ties().iter().map(|tie| &tie.name));
    let absent = names.filter(|name| !fields.contains_key(*name)).map(|name| format!("{name}="));
    // JSON is YAML: a text stays one.
    let given = fields.iter().map(|(name, value)| {
        let json = serde_json::to_string(value).unwrap_or_else(|_| value.to_string());
        format!("{name}={json}")
    });
    Ok(absent.chain(given).collect())
}

/// Whether a parameter only draws the shares of a simplex.
fn is_part(space: &Space, name: &str) -> bool {
    space.simplexes().iter().any(|simplex| simplex.is_part(name))
}

/// A scalar of JSON.
fn from_json(value: &serde_json::Value) -> Option<Value> {
    serde_json::from_value(value.clone()).ok()
}

fn in_space(error: SpaceError) -> PipelineError {
    unfit("tune.space", error.to_string(), "docs/tune.md shows what may be written".to_owned())
}

fn unfit(path: &str, problem: String, hint: String) -> PipelineError {
    PipelineError::Unfit { path: path.to_owned(), problem, hint }
}

fn several(mut problems: Vec<PipelineError>) -> PipelineError {
    if problems.len() == 1 { problems.remove(0) } else { PipelineError::Several(problems) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may fail")]

    use super::*;

    #[test]
    fn floats_are_rounded_as_people_write_them_and_stay_within_their_range() {
        let space = Space::new(
            vec![
                Parameter::new("log", Domain::log_float(1e-5, 0.012_345)),
                Parameter::new("linear", Domain::float(0.0, 100.0)),
                Parameter::new("narrow", Domain::float(1.000_01, 1.000_02)),
            ],
            vec![],
            vec![],
        )
        .unwrap();
        let point = |log: f64, linear: f64, narrow: f64| {
            Point::from([
                ("log".into(), log.into()),
                ("linear".into(), linear.into()),
                ("narrow".into(), narrow.into()),
            ])
        };
        assert_eq!(
            rounded(&space, point(0.000_123_456, 33.333_33, 1.000_015_5)),
            point(0.000_123_5, 33.3, 1.000_015_5)
        );
        // What rounding would put outside stays as it is.
        assert_eq!(rounded(&space, point(0.012_345, 99.999, 1.000_01)), point(0.012_345, 100.0, 1.000_01));
    }
}
