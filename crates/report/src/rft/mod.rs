//! Stages that reinforce: what they earned, what they show, and completions to read.
//!
//! `record` reads their lines of `metrics.jsonl` and `rollouts` the completions; `charts` draws, `words` says.

mod charts;
pub(crate) mod record;
pub(crate) mod rollouts;
mod words;

use serde::Serialize;

use self::charts::Drawn;
use self::record::Reinforced;
use self::words::Parts;
use crate::chart::{Chart, Frame};
use crate::folder::RunFolder;
use crate::metrics::Step;
use crate::number::{ascii, count};
use crate::provenance::stage_title;

/// Rounds before which most alarms cannot be given: their first ten are held against the last.
const ROUNDS_OF_ALARMS: usize = 20;

/// The section on one stage.
#[derive(Serialize)]
pub(crate) struct Section {
    title: String,
    baseline: Option<BaselineWords>,
    /// What it came to.
    words: Vec<String>,
    alarms: Vec<AlarmRow>,
    /// What is said where there are none.
    calm: String,
    charts: Vec<Chart>,
    notes: Vec<String>,
    rollouts: rollouts::Section,
}

#[derive(Serialize)]
struct BaselineWords {
    class: &'static str,
    verdict: &'static str,
    text: String,
}

#[derive(Serialize)]
struct AlarmRow {
    step: String,
    seen: String,
    advice: String,
}

pub(crate) fn sections(run: &RunFolder, texts: bool) -> Vec<Section> {
    run.reinforced.iter().map(|stage| section(run, stage, texts)).collect()
}

fn section(run: &RunFolder, stage: &Reinforced, texts: bool) -> Section {
    let index = stage.stage;
    let planned = |stage: usize| run.plan.stages[stage].steps;
    let steps: Vec<&Step> = run.metrics.steps.iter().filter(|step| step.stage == index).collect();
    let clipped = steps.iter().any(|step| step.policy.clipped.iter().any(|share| *share > 0.0));
    let alarms = || run.alarms.iter().filter(|alarm| alarm.stage == index);
    let frame = Frame {
        last: planned(index),
        starts: Vec::new(),
        alarms: alarms().map(|alarm| alarm.step).collect(),
        x_label: "optimiser step of this stage",
    };
    let drawn = Drawn {
        stage,
        frame,
        steps,
        before: (0..index).map(planned).sum(),
        parts: Parts::of(run, index),
        limit: run.plan.setting(index, "rollouts.max_completion_length").and_then(|limit| limit.as_u64()),
    };
    let row = |alarm: &record::Alarm| AlarmRow {
        step: count(alarm.step as u64),
        seen: alarm.seen.clone(),
        advice: alarm.advice.clone(),
    };
    let sampled = !stage.rounds.is_empty();
    let mut words = run.reward_words(stage);
    if !sampled {
        words.insert(0, "No round has been sampled.".to_owned());
    }
    Section {
        title: if run.plan.stages.len() > 1 { stage_title(index, &run.plan.stages[index].kind) } else { String::new() },
        baseline: stage.baseline.as_ref().map(|known| {
            let (class, verdict, text) = words::baseline(known);
            BaselineWords { class, verdict, text }
        }),
        words,
        alarms: alarms().map(row).collect(),
        calm: calm(stage),
        charts: drawn.charts(),
        notes: if sampled { words::notes(stage, clipped) } else { Vec::new() },
        rollouts: rollouts::section(stage.rollouts.as_ref(), &drawn.parts.names, texts, stage.reused),
    }
}

/// That there was no alarm, and how much that says.
fn calm(stage: &Reinforced) -> String {
    let rounds = stage.rounds.len();
    match (stage.reused, rounds) {
        (true, _) => "This stage was taken from the cache; its alarms lie with the run that made it.".to_owned(),
        (_, 0) => String::new(),
        (_, rounds) if rounds < ROUNDS_OF_ALARMS => format!(
            "No alarm was given. That says little of {} rounds: most alarms compare the first ten with the last ten.",
            count(rounds as u64)
        ),
        _ => "No alarm was given.".to_owned(),
    }
}

impl RunFolder {
    /// What its stages that reinforce came to, in lines of ASCII for a terminal; none without such stages. No text of a row is
    /// in them.
    pub fn reward_lines(&self) -> Vec<String> {
        let mut lines = Vec::new();
        for stage in &self.reinforced {
            lines.push(format!("stage {}, rft", stage.stage + 1));
            if let Some(known) = &stage.baseline {
                let (_, verdict, text) = words::baseline(known);
                lines.push(format!("  baseline: {verdict}. {text}"));
            }
            lines.extend(self.reward_words(stage).iter().map(|text| format!("  {text}")));
            for alarm in self.alarms.iter().filter(|alarm| alarm.stage == stage.stage) {
                lines.push(format!("  alarm after step {}: {}", alarm.step, alarm.seen));
                lines.push(format!("  hint: {}", alarm.advice));
            }
        }
        lines.iter().map(|line| ascii(line)).collect()
    }

    /// Reward of rounds and of validations.
    pub(crate) fn reward_words(&self, stage: &Reinforced) -> Vec<String> {
        words::rounds(stage).into_iter().chain(words::validation(stage)).collect()
    }

    /// What each stage that reinforces was rewarded for and came to, a paragraph each: for model cards.
    pub(crate) fn reward_paragraphs(&self) -> Vec<String> {
        let several = self.plan.stages.len() > 1;
        let paragraph = |stage: &Reinforced| {
            let whose = if several { format!(" in stage {}", stage.stage + 1) } else { String::new() };
            let said = Parts::of(self, stage.stage).said();
            let words = words::validation(stage).or_else(|| words::rounds(stage)).unwrap_or_default();
            format!("Reinforced{whose} by the rewards {said}. {words}").trim_end().to_owned()
        };
        self.reinforced.iter().map(paragraph).collect()
    }
}
