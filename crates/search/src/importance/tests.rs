use temper_run::Random;

use super::*;
use crate::goals::Goals;
use crate::space::{Condition, Domain, Parameter, Simplex, Value};
use crate::trial::Report;

/// Places that fill a box evenly (a lattice of irrational steps), so that another program can make the same.
fn lattice(trial: usize, dimensions: usize) -> Vec<f64> {
    let steps = [2.0f64, 3.0, 5.0, 7.0, 11.0, 13.0].map(f64::sqrt);
    (0..dimensions).map(|d| (0.5 + (trial + 1) as f64 * steps[d]).fract()).collect()
}

fn study(space: Space, count: usize, value: impl Fn(&crate::Point) -> f64) -> History {
    let mut history = History::new(space, Goals::minimize("loss"));
    for number in 0..count {
        let place = lattice(number, history.space().parameters().len());
        let choices = history.space().parameters().iter().map(|parameter| parameter.domain.choices());
        let place: Vec<f64> = place.iter().zip(choices).map(|(at, choices)| forest::even(choices, *at)).collect();
        let point = history.space().point(&place);
        let measured = Measured { values: vec![value(&point)], constraints: vec![] };
        let trial = Trial { state: State::Complete, result: Some(measured), ..Trial::new(number as u64, point) };
        history.put(trial);
    }
    history
}

fn number(point: &crate::Point, name: &str) -> f64 {
    point.get(name).and_then(Value::number).unwrap_or(f64::NAN)
}

/// Two numbers and a choice that matter, one that does not: 9, 4, 3 and 0 sixteenths of the variance.
fn additive() -> (Space, impl Fn(&crate::Point) -> f64) {
    let space = Space::new(
        vec![
            Parameter::new("rate", Domain::log_float(1e-5, 1e-1)),
            Parameter::new("share", Domain::float(0.0, 1.0)),
            Parameter::new("mode", Domain::choice(["a", "b"])),
            Parameter::new("idle", Domain::float(0.0, 1.0)),
        ],
        vec![],
        vec![],
    )
    .unwrap();
    let value = |point: &crate::Point| {
        let rate = (number(point, "rate").log10() + 5.0) / 4.0;
        let mode = f64::from(point["mode"] == Value::from("a"));
        3.0 * rate + 2.0 * number(point, "share") + mode
    };
    (space, value)
}

/// A parameter that is active half of the time: mode 0.6, rank 0.2, both together 0.2.
fn conditional() -> (Space, impl Fn(&crate::Point) -> f64) {
    let rank = Parameter {
        when: Some(Condition { name: "mode".into(), values: vec!["lora".into()] }),
        ..Parameter::new("rank", Domain::float(0.0, 1.0))
    };
    let idle = Parameter::new("idle", Domain::float(0.0, 1.0));
    let space =
        Space::new(vec![Parameter::new("mode", Domain::choice(["lora", "full"])), rank, idle], vec![], vec![]).unwrap();
    (space, |point: &crate::Point| point.get("rank").and_then(Value::number).map_or(0.0, |rank| 2.0 * rank))
}

fn share(importance: &Importance, name: &str) -> f64 {
    importance.shares.iter().find(|share| share.name == name).unwrap().share
}

fn assert_shares(importance: &Importance, expected: &[(&str, f64)], within: f64) {
    for (name, expected) in expected {
        let found = share(importance, name);
        assert!((found - expected).abs() < within, "{name}: {found}, expected {expected}: {importance:?}");
    }
}

#[test]
fn shares_of_a_known_function_are_found() {
    let (space, value) = additive();
    let found = importance(&study(space, 200, value), 0).unwrap();
    let expected = [("rate", 9.0 / 16.0), ("share", 4.0 / 16.0), ("mode", 3.0 / 16.0), ("idle", 0.0)];
    assert_shares(&found, &expected, 0.08);
    assert!(share(&found, "idle") < 0.01, "{found:?}");
    assert!(found.explained > 0.9 && found.shares[0].name == "rate");
    assert_eq!((found.trials, found.step, found.left_out, found.clipped), (200, None, 0, 0));
    assert!(found.shares.iter().all(|share| share.error < 0.1));
}

#[test]
fn a_conditional_parameter_counts_with_how_often_it_is_active() {
    let (space, value) = conditional();
    let found = importance(&study(space, 100, value), 0).unwrap();
    assert_shares(&found, &[("mode", 0.6), ("rank", 0.2), ("idle", 0.0)], 0.03);
}

