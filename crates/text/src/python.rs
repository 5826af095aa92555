//! What chat templates take from Python: how values are printed, `json.dumps`, and the methods of strings.
//!
//! Published templates were written against Jinja2, which runs on Python, and a difference in one space is a difference in
//! tokens. Of the string methods those are here where Python and `minijinja_contrib::pycompat` part, or that it lacks.

use minijinja::value::{Kwargs, Rest, StringInput, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State, Value};

/// Python's `str.isspace` of one character: Unicode's white space, and the four separators U+001C to U+001F.
pub(crate) fn is_space(c: char) -> bool {
    c.is_whitespace() || matches!(c, '\u{1c}'..='\u{1f}')
}

/// Python's `str.strip()`.
pub(crate) fn strip(text: &str) -> &str {
    text.trim_matches(is_space)
}

fn error(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message)
}

/// Methods on strings, lists and dictionaries, as Python has them.
pub(crate) fn method(state: &mut State, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let Some(text) = value.as_str() else {
        return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
    };
    Ok(match name {
        "strip" | "lstrip" | "rstrip" => {
            let (chars,): (Option<&str>,) = from_args(args)?;
            let drop = |c: char| chars.map_or_else(|| is_space(c), |chars| chars.contains(c));
            let text = if name == "rstrip" { text } else { text.trim_start_matches(drop) };
            Value::from(if name == "lstrip" { text } else { text.trim_end_matches(drop) })
        }
        "split" | "rsplit" => {
            let (positional, options): (Rest<Value>, Kwargs) = from_args(args)?;
            let given = |index: usize, key: &str| match positional.get(index) {
                Some(value) => Ok(value.clone()),
                None => options.get::<Option<Value>>(key).map(|value| value.unwrap_or(Value::from(()))),
            };
            let (sep, max) = (given(0, "sep")?, given(1, "maxsplit")?);
            options.assert_all_used()?;
            let max = if max.is_none() { None } else { usize::try_from(i64::try_from(max)?).ok() };
            split(text, sep.as_str(), max, name == "rsplit")?.into_iter().map(Value::from).collect()
        }
        "partition" | "rpartition" => {
            let (sep,): (&str,) = from_args(args)?;
            let whole = if name == "partition" { [text, "", ""] } else { ["", "", text] };
            let found = match name {
                _ if sep.is_empty() => return Err(error(format!("{name}: empty separator"))),
                "partition" => text.split_once(sep),
                _ => text.rsplit_once(sep),
            };
            found.map_or(whole, |(before, after)| [before, sep, after]).into_iter().map(Value::from).collect()
        }
        "removeprefix" => {
            let (prefix,): (&str,) = from_args(args)?;
            Value::from(text.strip_prefix(prefix).unwrap_or(text))
        }
        "removesuffix" => {
            let (suffix,): (&str,) = from_args(args)?;
            Value::from(text.strip_suffix(suffix).unwrap_or(text))
        }
        _ => return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    })
}

/// Python's `str.split` and `str.rsplit`.
fn split<'t>(text: &'t str, sep: Option<&str>, max: Option<usize>, from_end: bool) -> Result<Vec<&'t str>, Error> {
    let parts = max.map_or(usize::MAX, |max| max.saturating_add(1));
    let mut found: Vec<&str> = match (sep, from_end) {
        (Some(""), _) => return Err(error("split: empty separator")),
        (Some(sep), false) => text.splitn(parts, sep).collect(),
        (Some(sep), true) => text.rsplitn(parts, sep).collect(),
        (None, _) => {
            let (mut rest, mut found) = (strip(text), Vec::new());
            while !rest.is_empty() {
                let cut = match from_end {
                    _ if found.len() + 1 == parts => None,
                    false => rest.find(is_space).map(|at| (&rest[..at], rest[at..].trim_start_matches(is_space))),
                    true => rest.rfind(is_space).map(|at| {
                        let word = rest[at..].trim_start_matches(is_space);
                        (word, rest[..at].trim_end_matches(is_space))
                    }),
                };
                let (word, left) = cut.unwrap_or((rest, ""));
                found.push(word);
                rest = left;
            }
            found
        }
    };
    if from_end {
        found.reverse();
    }
    Ok(found)
}

