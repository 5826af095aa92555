//! The rules as Markdown: the content of `docs/advice.md`.

use super::rules::{Rule, rules};

const HEAD: &str = "\
# Advice: `temper advise`

`temper advise RECIPE`, `temper advise runs/NAME` and `temper advise runs/NAME-study` say what a recipe, a run or a study shows: what was
found, why it matters, who says so and when, and what to do. Findings are ranked: what was seen first, then its likely causes, then the
rest. Of causes the order of the tables below is the order of likelihood, so the mix is mended before the learning rate.

Of a run they name the likeliest cause of the first thing that was seen, and one next experiment; of a recipe the first finding that a
machine can mend. `--start` writes the changed recipe beside the first one, under a new name, and runs it (or goes on with the study);
`--rule RULE` takes another finding's change. Without `--start` nothing is written and nothing runs. `--json` prints all as JSON.

Most rules come from Amazon's guides to its own Nova models, some from papers; nothing of them was measured on the model at hand.
`temper probe`, `temper tune` and a run measure. Where a bound is ours, the source says so.

`temper plan` ends with what is found in the recipe and what to do, less what its own warnings say already. `report.html` of a run and of a
study shows it all under \"What to do next\".

This file is made from the rules: `TEMPER_WRITE_REFERENCE=1 cargo test -p temper-pipeline advise`.
";

/// The reference of the rules as Markdown.
pub fn reference() -> String {
    let mut out = HEAD.to_owned();
    let parts = [
        ("recipe", "A recipe", "Looked for in a recipe, and in the plan of a run."),
        ("run", "A run", "Looked for in the folder of a run, finished or not, beside the rules above."),
        ("study", "A study", "Looked for in the trials of a study so far."),
    ];
    for (looks_at, title, what) in parts {
        out.push_str(&format!("\n## {title}\n\n{what}\n"));
        rules().filter(|rule| rule.looks_at() == looks_at).for_each(|rule| out.push_str(&section(rule)));
    }
    out
}

fn section(rule: &Rule) -> String {
    let mut out = format!("\n### {} ({})\n\n", rule.id, rule.severity);
    let mut line = |what: &str, text: &str| out.push_str(&format!("- {what}: {text}\n"));
    line("when", rule.when);
    line("reason", rule.reason);
    line("source", &rule.source.to_string());
    line("action", rule.action);
    if let Some(symptom) = rule.shows {
        line("shows", &symptom.to_string());
    }
    let explains: Vec<String> = rule.explains.iter().map(ToString::to_string).collect();
    if !explains.is_empty() {
        line("may explain", &explains.join(", "));
    }
    out
}
