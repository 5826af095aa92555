//! The kinds of values a field can have: what is expected, in words, and how a node is read as one.

use std::collections::HashSet;
use std::hash::Hash;
use std::ops::{Bound, RangeBounds};
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::reader::Context;
use crate::tree::{Content, Node, Scalar};

/// Reads a node, or records what is wrong with it. The second argument is the path, for the message.
type Read<T> = Box<dyn Fn(&Node, &str, &mut Context) -> Option<T>>;

pub(crate) struct Kind<T> {
    /// "a number above 0": fits after "expected".
    pub text: String,
    /// The same as JSON Schema, as far as that can say it.
    pub schema: Value,
    pub read: Read<T>,
}

impl<T: 'static> Kind<T> {
    pub fn map<U: 'static>(self, f: impl Fn(T) -> U + 'static) -> Kind<U> {
        let read = self.read;
        Kind {
            text: self.text,
            schema: self.schema,
            read: Box::new(move |node, path, cx| read(node, path, cx).map(&f)),
        }
    }
}

/// An enum whose values have names in the recipe. Made by the macro `words!`.
pub(crate) trait Choice: Copy + 'static {
    const ALL: &'static [(&'static str, Self)];
}

/// Declares an enum whose values are words in the recipe.
macro_rules! words {
    (
        $(#[doc = $doc:literal])*
        pub enum $Name:ident { $( $(#[doc = $variant_doc:literal])* $Variant:ident = $word:literal, )* }
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize)]
        pub enum $Name { $( $(#[doc = $variant_doc])* #[serde(rename = $word)] $Variant, )* }

        impl $crate::kind::Choice for $Name {
            const ALL: &'static [(&'static str, Self)] = &[ $( ($word, Self::$Variant), )* ];
        }

        impl std::fmt::Display for $Name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self { $( Self::$Variant => $word, )* })
            }
        }
    };
}
pub(crate) use words;

/// The range "above `low`".
pub(crate) fn above(low: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Unbounded)
}

/// The range "above `low` and at most `high`".
pub(crate) fn above_to(low: f64, high: f64) -> (Bound<f64>, Bound<f64>) {
    (Bound::Excluded(low), Bound::Included(high))
}

/// A number's type and range as JSON Schema.
fn range_schema<T: serde::Serialize>(kind: &str, range: &impl RangeBounds<T>) -> Value {
    let mut schema = json!({"type": kind});
    match range.start_bound() {
        Bound::Included(low) => schema["minimum"] = json!(low),
        Bound::Excluded(low) => schema["exclusiveMinimum"] = json!(low),
        Bound::Unbounded => {}
    }
    match range.end_bound() {
        Bound::Included(high) => schema["maximum"] = json!(high),
        Bound::Excluded(high) => schema["exclusiveMaximum"] = json!(high),
        Bound::Unbounded => {}
    }
    schema
}

fn range_text<T: std::fmt::Display>(range: &impl RangeBounds<T>) -> String {
    match (range.start_bound(), range.end_bound()) {
        (Bound::Included(low), Bound::Included(high)) => format!(" from {low} to {high}"),
        (Bound::Excluded(low), Bound::Included(high)) => format!(" above {low} and at most {high}"),
        (Bound::Included(low), Bound::Excluded(high)) => format!(" from {low} to below {high}"),
        (Bound::Excluded(low), Bound::Excluded(high)) => format!(" above {low} and below {high}"),
        (Bound::Included(low), Bound::Unbounded) => format!(" of at least {low}"),
        (Bound::Excluded(low), Bound::Unbounded) => format!(" above {low}"),
        (Bound::Unbounded, _) => String::new(),
    }
}

pub(crate) fn number(range: impl RangeBounds<f64> + 'static) -> Kind<f64> {
    let text = format!("a number{}", range_text(&range));
    let schema = range_schema("number", &range);
    let expected = text.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let value = match node.scalar() {
            Some(Scalar::Integer(integer)) => Some(integer as f64),
            Some(Scalar::Number(number)) => Some(number),
            _ => None,
        };
        match value {
            Some(value) if value.is_finite() && range.contains(&value) => Some(value),
            Some(_) => cx.expected(node, path, &expected, "choose a value in this range"),
            None => cx.expected(node, path, &expected, number_hint(node)),
        }
    };
    Kind { text, schema, read: Box::new(read) }
}

