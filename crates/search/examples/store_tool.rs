//! The store from the command line, for checks and measurements beside Optuna: `bench/search/optuna_store.py`, `optuna_speed.py`.
//!
//! `store_tool write ADDRESS` writes two studies, `single` and `multi`, with a trial of every kind. `read ADDRESS STUDY` prints the
//! trials of one of them as JSON lines. `continue ADDRESS STUDY COUNT` adds trials to it. `speed ADDRESS COUNT EACH SAMPLER` fills
//! the study `speed` of 8 parameters up to COUNT random trials, times as many as EACH more whose values the sampler chooses, and prints
//! the milliseconds of each.
#![allow(clippy::unwrap_used, clippy::print_stdout, reason = "a tool for checks: it ends where something is wrong")]

use std::time::Instant;

use serde_json::json;
use temper_run::to_json;
use temper_search::sampler::{RandomSampler, named};
use temper_search::space::{Condition, Expression, Parameter, Tie};
use temper_search::store::{Begun, Beside, Budget, Lease, Opening, Outcome, Setup, Spent};
use temper_search::{Ask, Direction, Domain, Goals, Measured, Objective, Point, Report, Sampler, Space, Store, Value};

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["write", address] => write(address),
        ["read", address, study] => read(address, study),
        ["continue", address, study, count] => go_on(address, study, count.parse().unwrap()),
        ["speed", address, count, each, sampler] => {
            speed(address, count.parse().unwrap(), each.parse().unwrap(), named(sampler).unwrap().as_ref());
        }
        _ => panic!("expected write, read, continue or speed; see the head of this file"),
    }
}

fn setup(study: &str) -> Setup {
    let mode = Parameter::new("mode", Domain::choice(["lora", "full"]));
    let when = Some(Condition { name: "mode".into(), values: vec!["lora".into()] });
    let rank = Parameter { when, ..Parameter::new("rank", Domain::Int { low: 2, high: 64, log: true, step: 1 }) };
    let dropout = Domain::Float { low: 0.0, high: 0.3, log: false, step: Some(0.1) };
    let mixed = vec![Value::Null, Value::Bool(true), Value::Int(1), Value::Float(2.5), Value::Text("x".into())];
    let parameters = vec![
        Parameter::new("rate", Domain::log_float(1e-6, 1e-2)),
        mode,
        rank,
        Parameter::new("dropout", dropout),
        Parameter::new("batch", Domain::Int { low: 8, high: 32, log: false, step: 8 }),
        Parameter::new("mixed", Domain::Choice { values: mixed }),
    ];
    let tie = Tie { name: "alpha".into(), value: Expression::parse("2 * rank").unwrap(), whole: true };
    let objective = |name: &str, direction| Objective { name: name.into(), direction };
    let mut objectives = vec![objective("loss", Direction::Minimize)];
    if study == "multi" {
        objectives.push(objective("kept", Direction::Maximize));
    }
    Setup {
        name: study.into(),
        space: Space::new(parameters, Vec::new(), vec![tie]).unwrap(),
        goals: Goals { objectives, constraints: vec!["floor".into()] },
        settings: json!({"recipe": study}),
        first: Vec::new(),
    }
}

fn open(address: &str, setup: &Setup) -> Store {
    Store::open(address, setup, &Opening::default()).unwrap()
}

/// Begins a trial; the point of waiting ones is their own.
fn begin(store: &mut Store, sampler: &dyn Sampler) -> (Lease, Point) {
    let draw = |history: &_, number| sampler.suggest(&Ask { history, number, seed: 1, budget: None });
    match store.begin(&Budget::unlimited(), draw).unwrap() {
        Begun::Trial(lease, point) => (lease, point),
        other => panic!("{other:?}"),
    }
}

fn measured(store: &Store, loss: f64, floor: f64) -> Measured {
    let values = [loss, 0.5 - loss / 10.0][..store.history().goals().objectives.len()].to_vec();
    Measured { values, constraints: vec![floor] }
}

