//! What holds for every sampler; tests that come from reports of other tools are named after them.

use super::*;
use crate::goals::{Direction, Goals, Objective};
use crate::history::History;
use crate::space::{Condition, Domain, Parameter, Prior, Space, Value};
use crate::trial::{Measured, Report, State, Trial};

const ALL: [&str; 6] = ["auto", "random", "grid", "sobol", "tpe", "gp"];

fn space(parameters: Vec<Parameter>) -> Space {
    Space::new(parameters, vec![], vec![]).unwrap()
}

fn goals(objectives: usize, constraints: usize) -> Goals {
    let objective = |index| Objective { name: format!("o{index}"), direction: Direction::Minimize };
    let constraint = |index| format!("c{index}");
    Goals {
        objectives: (0..objectives).map(objective).collect(),
        constraints: (0..constraints).map(constraint).collect(),
    }
}

fn ask(history: &History, number: u64) -> Ask<'_> {
    Ask { history, number, seed: 7, budget: None }
}

fn complete(number: u64, point: Point, values: &[f64], constraints: &[f64]) -> Trial {
    let measured = Measured { values: values.to_vec(), constraints: constraints.to_vec() };
    Trial { state: State::Complete, result: Some(measured), ..Trial::new(number, point) }
}

/// Asks and tells `trials` times, or until nothing is left.
fn study(sampler: &str, history: &mut History, trials: u64, value: impl Fn(&Point) -> (Vec<f64>, Vec<f64>)) {
    let sampler = named(sampler).unwrap();
    for number in 0..trials {
        let Some(point) = sampler.suggest(&ask(history, number)) else { return };
        history.space().check_point(&point).unwrap();
        let (values, constraints) = value(&point);
        history.put(complete(number, point, &values, &constraints));
    }
}

fn number(point: &Point, name: &str) -> f64 {
    point[name].number().unwrap()
}

fn units(names: &[&str]) -> Space {
    space(names.iter().map(|name| Parameter::new(*name, Domain::float(0.0, 1.0))).collect())
}

fn distinct(history: &History) -> usize {
    let points: std::collections::BTreeSet<String> =
        history.trials().iter().map(|trial| format!("{:?}", trial.point)).collect();
    points.len()
}

/// optuna#1547, optuna#3626, optuna#3055, optuna#2021: the same point again and again; 12 points and 50 trials.
/// syne-tune#487: what an exhausted finite space answers.
#[test]
fn optuna_1547_syne_tune_487_a_finite_space_is_tried_whole_and_then_says_so() {
    for sampler in ALL {
        let parameters =
            vec![Parameter::new("a", Domain::choice(["x", "y", "z"])), Parameter::new("b", Domain::int(1, 4))];
        let mut history = History::new(space(parameters), goals(1, 0));
        study(sampler, &mut history, 50, |point| (vec![number(point, "b")], vec![]));
        assert_eq!((history.trials().len(), distinct(&history)), (12, 12), "{sampler}");
        assert_eq!(named(sampler).unwrap().suggest(&ask(&history, 12)), None, "{sampler}");
    }
}

/// optuna#1547 where points cannot be counted: an optimum in a corner is no reason to go there twice.
#[test]
fn optuna_1547_a_corner_of_floats_is_not_tried_twice() {
    for sampler in ["auto", "tpe", "gp"] {
        let mut history = History::new(units(&["x", "y"]), goals(1, 0));
        study(sampler, &mut history, 40, |point| (vec![number(point, "x") + number(point, "y")], vec![]));
        assert_eq!(distinct(&history), 40, "{sampler}");
    }
}

/// optuna#4714: workers that share a seed. Four of them, each asking while the others' trials run.
#[test]
fn optuna_4714_workers_with_equal_seeds_never_repeat_a_point() {
    for sampler in ALL {
        for parameters in [
            vec![Parameter::new("x", Domain::float(0.0, 1.0)), Parameter::new("y", Domain::float(0.0, 1.0))],
            vec![Parameter::new("x", Domain::int(0, 5)), Parameter::new("y", Domain::int(0, 5))],
        ] {
            let mut history = History::new(space(parameters), goals(1, 0));
            for round in 0..6 {
                let asked: Vec<u64> = (4 * round..4 * round + 4).collect();
                for &number in &asked {
                    let point = named(sampler).unwrap().suggest(&ask(&history, number)).unwrap();
                    history.put(Trial::new(number, point));
                }
                for &one in &asked {
                    let point = history.trial(one).unwrap().point.clone();
                    let value = number(&point, "x") + number(&point, "y");
                    history.put(complete(one, point, &[value], &[]));
                }
            }
            assert_eq!(distinct(&history), 24, "{sampler}");
        }
    }
}

