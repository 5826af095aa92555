//! Every rule over studies, both ways.

use super::super::study::{Edge, Searched};
use super::super::{Advised, of_searched};
use crate::tune::Lead;

/// Rules over studies: each has its case here.
pub const RULES: [&str; 8] = [
    "trials-fail",
    "no-trial-keeps-the-floors",
    "few-trials",
    "winner-at-the-edge",
    "lead-within-noise",
    "lead-not-on-new-rows",
    "own-values-are-best",
    "apply-the-winner",
];

fn lead(interval: Option<(f64, f64)>) -> Lead {
    Lead { objective: "validation_loss".into(), difference: -0.2, interval, better: true, seeds: 2 }
}

/// A study of twenty trials whose winner leads by more than noise, on new rows too.
fn sure() -> Searched {
    Searched {
        measured: 20,
        trials: 20,
        wanted: 10,
        recommended: Some(7),
        feasible: true,
        leads: vec![lead(Some((-0.3, -0.1)))],
        seeds: 1,
        sealed: Some(true),
        ..Searched::default()
    }
}

fn advised(searched: &Searched) -> Advised {
    of_searched("made", searched)
}

fn edge() -> Edge {
    Edge {
        field: "stages.0.learning_rate".into(),
        value: "0.001".into(),
        end: "high",
        range: "0.00001 to 0.001".into(),
    }
}

#[test]
fn every_rule_over_studies_fires_where_it_should_and_nowhere_else() {
    let calm = advised(&sure());
    assert_eq!(super::named(&calm), ["apply-the-winner"]);
    let fires: [(&str, Searched); 11] = [
        ("trials-fail", Searched { failed: 5, failure: Some("out of memory".into()), ..sure() }),
        ("no-trial-keeps-the-floors", Searched { feasible: false, ..sure() }),
        ("few-trials", Searched { measured: 9, ..sure() }),
        ("few-trials", Searched { wanted: 25, ..sure() }),
        ("winner-at-the-edge", Searched { edges: vec![edge()], ..sure() }),
        ("lead-within-noise", Searched { leads: vec![lead(Some((-0.3, 0.1)))], ..sure() }),
        ("lead-within-noise", Searched { leads: vec![lead(None)], ..sure() }),
        ("lead-not-on-new-rows", Searched { sealed: Some(false), ..sure() }),
        ("own-values-are-best", Searched { recommended: Some(0), ..sure() }),
        ("apply-the-winner", sure()),
        ("apply-the-winner", Searched { sealed: None, ..sure() }),
    ];
    for (rule, searched) in &fires {
        assert!(advised(searched).of_rule(rule).is_some(), "{rule} must fire: {searched:?}");
    }
    let silent: [(&str, Searched); 12] = [
        ("trials-fail", Searched { failed: 4, ..sure() }),
        ("trials-fail", Searched { failed: 1, trials: 2, ..sure() }),
        ("no-trial-keeps-the-floors", Searched { feasible: false, recommended: None, ..sure() }),
        ("few-trials", Searched { measured: 10, ..sure() }),
        ("winner-at-the-edge", sure()),
        ("lead-within-noise", sure()),
        ("lead-within-noise", Searched { recommended: Some(0), leads: vec![lead(None)], ..sure() }),
        ("lead-not-on-new-rows", Searched { sealed: None, ..sure() }),
        ("own-values-are-best", Searched { recommended: Some(0), measured: 9, ..sure() }),
        ("own-values-are-best", sure()),
        ("apply-the-winner", Searched { leads: vec![lead(None)], ..sure() }),
        ("apply-the-winner", Searched { sealed: Some(false), ..sure() }),
    ];
    for (rule, searched) in &silent {
        assert!(advised(searched).of_rule(rule).is_none(), "{rule} must not fire: {searched:?}");
    }
}

#[test]
fn what_a_study_is_to_do_next_is_a_command() {
    let words = |searched: &Searched| advised(searched).experiment().unwrap().words("r.yaml", "runs/made-study");
    assert_eq!(words(&Searched { measured: 6, trials: 8, ..sure() }), ["tune", "r.yaml", "--trials", "12"]);
    let noisy = Searched { leads: vec![lead(None)], ..sure() };
    assert_eq!(words(&noisy), ["tune", "r.yaml", "--set", "tune.finalist_seeds=3"]);
    assert_eq!(advised(&sure()).experiment(), None);
    let edged = advised(&Searched { edges: vec![edge()], ..sure() });
    let found = &edged.of_rule("winner-at-the-edge").unwrap().found;
    assert_eq!(found, "stages.0.learning_rate is 0.001, at the high end of 0.00001 to 0.001");
}