/// The filter `trim`.
pub(crate) fn trim(value: StringInput<'_>, chars: Option<String>) -> String {
    match chars {
        Some(chars) => value.as_str().trim_matches(|c| chars.contains(c)).to_owned(),
        None => strip(value.as_str()).to_owned(),
    }
}

/// Python's `str(value)`.
pub(crate) fn to_text(value: &Value) -> String {
    let mut out = String::new();
    match value.as_str() {
        Some(text) => out.push_str(text),
        None => write_repr(&mut out, value),
    }
    out
}

/// Python's `repr(value)`, of what JSON can hold.
fn write_repr(out: &mut String, value: &Value) {
    match value.kind() {
        ValueKind::Undefined => {}
        ValueKind::None => out.push_str("None"),
        ValueKind::Bool => out.push_str(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_repr_of_text(out, value.as_str().unwrap_or_default()),
        ValueKind::Seq => {
            out.push('[');
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(out, &item);
            }
            out.push(']');
        }
        ValueKind::Map => {
            out.push('{');
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push_str(if index == 0 { "" } else { ", " });
                write_repr(out, &key);
                out.push_str(": ");
                write_repr(out, &value.get_item(&key).unwrap_or_default());
            }
            out.push('}');
        }
        _ => out.push_str(&value.to_string()),
    }
}

fn write_repr_of_text(out: &mut String, text: &str) {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.push(quote);
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            _ if c == quote => out.extend(['\\', c]),
            _ if (c as u32) < 0x20 || (0x7f..0xa1).contains(&(c as u32)) || c == '\u{ad}' => {
                out.push_str(&format!("\\x{:02x}", c as u32));
            }
            _ => out.push(c),
        }
    }
    out.push(quote);
}

/// A number as Python prints it.
fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    f64::try_from(value.clone()).map_or_else(|_| value.to_string(), float)
}

/// Python's `repr(float)`: the fewest digits that read back the same, as an exponent below 1e-4 and from 1e16 on.
fn float(x: f64) -> String {
    if x.is_nan() {
        return "nan".to_owned();
    }
    if x.is_infinite() {
        return if x > 0.0 { "inf" } else { "-inf" }.to_owned();
    }
    if x == 0.0 || (1e-4..1e16).contains(&x.abs()) {
        return format!("{x:?}");
    }
    let shortest = format!("{x:e}");
    let (digits, exponent) = shortest.split_once('e').unwrap_or((&shortest, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |exponent| ('-', exponent));
    format!("{digits}e{sign}{exponent:0>2}")
}

/// The filter `tojson`, which in `transformers` is Python's `json.dumps(value, ensure_ascii=False)` with its options.
pub(crate) fn tojson(value: Value, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(error("tojson: the value is undefined"));
    }
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => " ".repeat(usize::try_from(i64::try_from(indent)?).unwrap_or(0)),
        }),
    };
    let [between, after_key] = match separators {
        Some(given) => given.try_into().map_err(|_| error("tojson: `separators` takes two texts"))?,
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let sort_keys = sort_keys.unwrap_or(false);
    let mut writer =
        JsonWriter { out: String::new(), ascii: ensure_ascii.unwrap_or(false), indent, between, after_key, sort_keys };
    writer.value(&value, 0)?;
    Ok(writer.out)
}

/// Python's `json.dumps(value, ensure_ascii=False)`.
pub(crate) fn json(value: &Value) -> Result<String, Error> {
    let (between, after_key) = (", ".to_owned(), ": ".to_owned());
    let mut writer =
        JsonWriter { out: String::new(), ascii: false, indent: None, between, after_key, sort_keys: false };
    writer.value(value, 0)?;
    Ok(writer.out)
}

