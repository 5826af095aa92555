//! JSON that does not lose NaN.

use serde::Serialize;

use crate::error::RunError;
use crate::nonfinite::Named;

/// `value` as one line of JSON, without a line break. JSON has no NaN or infinity, and `serde_json` writes `null` for
/// them, which a reader takes for "not measured". Here they are the strings `"NaN"`, `"Infinity"` and `"-Infinity"`, the
/// names that Python's `float()` and JavaScript's `Number()` read back. `null` stands only for a `None`.
///
/// A `serde_json::Value` inside `value` has lost its NaN before it comes here; keep numbers in their own types.
///
/// # Errors
/// [`RunError::Json`] for what JSON cannot hold, such as a map with keys that are not text.
pub fn to_json<T: Serialize + ?Sized>(value: &T) -> Result<String, RunError> {
    serde_json::to_string(&Named(value)).map_err(|source| RunError::Json { what: "a record".into(), source })
}

/// As [`to_json`], indented, with a line break at the end: for files that people read.
///
/// # Errors
/// As [`to_json`].
pub fn to_json_pretty<T: Serialize + ?Sized>(value: &T) -> Result<String, RunError> {
    let mut text = serde_json::to_string_pretty(&Named(value))
        .map_err(|source| RunError::Json { what: "a file".into(), source })?;
    text.push('\n');
    Ok(text)
}

/// Reads JSON as Python's `json` writes it: `NaN`, `Infinity` and `-Infinity` stand bare in it, which JSON does not know. They become
/// the texts `"NaN"`, `"Infinity"`, `"-Infinity"`, as [`to_json`] writes them. None where it is no JSON even so.
pub fn from_python_json(text: &str) -> Option<serde_json::Value> {
    if let Ok(value) = serde_json::from_str(text) {
        return Some(value);
    }
    let mut quoted = String::with_capacity(text.len() + 16);
    let (mut rest, mut within) = (text, false);
    while let Some(character) = rest.chars().next() {
        let word = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !within && rest.starts_with(word));
        if let Some(word) = word {
            quoted.extend(["\"", word, "\""]);
            rest = &rest[word.len()..];
            continue;
        }
        let escaped = if within && character == '\\' { rest[1..].chars().next().map_or(0, char::len_utf8) } else { 0 };
        within ^= character == '"';
        let (taken, left) = rest.split_at(character.len_utf8() + escaped);
        quoted.push_str(taken);
        rest = left;
    }
    serde_json::from_str(&quoted).ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Serialize)]
    enum Event {
        Started,
        Loss(f32),
        Pair(f32, f64),
        Step { loss: f64, lr: Option<f32> },
    }

    #[derive(Serialize)]
    struct Newtype(f32);

    #[derive(Serialize)]
    struct Record {
        loss: f32,
        missing: Option<f32>,
        nested: BTreeMap<&'static str, Vec<f64>>,
        tuple: (f32, &'static str, u64),
        newtype: Newtype,
        events: Vec<Event>,
    }

    #[test]
    fn nan_and_infinity_keep_their_names_at_every_depth() {
        let record = Record {
            loss: f32::NAN,
            missing: None,
            nested: BTreeMap::from([("a", vec![f64::INFINITY, 0.5])]),
            tuple: (f32::NEG_INFINITY, "text", u64::MAX),
            newtype: Newtype(f32::NAN),
            events: vec![
                Event::Started,
                Event::Loss(f32::NAN),
                Event::Pair(1.5, f64::NAN),
                Event::Step { loss: f64::NAN, lr: Some(f32::INFINITY) },
            ],
        };
        assert_eq!(
            to_json(&record).unwrap(),
            r#"{"loss":"NaN","missing":null,"nested":{"a":["Infinity",0.5]},"tuple":["-Infinity","text",18446744073709551615],"newtype":"NaN","events":["Started",{"Loss":"NaN"},{"Pair":[1.5,"NaN"]},{"Step":{"loss":"NaN","lr":"Infinity"}}]}"#
        );
    }

    #[test]
    fn finite_values_are_written_as_serde_json_writes_them() {
        let value = serde_json::json!({"a": [1, -2, 0.1, 1e-7, true, null, "ü\n"], "b": {"c": {}}});
        assert_eq!(to_json(&value).unwrap(), serde_json::to_string(&value).unwrap());
        assert_eq!(to_json_pretty(&value).unwrap(), serde_json::to_string_pretty(&value).unwrap() + "\n");
        assert_eq!(to_json(&0.1f32).unwrap(), "0.1");
    }

    #[test]
    fn a_map_with_keys_that_are_not_text_is_refused() {
        let map = BTreeMap::from([((1, 2), 3)]);
        assert!(matches!(to_json(&map), Err(RunError::Json { .. })));
    }

    #[test]
    fn bare_numbers_of_python_are_read_and_texts_are_left_alone() {
        let read = |text: &str| from_python_json(text).map(|value| value.to_string());
        assert_eq!(read(r#"{"a": NaN, "b": [-Infinity, 1]}"#).unwrap(), r#"{"a":"NaN","b":["-Infinity",1]}"#);
        assert_eq!(read(r#"{"x \" NaN": Infinity}"#).unwrap(), r#"{"x \" NaN":"Infinity"}"#);
        assert_eq!(read("NaNa"), None);
    }
}
