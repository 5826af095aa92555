//! What chat templates take from Python: how values are printed, `json.dumps`, and the methods of strings.
//!
//! Published templates were written against Jinja2, which runs on Python, and a difference in one space is a difference in
//! tokens. Of the string methods those are here where Python and `minijinja_contrib::pycompat` part, or that it lacks.
//!
//! What a template makes here is made out of the steps that it has left, before memory is taken for it: the engine counts a step
//! for 64 bytes of what it makes itself, and of a result only once it is there.

use std::borrow::Cow;

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

fn error(message: impl Into<Cow<'static, str>>) -> Error {
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
            let pieces = split(text, sep.as_str(), max, name == "rsplit", steps_left(state))?;
            pieces.into_iter().map(Value::from).collect()
        }
        "splitlines" => {
            state.consume_fuel(text.lines().count() as u64)?;
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            joined(state, items, text)?
        }
        // Widths are numbers in the text, or given apart.
        "format" => {
            let widths = text.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse::<f64>().ok());
            let given = args.iter().filter_map(|value| f64::try_from(value.clone()).ok());
            if widths.chain(given).fold(0.0, f64::max) > (steps_left(state) * COPIED) as f64 {
                return Err(ErrorKind::OutOfFuel.into());
            }
            return minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args);
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

/// Python's `str.split` and `str.rsplit`, into at most `most` pieces.
fn split<'t>(
    text: &'t str,
    sep: Option<&str>,
    max: Option<usize>,
    from_end: bool,
    most: usize,
) -> Result<Vec<&'t str>, Error> {
    let parts = max.map_or(usize::MAX, |max| max.saturating_add(1));
    let more = most.saturating_add(1);
    let mut found: Vec<&str> = match (sep, from_end) {
        (Some(""), _) => return Err(error("split: empty separator")),
        (Some(sep), false) => text.splitn(parts, sep).take(more).collect(),
        (Some(sep), true) => text.rsplitn(parts, sep).take(more).collect(),
        (None, _) => {
            let (mut rest, mut found) = (strip(text), Vec::new());
            while !rest.is_empty() && found.len() < more {
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
    if found.len() > most {
        return Err(ErrorKind::OutOfFuel.into());
    }
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

/// Steps that a template has left.
fn steps_left(state: &State) -> usize {
    state.fuel_levels().map_or(usize::MAX, |(_, left)| usize::try_from(left).unwrap_or(usize::MAX))
}

/// Bytes of text that are copied or printed in a step, as the engine counts them.
const COPIED: usize = 64;
const PRINTED: usize = 4;
/// How deep lists and maps may lie in each other where they are printed.
const DEPTH: usize = 128;

/// A text that grows as long as there are bytes left for it.
struct Text {
    text: String,
    left: usize,
}

impl Text {
    /// As the steps allow that are left, of so many bytes a step.
    fn within(state: &State, bytes: usize) -> Text {
        Text { text: String::new(), left: steps_left(state).saturating_mul(bytes) }
    }

    fn unbounded() -> Text {
        Text { text: String::new(), left: usize::MAX }
    }

    fn push(&mut self, text: &str) -> Result<(), Error> {
        self.left = self.left.checked_sub(text.len()).ok_or(ErrorKind::OutOfFuel)?;
        self.text.push_str(text);
        Ok(())
    }
}

fn deeper(depth: usize) -> Result<usize, Error> {
    if depth < DEPTH { Ok(depth + 1) } else { Err(error(format!("a value is nested deeper than {DEPTH}"))) }
}

/// The filter `join`. What it joins by an attribute is the engine's.
pub(crate) fn join(
    state: &mut State,
    items: &Value,
    between: Option<StringInput<'_>>,
    attribute: Option<&str>,
    options: Kwargs,
) -> Result<Value, Error> {
    if attribute.is_some() || options.args().next().is_some() {
        return minijinja::filters::join(state, items, between, attribute, options);
    }
    joined(state, items, between.as_ref().map_or("", |text| text.as_str()))
}

fn joined(state: &State, items: &Value, between: &str) -> Result<Value, Error> {
    let mut out = Text::within(state, COPIED);
    for (index, item) in items.try_iter()?.enumerate() {
        out.push(if index == 0 { "" } else { between })?;
        out.push(
            item.as_str().map_or_else(|| to_text(state, &item).map(Cow::Owned), |text| Ok(text.into()))?.as_ref(),
        )?;
    }
    Ok(Value::from(out.text))
}

/// Python's `str(value)`.
pub(crate) fn to_text(state: &State, value: &Value) -> Result<String, Error> {
    if let Some(text) = value.as_str() {
        return Ok(text.to_owned());
    }
    let mut out = Text::within(state, PRINTED);
    write_repr(&mut out, value, 0)?;
    Ok(out.text)
}

/// Python's `repr(value)`, of what JSON can hold.
fn write_repr(out: &mut Text, value: &Value, depth: usize) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => Ok(()),
        ValueKind::None => out.push("None"),
        ValueKind::Bool => out.push(if value.is_true() { "True" } else { "False" }),
        ValueKind::Number => out.push(&number(value)),
        ValueKind::String => out.push(&repr_of_text(value.as_str().unwrap_or_default())),
        ValueKind::Seq | ValueKind::Iterable => {
            let depth = deeper(depth)?;
            out.push("[")?;
            for (index, item) in value.try_iter().into_iter().flatten().enumerate() {
                out.push(if index == 0 { "" } else { ", " })?;
                write_repr(out, &item, depth)?;
            }
            out.push("]")
        }
        ValueKind::Map => {
            let depth = deeper(depth)?;
            out.push("{")?;
            for (index, key) in value.try_iter().into_iter().flatten().enumerate() {
                out.push(if index == 0 { "" } else { ", " })?;
                write_repr(out, &key, depth)?;
                out.push(": ")?;
                write_repr(out, &value.get_item(&key).unwrap_or_default(), depth)?;
            }
            out.push("}")
        }
        _ => out.push(&value.to_string()),
    }
}

fn repr_of_text(text: &str) -> String {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    let mut out = String::with_capacity(text.len() + 2);
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
    out
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
pub(crate) fn tojson(state: &State, value: Value, options: Kwargs) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(error("tojson: the value is undefined"));
    }
    let ensure_ascii: Option<bool> = options.get("ensure_ascii")?;
    let indent: Option<Value> = options.get("indent")?;
    let separators: Option<Vec<String>> = options.get("separators")?;
    let sort_keys: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    let mut out = Text::within(state, PRINTED);
    let indent = match indent.filter(|indent| !indent.is_none()) {
        None => None,
        Some(indent) => Some(match indent.as_str() {
            Some(text) => text.to_owned(),
            None => {
                let spaces = usize::try_from(i64::try_from(indent)?).unwrap_or(0);
                if spaces > out.left {
                    return Err(ErrorKind::OutOfFuel.into());
                }
                " ".repeat(spaces)
            }
        }),
    };
    let [between, after_key] = match separators {
        Some(given) => given.try_into().map_err(|_| error("tojson: `separators` takes two texts"))?,
        None => [if indent.is_some() { "," } else { ", " }.to_owned(), ": ".to_owned()],
    };
    let (ascii, sort_keys) = (ensure_ascii.unwrap_or(false), sort_keys.unwrap_or(false));
    Json { ascii, indent, between, after_key, sort_keys }.write(&mut out, &value, 0)?;
    Ok(out.text)
}

