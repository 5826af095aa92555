//! There and back: values carried key by key; what has no counterpart is listed, never dropped.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Value, json};

use crate::problem::{Place, Problem};
use crate::recipe::{ModelSource, Recipe};
use crate::rows::RowFiles;
use crate::settings::{Setting, Source, plain};
use crate::stage::{Stage, StageKind};
use crate::tree::{Content, Node, Scalar};

use super::document::{Document, Leaf, ends, shown};
use super::script::Script;

/// What the user gives where a recipe of another tool names what is not at hand, such as a model that nobody can load.
#[derive(Debug, Clone, Default)]
pub struct Given {
    /// The base, in place of the recipe's.
    pub base: Option<String>,
    /// Files of rows, in place of the recipe's.
    pub train: Vec<PathBuf>,
    /// The file of validation rows, in place of the recipe's.
    pub validation: Option<PathBuf>,
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

/// Carries a recipe of another tool here.
pub(crate) struct Importer<'d> {
    pub document: &'d Document,
    pub given: &'d Given,
    pub script: Script,
    /// What holds of the stage, by which pairs are carried.
    pub lora: bool,
    pub kind: StageKind,
    pub validation: bool,
    taken: BTreeSet<String>,
    listed: Vec<Listed>,
}

impl<'d> Importer<'d> {
    pub fn new(document: &'d Document, given: &'d Given) -> Self {
        Self {
            document,
            given,
            script: Script::default(),
            lora: true,
            kind: StageKind::Sft,
            validation: false,
            taken: BTreeSet::new(),
            listed: Vec::new(),
        }
    }