pub(crate) fn integer(range: impl RangeBounds<u64> + 'static) -> Kind<u64> {
    let text = format!("a whole number{}", range_text(&range));
    let schema = range_schema("integer", &range);
    let expected = text.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| match node.scalar() {
        Some(Scalar::Integer(integer)) => match u64::try_from(integer) {
            Ok(value) if range.contains(&value) => Some(value),
            _ => cx.expected(node, path, &expected, "choose a value in this range"),
        },
        Some(Scalar::Number(number)) if number.fract() == 0.0 && number.abs() < 1e15 => {
            cx.expected(node, path, &expected, &format!("write it as {number:.0}"))
        }
        Some(Scalar::Number(_)) => cx.expected(node, path, &expected, "only whole numbers make sense here"),
        _ => cx.expected(node, path, &expected, number_hint(node)),
    };
    Kind { text, schema, read: Box::new(read) }
}

/// Why something is not a number.
fn number_hint(node: &Node) -> &'static str {
    let Content::Scalar { text, plain } = &node.content else {
        return "give one number; here begins something with several parts";
    };
    let digits = |separator: char| text.contains(separator) && text.replace(separator, "").parse::<f64>().is_ok();
    if !plain && text.parse::<f64>().is_ok() {
        "remove the quotes: quoted, it is text"
    } else if digits('_') {
        "remove the underscores: YAML 1.2 reads them as text"
    } else if digits(',') {
        "remove the comma; the decimal point is `.`"
    } else if text.ends_with('%') {
        "remove the percent sign"
    } else {
        "write digits, as in 16, 0.1 or 2e-4"
    }
}

/// `true` or `false`.
pub(crate) fn truth() -> Kind<bool> {
    let expected = "`true` or `false`";
    let read = move |node: &Node, path: &str, cx: &mut Context| match (node.scalar(), &node.content) {
        (Some(Scalar::Bool), Content::Scalar { text, .. }) => Some(text.eq_ignore_ascii_case("true")),
        _ => cx.expected(node, path, expected, "write it without quotes"),
    };
    Kind { text: expected.into(), schema: json!({"type": "boolean"}), read: Box::new(read) }
}

/// A number, a truth value, a text or `null`, as JSON.
pub(crate) fn scalar() -> Kind<Value> {
    let expected = "a number, a truth value, a text or `null`";
    let read = move |node: &Node, path: &str, cx: &mut Context| match (node.scalar(), &node.content) {
        (Some(Scalar::Null), _) => Some(Value::Null),
        (Some(Scalar::Bool), Content::Scalar { text, .. }) => Some(text.eq_ignore_ascii_case("true").into()),
        (Some(Scalar::Integer(integer)), _) if i64::try_from(integer).is_ok() => Some(json!(integer as i64)),
        (Some(Scalar::Number(number)), _) if number.is_finite() => Some(json!(number)),
        (Some(Scalar::Text(text)), _) => Some(text.into()),
        _ => cx.expected(node, path, expected, "write one value"),
    };
    let schema = json!({"type": ["number", "boolean", "string", "null"]});
    Kind { text: expected.into(), schema, read: Box::new(read) }
}

/// Text that is not empty.
pub(crate) fn text() -> Kind<String> {
    let read = |node: &Node, path: &str, cx: &mut Context| match node.scalar() {
        Some(Scalar::Text(text)) if !text.trim().is_empty() => Some(text.to_owned()),
        Some(Scalar::Text(_)) => {
            cx.expected(node, path, "text that is not empty", "write something, or remove the key")
        }
        Some(_) => {
            cx.expected(node, path, "text", "put it in quotes: without, it is a number, a truth value or nothing")
        }
        None => cx.expected(node, path, "text", "give one text"),
    };
    Kind { text: "text".into(), schema: json!({"type": "string", "pattern": "\\S"}), read: Box::new(read) }
}

