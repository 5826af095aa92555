//! Many workers on one study, some of which are lost.

use std::thread::{scope, sleep};
use std::time::Duration;

use temper_search::sampler::RandomSampler;
use temper_search::store::{Outcome, Wrote};
use temper_search::{Ask, History, Sampler, State};

use super::*;

/// Runs workers at once, each with the store opened by itself.
fn at_once(address: &str, setup: &Setup, workers: usize, work: impl Fn(&mut Store, usize) + Sync) {
    scope(|scope| {
        let work = &work;
        let start = |index| scope.spawn(move || work(&mut open(address, setup), index));
        let threads: Vec<_> = (0..workers).map(start).collect();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

fn suggest(history: &History, number: u64, seed: u64) -> Option<Point> {
    RandomSampler.suggest(&Ask { history, number, seed, budget: None })
}

fn complete(store: &mut Store, lease: &Lease, loss: f64) {
    let result = Outcome::Complete(measured(&[loss], &[]));
    assert_eq!(store.tell(lease, &result, FREE).unwrap(), Wrote::Done);
}

// optuna#820, #4994; optuna-dashboard#545: "database is locked" with many writers, heartbeats and a reader.
#[test]
fn optuna_820_no_writer_finds_the_database_locked() {
    backend::each(|address, _| {
        at_once(address, &setup(), 16, |store, index| {
            for _ in 0..3 {
                let lease = begin(store, &point(1e-3, "wsd"));
                let pulse = store.keep(&lease).unwrap();
                for step in 1..4 {
                    let wrote = store.report(&lease, &report(step, index as f64), &NOTHING).unwrap();
                    assert_eq!(wrote, Wrote::Done);
                    assert_eq!(store.heartbeat(&lease, FREE).unwrap(), Wrote::Done);
                    Store::studies(address).unwrap();
                }
                complete(store, &lease, 1.0);
                assert!(!pulse.is_lost());
            }
        });
        let store = open(address, &setup());
        let numbers: Vec<u64> = store.history().trials().iter().map(|trial| trial.number).collect();
        assert_eq!(numbers, (0..48).collect::<Vec<_>>());
        assert!(store.history().trials().iter().all(|trial| trial.reports.len() == 3));
    });
}

// optuna#3048, #3053: the store is many times slower than memory, and the slower the longer a study is.
#[test]
fn optuna_3048_the_three_hundredth_trial_costs_about_what_the_first_ones_do() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let mut trials = |count: usize| -> f64 {
            let trial = |_| {
                let begun = std::time::Instant::now();
                let lease = begin(&mut store, &point(1e-3, "wsd"));
                complete(&mut store, &lease, 1.0);
                begun.elapsed().as_secs_f64()
            };
            // The fastest: what else the machine does is not the store's.
            (0..count).map(trial).fold(f64::INFINITY, f64::min)
        };
        let first = trials(31);
        trials(238);
        let last = trials(31);
        assert!(last < 4.0 * first + 0.005, "{first} s at first, {last} s after three hundred");
    });
}

// optuna#1547, #3055, #2021: parallel workers try one point twice; a finite space never says that it is exhausted.
#[test]
fn optuna_1547_a_finite_space_is_tried_once_over_and_then_exhausted() {
    let parameters = vec![Parameter::new("a", Domain::int(1, 4)), Parameter::new("b", Domain::choice(["x", "y", "z"]))];
    let setup = Setup { space: Space::new(parameters, Vec::new(), Vec::new()).unwrap(), ..setup() };
    backend::each(|address, _| {
        at_once(address, &setup, 4, |store, _| {
            loop {
                match store.begin(&Budget::trials(50), |history, number| suggest(history, number, 1)).unwrap() {
                    Begun::Trial(lease, _) => complete(store, &lease, 1.0),
                    Begun::Exhausted => break,
                    Begun::Enough => panic!("12 points are fewer than 50"),
                }
            }
        });
        let store = open(address, &setup);
        let mut points: Vec<String> =
            store.history().trials().iter().map(|trial| format!("{:?}", trial.point)).collect();
        points.sort();
        points.dedup();
        assert_eq!((points.len(), store.history().trials().len()), (12, 12));
    });
}