    /// The value at a path, which is thereby accounted for.
    pub fn take(&mut self, path: &str) -> Option<Leaf<'d>> {
        let leaf = self.document.at(path);
        self.taken.insert(path.to_owned());
        leaf
    }

    /// As [`take`](Self::take), by the end of a path.
    pub fn take_ending(&mut self, end: &str) -> Option<Leaf<'d>> {
        let leaf = self.document.ending(end)?;
        self.taken.insert(leaf.path.clone());
        Some(leaf)
    }

    pub fn number(&mut self, path: &str) -> Option<f64> {
        let leaf = self.take(path)?;
        self.document.number_of(leaf.node)
    }

    pub fn text(&mut self, path: &str) -> Option<String> {
        self.take(path).and_then(|leaf| super::document::text(leaf.node)).map(str::to_owned)
    }

    pub fn truth(&mut self, path: &str) -> Option<bool> {
        self.take(path).and_then(|leaf| super::document::truth(leaf.node))
    }

    /// Puts a value into the recipe, with where it came from.
    pub fn put(&mut self, path: &str, value: impl Into<Value>, from: &str) {
        self.script.put(path, &value.into(), from);
    }

    /// Lists a key with what became of it.
    pub fn list(&mut self, path: &str, why: &str) {
        let Some(leaf) = self.document.at(path) else { return };
        self.taken.insert(path.to_owned());
        let (place, value) = (leaf.place.clone(), shown(leaf.node));
        self.listed.push(Listed { place, key: path.to_owned(), value, why: why.to_owned() });
    }

    /// Lists something that no key says.
    pub fn remark(&mut self, key: &str, value: &str, why: &str) {
        let (key, value, why) = (key.to_owned(), value.to_owned(), why.to_owned());
        self.listed.push(Listed { place: Place::Whole, key, value, why });
    }

    /// `line 12, learning_rate`.
    pub fn from(&self, leaf: &Leaf<'_>) -> String {
        match leaf.place {
            Place::File { line, .. } => format!("line {line}, {}", leaf.path),
            _ => leaf.path.clone(),
        }
    }

    /// What stands where the tool's default holds.
    pub fn from_default(&self, key: &str) -> String {
        format!("{}'s default of {key}", self.document.tool.name())
    }

    /// Carries every pair that has a meaning in this stage.
    pub fn pairs(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            let leaf = match self.document.at(pair.theirs) {
                Some(leaf) => Some(leaf),
                // Nova's sections move between techniques.
                None if self.document.tool == super::Tool::Nova => self.document.ending(pair.theirs),
                None => None,
            };
            let holds = match pair.when {
                When::Always => true,
                When::Lora => self.lora,
                When::Dpo => self.kind == StageKind::Dpo,
                When::Validation => self.validation,
            };
            let path = pair.path(0);
            match leaf {
                Some(leaf) if !holds => {
                    let why = match pair.when {
                        When::Lora => "no adapter is trained",
                        When::Dpo => "no preference pairs are trained on",
                        _ => "there is no file of validation rows: --validation FILE gives one",
                    };
                    let key = leaf.path.clone();
                    self.list(&key, why);
                }
                Some(leaf) => {
                    self.taken.insert(leaf.path.clone());
                    let number = self.document.number_of(leaf.node).filter(|_| matches!(pair.as_, As::Same));
                    let given = match number {
                        Some(number) if number.fract() == 0.0 && number.abs() < 1e15 => json!(number as i64),
                        Some(number) => json!(number),
                        None => value_of(leaf.node),
                    };
                    let given = match super::document::truth(leaf.node) {
                        Some(truth) if number.is_none() && !matches!(pair.as_, As::Words(_)) => truth.into(),
                        _ => given,
                    };
                    let from = self.from(&leaf);
                    match pair.import(&given) {
                        Some(value) => self.script.put(&path, &value, &from),
                        None => {
                            let key = leaf.path.clone();
                            self.list(&key, "Temper has no such value: its own default holds");
                        }
                    }
                }
                None if holds => {
                    let Some(default) = pair.default else { continue };
                    let from = self.from_default(pair.theirs);
                    let node = Node {
                        place: Place::Whole,
                        content: Content::Scalar { text: default.to_owned(), plain: true },
                    };
                    if let Some(value) = pair.import(&value_of(&node)) {
                        self.script.put(&path, &value, &from);
                    }
                }
                None => {}
            }
        }
    }

    /// A path of theirs as one that holds from the recipe's folder; a data set or a model of the hub by Temper's name of it.
    pub fn path(&self, given: &str, hub: &str) -> String {
        let here = self.document.file.parent().unwrap_or(Path::new(""));
        let beside = here.join(given);
        let same = |folder: &PathBuf| folder.canonicalize().ok() == here_or_dot(here).canonicalize().ok();
        if beside.exists() {
            let stays = Path::new(given).is_absolute() || self.given.folder.as_ref().is_none_or(same);
            let absolute = std::path::absolute(&beside).unwrap_or(beside);
            return if stays { given.to_owned() } else { absolute.display().to_string() };
        }
        if Path::new(given).exists() {
            return std::path::absolute(given).map_or_else(|_| given.to_owned(), |path| path.display().to_string());
        }
        let parts: Vec<&str> = given.split('/').collect();
        match parts[..] {
            [owner, name]
                if !owner.is_empty() && !owner.starts_with('.') && !name.contains('.')
                    || parts.len() == 2 && hub == "hf:" && !owner.starts_with('.') =>
            {
                format!("{hub}{owner}/{name}")
            }
            _ => given.to_owned(),
        }
    }

    /// The base: what the user gives, or the model that the key names.
    pub fn base(&mut self, key: &str) {
        let given = self.given;
        match &given.base {
            Some(base) => {
                self.list(key, &format!("--base gives {base} in its place"));
                self.put("base.source", base.as_str(), "--base");
            }
            None => {
                if let Some(leaf) = self.take(key)
                    && let Some(model) = super::document::text(leaf.node)
                {
                    let (source, from) = (self.path(model, "hf:"), self.from(&leaf));
                    self.put("base.source", source, &from);
                }
            }
        }
    }

    /// Rows: what the user gives.
    pub fn given_rows(&mut self) -> bool {
        let given = self.given;
        if let Some(validation) = &given.validation {
            let path = std::path::absolute(validation).unwrap_or(validation.clone());
            self.put("stages.0.validation", path.display().to_string(), "--validation");
            self.validation = true;
        }
        let rows =
            given.train.iter().map(|path| std::path::absolute(path).unwrap_or(path.clone()).display().to_string());
        let rows: Vec<String> = rows.collect();
        match &rows[..] {
            [] => return false,
            [one] => self.put("stages.0.train", one.as_str(), "--data"),
            many => self.put("stages.0.train", many.to_vec(), "--data"),
        }
        true
    }

    /// A name that a run can have.
    pub fn name(&mut self, given: Option<&str>, from: &str) {
        let stem = self.document.file.file_stem().map(|stem| stem.to_string_lossy().into_owned());
        let given = given.map(str::to_owned).or(stem).unwrap_or_else(|| "imported".to_owned());
        let fold = |c: char| match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9' | '-' | '_') => c,
            _ => '-',
        };
        let name: String = given.chars().map(fold).collect();
        if name != given {
            self.remark("name", &given, &format!("written as `{name}`: it becomes the name of a folder"));
        }
        self.put("name", name, from);
    }

    /// The recipe. What was not asked for is listed, with a reason where one is known.
    pub fn finish(mut self, reasons: &[(&str, &str)]) -> Result<Carried, Problem> {
        let document = self.document;
        for leaf in document.leaves() {
            let taken = |path: &String| {
                leaf.path == *path || leaf.path.strip_prefix(path.as_str()).is_some_and(|rest| rest.starts_with('.'))
            };
            if leaf.node.is_null() || self.taken.iter().any(taken) {
                continue;
            }
            let known = reasons.iter().find(|(key, _)| {
                let key = key.trim_end_matches('*');
                leaf.path == key || ends(&leaf.path, key) || leaf.path.starts_with(key) && !key.is_empty()
            });
            let why = known.map_or("no counterpart in Temper", |(_, why)| why);
            let (place, key, value) = (leaf.place.clone(), leaf.path.clone(), shown(leaf.node));
            self.listed.push(Listed { place, key, value, why: why.to_owned() });
        }
        if !self.script.has("base.source") {
            return Err(refusal("it names no model that Temper could load", "give one by --base"));
        }
        if !self.script.has("stages.0.train") && !self.script.has("stages.0.train.0.path") {
            return Err(refusal("it names no rows that are at hand", "give them by --data FILE"));
        }
        self.listed.sort_by(|a, b| a.place.cmp(&b.place));
        let name = document.file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let mut text = format!("# Imported from {name} ({}) by `temper import`.\n", document.tool.name());
        text += &listing(&self.listed, "#");
        text.push('\n');
        text += &self.script.text();
        Ok(Carried { text, listed: self.listed })
    }
}

