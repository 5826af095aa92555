//! Studies: made, opened again, refused, changed.

use serde_json::json;
use temper_search::space::{Expression, Simplex, Tie};
use temper_search::store::{Opening, Outcome, Setup, Wrote};
use temper_search::{Direction, Domain, Space, State, Store, Value};

use super::*;

#[test]
fn a_study_is_read_back_as_it_was_written_by_another_connection() {
    backend::each(|address, _| {
        let mut store = open(address, &two_axes());
        let lease = begin(&mut store, &point(0.00012345678901234567, "cosine"));
        let items = vec![vec![0.5, f64::NAN, 1.0], Vec::new()];
        let on_the_way = Report { items, ..Report::new(5, measured(&[f64::NAN, f64::INFINITY], &[f64::NAN])) };
        let beside = Beside { checkpoint: Some("runs/0/5"), spent: Spent { tokens: 700, seconds: 1.5 } };
        assert_eq!(store.report(&lease, &on_the_way, &beside).unwrap(), Wrote::Done);
        assert_eq!(store.set_attribute(&lease, "folder", &json!("runs/0")).unwrap(), Wrote::Done);
        let result = measured(&[0.1 + 0.2, f64::NEG_INFINITY], &[-0.25]);
        assert_eq!(store.tell(&lease, &Outcome::Complete(result.clone()), FREE).unwrap(), Wrote::Done);
        store.set_state("answer", &json!({"trial": 0})).unwrap();
        store.set_state("answer", &json!({"trial": 1})).unwrap();
        store.refresh().unwrap();

        let mut other = open(address, &two_axes());
        assert_eq!(format!("{:?}", other.history().trials()), format!("{:?}", store.history().trials()));
        let trial = other.history().trial(0).unwrap();
        assert_eq!(trial.state, State::Complete);
        assert_eq!(trial.point, point(0.00012345678901234567, "cosine"));
        assert_eq!(trial.result, Some(result));
        let kept = &trial.reports[0].measured;
        assert!(kept.values[0].is_nan() && kept.values[1] == f64::INFINITY && kept.constraints[0].is_nan());
        let items = &other.history().trial(0).unwrap().at(5).unwrap().items;
        assert!(items[0][0] == 0.5 && items[0][1].is_nan() && items[0][2] == 1.0 && items[1].is_empty());
        assert_eq!(other.artifacts(0, "checkpoint").unwrap(), [(5, "runs/0/5".to_owned())]);
        assert_eq!(other.attributes(0).unwrap(), [("folder".to_owned(), json!("runs/0"))]);
        assert_eq!(other.spent().unwrap(), [(0, Spent { tokens: 700, seconds: 1.5 })]);
        assert_eq!(other.state("answer").unwrap(), Some(json!({"trial": 1})));
        assert_eq!(other.state("nothing").unwrap(), None);
        let studies = Store::studies(address).unwrap();
        assert_eq!(studies.len(), 1);
        assert_eq!(studies[0].settings, Some(json!({"recipe": "name: x"})));
    });
}

#[test]
fn the_users_own_values_are_trial_0_however_many_workers_begin_at_once() {
    backend::each(|address, _| {
        let setup = Setup { first: vec![point(1e-4, "constant")], ..setup() };
        let points: Vec<_> = std::thread::scope(|scope| {
            let worker = || {
                let mut store = open(address, &setup);
                begin(&mut store, &point(1e-3, "wsd"));
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(worker)).collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            open(address, &setup).history().trials().iter().map(|trial| trial.point.clone()).collect()
        });
        assert_eq!(points.len(), 4);
        assert_eq!(points[0], point(1e-4, "constant"));
        assert!(points[1..].iter().all(|one| *one == point(1e-3, "wsd")));
    });
}

#[test]
fn what_follows_from_a_point_is_kept_beside_it() {
    let shares = vec![("mix.domain".to_owned(), 10.0), ("mix.general".to_owned(), 0.0)];
    let simplex = Simplex::new("mix", shares, 100.0, 1.0).unwrap();
    let tie = Tie { name: "alpha".into(), value: Expression::parse("2 * rank").unwrap(), whole: true };
    let space = Space::new(vec![Parameter::new("rank", Domain::int(4, 64))], vec![simplex], vec![tie]).unwrap();
    let setup = Setup { space, ..setup() };
    backend::each(|address, _| {
        let mut store = open(address, &setup);
        let chosen = Point::from([("rank".into(), Value::Int(8)), ("mix/1".into(), Value::Float(0.5))]);
        begin(&mut store, &chosen);
        let kept = store.attributes(0).unwrap();
        let expected = [("alpha", json!(16)), ("mix.domain", json!(55.0)), ("mix.general", json!(45.0))];
        assert_eq!(kept, expected.map(|(name, value)| (name.to_owned(), value)));
        assert_eq!(store.history().trial(0).unwrap().point, chosen);
    });
}

