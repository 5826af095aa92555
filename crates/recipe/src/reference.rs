//! The reference of all fields, made by the reader itself: what it asks for while it reads an example that has everything.

use std::fmt::Write;
use std::path::PathBuf;
use std::sync::OnceLock;

use crate::field_doc::{DefaultDoc, FieldDoc, Shape, sentence};
use crate::kind::closest;
use crate::reader::Context;
use crate::recipe::Recipe;
use crate::settings::plain;

/// Has every section, and every choice on which the fields or defaults of a section depend.
const EXAMPLE: &str = "
name: example
base: model.gguf
checkpoints: [{name: c, source: m, kind: pre_trained}]
stages:
  - {kind: sft, adapter: z, train: a, validation: b, filters: {secrets: mask}, lr_scheduler_type: wsd, mix: {general: [{name: g, path: self, share: 100}]}}
  - {kind: cpt, train: a}
  - {kind: sft, mode: full, adapter: z, train: a, optimizer: muon, learning_rates: [{modules: [mlp], learning_rate: 1}]}
  - {kind: cpt, mode: full, train: a}
  - {kind: sft, mode: lora_then_full, train: a, validation: b}
  - {kind: dpo, train: a}
  - {kind: dpo, mode: full, train: a}
  - {kind: rft, train: a, validation: b, rewards: REWARDS}
  - {kind: rft, mode: full, train: a, rewards: [{name: r, verifier: exact}]}
evaluation:
  domain: {task: classification, validation: b, test: d, labels: [x, y]}
  general: [{name: s, kind: chat_kl, path: e}, {name: t, kind: instruction_following, path: f}]
  floors: {s: {max_kl: 1}}
tune:
  space: {stages.0.learning_rate: {low: 1e-5, high: 1e-2, log: true, when: {stages.0.mode: lora}}}
  objectives: {loss: minimize}
  constraints: {seconds: 10}
  trainer: {command: [train], steps: 1}
";
const PROGRAM: &str = "command: [train], steps: 1";

/// What the first example has no room for: another task of the domain.
const OTHER_TASK: &str = "
name: example
base: model.gguf
stages: [{kind: sft, train: a}]
evaluation: {domain: {task: reward, validation: b, test: d, rewards: REWARDS}}
";

/// What carries the trials of a search out, but for a program.
const JOBS: [&str; 2] = ["sagemaker: {recipe: a, steps: 1, metrics: {step: x}}", "bedrock: {recipe: a}"];

/// Rewards of every kind.
const REWARDS: &str = "[\
    {name: a, verifier: exact, gate: true, extract: after, after: x}, \
    {name: b, verifier: numeric, extract: pattern, extract_pattern: x}, \
    {name: c, verifier: choice}, {name: d, verifier: regex, pattern: x}, {name: e, verifier: json_schema}, \
    {name: f, verifier: length, at_most: 1}, {name: g, verifier: format, tags: [x]}, {name: h, verifier: unit_tests}, \
    {name: i, program: x.py}, {name: j, url: 'http://x'}, {name: k, judge: 'http://x', model: x}]";

/// A field with all the defaults it can have.
pub(crate) type Row = (FieldDoc, Vec<DefaultDoc>);

