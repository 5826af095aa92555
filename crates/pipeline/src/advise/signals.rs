//! What is measured of a recipe and of a run: all that a rule may look at. What a study shows is in `study`.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use temper_eval::compare::Comparison;

use crate::PipelineError;
use crate::rft::{Alarm, Baseline};

/// What a plan says: that of a recipe, or the one that a run recorded.
#[derive(Debug, Deserialize)]
pub(super) struct Planned {
    pub name: String,
    pub settings: Vec<Given>,
    pub base: PlannedBase,
    pub stages: Vec<PlannedStage>,
    /// From which kind of checkpoint to start; see `checkpoint`.
    #[serde(default)]
    pub advice: Vec<KindAdvice>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Given {
    pub path: String,
    pub value: Value,
    pub source: Origin,
}

/// Where a value came from.
#[derive(Debug, Deserialize)]
pub(super) struct Origin {
    /// `default`, `recipe`, `alias` or `set`.
    pub from: String,
    /// Of an alias, the name that stands in the recipe.
    #[serde(default)]
    pub name: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PlannedBase {
    pub parameters: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct KindAdvice {
    pub kinds: Vec<String>,
    pub because: String,
}

/// One stage, or one part of `mode: lora_then_full`.
#[derive(Debug, Deserialize)]
pub(super) struct PlannedStage {
    /// Which stage of the recipe.
    #[serde(default)]
    pub of: Option<usize>,
    pub kind: String,
    pub mode: String,
    pub steps: usize,
    pub files: Vec<(String, File)>,
    pub shares: Shares,
    #[serde(default)]
    pub fit: Fit,
    #[serde(default)]
    pub rounds: Option<Rounds>,
}

#[derive(Debug, Deserialize)]
pub(super) struct File {
    pub rows: usize,
    #[serde(default)]
    pub dropped: BTreeMap<String, Dropped>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Dropped {
    pub count: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Shares {
    pub sources: Vec<Share>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Share {
    pub name: String,
    pub drawn: Drawn,
    /// Rows drawn over rows there are.
    pub epochs: f64,
}

#[derive(Debug, Deserialize)]
pub(super) struct Drawn {
    pub samples: f64,
    pub processed_tokens: f64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Fit {
    pub learning_rate: Rate,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Rate {
    pub warmup_steps: usize,
}

#[derive(Debug, Deserialize)]
pub(super) struct Rounds {
    pub baseline: Option<Baseline>,
}

impl Planned {
    pub fn setting(&self, path: &str) -> Option<&Given> {
        self.settings.iter().find(|given| given.path == path)
    }

    pub fn text(&self, path: &str) -> Option<&str> {
        self.setting(path)?.value.as_str()
    }

    /// Each stage of the recipe once.
    pub fn stages(&self) -> impl Iterator<Item = StageView<'_>> {
        let all = (0..self.stages.len()).map(move |index| self.view(index));
        all.filter(move |view| view.index == 0 || self.view(view.index - 1).of != view.of)
    }

    /// Stage `index` of the plan.
    pub fn view(&self, index: usize) -> StageView<'_> {
        let stage = &self.stages[index];
        StageView { plan: self, index, of: stage.of.unwrap_or(index), stage }
    }

    /// Takes out what quotes the data.
    pub fn leave_texts_out(&mut self) {
        let rounds = self.stages.iter_mut().filter_map(|stage| stage.rounds.as_mut());
        rounds.for_each(|rounds| rounds.baseline = rounds.baseline.take().map(Baseline::without_texts));
    }

    /// A path as the recipe's text has it: another tool's name for a field stays.
    pub fn written(&self, path: &str) -> String {
        let alias = self.setting(path).and_then(|given| given.source.name.as_deref());
        match (alias, path.rsplit_once('.')) {
            (Some(alias), Some((section, _))) => format!("{section}.{alias}"),
            (Some(alias), None) => alias.to_owned(),
            (None, _) => path.to_owned(),
        }
    }
}

/// A stage with the plan around it.
#[derive(Clone, Copy)]
pub(super) struct StageView<'a> {
    pub plan: &'a Planned,
    /// Its place in the plan.
    pub index: usize,
    /// Which stage of the recipe.
    pub of: usize,
    pub stage: &'a PlannedStage,
}

impl<'a> StageView<'a> {
    pub fn path(&self, field: &str) -> String {
        format!("stages.{}.{field}", self.of)
    }

    pub fn setting(&self, field: &str) -> Option<&'a Given> {
        self.plan.setting(&self.path(field))
    }

    pub fn number(&self, field: &str) -> Option<f64> {
        self.setting(field)?.value.as_f64()
    }

    pub fn text(&self, field: &str) -> Option<&'a str> {
        self.setting(field)?.value.as_str()
    }

    /// Whether the user gave the field.
    pub fn is_given(&self, field: &str) -> bool {
        self.setting(field).is_some_and(|given| given.source.from != "default")
    }

    pub fn is(&self, kinds: &[&str]) -> bool {
        kinds.contains(&self.stage.kind.as_str())
    }

    /// `lora`, `full` or `lora_then_full`, as the recipe has it.
    pub fn mode(&self) -> &'a str {
        self.text("mode").unwrap_or(&self.stage.mode)
    }

    /// Names of the general sources.
    pub fn general(&self) -> Vec<&'a str> {
        let beginning = self.path("mix.general.");
        let names =
            self.plan.settings.iter().filter(move |s| s.path.starts_with(&beginning) && s.path.ends_with(".name"));
        names.filter_map(|setting| setting.value.as_str()).collect()
    }

