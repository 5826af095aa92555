//! What came out on both axes.

use temper_eval::compare::{Comparison, Metric, Row};
use temper_eval::verdict::{FloorDecision, Gain, Verdict};
use temper_report::Style;

use super::trained::less_domain;
use super::{ALL_GOOD, ARTICLE, Cited, DECISION, Find, GUIDE, Hit, Rule, SDK_BLOG, Severity, Symptom, hit};
use crate::advise::signals::{Given, Planned, Ran};

const NON_INFERIORITY: Cited = Cited { what: "ICH E9, non-inferiority on a 95 % interval", when: "1998" };

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "floor-broken",
        severity: Severity::Error,
        when: "a floor is broken by the whole 95 % interval, and the domain did not gain",
        reason: "the model lost what it was to keep",
        source: NON_INFERIORITY,
        action: "lower the share of domain data, before touching the learning rate or the batch",
        shows: Some(Symptom::Forgetting),
        explains: &[Symptom::Forgetting],
        find: Find::Run(|plan, ran| (!gained(ran)).then(|| broken(plan, ran))?),
    },
    Rule {
        id: "domain-up-general-down",
        severity: Severity::Error,
        when: "the domain gained, and a floor is broken or a general suite without one is worse by its whole 95 % interval",
        reason: "the domain was paid for with general ability; within 0.01 to 0.02 of the base MMLU counts as kept",
        source: SDK_BLOG,
        action: "lower the share of domain data, before touching the learning rate or the batch; or look at the weights \
                 between base and \
                 result with `temper average`",
        shows: Some(Symptom::Forgetting),
        explains: &[Symptom::Forgetting],
        find: Find::Run(|plan, ran| {
            if !gained(ran) {
                return None;
            }
            if let Some(broken) = broken(plan, ran) {
                return Some(broken);
            }
            let worse = |row: &&Row| {
                let d = row.difference;
                // A divergence is never below zero.
                let compared = row.base.is_some() || row.metric == Metric::RelativeLoss;
                let down = if row.higher_is_better { d.high < -0.02 } else { d.low > 0.02 };
                row.suite != "domain" && row.kind.is_none() && row.floor.is_none() && compared && down
            };
            // A suite is judged by its first row.
            let rows = &ran.comparison.as_ref()?.rows;
            let is_first = |index: usize| rows[..index].iter().all(|earlier| earlier.suite != rows[index].suite);
            let row = (0..rows.len()).filter(|&index| is_first(index)).map(|index| &rows[index]).find(worse)?;
            Some(on_the_last_mixed(plan, said(row)))
        }),
    },
    Rule {
        id: "instructions-lost",
        severity: Severity::Warning,
        when: "an instruction_following suite is lower by its whole 95 % interval",
        reason: "a drop of IFEval asks for more data that follow instructions",
        source: SDK_BLOG,
        action: "raise the share of the instruction-following sources of the mix",
        shows: Some(Symptom::Forgetting),
        explains: &[],
        find: Find::Run(|plan, ran| {
            let rows = &ran.comparison.as_ref()?.rows;
            let row = rows.iter().find(|row| {
                let suites = plan
                    .settings
                    .iter()
                    .filter(|s| s.path.starts_with("evaluation.general.") && s.path.ends_with(".name"));
                let own = suites.filter(|name| name.value == row.suite.as_str());
                let kind = |name: &Given| plan.text(&name.path.replace(".name", ".kind"));
                row.difference.high < 0.0 && own.filter_map(kind).any(|kind| kind == "instruction_following")
            })?;
            Some(hit(format!("suite {}", row.suite), said(row)))
        }),
    },
    Rule {
        id: "domain-lost",
        severity: Severity::Error,
        when: "the domain is worse than the base by its whole 95 % interval",
        reason: "what was trained is not what is judged: the rows, their format or the reward miss the task",
        source: DECISION,
        action: "read the items that were right before (judgement_items.jsonl), and rows of training beside them",
        shows: Some(Symptom::NoGain),
        explains: &[],
        find: Find::Run(|_, ran| {
            let comparison = ran.comparison.as_ref()?;
            (comparison.judgement.as_ref()?.gain == Gain::Lost).then(|| hit("domain", domain(comparison)))
        }),
    },
    Rule {
        id: "nothing-gained",
        severity: Severity::Warning,
        when: "the domain's 95 % interval holds zero",
        reason: "a low domain score wants a larger share of domain data, more rows or more steps",
        source: SDK_BLOG,
        action: "train longer or on more rows; where the items are too few to tell, add items",
        shows: Some(Symptom::NoGain),
        explains: &[],
        find: Find::Run(|plan, ran| {
            let comparison = ran.comparison.as_ref()?;
            let Gain::NotShown { about_n } = comparison.judgement.as_ref()?.gain else { return None };
            let found = hit("domain", format!("{}; about {about_n} items would show a gain", domain(comparison)));
            Some(match plan.stages().last() {
                Some(last) => found.stretched(&last, 2.0),
                None => found,
            })
        }),
    },
    Rule {
        id: "cannot-tell",
        severity: Severity::Note,
        when: "no floor is broken for certain, and one cannot be decided",
        reason: "the interval is wider than the floor: neither kept nor forgotten was shown",
        source: NON_INFERIORITY,
        action: "give the suite more items",
        shows: None,
        explains: &[],
        find: Find::Run(|_, ran| {
            let judgement = ran.comparison.as_ref()?.judgement.as_ref()?;
            matches!(judgement.verdict, Verdict::CannotTell { .. })
                .then(|| hit("evaluation.floors", judgement.reason.clone()))
        }),
    },
    Rule {
        id: "full-rank-not-taken",
        severity: Severity::Note,
        when: "lora_then_full trained all weights, and LoRA's were kept",
        reason: "full rank was not better by more than noise, and costs more to train and to host",
        source: ARTICLE,
        action: "set mode: lora",
        shows: None,
        explains: &[],
        find: Find::Run(|plan, ran| {
            (ran.taken == Some(false)).then(|| {
                let stage = plan.stages().find(|view| view.mode() == "lora_then_full");
                hit(stage.map_or_else(String::new, |view| view.path("mode")), "LoRA's weights are the result")
            })
        }),
    },
    Rule {
        id: ALL_GOOD,
        severity: Severity::Note,
        when: "the domain gained and every floor was kept",
        reason: "both axes are up: nothing is to be mended",
        source: GUIDE,
        action: "freeze the recipe, and promote the model",
        shows: None,
        explains: &[],
        find: Find::Run(|_, ran| {
            let judgement = ran.comparison.as_ref()?.judgement.as_ref()?;
            (judgement.verdict == Verdict::GainedAndKept).then(|| hit("", judgement.reason.clone()))
        }),
    },
];

