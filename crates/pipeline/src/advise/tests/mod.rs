//! Every rule where it fires and where it must not, on made-up plans, runs and studies; ranks, causes, experiments.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may fail")]

mod cases;
mod made;
mod studies;

use std::collections::BTreeSet;

use serde_json::json;

use self::made::Made;
use super::*;

fn named(advised: &Advised) -> Vec<&'static str> {
    advised.findings.iter().map(|finding| finding.rule).collect()
}

#[test]
fn what_is_calm_has_no_findings() {
    for calm in [Made::sft(), Made::cpt(), Made::dpo(), Made::rft()] {
        let kind = calm.plan["stages"][0]["kind"].clone();
        assert_eq!(named(&calm.recipe()), <[&str; 0]>::default(), "{kind}, the recipe");
        assert_eq!(named(&calm.run()), <[&str; 0]>::default(), "{kind}, the run");
    }
}

#[test]
fn every_rule_fires_where_it_should_and_nowhere_else() {
    for case in cases::all() {
        let (fires, silent) = ((case.fires)(), (case.silent)());
        let found = |made: &Made| named(&if case.in_a_run { made.run() } else { made.recipe() });
        assert!(found(&fires).contains(&case.rule), "{} must fire: {:?}", case.rule, found(&fires));
        assert!(!found(&silent).contains(&case.rule), "{} must not fire: {:?}", case.rule, found(&silent));
    }
}

#[test]
fn every_rule_has_its_cases_a_name_of_its_own_and_words() {
    let tested: BTreeSet<&str> = cases::all().map(|case| case.rule).chain(studies::RULES).collect();
    let known: Vec<&str> = rules().map(|rule| rule.id).collect();
    assert_eq!(known.iter().copied().collect::<BTreeSet<_>>(), tested);
    assert_eq!(known.len(), tested.len(), "no two of one name");
    for rule in rules() {
        for words in [rule.when, rule.reason, rule.action, rule.source.what, rule.source.when] {
            assert!(!words.is_empty() && !words.ends_with('.'), "{}: {words:?}", rule.id);
        }
        let dated = rule.source.when.chars().filter(char::is_ascii_digit).count() >= 4;
        assert!(dated, "{}: {}", rule.id, rule.source.when);
    }
}

#[test]
fn the_mix_is_mended_before_the_rate() {
    // Both explain the forgetting: the rate was moved, and nine tenths are domain data.
    let made = Made::sft().set("stages.0.learning_rate", json!(2e-3)).set("stages.0.mix.domain", json!(90)).forgot();
    let advised = made.run();
    let names = named(&advised);
    assert_eq!(names[..3], ["domain-up-general-down", "little-general-data", "rate-moved-while-mixing"], "{names:?}");
    assert_eq!((advised.cause, advised.next), (Some(1), Some(1)));
    assert_eq!(advised.experiment().unwrap().changes, [("stages.0.mix.domain".to_owned(), Some("50".to_owned()))]);
    assert_eq!(advised.findings[1].causes, [Symptom::Forgetting]);
    // Where the mix is as advised, the rate is next; it is taken away, under the name that the recipe has for it.
    let made = Made::sft().aliased("stages.0.learning_rate", "lr", json!(2e-3)).forgot();
    let advised = made.run();
    assert_eq!(advised.findings[advised.cause.unwrap()].rule, "rate-moved-while-mixing");
    assert_eq!(advised.experiment().unwrap().changes, [("stages.0.lr".to_owned(), None)]);
    // Where nothing explains it, what was seen says itself what to do.
    let advised = Made::sft().forgot().run();
    assert_eq!((advised.cause, advised.next), (None, Some(0)));
    assert_eq!(advised.experiment().unwrap().changes, [("stages.0.mix.domain".to_owned(), Some("25".to_owned()))]);
}

