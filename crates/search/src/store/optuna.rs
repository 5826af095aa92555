//! How Optuna writes things down, both ways.

use serde_json::{Map, Value as Json, json};
use temper_run::from_python_json;

use super::database::Cell;
use crate::space::{Domain, Value};

/// Above this a float does not hold every whole number, and Optuna keeps parameters as floats.
pub(super) const EXACT: i64 = 1 << 53;

/// A domain as Optuna writes it beside a value.
pub(super) fn distribution(domain: &Domain) -> String {
    let (name, attributes) = match domain {
        Domain::Float { low, high, log, step } => {
            ("FloatDistribution", json!({"step": step, "low": low, "high": high, "log": log}))
        }
        Domain::Int { low, high, log, step } => {
            ("IntDistribution", json!({"log": log, "step": step, "low": low, "high": high}))
        }
        Domain::Choice { values } => ("CategoricalDistribution", json!({"choices": values})),
    };
    json!({"name": name, "attributes": attributes}).to_string()
}

/// Reads what Optuna wrote; its older names too. None where it is nothing that a recipe could hold.
pub(super) fn domain(text: &str) -> Option<Domain> {
    let json = from_python_json(text)?;
    let (name, attributes) = (json.get("name")?.as_str()?, json.get("attributes")?.as_object()?);
    let float = |key: &str| attributes.get(key)?.as_f64();
    let int = |key: &str| attributes.get(key).and_then(|value| value.as_i64().or_else(|| Some(value.as_f64()? as i64)));
    let flag = |key: &str| attributes.get(key).and_then(Json::as_bool).unwrap_or(false);
    Some(match name {
        "FloatDistribution" => {
            Domain::Float { low: float("low")?, high: float("high")?, log: flag("log"), step: float("step") }
        }
        "UniformDistribution" => Domain::float(float("low")?, float("high")?),
        "LogUniformDistribution" => Domain::log_float(float("low")?, float("high")?),
        "DiscreteUniformDistribution" => {
            Domain::Float { low: float("low")?, high: float("high")?, log: false, step: Some(float("q")?) }
        }
        "IntDistribution" | "IntUniformDistribution" => {
            Domain::Int { low: int("low")?, high: int("high")?, log: flag("log"), step: int("step").unwrap_or(1) }
        }
        "IntLogUniformDistribution" => Domain::Int { low: int("low")?, high: int("high")?, log: true, step: 1 },
        "CategoricalDistribution" => {
            let choices = attributes.get("choices")?.as_array()?;
            Domain::Choice { values: choices.iter().map(value).collect::<Option<_>>()? }
        }
        _ => return None,
    })
}

/// A value as the number that Optuna keeps: itself, or the index of a choice.
pub(super) fn number(domain: &Domain, value: &Value) -> Option<f64> {
    match domain {
        Domain::Choice { .. } => domain.coordinate(value),
        Domain::Float { .. } | Domain::Int { .. } => value.number(),
    }
}

/// The value that Optuna keeps as `number`.
pub(super) fn value_of(domain: &Domain, number: f64) -> Option<Value> {
    match domain {
        Domain::Float { .. } => Some(Value::Float(number)),
        Domain::Int { .. } => Some(Value::Int(number as i64)),
        Domain::Choice { values } => values.get(number as usize).cloned(),
    }
}

/// A scalar of JSON.
pub(super) fn value(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => match number.as_i64() {
            Some(value) => Value::Int(value),
            None => Value::Float(number.as_f64()?),
        },
        Json::String(text) => Value::Text(text.clone()),
        Json::Array(_) | Json::Object(_) => return None,
    })
}

/// A number with the names of what is none.
pub(super) fn float(json: &Json) -> Option<f64> {
    match json {
        Json::String(text) => named(text),
        json => json.as_f64(),
    }
}

fn named(text: &str) -> Option<f64> {
    Some(match text {
        "NaN" => f64::NAN,
        "Infinity" => f64::INFINITY,
        "-Infinity" => f64::NEG_INFINITY,
        _ => return None,
    })
}

