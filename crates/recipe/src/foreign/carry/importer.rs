//! A recipe of another tool on its way here.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::problem::{Place, Problem};
use crate::stage::StageKind;
use crate::tree::{Content, Node};

use super::super::document::{Document, Leaf, ends, shown, text, truth};
use super::super::script::Script;
use super::{As, Carried, Given, Listed, Pair, When, listing, refusal, value_of};

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
        self.take(path).and_then(|leaf| text(leaf.node)).map(str::to_owned)
    }

    pub fn truth(&mut self, path: &str) -> Option<bool> {
        self.take(path).and_then(|leaf| truth(leaf.node))
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
    pub fn default_of(&self, key: &str) -> String {
        format!("{}'s default of {key}", self.document.tool.name())
    }

    /// Carries every pair that has a meaning in this stage.
    pub fn pairs<'p>(&mut self, pairs: impl IntoIterator<Item = &'p Pair>) {
        for pair in pairs {
            let leaf = match self.document.at(pair.theirs) {
                Some(leaf) => Some(leaf),
                // Nova's sections move between techniques.
                None if self.document.tool == super::super::Tool::Nova => self.document.ending(pair.theirs),
                None => None,
            };
            let holds = match pair.when {
                When::Always => true,
                When::Lora => self.lora,
                When::Dpo => self.kind == StageKind::Dpo,
                When::Validation => self.validation,
            };
            let path = pair.path(0);
            // What a stage of preferences or of reinforcement refuses is listed, so that what is written can be run.
            let refuses = matches!(self.kind, StageKind::Dpo | StageKind::Rft);
            if refuses && matches!(pair.ours, "lora_dropout" | "modules_to_save") {
                match leaf {
                    Some(leaf) if self.document.number_of(leaf.node) == Some(0.0) => {
                        self.taken.insert(leaf.path);
                    }
                    Some(leaf) => {
                        self.list(&leaf.path, "not in this version together with preferences or reinforcement")
                    }
                    None => {}
                }
                continue;
            }
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
                    let given = match truth(leaf.node) {
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
                    let from = self.default_of(pair.theirs);
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
        // `OWNER/NAME` is a place on the hub, unless it ends as a file of rows does.
        let file = ["json", "jsonl", "csv", "tsv", "parquet", "txt", "gguf"]
            .iter()
            .any(|end| given.ends_with(&format!(".{end}")));
        match given.split_once('/') {
            Some((owner, name)) if !file && !owner.is_empty() && !owner.starts_with('.') && !name.contains('/') => {
                format!("{hub}{given}")
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
                    && let Some(model) = text(leaf.node)
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

    /// The reward: what the user gives, or one that Temper has under another name.
    pub fn reward(&mut self, preset: Option<&str>) -> Result<(), Problem> {
        let given = self.given;
        if let Some(program) = &given.reward {
            let path = std::path::absolute(program).unwrap_or(program.clone());
            self.put("stages.0.rewards.0.name", "reward", "");
            self.put("stages.0.rewards.0.program", path.display().to_string(), "--reward");
            return Ok(());
        }
        match preset {
            Some("exact_match") => {
                self.put("stages.0.rewards.0.name", "exact", "");
                self.put("stages.0.rewards.0.verifier", "exact", "preset_reward_function");
                Ok(())
            }
            _ => Err(refusal("its reward is not at hand", "give the Python file by --reward: it is taken as it is")),
        }
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
                let (key, long) = (key.trim_end_matches('*'), key.ends_with('*'));
                leaf.path == key || ends(&leaf.path, key) || long && leaf.path.starts_with(key)
            });
            let why = known.map_or("no counterpart in Temper", |(_, why)| why);
            let (place, key) = (leaf.place.clone(), leaf.path.clone());
            // A secret is not copied into another file.
            let secret = ["token", "api_key", "password", "secret"].iter().any(|end| key.ends_with(end));
            let value = if secret { "(not shown)".to_owned() } else { shown(leaf.node) };
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
