//! Weights between the base and what a run made of it: `base + a * (tuned - base)`, each `a` judged on both axes.
//!
//! A point on the straight line between the two often keeps most of the gain and loses less of the rest (WiSE-FT, Wortsman
//! et al. 2022), for the price of judging it. Of a run of one LoRA stage the line is walked by the adapter's scale, which
//! gives the same merged weights; of any other, weight by weight. The rows that steer choose; the test rows are not read.

use std::path::{Path, PathBuf};

use serde::Serialize;
use temper_eval::compare::{Comparison, Metric, Row};
use temper_eval::verdict::FloorDecision;
use temper_kernels::{Cpu, Device};
use temper_model::{Dtype, Llama, Purpose, Tuning, Workspace};
use temper_train::{Batches, PreferenceMetrics, evaluate, evaluate_pairs};

use crate::checkpoints::{Checkpoints, Finished, io};
use crate::export::Form;
use crate::identity::stage_keys;
use crate::judge::{Models, Split, judge};
use crate::prepare::{Prepared, PreparedStage};
use crate::reference::{References, references};
use crate::run::Event;
use crate::start::{Start, load, load_result, result_of, start_after, start_of};
use crate::{PipelineError, export};

/// One point between base and tuned.
#[derive(Debug, Serialize)]
pub struct AveragePoint {
    /// `a`: 0 is the base, 1 the run's result.
    pub weight: f64,
    /// Loss on the last stage's validation rows; none where it has none.
    pub validation: Option<f64>,
    /// Of validation rows that are preference pairs.
    #[serde(flatten)]
    pub preference: Option<PreferenceMetrics>,
    /// Both axes, the domain on its validation rows; none without an `evaluation`.
    pub comparison: Option<Comparison>,
    /// Whether every floor was kept; none without floors.
    pub kept: Option<bool>,
}

/// All points, and which of them is proposed.
#[derive(Debug, Serialize)]
pub struct Averages {
    /// By rising weight.
    pub points: Vec<AveragePoint>,
    /// The weight that is proposed; none where no point is worth it.
    pub chosen: Option<f64>,
    /// Why.
    pub reason: String,
    /// Folders that were written: adapter, merged model.
    pub written: Vec<PathBuf>,
}

/// Judges the run in the folder `run` at these weights, and writes the proposed model to `run/averaged` where `export` says
/// so, and all points to `run/average.json`.
///
/// # Errors
/// When a stage of the run is not finished, a weight lies outside 0 to 1, or nothing can be scored.
pub fn average(
    prepared: &Prepared,
    run: &Path,
    weights: &[f64],
    export: bool,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Averages, PipelineError> {
    let mut weights = weights.to_vec();
    if let Some(weight) = weights.iter().find(|weight| !(0.0..=1.0).contains(*weight)) {
        return Err(PipelineError::Unfit {
            path: "weights".to_owned(),
            problem: format!("{weight} lies outside 0 to 1"),
            hint: "0 is the base, 1 is the run's result".to_owned(),
        });
    }
    weights.sort_by(f64::total_cmp);
    weights.dedup();
    let line = Line::of(prepared, run)?;
    if line.stage.validation.is_none() && prepared.recipe.evaluation.is_none() {
        return Err(PipelineError::Unfit {
            path: "stages".to_owned(),
            problem: "neither validation rows nor an `evaluation`: nothing tells one weight from another".to_owned(),
            hint: "give the last stage `validation`, or the recipe an `evaluation`".to_owned(),
        });
    }
    let validation = line.validation(on_event)?;
    let base = if prepared.leaves_adapter() { None } else { Some(prepared.load_base(&Tuning::Frozen)?) };
    let mut points = Vec::new();
    for &weight in &weights {
        let model = line.model(weight)?;
        let (validation, preference) = validation_of(line.stage, &model, &validation);
        let models = Models { base: base.as_ref().unwrap_or(&model), tuned: &model };
        let comparison = match prepared.recipe.evaluation {
            Some(_) => Some(judge(prepared, models, Split::Validation, false, on_event)?.comparison),
            None => None,
        };
        let kept = comparison.as_ref().and_then(floors_kept);
        points.push(AveragePoint { weight, validation, preference, comparison, kept });
    }
    let (chosen, reason) = choose(&points);
    let mut written = Vec::new();
    if let Some(weight) = chosen.filter(|_| export) {
        written = line.export(weight, &run.join("averaged"))?;
    }
    let averages = Averages { points, chosen, reason, written };
    let text = temper_run::to_json_pretty(&averages)?;
    temper_run::write_atomic(&run.join("average.json"), text.as_bytes())?;
    Ok(averages)
}

/// Why a stage's result cannot be averaged with what it started from.
fn off_the_line(stage: &PreparedStage) -> Option<&'static str> {
    match &stage.tuning {
        Tuning::Lora(lora) if lora.dora => Some("`use_dora` trains lengths of weights"),
        Tuning::Lora(lora) if !lora.modules_to_save.is_empty() => Some("`modules_to_save` trains tables whole"),
        _ if stage.adapter.is_some() => Some("the stage begins with another `adapter`"),
        _ => None,
    }
}