fn here_or_dot(here: &Path) -> &Path {
    if here.as_os_str().is_empty() { Path::new(".") } else { here }
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

/// Carries a stage of a recipe there.
pub(crate) struct Exporter<'r> {
    pub recipe: &'r Recipe,
    pub stage: &'r Stage,
    pub script: Script,
    index: usize,
    settings: Vec<Setting>,
    taken: BTreeSet<String>,
    listed: Vec<Listed>,
}

impl<'r> Exporter<'r> {
    /// Of the recipe's first stage: a file of theirs is one training run.
    pub fn new(recipe: &'r Recipe) -> Result<Self, Problem> {
        let Some(stage) = recipe.stages.first() else {
            return Err(refusal("it has no stage", "a recipe has one at least"));
        };
        let (script, taken, listed) = (Script::default(), BTreeSet::new(), Vec::new());
        Ok(Self { recipe, stage, script, index: 0, settings: recipe.settings(), taken, listed })
    }

    fn path(&self, ours: &str) -> String {
        match ours.strip_prefix('.') {
            Some(top) => top.to_owned(),
            None => format!("stages.{}.{ours}", self.index),
        }
    }

    /// The value of a field, which is thereby accounted for.
    pub fn take(&mut self, ours: &str) -> Option<Value> {
        let path = self.path(ours);
        self.taken.insert(path.clone());
        self.settings.iter().find(|setting| setting.path == path).map(|setting| setting.value.clone())
    }

    pub fn put(&mut self, theirs: &str, value: impl Into<Value>, comment: &str) {
        self.script.put(theirs, &value.into(), comment);
    }

