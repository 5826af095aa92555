//! What programs and services say of a sample, read strictly: a finite number, `null`, or a failure of a stated kind.

use serde_json::{Map, Value};

use crate::scored::{Failure, FailureKind, Outcome, Part};

/// What a score may stand under in a map.
const SCORE: [&str; 2] = ["score", "aggregate_reward_score"];

/// A failure as what a reward says of a sample.
pub(crate) fn failed(kind: FailureKind, message: impl Into<String>) -> Part {
    Part { outcome: Outcome::Failed(Failure { kind, message: message.into() }), details: Map::new() }
}

/// A score as what a reward says of a sample.
pub(crate) fn scored(score: f64) -> Part {
    Part { outcome: Outcome::Score(score), details: Map::new() }
}

/// Reads a score: a number, a truth value (1 or 0), `null` for an abstention, or a map with one of them as `score`,
/// whose other numbers are details. A map with `error` is a failure that was told.
pub(crate) fn part(value: &Value) -> Part {
    match value {
        Value::Null => Part { outcome: Outcome::Abstained, details: Map::new() },
        Value::Bool(holds) => scored(f64::from(u8::from(*holds))),
        Value::Number(number) => match number.as_f64() {
            Some(score) if score.is_finite() => scored(score),
            _ => failed(FailureKind::NotFinite, format!("the score is {number}")),
        },
        Value::String(text) if matches!(text.as_str(), "NaN" | "Infinity" | "-Infinity") => {
            failed(FailureKind::NotFinite, format!("the score is {text}"))
        }
        Value::String(text) => failed(FailureKind::NotANumber, format!("expected a score, got the text `{text}`")),
        Value::Array(_) => failed(FailureKind::NotANumber, "expected a score, got a list"),
        Value::Object(map) => map_part(map),
    }
}

fn map_part(map: &Map<String, Value>) -> Part {
    if let Some(error) = map.get("error").filter(|error| !error.is_null()) {
        let message = error.as_str().map_or_else(|| error.to_string(), str::to_owned);
        return failed(FailureKind::Error, message);
    }
    let Some(score) = SCORE.iter().find_map(|name| map.get(*name)) else {
        let keys = map.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
        return failed(FailureKind::BadReply, format!("a map without `score`; it has: {keys}"));
    };
    let mut part = if score.is_object() { failed(FailureKind::NotANumber, "`score` is a map") } else { part(score) };
    for (key, value) in map {
        match value {
            Value::Number(_) if !SCORE.contains(&key.as_str()) => {
                part.details.insert(key.clone(), value.clone());
            }
            Value::Object(parts) if key == "parts" => {
                part.details
                    .extend(parts.iter().filter(|(_, value)| value.is_number()).map(|(k, v)| (k.clone(), v.clone())));
            }
            Value::Array(metrics) if key == "metrics_list" => {
                for metric in metrics {
                    if let (Some(name), Some(value @ Value::Number(_))) = (metric["name"].as_str(), metric.get("value"))
                    {
                        part.details.insert(name.to_owned(), value.clone());
                    }
                }
            }
            _ => {}
        }
    }
    part
}

/// Matches scores to samples by `id`. An id that was not asked for, or one twice, breaks the contract, since then
/// nobody knows whose the scores are; the ids that are missing fail.
pub(crate) fn by_id(values: &[Value], ids: &[&str]) -> Result<Vec<Part>, String> {
    let mut parts: Vec<Option<Part>> = vec![None; ids.len()];
    for value in values {
        let id = match &value["id"] {
            Value::String(id) => id.clone(),
            // Handlers that make ids of their own write numbers.
            Value::Number(id) => id.to_string(),
            _ => return Err(format!("a score without `id`: {value}")),
        };
        let Some(place) = ids.iter().position(|known| *known == id) else {
            return Err(format!("a score for `{id}`, which was not asked for"));
        };
        if parts[place].replace(part(value)).is_some() {
            return Err(format!("two scores for `{id}`"));
        }
    }
    let missing = || {
        failed(
            FailureKind::Missing,
            format!("{} scores came back for {} samples, none for this one", values.len(), ids.len()),
        )
    };
    Ok(parts.into_iter().map(|part| part.unwrap_or_else(missing)).collect())
}

