//! JSON in which no field is given twice, however deep it lies, and of no more values than a row may have. `serde_json` takes the
//! last of two fields of one name, so that the first would be lost and nobody told.

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
    let left = Cell::new(VALUES);
    read(text, |parser| parser.deserialize_map(Fields { left: &left }))
}

/// Reads a value that lies in a text of a row.
///
/// # Errors
/// As [`object`].
pub fn value(text: &str) -> Result<Value, String> {
    let left = Cell::new(VALUES);
    read(text, |parser| Any { left: &left }.deserialize(parser))
}

type Parser<'t> = serde_json::Deserializer<serde_json::de::StrRead<'t>>;

fn read<'t, T>(text: &'t str, one: impl FnOnce(&mut Parser<'t>) -> serde_json::Result<T>) -> Result<T, String> {
    let mut parser = serde_json::Deserializer::from_str(text);
    one(&mut parser).and_then(|one| parser.end().map(|()| one)).map_err(|error| without_line(&error))
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
struct Fields<'l> {
    /// Values that the row may still have.
    left: &'l Cell<usize>,
}

impl<'de> Visitor<'de> for Fields<'_> {
    type Value = Map<String, Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut fields = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let value = map.next_value_seed(Any { left: self.left })?;
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
struct Any<'l> {
    left: &'l Cell<usize>,
}

impl<'de> DeserializeSeed<'de> for Any<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        let left = self.left.get().checked_sub(1).ok_or_else(|| D::Error::custom(too_many_values()))?;
        self.left.set(left);
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
        Fields { left: self.left }.visit_map(map).map(Value::Object)
    }
}
