//! JSON in which no field is given twice, however deep it lies, no number loses digits, and of no more values than a row may have.
//! `serde_json` takes the last of two fields of one name, and makes a float of a whole number of more than 64 bits; nobody would be
//! told what was lost.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Values of a row (texts, numbers, lists, objects), each of which takes some 72 bytes in memory.
pub const VALUES: usize = 1 << 20;

/// What is said of a row that has more than [`VALUES`].
pub fn too_many_values() -> String {
    format!(
        "more than {VALUES} values (texts, numbers, lists, objects), expected a row of a conversation or a document"
    )
}

/// Reads an object, which is a row.
///
/// # Errors
/// What is wrong, with its column.
pub fn object(bytes: &[u8]) -> Result<Map<String, Value>, String> {
    let text =
        std::str::from_utf8(bytes).map_err(|e| format!("not UTF-8 from byte {} of the row", e.valid_up_to() + 1))?;
    read(text, |parser, met| parser.deserialize_map(Fields { met }))
}

/// Reads a value that lies in a text of a row.
///
/// # Errors
/// As [`object`].
pub fn value(text: &str) -> Result<Value, String> {
    read(text, |parser, met| Any { met }.deserialize(parser))
}

/// The first whole number of a JSON text that has more than 64 bits: the parser makes a float of it, which keeps its first digits.
fn beyond_64_bits(text: &str) -> Option<&str> {
    let (mut rest, mut quoted) = (text, false);
    while let Some(at) = rest.find(['"', '\\', '-', '0', '1', '2', '3', '4', '5', '6', '7', '8', '9']) {
        let from = &rest[at..];
        let of_number = |c: char| matches!(c, '0'..='9' | '.' | 'e' | 'E' | '+' | '-');
        let end = match from.as_bytes()[0] {
            b'\\' => 2,
            b'"' => {
                quoted = !quoted;
                1
            }
            _ if quoted => 1,
            _ => from.find(|c| !of_number(c)).unwrap_or(from.len()),
        };
        let number = &from[..end];
        let whole = number.len() > 1 && number.trim_start_matches('-').bytes().all(|byte| byte.is_ascii_digit());
        if whole && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
            return Some(number);
        }
        rest = &from[end..];
    }
    None
}

type Parser<'t> = serde_json::Deserializer<serde_json::de::StrRead<'t>>;

fn read<'t, T>(text: &'t str, one: impl FnOnce(&mut Parser<'t>, &Met) -> serde_json::Result<T>) -> Result<T, String> {
    let met = Met { left: Cell::new(VALUES), large: Cell::new(false) };
    let mut parser = serde_json::Deserializer::from_str(text);
    let read =
        one(&mut parser, &met).and_then(|one| parser.end().map(|()| one)).map_err(|error| without_line(&error))?;
    match met.large.get().then(|| beyond_64_bits(text)).flatten() {
        Some(number) => Err(format!("{number} has more than 64 bits and would lose digits\nhint: write it as a text")),
        None => Ok(read),
    }
}

/// What was met on the way.
struct Met {
    /// Values that the row may still have.
    left: Cell<usize>,
    /// Whether a float may be a whole number that was too large.
    large: Cell<bool>,
}

/// The parser counts lines from the row's own start: its "line 1" would mislead, its column is right.
fn without_line(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let place = format!(" at line {} column {}", error.line(), error.column());
    match text.strip_suffix(&place) {
        Some(message) if error.line() <= 1 => format!("column {}: {message}", error.column()),
        Some(message) => format!("line {} of the row, column {}: {message}", error.line(), error.column()),
        None => text,
    }
}

/// An object.
#[derive(Clone, Copy)]
struct Fields<'m> {
    met: &'m Met,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Any { met: self.met })?;
            if fields.contains_key(&name) {
                return Err(A::Error::custom(format!("field `{name}` is given twice")));
            }
            fields.insert(name, value);
        }
        Ok(fields)
    }
}

/// A value of any kind.
#[derive(Clone, Copy)]
struct Any<'m> {
    met: &'m Met,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.met.left.get().checked_sub(1).ok_or_else(|| D::Error::custom(too_many_values()))?;
        self.met.left.set(left);
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Any<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        self.met.large.set(self.met.large.get() || value.abs() >= i64::MAX as f64);
        Ok(value.into())
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_string<E>(self, text: String) -> Result<Value, E> {
        Ok(text.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(list.into())
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Value, A::Error> {
        Fields { met: self.met }.visit_map(map).map(Value::Object)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_kept_or_refused() {
        for text in [
            r#"[18446744073709551615, -9223372036854775808, 6.02e23, 1e30, 12345678901234567890.5, -0.1]"#,
            r#"{"12345678901234567890123": "\"12345678901234567890123", "n": 1e19}"#,
        ] {
            assert!(value(text).is_ok(), "{text}");
        }
        for (text, number) in [
            (r#"{"a": "\\", "n": [1, 18446744073709551616]}"#, "18446744073709551616"),
            (r#"{"n": -9223372036854775809}"#, "-9223372036854775809"),
        ] {
            let problem = format!("{number} has more than 64 bits and would lose digits");
            assert!(value(text).unwrap_err().starts_with(&problem), "{text}");
        }
    }
}
