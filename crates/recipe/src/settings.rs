//! Values that know where they came from, and the list of all of them.

use std::fmt;
use std::ops::Deref;

use serde::Serialize;
use serde_json::Value;

use crate::problem::Place;

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub enum Source {
    /// Not given. `why` says what the default rests on: a paper, a tool's own default, or our decision.
    Default {
        /// What the default rests on.
        why: &'static str,
    },
    /// Given in the recipe file.
    Recipe {
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// Given in the recipe file under the name another tool has for it.
    Alias {
        /// The name used.
        name: String,
        /// Line, from 1.
        line: usize,
        /// Column in characters, from 1.
        column: usize,
    },
    /// Given by `--set`.
    Set {
        /// The argument as given, `path=value`.
        argument: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default { why } => write!(f, "default: {why}"),
            Self::Recipe { line, .. } => write!(f, "recipe, line {line}"),
            Self::Alias { name, line, .. } => write!(f, "recipe, line {line}, as `{name}`"),
            Self::Set { argument } => write!(f, "--set {argument}"),
        }
    }
}

/// A resolved value with its path in the recipe and where it came from. Derefs to the value.
#[derive(Debug, Clone, PartialEq)]
pub struct Valued<T> {
    /// The value.
    pub value: T,
    /// Its path in the recipe, such as `stages.0.learning_rate`; what `--set` takes.
    pub path: String,
    /// Where it came from.
    pub source: Source,
}

/// A field's value, for the fields that depend on it; none where it could not be read.
pub(crate) fn is<T: Copy>(read: &Option<Valued<T>>) -> Option<T> {
    read.as_ref().map(|read| read.value)
}

/// `kind: dpo`: why another field has no effect.
pub(crate) fn said<T: fmt::Display>(field: &str, read: &Option<Valued<T>>) -> String {
    format!("{field}: {}", read.as_ref().map_or_else(|| "?".to_owned(), |read| read.value.to_string()))
}

impl<T> Valued<T> {
    /// Where the user wrote it, if it is not a default.
    pub fn place(&self) -> Option<Place> {
        match &self.source {
            Source::Default { .. } => None,
            Source::Recipe { line, column } | Source::Alias { line, column, .. } => {
                Some(Place::File { line: *line, column: *column })
            }
            Source::Set { argument } => Some(Place::Set { argument: argument.clone() }),
        }
    }
}

impl<T> Deref for Valued<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.value
    }
}

/// One line of the list of all values.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Setting {
    /// The path in the recipe, such as `stages.0.learning_rate`.
    pub path: String,
    /// The value as JSON: a number, a text, or a list of them.
    pub value: Value,
    /// Where it came from.
    pub source: Source,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} = {}  ({})", self.path, plain(&self.value), self.source)
    }
}

/// A value as people write it: text without quotes, lists in brackets.
pub(crate) fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(items) => format!("[{}]", items.iter().map(plain).collect::<Vec<_>>().join(", ")),
        other => other.to_string(),
    }
}

/// Implemented by everything a recipe is made of.
pub(crate) trait Settings {
    fn settings(&self, into: &mut Vec<Setting>);
}

impl<T: Serialize> Settings for Valued<T> {
    fn settings(&self, into: &mut Vec<Setting>) {
        // No type of the recipe can fail here: they are numbers, texts, and lists of them.
        let value = serde_json::to_value(&self.value).unwrap_or(Value::Null);
        into.push(Setting { path: self.path.clone(), value, source: self.source.clone() });
    }
}

impl<T: Settings> Settings for Option<T> {
    fn settings(&self, into: &mut Vec<Setting>) {
        self.iter().for_each(|item| item.settings(into));
    }
}

impl<T: Settings> Settings for Vec<T> {
    fn settings(&self, into: &mut Vec<Setting>) {
        self.iter().for_each(|item| item.settings(into));
    }
}

/// The tree that the paths of `settings` describe; numbers in a path are places in a list.
pub(crate) fn tree(settings: &[Setting]) -> Value {
    let mut root = Value::Null;
    for setting in settings {
        let mut node = &mut root;
        for segment in setting.path.split('.') {
            node = match segment.parse::<usize>() {
                Ok(index) => {
                    if !node.is_array() {
                        *node = Value::Array(Vec::new());
                    }
                    if let Value::Array(items) = node
                        && items.len() <= index
                    {
                        items.resize(index + 1, Value::Null);
                    }
                    &mut node[index]
                }
                Err(_) => {
                    if !node.is_object() {
                        *node = Value::Object(serde_json::Map::new());
                    }
                    &mut node[segment]
                }
            };
        }
        *node = setting.value.clone();
    }
    root
}
