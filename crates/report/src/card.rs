//! Model cards: the `README.md` that Hugging Face's hub and people read beside weights.

use std::path::Path;

use minijinja::{Environment, UndefinedBehavior, context};
use serde::Serialize;
use temper_run::write_atomic;

use crate::error::ReportError;
use crate::folder::{RunFolder, Share};
use crate::page::value;
use crate::provenance::UNKNOWN;
use crate::{answer, intervals, number, provenance};

const TEMPLATE: &str = include_str!("../template/card.md");

/// A line of the table of training data.
#[derive(Serialize)]
struct DataRow {
    name: String,
    rows: String,
    share: String,
    licence: String,
}

/// Which of the forms of the model that a run leaves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Model<'a> {
    Adapter,
    Merged,
    /// The file's name.
    Gguf(&'a str),
}

/// What lies in a folder.
fn names(folder: &Path) -> impl Iterator<Item = String> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
}

impl RunFolder {
    /// Writes a model card into `adapter/`, `merged/` and every `gguf-TYPE/`, where they are.
    ///
    /// # Errors
    /// [`ReportError::Write`], or [`ReportError::Template`], which no run folder should cause.
    pub fn write_cards(&self) -> Result<(), ReportError> {
        for (folder, model) in [("adapter", Model::Adapter), ("merged", Model::Merged)] {
            let folder = self.path.join(folder);
            if folder.is_dir() {
                write_atomic(&folder.join("README.md"), self.card(model)?.as_bytes())?;
            }
        }
        for folder in names(&self.path).filter(|name| name.starts_with("gguf-")) {
            let folder = self.path.join(folder);
            if let Some(file) = names(&folder).find(|name| name.ends_with(".gguf")) {
                write_atomic(&folder.join("README.md"), self.card(Model::Gguf(&file))?.as_bytes())?;
            }
        }
        Ok(())
    }

    /// What kind of adapters the stages trained, in words.
    fn adapter_kinds(&self) -> Vec<String> {
        let of = |stage: usize, field: &str| self.plan.setting(stage, field);
        let several = self.plan.stages.len() > 1;
        let kind = |stage: usize| {
            let (rank, alpha) = (of(stage, "lora_rank")?.as_u64()?, of(stage, "lora_alpha")?.as_f64()?);
            let is = |field: &str| of(stage, field).is_some_and(|value| *value == true);
            let names = |field: &str| {
                let list = of(stage, field).and_then(|value| value.as_array()).into_iter().flatten();
                list.filter_map(|name| name.as_str()).collect::<Vec<_>>().join(", ")
            };
            let root = if is("use_rslora") { "the root of its rank (rsLoRA)" } else { "its rank" };
            let whose = if several { format!(" of stage {}", stage + 1) } else { String::new() };
            let targets = names("target_modules");
            let mut text = format!("Adapter{whose}: rank {rank}, scaled by {alpha} over {root}, on {targets}");
            if is("use_dora") {
                text += "; with trained magnitudes (DoRA)";
            }
            if let Some(rate) = of(stage, "lora_dropout").and_then(|rate| rate.as_f64()).filter(|rate| *rate > 0.0) {
                text += &format!("; {:.0} % dropout in training", 100.0 * rate);
            }
            let tables = names("modules_to_save");
            if !tables.is_empty() {
                text += &format!("; beside it {tables}, trained whole");
            }
            Some(text)
        };
        (0..self.plan.stages.len()).filter_map(kind).collect()
    }

