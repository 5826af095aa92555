//! Each test is named after the report of a user of another tool, whose case it is.

use super::*;
use crate::stopping::{Asha, Hopeless, Hyperband, Median, Mode, Rungs, Together};

fn rungs() -> Rungs {
    Rungs::at(vec![1, 3, 9]).unwrap()
}

fn pausing() -> Asha {
    Asha::new(rungs(), 3, Mode::Pause).unwrap()
}

/// Carries a study of so many trials through by one worker, trial by trial; values fall with the step, and rise with the number's `badness`.
fn one_worker(rule: &dyn Stopping, count: u64, badness: impl Fn(u64) -> f64) -> Study {
    let mut study = Study::new(Goals::minimize("loss"));
    loop {
        let begun = study.history.trials().len() as u64;
        let closing = begun == count;
        let number = match study.resume(rule, closing) {
            Some(number) => number,
            None if closing => return study,
            None => study.begin(),
        };
        while study.history.trial(number).unwrap().state == State::Running {
            let step = study.history.trial(number).unwrap().last().map_or(0, |last| last.step);
            let next = rule.rungs().after(step).unwrap();
            study.report(rule, number, next, &[badness(number) + 1.0 / next as f64]);
        }
    }
}

#[test]
fn optuna_3450_reports_of_several_objectives_are_judged() {
    // Open since 2022: `report` and `should_prune` refuse more than one objective. (Also #5268, #4902, #4650, #6676.)
    let mut study = Study::new(two_axes(&[]));
    let rule = Asha::new(rungs(), 3, Mode::Stop).unwrap();
    for (loss, kept) in [(1.0, 1.0), (2.0, 2.0), (1.5, 1.5)] {
        let number = study.begin();
        study.report(&rule, number, 1, &[loss, kept]);
    }
    let dominated = study.begin();
    assert!(matches!(study.report(&rule, dominated, 1, &[2.1, 0.9]), Decision::Stop { .. }));
    let front = study.begin();
    assert_eq!(study.report(&rule, front, 1, &[0.5, 1.2]), Decision::Continue);
}

#[test]
fn optuna_5202_nan_means_the_same_to_every_rule() {
    // There each pruner has its own idea of NaN. Here it stands behind all others, and is never promoted or best.
    let rules: [Box<dyn Stopping>; 4] = [
        Box::new(Asha::new(rungs(), 3, Mode::Stop).unwrap()),
        Box::new(Hyperband::new(rungs(), 3, 1, Mode::Stop).unwrap()),
        Box::new(Median::new(rungs(), 1)),
        Box::new(Hopeless::new(rungs(), vec![], 0.01).unwrap()),
    ];
    for direction in [Direction::Minimize, Direction::Maximize] {
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            for rule in &rules {
                let objectives = vec![Objective { name: "score".into(), direction }];
                let mut study = Study::new(Goals { objectives, constraints: vec![] });
                let (a, b, c) = (study.begin(), study.begin(), study.begin());
                assert_eq!(study.report(rule.as_ref(), a, 1, &[5.0]), Decision::Continue);
                let decision = study.report(rule.as_ref(), b, 1, &[value]);
                assert!(matches!(decision, Decision::Stop { .. }), "{} {direction:?} {value}", rule.name());
                let better = if direction == Direction::Minimize { 4.0 } else { 6.0 };
                assert_eq!(study.report(rule.as_ref(), c, 1, &[better]), Decision::Continue, "{}", rule.name());
            }
        }
    }
}

#[test]
fn optuna_5202_one_axis_that_is_nan_is_not_saved_by_another_that_is_good() {
    let mut study = Study::new(two_axes(&[]));
    for (loss, kept) in [(1.0, 1.0), (f64::NAN, 99.0), (2.0, 2.0)] {
        let number = study.begin();
        study.report(&pausing(), number, 1, &[loss, kept]);
    }
    let resumed = study.resume(&pausing(), false);
    assert!(resumed == Some(0) || resumed.is_none() && study.states()[2] == State::Running, "{resumed:?}");
    assert_eq!(study.states()[1], State::Paused);
    // Even when nothing else is left, a value that is no number is not gone on with.
    study.change(0, |trial| trial.state = State::Failed);
    study.change(2, |trial| trial.state = State::Failed);
    assert_eq!(study.resume(&pausing(), true), None);
}

