//! What Optuna writes, as rows; `bench/search/optuna_store.py` lets Optuna itself do it.

use temper_search::State;
use temper_search::store::{Outcome, Setup};

use super::*;

/// Runs SQL without a store.
fn run(address: &str, statements: &[&str]) {
    if address.starts_with("postgres") {
        let mut client = postgres::Client::connect(address, postgres::NoTls).unwrap();
        statements.iter().for_each(|sql| client.batch_execute(sql).unwrap());
    } else {
        let connection = rusqlite::Connection::open(address).unwrap();
        statements.iter().for_each(|sql| connection.execute_batch(sql).unwrap());
    }
}

/// The answer to a question for one whole number.
fn count(address: &str, sql: &str) -> i64 {
    if address.starts_with("postgres") {
        let mut client = postgres::Client::connect(address, postgres::NoTls).unwrap();
        client.query_one(sql, &[]).unwrap().get(0)
    } else {
        rusqlite::Connection::open(address).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
    }
}

const FLOAT: &str =
    r#"{"name": "FloatDistribution", "attributes": {"step": null, "low": 1e-06, "high": 0.01, "log": true}}"#;
const CHOICE: &str = r#"{"name": "CategoricalDistribution", "attributes": {"choices": ["constant", "cosine", "wsd"]}}"#;
const OLD: &str = r#"{"name": "IntUniformDistribution", "attributes": {"low": 1, "high": 9, "step": 1}}"#;
const OTHER: &str = r#"{"name": "CategoricalDistribution", "attributes": {"choices": [[1, 2], [3]]}}"#;

#[test]
fn trials_of_optuna_are_in_the_history() {
    let setup = Setup {
        goals: Goals { constraints: vec!["floor".into(), "cost".into()], ..Goals::minimize("loss") },
        ..setup()
    };
    backend::each(|address, _| {
        let mut store = open(address, &setup);
        let trial = |number: i64, state: &str| {
            format!("INSERT INTO trials (number, study_id, state) VALUES ({number}, 1, '{state}')")
        };
        let parameter = |row: i64, name: &str, value: f64, distribution: &str| {
            format!(
                "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) \
                 VALUES ({row}, '{name}', {value:?}, '{distribution}')"
            )
        };
        let rows = [
            trial(0, "COMPLETE"),
            parameter(1, "rate", 0.001, FLOAT),
            parameter(1, "schedule", 2.0, CHOICE),
            parameter(1, "layers", 3.0, OLD),
            parameter(1, "shape", 1.0, OTHER),
            "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (1, 0, NULL, 'INF_POS')".into(),
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (1, 'constraints', '[NaN, 0.5]')"
                .into(),
            "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES (1, 'constraints:floor', '-1.0')"
                .into(),
            "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (1, 'note', '{\"x\": -Infinity}')"
                .into(),
            trial(1, "PRUNED"),
            parameter(2, "rate", 0.002, FLOAT),
            "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) \
             VALUES (2, 0, 1.5, 'FINITE'), (2, 1, NULL, 'NAN'), (2, -1, 2.5, 'FINITE')"
                .into(),
            trial(2, "FAIL"),
            trial(3, "RUNNING"),
        ];
        run(address, &rows.each_ref().map(String::as_str));
        store.refresh().unwrap();
        let trials = store.history().trials().to_vec();
        let states: Vec<State> = trials.iter().map(|trial| trial.state).collect();
        assert_eq!(states, [State::Complete, State::Pruned, State::Failed, State::Running]);
        let mut expected = point(0.001, "wsd");
        expected.insert("layers".into(), Value::Int(3));
        assert_eq!(trials[0].point, expected);
        assert_eq!(trials[0].result, Some(measured(&[f64::INFINITY], &[-1.0, 0.5])));
        assert!(store.history().coordinates()[0].iter().all(|coordinate| coordinate.is_finite()));
        assert_eq!(trials[1].reports[0], report(0, 1.5));
        assert!(trials[1].result.as_ref().unwrap().values[0].is_nan());
        assert_eq!(trials[1].reports.len(), 2);
        assert_eq!(store.attributes(0).unwrap(), [("note".to_owned(), json!({"x": "-Infinity"}))]);

        // What changes there is seen, though no write of ours is counted.
        run(
            address,
            &[
                &parameter(4, "rate", 0.003, FLOAT),
                "UPDATE trials SET state = 'COMPLETE' WHERE trial_id = 4",
                "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES (4, 0, 0.5, 'FINITE')",
            ],
        );
        store.refresh().unwrap();
        let trial = store.history().trial(3).unwrap();
        assert_eq!((trial.state, &trial.point["rate"]), (State::Complete, &Value::Float(0.003)));
        // A constraint that was never set is broken without bound.
        assert_eq!(store.history().goals().violation(trial.result.as_ref().unwrap()), f64::INFINITY);
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        assert_eq!(lease.number, 4);
    });
}