    /// Percent of the mix that is domain data; 100 without a mix.
    pub fn domain_percent(&self) -> f64 {
        self.number("mix.domain").unwrap_or(100.0)
    }

    pub fn mixes(&self) -> bool {
        self.domain_percent() < 100.0
    }

    fn domain(&self) -> impl Iterator<Item = &'a Share> {
        let general = self.general();
        self.stage
            .shares
            .sources
            .iter()
            .filter(move |share| share.epochs > 0.0 && !general.contains(&share.name.as_str()))
    }

    /// Rows of the domain, before they are repeated.
    pub fn domain_rows(&self) -> f64 {
        self.domain().map(|share| (share.drawn.samples / share.epochs).round()).sum()
    }

    /// Tokens of the domain, before they are repeated.
    pub fn domain_tokens(&self) -> f64 {
        self.domain().map(|share| share.drawn.processed_tokens / share.epochs).sum()
    }

    /// How often the domain's rows are seen.
    pub fn epochs(&self) -> f64 {
        let drawn: f64 = self.domain().map(|share| share.drawn.samples).sum();
        drawn / self.domain_rows().max(1.0)
    }

    /// Tokens of a step on average.
    pub fn tokens_of_a_step(&self) -> f64 {
        let all: f64 = self.stage.shares.sources.iter().map(|share| share.drawn.processed_tokens).sum();
        all / self.stage.steps.max(1) as f64
    }

    /// Whether an earlier stage of the recipe is of one of these kinds.
    pub fn follows(&self, kinds: &[&str]) -> bool {
        self.plan.stages[..self.index].iter().any(|stage| kinds.contains(&stage.kind.as_str()))
    }

    /// Whether an earlier stage trains adapters.
    pub fn follows_lora(&self) -> bool {
        self.plan.stages[..self.index].iter().any(|stage| stage.mode == "lora")
    }

    pub fn baseline(&self) -> Option<&'a Baseline> {
        self.stage.rounds.as_ref()?.baseline.as_ref()
    }
}

/// What a run's folder says beside its plan.
#[derive(Debug, Default)]
pub(super) struct Ran {
    /// Of each stage of the plan.
    pub stages: Vec<Trained>,
    pub comparison: Option<Comparison>,
    /// Whether it came to its end.
    pub finished: bool,
    /// Whether full rank was taken, where that was to be decided.
    pub taken: Option<bool>,
}

impl Ran {
    /// Takes out what quotes the data.
    pub fn leave_texts_out(&mut self) {
        self.stages.iter_mut().for_each(|stage| stage.baseline = stage.baseline.take().map(Baseline::without_texts));
    }
}

/// What happened in a stage.
#[derive(Debug, Default)]
pub(super) struct Trained {
    /// Steps, and the training loss of each.
    pub losses: Vec<(usize, f64)>,
    /// Steps done, and the validation loss then; of `rft`, minus the mean reward.
    pub validations: Vec<(usize, f64)>,
    pub rounds: Vec<Round>,
    /// By suite, the lower end of the 95 % interval of the last look's rise, as a share.
    pub general: BTreeMap<String, f64>,
    pub baseline: Option<Baseline>,
    pub alarms: Vec<(Alarm, usize)>,
    /// After which step it ended early, and why.
    pub stopped: Option<(usize, String)>,
}

/// What a round of sampling showed.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Round {
    pub step: usize,
    pub completions: usize,
    pub reward: Option<f64>,
    pub reward_std: Option<f64>,
    pub rewards: BTreeMap<String, Part>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Part {
    pub failed: usize,
}

impl Trained {
    /// Mean training loss of up to five steps that end at `step`.
    pub fn loss_around(&self, step: usize) -> Option<f64> {
        let until = self.losses.iter().rposition(|(at, _)| *at <= step)?;
        let part = &self.losses[(until + 1).saturating_sub(5)..=until];
        Some(part.iter().map(|(_, loss)| loss).sum::<f64>() / part.len() as f64)
    }

    /// The lowest validation.
    pub fn best(&self) -> Option<(usize, f64)> {
        self.validations.iter().copied().filter(|(_, loss)| loss.is_finite()).min_by(|a, b| a.1.total_cmp(&b.1))
    }

