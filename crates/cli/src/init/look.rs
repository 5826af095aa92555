//! What the user's files hold: kind of row, task, labels, lengths, repetitions.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use anyhow::anyhow;
use temper_data::{
    LengthReport, LoadedRows, Passage, ReadOptions, Row, RowContent, RowKind, RowRules, Together, Wanted, parse_rows,
    prepare, together,
};
use temper_pipeline::{Base, PipelineError};
use temper_text::Message;

use super::Task;
use crate::command::Failure;

/// At most so many answers make a set of labels.
const MOST_LABELS: usize = 100;
/// A label is at most so many characters.
const LONGEST_LABEL: usize = 40;
/// A set of labels has at least so many rows a label on average.
const ROWS_A_LABEL: usize = 5;
/// Fewer groups are names of corpora rather than of documents.
pub const FEWEST_GROUPS: usize = 10;
/// Fewer rows cannot be parted into training, validation and test.
const FEWEST_ROWS: usize = 20;

/// One row of the user's.
pub struct Seen {
    /// The line as it stands in the file.
    pub raw: String,
    /// What it is.
    pub row: Row,
    /// Tokens, and trained tokens, by the base's tokenizer and template; 0 of a row that the plan will drop.
    pub tokens: usize,
    pub trained: usize,
}

/// All of the user's files.
pub struct Data {
    /// Each file with its rows.
    pub files: Vec<(PathBuf, usize)>,
    pub kind: RowKind,
    pub rows: Vec<Seen>,
    pub lengths: LengthReport,
    /// Rows that the plan will drop, by reason.
    pub dropped: BTreeMap<String, usize>,
    /// Fields that nothing reads, with the rows that have them.
    pub ignored: BTreeMap<String, usize>,
    pub task: Task,
    /// Why it is that task.
    pub why_task: String,
    /// Labels with their rows, in order of the alphabet; empty unless the task is classification.
    pub labels: Vec<(String, usize)>,
    /// Which rows must not be parted.
    pub together: Together,
    /// Rows with a field `group` or `source`.
    pub grouped: usize,
    /// Different groups; with fewer than [`FEWEST_GROUPS`] they do not steer the split.
    pub groups: usize,
    /// Rows with the text of an earlier row and another answer.
    pub contradictions: usize,
}

/// Reads every file, strictly.
pub fn look(paths: &[PathBuf], base: &Base, wanted: Option<Task>) -> Result<Data, Failure> {
    let mut files: Vec<(PathBuf, usize)> = Vec::new();
    let mut rows = Vec::new();
    let mut kind: Option<RowKind> = None;
    let (mut dropped, mut ignored) = (BTreeMap::new(), BTreeMap::new());
    for path in paths {
        let bytes = std::fs::read(path).map_err(|e| {
            Failure::input(anyhow!("{}: cannot be read: {e}\nhint: check the path and its permissions", path.display()))
        })?;
        let loaded = parse_rows(path, &bytes, &ReadOptions::default()).map_err(|error| {
            let text = error.to_string();
            let hint = "`temper data check FILE` tells more; docs/data.md lists the formats";
            let tail = if text.contains("hint:") { String::new() } else { format!("\nhint: {hint}") };
            Failure::input(anyhow!("{text}{tail}"))
        })?;
        if loaded.kind == RowKind::Task {
            return Err(Failure::input(anyhow!(
                "{}: rows of {} are for stages that are not in this version\nhint: `temper data convert` makes conversations of them where they hold answers",
                path.display(),
                loaded.kind
            )));
        }
        if let Some(kind) = kind.filter(|&kind| kind != loaded.kind) {
            return Err(Failure::input(anyhow!(
                "{}:{}: rows of {}, but {} holds rows of {kind}\nhint: make one recipe for each kind of row, or convert one of them",
                path.display(),
                loaded.rows[0].line,
                loaded.kind,
                files[0].0.display()
            )));
        }
        kind = Some(loaded.kind);
        files.push((path.clone(), loaded.rows.len()));
        for (field, count) in &loaded.ignored_fields {
            *ignored.entry(field.clone()).or_insert(0) += count;
        }
        rows.extend(measure(loaded, &bytes, base, &mut dropped)?);
    }
    let (Some(kind), Some((first, _))) = (kind, files.first()) else {
        return Err(Failure::input(anyhow!("no data\nhint: name at least one file after --data")));
    };
    if rows.len() < FEWEST_ROWS {
        return Err(Failure::input(anyhow!(
            "{}: {} rows in all, expected at least {FEWEST_ROWS} to part into training, validation and test\nhint: a few \
             examples are better put into the prompt than trained on",
            first.display(),
            rows.len()
        )));
    }
    let (task, why_task, labels) = task(first, kind, &rows, base, wanted)?;

    let texts: Vec<String> = rows.iter().map(|seen| question(&seen.row.content)).collect();
    let mut groups: Vec<Option<&str>> = rows.iter().map(|seen| seen.row.group.as_deref()).collect();
    let mut names: Vec<&str> = groups.iter().flatten().copied().collect();
    names.sort_unstable();
    names.dedup();
    let (group_names, grouped) = (names.len(), groups.iter().flatten().count());
    if group_names < FEWEST_GROUPS {
        groups.fill(None);
    }
    let together = together(&texts, &groups);
    let folded = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase();
    let mut first_answer: HashMap<String, Option<&str>> = HashMap::new();
    let mut contradictions = 0;
    for (seen, text) in rows.iter().zip(&texts) {
        let own = answer(&seen.row.content);
        let before = *first_answer.entry(folded(text)).or_insert(own);
        contradictions += usize::from(before != own);
    }
    let lengths = LengthReport::new(rows.iter().map(|seen| seen.tokens).filter(|&tokens| tokens > 0));
    Ok(Data {
        files,
        kind,
        rows,
        lengths,
        dropped,
        ignored,
        task,
        why_task,
        labels,
        together,
        grouped,
        groups: group_names,
        contradictions,
    })
}