/// A size of memory: `8GiB`, `500 MB`, or a number of bytes.
pub(crate) fn memory() -> Kind<u64> {
    const UNITS: [(&str, u64); 8] = [
        ("KiB", 1 << 10),
        ("MiB", 1 << 20),
        ("GiB", 1 << 30),
        ("TiB", 1 << 40),
        ("KB", 1_000),
        ("MB", 1_000_000),
        ("GB", 1_000_000_000),
        ("TB", 1_000_000_000_000),
    ];
    let expected = "a size, such as `8GiB` or `500MB`";
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let bytes = match node.scalar() {
            Some(Scalar::Integer(bytes)) => u64::try_from(bytes).ok(),
            Some(Scalar::Text(text)) => UNITS.iter().find_map(|(unit, bytes)| {
                let number: f64 = text.strip_suffix(unit)?.trim().parse().ok()?;
                (number > 0.0 && number < 1e9).then_some((number * *bytes as f64) as u64)
            }),
            _ => None,
        };
        bytes
            .filter(|&bytes| bytes > 0)
            .or_else(|| cx.expected(node, path, expected, "write a number and KiB, MiB, GiB or TiB"))
    };
    Kind { text: expected.into(), schema: json!({"type": ["string", "integer"]}), read: Box::new(read) }
}

/// The name of a source or suite, which becomes part of setting paths and metric names.
pub(crate) fn name() -> Kind<String> {
    let first_letter = |name: &str| name.starts_with(|c: char| c.is_ascii_alphabetic());
    let rest = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
    let fits = move |name: &str| first_letter(name) && rest(name);
    let expected = "a name of letters, digits, `-` and `_` that begins with a letter";
    named(expected, "^[A-Za-z][A-Za-z0-9_-]*$", "it becomes part of metric names", fits)
}

/// The name of a run, which becomes the name of its folder; lower case, because some file systems fold case.
pub(crate) fn run_name() -> Kind<String> {
    let fits = |name: &str| name.chars().all(|c| matches!(c, 'a'..='z' | '0'..='9' | '-' | '_'));
    let expected = "a name of lower-case letters, digits, `-` and `_`";
    named(expected, "^[a-z0-9_-]+$", "it becomes the name of a folder", fits)
}

fn named(
    expected: &'static str,
    pattern: &'static str,
    hint: &'static str,
    fits: impl Fn(&str) -> bool + 'static,
) -> Kind<String> {
    let inner = text();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let name = (inner.read)(node, path, cx)?;
        if fits(&name) { Some(name) } else { cx.expected(node, path, expected, hint) }
    };
    Kind { text: expected.into(), schema: json!({"type": "string", "pattern": pattern}), read: Box::new(read) }
}

/// One word of a fixed set.
pub(crate) fn choice<E: Choice>() -> Kind<E> {
    choice_refusing(&[])
}

/// One word of a fixed set; the words of `refused` are known and get their own reason.
pub(crate) fn choice_refusing<E: Choice>(refused: &'static [(&'static str, &'static str)]) -> Kind<E> {
    let words: Vec<String> = E::ALL.iter().map(|(word, _)| format!("`{word}`")).collect();
    let expected = words.join(" or ");
    let shown = expected.clone();
    let schema = json!({"enum": E::ALL.iter().map(|(word, _)| *word).collect::<Vec<_>>()});
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let Content::Scalar { text, .. } = &node.content else {
            return cx.expected(node, path, &expected, "give one word");
        };
        if let Some((_, value)) = E::ALL.iter().find(|(word, _)| word == text) {
            return Some(*value);
        }
        if let Some((word, reason)) = refused.iter().find(|(word, _)| word == text) {
            cx.problem(node.place.clone(), format!("`{path}`: `{word}` is {reason}"), format!("choose {expected}"));
            return None;
        }
        let close = closest(text, E::ALL.iter().map(|(word, _)| *word));
        let hint = close.map_or_else(|| "choose one of these".into(), |word| format!("did you mean `{word}`?"));
        cx.expected(node, path, &expected, &hint)
    };
    Kind { text: shown, schema, read: Box::new(read) }
}

