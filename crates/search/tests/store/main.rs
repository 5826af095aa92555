//! The store on real databases: SQLite and PostgreSQL.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "tests")]

mod backend;
mod optuna;
mod reports;
mod studies;
mod workers;

use std::time::Duration;

use serde_json::json;
use temper_search::space::Parameter;
use temper_search::store::{Begun, Beside, Budget, Lease, Opening, Setup, Spent};
use temper_search::{Direction, Domain, Goals, Measured, Objective, Point, Report, Space, Store, Value};

/// A rate on a logarithmic scale and one of three schedules.
fn space() -> Space {
    let rate = Parameter::new("rate", Domain::log_float(1e-6, 1e-2));
    let schedule = Parameter::new("schedule", Domain::choice(["constant", "cosine", "wsd"]));
    Space::new(vec![rate, schedule], Vec::new(), Vec::new()).unwrap()
}

fn setup() -> Setup {
    Setup {
        name: "study".into(),
        space: space(),
        goals: Goals::minimize("loss"),
        settings: json!({"recipe": "name: x"}),
        first: Vec::new(),
    }
}

/// A loss, what was kept, and a floor.
fn two_axes() -> Setup {
    let objective = |name: &str, direction| Objective { name: name.into(), direction };
    let objectives = vec![objective("loss", Direction::Minimize), objective("kept", Direction::Maximize)];
    Setup { goals: Goals { objectives, constraints: vec!["floor".into()] }, ..setup() }
}

fn open(address: &str, setup: &Setup) -> Store {
    Store::open(address, setup, &Opening::default()).unwrap()
}

/// A worker whose leases are short.
fn hasty(address: &str, setup: &Setup, lease: Duration) -> Store {
    Store::open(address, setup, &Opening { lease, ..Opening::default() }).unwrap()
}

fn point(rate: f64, schedule: &str) -> Point {
    Point::from([("rate".into(), Value::Float(rate)), ("schedule".into(), schedule.into())])
}

fn begin(store: &mut Store, point: &Point) -> Lease {
    match store.begin(&Budget::unlimited(), |_, _| Some(point.clone())).unwrap() {
        Begun::Trial(lease, _) => lease,
        other => panic!("{other:?}"),
    }
}

fn measured(values: &[f64], constraints: &[f64]) -> Measured {
    Measured { values: values.to_vec(), constraints: constraints.to_vec() }
}

fn report(step: u64, loss: f64) -> Report {
    Report::new(step, measured(&[loss], &[]))
}

const NOTHING: Beside<'static> = Beside { checkpoint: None, spent: Spent { tokens: 0, seconds: 0.0 } };
const FREE: Spent = Spent { tokens: 0, seconds: 0.0 };