/// The run between whose ends the points lie.
struct Line<'p> {
    prepared: &'p Prepared,
    /// Its folder.
    run: &'p Path,
    /// The last stage.
    index: usize,
    stage: &'p PreparedStage,
    /// What that stage left.
    result: PathBuf,
}

impl<'p> Line<'p> {
    fn of(prepared: &'p Prepared, run: &'p Path) -> Result<Self, PipelineError> {
        let mut last = None;
        for (index, stage) in prepared.stages.iter().enumerate() {
            if let Some(why) = off_the_line(stage) {
                return Err(PipelineError::Unfit {
                    path: format!("stages.{index}"),
                    problem: format!("{why}, so that no factor leads back from it to the base"),
                    hint: "judge the run as it is: `temper report`".to_owned(),
                });
            }
            let result = Checkpoints::open(run, index)?.result();
            if Finished::read(&result, None).is_none() {
                return Err(PipelineError::Unfit {
                    path: run.display().to_string(),
                    problem: format!("stage {} is not finished", index + 1),
                    hint: "`temper resume` ends it".to_owned(),
                });
            }
            last = Some(Self { prepared, run, index, stage, result });
        }
        // A recipe has at least one stage.
        last.ok_or_else(|| PipelineError::Unfit {
            path: "stages".to_owned(),
            problem: "there is none".to_owned(),
            hint: "add one".to_owned(),
        })
    }

    /// The weights that the last stage started from, opened anew.
    fn before(&self) -> Result<Start<'p>, PipelineError> {
        start_of(self.prepared, self.run, self.index)
    }

    /// The weights at `weight`, as they are read one by one.
    fn at(&self, weight: f64) -> Result<Start<'p>, PipelineError> {
        let Self { prepared, stage, result, .. } = self;
        if prepared.leaves_adapter() {
            return start_after(prepared, stage, stage.weight_average * weight, self.before()?, result);
        }
        let tuned = result_of(prepared, self.run, self.index)?;
        Ok(Start::Averaged(Box::new((Start::Base(&prepared.base.checkpoint), tuned, weight as f32))))
    }

    /// The model at `weight`; of one LoRA stage the base with its adapter, so that the base is in it, too.
    fn model(&self, weight: f64) -> Result<Llama<Cpu>, PipelineError> {
        let Self { prepared, stage, result, .. } = self;
        if prepared.leaves_adapter() {
            return load_result(prepared, stage, stage.weight_average * weight, &self.before()?, result);
        }
        Ok(load(prepared, &self.at(weight)?, &Tuning::Frozen)?)
    }

    /// The last stage's validation rows, with what their reference says where they are pairs.
    fn validation(&self, on_event: &mut dyn FnMut(&Event)) -> Result<Batches, PipelineError> {
        let Self { prepared, stage, index, .. } = *self;
        let mut known = References::default();
        if stage.reference.is_some() && stage.validation.is_some() {
            let before = self.before()?;
            let start = load(prepared, &before, &Tuning::Frozen)?;
            let workspace = workspace(&start, stage);
            let keys = stage_keys(prepared);
            let key = index.checked_sub(1).map(|before| keys[before].as_str());
            let dir = Checkpoints::open(self.run, index)?;
            let mut tell = |event: Event| {
                on_event(&event);
                Ok(())
            };
            known = references(prepared, index, key, &before, (&start, &workspace), dir.dir(), &mut tell)?;
        }
        Ok(stage.validation_batches(&known)?)
    }

    /// Writes the model at `weight`: the adapter where there is one, and the merged weights.
    fn export(&self, weight: f64, dir: &Path) -> Result<Vec<PathBuf>, PipelineError> {
        let Self { prepared, stage, .. } = self;
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        let mut written = Vec::new();
        if prepared.leaves_adapter() {
            let path = dir.join("adapter");
            prepared.save(&self.model(weight)?, &stage.tuning, stage.weight_average * weight, &path)?;
            written.push(path);
        }
        let (form, name) = (Form::Folder(Dtype::F32), &prepared.recipe.name.value);
        written.push(export::write(&prepared.base, &self.at(weight)?, form, name, dir)?);
        Ok(written)
    }
}