struct JsonWriter {
    out: String,
    ascii: bool,
    /// One level of indentation; nothing means all on one line.
    indent: Option<String>,
    between: String,
    after_key: String,
    sort_keys: bool,
}

impl JsonWriter {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => self.out.push_str("null"),
            ValueKind::Bool => self.out.push_str(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => self.out.push_str(&match number(value) {
                number if number == "nan" => "NaN".to_owned(),
                number => number.replace("inf", "Infinity"),
            }),
            ValueKind::String => self.text(value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let items: Vec<Value> = value.try_iter()?.collect();
                self.items(['[', ']'], &items, depth, |writer, item| writer.value(item, depth + 1))?;
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_by_key(to_text);
                }
                self.items(['{', '}'], &keys, depth, |writer, key| {
                    match key.kind() {
                        ValueKind::String => writer.text(key.as_str().unwrap_or_default()),
                        // Python makes texts of the other keys that JSON knows.
                        ValueKind::Number => writer.text(&number(key)),
                        ValueKind::Bool => writer.text(if key.is_true() { "true" } else { "false" }),
                        ValueKind::None => writer.text("null"),
                        kind => return Err(error(format!("tojson: a key is of type {kind}"))),
                    }
                    writer.out.push_str(&writer.after_key.clone());
                    writer.value(&value.get_item(key)?, depth + 1)
                })?;
            }
            kind => return Err(error(format!("tojson: a value of type {kind} is no JSON"))),
        }
        Ok(())
    }

    fn items(
        &mut self,
        [open, close]: [char; 2],
        items: &[Value],
        depth: usize,
        mut write: impl FnMut(&mut Self, &Value) -> Result<(), Error>,
    ) -> Result<(), Error> {
        self.out.push(open);
        for (index, item) in items.iter().enumerate() {
            if index > 0 {
                self.out.push_str(&self.between.clone());
            }
            self.line(depth + 1);
            write(self, item)?;
        }
        if !items.is_empty() {
            self.line(depth);
        }
        self.out.push(close);
        Ok(())
    }

    fn line(&mut self, depth: usize) {
        if let Some(indent) = &self.indent {
            self.out.push('\n');
            self.out.push_str(&indent.repeat(depth));
        }
    }

    fn text(&mut self, text: &str) {
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out.push_str("\\\""),
                '\\' => self.out.push_str("\\\\"),
                '\n' => self.out.push_str("\\n"),
                '\r' => self.out.push_str("\\r"),
                '\t' => self.out.push_str("\\t"),
                '\u{8}' => self.out.push_str("\\b"),
                '\u{c}' => self.out.push_str("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out.push_str(&format!("\\u{unit:04x}"));
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn floats_are_printed_as_python_prints_them() {
        let cases = [
            (0.0, "0.0"),
            (-0.5, "-0.5"),
            (1e15, "1000000000000000.0"),
            (1e16, "1e+16"),
            (1.5e-5, "1.5e-05"),
            (0.0001, "0.0001"),
            (1e100, "1e+100"),
            (123456789.123, "123456789.123"),
        ];
        for (x, printed) in cases {
            assert_eq!(float(x), printed);
        }
    }

    #[test]
    fn text_is_split_as_python_splits_it() {
        let split = |text, sep, max, from_end| split(text, sep, max, from_end).unwrap();
        assert_eq!(split(" a  b\tc ", None, None, false), ["a", "b", "c"]);
        assert_eq!(split(" a  b  c ", None, Some(1), false), ["a", "b  c"]);
        assert_eq!(split(" a  b  c ", None, Some(1), true), ["a  b", "c"]);
        assert_eq!(split("", None, None, false), Vec::<&str>::new());
        assert_eq!(split("a,b,,c", Some(","), None, false), ["a", "b", "", "c"]);
        assert_eq!(split("a,b,,c", Some(","), Some(1), true), ["a,b,", "c"]);
        assert_eq!(split("", Some(","), None, false), [""]);
        assert_eq!(strip("\u{1c} a\u{a0}\u{85}"), "a");
    }
}