    /// Means of a number over the first ten rounds and the last ten; none where they overlap.
    pub fn ends(&self, of: impl Fn(&Round) -> Option<f64>) -> Option<(f64, f64)> {
        const WINDOW: usize = 10;
        let values: Vec<f64> = self.rounds.iter().filter_map(of).collect();
        let mean = |part: &[f64]| part.iter().sum::<f64>() / WINDOW as f64;
        (values.len() >= 2 * WINDOW).then(|| (mean(&values[..WINDOW]), mean(&values[values.len() - WINDOW..])))
    }
}

/// The plan and what happened, from a run's folder, finished or not.
///
/// # Errors
/// [`PipelineError::Unfit`] where there is no run, or a file is damaged.
pub(super) fn of_run(folder: &Path) -> Result<(Planned, Ran), PipelineError> {
    let plan: Option<Planned> = json(&folder.join("plan.json"))?;
    let plan = plan.ok_or_else(|| unfit(&folder.join("plan.json"), "is not there".to_owned()))?;
    let comparison = json(&folder.join("judgement.json"))?;
    let finished = folder.join("summary.json").is_file();
    let metrics = lines(&folder.join("metrics.jsonl"))?;
    let events = lines(&folder.join("events.jsonl"))?;
    let ran = ran(plan.stages.len(), &metrics, &events);
    Ok((plan, Ran { comparison, finished, ..ran }))
}

/// What metrics and events of a run of so many stages say. A run that was resumed says some lines twice: the last counts.
pub(super) fn ran(stages: usize, metrics: &[Value], events: &[Value]) -> Ran {
    let mut ran = Ran { stages: (0..stages).map(|_| Trained::default()).collect(), ..Ran::default() };
    for line in metrics {
        // Metrics count stages from 1, events from 0.
        let stage = line["stage"].as_u64().unwrap_or(1).saturating_sub(1) as usize;
        let Some(trained) = ran.stages.get_mut(stage) else { continue };
        let step = line["step"].as_u64().unwrap_or(0) as usize;
        let mut put = |into: fn(&mut Trained) -> &mut Vec<(usize, f64)>| {
            let all = into(trained);
            all.retain(|(at, _)| *at < step);
            all.push((step, number(&line["loss"])));
        };
        match line["event"].as_str() {
            Some("step") => put(|trained| &mut trained.losses),
            Some("validation") => put(|trained| &mut trained.validations),
            Some("general") => {
                let suite = line["suite"].as_str().unwrap_or_default().to_owned();
                trained.general.insert(suite, number(&line["low"]));
            }
            Some("round") => {
                if let Ok(round) = Round::deserialize(line) {
                    trained.rounds.retain(|earlier| earlier.step < round.step);
                    trained.rounds.push(round);
                }
            }
            Some("baseline") => trained.baseline = Baseline::deserialize(line).ok(),
            _ => {}
        }
    }
    for event in events {
        let stage = event["stage"].as_u64().unwrap_or(0) as usize;
        let Some(trained) = ran.stages.get_mut(stage) else { continue };
        let step = event["step"].as_u64().unwrap_or(0) as usize;
        match event["event"].as_str() {
            Some("alarm") => {
                if let Ok(alarm) = Alarm::deserialize(&event["alarm"])
                    && trained.alarms.iter().all(|(known, _)| *known != alarm)
                {
                    trained.alarms.push((alarm, step));
                }
            }
            Some("stopped") => {
                trained.stopped = Some((step, event["reason"].as_str().unwrap_or_default().to_owned()));
            }
            Some("chosen") => ran.taken = event["choice"]["taken"].as_bool(),
            _ => {}
        }
    }
    ran
}

/// A number, or the name of one that is not finite.
fn number(value: &Value) -> f64 {
    value.as_f64().or_else(|| value.as_str()?.parse().ok()).unwrap_or(f64::NAN)
}

fn read(path: &Path) -> Result<Option<String>, PipelineError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(String::from_utf8_lossy(&bytes).into_owned())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unfit(path, format!("cannot be read: {error}"))),
    }
}

fn json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, PipelineError> {
    let Some(text) = read(path)? else { return Ok(None) };
    serde_json::from_str(&text).map(Some).map_err(|error| unfit(path, format!("is damaged: {error}")))
}

/// The lines of a log; one that was cut off by a crash is the last, and is left out.
fn lines(path: &Path) -> Result<Vec<Value>, PipelineError> {
    let text = read(path)?.unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    let line = |(index, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| unfit(path, format!("line {} is damaged: {error}", index + 1)))
    };
    whole.lines().enumerate().map(line).collect()
}

fn unfit(path: &Path, problem: String) -> PipelineError {
    PipelineError::Unfit {
        path: path.display().to_string(),
        problem,
        hint: "give a recipe, the folder of a run (runs/NAME) or of a study (runs/NAME-study)".to_owned(),
    }
}
