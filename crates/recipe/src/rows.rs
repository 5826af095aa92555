//! Files of rows as a recipe names them: a path, or a map that says more.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Serialize, Serializer};
use serde_json::{Value, json};

use crate::kind::{FOLDER_HINT, Kind, above, choice, closest, list, name, number, text};
use crate::reader::Context;
use crate::tree::{Content, Node};

crate::kind::words! {
    /// How rows are written; what is left out is told by the first rows.
    pub enum RowFormat {
        /// `messages` of `role` and `content`.
        Messages = "messages",
        /// Amazon Bedrock's Converse.
        Converse = "converse",
        /// `conversations` of `from` and `value`.
        Sharegpt = "sharegpt",
        /// `instruction`, `input`, `output`.
        Alpaca = "alpaca",
        /// `prompt` and `completion`.
        PromptCompletion = "prompt_completion",
        /// `question` and `answer`.
        QuestionAnswer = "question_answer",
        /// `prompt`, `chosen`, `rejected`.
        Preference = "preference",
        /// A prompt and its `reference_answer`.
        Rft = "rft",
        /// `text`.
        Text = "text",
    }
}

/// A number that can be told from others bit by bit.
#[derive(Debug, Clone, Copy)]
pub struct Weight(pub f64);

impl PartialEq for Weight {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl Eq for Weight {}

impl std::hash::Hash for Weight {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.0.to_bits().hash(state);
    }
}

/// Files of rows, and how they are read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct RowFiles {
    /// A file, a folder, a pattern with `*`, or `hf:datasets/OWNER/NAME[@REVISION][#PATTERN]`.
    pub path: PathBuf,
    /// Its name in metrics and reports.
    pub name: Option<String>,
    /// Its share of the domain data, relative to the other sources' weights.
    pub weight: Option<Weight>,
    /// How its rows are written.
    pub format: Option<RowFormat>,
    /// Fields by the name that the format expects, each with the name that it has in the file.
    pub columns: BTreeMap<String, String>,
}

impl RowFiles {
    /// Files that are read as their rows tell.
    pub fn plain(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), name: None, weight: None, format: None, columns: BTreeMap::new() }
    }

    /// What is said beside the path.
    pub fn extras(&self) -> Value {
        let mut map = serde_json::Map::new();
        let mut put = |key: &str, value: Option<Value>| value.map(|value| map.insert(key.to_owned(), value));
        put("name", self.name.as_deref().map(Value::from));
        put("weight", self.weight.map(|weight| weight.0.into()));
        put("format", self.format.map(|format| format.to_string().into()));
        put("columns", (!self.columns.is_empty()).then(|| json!(self.columns)));
        map.into()
    }
}

impl Serialize for RowFiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = self.extras();
        if map.as_object().is_some_and(serde_json::Map::is_empty) {
            return self.path.serialize(serializer);
        }
        map["path"] = self.path.to_string_lossy().into();
        map.serialize(serializer)
    }
}

/// Whether it is a data set of the hub.
pub fn is_remote(path: &Path) -> bool {
    path.to_string_lossy().starts_with("hf:")
}

fn is_pattern(path: &Path) -> bool {
    path.to_string_lossy().contains(['*', '?', '['])
}

const KEYS: [&str; 5] = ["path", "name", "weight", "format", "columns"];
const EXPECTED: &str = "a path, or a map of `path` and what is said of its rows";

/// Files of rows that are there: a path (of a file, a folder or a pattern, or of the hub), or a map. A relative path starts at
/// the folder of the recipe file.
pub(crate) fn row_files() -> Kind<RowFiles> {
    let path_text = text();
    let map = json!({
        "type": "object",
        "properties": {
            "path": path_text.schema.clone(),
            "name": name().schema,
            "weight": number(above(0.0)).schema,
            "format": choice::<RowFormat>().schema,
            "columns": {"type": "object", "additionalProperties": {"type": "string"}},
        },
        "required": ["path"],
        "additionalProperties": false,
    });
    let schema = json!({"anyOf": [path_text.schema.clone(), map]});
    let read = move |node: &Node, path: &str, cx: &mut Context| match &node.content {
        Content::Scalar { .. } => files(node, path, cx).map(RowFiles::plain),
        Content::Map(entries) => {
            let mut read = RowFiles::plain("");
            let mut whole = true;
            let mut given = false;
            for entry in entries {
                let below = format!("{path}.{}", entry.key);
                let value = &entry.value;
                let done = match entry.key.as_str() {
                    "path" => {
                        given = true;
                        files(value, &below, cx).map(|path| read.path = path)
                    }
                    "name" => (name().read)(value, &below, cx).map(|name| read.name = Some(name)),
                    "weight" => (number(above(0.0)).read)(value, &below, cx).map(|w| read.weight = Some(Weight(w))),
                    "format" => {
                        (choice::<RowFormat>().read)(value, &below, cx).map(|format| read.format = Some(format))
                    }
                    "columns" => columns(value, &below, cx).map(|columns| read.columns = columns),
                    other => {
                        let hint = closest(other, KEYS.into_iter());
                        let hint = hint
                            .map_or(format!("known here: {}", KEYS.join(", ")), |key| format!("did you mean `{key}`?"));
                        cx.problem(entry.key_place.clone(), format!("unknown key `{below}`"), hint);
                        None
                    }
                };
                whole &= done.is_some();
            }
            if !given {
                cx.problem(node.place.clone(), format!("`{path}.path` is missing"), "name the file");
            }
            (whole && given).then_some(read)
        }
        Content::List(_) => cx.expected(node, path, EXPECTED, "give one path, or one map"),
    };
    Kind { text: EXPECTED.into(), schema, read: Box::new(read) }
}

/// Several of them.
pub(crate) fn row_sources() -> Kind<Vec<RowFiles>> {
    let (one, many) = (row_files(), list(1, row_files()));
    let text = format!("{}; or {}", one.text, many.text);
    let schema = json!({"anyOf": [one.schema, many.schema]});
    let read = move |node: &Node, path: &str, cx: &mut Context| match node.content {
        Content::List(_) => (many.read)(node, path, cx),
        _ => (one.read)(node, path, cx).map(|files| vec![files]),
    };
    Kind { text, schema, read: Box::new(read) }
}

fn columns(node: &Node, path: &str, cx: &mut Context) -> Option<BTreeMap<String, String>> {
    let Content::Map(entries) = &node.content else {
        return cx.expected(node, path, "a map of field names", "write `expected: given`, as in `text: body`");
    };
    let read = |entry: &crate::tree::Entry| {
        Some((entry.key.clone(), (text().read)(&entry.value, &format!("{path}.{}", entry.key), cx)?))
    };
    entries.iter().map(read).collect()
}

/// A path that stands for at least one file, as far as can be told without a network.
fn files(node: &Node, path: &str, cx: &mut Context) -> Option<PathBuf> {
    let given = (text().read)(node, path, cx)?;
    if let Some(rest) = given.strip_prefix("hf:") {
        if rest.strip_prefix("datasets/").is_some_and(|id| id.split('/').filter(|part| !part.is_empty()).count() >= 2) {
            return Some(given.into());
        }
        let found = format!("`{path}`: `{given}` names no data set");
        cx.problem(node.place.clone(), found, "write hf:datasets/OWNER/NAME[@REVISION][#PATTERN]");
        return None;
    }
    let file = cx.folder.join(given);
    if cx.check_files && !file.exists() && !is_pattern(&file) {
        cx.problem(node.place.clone(), format!("`{path}`: there is no file {}", file.display()), FOLDER_HINT);
        return None;
    }
    Some(file)
}
