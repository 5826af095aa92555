//! There and back: values carried key by key; what has no counterpart is listed, never dropped.

mod exporter;
mod importer;

use std::path::PathBuf;

use serde::Serialize;
use serde_json::{Value, json};

use crate::problem::{Place, Problem};
use crate::settings::plain;
use crate::tree::{Content, Node, Scalar};

pub(super) use exporter::Exporter;
pub(super) use importer::Importer;

/// What the user gives where a recipe of another tool names what is not at hand, such as a model that nobody can load.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The base, in place of the recipe's.
    pub base: Option<String>,
    /// Files of rows, in place of the recipe's.
    pub train: Vec<PathBuf>,
    /// The file of validation rows, in place of the recipe's.
    pub validation: Option<PathBuf>,
    /// A program that scores answers, in place of the recipe's reward.
    pub reward: Option<PathBuf>,
    /// Folder of the recipe that is written: paths are written so that they hold from there.
    pub folder: Option<PathBuf>,
}

/// A recipe that was carried over.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Carried {
    /// Its text.
    pub text: String,
    /// What has no counterpart, or could not be carried as it was.
    pub listed: Vec<Listed>,
}

/// Something that was not carried over as it was.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listed {
    /// Where it stands.
    pub place: Place,
    /// Its key.
    pub key: String,
    /// Its value.
    pub value: String,
    /// What became of it.
    pub why: String,
}

/// A key of theirs and the field of a stage that it is.
pub(crate) struct Pair {
    pub theirs: &'static str,
    /// Below the stage; at the top where it begins with a dot.
    pub ours: &'static str,
    pub as_: As,
    /// What the tool takes where its key is left out; that is then written, since Temper may take something else.
    pub default: Option<&'static str>,
    pub when: When,
}

/// How a value is said on the other side.
#[derive(Clone, Copy)]
pub(crate) enum As {
    Same,
    /// Words of theirs and ours.
    Words(&'static [(&'static str, &'static str)]),
    /// A list there, or one text separated by commas; `all` words stand for all linear maps.
    Modules,
    /// The same of other names.
    List,
}

/// Where a pair means something.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum When {
    Always,
    Lora,
    Dpo,
    Validation,
}

impl Pair {
    pub const fn new(theirs: &'static str, ours: &'static str, default: Option<&'static str>) -> Self {
        Self { theirs, ours, as_: As::Same, default, when: When::Always }
    }

    pub const fn when(self, when: When) -> Self {
        Self { when, ..self }
    }

    pub const fn said(self, as_: As) -> Self {
        Self { as_, ..self }
    }

    /// The path in a recipe of Temper's.
    pub fn path(&self, stage: usize) -> String {
        match self.ours.strip_prefix('.') {
            Some(top) => top.to_owned(),
            None => format!("stages.{stage}.{}", self.ours),
        }
    }
}

/// Words that stand for all linear maps.
const ALL: [&str; 3] = ["all", "all-linear", "all_linear"];

/// A problem of the whole file.
pub(crate) fn refusal(message: &str, hint: &str) -> Problem {
    Problem { place: Place::Whole, message: message.to_owned(), hint: hint.to_owned() }
}

/// A value of theirs, as JSON.
pub(crate) fn value_of(node: &Node) -> Value {
    match &node.content {
        Content::Scalar { text, .. } => match node.scalar() {
            Some(Scalar::Null) => Value::Null,
            Some(Scalar::Bool) => text.eq_ignore_ascii_case("true").into(),
            Some(Scalar::Integer(integer)) => i64::try_from(integer).map_or(json!(text), Value::from),
            Some(Scalar::Number(number)) => json!(number),
            _ => match text.parse::<i64>() {
                Ok(integer) => integer.into(),
                // Job requests write numbers as text.
                Err(_) => text.parse::<f64>().ok().filter(|n| n.is_finite()).map_or_else(|| json!(text), |n| json!(n)),
            },
        },
        Content::List(items) => items.iter().map(value_of).collect(),
        Content::Map(entries) => {
            Value::Object(entries.iter().map(|entry| (entry.key.clone(), value_of(&entry.value))).collect())
        }
    }
}

/// The list as comments.
fn listing(listed: &[Listed], mark: &str) -> String {
    if listed.is_empty() {
        return format!("{mark} Everything in it has a counterpart.\n");
    }
    let mut out = format!("{mark} Without a counterpart, or not as it was:\n");
    for Listed { place, key, value, why } in listed {
        let line = match place {
            Place::File { line, .. } => format!("line {line}, "),
            _ => String::new(),
        };
        let value = value.replace('\n', " ");
        out += &format!("{mark}   {line}{key}: {value} -- {}\n", why.replace('\n', " "));
    }
    out
}

impl Pair {
    /// Their value as ours.
    fn import(&self, value: &Value) -> Option<Value> {
        match self.as_ {
            As::Same => Some(value.clone()),
            As::Words(words) => {
                let given = plain(value);
                words.iter().find(|(theirs, _)| *theirs == given).map(|(_, ours)| bare(ours))
            }
            As::Modules | As::List => {
                let given: Vec<String> = match value {
                    Value::Array(items) => items.iter().map(plain).collect(),
                    other => plain(other).split(',').map(|part| part.trim().to_owned()).collect(),
                };
                if matches!(self.as_, As::List) {
                    return Some(given.into());
                }
                if given.iter().any(|module| ALL.contains(&module.as_str())) {
                    return Some("all-linear".into());
                }
                let known = crate::lora::Linear::all();
                given.iter().all(|module| known.contains(module)).then(|| given.into())
            }
        }
    }

    /// Our value as theirs.
    fn export(&self, value: &Value) -> Option<Value> {
        match self.as_ {
            As::Same | As::Modules | As::List => Some(value.clone()),
            As::Words(words) => {
                let given = plain(value);
                words.iter().find(|(_, ours)| *ours == given).map(|(theirs, _)| bare(theirs))
            }
        }
    }
}

/// A word as the value that it means in YAML.
fn bare(word: &str) -> Value {
    let node = Node { place: Place::Whole, content: Content::Scalar { text: word.to_owned(), plain: true } };
    value_of(&node)
}