/// optuna#3129, optuna#2341: choices of mixed types and null break the Parzen estimator.
#[test]
fn optuna_3129_choices_of_mixed_types_are_learned() {
    let values = vec![Value::Null, true.into(), 1.into(), Value::Float(2.5), "x".into()];
    for sampler in ["auto", "tpe", "gp"] {
        let parameters = vec![
            Parameter::new("c", Domain::Choice { values: values.clone() }),
            Parameter::new("x", Domain::float(0.0, 1.0)),
        ];
        let mut history = History::new(space(parameters), goals(1, 0));
        let value = |point: &Point| number(point, "x") + if point["c"] == Value::Float(2.5) { 0.0 } else { 1.0 };
        study(sampler, &mut history, 60, |point| (vec![value(point)], vec![]));
        let last = &history.trials()[40..];
        let found = last.iter().filter(|trial| trial.point["c"] == Value::Float(2.5)).count();
        assert!(found > 10, "{sampler}: {found} of 20");
    }
}

/// optuna#5260: pruned trials in a study of several objectives, some with fewer values than objectives; failed ones beside them.
#[test]
fn optuna_5260_pruned_and_failed_trials_with_several_objectives() {
    for sampler in ["auto", "tpe", "gp"] {
        for objectives in [1, 2, 3] {
            let mut history = History::new(units(&["x", "y"]), goals(objectives, 1));
            for number in 0..30u64 {
                let point = named(sampler).unwrap().suggest(&ask(&history, number)).unwrap();
                let values: Vec<f64> = (0..objectives).map(|i| (number as f64 * 0.7 + i as f64).sin()).collect();
                let measured = Measured { values, constraints: vec![-1.0] };
                let few = Measured { values: vec![0.5], constraints: vec![] };
                let trial = Trial::new(number, point);
                let report = |measured: &Measured| vec![Report::new(1 + number % 3, measured.clone())];
                history.put(match number % 6 {
                    0 => Trial { state: State::Pruned, reports: report(&measured), result: Some(measured), ..trial },
                    1 => Trial { state: State::Pruned, reports: report(&few), result: Some(few), ..trial },
                    2 => Trial { state: State::Pruned, ..trial },
                    3 => Trial { state: State::Failed, ..trial },
                    4 => Trial { state: State::Paused, reports: report(&measured), ..trial },
                    _ => Trial { state: State::Complete, result: Some(measured), ..trial },
                });
            }
            assert_eq!(distinct(&history), 30, "{sampler}, {objectives}");
        }
    }
}

/// optuna#4080, optuna#1671: choices and ranges that changed in the middle of a study, and a parameter that is new.
#[test]
fn optuna_4080_trials_of_an_older_space_are_still_learned_from() {
    for sampler in ALL {
        let parameters = vec![
            Parameter::new("c", Domain::choice(["a", "b"])),
            Parameter::new("x", Domain::int(0, 3)),
            Parameter::new("new", Domain::float(0.0, 1.0)),
        ];
        let mut history = History::new(space(parameters), goals(1, 0));
        for number in 0..20 {
            let choice = ["a", "c"][number as usize % 2];
            let point = Point::from([("c".into(), choice.into()), ("x".into(), (number as i64 % 6).into())]);
            history.put(complete(number, point, &[number as f64], &[]));
        }
        let point = named(sampler).unwrap().suggest(&ask(&history, 20)).unwrap();
        history.space().check_point(&point).unwrap();
    }
}

/// The Rust crate optimizer 1.0.1: parameters of equal ranges got identical values, and only the diagonal was searched.
#[test]
fn rust_optimizer_equal_ranges_are_searched_apart() {
    for sampler in ALL {
        let mut history = History::new(units(&["x", "y"]), goals(1, 0));
        study(sampler, &mut history, 25, |point| {
            (vec![(number(point, "x") - 0.2).powi(2) + (number(point, "y") - 0.8).powi(2)], vec![])
        });
        let pairs: Vec<(f64, f64)> =
            history.trials().iter().map(|trial| (number(&trial.point, "x"), number(&trial.point, "y"))).collect();
        let apart = pairs.iter().filter(|(x, y)| (x - y).abs() > 0.05).count();
        assert!(apart >= 15, "{sampler}: {apart} of 25");
    }
}

/// nni#1364: a tool that waits for a first success for ever. Where all trials failed, the search goes on over the space.
#[test]
fn nni_1364_all_trials_failed() {
    for sampler in ALL {
        let mut history = History::new(units(&["x", "y"]), goals(1, 1));
        for number in 0..25 {
            let point = named(sampler).unwrap().suggest(&ask(&history, number)).unwrap();
            history.put(Trial { state: State::Failed, ..Trial::new(number, point) });
        }
        assert_eq!(distinct(&history), 25, "{sampler}");
        let right = history.trials().iter().filter(|trial| number(&trial.point, "x") > 0.5).count();
        assert!((5..=20).contains(&right), "{sampler}: {right} of 25 on the right half");
    }
}