#[test]
fn what_is_good_is_frozen_and_nothing_else_is_proposed() {
    let made = Made::sft().stage("/shares/sources/0", made::share("domain", 700.0, 1.0)).judged("gained", "kept");
    let advised = made.run();
    assert_eq!(named(&advised), ["all-good", "few-demonstrations"]);
    assert_eq!((advised.cause, advised.next, advised.experiment()), (None, None, None));
}

/// The verdict was about a floor that could not be told, and its sentence stood as what was found in the domain.
#[test]
fn no_gain_is_told_by_the_domains_own_numbers() {
    let advised = Made::sft().judged("not_shown", "cannot_tell").run();
    let found = |rule| &advised.findings.iter().find(|finding| finding.rule == rule).unwrap().found;
    assert_eq!(
        found("nothing-gained"),
        "domain accuracy: +0.0 [-10.0, +10.0], 100 items; about 900 items would show a gain"
    );
    assert_eq!(found("cannot-tell"), "as the items say");
}

#[test]
fn what_came_before_is_no_effect() {
    let overfit = |made: Made| made.validations(&[(0, 3.0), (50, 2.0), (100, 2.5)]).losses(&[3.0, 2.0, 1.0]);
    // The second stage's rows cannot have been learnt by heart in the first.
    let after =
        |made: Made| made.then("dpo").second("/shares/sources", json!([made::share("domain", 900.0, 1.0)])).run();
    let advised = after(overfit(Made::sft()));
    assert_eq!(named(&advised), ["overfit", "few-pairs"]);
    assert_eq!((advised.cause, advised.next), (None, Some(0)));
    // Of what can have been the cause, more epochs stand before few rows, and these before the rate.
    let many = Made::sft().alone().set("stages.0.learning_rate", json!(1e-3));
    let many = many.stage("/shares/sources/0", made::share("domain", 900.0, 5.0));
    let advised = overfit(many).run();
    let causes: Vec<&str> = advised.findings.iter().filter(|f| !f.causes.is_empty()).map(|f| f.rule).collect();
    assert_eq!(causes, ["many-epochs", "few-demonstrations", "rate-above-default"]);
    assert_eq!(advised.findings[advised.cause.unwrap()].rule, "many-epochs");
    assert_eq!(
        advised.experiment().unwrap().changes,
        [("stages.0.num_train_epochs".to_owned(), Some("0.4".to_owned()))]
    );
    // After a run that gained and kept, nothing is proposed, whatever was seen on the way.
    let good = overfit(Made::sft()).judged("gained", "kept").run();
    assert_eq!(named(&good), ["all-good", "overfit"]);
    assert_eq!((good.cause, good.next), (None, None));
}

#[test]
fn a_recipe_has_the_first_change_that_a_machine_can_make() {
    let made =
        Made::sft().unset("stages.0.validation").unset("stages.0.eval_steps").set("stages.0.save_steps", json!(500));
    let advised = made.recipe();
    assert_eq!(named(&advised), ["no-validation", "save-beyond-the-end"], "the graver before the lighter");
    assert_eq!((advised.cause, advised.next), (None, None), "a note is no reason for a run");
    let advised = made.set("stages.0.mix.domain", json!(100)).recipe();
    assert_eq!(named(&advised), ["no-general-data", "no-validation", "save-beyond-the-end"]);
    assert_eq!(advised.experiment().unwrap().changes, [("stages.0.mix.domain".to_owned(), Some("50".to_owned()))]);
    let identity = advised.identity.unwrap();
    assert_eq!(
        (identity.name.as_str(), identity.output.as_str(), identity.output_is_given),
        ("made", "runs/made", false)
    );
}

