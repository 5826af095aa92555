//! A run folder as the report reads it: the files of `temper run`, with room for what older versions left out.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use temper_eval::compare::Comparison;
use temper_eval::record::ItemRecord;

use crate::advice::Advice;
use crate::averages::Averages;
use crate::error::ReportError;
use crate::metrics::{self, Metrics};
use crate::rft::record::{self, Alarm, Reinforced};
use crate::rft::rollouts;

/// Everything that a run folder says.
pub struct RunFolder {
    /// The folder.
    pub(crate) path: PathBuf,
    pub(crate) plan: Plan,
    pub(crate) metrics: Metrics,
    /// The stages that reinforce, in their order.
    pub(crate) reinforced: Vec<Reinforced>,
    /// What was alarming in them.
    pub(crate) alarms: Vec<Alarm>,
    /// What came up while it ran: warnings, and stages that ended early.
    pub(crate) warnings: Vec<String>,
    /// Where it went on after a stop, and what was reused.
    pub(crate) history: Vec<String>,
    /// Both axes; none before the judgement, or without an `evaluation`.
    pub(crate) comparison: Option<Comparison>,
    /// What became of each item; none where the folder has no `judgement_items.jsonl`.
    pub(crate) items: Option<Vec<ItemRecord>>,
    /// Points between base and tuned; none where `temper average` was not asked.
    pub(crate) averages: Option<Averages>,
    /// Of a run that came to its end.
    pub(crate) summary: Option<Summary>,
    /// What to do next; none where nobody was asked.
    pub(crate) advice: Option<Advice>,
}

/// `plan.json`.
#[derive(Deserialize)]
pub(crate) struct Plan {
    pub name: String,
    pub settings: Vec<Setting>,
    pub base: Base,
    pub device: String,
    pub provenance: Option<Provenance>,
    #[serde(default)]
    pub inputs: Vec<Input>,
    pub stages: Vec<Stage>,
    #[serde(default)]
    pub warnings: Vec<String>,
}

impl Plan {
    /// Which stage of the recipe stage `index` of the plan is, or is a part of.
    pub fn of(&self, index: usize) -> usize {
        self.stages[index].of.unwrap_or(index)
    }

    /// The value of a field of the stage at this place of the plan.
    pub fn setting(&self, index: usize, field: &str) -> Option<&Value> {
        let path = format!("stages.{}.{field}", self.of(index));
        self.settings.iter().find(|setting| setting.path == path).map(|setting| &setting.value)
    }
}

#[derive(Deserialize)]
pub(crate) struct Setting {
    pub path: String,
    pub value: Value,
    pub source: Source,
}

/// Where a setting came from.
#[derive(Deserialize)]
#[serde(tag = "from", rename_all = "snake_case")]
pub(crate) enum Source {
    Default { why: String },
    Recipe { line: usize },
    Alias { name: String, line: usize },
    Set { argument: String },
}

#[derive(Deserialize)]
pub(crate) struct Base {
    pub description: String,
    pub sha256s: Vec<(String, String)>,
    pub licence: Option<String>,
    pub precision: String,
    pub parameters: u64,
}

#[derive(Deserialize)]
pub(crate) struct Provenance {
    pub temper: String,
    pub system: String,
    #[serde(default)]
    pub began: Option<String>,
    pub invocation: Option<Invocation>,
}

#[derive(Deserialize)]
pub(crate) struct Invocation {
    pub recipe: String,
    pub recipe_sha256: String,
    pub sets: Vec<String>,
}