// optuna#4714: workers that share a seed draw the same first trials.
#[test]
fn optuna_4714_workers_that_share_a_seed_draw_different_points() {
    backend::each(|address, _| {
        at_once(address, &setup(), 4, |store, _| {
            for _ in 0..4 {
                store.begin(&Budget::unlimited(), |history, number| suggest(history, number, 7)).unwrap();
            }
        });
        let store = open(address, &setup());
        let mut points: Vec<String> =
            store.history().trials().iter().map(|trial| format!("{:?}", trial.point)).collect();
        points.sort();
        points.dedup();
        assert_eq!(points.len(), 16);
    });
}

// optuna#485, #1641, #3215, #6283; wandb#4283: a killed worker leaves a trial that nobody takes up.
#[test]
fn optuna_485_the_trial_of_a_lost_worker_goes_on_with_one_other_from_its_checkpoint() {
    backend::each(|address, _| {
        let mut lost = hasty(address, &setup(), Duration::from_millis(100));
        let lease = begin(&mut lost, &point(1e-3, "wsd"));
        let beside = Beside { checkpoint: Some("runs/0/20"), ..NOTHING };
        lost.report(&lease, &report(20, 0.5), &beside).unwrap();
        drop(lost);
        sleep(Duration::from_millis(150));
        let won = std::sync::Mutex::new(Vec::new());
        at_once(address, &setup(), 4, |store, _| {
            if let Some(claimed) = store.take_over(3).unwrap() {
                assert_eq!(store.history().trial(0).unwrap().state, State::Running);
                won.lock().unwrap().push(claimed.clone());
                complete(store, &claimed.lease, 0.25);
            }
        });
        let won = won.into_inner().unwrap();
        assert_eq!(won.len(), 1);
        assert_eq!(won[0].point, point(1e-3, "wsd"));
        assert_eq!(won[0].checkpoint, Some((20, "runs/0/20".to_owned())));
        let store = open(address, &setup());
        assert_eq!(store.history().trials().len(), 1);
        assert_eq!(store.history().trials()[0].state, State::Complete);
        assert_eq!(store.history().trials()[0].reports, [report(20, 0.5)]);
    });
}

// optuna#4234, #5470, #3198: a live trial is taken for a dead one, and then its own tell() ends the process.
#[test]
fn optuna_4234_a_worker_that_lost_its_trial_is_told_so_and_writes_nothing() {
    backend::each(|address, _| {
        let mut slow = hasty(address, &setup(), Duration::from_millis(50));
        let lease = begin(&mut slow, &point(1e-3, "wsd"));
        let pulse = hasty(address, &setup(), Duration::from_secs(600)).keep(&lease).unwrap();
        sleep(Duration::from_millis(80));
        let mut other = open(address, &setup());
        let claimed = other.take_over(3).unwrap().unwrap();
        let is_lost = |wrote: Wrote| matches!(&wrote, Wrote::Lost(to) if to.contains(other.worker()));
        assert!(is_lost(slow.report(&lease, &report(1, 9.0), &NOTHING).unwrap()));
        assert!(is_lost(slow.heartbeat(&lease, FREE).unwrap()));
        assert!(is_lost(slow.pause(&lease, "rung", FREE).unwrap()));
        assert!(is_lost(slow.set_artifact(&lease, "checkpoint", 9, "elsewhere").unwrap()));
        assert!(is_lost(slow.tell(&lease, &Outcome::Complete(measured(&[9.0], &[])), FREE).unwrap()));
        assert!(!pulse.is_lost(), "it has not beaten yet");
        complete(&mut other, &claimed.lease, 1.0);
        let late = slow.tell(&lease, &Outcome::Complete(measured(&[1.0], &[])), FREE).unwrap();
        assert_eq!(late, Wrote::Lost("another took it over, and it is COMPLETE".into()));
        other.refresh().unwrap();
        let trial = other.history().trial(0).unwrap();
        assert_eq!((&trial.result, trial.reports.len()), (&Some(measured(&[1.0], &[])), 0));
        assert_eq!(other.artifacts(0, "checkpoint").unwrap(), []);
    });
}