/// Rows of one file with their lengths.
fn measure(
    loaded: LoadedRows,
    bytes: &[u8],
    base: &Base,
    dropped: &mut BTreeMap<String, usize>,
) -> Result<Vec<Seen>, Failure> {
    let pairs = loaded.kind == RowKind::Preference;
    let source = prepare(&loaded, &base.renderer, RowRules { wanted: Wanted::Any, ..usize::MAX.into() }, "data", 1.0)
        .map_err(|error| Failure::from(PipelineError::from(error)))?;
    for (reason, of) in &source.report.dropped {
        *dropped.entry(reason.to_string()).or_insert(0) += of.count;
    }
    let examples = &source.examples;
    let size = |index| {
        // Of a pair it is the longer answer, with its prompt, that must fit.
        let tokens = if pairs {
            let answers = source.pair(index).map_err(|error| Failure::from(PipelineError::from(error)))?.answers();
            answers.iter().map(|answer| answer.ids.len()).max().unwrap_or(0)
        } else {
            examples.processed_tokens(index)
        };
        Ok((examples.line(index), (tokens, examples.trained_tokens(index))))
    };
    let sizes: HashMap<usize, (usize, usize)> = (0..examples.len()).map(size).collect::<Result<_, Failure>>()?;
    // A line is kept as it stands, with the fields that are not read; what is no line is written as its row is understood.
    let lines: Option<Vec<&str>> =
        std::str::from_utf8(bytes).ok().map(|text| text.trim_start_matches('\u{feff}').split('\n').collect());
    let format = loaded.format;
    let seen = |row: Row| {
        let (tokens, trained) = sizes.get(&row.line).copied().unwrap_or_default();
        let line = lines.as_ref().and_then(|lines| lines.get(row.line - 1)).map(|line| line.trim());
        let raw = match line
            .filter(|line| serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line).is_ok())
        {
            Some(line) => line.to_owned(),
            None => {
                let written =
                    format.write(&row).map_err(|why| Failure::input(anyhow!("{}: {why}", loaded.path.display())))?;
                serde_json::Value::from(written.0).to_string()
            }
        };
        Ok(Seen { raw, row, tokens, trained })
    };
    loaded.rows.into_iter().map(seen).collect()
}

/// What is asked: all turns but system messages and the last answer; the prompt; the text.
pub fn question(content: &RowContent) -> String {
    match content {
        RowContent::Messages(conversation) => {
            let messages = &conversation.messages;
            let asked = messages.iter().rposition(|message| message.role == "assistant").unwrap_or(messages.len());
            said(&messages[..asked])
        }
        RowContent::Completion { prompt, .. } => prompt.clone(),
        RowContent::Text(text) => text.clone(),
        RowContent::Task(task) => said(&task.prompt.messages),
        RowContent::Preference(pair) => match &pair.prompt {
            Passage::Text(text) => text.clone(),
            Passage::Messages(turns) => said(turns),
        },
    }
}