#[test]
fn spaces_of_one_point_and_of_none_parameters() {
    for sampler in ALL {
        let single = vec![Parameter::new("x", Domain::float(0.3, 0.3)), Parameter::new("y", Domain::int(2, 2))];
        for parameters in [single, vec![]] {
            let mut history = History::new(space(parameters), goals(1, 0));
            let point = named(sampler).unwrap().suggest(&ask(&history, 0)).unwrap();
            history.put(complete(0, point, &[1.0], &[]));
            assert_eq!(named(sampler).unwrap().suggest(&ask(&history, 1)), None, "{sampler}");
        }
        // One of several parameters has no room.
        let mixed = vec![Parameter::new("x", Domain::float(0.3, 0.3)), Parameter::new("y", Domain::float(0.0, 1.0))];
        let mut history = History::new(space(mixed), goals(1, 0));
        study(sampler, &mut history, 15, |point| (vec![number(point, "y")], vec![]));
        assert!(history.trials().iter().all(|trial| number(&trial.point, "x") == 0.3), "{sampler}");
    }
}

#[test]
fn values_that_are_no_numbers_or_all_alike() {
    let patterns: [&dyn Fn(u64) -> f64; 6] = [
        &|_| f64::NAN,
        &|_| f64::INFINITY,
        &|_| f64::NEG_INFINITY,
        &|_| 1.0,
        &|i| [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300, -1e300, 0.5][i as usize % 6],
        &|i| if i == 3 { 1.0 } else { f64::NAN },
    ];
    for sampler in ["auto", "tpe", "gp"] {
        for objectives in [1, 2, 3] {
            for (index, pattern) in patterns.iter().enumerate() {
                let mut history = History::new(units(&["x", "y"]), goals(objectives, 1));
                for number in 0..16 {
                    let point = named(sampler).unwrap().suggest(&ask(&history, number)).unwrap();
                    let values: Vec<f64> = (0..objectives as u64).map(|i| pattern(number + i)).collect();
                    history.put(complete(number, point, &values, &[pattern(number + 1)]));
                }
                assert_eq!(distinct(&history), 16, "{sampler}, {objectives} objectives, pattern {index}");
            }
        }
    }
}

#[test]
fn five_hundred_trials_of_one_value() {
    let mut history = History::new(units(&["x", "y"]), goals(1, 0));
    study("random", &mut history, 500, |_| (vec![3.0], vec![]));
    for sampler in ALL {
        let point = named(sampler).unwrap().suggest(&ask(&history, 500)).unwrap();
        assert!(!ask(&history, 500).is_tried(&point), "{sampler}");
    }
}

// optuna#2172, #760: an ask takes ever longer, half a second at first and five at 80,000 trials.
#[test]
fn optuna_2172_an_ask_after_twenty_thousand_trials_takes_less_than_a_second() {
    let mut history = History::new(units(&["a", "b", "c", "d", "e", "f", "g", "h"]), goals(1, 0));
    let random = temper_run::Random::new(1, "test");
    for number in 0..20_000 {
        let value = |name: &str| random.within(number).unit(u64::from(name.as_bytes()[0]));
        let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
        let point = names.into_iter().map(|name| (name.to_owned(), value(name).into())).collect();
        history.put(complete(number, point, &[value("a")], &[]));
    }
    for sampler in ["auto", "tpe"] {
        let seconds = |_| {
            let begun = std::time::Instant::now();
            named(sampler).unwrap().suggest(&ask(&history, 20_000)).unwrap();
            begun.elapsed().as_secs_f64()
        };
        // The best of three: other work on the machine is not the sampler's.
        let least = (0..3).map(seconds).fold(f64::INFINITY, f64::min);
        assert!(least < 1.0, "{sampler}: {least} s");
    }
}

#[test]
fn an_ask_made_again_gives_the_same_point_and_other_seeds_others() {
    for sampler in ALL {
        let mut history = History::new(units(&["x", "y", "z"]), goals(1, 0));
        let sampler = named(sampler).unwrap();
        let other = Ask { seed: 8, ..ask(&history, 0) };
        let differs = sampler.suggest(&ask(&history, 0)) != sampler.suggest(&other);
        assert_eq!(differs, sampler.name() != "grid", "{}", sampler.name());
        study("random", &mut history, 15, |point| (vec![number(point, "x")], vec![]));
        let first = sampler.suggest(&ask(&history, 15));
        assert_eq!(first, sampler.suggest(&ask(&history, 15)), "{}", sampler.name());
        assert!(!sampler.reason(&ask(&history, 15)).is_empty());
    }
}