/// A file of data.
#[derive(Deserialize)]
pub(crate) struct Input {
    pub setting: String,
    pub path: String,
    pub sha256: String,
    #[serde(default)]
    pub trained: bool,
    #[serde(default)]
    pub licence: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Stage {
    /// Which stage of the recipe, from 0; none in folders of versions in which that was its place in the list.
    #[serde(default)]
    pub of: Option<usize>,
    pub kind: String,
    pub steps: usize,
    pub trained_parameters: u64,
    pub files: Vec<(String, FileReport)>,
    /// What the checks of the rows found; none in folders of versions that did not check.
    #[serde(default)]
    pub checks: Option<Checks>,
    pub shares: Shares,
    pub estimate: Estimate,
}

/// What the checks of a stage's rows found.
#[derive(Deserialize)]
pub(crate) struct Checks {
    pub rows: u64,
    pub findings: Vec<Finding>,
}

#[derive(Deserialize)]
pub(crate) struct Finding {
    /// Its name in the documentation.
    pub check: String,
    /// `error`, `warning` or `note`.
    pub severity: String,
    pub count: u64,
    #[serde(default)]
    pub first: Vec<Place>,
    #[serde(default)]
    pub kinds: Vec<(String, u64)>,
    /// `nothing`, `dropped`, `masked` or `refused`.
    pub action: String,
    pub hint: String,
}

#[derive(Deserialize)]
pub(crate) struct Place {
    pub file: String,
    pub line: u64,
    /// The row that it is like.
    #[serde(default)]
    pub like: Option<String>,
}

#[derive(Deserialize)]
pub(crate) struct Estimate {
    pub memory_bytes: u64,
    pub seconds: f64,
}

#[derive(Deserialize)]
pub(crate) struct FileReport {
    pub rows: u64,
    pub kept: u64,
    pub dropped: BTreeMap<String, Dropped>,
    pub processed_tokens: u64,
    pub trained_tokens: u64,
    pub lengths: Lengths,
    #[serde(default)]
    pub ignored_fields: BTreeMap<String, u64>,
}

#[derive(Deserialize)]
pub(crate) struct Dropped {
    pub count: u64,
    pub first_lines: Vec<u64>,
}

#[derive(Deserialize)]
pub(crate) struct Lengths {
    pub min: u64,
    pub p50: u64,
    pub max: u64,
}

#[derive(Deserialize)]
pub(crate) struct Shares {
    /// `samples`, `processed_tokens` or `trained_tokens`.
    pub unit: String,
    pub sources: Vec<Share>,
}

#[derive(Deserialize)]
pub(crate) struct Share {
    pub name: String,
    pub planned: Units<f64>,
    pub actual: Units<f64>,
    pub drawn: Units<u64>,
    pub epochs: f64,
    pub repeated: u64,
}

#[derive(Deserialize)]
pub(crate) struct Units<T> {
    pub samples: T,
    pub processed_tokens: T,
    pub trained_tokens: T,
}

/// A line of `events.jsonl`; each kind has some of the fields.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Event {
    event: String,
    /// From 0.
    stage: usize,
    step: usize,
    message: String,
    reason: String,
    advice: String,
    from: String,
    seen: String,
    changes: Vec<Change>,
}

#[derive(Deserialize)]
struct Change {
    what: String,
    before: String,
    now: String,
    note: String,
}

/// `summary.json`, but for what other files say.
#[derive(Deserialize)]
pub(crate) struct Summary {
    pub seconds: f64,
    #[serde(default)]
    pub ended: Option<String>,
}

impl RunFolder {
    /// Tokens of the completions that rounds of reinforcement sampled and trained on; nothing of other runs.
    pub fn sampled_tokens(&self) -> u64 {
        let rounds = self.reinforced.iter().flat_map(|stage| &stage.rounds);
        rounds.map(|round| (round.means.completions as f64 * round.means.completion_length).round() as u64).sum()
    }