#[test]
fn optuna_1198_the_direction_is_that_of_the_objective() {
    // There a loss that was reported while an accuracy was maximised pruned the good trials.
    let objectives = vec![Objective { name: "accuracy".into(), direction: Direction::Maximize }];
    for mode in [Mode::Pause, Mode::Stop] {
        let rule = Asha::new(rungs(), 3, mode).unwrap();
        let mut study = Study::new(Goals { objectives: objectives.clone(), constraints: vec![] });
        for value in [0.5, 0.4, 0.3] {
            let number = study.begin();
            study.report_full(number, 1, &[value], &[]);
        }
        let decisions: Vec<bool> = (0..3).map(|number| study.obey(&rule, number) == Decision::Continue).collect();
        assert_eq!(decisions, [true, false, false]);
    }
}

#[test]
fn optuna_1198_of_two_axes_each_has_its_own() {
    let mut study = Study::new(two_axes(&[]));
    for (loss, kept) in [(1.0, 0.9), (1.1, 0.8), (1.2, 0.7)] {
        let number = study.begin();
        study.report(&pausing(), number, 1, &[loss, kept]);
    }
    assert_eq!(study.resume(&pausing(), false), Some(0));
}

#[test]
fn ray_5734_rungs_outlive_the_process() {
    // There the scheduler's rungs are lost on restore. Here a history that was read back decides as the one that was never
    // left: rules hold nothing, and one made anew says the same. (Also #16891, #30584, #24918.)
    let rule = Hyperband::new(rungs(), 3, 2, Mode::Pause).unwrap();
    let study = one_worker(&rule, 30, |number| (number as f64 * 0.37) % 1.0);
    let mut restored = Study::new(Goals::minimize("loss"));
    for trial in study.history.trials().iter().rev() {
        let reports = serde_json::to_string(&trial.reports).unwrap();
        restored.history.put(Trial { reports: serde_json::from_str(&reports).unwrap(), ..trial.clone() });
    }
    let anew = Hyperband::new(rungs(), 3, 2, Mode::Pause).unwrap();
    for number in 0..30 {
        let running = |study: &mut Study| study.change(number, |trial| trial.state = State::Running);
        let (mut left, mut read) =
            (Study { history: study.history.clone() }, Study { history: restored.history.clone() });
        running(&mut left);
        running(&mut read);
        let decide =
            |rule: &dyn Stopping, study: &Study| rule.decide(&study.history, study.history.trial(number).unwrap());
        assert_eq!(decide(&rule, &left), decide(&anew, &read), "{number}");
        assert_eq!(rule.resume(&left.history, false), anew.resume(&read.history, false));
    }
}

#[test]
fn ray_5734_a_step_that_is_reported_again_after_a_restart_changes_nothing() {
    // There a restored trial counted its iterations from 1 again. Here a step is a step, and its first report stays.
    let mut study = Study::new(Goals::minimize("loss"));
    for value in [1.0, 2.0, 3.0] {
        let number = study.begin();
        study.report(&pausing(), number, 1, &[value]);
    }
    let before = study.history.trials().to_vec();
    study.report_full(0, 1, &[77.0], &[]);
    assert_eq!(study.history.trials(), before);
}

#[test]
fn ray_16891_what_failed_is_not_resumed_and_holds_nothing_up() {
    // `ERRORED_ONLY` was without effect there. Here failed trials stay failed, and the rest goes on to a result.
    let mut study = Study::new(Goals::minimize("loss"));
    for value in [1.0, 2.0, 3.0, 4.0, 5.0, 6.0] {
        let number = study.begin();
        study.report_full(number, 1, &[value], &[]);
        study.change(number, |trial| trial.state = if number < 2 { State::Failed } else { State::Paused });
    }
    assert_eq!(study.resume(&pausing(), false), Some(2));
    assert_eq!(study.resume(&pausing(), false), Some(3));
    assert_eq!(study.resume(&pausing(), false), None);
}

