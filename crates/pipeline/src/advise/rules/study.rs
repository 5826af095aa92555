//! What a search came to.

use super::{APPLY, Cited, DECISION, Find, RECIPE, Rule, Severity, Symptom, VOC, hit};

const TRIALS: Cited = Cited {
    what: "arXiv 2602.11171: about 30 trials of Bayesian optimisation beat the standard setting by more than 20 %; the bound is ours",
    when: "2026",
};
const SEARCHED: Cited = Cited {
    what: "arXiv 2312.00949: the lowest validation loss is not always the best downstream; seeds and rows decide what is noise",
    when: "2023",
};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "trials-fail",
        severity: Severity::Error,
        when: "more than a fifth of the trials of a study, and at least two, failed",
        reason: "a search over what cannot be trained searches something else than it says",
        source: DECISION,
        action: "mend the cause, or narrow the space to what can be trained",
        shows: Some(Symptom::Instability),
        explains: &[],
        find: Find::Study(|study| {
            (study.failed >= 2 && 5 * study.failed > study.trials).then(|| {
                let why = study.failure.as_ref().map_or_else(String::new, |why| format!("; the last: {why}"));
                hit("tune.space", format!("{} of {} trials failed{why}", study.failed, study.trials))
            })
        }),
    },
    Rule {
        id: "no-trial-keeps-the-floors",
        severity: Severity::Error,
        when: "no trial of a study keeps every constraint",
        reason: "what was searched cannot keep what the base knew: the share of domain data moves it most",
        source: VOC,
        action: "search mix.domain too, from 25 % on; or widen a floor that asks for too much",
        shows: Some(Symptom::Forgetting),
        explains: &[],
        find: Find::Study(|study| {
            let number = study.recommended.filter(|_| !study.feasible)?;
            Some(hit("tune.space", format!("trial {number} breaks them least")))
        }),
    },
    Rule {
        id: "few-trials",
        severity: Severity::Warning,
        when: "fewer than ten trials, or fewer than five for each field that is searched, were measured",
        reason: "the best of so few is luck",
        source: TRIALS,
        action: "go on with the study",
        shows: None,
        explains: &[],
        find: Find::Study(|study| {
            (study.measured < study.wanted).then(|| {
                let trials = (study.trials - study.measured + study.wanted).to_string();
                let found = format!("{} trials were measured, {} would do", study.measured, study.wanted);
                hit("tune.trials", found).run(&["tune", RECIPE, "--trials", &trials])
            })
        }),
    },
    Rule {
        id: "winner-at-the-edge",
        severity: Severity::Warning,
        when: "a value of the recommended trial lies in the last twentieth of its range, or is its last whole number or step, \
               and the \
               range could go on",
        reason: "beyond the end there may be better",
        source: DECISION,
        action: "widen the range in tune.space, and go on with `temper tune --change-space`: what is known is kept",
        shows: None,
        explains: &[],
        find: Find::Study(|study| {
            let each = study
                .edges
                .iter()
                .map(|edge| format!("{} is {}, at the {} end of {}", edge.field, edge.value, edge.end, edge.range));
            let each: Vec<String> = each.collect();
            (!each.is_empty()).then(|| hit("tune.space", each.join("; ")))
        }),
    },
    Rule {
        id: "lead-within-noise",
        severity: Severity::Warning,
        when: "another trial than the recipe's own is recommended, and the 95 % interval of its lead over seeds holds zero or \
               is not known",
        reason: "another seed may turn the order round",
        source: SEARCHED,
        action: "train the finalists under more seeds",
        shows: None,
        explains: &[],
        find: Find::Study(|study| {
            let number = study.recommended.filter(|number| *number != 0 && study.feasible)?;
            let lead = study.leads.first()?;
            let within = lead.interval.is_none_or(|(low, high)| low <= 0.0 && high >= 0.0);
            within.then(|| {
                let found = match lead.interval {
                    Some((low, high)) => format!(
                        "{} of trial {number} minus the recipe's own: {:+.4} [{low:+.4}, {high:+.4}], {} seeds",
                        lead.objective, lead.difference, lead.seeds
                    ),
                    None => format!("{} of trial {number} was measured under one seed", lead.objective),
                };
                let seeds = format!("tune.finalist_seeds={}", 2 * study.seeds + 1);
                hit("tune.finalist_seeds", found).run(&["tune", RECIPE, "--set", &seeds])
            })
        }),
    },
    Rule {
        id: "lead-not-on-new-rows",
        severity: Severity::Warning,
        when: "on rows that the search has not seen the recommended trial is not better than the recipe's own by more than \
               noise",
        reason: "the best of many was chosen on the same rows: what it led by there was partly luck",
        source: SEARCHED,
        action: "keep the recipe's own values, or search on more validation rows",
        shows: Some(Symptom::NoGain),
        explains: &[],
        find: Find::Study(|study| {
            let number = study.recommended.filter(|number| *number != 0 && study.feasible)?;
            (study.sealed == Some(false)).then(|| hit("evaluation.domain.test", format!("trial {number}")))
        }),
    },
    Rule {
        id: "own-values-are-best",
        severity: Severity::Note,
        when: "the recommended trial is the recipe's own",
        reason: "nothing that was tried is better",
        source: DECISION,
        action: "keep the recipe; change the data or the mix rather than the settings",
        shows: None,
        explains: &[],
        find: Find::Study(|study| {
            (study.recommended == Some(0) && study.feasible && study.measured >= study.wanted)
                .then(|| hit("", format!("the best of {} trials is trial 0", study.measured)))
        }),
    },
    Rule {
        id: APPLY,
        severity: Severity::Note,
        when: "the recommended trial keeps every constraint and leads by more than noise, on new rows where these were looked \
               at",
        reason: "both axes are up, and it is no luck",
        source: DECISION,
        action: "write its recipe by `temper tune --apply`, freeze it, and promote the model",
        shows: None,
        explains: &[],
        find: Find::Study(|study| {
            let number = study.recommended.filter(|number| *number != 0 && study.feasible)?;
            let sure = study
                .leads
                .first()
                .is_some_and(|lead| lead.better && lead.interval.is_some_and(|(low, high)| low > 0.0 || high < 0.0));
            (sure && study.sealed != Some(false)).then(|| hit("", format!("trial {number}")))
        }),
    },
];