fn write(address: &str) {
    for study in ["single", "multi"] {
        let mut store = open(address, &setup(study));
        for index in 0..20 {
            let (lease, _) = begin(&mut store, &RandomSampler);
            let loss = f64::from(index) / 8.0;
            for step in 1..=3 {
                let value = if index == 4 && step == 3 { f64::NAN } else { loss + 1.0 / step as f64 };
                let report = Report::new(step, measured(&store, value, 0.0));
                store.report(&lease, &report, &Beside::default()).unwrap();
            }
            store.set_attribute(&lease, "folder", &json!(format!("runs/{index}"))).unwrap();
            let reason = || format!("trial {index}");
            let floor = if index % 4 == 0 { 0.25 } else { -0.25 };
            let outcome = match index {
                15 => Outcome::Failed { reason: reason() },
                16 => Outcome::Complete(measured(&store, f64::INFINITY, f64::NAN)),
                17 => {
                    store.pause(&lease, "rung 3", Spent::default()).unwrap();
                    continue;
                }
                18 => continue,
                index if index % 5 == 4 => Outcome::Pruned { reason: reason() },
                _ => Outcome::Complete(measured(&store, loss, floor)),
            };
            store.tell(&lease, &outcome, Spent::default()).unwrap();
        }
        store.enqueue(&Point::from([("rate".into(), Value::Float(0.00025))])).unwrap();
    }
}

fn read(address: &str, study: &str) {
    for trial in open(address, &setup(study)).history().trials() {
        println!(
            "{}",
            to_json(&json!({
                "number": trial.number,
                "state": trial.state,
                "point": trial.point,
                "reports": trial.reports.iter().map(|report| report.step).collect::<Vec<_>>(),
                "values": trial.result.as_ref().map(|result| texts(&result.values)),
                "constraints": trial.result.as_ref().map(|result| texts(&result.constraints)),
                "reason": trial.reason,
            }))
            .unwrap()
        );
    }
}

/// Numbers as Python's `repr` and `float` know them.
fn texts(values: &[f64]) -> Vec<String> {
    values.iter().map(|value| format!("{value:?}").to_lowercase()).collect()
}

fn go_on(address: &str, study: &str, count: usize) {
    let mut store = open(address, &setup(study));
    for _ in 0..count {
        let (lease, _) = begin(&mut store, &RandomSampler);
        let result = Outcome::Complete(measured(&store, 1.0, -1.0));
        store.tell(&lease, &result, Spent::default()).unwrap();
        println!("{}", lease.number);
    }
}

fn speed(address: &str, count: u64, each: u64, sampler: &dyn Sampler) {
    let parameters = (0..8).map(|index| Parameter::new(format!("x{index}"), Domain::float(0.0, 1.0))).collect();
    let setup = Setup {
        name: "speed".into(),
        space: Space::new(parameters, Vec::new(), Vec::new()).unwrap(),
        goals: Goals::minimize("loss"),
        settings: json!(null),
        first: Vec::new(),
    };
    let opened = Instant::now();
    let mut store = open(address, &setup);
    let opened = opened.elapsed();
    let one = |store: &mut Store, sampler: &dyn Sampler| {
        let start = Instant::now();
        let (lease, point) = begin(store, sampler);
        let asked = start.elapsed();
        let report = Report::new(1, Measured { values: vec![1.0], constraints: Vec::new() });
        store.report(&lease, &report, &Beside::default()).unwrap();
        let reported = start.elapsed();
        let loss = point.values().filter_map(Value::number).map(|x| (x - 0.3).powi(2)).sum();
        let result = Outcome::Complete(Measured { values: vec![loss], constraints: Vec::new() });
        store.tell(&lease, &result, Spent::default()).unwrap();
        let milliseconds = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
        (milliseconds(asked), milliseconds(reported - asked), milliseconds(start.elapsed() - reported))
    };
    while (store.history().trials().len() as u64) < count {
        one(&mut store, &RandomSampler);
    }
    println!("{}", json!({"open": opened.as_secs_f64() * 1e3, "trials": store.history().trials().len()}));
    for _ in 0..each {
        let (ask, report, tell) = one(&mut store, sampler);
        println!("{}", json!({"ask": ask, "report": report, "tell": tell}));
    }
}
