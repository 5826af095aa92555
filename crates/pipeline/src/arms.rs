//! `temper arms`: what each stage of a recipe brings: the recipe with some of its stages left out, all judged on the same items.
//!
//! Each arm is a run like any other in a folder of its own; stages that arms begin with in common are trained once, by the cache. An
//! arm whose gate refuses it (a baseline of reinforcement) is told as refused, and the others go on.

use std::path::{Path, PathBuf};

use temper_report::RunFolder;
use temper_report::arms::{Arms, Difference, Tried};
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

/// What [`arms`] leaves in its folder: for machines, and for people.
const FILES: [&str; 2] = ["arms.json", "arms.html"];

/// The folder of the arms of a run whose folder is `output`.
pub fn arms_folder(output: &Path) -> PathBuf {
    let mut name = output.file_name().unwrap_or_default().to_owned();
    name.push("-arms");
    output.with_file_name(name)
}

/// Runs each arm, judges all, and writes `arms.json` and `arms.html` into `folder`. `kinds` are those of the recipe's stages.
///
/// # Errors
/// As [`run`], but for what a gate refuses or training that came to nothing; when an arm has no `evaluation`.
pub fn arms(
    arms: Vec<Arm>,
    kinds: Vec<String>,
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
    let recipe = first.prepared.recipe.name.value.clone();
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
            sampled_tokens: 0,
            seconds: 0.0,
            comparison: None,
            refused: None,
        };
        let mut scores = Vec::new();
        match run(&prepared, options, on_event) {
            Ok(summary) => {
                one.seconds = summary.seconds;
                one.sampled_tokens = RunFolder::read(&summary.folder)?.sampled_tokens();
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
    let mut differences = Vec::new();
    let judged: Vec<&(Tried, Vec<Scored>)> = tried.iter().filter(|(_, scores)| !scores.is_empty()).collect();
    for (at, a) in judged.iter().enumerate() {
        for b in &judged[..at] {
            let (before, after) = if b.0.stages.len() > a.0.stages.len() { (a, b) } else { (b, a) };
            differences.push(Difference {
                of: after.0.name.clone(),
                beside: before.0.name.clone(),
                adds: added(&before.0.stages, &after.0.stages),
                rows: paired(&before.1, &after.1, bootstrap)?,
            });
        }
    }
    let arms = Arms { name: recipe, kinds, arms: tried.into_iter().map(|(one, _)| one).collect(), differences };
    let [json, page] = FILES.map(|file| folder.join(file));
    write_atomic(&json, to_json_pretty(&arms)?.as_bytes())?;
    arms.write_page(&page)?;
    Ok(arms)
}

/// The one stage that `more` has beside all of `fewer`.
fn added(fewer: &[usize], more: &[usize]) -> Option<usize> {
    let new: Vec<usize> = more.iter().copied().filter(|stage| !fewer.contains(stage)).collect();
    (more.len() == fewer.len() + 1 && new.len() == 1).then(|| new[0])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_is_added_where_the_rest_is_the_same() {
        assert_eq!(added(&[0, 2], &[0, 1, 2]), Some(1));
        assert_eq!(added(&[0], &[1, 2]), None);
        assert_eq!(added(&[0], &[0, 1, 2]), None);
        assert_eq!(added(&[0], &[1]), None);
    }
}
