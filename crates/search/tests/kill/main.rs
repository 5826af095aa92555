//! Eight processes on one study, one of which is killed without warning fifty times: no trial is lost, none ends twice, nothing is stuck.
//!
//! Each trial is a training of 16 steps that reports at the steps 4, 8 and 16 with a checkpoint, and rests once at step 4 if its number
//! is a multiple of 3. Its state is a chain of numbers that only equals the expected one if every step was done once, in order. How
//! many trials there are to be is said after the last kill.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout, reason = "a test")]

#[path = "../store/backend.rs"]
mod backend;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use temper_run::Random;
use temper_search::sampler::RandomSampler;
use temper_search::space::Parameter;
use temper_search::store::{Begun, Beside, Budget, Claimed, Lease, Opening, Outcome, Setup, Spent, Wrote};
use temper_search::{Ask, Domain, Goals, Measured, Point, Report, Sampler, Space, State, Store};

const WORKERS: usize = 8;
const KILLS: usize = 50;
/// Trials after the last kill: more than begin before every worker knows how many there are to be.
const MORE: u64 = 20;
const RUNGS: [u64; 3] = [4, 8, 16];
const STEP: Duration = Duration::from_millis(20);
const STUCK: Duration = Duration::from_secs(900);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["worker", address, folder] => work(address, Path::new(folder)),
        // As the harness of other tests does, for who lists or filters them.
        _ if arguments.iter().any(|one| one == "--list") => println!("kill: test"),
        _ => backend::each(drive),
    }
}

fn open(address: &str) -> Store {
    let space = Space::new(vec![Parameter::new("rate", Domain::float(0.0, 1.0))], Vec::new(), Vec::new()).unwrap();
    let setup =
        Setup { name: "kill".into(), space, goals: Goals::minimize("loss"), settings: Json::Null, first: Vec::new() };
    let opening = Opening { lease: Duration::from_secs(2), ..Opening::default() };
    Store::open(address, &setup, &opening).unwrap()
}

/// The state after a step.
fn next(state: u64, step: u64) -> u64 {
    temper_run::mix(state ^ step)
}

fn first(point: &Point) -> u64 {
    point["rate"].number().unwrap().to_bits()
}

fn loss(state: u64) -> f64 {
    (state >> 11) as f64
}

fn work(address: &str, folder: &Path) {
    let mut store = open(address);
    loop {
        if let Some(claimed) = store.take_over(u32::MAX).unwrap() {
            train(&mut store, claimed, folder);
            continue;
        }
        let paused = store.history().trials().iter().find(|trial| trial.state == State::Paused);
        if let Some(number) = paused.map(|trial| trial.number) {
            if let Some(claimed) = store.resume(number).unwrap() {
                train(&mut store, claimed, folder);
            }
            continue;
        }
        let trials = store.state("trials").unwrap().and_then(|trials| trials.as_u64());
        let budget = trials.map_or(Budget::unlimited(), Budget::trials);
        let begun = store
            .begin(&budget, |history, number| RandomSampler.suggest(&Ask { history, number, seed: 1, budget: None }));
        match begun.unwrap() {
            Begun::Trial(lease, point) => train(&mut store, Claimed { lease, point, checkpoint: None }, folder),
            Begun::Exhausted => panic!("the space has no end"),
            Begun::Enough if store.history().trials().iter().all(|trial| trial.state.is_finished()) => break,
            Begun::Enough => std::thread::sleep(STEP),
        }
    }
}