/// Python's `json.dumps(value, ensure_ascii=False)`, of a value that a row holds.
pub(crate) fn json(value: &Value) -> Result<String, Error> {
    let (between, after_key) = (", ".to_owned(), ": ".to_owned());
    let mut out = Text::unbounded();
    Json { ascii: false, indent: None, between, after_key, sort_keys: false }.write(&mut out, value, 0)?;
    Ok(out.text)
}

/// How JSON is written.
struct Json {
    ascii: bool,
    /// One level of indentation; nothing means all on one line.
    indent: Option<String>,
    between: String,
    after_key: String,
    sort_keys: bool,
}

impl Json {
    fn write(&self, out: &mut Text, value: &Value, depth: usize) -> Result<(), Error> {
        match value.kind() {
            ValueKind::None => out.push("null"),
            ValueKind::Bool => out.push(if value.is_true() { "true" } else { "false" }),
            ValueKind::Number => out.push(&match number(value) {
                number if number == "nan" => "NaN".to_owned(),
                number => number.replace("inf", "Infinity"),
            }),
            ValueKind::String => self.text(out, value.as_str().unwrap_or_default()),
            ValueKind::Seq | ValueKind::Iterable => {
                let mut items = Items::begin(self, out, "[", depth)?;
                for item in value.try_iter()? {
                    items.next(out)?;
                    self.write(out, &item, items.depth)?;
                }
                items.end(out, "]")
            }
            ValueKind::Map => {
                let mut keys: Vec<Value> = value.try_iter()?.collect();
                if self.sort_keys {
                    keys.sort_by_key(|key| key.to_string());
                }
                let mut items = Items::begin(self, out, "{", depth)?;
                for key in &keys {
                    items.next(out)?;
                    match key.kind() {
                        ValueKind::String => self.text(out, key.as_str().unwrap_or_default())?,
                        // Python makes texts of the other keys that JSON knows.
                        ValueKind::Number => self.text(out, &number(key))?,
                        ValueKind::Bool => self.text(out, if key.is_true() { "true" } else { "false" })?,
                        ValueKind::None => self.text(out, "null")?,
                        kind => return Err(error(format!("tojson: a key is of type {kind}"))),
                    }
                    out.push(&self.after_key)?;
                    self.write(out, &value.get_item(key)?, items.depth)?;
                }
                items.end(out, "}")
            }
            kind => Err(error(format!("tojson: a value of type {kind} is no JSON"))),
        }
    }