// optuna#5860: a trial whose lease ran out cannot be told from one that failed.
#[test]
fn optuna_5860_a_lease_that_ran_out_is_stale_until_the_next_sign_of_life_and_never_failed() {
    backend::each(|address, _| {
        let mut slow = hasty(address, &setup(), Duration::from_millis(50));
        let lease = begin(&mut slow, &point(1e-3, "wsd"));
        let mut other = open(address, &setup());
        sleep(Duration::from_millis(80));
        other.refresh().unwrap();
        assert_eq!(other.history().trial(0).unwrap().state, State::Stale);
        // Nobody took it over: the report of its own worker is as good as ever.
        assert_eq!(slow.report(&lease, &report(1, 0.5), &NOTHING).unwrap(), Wrote::Done);
        sleep(Duration::from_millis(80));
        complete(&mut slow, &lease, 0.5);
        other.refresh().unwrap();
        assert_eq!(other.history().trial(0).unwrap().state, State::Complete);
        assert_eq!(other.take_over(3).unwrap(), None);
    });
}

/// Asks until it is so; a machine may be busy.
fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let begun = std::time::Instant::now();
    while !is_so() {
        assert!(begun.elapsed() < Duration::from_secs(300), "never: {what}");
        sleep(Duration::from_millis(20));
    }
}

#[test]
fn heartbeats_keep_a_lease_and_notice_that_it_is_lost() {
    backend::each(|address, _| {
        let mut store = hasty(address, &setup(), Duration::from_millis(600));
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        let pulse = store.keep(&lease).unwrap();
        let spent = Spent { tokens: 5, seconds: 0.5 };
        pulse.spend(spent);
        let mut other = open(address, &setup());
        wait_until("a beat", || other.spent().unwrap() == [(0, spent)]);
        // Whoever saw its process end need not wait for the lease; here a beat may come in between.
        wait_until("taken over", || {
            assert_eq!(other.release(store.worker()).unwrap(), 1);
            other.take_over(u32::MAX).unwrap().is_some()
        });
        wait_until("noticed", || pulse.is_lost());
        assert!(matches!(store.heartbeat(&lease, FREE).unwrap(), Wrote::Lost(_)));
    });
}

#[test]
fn a_trial_that_ends_its_workers_is_not_handed_on_for_ever() {
    backend::each(|address, _| {
        let mut store = hasty(address, &setup(), Duration::from_millis(1));
        // Two of them: both are failed by one call, which once ended on the second.
        begin(&mut store, &point(1e-3, "wsd"));
        begin(&mut store, &point(2e-3, "wsd"));
        for _ in 0..4 {
            sleep(Duration::from_millis(5));
            assert!(store.take_over(2).unwrap().is_some());
        }
        sleep(Duration::from_millis(5));
        assert_eq!(store.take_over(2).unwrap(), None);
        for number in 0..2 {
            let trial = store.history().trial(number).unwrap();
            assert_eq!(trial.state, State::Failed);
            assert_eq!(trial.reason.as_deref(), Some("3 workers were lost with it: it may be what ends them"));
        }
    });
}

// optuna#3518: n_trials over m workers gives n + m; #293: a finished study that is started again grows.
#[test]
fn optuna_3518_a_budget_is_the_studys_and_not_each_workers() {
    backend::each(|address, _| {
        let work = |store: &mut Store, _: usize| {
            while let Begun::Trial(lease, _) =
                store.begin(&Budget::trials(20), |history, number| suggest(history, number, 3)).unwrap()
            {
                complete(store, &lease, 1.0);
            }
        };
        at_once(address, &setup(), 6, work);
        assert_eq!(open(address, &setup()).history().trials().len(), 20);
        at_once(address, &setup(), 6, work);
        assert_eq!(open(address, &setup()).history().trials().len(), 20);
    });
}

