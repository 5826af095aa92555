//! Advice as the pages of a run and of a study show it.

use temper_report::{Advice, Advised as Shown, NextStep, RunFolder};
use temper_search::store::Store;

use super::{ALL_GOOD, APPLY, Advised, of_ran, of_study, signals};
use crate::tune::Study;
use crate::{PipelineError, Provenance};

/// A run's folder with the advice on it, as far as it came. Without `texts` no text of the data is in it.
///
/// # Errors
/// As [`of_run`](super::of_run).
pub fn with_advice(run: RunFolder, texts: bool) -> Result<RunFolder, PipelineError> {
    let (mut plan, mut ran) = signals::of_run(run.path())?;
    ran.finished = run.is_finished();
    if !texts {
        plan.leave_texts_out();
        ran.leave_texts_out();
    }
    let recipe = Provenance::recorded(run.path()).and_then(|provenance| provenance.invocation);
    let recipe = recipe.map_or_else(|| "RECIPE".to_owned(), |begun| begun.recipe.display().to_string());
    let shown = shown(&of_ran(&plan, &ran), &recipe, &run.path().display().to_string());
    Ok(run.advised(shown))
}

/// The advice on a study so far.
///
/// # Errors
/// As [`of_study`].
pub(crate) fn on_study(study: &Study, store: &mut Store) -> Result<Advice, PipelineError> {
    let advised = of_study(study, store)?;
    Ok(shown(&advised, &study.file.display().to_string(), &study.folder.display().to_string()))
}

pub(super) fn shown(advised: &Advised, recipe: &str, folder: &str) -> Advice {
    let one = |(index, finding): (usize, &super::Finding)| {
        let causes: Vec<String> = finding.causes.iter().map(ToString::to_string).collect();
        let role = match finding.shows {
            _ if advised.cause == Some(index) => "likeliest cause".to_owned(),
            Some(symptom) => symptom.to_string(),
            None if !causes.is_empty() => format!("may explain {}", causes.join(" and ")),
            None => String::new(),
        };
        Shown {
            rule: finding.rule.to_owned(),
            severity: finding.severity.to_string(),
            good: [ALL_GOOD, APPLY].contains(&finding.rule),
            place: finding.place.clone(),
            found: finding.found.clone(),
            reason: finding.reason.to_owned(),
            source: finding.source.clone(),
            action: finding.action.to_owned(),
            role,
        }
    };
    let next = advised.next.and_then(|index| advised.findings.get(index)).and_then(|finding| {
        let experiment = finding.experiment.as_ref()?;
        let command = format!("temper advise {folder} --start");
        Some(NextStep { rule: finding.rule.to_owned(), lines: experiment.lines(recipe, folder), command })
    });
    Advice { findings: advised.findings.iter().enumerate().map(one).collect(), next }
}