#[test]
fn ray_30584_a_study_that_was_stopped_between_two_rungs_goes_on_with_what_it_left() {
    let rules: [Box<dyn Stopping>; 2] = [Box::new(pausing()), Box::new(Median::new(rungs(), 3))];
    for rule in &rules {
        let mut study = Study::new(Goals::minimize("loss"));
        let (a, b) = (study.begin(), study.begin());
        study.report_full(a, 2, &[9.0], &[]);
        study.change(a, |trial| trial.state = State::Paused);
        study.change(b, |trial| trial.state = State::Paused);
        assert_eq!([study.resume(rule.as_ref(), false), study.resume(rule.as_ref(), false)], [Some(a), Some(b)]);
    }
}

#[test]
fn ray_11936_trials_are_compared_at_equal_steps_only() {
    // There population-based training compared trials that stood at unequal steps.
    for mode in [Mode::Pause, Mode::Stop] {
        let rule = Asha::new(rungs(), 3, mode).unwrap();
        let mut study = Study::new(Goals::minimize("loss"));
        // Far ahead, and so far better: at rung 1 they were worse than the one that comes now.
        for _ in 0..2 {
            let number = study.begin();
            study.report_full(number, 1, &[5.0], &[]);
            study.report_full(number, 3, &[0.1], &[]);
        }
        let number = study.begin();
        assert_eq!(study.report(&rule, number, 1, &[4.0]), Decision::Continue);
    }
}

#[test]
fn ray_9301_a_value_between_two_rungs_is_not_taken_for_one_at_a_rung() {
    let mut study = Study::new(Goals::minimize("loss"));
    for _ in 0..3 {
        let number = study.begin();
        // It missed rung 1 and reports later: its lower loss is that of a later step.
        study.report(&pausing(), number, 2, &[0.5]);
    }
    let number = study.begin();
    let decision = study.report(&pausing(), number, 1, &[1.0]);
    assert!(matches!(&decision, Decision::Pause { reason } if reason.contains("place 1 of 1")), "{decision:?}");
}

#[test]
fn ray_44256_one_worker_pauses_promotes_and_finishes() {
    // There ASHA never paused or promoted on one GPU: every trial ran to its end, one after the other.
    let badness = |number: u64| (number as f64 * 0.618_034) % 1.0;
    let rules: [(Box<dyn Stopping>, u64); 3] = [
        (Box::new(pausing()), 27),
        (Box::new(Hyperband::new(rungs(), 3, 2, Mode::Pause).unwrap()), 27),
        (
            Box::new(
                Together::new(vec![Box::new(pausing()), Box::new(Hopeless::new(rungs(), vec![], 0.01).unwrap())])
                    .unwrap(),
            ),
            27,
        ),
    ];
    for (rule, count) in rules {
        let study = one_worker(rule.as_ref(), count, badness);
        let of = |state: State| study.states().iter().filter(|one| **one == state).count();
        assert_eq!(of(State::Paused) + of(State::Complete), 27, "{}", rule.name());
        assert!((2..=12).contains(&of(State::Complete)), "{}: {}", rule.name(), of(State::Complete));
        // Each promotion is one of a third, and the best trial of all had its full budget.
        let best = (0..count).min_by(|a, b| badness(*a).total_cmp(&badness(*b))).unwrap();
        assert_eq!(study.history.trial(best).unwrap().state, State::Complete, "{}", rule.name());
    }
}

#[test]
fn ray_44256_promotions_come_as_trials_do_and_not_at_the_end() {
    let rule = pausing();
    let mut study = Study::new(Goals::minimize("loss"));
    let mut promoted = Vec::new();
    for begun in 1..=9u64 {
        let number = study.begin();
        if study.report(&rule, number, 1, &[(number * 7 % 9) as f64]) == Decision::Continue {
            promoted.push((begun, number));
            study.report_full(number, 3, &[0.0], &[]);
        }
        while let Some(number) = study.resume(&rule, false) {
            promoted.push((begun, number));
            study.change(number, |trial| trial.state = State::Complete);
            study.report_full(number, 3, &[0.0], &[]);
        }
    }
    assert!(promoted.iter().any(|(begun, _)| *begun == 3) && promoted.len() >= 3, "{promoted:?}");
}

#[test]
fn optuna_820_a_decision_is_the_same_for_whoever_asks() {
    // Many workers over one store: the same history gives the same answer, whoever reads it and however often.
    let rule = pausing();
    let study = one_worker(&rule, 20, |number| (number as f64 * 0.37) % 1.0);
    let first = rule.resume(&study.history, true);
    assert!((0..10).all(|_| rule.resume(&study.history, true) == first));
}