pub(crate) struct Reference {
    pub sections: Vec<(String, &'static str)>,
    pub rows: Vec<Row>,
    pub exclusive: Vec<(String, Vec<&'static str>, bool)>,
}

pub(crate) fn read() -> &'static Reference {
    static REFERENCE: OnceLock<Reference> = OnceLock::new();
    REFERENCE.get_or_init(|| {
        let mut cx = Context::new(PathBuf::new(), false);
        for example in [EXAMPLE, OTHER_TASK] {
            Recipe::read_text(&example.replace("REWARDS", REWARDS), &[], &mut cx);
        }
        for jobs in JOBS {
            Recipe::read_text(&EXAMPLE.replace("REWARDS", REWARDS).replace(PROGRAM, jobs), &[], &mut cx);
        }
        debug_assert!(cx.problems.is_empty(), "{:?}", cx.problems);
        let mut sections = cx.sections;
        let mut seen = Vec::new();
        sections.retain(|(path, _)| {
            !seen.contains(path) && {
                seen.push(path.clone());
                true
            }
        });
        let mut rows: Vec<Row> = Vec::new();
        for field in cx.fields {
            match rows.iter_mut().find(|(row, _)| row.section == field.section && row.name == field.name) {
                Some((_, defaults)) if defaults.contains(&field.default) => {}
                Some((_, defaults)) => defaults.push(field.default),
                None => {
                    let defaults = vec![field.default.clone()];
                    rows.push((field, defaults));
                }
            }
        }
        let mut exclusive = cx.exclusive;
        exclusive.sort();
        exclusive.dedup();
        Reference { sections, rows, exclusive }
    })
}

/// The section that has a field, or an alias of one, of the name `key`; only if there is one such section, or one that all others
/// lie in.
pub(crate) fn section_of(key: &str) -> Option<String> {
    let rows = read().rows.iter().filter(|(row, _)| row.name == key || row.aliases.contains(&key));
    let sections: Vec<&String> = rows.map(|(row, _)| &row.section).collect();
    let outer = sections.iter().min_by_key(|section| section.len())?;
    sections.iter().all(|section| section.starts_with(outer.as_str())).then(|| (*outer).clone())
}

/// A field of the recipe that a search may leave open.
#[derive(Debug, Clone, PartialEq)]
pub struct Open {
    /// Its path, by its own name: `stages.0.learning_rate`.
    pub path: String,
    /// Whether it holds whole numbers; none where it holds no number.
    pub whole: Option<bool>,
}

/// The field at a path, as `--set` takes it; an alias becomes its own name.
///
/// # Errors
/// What to do about it, where there is no such field.
pub fn field_at(path: &str) -> Result<Open, String> {
    let dotted = path.replace('[', ".").replace(']', "");
    let segments: Vec<&str> = dotted.split('.').collect();
    let Some((name, above)) = segments.split_last() else { return Err("name a field".to_owned()) };
    // A list's place is `[]` in the reference.
    let section = above.iter().fold(String::new(), |path, segment| match segment.parse::<usize>() {
        Ok(_) => path + "[]",
        Err(_) if path.is_empty() => (*segment).to_owned(),
        Err(_) => format!("{path}.{segment}"),
    });
    let rows = &read().rows;
    let here = || rows.iter().map(|(row, _)| row).filter(|row| row.section == section);
    let Some(row) = here().find(|row| row.name == *name || row.aliases.contains(name)) else {
        if let Some(word) = closest(name, here().map(|row| row.name)) {
            return Err(format!("did you mean `{}`?", [above, &[word]].concat().join(".")));
        }
        return Err(match section_of(name) {
            Some(section) => format!("`{name}` belongs in `{section}`, as in stages.0.{name}"),
            None => "docs/recipe.md lists all fields; places in a list count from 0".to_owned(),
        });
    };
    let Shape::Value(schema) = &row.shape else {
        return Err(format!("`{path}` is a section: name a field in it"));
    };
    let whole = match schema["type"].as_str() {
        Some("integer") => Some(true),
        Some("number") => Some(false),
        _ => None,
    };
    Ok(Open { path: [above, &[row.name]].concat().join("."), whole })
}

/// The reference of the recipe as Markdown, the content of `docs/recipe.md`.
pub fn reference() -> String {
    let Reference { sections, rows, .. } = read();
    let mut text = String::from(
        "# The recipe\n\nThis file is made from the reader of the recipe; \
         `TEMPER_WRITE_REFERENCE=1 cargo test -p temper-recipe reference` writes it anew.\n\n\
         One YAML 1.2 file says what a run does. Unknown keys are refused, and all problems are shown at once, with line and \
         column. Paths of data and of a local base model start at the folder of the recipe; `output` starts at the working \
         directory. `--set stages.0.learning_rate=2e-4` lays a value over the file, `--set stages.0.lora_rank=null` takes one \
         away. Names that other tools use are accepted with a note.\n",
    );
    for (path, doc) in sections {
        let title = if path.is_empty() { "Top level".to_owned() } else { format!("`{path}`") };
        let doc = sentence(doc);
        // Writing to a `String` cannot fail, here and below.
        let _ = write!(
            text,
            "\n## {title}\n\n{doc}\n\n| key | meaning | expected | default | also called |\n|---|---|---|---|---|\n"
        );
        for (row, defaults) in rows.iter().filter(|(row, _)| row.section == *path) {
            let defaults: Vec<String> = defaults
                .iter()
                .map(|default| match default {
                    DefaultDoc::Required => "**required**".to_owned(),
                    DefaultDoc::Needed => "**required** where it has an effect".to_owned(),
                    DefaultDoc::Absent => "none".to_owned(),
                    DefaultDoc::Value { value, why } => format!("{}: {why}", plain(value)),
                })
                .collect();
            let aliases: Vec<String> = row.aliases.iter().map(|alias| format!("`{alias}`")).collect();
            let _ = writeln!(
                text,
                "| `{}` | {} | {} | {} | {} |",
                row.name,
                sentence(row.doc),
                row.kind,
                defaults.join("<br>"),
                aliases.join(", ")
            );
        }
    }
    text
}