// optuna#1641: pruned trials do not count, and the study never ends.
#[test]
fn optuna_1641_pruned_and_failed_trials_count_as_it_is_said() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        for outcome in [Outcome::Pruned { reason: "p".into() }, Outcome::Failed { reason: "f".into() }] {
            let lease = begin(&mut store, &point(1e-3, "wsd"));
            store.tell(&lease, &outcome, FREE).unwrap();
        }
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        store.pause(&lease, "rung", FREE).unwrap();
        store.refresh().unwrap();
        let spent = |trials, pruned, failed| Budget { trials: Some(trials), pruned, failed }.is_spent(store.history());
        assert!(spent(3, true, true) && !spent(4, true, true));
        assert!(spent(2, false, true) && !spent(3, false, true));
        assert!(spent(1, false, false) && !spent(2, false, false));
    });
}

#[test]
fn a_paused_trial_is_resumed_by_one_worker_from_its_checkpoint() {
    backend::each(|address, _| {
        let mut store = open(address, &setup());
        let lease = begin(&mut store, &point(1e-3, "wsd"));
        for step in [20, 60] {
            let path = format!("runs/0/{step}");
            let beside = Beside { checkpoint: Some(&path), ..NOTHING };
            store.report(&lease, &report(step, 0.5), &beside).unwrap();
        }
        assert_eq!(store.pause(&lease, "rung 60", FREE).unwrap(), Wrote::Done);
        assert_eq!(store.pause(&lease, "rung 60", FREE).unwrap(), Wrote::Already);
        assert!(matches!(store.report(&lease, &report(90, 0.5), &NOTHING).unwrap(), Wrote::Lost(_)));
        store.refresh().unwrap();
        assert_eq!(store.history().trial(0).unwrap().state, State::Paused);
        assert_eq!(store.history().trial(0).unwrap().reason.as_deref(), Some("rung 60"));
        assert_eq!(store.take_over(3).unwrap(), None, "a paused trial has no worker to be lost");
        let won = std::sync::Mutex::new(0);
        at_once(address, &setup(), 4, |store, _| {
            if let Some(claimed) = store.resume(0).unwrap() {
                *won.lock().unwrap() += 1;
                assert_eq!(claimed.checkpoint, Some((60, "runs/0/60".to_owned())));
                complete(store, &claimed.lease, 0.1);
            }
        });
        assert_eq!(won.into_inner().unwrap(), 1);
    });
}

// ray#54755, #30584, #24918: rungs are lost at a restore, the iteration begins at 1, the folder may not be moved.
#[test]
fn ray_54755_a_study_whose_folder_was_moved_goes_on_where_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let (before, after) = (folder.path().join("before"), folder.path().join("after"));
    std::fs::create_dir(&before).unwrap();
    {
        let mut store = open(&backend::sqlite(&before), &setup());
        for _ in 0..3 {
            let lease = begin(&mut store, &point(1e-3, "wsd"));
            let beside = Beside { checkpoint: Some("0/60"), ..NOTHING };
            store.report(&lease, &report(20, 0.5), &NOTHING).unwrap();
            store.report(&lease, &report(60, 0.4), &beside).unwrap();
            store.pause(&lease, "rung 60", FREE).unwrap();
        }
    }
    std::fs::rename(&before, &after).unwrap();
    let mut store = open(&backend::sqlite(&after), &setup());
    for trial in store.history().trials() {
        assert_eq!(trial.state, State::Paused);
        assert_eq!(trial.last(), Some(&report(60, 0.4)));
    }
    let claimed = store.resume(1).unwrap().unwrap();
    assert_eq!(claimed.checkpoint, Some((60, "0/60".to_owned())));
    let lease = begin(&mut store, &point(1e-3, "wsd"));
    assert_eq!(lease.number, 3);
}

