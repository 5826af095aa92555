//! Sampling and rewards, as a plan shows them.

use super::{ARTICLE, Cited, Find, GUIDE, Hit, Rule, Severity, Symptom, hit, percent};
use crate::advise::signals::{Given, StageView};
use crate::rft::{Baseline, BaselineVerdict};

/// Temperature below which nearly every sample is the likeliest one.
const COLD: f64 = 0.2;
/// Share of the completions that the limit cuts, beyond which most rewards are lost: as the alarm of a run.
const CUT: f64 = 0.5;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "sampling-cannot-vary",
        severity: Severity::Error,
        when: "a stage of rft samples with top_k 1, a temperature below 0.2, or top_p below 0.1",
        reason: "all completions of a prompt are the same, so no advantage differs from zero and nothing is learnt",
        source: Cited {
            what: "Shao et al., DeepSeekMath, arXiv 2402.03300: the advantage is the difference within a group; top_k 1 stands in a \
                   recipe of aws/sagemaker-hyperpod-recipes @ 2631995; the bounds are ours",
            when: "2024 and June 2026",
        },
        action: "sample at temperature 1 from all tokens",
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Stage(|view| {
            let low = |field: &str, below: f64| view.number(field).filter(|value| *value < below);
            let (field, value, usual) = None
                .or_else(|| Some(("rollouts.top_k", view.number("rollouts.top_k").filter(|k| *k == 1.0)?, 0)))
                .or_else(|| Some(("rollouts.temperature", low("rollouts.temperature", COLD)?, 1)))
                .or_else(|| Some(("rollouts.top_p", low("rollouts.top_p", 0.1)?, 1)))?;
            Some(hit(view.path(field), format!("{field} is {value}")).set(view.path(field), usual))
        }),
    },
    Rule {
        id: "baseline-too-low",
        severity: Severity::Error,
        when: "fewer completions of the start earn something than baseline.low (5 %)",
        reason: "too few good samples to learn from: reinforcement sharpens ability, it does not close a large gap",
        source: GUIDE,
        action: "train with demonstrations first (sft), or make the reward kinder",
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Stage(|view| window(view, view.baseline()?, BaselineVerdict::SftFirst)),
    },
    Rule {
        id: "baseline-too-high",
        severity: Severity::Warning,
        when: "more completions of the start are solved than baseline.high (95 %)",
        reason: "little is left to gain, and what changes may do harm",
        source: GUIDE,
        action: "take harder prompts, or leave the stage out",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| window(view, view.baseline()?, BaselineVerdict::NotNeeded)),
    },
    Rule {
        id: "majority-earns-as-much",
        severity: Severity::Warning,
        when: "the commonest reference answer, given to every prompt, earns as much as the start or more, and at least 0.5",
        reason: "a reward that one answer collects is collected by that answer",
        source: ARTICLE,
        action: "balance the prompts, or weigh the rare answers higher in the reward",
        shows: None,
        explains: &[Symptom::RewardLost],
        find: Find::Stage(|view| {
            let baseline = view.baseline()?;
            let (answer, reward) = baseline.majority.as_ref()?;
            let start = baseline.reward.unwrap_or(0.0);
            (*reward >= 0.5 && *reward >= start).then(|| {
                let answer = answer.as_ref().map_or("one answer".to_owned(), |answer| format!("{answer:?}"));
                let found = format!("{answer} to every prompt earns {reward:.2}, the start {start:.2}");
                hit(view.path("rewards"), found)
            })
        }),
    },
    Rule {
        id: "completions-cut-at-the-start",
        severity: Severity::Warning,
        when: "the limit cuts more than half of the completions of the start",
        reason: "a cut answer cannot be right: its reward is lost, and the gradient with it",
        source: Cited { what: "huggingface/trl#5697: 97 to 99 % of answers cut; the bound is ours", when: "2026" },
        action: "raise rollouts.max_completion_length, and max_length with it",
        shows: None,
        explains: &[Symptom::RewardLost, Symptom::NoGain],
        find: Find::Stage(|view| {
            let cut = view.baseline()?.cut;
            (cut > CUT).then(|| longer(view, format!("{} of the completions are cut", percent(cut))))
        }),
    },
    Rule {
        id: "nothing-holds-the-reward",
        severity: Severity::Note,
        when: "a stage of rft has no reward that is held out",
        reason: "a reward is exploited sooner or later: a verifier that is not trained on shows it",
        source: ARTICLE,
        action: "give one verifier of what you really want `held_out: true`; `temper reward test` says whether a reward tells \
                 good from bad",
        shows: None,
        explains: &[Symptom::RewardLost],
        find: Find::Stage(|view| {
            let rewards = view.path("rewards.");
            let held_out = |setting: &Given| {
                setting.path.starts_with(&rewards) && setting.path.ends_with(".held_out") && setting.value == true
            };
            (view.is(&["rft"]) && !view.plan.settings.iter().any(held_out))
                .then(|| hit(view.path("rewards"), "every reward is trained on"))
        }),
    },
];

/// A start outside the window in which reinforcement works.
pub(super) fn window(view: &StageView<'_>, baseline: &Baseline, verdict: BaselineVerdict) -> Option<Hit> {
    (baseline.verdict == verdict).then(|| hit(view.path("baseline"), baseline.reason()))
}

/// Room for answers of twice the length.
pub(super) fn longer(view: &StageView<'_>, found: String) -> Hit {
    let field = "rollouts.max_completion_length";
    let found = hit(view.path(field), found);
    match (view.number(field), view.number("max_length")) {
        (Some(answer), Some(row)) => {
            found.set(view.path(field), 2.0 * answer).set(view.path("max_length"), row + answer)
        }
        _ => found,
    }
}