fn gained(ran: &Ran) -> bool {
    let judgement = ran.comparison.as_ref().and_then(|comparison: &Comparison| comparison.judgement.as_ref());
    judgement.is_some_and(|judgement| judgement.gain == Gain::Gained)
}

/// The first floor that is broken.
fn broken(plan: &Planned, ran: &Ran) -> Option<Hit> {
    let rows = &ran.comparison.as_ref()?.rows;
    let row = rows.iter().find(|row| row.floor.is_some_and(|floor| floor.decision == FloorDecision::Forgot))?;
    let margin = row.floor.map_or(0.0, |floor| if row.higher_is_better { -floor.margin } else { floor.margin });
    let style = Style::of(row.metric);
    Some(on_the_last_mixed(plan, format!("{}, its floor is {}", said(row), style.plain_signed(margin))))
}

/// A suite's difference in words.
fn said(row: &Row) -> String {
    let style = Style::of(row.metric);
    format!("{} {}: {}", row.suite, style.short, style.plain_interval(&row.difference))
}

/// Less domain data in the last stage that can be mixed.
fn on_the_last_mixed(plan: &Planned, found: String) -> Hit {
    match plan.stages().filter(|view| view.is(&["sft", "cpt"])).last() {
        Some(view) => less_domain(&view, found),
        None => hit("", found),
    }
}

/// What the domain is judged by, its first row. The judgement's own sentence may be about a floor.
fn domain(comparison: &Comparison) -> String {
    comparison.rows.first().map_or_else(String::new, |row| format!("{}, {} items", said(row), row.difference.n))
}