/// A value as two columns: the number, and what it is where no column holds it.
pub(super) fn columns(value: f64) -> [Cell; 2] {
    let kind = match value {
        f64::INFINITY => "INF_POS",
        f64::NEG_INFINITY => "INF_NEG",
        value if value.is_nan() => "NAN",
        value => return [value.into(), "FINITE".into()],
    };
    [Cell::Null, kind.into()]
}

/// The value of two columns.
pub(super) fn from_columns(value: Option<f64>, kind: &str) -> f64 {
    match kind {
        "INF_POS" => f64::INFINITY,
        "INF_NEG" => f64::NEG_INFINITY,
        "NAN" => f64::NAN,
        _ => value.unwrap_or(f64::NAN),
    }
}

/// A constraint as the JSON of Python. Optuna counts NaN as kept, which here is broken without bound; so that is what it is told.
pub(super) fn constraint(value: f64) -> String {
    match value {
        f64::NEG_INFINITY => "-Infinity".to_owned(),
        value if value.is_finite() => Json::from(value).to_string(),
        _ => "Infinity".to_owned(),
    }
}

/// Named values as one object.
pub(super) fn object<'a>(values: impl IntoIterator<Item = (&'a String, &'a Value)>) -> String {
    let entries = values.into_iter().map(|(name, value)| (name.clone(), json!(value)));
    Json::Object(entries.collect::<Map<_, _>>()).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distributions_are_read_as_they_were_written() {
        let domains = [
            Domain::log_float(1e-6, 1e-2),
            Domain::Float { low: 0.0, high: 0.9, log: false, step: Some(0.3) },
            Domain::Int { low: 1, high: 9, log: false, step: 2 },
            Domain::Choice {
                values: vec![Value::Null, Value::Bool(true), Value::Text("x".into()), Value::Int(1), Value::Float(2.5)],
            },
        ];
        for one in domains {
            assert_eq!(domain(&distribution(&one)), Some(one));
        }
    }

    #[test]
    fn distributions_of_older_optunas_are_read() {
        let read = |text: &str| domain(text).unwrap();
        let stepped = r#"{"name": "DiscreteUniformDistribution", "attributes": {"low": 0.0, "high": 1.0, "q": 0.5}}"#;
        assert_eq!(read(stepped), Domain::Float { low: 0.0, high: 1.0, log: false, step: Some(0.5) });
        let log = r#"{"name": "IntLogUniformDistribution", "attributes": {"low": 1, "high": 64, "step": 1}}"#;
        assert_eq!(read(log), Domain::Int { low: 1, high: 64, log: true, step: 1 });
        assert_eq!(domain(r#"{"name": "CategoricalDistribution", "attributes": {"choices": [[1, 2]]}}"#), None);
        assert_eq!(domain("no json"), None);
    }

    // optuna#3129: choices of mixed types.
    #[test]
    fn optuna_3129_a_choice_of_mixed_types_is_kept_by_its_index() {
        let values = [Value::Null, Value::Bool(true), Value::Int(1), Value::Float(2.5), Value::Text("1".into())];
        let choice = Domain::Choice { values: values.to_vec() };
        for (index, value) in values.iter().enumerate() {
            assert_eq!(number(&choice, value), Some(index as f64));
            assert_eq!(value_of(&choice, index as f64).as_ref(), Some(value));
        }
        assert_eq!(value_of(&choice, 9.0), None);
    }

    #[test]
    fn what_is_no_number_keeps_what_it_is() {
        for value in [f64::INFINITY, f64::NEG_INFINITY, f64::NAN, 1.5] {
            let [number, kind] = columns(value);
            let number = if let Cell::Real(number) = number { Some(number) } else { None };
            let Cell::Text(kind) = kind else { panic!() };
            assert_eq!(from_columns(number, &kind).to_bits(), value.to_bits());
        }
        assert_eq!(constraint(f64::NAN), "Infinity");
        assert_eq!(constraint(-0.5), "-0.5");
        assert_eq!(float(&from_python_json("NaN").unwrap()).unwrap().to_bits(), f64::NAN.to_bits());
    }
}