fn said(messages: &[Message]) -> String {
    let turns = messages.iter().filter(|message| message.role != "system");
    turns.map(|message| message.content.as_str()).collect::<Vec<_>>().join("\n")
}

/// The last answer.
pub fn answer(content: &RowContent) -> Option<&str> {
    match content {
        RowContent::Messages(conversation) => conversation
            .messages
            .last()
            .filter(|message| message.role == "assistant")
            .map(|message| message.content.as_str()),
        RowContent::Completion { completion, .. } => Some(completion),
        RowContent::Text(_) | RowContent::Preference(_) | RowContent::Task(_) => None,
    }
}

type Found = (Task, String, Vec<(String, usize)>);

/// The task, by the answers.
fn task(first: &Path, kind: RowKind, rows: &[Seen], base: &Base, wanted: Option<Task>) -> Result<Found, Failure> {
    let refuse = |task: &str, why: String| {
        let hint = "leave --task out, or change the rows";
        Err(Failure::input(anyhow!("{}: --task {task}: {why}\nhint: {hint}", first.display())))
    };
    if kind == RowKind::Text {
        let why = "rows of `text` are documents: continued pretraining on all of their tokens".to_owned();
        return match wanted {
            None | Some(Task::Text) => Ok((Task::Text, why, Vec::new())),
            Some(other) => refuse(other.word(), "rows of `text` have no answers".to_owned()),
        };
    }
    if kind == RowKind::Preference {
        let why = "rows with a better and a worse answer: the better one is to become likelier".to_owned();
        return match wanted {
            None | Some(Task::Preference) => Ok((Task::Preference, why, Vec::new())),
            Some(other) => refuse(other.word(), "rows of preference pairs have two answers".to_owned()),
        };
    }
    if wanted == Some(Task::Preference) {
        return refuse("preference", format!("rows of {kind} have no two answers to choose from"));
    }
    if wanted == Some(Task::Text) {
        return refuse("text", format!("rows of {kind} are not plain text"));
    }
    match labels(kind, rows, base) {
        Ok(labels) if wanted != Some(Task::Chat) => {
            let longest = labels.iter().map(|(label, _)| label.chars().count()).max().unwrap_or(0);
            let why = format!(
                "{} different answers over {} rows, none longer than {longest} characters: a choice among labels",
                labels.len(),
                rows.len()
            );
            Ok((Task::Classification, why, labels))
        }
        Ok(_) => Ok((Task::Chat, "as --task says".to_owned(), Vec::new())),
        Err(why) if wanted == Some(Task::Classification) => refuse("classification", why),
        Err(why) => Ok((Task::Chat, format!("free answers ({why})"), Vec::new())),
    }
}

/// The labels with their rows, or why the answers are none.
fn labels(kind: RowKind, rows: &[Seen], base: &Base) -> Result<Vec<(String, usize)>, String> {
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for seen in rows {
        let line = seen.row.line;
        let Some(answer) = answer(&seen.row.content) else {
            return Err(format!("the row of line {line} does not end with an answer"));
        };
        // A completion often begins with the space after its prompt; as an answer of a chat it has none.
        let answer = if kind == RowKind::Completion { answer.trim() } else { answer };
        if let RowContent::Messages(conversation) = &seen.row.content
            && conversation.messages.iter().rev().nth(1).is_none_or(|message| message.role != "user")
        {
            return Err(format!("the answer of line {line} does not follow a user turn"));
        }
        if let Some(label) = seen.row.label.as_deref().filter(|&label| label != answer) {
            return Err(format!("line {line} answers {answer:?}, but its `label` is {label:?}"));
        }
        if answer.chars().count() > LONGEST_LABEL || answer.contains('\n') {
            return Err(format!("the answer of line {line} is longer than a label of {LONGEST_LABEL} characters"));
        }
        if answer.trim() != answer || answer.is_empty() {
            return Err(format!("the answer of line {line} is empty or begins or ends with a space"));
        }
        *counts.entry(answer).or_insert(0) += 1;
    }
    if counts.len() < 2 || counts.len() > MOST_LABELS || counts.len() * ROWS_A_LABEL > rows.len() {
        return Err(format!("{} different answers over {} rows", counts.len(), rows.len()));
    }
    if kind == RowKind::Completion && base.renderer.check_template().is_err() {
        return Err("the base has no chat template, and labels are judged as answers of a chat".to_owned());
    }
    Ok(counts.into_iter().map(|(label, count)| (label.to_owned(), count)).collect())
}