    /// Reads the folder of a run that ended, stopped, or is still under way.
    ///
    /// # Errors
    /// [`ReportError`] where there is no plan, or a file cannot be read as what it should be. A last line of a log that was
    /// cut off is not an error.
    pub fn read(folder: &Path) -> Result<Self, ReportError> {
        let Some(plan) = json::<Plan>(&folder.join("plan.json"))? else {
            return Err(ReportError::NotARun { folder: folder.to_owned() });
        };
        let events = lines::<Event>(&folder.join("events.jsonl"))?.unwrap_or_default();
        let (mut warnings, mut history) = (Vec::new(), Vec::new());
        let (mut alarms, mut cached) = (Vec::<Alarm>::new(), Vec::new());
        for event in &events {
            let number = event.stage + 1;
            match event.event.as_str() {
                "warning" => warnings.push(event.message.clone()),
                "stopped" => warnings.push(format!(
                    "stage {number} ended early, after step {}: {}. Hint: {}.",
                    event.step,
                    event.reason.trim_end_matches('.'),
                    event.advice.trim_end_matches('.')
                )),
                "chosen" => warnings.push(format!("stage {number}: {}", event.reason)),
                "resumed" => history.push(format!("went on after step {} of stage {number}", event.step)),
                "reused" if event.from != "this run" => {
                    cached.push(event.stage);
                    history.push(format!("stage {number} was reused from the cache"));
                }
                // A run that was stopped and went on may give one again.
                "alarm" if alarms.iter().all(|old| (old.stage, &old.seen) != (event.stage, &event.seen)) => {
                    let (seen, advice) = (event.seen.clone(), event.advice.clone());
                    alarms.push(Alarm { stage: event.stage, step: event.step, seen, advice });
                }
                "branched" => history.push(format!(
                    "the first {} steps of stage {number} are those of an earlier run of another length",
                    event.step
                )),
                "changed" => history.extend(event.changes.iter().map(|change| {
                    format!(
                        "changed when it went on: {}, {} to {} ({})",
                        change.what, change.before, change.now, change.note
                    )
                })),
                _ => {}
            }
        }
        // A run that was stopped and went on may say a thing twice.
        let mut seen = std::collections::HashSet::new();
        warnings.retain(|warning| seen.insert(warning.clone()));
        let steps: Vec<usize> = plan.stages.iter().map(|stage| stage.steps).collect();
        let log = folder.join("metrics.jsonl");
        let metrics = metrics::read(lines(&log)?.unwrap_or_default(), &steps);
        let stages: Vec<usize> = (0..plan.stages.len()).filter(|&stage| plan.stages[stage].kind == "rft").collect();
        let mut reinforced = Vec::new();
        if !stages.is_empty() {
            reinforced = record::read(lines(&log)?.unwrap_or_default(), &stages);
        }
        for one in &mut reinforced {
            one.rollouts = rollouts::read(&folder.join(format!("rollouts-{}.jsonl", one.stage + 1)))?;
            one.reused = cached.contains(&one.stage);
        }
        Ok(Self {
            path: folder.to_owned(),
            plan,
            metrics,
            reinforced,
            alarms,
            warnings,
            history,
            comparison: json(&folder.join("judgement.json"))?,
            items: lines(&folder.join("judgement_items.jsonl"))?,
            averages: json(&folder.join("average.json"))?,
            summary: json(&folder.join("summary.json"))?,
            advice: None,
        })
    }

    /// The same for a run that comes to its end now and whose `summary.json` is still to be written.
    pub fn finished(self, seconds: f64, ended: String) -> Self {
        Self { summary: Some(Summary { seconds, ended: Some(ended) }), ..self }
    }

    /// The same with what to do next.
    pub fn advised(self, advice: Advice) -> Self {
        Self { advice: Some(advice), ..self }
    }

    /// The folder.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the run came to its end.
    pub fn is_finished(&self) -> bool {
        self.summary.is_some()
    }

    /// Rows of training data that were kept, over all stages and sources; a file of two stages counts once.
    pub(crate) fn trained_rows(&self) -> u64 {
        let mut files: BTreeMap<&str, u64> = BTreeMap::new();
        for (file, report) in self.plan.stages.iter().flat_map(|stage| &stage.files) {
            files.insert(file, report.kept);
        }
        let validation = |file: &str| {
            let mut settings = self.plan.settings.iter().filter(|s| s.path.ends_with(".validation"));
            settings.any(|s| s.value.as_str() == Some(file))
        };
        files.iter().filter(|(file, _)| !validation(file)).map(|(_, kept)| kept).sum()
    }

    /// Whether a stage reinforces: its losses are minus rewards.
    pub(crate) fn reinforces(&self, stage: usize) -> bool {
        self.reinforced.iter().any(|one| one.stage == stage)
    }

    /// Whether the recipe asks for a judgement.
    pub(crate) fn has_evaluation(&self) -> bool {
        self.plan.settings.iter().any(|setting| setting.path.starts_with("evaluation."))
    }
}

fn text(path: &Path) -> Result<Option<String>, ReportError> {
    match std::fs::read(path) {
        // A cut may fall inside a character; what stands before it is whole.
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(ReportError::Read { path: path.to_owned(), error }),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, ReportError> {
    let Some(text) = text(path)? else { return Ok(None) };
    let value = serde_json::from_str(&text);
    value.map(Some).map_err(|error| ReportError::Content { path: path.to_owned(), line: None, error })
}

fn lines<T: DeserializeOwned>(path: &Path) -> Result<Option<Vec<T>>, ReportError> {
    let Some(text) = text(path)? else { return Ok(None) };
    let mut values = Vec::new();
    for (index, line) in text.split_inclusive('\n').enumerate() {
        match serde_json::from_str(line) {
            Ok(value) => values.push(value),
            // Each record is written in one go with its line break: this one was cut off by a crash.
            Err(_) if !line.ends_with('\n') => {}
            Err(error) => return Err(ReportError::Content { path: path.to_owned(), line: Some(index + 1), error }),
        }
    }
    Ok(Some(values))
}