fn train(store: &mut Store, claimed: Claimed, folder: &Path) {
    let Claimed { lease, point, checkpoint } = claimed;
    let pulse = store.keep(&lease).unwrap();
    let (mut state, from) = match &checkpoint {
        None => (first(&point), 0),
        Some((step, path)) => (fs::read_to_string(folder.join(path)).unwrap().parse().unwrap(), *step),
    };
    for step in from + 1..=RUNGS[2] {
        std::thread::sleep(STEP);
        if pulse.is_lost() {
            return;
        }
        state = next(state, step);
        if !RUNGS.contains(&step) {
            continue;
        }
        // A name that no other process writes: whoever lost the trial may be a step behind.
        let path = format!("{}-{step}-{}", lease.number, store.worker());
        temper_run::write_atomic(&folder.join(&path), state.to_string().as_bytes()).unwrap();
        let report = Report::new(step, Measured { values: vec![loss(state)], constraints: Vec::new() });
        let beside = Beside { checkpoint: Some(&path), ..Beside::default() };
        match store.report(&lease, &report, &beside).unwrap() {
            Wrote::Done | Wrote::Already => {}
            Wrote::Lost(_) => return,
            Wrote::Kept(kept) => panic!("trial {} differs at step {step}: {kept}", lease.number),
        }
        if step == RUNGS[0] && lease.number.is_multiple_of(3) && checkpoint.is_none() {
            store.pause(&lease, "rung", Spent::default()).unwrap();
            return;
        }
    }
    end(store, &lease, state, folder);
}

fn end(store: &mut Store, lease: &Lease, state: u64, folder: &Path) {
    let result = Outcome::Complete(Measured { values: vec![loss(state)], constraints: Vec::new() });
    if store.tell(lease, &result, Spent::default()).unwrap() == Wrote::Done {
        let mut ends = OpenOptions::new().create(true).append(true).open(folder.join("ends")).unwrap();
        ends.write_all(format!("{}\n", lease.number).as_bytes()).unwrap();
    }
}

fn drive(address: &str, folder: &Path) {
    let begun = Instant::now();
    let mut store = open(address);
    let start = || -> Child {
        let program = std::env::current_exe().unwrap();
        Command::new(program).arg("worker").arg(address).arg(folder).spawn().unwrap()
    };
    let mut workers: Vec<Child> = (0..WORKERS).map(|_| start()).collect();
    // The seed is the process's number, so that times differ from run to run; it is printed.
    let random = Random::new(u64::from(std::process::id()), "kill");
    println!("{WORKERS} workers, {KILLS} kills, seed {}", std::process::id());
    for kill in 0..KILLS as u64 {
        std::thread::sleep(Duration::from_millis(20 + random.below(2 * kill, 300)));
        let worker = &mut workers[random.below(2 * kill + 1, WORKERS as u64) as usize];
        assert!(worker.try_wait().unwrap().is_none(), "a worker ended by itself");
        worker.kill().unwrap();
        worker.wait().unwrap();
        *worker = start();
    }
    store.refresh().unwrap();
    let trials = store.history().trials().len() as u64 + MORE;
    store.set_state("trials", &json!(trials)).unwrap();
    for worker in &mut workers {
        while worker.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < STUCK, "stuck");
            std::thread::sleep(Duration::from_millis(50));
        }
        assert!(worker.wait().unwrap().success(), "a worker failed");
    }
    judge(&mut store, folder, trials);
    println!("{trials} trials in {:.1} s", begun.elapsed().as_secs_f64());
}

fn judge(store: &mut Store, folder: &Path, trials: u64) {
    store.refresh().unwrap();
    let found = store.history().trials();
    assert_eq!(found.len() as u64, trials);
    for (number, trial) in found.iter().enumerate() {
        assert_eq!(trial.number, number as u64);
        assert_eq!(trial.state, State::Complete, "trial {number}");
        let mut state = first(&trial.point);
        let mut expected = Vec::new();
        for step in 1..=RUNGS[2] {
            state = next(state, step);
            if RUNGS.contains(&step) {
                expected.push((step, loss(state)));
            }
        }
        let reports: Vec<(u64, f64)> = trial.reports.iter().map(|one| (one.step, one.measured.values[0])).collect();
        assert_eq!(reports, expected, "trial {number}");
        assert_eq!(trial.result.as_ref().unwrap().values, [loss(state)], "trial {number}");
    }
    let ends = fs::read_to_string(folder.join("ends")).unwrap();
    let mut ends: Vec<u64> = ends.lines().map(|line| line.parse().unwrap()).collect();
    let all = ends.len();
    ends.sort();
    ends.dedup();
    assert_eq!(ends.len(), all, "a trial was run to its end twice");
    // A worker may be killed between the end of its trial and the line that says so.
    assert!(all + KILLS >= found.len(), "{all} ends of {} trials", found.len());
}