/// A workspace for the rows of a stage, without gradients.
fn workspace(model: &Llama<Cpu>, stage: &PreparedStage) -> Workspace<<Cpu as Device>::Buffer> {
    let (space, tokens) = (model.adapter_space(), stage.workspace_tokens());
    Workspace::allocate(model.device(), model.config(), space, Purpose::Infer, tokens)
}

/// The loss on the last stage's validation rows, and what else is said of pairs; none where there are no rows.
fn validation_of(
    stage: &PreparedStage,
    model: &Llama<Cpu>,
    batches: &Batches,
) -> (Option<f64>, Option<PreferenceMetrics>) {
    if batches.is_empty() {
        return (None, None);
    }
    let workspace = workspace(model, stage);
    match (batches, &stage.settings.preference) {
        (Batches::Pairs(batches), Some(settings)) => {
            let (loss, metrics, _) = evaluate_pairs(model, &workspace, settings, batches);
            (Some(loss), Some(metrics))
        }
        (Batches::Tokens(batches), _) => (Some(evaluate(model, &workspace, true, batches).mean()), None),
        (Batches::Pairs(_) | Batches::Rollouts(..) | Batches::Told, _) => (None, None),
    }
}

/// Whether all floors were kept; none without floors.
fn floors_kept(comparison: &Comparison) -> Option<bool> {
    let mut floors = comparison.rows.iter().filter_map(|row| row.floor).peekable();
    floors.peek()?;
    Some(floors.all(|floor| floor.decision == FloorDecision::Kept))
}

/// The row on which the domain is decided.
fn domain(point: &AveragePoint) -> Option<&Row> {
    let rows = point.comparison.iter().flat_map(|comparison| &comparison.rows);
    rows.into_iter().find(|row| row.suite == "domain" && row.metric == Metric::Accuracy)
}

/// Of the points whose floors were all kept (or that have none) the one with the best domain: its accuracy, without one the
/// lowest validation loss, without either the largest weight. Of equals the smaller weight, which changed less. The base
/// itself is not proposed.
fn choose(points: &[AveragePoint]) -> (Option<f64>, String) {
    let kept: Vec<&AveragePoint> =
        points.iter().filter(|point| point.weight > 0.0 && point.kept != Some(false)).collect();
    if kept.is_empty() {
        return (None, "no weight above 0 kept every floor".to_owned());
    }
    let score = |point: &AveragePoint| {
        let loss = point.validation.filter(|loss| loss.is_finite());
        let unscored = if point.validation.is_some() { f64::NEG_INFINITY } else { point.weight };
        domain(point).map(|row| row.tuned).or(loss.map(|loss| -loss)).unwrap_or(unscored)
    };
    let best = kept.iter().copied().reduce(|a, b| if score(b) > score(a) { b } else { a });
    let Some(best) = best else { return (None, "nothing was scored".to_owned()) };
    let by = match (domain(best), best.validation) {
        (Some(row), _) => format!("domain accuracy {:.1} %", 100.0 * row.tuned),
        (None, Some(loss)) => format!("validation loss {loss:.4}"),
        (None, None) => "the largest change".to_owned(),
    };
    let floors = if best.kept.is_some() { " of those that kept every floor" } else { "" };
    (Some(best.weight), format!("{}: {by}, the best{floors}, on the rows that steer", best.weight))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(weight: f64, validation: f64, kept: Option<bool>) -> AveragePoint {
        AveragePoint { weight, validation: Some(validation), preference: None, comparison: None, kept }
    }

    #[test]
    fn the_best_of_those_that_kept_is_proposed_and_never_the_base() {
        let points = [point(0.0, 1.0, Some(true)), point(0.5, 2.0, Some(true)), point(1.0, 1.5, Some(false))];
        assert_eq!(choose(&points).0, Some(0.5));
        let points = [point(0.5, 2.0, Some(false)), point(1.0, 1.5, Some(false))];
        assert_eq!(choose(&points), (None, "no weight above 0 kept every floor".to_owned()));
        let points = [point(0.25, 2.0, None), point(0.5, 2.0, None), point(0.75, f64::NAN, None)];
        assert_eq!(choose(&points).0, Some(0.25), "of equals the one that changed less; what is no number never wins");
    }
}