/// Scores that stand in the order of the samples: as many as there are of them.
pub(crate) fn by_place(values: &[Value], samples: usize) -> Result<Vec<Part>, String> {
    if values.len() != samples {
        return Err(format!("expected {samples} scores for {samples} completions, got {}", values.len()));
    }
    Ok(values.iter().map(part).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn kind(value: Value) -> Option<FailureKind> {
        match part(&value).outcome {
            Outcome::Failed(failure) => Some(failure.kind),
            _ => None,
        }
    }

    #[test]
    fn scores_are_finite_numbers_and_nothing_else() {
        assert_eq!(part(&json!(0.5)).outcome, Outcome::Score(0.5));
        assert_eq!(part(&json!(-3)).outcome, Outcome::Score(-3.0));
        assert_eq!(part(&json!(true)).outcome, Outcome::Score(1.0));
        assert_eq!(part(&json!(null)).outcome, Outcome::Abstained);
        assert_eq!(part(&json!({"score": null})).outcome, Outcome::Abstained);
        for (value, expected) in [
            (json!("NaN"), FailureKind::NotFinite),
            (json!("-Infinity"), FailureKind::NotFinite),
            (json!({"score": "Infinity"}), FailureKind::NotFinite),
            (json!("0.5"), FailureKind::NotANumber),
            (json!([0.5]), FailureKind::NotANumber),
            (json!({"score": {"score": 1}}), FailureKind::NotANumber),
            (json!({"value": 1}), FailureKind::BadReply),
            (json!({"error": "no"}), FailureKind::Error),
        ] {
            assert_eq!(kind(value.clone()), Some(expected), "{value}");
        }
    }

    #[test]
    fn details_are_the_other_numbers() {
        let told = part(&json!({
            "id": "a", "aggregate_reward_score": 0.85, "note": "text", "length": 3,
            "metrics_list": [{"name": "accuracy", "value": 0.9, "type": "Reward"}, {"name": "odd"}],
        }));
        assert_eq!(told.outcome, Outcome::Score(0.85));
        assert_eq!(Value::from(told.details), json!({"length": 3, "accuracy": 0.9}));
    }

    /// huggingface/trl#6533: one value for n completions was given to all of them.
    #[test]
    fn trl_6533_one_value_for_n_completions_is_an_error() {
        let error = by_place(&[json!(1.0)], 3).unwrap_err();
        assert_eq!(error, "expected 3 scores for 3 completions, got 1");
        assert!(by_place(&[json!(1.0), json!(2.0)], 1).is_err());
        assert!(by_place(&[], 1).is_err());
    }

    #[test]
    fn ids_are_matched_exactly() {
        let ids = ["a", "7"];
        let scores = |values: Value| by_id(values.as_array().unwrap(), &ids);
        let parts = scores(json!([{"id": 7, "score": 1}, {"id": "a", "score": 0}])).unwrap();
        assert_eq!(parts[0].outcome.score(), Some(0.0));
        assert_eq!(parts[1].outcome.score(), Some(1.0));
        let parts = scores(json!([{"id": "a", "score": 1}])).unwrap();
        assert!(matches!(&parts[1].outcome, Outcome::Failed(Failure { kind: FailureKind::Missing, .. })));
        for (values, why) in [
            (json!([{"id": "b", "score": 1}]), "not asked for"),
            (json!([{"id": "a", "score": 1}, {"id": "a", "score": 1}]), "two scores"),
            (json!([{"score": 1}]), "without `id`"),
        ] {
            assert!(scores(values.clone()).unwrap_err().contains(why), "{values}");
        }
    }
}
