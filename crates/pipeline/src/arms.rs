//! `temper arms`: what each stage of a recipe brings: the recipe with some of its stages left out, all judged on the same items.
//!
//! Each arm is a run like any other in a folder of its own; stages that arms begin with in common are trained once, by the cache. An
//! arm whose gate refuses it (a baseline of reinforcement) is told as refused, and the others go on.

use std::path::{Path, PathBuf};

use serde::Serialize;
use temper_eval::compare::{Comparison, Row};
use temper_run::{to_json_pretty, write_atomic};

use crate::PipelineError;
use crate::judge::{Scored, bootstrap};
use crate::prepare::Prepared;
use crate::probe::paired;
use crate::run::{Event, Options, run};

/// A recipe with some of its stages.
pub struct Arm {
    /// `sft+rft`.
    pub name: String,
    /// Which of the recipe's stages, from 0.
    pub stages: Vec<usize>,
    /// The recipe with these alone.
    pub prepared: Prepared,
}

/// What became of an arm.
#[derive(Debug, Serialize)]
pub struct Tried {
    /// `sft+rft`.
    pub name: String,
    /// Which of the recipe's stages, from 0.
    pub stages: Vec<usize>,
    /// Its run.
    pub folder: PathBuf,
    /// Tokens of its rows, drawn over all stages; what is sampled in rollouts is not in it.
    pub processed_tokens: usize,
    /// Of these, tokens that carried loss.
    pub trained_tokens: usize,
    /// Seconds of the run; stages that another arm had made take none.
    pub seconds: f64,
    /// It against the base; none where it was refused.
    pub comparison: Option<Comparison>,
    /// Why it ended without a result.
    pub refused: Option<String>,
    /// It against the arm without its last stage, and against the one without its first, where these are among the arms.
    pub against: Vec<(String, Vec<Row>)>,
}

/// All arms.
#[derive(Debug, Serialize)]
pub struct Arms {
    /// In the order asked for.
    pub arms: Vec<Tried>,
}

/// The file that [`arms`] writes.
const FILE: &str = "arms.json";

/// The folder of the arms of a run whose folder is `output`.
pub fn arms_folder(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push("-arms");
    output.with_file_name(name)
}

/// Runs each arm, judges all, and writes `arms.json` into `folder`.
///
/// # Errors
/// As [`run`], but for what a gate refuses or training that came to nothing; when an arm has no `evaluation`.
pub fn arms(
    arms: Vec<Arm>,
    folder: &Path,
    options: &Options,
    on_event: &mut dyn FnMut(&Event),
) -> Result<Arms, PipelineError> {
    let Some(first) = arms.first().filter(|arm| arm.prepared.recipe.evaluation.is_some()) else {
        return Err(PipelineError::Unfit {
            path: "evaluation".to_owned(),
            problem: "the recipe has none: nothing tells one arm from another".to_owned(),
            hint: "add `evaluation` with `domain`, `general` or both".to_owned(),
        });
    };
    let bootstrap = bootstrap(&first.prepared.recipe);
    let mut tried: Vec<(Tried, Vec<Scored>)> = Vec::new();
    for Arm { name, stages, prepared } in arms {
        let kind = format!("{} of the recipe's stages", stages.len());
        on_event(&Event::Probing { name: name.clone(), kind });
        let sources = prepared.stages.iter().flat_map(|stage| &stage.schedule.shares().sources);
        let (processed_tokens, trained_tokens) =
            sources.fold((0, 0), |(all, own), s| (all + s.drawn.processed_tokens, own + s.drawn.trained_tokens));
        let mut one = Tried {
            name,
            stages,
            folder: prepared.recipe.output.value.clone(),
            processed_tokens,
            trained_tokens,
            seconds: 0.0,
            comparison: None,
            refused: None,
            against: Vec::new(),
        };
        let mut scores = Vec::new();
        match run(&prepared, options, on_event) {
            Ok(summary) => {
                one.seconds = summary.seconds;
                one.comparison = summary.comparison;
                scores = summary.scores;
            }
            Err(error @ (PipelineError::NothingGained { .. } | PipelineError::Gate { .. })) => {
                one.refused = Some(error.to_string().lines().next().unwrap_or_default().to_owned());
            }
            Err(error) => return Err(error),
        }
        tried.push((one, scores));
    }
    for at in 0..tried.len() {
        let stages = &tried[at].0.stages;
        let without = [stages.split_last().map(|(_, rest)| rest), stages.split_first().map(|(_, rest)| rest)];
        let mut against: Vec<(String, Vec<Row>)> = Vec::new();
        for rest in without.into_iter().flatten().filter(|rest| !rest.is_empty()) {
            let other = tried.iter().find(|(other, scores)| other.stages == rest && !scores.is_empty());
            if let Some((other, scores)) = other.filter(|_| !tried[at].1.is_empty())
                && against.iter().all(|(name, _)| *name != other.name)
            {
                against.push((other.name.clone(), paired(scores, &tried[at].1, bootstrap)?));
            }
        }
        tried[at].0.against = against;
    }
    let arms = Arms { arms: tried.into_iter().map(|(one, _)| one).collect() };
    write_atomic(&folder.join(FILE), to_json_pretty(&arms)?.as_bytes())?;
    Ok(arms)
}