    /// Lists a field with what became of it.
    pub fn list(&mut self, ours: &str, why: &str) {
        let path = self.path(ours);
        if !self.taken.insert(path.clone()) {
            self.listed.retain(|listed| listed.key != path);
        }
        let found = self.settings.iter().find(|setting| setting.path == path);
        let value = found.map_or_else(String::new, |setting| plain(&setting.value));
        let place = found.map_or(Place::Whole, place);
        self.listed.push(Listed { place, key: path, value, why: why.to_owned() });
    }

    /// Lists something that no field says.
    pub fn remark(&mut self, key: &str, value: &str, why: &str) {
        let (key, value, why) = (key.to_owned(), value.to_owned(), why.to_owned());
        self.listed.push(Listed { place: Place::Whole, key, value, why });
    }

    /// Writes every pair whose field the stage has.
    pub fn pairs(&mut self, pairs: &[Pair]) {
        for pair in pairs {
            let Some(value) = self.take(pair.ours) else { continue };
            match pair.export(&value) {
                Some(value) => self.script.put(pair.theirs, &value, ""),
                None => self.list(pair.ours, "it has no such value"),
            }
        }
    }

    /// The base as they name it.
    pub fn model(&mut self) -> String {
        self.taken.insert("base.source".to_owned());
        match &self.recipe.base.source.value {
            ModelSource::HuggingFace { repository, revision } => {
                if let Some(revision) = revision {
                    self.remark("base.source", revision, "the revision is not written: pin it there");
                }
                repository.clone()
            }
            ModelSource::Local(path) => path.display().to_string(),
            source @ ModelSource::PyPi { .. } => {
                let source = source.to_string();
                self.remark("base.source", &source, "a file in a Python package: unpack it and name its folder");
                source
            }
        }
    }

    /// The files of the domain, in order.
    pub fn train(&mut self) -> Vec<RowFiles> {
        self.taken.insert(self.path("train"));
        self.stage.train.value.clone()
    }

    /// The file of validation rows.
    pub fn validation(&mut self) -> Option<RowFiles> {
        self.taken.insert(self.path("validation"));
        self.stage.validation.as_ref().map(|files| files.value.clone())
    }

    /// The recipe; every field that was not asked for is listed, and those that are defaults in one line together.
    pub fn finish(mut self, tool: &str, reasons: &[(&str, &str)]) -> Carried {
        let mut defaults = Vec::new();
        for setting in &self.settings {
            if self.taken.contains(&setting.path) {
                continue;
            }
            let own = self.path("");
            let short = setting.path.strip_prefix(&own).unwrap_or(&setting.path);
            let known = reasons.iter().find(|(key, _)| {
                let end = key.trim_end_matches('*');
                short == end || key.ends_with('*') && short.starts_with(end)
            });
            if matches!(setting.source, Source::Default { .. }) {
                defaults.push(format!("{short} {}", plain(&setting.value)));
                continue;
            }
            let why = known.map_or("no counterpart there", |(_, why)| why);
            let why = if setting.path.starts_with("stages.") && !setting.path.starts_with(&own) {
                "a stage of its own there: export it by itself"
            } else {
                why
            };
            let (key, value) = (setting.path.clone(), plain(&setting.value));
            self.listed.push(Listed { place: place(setting), key, value, why: why.to_owned() });
        }
        if !defaults.is_empty() {
            self.remark("defaults", &defaults.join(", "), "Temper's own; not said there");
        }
        let mut text =
            format!("# Exported from the recipe `{}` for {tool} by `temper export`.\n", self.recipe.name.value);
        text += &listing(&self.listed, "#");
        text.push('\n');
        text += &self.script.text();
        Carried { text, listed: self.listed }
    }
}

fn place(setting: &Setting) -> Place {
    match &setting.source {
        Source::Recipe { line, column } | Source::Alias { line, column, .. } => {
            Place::File { line: *line, column: *column }
        }
        Source::Set { argument } => Place::Set { argument: argument.clone() },
        Source::Default { .. } => Place::Whole,
    }
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
