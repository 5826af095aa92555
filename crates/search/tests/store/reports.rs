//! What a worker says of its trial: once, twice, late, and of what is no number.

use temper_search::State;
use temper_search::store::{Outcome, Wrote};

use super::*;

#[test]
fn the_first_report_of_a_step_counts_and_another_is_told() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        assert_eq!(store.report(&lease, &report(20, 0.5), &NOTHING).unwrap(), Wrote::Done);
        assert_eq!(store.report(&lease, &report(20, 0.5), &NOTHING).unwrap(), Wrote::Already);
        let kept = store.report(&lease, &report(20, 0.4), &NOTHING).unwrap();
        assert_eq!(kept, Wrote::Kept(r#"{"values":[0.5],"constraints":[]}"#.into()));
        assert_eq!(store.report(&lease, &report(30, f64::NAN), &NOTHING).unwrap(), Wrote::Done);
        assert_eq!(store.report(&lease, &report(30, f64::NAN), &NOTHING).unwrap(), Wrote::Already);
        // Late, and beyond the steps that Optuna can hold.
        assert_eq!(store.report(&lease, &report(10, 0.9), &NOTHING).unwrap(), Wrote::Done);
        assert_eq!(store.report(&lease, &report(1 << 40, 0.3), &NOTHING).unwrap(), Wrote::Done);
        store.refresh().unwrap();
        let steps: Vec<u64> = store.history().trials()[0].reports.iter().map(|report| report.step).collect();
        assert_eq!(steps, [10, 20, 30, 1 << 40]);
        assert!(store.report(&lease, &report(0, 1.0), &NOTHING).is_err());
        let two = Report::new(40, measured(&[1.0, 2.0], &[]));
        let refused = store.report(&lease, &two, &NOTHING).unwrap_err().to_string();
        assert_eq!(refused, "trial 0: expected 1 objectives, got 2");
    });
}

// optuna#3450: reports of a study with several objectives.
#[test]
fn optuna_3450_reports_hold_every_objective_and_constraint() {
    backend::each(|address, _| {
        let mut store = open(address, &two_axes());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        let on_the_way = Report::new(7, measured(&[2.5, 0.75], &[-0.1]));
        assert_eq!(store.report(&lease, &on_the_way, &NOTHING).unwrap(), Wrote::Done);
        let why = Outcome::Pruned { reason: "rank 3 of 9".into() };
        assert_eq!(store.tell(&lease, &why, FREE).unwrap(), Wrote::Done);
        store.refresh().unwrap();
        let trial = &store.history().trials()[0];
        assert_eq!((trial.state, trial.reason.as_deref()), (State::Pruned, Some("rank 3 of 9")));
        assert_eq!(trial.result.as_ref(), Some(&on_the_way.measured));
    });
}

// optuna#5202: what NaN means at the end.
#[test]
fn optuna_5202_a_result_that_is_no_number_is_a_failure_and_an_infinity_is_none() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        for (number, (loss, expected)) in
            [(f64::NAN, State::Failed), (f64::INFINITY, State::Complete), (f64::NEG_INFINITY, State::Complete)]
                .into_iter()
                .enumerate()
        {
            let lease = begin(&mut store, &point(1e-3, "wsd"));
            let result = Outcome::Complete(measured(&[loss], &[]));
            assert_eq!(store.tell(&lease, &result, FREE).unwrap(), Wrote::Done);
            store.refresh().unwrap();
            let trial = store.history().trial(number as u64).unwrap();
            assert_eq!(trial.state, expected);
            match expected {
                State::Failed => assert_eq!(trial.reason.as_deref(), Some("loss is no number")),
                _ => assert_eq!(trial.result, Some(measured(&[loss], &[]))),
            }
        }
    });
}

// optuna#5202, #264: a pruned trial whose last report is no number.
#[test]
fn optuna_264_a_pruned_trial_keeps_its_last_report_whatever_it_is() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        store.report(&lease, &report(1, f64::NAN), &NOTHING).unwrap();
        let pruned = Outcome::Pruned { reason: "diverged".into() };
        assert_eq!(store.tell(&lease, &pruned, FREE).unwrap(), Wrote::Done);
        assert_eq!(store.tell(&lease, &pruned, FREE).unwrap(), Wrote::Already);
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        assert_eq!(store.tell(&lease, &pruned, FREE).unwrap(), Wrote::Done);
        let trials = open(address, &setup()).history().trials().to_vec();
        assert!(trials[0].result.as_ref().unwrap().values[0].is_nan());
        assert_eq!(trials[1].result, None);
    });
}

#[test]
fn costs_only_grow() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        let spent = |tokens, seconds| Spent { tokens, seconds };
        assert_eq!(store.heartbeat(&lease, spent(100, 2.0)).unwrap(), Wrote::Done);
        assert_eq!(store.heartbeat(&lease, spent(50, 3.0)).unwrap(), Wrote::Done);
        assert_eq!(store.heartbeat(&lease, FREE).unwrap(), Wrote::Done);
        assert_eq!(store.spent().unwrap(), [(0, spent(100, 3.0))]);
        assert!(store.heartbeat(&lease, spent(1, f64::NAN)).is_err());
    });
}