/// A parameter that is there under a condition only, one that another bounds, and constraints.
#[test]
fn conditions_bounds_and_constraints_are_learned() {
    let parameters = || {
        vec![
            Parameter::new("mode", Domain::choice(["lora", "full"])),
            Parameter {
                when: Some(Condition { name: "mode".into(), values: vec!["lora".into()] }),
                ..Parameter::new("rank", Domain::Int { low: 1, high: 64, log: true, step: 1 })
            },
            Parameter::new("rate", Domain::log_float(1e-6, 1e-2)),
            Parameter { at_most: Some("rate".into()), ..Parameter::new("least", Domain::log_float(1e-6, 1e-2)) },
        ]
    };
    let value = |point: &Point| {
        let rank = point.get("rank").map_or(0.0, |rank| rank.number().unwrap());
        let loss =
            (number(point, "rate").log10() + 3.0).powi(2) + if rank > 0.0 { (rank.ln() - 3.0).abs() } else { 2.0 };
        // Full rank is allowed only at low rates, and ranks only up to 32.
        (vec![loss], vec![rank - 32.0])
    };
    for (sampler, trials, expected) in [("gp", 50, 0.3), ("tpe", 80, 0.8)] {
        let mut history = History::new(space(parameters()), goals(1, 1));
        study(sampler, &mut history, trials, |point| value(point));
        let held = history.trials().iter().filter(|trial| value(&trial.point).1[0] <= 0.0);
        let best = held.map(|trial| value(&trial.point).0[0]).fold(f64::INFINITY, f64::min);
        assert!(best < expected, "{sampler}: {best}");
    }
}

#[test]
fn a_prior_is_followed_first_and_left_where_it_is_wrong() {
    let prior = |around: f64| Prior { around: around.into(), spread: 0.05, source: "a test".into() };
    for sampler in ["tpe", "gp"] {
        let with = |around| Parameter { prior: Some(prior(around)), ..Parameter::new("x", Domain::float(0.0, 1.0)) };
        let value =
            |point: &Point| (vec![(number(point, "x") - 0.8).powi(2) + (number(point, "y") - 0.3).powi(2)], vec![]);
        let near = |around: f64, place: f64, trials: std::ops::Range<usize>| {
            let parameters = vec![with(around), Parameter::new("y", Domain::float(0.0, 1.0))];
            let mut history = History::new(space(parameters), goals(1, 0));
            study(sampler, &mut history, 50, value);
            history.trials()[trials].iter().filter(|trial| (number(&trial.point, "x") - place).abs() < 0.15).count()
        };
        assert!(near(0.8, 0.8, 0..8) >= 4, "{sampler}: the prior is not followed");
        assert!(near(0.1, 0.8, 40..50) >= 5, "{sampler}: a wrong prior is not left");
    }
}

/// Trials under way, of which nothing is known yet, push others away from where they are.
#[test]
fn trials_under_way_are_kept_away_from() {
    for sampler in ["tpe", "gp"] {
        let mut history = History::new(units(&["x", "y"]), goals(1, 0));
        study(sampler, &mut history, 25, |point| {
            (vec![(number(point, "x") - 0.5).powi(2) + (number(point, "y") - 0.5).powi(2)], vec![])
        });
        let mut apart = f64::INFINITY;
        let mut under_way: Vec<(f64, f64)> = Vec::new();
        for number in 25..33 {
            let point = named(sampler).unwrap().suggest(&ask(&history, number)).unwrap();
            let at = (self::number(&point, "x"), self::number(&point, "y"));
            apart = under_way.iter().map(|one| (one.0 - at.0).hypot(one.1 - at.1)).fold(apart, f64::min);
            under_way.push(at);
            history.put(Trial::new(number, point));
        }
        assert!(apart > 1e-3, "{sampler}: {apart}");
    }
}

#[test]
fn auto_says_what_it_takes_and_why() {
    let small = History::new(space(vec![Parameter::new("x", Domain::int(1, 12))]), goals(1, 0));
    let reason = |history: &History, budget| AutoSampler.reason(&Ask { budget, ..ask(history, 0) });
    assert_eq!(
        reason(&small, Some(50)),
        "grid: 12 combinations, each once (auto: 50 trials are enough for all 12 points)"
    );
    assert!(reason(&small, Some(5)).starts_with("gp: "));
    let mut history = History::new(units(&["x"]), goals(2, 0));
    assert_eq!(
        reason(&history, None),
        "gp: fills the space first, 0 of 8 trials told (auto: learns most from up to 300 trials)"
    );
    study("random", &mut history, 300, |point| (vec![number(point, "x"), 0.0], vec![]));
    assert_eq!(
        reason(&history, None),
        "tpe: draws from where the best of 300 trials lie (auto: 300 trials are more than the 300 that gp is for)"
    );
}