#[test]
fn trials_that_optuna_put_in_the_line_are_run_with_their_values_or_failed_with_the_reason() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let waiting = |number: i64, fixed: &str| {
            format!(
                "INSERT INTO trials (number, study_id, state) VALUES ({number}, 1, 'WAITING'); \
                 INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES ({}, 'fixed_params', '{fixed}')",
                number + 1
            )
        };
        run(
            address,
            &[
                &waiting(0, r#"{"rate": 0.005}"#),
                &waiting(1, r#"{"rate": 0.5}"#),
                &waiting(2, r#"{"rate": 0.001, "layers": 3}"#),
                &waiting(3, r#"{"rate": 0.00012345678901234567, "schedule": "cosine"}"#),
            ],
        );
        let mut asked = Vec::new();
        for _ in 0..3 {
            store
                .begin(&Budget::unlimited(), |_, number| {
                    asked.push(number);
                    Some(point(1e-3, "wsd"))
                })
                .unwrap();
        }
        assert_eq!(asked, [0, 4], "only where something is left open");
        let trials = store.history().trials();
        assert_eq!(trials[0].point, point(0.005, "wsd"));
        assert_eq!(trials[3].point, point(0.00012345678901234567, "cosine"));
        assert_eq!(trials[4].point, point(1e-3, "wsd"));
        let reasons: Vec<&str> = trials.iter().filter_map(|trial| trial.reason.as_deref()).collect();
        assert_eq!(reasons.len(), 2);
        assert!(reasons[0].ends_with("rate: 0.5 is not in its domain"), "{reasons:?}");
        assert!(reasons[1].ends_with("layers is no parameter of the space"), "{reasons:?}");
        assert_eq!(trials[1].state, State::Failed);
    });
}

#[test]
fn a_paused_or_stale_trial_is_nothing_that_optuna_would_run_or_fail() {
    backend::each(|address, _| {
        let mut store = hasty(address, &setup(), Duration::from_millis(1));
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        store.pause(&lease, "rung", FREE).unwrap();
        begin(&mut store, &point(1e-4, "wsd"));
        std::thread::sleep(Duration::from_millis(10));
        store.refresh().unwrap();
        let states: Vec<State> = store.history().trials().iter().map(|trial| trial.state).collect();
        assert_eq!(states, [State::Paused, State::Stale]);
        assert_eq!(count(address, "SELECT COUNT(*) FROM trials WHERE state = 'RUNNING'"), 2);
        assert_eq!(count(address, "SELECT COUNT(*) FROM trial_heartbeats"), 0);
        // Whoever ends it in Optuna has ended it.
        run(address, &["UPDATE trials SET state = 'FAIL' WHERE number = 0"]);
        store.refresh().unwrap();
        assert_eq!(store.history().trial(0).unwrap().state, State::Failed);
        assert_eq!(store.resume(0).unwrap(), None);
    });
}

#[test]
fn what_optuna_deletes_is_deleted_here_too() {
    backend::each(|address, _| {
        let mut store = open(address, &two_axes());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        let on_the_way = Report::new(1, measured(&[1.0, 2.0], &[0.0]));
        store.report(&lease, &on_the_way, &Beside { checkpoint: Some("x"), ..NOTHING }).unwrap();
        store.set_state("x", &json!(1)).unwrap();
        run(
            address,
            &["DELETE FROM trial_params; DELETE FROM trial_user_attributes; DELETE FROM trial_system_attributes; \
             DELETE FROM study_directions; DELETE FROM study_system_attributes; DELETE FROM trials; DELETE FROM studies"],
        );
        for table in ["trials", "reports", "artifacts", "studies", "state", "workers"] {
            assert_eq!(count(address, &format!("SELECT COUNT(*) FROM temper_{table}")), 0, "{table}");
        }
        let told = store.tell(&lease, &Outcome::Failed { reason: "x".into() }, FREE);
        assert!(told.unwrap_err().to_string().contains("was deleted meanwhile"));
        assert!(store.refresh().is_err());
    });
}

#[test]
fn a_database_of_another_optuna_is_refused() {
    backend::each(|address, _| {
        open(address, &setup());
        run(address, &["UPDATE alembic_version SET version_num = 'v4.0.0.a'"]);
        let refused = Store::open(address, &setup(), &Opening::default()).err().unwrap().to_string();
        assert!(refused.contains("expected schema v3.2.0.a") && refused.contains("got v4.0.0.a"), "{refused}");
        run(address, &["UPDATE alembic_version SET version_num = 'v3.2.0.a'; UPDATE temper_format SET format = 2"]);
        let refused = Store::open(address, &setup(), &Opening::default()).err().unwrap().to_string();
        assert!(refused.contains("expected format 1"), "{refused}");
    });
}

#[test]
fn enqueued_twice_waits_once() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        assert_eq!(store.enqueue(&point(1e-3, "wsd")).unwrap(), 0);
        assert_eq!(store.enqueue(&point(1e-3, "wsd")).unwrap(), 0);
        assert_eq!(store.enqueue(&point(1e-4, "wsd")).unwrap(), 1);
        assert!(store.enqueue(&point(1.0, "wsd")).unwrap_err().to_string().contains("rate: 1.0 is not in its domain"));
        assert_eq!(begin(&mut store, &point(1e-5, "wsd")).number, 0);
        // Begun, it does not wait any more.
        assert_eq!(store.enqueue(&point(1e-3, "wsd")).unwrap(), 2);
    });
}