    fn text(&self, out: &mut Text, text: &str) -> Result<(), Error> {
        let mut letters = [0; 4];
        out.push("\"")?;
        for c in text.chars() {
            match c {
                '"' => out.push("\\\""),
                '\\' => out.push("\\\\"),
                '\n' => out.push("\\n"),
                '\r' => out.push("\\r"),
                '\t' => out.push("\\t"),
                '\u{8}' => out.push("\\b"),
                '\u{c}' => out.push("\\f"),
                c if (c as u32) < 0x20 || (self.ascii && !(' '..='~').contains(&c)) => {
                    c.encode_utf16(&mut [0; 2]).iter().try_for_each(|unit| out.push(&format!("\\u{unit:04x}")))
                }
                c => out.push(c.encode_utf8(&mut letters)),
            }?;
        }
        out.push("\"")
    }
}

/// The items of a list or a map on their way into JSON.
struct Items<'j> {
    json: &'j Json,
    depth: usize,
    any: bool,
}

impl<'j> Items<'j> {
    fn begin(json: &'j Json, out: &mut Text, open: &str, depth: usize) -> Result<Self, Error> {
        out.push(open)?;
        Ok(Items { json, depth: deeper(depth)?, any: false })
    }

    fn next(&mut self, out: &mut Text) -> Result<(), Error> {
        out.push(if self.any { &self.json.between } else { "" })?;
        self.any = true;
        self.line(out, self.depth)
    }

    fn end(self, out: &mut Text, close: &str) -> Result<(), Error> {
        if self.any {
            self.line(out, self.depth - 1)?;
        }
        out.push(close)
    }

    fn line(&self, out: &mut Text, depth: usize) -> Result<(), Error> {
        let Some(indent) = &self.json.indent else { return Ok(()) };
        out.push("\n")?;
        (0..depth).try_for_each(|_| out.push(indent))
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
        let split = |text, sep, max, from_end| split(text, sep, max, from_end, 4).unwrap();
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