/// A library for search matched parameters by their ranges, so that equal ones were one to it.
#[test]
fn equal_ranges_do_not_collapse() {
    let number = |name: &str| Parameter::new(name, Domain::float(0.0, 1.0));
    let space = Space::new(vec![number("a"), number("b"), number("c")], vec![], vec![]).unwrap();
    let found = importance(&study(space, 100, |point| self::number(point, "b")), 0).unwrap();
    assert_shares(&found, &[("a", 0.0), ("b", 1.0), ("c", 0.0)], 0.05);
}

#[test]
fn shares_of_a_simplex_are_one_entry() {
    let simplex = Simplex::new("mix", ["x", "y", "z"].map(|n| (n.to_owned(), 0.0)).to_vec(), 1.0, 1e-6).unwrap();
    let space = Space::new(vec![Parameter::new("idle", Domain::float(0.0, 1.0))], vec![simplex], vec![]).unwrap();
    let fields = space.clone();
    let found = importance(&study(space, 150, |p| number(&fields.fields(p).unwrap(), "y")), 0).unwrap();
    assert_eq!(found.shares.iter().map(|share| share.name.as_str()).collect::<Vec<_>>(), ["mix", "idle"]);
    assert_shares(&found, &[("mix", 1.0), ("idle", 0.0)], 0.1);
}

#[test]
fn failed_trials_and_those_without_a_number_are_counted_and_far_ones_brought_in() {
    let (space, value) = additive();
    let clean = importance(&study(space.clone(), 100, &value), 0).unwrap();
    let mut history = study(space, 106, value);
    let mut change = |number: u64, state, values: &[f64]| {
        let result = (!values.is_empty()).then(|| Measured { values: values.to_vec(), constraints: vec![] });
        let point = history.trial(number).unwrap().point.clone();
        history.put(Trial { state, result, ..Trial::new(number, point) });
    };
    change(100, State::Failed, &[]);
    change(101, State::Complete, &[f64::NAN]);
    change(102, State::Complete, &[]);
    change(103, State::Complete, &[f64::INFINITY]);
    change(104, State::Complete, &[1e30]);
    change(105, State::Running, &[]);
    let found = importance(&history, 0).unwrap();
    assert_eq!((found.trials, found.left_out, found.clipped), (102, 3, 2));
    for one in &clean.shares {
        let with = share(&found, &one.name);
        assert!((with - one.share).abs() < 0.25, "two far values do not take all: {} {with}", one.name);
    }
}

#[test]
fn what_cannot_be_told_is_not_told() {
    let (space, value) = additive();
    assert_eq!(importance(&study(space.clone(), 15, &value), 0), Err(Untold::TooFew { have: 15, needed: 16 }));
    assert_eq!(importance(&study(space.clone(), 20, |_| 1.0), 0), Err(Untold::Alike { trials: 20 }));
    let random = Random::new(3, "noise");
    let drawn = std::cell::Cell::new(0);
    let noise = |_: &crate::Point| {
        drawn.set(drawn.get() + 1);
        random.unit(drawn.get())
    };
    let untold = importance(&study(space.clone(), 60, noise), 0).unwrap_err();
    assert!(matches!(untold, Untold::Unexplained { trials: 60, explained } if explained < 0.25), "{untold}");
    let point = Space::new(vec![Parameter::new("x", Domain::choice([1]))], vec![], vec![]).unwrap();
    assert_eq!(importance(&study(point, 20, |_| 1.0), 0), Err(Untold::OnePoint));
}

#[test]
fn where_few_trials_ended_all_are_compared_at_a_step() {
    let (space, value) = additive();
    let mut history = study(space, 60, value);
    for number in 0..60 {
        let mut trial = history.trial(number).unwrap().clone();
        let measured = trial.result.clone().unwrap();
        // All report at step 1, half at 2, few at the end.
        let steps = if number % 2 == 0 { 1..=2 } else { 1..=1 };
        trial.reports = steps.map(|step| Report::new(step, measured.clone())).collect();
        if number >= 5 {
            (trial.state, trial.result) = (State::Pruned, Some(measured));
        }
        history.put(trial);
    }
    let found = importance(&history, 0).unwrap();
    assert_eq!((found.step, found.trials), (Some(2), 30));
}

#[test]
fn the_same_history_gives_the_same_answer() {
    let (space, value) = additive();
    let history = study(space, 40, value);
    assert_eq!(importance(&history, 0), importance(&history, 0));
}