// optuna#4080, #1671: a space that changes within a study.
#[test]
fn optuna_4080_another_space_is_refused_by_name_and_taken_when_it_is_said() {
    let wider = |high| {
        let rate = Parameter::new("rate", Domain::log_float(1e-6, high));
        let schedule = Parameter::new("schedule", Domain::choice(["constant", "cosine", "linear"]));
        Setup { space: Space::new(vec![rate, schedule], Vec::new(), Vec::new()).unwrap(), ..setup() }
    };
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        begin(&mut store, &point(5e-3, "wsd"));
        let refused = Store::open(address, &wider(1e-3), &Opening::default()).err().unwrap().to_string();
        assert!(refused.contains("parameters.rate.domain.high: had 0.01, now 0.001"), "{refused}");
        assert!(refused.contains("parameters.schedule.domain.values: had "), "{refused}");
        let changed = Opening { change_space: true, ..Opening::default() };
        let store = Store::open(address, &wider(1e-3), &changed).unwrap();
        // The old trial is still there with its values; what the new space does not hold of them has no coordinate.
        assert_eq!(store.history().trial(0).unwrap().point, point(5e-3, "wsd"));
        assert!(store.history().coordinates()[0].iter().all(|coordinate| coordinate.is_nan()));
        assert!(Store::open(address, &setup(), &Opening::default()).is_err());
        open(address, &wider(1e-3));
    });
}

// optuna#1198: a loss reported to a study that maximises.
#[test]
fn optuna_1198_a_study_with_other_goals_is_refused() {
    backend::each(|address, _| {
        open(address, &setup());
        let mut other = setup();
        other.goals.objectives[0].direction = Direction::Maximize;
        let refused = Store::open(address, &other, &Opening::default()).err().unwrap().to_string();
        assert!(refused.contains("MINIMIZE, now MAXIMIZE") && refused.contains("hint"), "{refused}");
        let mut other = setup();
        other.goals.objectives[0].name = "accuracy".into();
        assert!(Store::open(address, &other, &Opening::default()).is_err());
        let mut other = setup();
        other.goals.constraints = vec!["floor".into()];
        assert!(Store::open(address, &other, &Opening::default()).is_err());
        assert!(Store::open(address, &two_axes(), &Opening::default()).is_err());
    });
}

#[test]
fn addresses_that_open_nothing_say_what_and_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let said = |address: &str| Store::open(address, &setup(), &Opening::default()).err().unwrap().to_string();
    let no_folder = folder.path().join("a/b/study.db").display().to_string();
    assert!(said(&no_folder).contains("its folder cannot be opened"), "{}", said(&no_folder));
    let text = folder.path().join("text");
    std::fs::write(&text, "no database, whatever it is called: ".repeat(100)).unwrap();
    assert!(said(&text.display().to_string()).contains("hint: this file is something else"));
    assert!(said("postgres://me@127.0.0.1/x?sslmode=require").contains("without TLS"));
    let unreachable = said("postgres://me:secret@127.0.0.1:1/x?connect_timeout=1");
    assert!(
        unreachable.starts_with("postgresql://me@127.0.0.1:1/x") && !unreachable.contains("secret"),
        "{unreachable}"
    );
    assert_eq!(Store::studies(&folder.path().join("none.db").display().to_string()).unwrap(), []);
    assert!(!folder.path().join("none.db").exists());
}

#[test]
fn whole_numbers_that_a_float_does_not_hold_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let space = Space::new(vec![Parameter::new("seed", Domain::int(0, 1 << 60))], Vec::new(), Vec::new()).unwrap();
    let refused = Store::open(&backend::sqlite(folder.path()), &Setup { space, ..setup() }, &Opening::default());
    assert!(refused.err().unwrap().to_string().contains("seed: whole numbers beyond 2^53"));
}