// wandb#3522, #3467: one configuration is run twice after a crash, crashed ones not again.
#[test]
fn wandb_3522_whoever_crashed_is_run_again_once_and_nobody_else_twice() {
    backend::each(|address, _| {
        let mut lost = hasty(address, &setup(), Duration::from_millis(50));
        for rate in [1e-3, 1e-4] {
            begin(&mut lost, &point(rate, "wsd"));
        }
        drop(lost);
        sleep(Duration::from_millis(80));
        let taken = std::sync::Mutex::new(Vec::new());
        at_once(address, &setup(), 6, |store, _| {
            while let Some(claimed) = store.take_over(3).unwrap() {
                taken.lock().unwrap().push(claimed.lease.number);
            }
        });
        let mut taken = taken.into_inner().unwrap();
        taken.sort();
        assert_eq!(taken, [0, 1]);
    });
}

// nni#3250, #4619: a manager that crashed cannot go on, and repeats configurations.
#[test]
fn nni_3250_a_study_needs_no_manager_and_forgets_nothing_with_a_process() {
    backend::each(|address, _| {
        let ask =
            |store: &mut Store| store.begin(&Budget::trials(6), |history, number| suggest(history, number, 9)).unwrap();
        let mut whole = Vec::new();
        for _ in 0..6 {
            // Each trial by a process of its own, which ends without a word.
            let mut store = open(address, &setup());
            let Begun::Trial(lease, point) = ask(&mut store) else { panic!() };
            complete(&mut store, &lease, 1.0);
            whole.push(point);
            std::mem::forget(store);
        }
        let mut store = open(address, &setup());
        assert_eq!(ask(&mut store), Begun::Enough);
        let points: Vec<_> = store.history().trials().iter().map(|trial| trial.point.clone()).collect();
        assert_eq!(points, whole);
        // What one process would have drawn.
        let mut alone = History::new(space(), setup().goals);
        for number in 0..6 {
            let point = suggest(&alone, number, 9).unwrap();
            assert_eq!(points[number as usize], point);
            alone.put(temper_search::Trial::new(number, point));
        }
    });
}

// ray#16891, optuna#6036: what a worker does when the server goes away under it.
#[test]
fn a_connection_that_is_cut_again_and_again_costs_no_trial_and_doubles_none() {
    let Some(address) = backend::postgres() else { return };
    let address = format!("{address}&application_name=doomed_{}", std::process::id());
    let mut store = open(&address, &setup());
    let trials = scope(|scope| {
        let cutter = scope.spawn(|| {
            let mut client = postgres::Client::connect(&address, postgres::NoTls).unwrap();
            let mut cuts = 0;
            while cuts < 25 {
                let text = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity \
                     WHERE application_name = current_setting('application_name') AND pid <> pg_backend_pid()";
                cuts += client.query(text, &[]).unwrap().len() as u64;
                sleep(Duration::from_millis(20 + 37 * cuts % 150));
            }
        });
        let mut number = 0;
        while !cutter.is_finished() || number < 10 {
            let lease = begin(&mut store, &point(1e-3, "wsd"));
            assert_eq!(lease.number, number);
            for step in 1..4 {
                let wrote = store.report(&lease, &report(step, 0.5), &NOTHING).unwrap();
                assert!(matches!(wrote, Wrote::Done | Wrote::Already), "{wrote:?}");
            }
            let result = Outcome::Complete(measured(&[1.0], &[]));
            let wrote = store.tell(&lease, &result, FREE).unwrap();
            assert!(matches!(wrote, Wrote::Done | Wrote::Already), "{wrote:?}");
            number += 1;
        }
        cutter.join().unwrap();
        number
    });
    drop(store);
    let store = open(&address, &setup());
    assert_eq!(store.history().trials().len() as u64, trials);
    assert!(store.history().trials().iter().all(|trial| trial.reports.len() == 3));
}