#[test]
fn a_stage_is_stretched_in_the_unit_that_it_was_given_in() {
    let overfit =
        |made: Made| made.validations(&[(0, 3.0), (50, 2.0), (100, 2.5)]).losses(&[3.0, 2.5, 2.0, 1.5, 1.0]).run();
    let steps = overfit(Made::sft().unset("stages.0.num_train_epochs").set("stages.0.max_steps", json!(100)));
    assert_eq!(steps.experiment().unwrap().changes, [("stages.0.max_steps".to_owned(), Some("50".to_owned()))]);
    let epochs = overfit(Made::sft());
    assert_eq!(
        epochs.experiment().unwrap().changes,
        [("stages.0.num_train_epochs".to_owned(), Some("0.5".to_owned()))]
    );
}

#[test]
fn a_folder_is_read_whole_or_refused_and_a_line_that_was_cut_off_is_left_out() {
    let folder = tempfile::tempdir().unwrap();
    let error = of_run(folder.path()).unwrap_err().to_string();
    assert!(error.contains("plan.json") && error.contains("hint: give a recipe"), "{error}");
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write("plan.json", &Made::sft().plan.to_string());
    let step =
        |step: usize, loss: &str| format!("{{\"stage\":1,\"event\":\"step\",\"step\":{step},\"loss\":{loss}}}\n");
    write("metrics.jsonl", &(step(1, "2.0") + &step(2, "\"NaN\"") + &step(2, "1.5") + "{\"stage\":1,\"eve"));
    let (plan, ran) = signals::of_run(folder.path()).unwrap();
    assert_eq!(ran.stages[0].losses, [(1, 2.0), (2, 1.5)], "what a resumed run wrote again counts once");
    assert!(!ran.finished && plan.name == "made");
    let advised = of_run(folder.path()).unwrap();
    assert_eq!(named(&advised), ["unfinished"]);
    assert_eq!(advised.experiment().unwrap().words("r.yaml", "runs/made"), ["resume", "runs/made"]);
    write("metrics.jsonl", "{\"stage\":1}\n{oops}\n{}\n");
    assert!(of_run(folder.path()).unwrap_err().to_string().contains("line 2 is damaged"));
}

#[test]
fn a_page_says_of_each_finding_what_it_is_of_what_was_seen_and_the_next_step() {
    let made = Made::sft().set("stages.0.learning_rate", json!(2e-3)).set("stages.0.mix.domain", json!(90)).forgot();
    let page = page::shown(&made.run(), "r.yaml", "runs/made");
    let roles: Vec<(&str, &str)> =
        page.findings[..3].iter().map(|one| (one.rule.as_str(), one.role.as_str())).collect();
    assert_eq!(
        roles,
        [
            ("domain-up-general-down", "forgetting"),
            ("little-general-data", "likeliest cause"),
            ("rate-moved-while-mixing", "may explain forgetting")
        ]
    );
    let next = page.next.unwrap();
    assert_eq!(
        (next.rule.as_str(), &next.lines[..]),
        ("little-general-data", &["stages.0.mix.domain: 50".to_owned()][..])
    );
    assert_eq!(next.command, "temper advise runs/made --start");
    let good = page::shown(&Made::sft().judged("gained", "kept").run(), "r.yaml", "runs/made");
    assert!(good.findings[0].good && good.next.is_none());
}

#[test]
fn without_texts_no_answer_is_quoted() {
    let start = made::baseline("worthwhile", 0.0, json!(["a reference", 0.6]));
    let made = Made::rft().stage("/rounds", json!({"baseline": start}));
    let mut plan: Planned = serde_json::from_value(made.plan).unwrap();
    let found = |plan: &Planned| of_planned(plan).of_rule("majority-earns-as-much").unwrap().found.clone();
    assert!(found(&plan).starts_with("\"a reference\" to every prompt earns 0.60"), "{}", found(&plan));
    plan.leave_texts_out();
    assert!(found(&plan).starts_with("one answer to every prompt earns 0.60"), "{}", found(&plan));
}

#[test]
fn the_reference_is_up_to_date() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/advice.md");
    if std::env::var_os("TEMPER_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, reference()).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == reference(),
        "docs/advice.md is old: TEMPER_WRITE_REFERENCE=1 cargo test -p temper-pipeline advise"
    );
}