    fn card(&self, model: Model<'_>) -> Result<String, ReportError> {
        let mut environment = Environment::new();
        environment.set_undefined_behavior(UndefinedBehavior::Strict);
        environment.add_filter("md", markdown);
        environment.add_filter("yaml", yaml);
        environment.add_template("card.md", TEMPLATE)?;
        let plan = &self.plan;
        let base_source = plan.settings.iter().find(|s| s.path == "base.source").and_then(|s| s.value.as_str());
        // Only the hub's names mean anything there; a path of somebody's disk does not.
        let base_model = base_source.and_then(|s| s.strip_prefix("hf:")).and_then(|s| s.split('@').next());
        let local = base_source.filter(|source| !source.starts_with("hf:") && !source.starts_with("pypi:"));
        let base = local.and_then(|path| path.rsplit(['/', '\\']).next()).unwrap_or(&plan.base.description);
        let licence = plan.base.licence.as_deref();
        let license_id =
            licence.map(|licence| if is_license_id(licence) { licence.to_lowercase() } else { "other".into() });
        let license_name = licence.filter(|licence| !is_license_id(licence));
        let adapter = model == Model::Adapter;
        let mut tags: Vec<&str> = if adapter { vec!["lora"] } else { Vec::new() };
        for stage in &plan.stages {
            if !tags.contains(&stage.kind.as_str()) {
                tags.push(&stage.kind);
            }
        }
        let kinds = plan.stages.iter().map(|stage| stage.kind.as_str()).collect::<Vec<_>>().join(" then ");
        let what = if adapter { "A LoRA adapter (PEFT) over" } else { "A fine-tuned copy of" };
        let gguf = match model {
            Model::Gguf(file) => Some(file),
            Model::Adapter | Model::Merged => None,
        };
        let what = format!(
            "{what} {base}, trained by {kinds} ({} steps).",
            number::count(plan.stages.iter().map(|stage| stage.steps as u64).sum::<u64>())
        );
        let mut card = environment.get_template("card.md")?.render(context! {
            adapter, license_id, what,
            gguf => value(gguf),
            adapters => value(self.adapter_kinds()),
            base_model => value(base_model),
            license_name => value(license_name),
            tags => value(tags),
            name => &plan.name,
            repository => env!("CARGO_PKG_REPOSITORY"),
            temper => env!("CARGO_PKG_VERSION"),
            sources => value(self.card_sources()),
            base_licence => licence.unwrap_or(UNKNOWN),
            precision => &plan.base.precision,
            computed => provenance::precision(self),
            answer => value(answer::answer(self)),
            rewards => value(self.reward_paragraphs()),
            comparison => value(self.comparison.as_ref().map(intervals::table).unwrap_or_default()),
        })?;
        card.push('\n');
        Ok(card)
    }

    /// Each source of each stage with the licences of its files.
    fn card_sources(&self) -> Vec<DataRow> {
        let mut rows = Vec::new();
        for (place, stage) in self.plan.stages.iter().enumerate() {
            let index = self.plan.of(place);
            for (source, share) in stage.shares.sources.iter().enumerate() {
                // The domain is the first source, of one or several files; each general source is one file.
                let field = match source {
                    0 => format!("stages.{index}.train"),
                    n => format!("stages.{index}.mix.general.{}.path", n - 1),
                };
                let mut licences: Vec<&str> = Vec::new();
                for file in self.plan.inputs.iter().filter(|file| file.setting == field) {
                    let licence = file.licence.as_deref().unwrap_or(UNKNOWN);
                    if !licences.contains(&licence) {
                        licences.push(licence);
                    }
                }
                let licence = if licences.is_empty() { UNKNOWN.to_owned() } else { licences.join("; ") };
                let Share { name, drawn, actual, .. } = share;
                // What is trained of a prompt is what the model itself completes it with.
                let share = match self.reinforces(place) {
                    true => "prompts alone".to_owned(),
                    false => number::percent(actual.trained_tokens),
                };
                rows.push(DataRow { name: name.clone(), rows: number::count(drawn.samples), share, licence });
            }
        }
        rows
    }
}

/// Whether a licence is written as an identifier, as the hub wants it.
fn is_license_id(licence: &str) -> bool {
    licence.chars().all(|c| c.is_ascii_alphanumeric() || "-._+".contains(c))
}

/// Text inside a line or a cell of Markdown: nothing of it becomes markup.
fn markdown(text: String) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '`' | '*' | '_' | '[' | ']' | '|' | '#' => out.extend(['\\', character]),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '&' => out.push_str("&amp;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

/// A YAML scalar: JSON is YAML.
fn yaml(text: String) -> String {
    serde_json::Value::String(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_becomes_markup() {
        assert_eq!(markdown("a|b <i>\n*x*".to_owned()), r"a\|b &lt;i&gt; \*x\*");
        assert_eq!(yaml("a: \"b\"".to_owned()), r#""a: \"b\"""#);
        assert!(is_license_id("Apache-2.0") && !is_license_id("public domain (US)"));
    }
}