/// A list of at least `least` different values.
pub(crate) fn list<T: Clone + Eq + Hash + 'static>(least: usize, item: Kind<T>) -> Kind<Vec<T>> {
    let text = format!("a list of at least {least}, each {}", item.text);
    let schema = json!({"type": "array", "minItems": least, "uniqueItems": true, "items": item.schema});
    let expected = text.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let Content::List(nodes) = &node.content else {
            return cx.expected(node, path, &expected, "write a list in brackets, or one entry a line after `- `");
        };
        let mut seen = HashSet::new();
        let mut whole = true;
        let mut values = Vec::new();
        for (index, node) in nodes.iter().enumerate() {
            let path = format!("{path}.{index}");
            match (item.read)(node, &path, cx) {
                Some(value) if seen.insert(value.clone()) => values.push(value),
                Some(_) => {
                    cx.problem(
                        node.place.clone(),
                        format!("`{path}`: {} is in the list twice", node.describe()),
                        "remove one of them",
                    );
                    whole = false;
                }
                None => whole = false,
            }
        }
        if whole && values.len() < least {
            let found = format!("`{path}`: expected {expected}, got {}", values.len());
            cx.problem(node.place.clone(), found, "add the missing ones");
            return None;
        }
        whole.then_some(values)
    };
    Kind { text, schema, read: Box::new(read) }
}

/// A list, or one word or path that stands for one.
pub(crate) fn one_or_list<T: Clone + Eq + Hash + 'static>(one: Kind<Vec<T>>, item: Kind<T>) -> Kind<Vec<T>> {
    let many = list(1, item);
    let text = format!("{}, or {}", one.text, many.text);
    let schema = json!({"anyOf": [one.schema, many.schema]});
    let read = move |node: &Node, path: &str, cx: &mut Context| match node.content {
        Content::Scalar { .. } => (one.read)(node, path, cx),
        _ => (many.read)(node, path, cx),
    };
    Kind { text, schema, read: Box::new(read) }
}

/// A file of data that is there. A relative path starts at the folder of the recipe file.
pub(crate) fn data_file() -> Kind<PathBuf> {
    let inner = text();
    let schema = inner.schema.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let given = (inner.read)(node, path, cx)?;
        let file = cx.folder.join(given);
        if !cx.check_files || file.is_file() {
            return Some(file);
        }
        if file.is_dir() {
            let found = format!("`{path}`: {} is a folder, expected a file", file.display());
            cx.problem(node.place.clone(), found, "name a file in it; a list names several");
        } else {
            cx.problem(node.place.clone(), format!("`{path}`: there is no file {}", file.display()), FOLDER_HINT);
        }
        None
    };
    Kind { text: "a path".into(), schema, read: Box::new(read) }
}

/// A folder with an adapter as PEFT saves it. A relative path starts at the folder of the recipe file.
pub(crate) fn adapter_folder() -> Kind<PathBuf> {
    let inner = text();
    let schema = inner.schema.clone();
    let read = move |node: &Node, path: &str, cx: &mut Context| {
        let given = (inner.read)(node, path, cx)?;
        let folder = cx.folder.join(given);
        if !cx.check_files || folder.join("adapter_config.json").is_file() {
            return Some(folder);
        }
        let found = format!("`{path}`: there is no adapter_config.json in {}", folder.display());
        cx.problem(node.place.clone(), found, "name the folder that PEFT saved, or `adapter` in the folder of a run");
        None
    };
    Kind { text: "a folder with adapter_config.json".into(), schema, read: Box::new(read) }
}

pub(crate) const FOLDER_HINT: &str = "check the spelling; a relative path starts at the folder of the recipe file";

/// The word nearest to `given`, if it is near enough to be what was meant.
pub(crate) fn closest<'a>(given: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let given = given.to_lowercase();
    words
        .map(|word| (strsim::damerau_levenshtein(&given, &word.to_lowercase()), word))
        .filter(|(distance, word)| *distance <= 1.max(given.chars().count().max(word.chars().count()) / 3))
        .min()
        .map(|(_, word)| word)
}
