//! The learning rate. These stand behind the mix and the length of a stage, which are mended first.

use temper_recipe::{Mode, StageKind, usual_rate};

use super::{ARTICLE, Find, Rule, Severity, Symptom, hit, shown};
use crate::advise::signals::StageView;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "rate-moved-while-mixing",
        severity: Severity::Warning,
        when: "a stage mixes, and its learning_rate is given and outside half to twice the default of its kind and mode",
        reason: "training is more sensitive to the rate when mixing: moving it off the default is named as the top cause of \
                 instability",
        source: ARTICLE,
        action: "take learning_rate away, or search it within half to twice its default",
        shows: None,
        explains: &[Symptom::Instability, Symptom::Forgetting],
        find: Find::Stage(|view| {
            let (rate, usual) = (view.number("learning_rate")?, usual(view));
            let moved = !(0.5..=2.0).contains(&(rate / usual));
            (view.mixes() && view.is_given("learning_rate") && moved).then(|| {
                let found = format!("the rate is {}, the default {}", shown(rate), shown(usual));
                hit(view.path("learning_rate"), found).remove(view.path("learning_rate"))
            })
        }),
    },
    Rule {
        id: "rate-above-default",
        severity: Severity::Note,
        when: "a stage of sft, cpt or dpo that does not mix has a given learning_rate above four times the default of its kind \
               and mode",
        reason: "too high a rate overshoots, trains unstably and forgets fast",
        source: ARTICLE,
        action: "search the rate around its default, such as half, once and twice",
        shows: None,
        explains: &[Symptom::Instability, Symptom::Overfitting, Symptom::Forgetting],
        find: Find::Stage(|view| {
            let (rate, usual) = (view.number("learning_rate")?, usual(view));
            (alone(view) && view.is_given("learning_rate") && rate > 4.0 * usual).then(|| {
                let found = format!("the rate is {}, the default {}", shown(rate), shown(usual));
                hit(view.path("learning_rate"), found).remove(view.path("learning_rate"))
            })
        }),
    },
    Rule {
        id: "rate-below-default",
        severity: Severity::Note,
        when: "a stage of sft, cpt or dpo that does not mix has a given learning_rate below a quarter of the default of its \
               kind and mode",
        reason: "too low a rate wastes the run: the model hardly moves",
        source: ARTICLE,
        action: "search the rate around its default, such as half, once and twice",
        shows: None,
        explains: &[Symptom::NoGain],
        find: Find::Stage(|view| {
            let (rate, usual) = (view.number("learning_rate")?, usual(view));
            (alone(view) && view.is_given("learning_rate") && rate < usual / 4.0).then(|| {
                let found = format!("the rate is {}, the default {}", shown(rate), shown(usual));
                hit(view.path("learning_rate"), found).remove(view.path("learning_rate"))
            })
        }),
    },
];

/// Without a mix, and not of rft: for its rate the sources differ by a factor of a hundred.
fn alone(view: &StageView<'_>) -> bool {
    !view.mixes() && view.is(&["sft", "cpt", "dpo"])
}

/// The rate of a stage that gives none.
fn usual(view: &StageView<'_>) -> f64 {
    let kind = match view.stage.kind.as_str() {
        "cpt" => StageKind::Cpt,
        "dpo" => StageKind::Dpo,
        "rft" => StageKind::Rft,
        _ => StageKind::Sft,
    };
    let mode = if view.mode() == "full" { Mode::Full } else { Mode::Lora };
    usual_rate(Some(kind), Some(mode)).0
}
