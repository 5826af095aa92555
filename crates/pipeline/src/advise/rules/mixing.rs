//! Domain and general data, and whether anybody looks. These stand first: a mix is mended before a rate.

use super::{ARTICLE, Find, Rule, SDK_BLOG, Severity, Symptom, VOC, hit, shown};

/// Words in the name of a general source that keeps reasoning and following instructions.
const INSTRUCTING: [&str; 7] = ["instruct", "reason", "chat", "assistant", "conversation", "dialog", "self"];

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "no-general-data",
        severity: Severity::Warning,
        when: "a stage of sft or cpt trains on domain data alone, and no stage after it mixes",
        reason: "narrow data overwrite general ability: on customer data alone MMLU fell from 0.75 to 0.47, with a quarter of \
                 general \
                 data it stayed at 0.74",
        source: VOC,
        action: "add a mix; about half domain data is the balance point for most cases",
        shows: None,
        explains: &[Symptom::Forgetting],
        find: Find::Stage(|view| {
            let later = view.plan.stages().any(|later| later.of > view.of && later.mixes());
            (view.is(&["sft", "cpt"]) && !view.mixes() && !later).then(|| {
                let found = format!("stage {} is {} on domain data alone", view.of + 1, view.stage.kind);
                hit(view.path("mix"), found).set(view.path("mix.domain"), 50)
            })
        }),
    },
    Rule {
        id: "little-general-data",
        severity: Severity::Note,
        when: "a stage of sft or cpt mixes, with more than 75 % of domain data",
        reason: "about half domain data is the balance point; three quarters worked in AWS's own task, more was not shown to",
        source: ARTICLE,
        action: "lower mix.domain before touching the learning rate or the batch",
        shows: None,
        explains: &[Symptom::Forgetting],
        find: Find::Stage(|view| {
            (view.is(&["sft", "cpt"]) && view.mixes() && view.domain_percent() > 75.0).then(|| {
                let path = view.path("mix.domain");
                let found = format!("{} % of the mix is domain data", shown(view.domain_percent()));
                hit(path.clone(), found).set(path, 50)
            })
        }),
    },
    Rule {
        id: "no-instructions-in-mix",
        severity: Severity::Warning,
        when: "the general sources of an sft mix have shares, and none that has one is `self` or named after instructions, \
               reasoning \
               or conversation",
        reason: "leaving the reasoning and instruction-following category out is a known cause of lost reasoning and general \
                 scores",
        source: ARTICLE,
        action: "add a source of general instructions with reasoning, or `path: self`; if one is there under another name, \
                 rename it",
        shows: None,
        explains: &[Symptom::Forgetting],
        find: Find::Stage(|view| {
            let shares = (0..view.general().len()).map(|source| view.number(&format!("mix.general.{source}.share")));
            let has_share: Vec<bool> = shares.map(|share| share.is_none_or(|share| share > 0.0)).collect();
            let instructs = |(index, name): (usize, &&str)| {
                let own = view.text(&format!("mix.general.{index}.path")) == Some("self");
                let name = name.to_lowercase();
                has_share[index] && (own || INSTRUCTING.iter().any(|word| name.contains(word)))
            };
            let names = view.general();
            let missing = view.is(&["sft"]) && view.mixes() && !names.is_empty();
            (missing && !names.iter().enumerate().any(instructs)).then(|| {
                let found = format!("general sources by name: {}", names.join(", "));
                hit(view.path("mix.general"), found)
            })
        }),
    },
    Rule {
        id: "no-general-evaluation",
        severity: Severity::Warning,
        when: "a recipe that trains has no general suite with a floor",
        reason: "what is not measured is not seen to be lost: a result is judged on two axes, the domain and general ability",
        source: SDK_BLOG,
        action: "give `evaluation` a general suite and a floor, such as held-out text that may rise by 2 %",
        shows: None,
        explains: &[],
        find: Find::Stage(|view| {
            let floors = view.plan.settings.iter().any(|setting| setting.path.starts_with("evaluation.floors."));
            (view.index == 0 && !floors).then(|| hit("evaluation.floors", "no floor is given"))
        }),
    },
    Rule {
        id: "no-validation",
        severity: Severity::Warning,
        when: "a stage has no validation rows",
        reason: "not watching the validation loss is a listed mistake: the last weights are taken, not the best, and \
                 overfitting is not seen",
        source: ARTICLE,
        action: "hold rows out and name them as `validation`",
        shows: None,
        explains: &[],
        find: Find::Stage(|view| {
            let none = view.setting("validation").is_none();
            none.then(|| hit(view.path("validation"), format!("stage {} has none", view.of + 1)))
        }),
    },
];
