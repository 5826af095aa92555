//! The question that a run was to answer, and the answer in one line.

use serde::Serialize;
use temper_eval::verdict::Verdict;

use crate::folder::RunFolder;
use crate::number::{count, typeset};
use crate::rft::record::Alarm;

/// The head of the page.
#[derive(Serialize)]
pub(crate) struct Answer {
    /// In a few words.
    pub short: String,
    /// A sentence with the numbers.
    pub reason: String,
    /// `good`, `bad`, `unsure` or empty.
    pub class: &'static str,
    pub warnings: Vec<String>,
}

/// What was asked: base, data, and both axes.
pub(crate) fn question(run: &RunFolder) -> String {
    let kinds: Vec<String> = run.plan.stages.iter().map(|stage| stage.kind.to_uppercase()).collect();
    let mut sources: Vec<&str> = Vec::new();
    for share in run.plan.stages.iter().flat_map(|stage| &stage.shares.sources) {
        if !sources.contains(&share.name.as_str()) {
            sources.push(&share.name);
        }
    }
    let on = match &sources[..] {
        [] | [_] => "domain data alone".to_owned(),
        [first, general @ ..] => format!("{first} data mixed with {}", general.join(" and ")),
    };
    format!(
        "Does {} on {} rows ({on}) teach {} its domain, and does the model keep what it knew?",
        kinds.join(", then "),
        count(run.trained_rows()),
        run.plan.base.description,
    )
}

/// The verdict, or why there is none.
pub(crate) fn answer(run: &RunFolder) -> Answer {
    let planned: usize = run.plan.stages.iter().map(|stage| stage.steps).sum();
    let done = run.metrics.steps.last().map_or(0, |step| step.at);
    let unfinished = |what: &str| {
        let (done, planned) = (count(done as u64), count(planned as u64));
        (
            "Unfinished".to_owned(),
            format!("{what} {done} of {planned} steps were trained when this page was made; it shows what there was."),
            "unsure",
        )
    };
    let judgement = run.comparison.as_ref().map(|comparison| comparison.judgement.as_ref());
    let (short, reason, class) = match judgement {
        Some(Some(judgement)) => {
            let class = match judgement.verdict {
                Verdict::GainedAndKept => "good",
                Verdict::Forgot | Verdict::Lost => "bad",
                Verdict::KeptWithoutGain { .. } | Verdict::CannotTell { .. } => "unsure",
            };
            (capital(&judgement.verdict.to_string()), typeset(&capital(&judgement.reason)), class)
        }
        Some(None) => (
            "Measured, not judged".to_owned(),
            "A verdict needs a domain task and at least one floor in `evaluation`; the recipe lacks one of them."
                .to_owned(),
            "",
        ),
        None if run.has_evaluation() && run.summary.is_none() => {
            let what = if done == planned {
                "The judgement of this run is not there yet."
            } else {
                "This run has not come to its end."
            };
            unfinished(what)
        }
        None if run.summary.is_none() => unfinished("This run has not come to its end."),
        None => (
            "Not judged".to_owned(),
            format!(
                "The recipe has no `evaluation`: only {} of the training are known, not what was gained or forgotten.",
                if run.reinforced.is_empty() { "the losses" } else { "losses and rewards" }
            ),
            "unsure",
        ),
    };
    let warnings = run.plan.warnings.iter().chain(&run.warnings).map(|warning| capital(warning));
    let alarm = |alarm: &Alarm| {
        let seen = alarm.seen.trim_end_matches('.');
        let (stage, step) = (alarm.stage + 1, count(alarm.step as u64));
        format!("Alarm of stage {stage} after step {step}: {seen}. What to do stands under Reinforcement.")
    };
    let warnings = warnings.chain(run.alarms.iter().map(alarm)).collect();
    Answer { short, reason, class, warnings }
}

fn capital(text: &str) -> String {
    let mut characters = text.chars();
    characters.next().map_or(String::new(), |first| first.to_uppercase().chain(characters).collect())
}
