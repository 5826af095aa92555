//! What TensorBoard shows of a run: the numbers of `metrics.jsonl` as scalars.

use std::path::{Path, PathBuf};

use serde_json::Value;
use temper_run::{RunError, ScalarLog, to_json};

use crate::prepare::PreparedStage;
use crate::run::Event;

/// Writes training to `tensorboard/` of the run folder, one event file for each time that the run was started. Steps count
/// on from stage to stage, by the plan.
pub(crate) struct Board {
    folder: PathBuf,
    /// Started with the first number: its step tells TensorBoard what of older files is to be forgotten.
    log: Option<ScalarLog>,
    stages: Vec<Stage>,
}

/// What a preference stage tells beside its loss, by TRL's names.
const PREFERENCE: [&str; 6] =
    ["rewards/chosen", "rewards/rejected", "rewards/margins", "rewards/accuracies", "logps/chosen", "logps/rejected"];

/// What a step over rollouts tells beside its loss.
const POLICY: [&str; 5] = ["kl", "entropy", "ratio", "clip_low", "clip_high"];
/// What a round, or a validation by reward, tells.
const ROUND: [&str; 12] = [
    "reward",
    "reward_std",
    "greedy_reward",
    "greedy_solved",
    "unscored",
    "completion_length",
    "longest",
    "cut",
    "zero_variance",
    "resampled",
    "advantage",
    "reward_ceiling",
];

struct Stage {
    /// Planned steps of the stages before.
    offset: usize,
    /// Names of the sources, in the order of their losses.
    sources: Vec<String>,
}

impl Board {
    pub fn new(folder: &Path, stages: &[PreparedStage]) -> Self {
        let mut offset = 0;
        let stage = |stage: &PreparedStage| {
            let before = offset;
            offset += stage.settings.learning_rate.steps;
            Stage { offset: before, sources: stage.sources.iter().map(|source| source.name.clone()).collect() }
        };
        Self { folder: folder.join("tensorboard"), log: None, stages: stages.iter().map(stage).collect() }
    }

    /// Writes what training tells; other events have no numbers.
    pub fn hear(&mut self, event: &Event) -> Result<(), RunError> {
        let (stage, record) = match event {
            Event::Train { stage, progress, .. } => (*stage, value(progress)?),
            Event::General { stage, general } => {
                let mut record = value(general)?;
                record["event"] = "general".into();
                (*stage, record)
            }
            Event::Round { stage, report } => {
                let mut record = value(report)?;
                record["event"] = "round".into();
                (*stage, record)
            }
            Event::Reward { stage, validation } => {
                let mut record = value(validation)?;
                record["event"] = "reward".into();
                (*stage, record)
            }
            Event::Branched { stage, lines, .. } => {
                return lines.iter().try_for_each(|line| self.line(*stage, line));
            }
            _ => return Ok(()),
        };
        self.line(stage, &record)
    }

    /// Writes one line of `metrics.jsonl` of stage `stage`, from 0. What is not a finite number has no point.
    pub fn line(&mut self, stage: usize, line: &Value) -> Result<(), RunError> {
        let Stage { offset, sources } = &self.stages[stage];
        let step = line["step"].as_u64().unwrap_or(0);
        let mut scalars: Vec<(String, f64)> = Vec::new();
        let mut add = |tag: String, value: &Value| scalars.extend(value.as_f64().map(|number| (tag, number)));
        match line["event"].as_str() {
            Some("step") => {
                for name in ["loss", "learning_rate", "gradient_norm"] {
                    add(format!("train/{name}"), &line[name]);
                }
                let losses = line["loss_by_source"].as_array().into_iter().flatten();
                PREFERENCE.iter().chain(&POLICY).for_each(|name| add(format!("train/{name}"), &line[name]));
                sources.iter().zip(losses).for_each(|(name, loss)| add(format!("train/loss/{name}"), loss));
                if let (Some(tokens), Some(seconds)) = (line["processed_tokens"].as_f64(), line["seconds"].as_f64()) {
                    add("train/tokens_per_second".to_owned(), &(tokens / seconds).into());
                }
            }
            Some("validation") => {
                add("validation/loss".to_owned(), &line["loss"]);
                PREFERENCE.iter().for_each(|name| add(format!("validation/{name}"), &line[name]));
            }
            Some(event @ ("round" | "reward")) => {
                let group = if event == "round" { "rollouts" } else { "validation" };
                ROUND.iter().for_each(|name| add(format!("{group}/{name}"), &line[name]));
                for (name, part) in line["rewards"].as_object().into_iter().flatten() {
                    add(format!("{group}/rewards/{name}"), &part["mean"]);
                    add(format!("{group}/reward_errors/{name}"), &part["failed"]);
                }
                for (k, chance) in line["pass_at"].as_object().into_iter().flatten() {
                    add(format!("{group}/pass@{k}"), chance);
                }
            }
            Some("general") => {
                let suite = line["suite"].as_str().unwrap_or_default();
                add(format!("general/loss/{suite}"), &line["loss"]);
                add(format!("general/relative_change/{suite}"), &line["relative"]);
            }
            _ => {}
        }
        if scalars.is_empty() {
            return Ok(());
        }
        let at = *offset as u64 + step;
        let log = match &mut self.log {
            Some(log) => log,
            none => {
                // The validation before a later stage has the step at which the stage before ended, which stays.
                let first = if stage > 0 && step == 0 { at + 1 } else { at };
                none.insert(ScalarLog::start(&self.folder, first)?)
            }
        };
        let scalars: Vec<(&str, f64)> = scalars.iter().map(|(tag, number)| (tag.as_str(), *number)).collect();
        log.append(at, &scalars)
    }
}

/// A record as it stands in `metrics.jsonl`: numbers that are not finite are texts.
fn value<T: serde::Serialize>(record: &T) -> Result<Value, RunError> {
    let line = to_json(record)?;
    serde_json::from_str(&line).map_err(|source| RunError::Json { what: "a record".to_owned(), source })
}
