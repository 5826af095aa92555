//! What the table of the module's doc says, and what each rule does.

use super::*;
use crate::stopping::{Asha, Divergence, Extrapolation, Hopeless, Hyperband, Median, Mode, Paired, Rungs, Together};

fn rungs() -> Rungs {
    Rungs::at(vec![1, 3, 9]).unwrap()
}

fn asha(mode: Mode) -> Asha {
    Asha::new(rungs(), 3, mode).unwrap()
}

/// Every rule over rungs 1, 3, 9.
fn every_rule() -> Vec<Box<dyn Stopping>> {
    vec![
        Box::new(asha(Mode::Pause)),
        Box::new(asha(Mode::Stop)),
        Box::new(Hyperband::new(rungs(), 3, 2, Mode::Pause).unwrap()),
        Box::new(Hyperband::new(rungs(), 3, 3, Mode::Stop).unwrap()),
        Box::new(Median::new(rungs(), 3)),
        Box::new(Paired::new(rungs(), 0.05).unwrap()),
        Box::new(Extrapolation::new(rungs(), 0.05).unwrap()),
        Box::new(Hopeless::new(rungs(), vec![], 0.01).unwrap()),
        Box::new(Together::new(vec![Box::new(asha(Mode::Pause)), Box::new(Median::new(rungs(), 3))]).unwrap()),
    ]
}

fn stops(decision: &Decision) -> bool {
    matches!(decision, Decision::Stop { .. })
}

#[test]
fn asha_promotes_the_front_and_holds_back_what_breaks_a_constraint() {
    let mut study = Study::new(two_axes(&["floor"]));
    // The best losses of all break the floor; 4 and 5 make up the front of what holds it.
    let reports: [(&[f64], f64); 6] = [
        (&[0.1, 9.0], 1.0),
        (&[0.2, 9.0], 0.1),
        (&[3.0, 1.0], 0.0),
        (&[4.0, 0.5], 0.0),
        (&[1.0, 1.0], 0.0),
        (&[2.0, 3.0], 0.0),
    ];
    for (values, floor) in reports {
        let number = study.begin();
        study.report_full(number, 1, values, &[floor]);
        study.change(number, |trial| trial.state = State::Paused);
    }
    let rule = asha(Mode::Pause);
    assert_eq!(
        [study.resume(&rule, false), study.resume(&rule, false), study.resume(&rule, false)],
        [Some(4), Some(5), None]
    );
}

#[test]
fn what_came_furthest_is_resumed_first_and_what_was_interrupted_before_it() {
    let mut study = Study::new(Goals::minimize("loss"));
    let rule = asha(Mode::Pause);
    for (index, step) in [1, 1, 1, 3, 3, 3].into_iter().enumerate() {
        let number = study.begin();
        study.report_full(number, step, &[index as f64], &[]);
        study.change(number, |trial| trial.state = State::Paused);
    }
    let interrupted = study.begin();
    study.report_full(interrupted, 2, &[99.0], &[]);
    study.change(interrupted, |trial| trial.state = State::Paused);
    let resumed: Vec<_> = (0..4).map(|_| study.resume(&rule, false)).collect();
    assert_eq!(resumed, [Some(6), Some(3), Some(0), None]);
}

#[test]
fn a_study_that_closes_ends_with_a_result() {
    let mut study = Study::new(Goals::minimize("loss"));
    let rule = asha(Mode::Pause);
    for value in [2.0, 1.0] {
        let number = study.begin();
        assert!(matches!(study.report(&rule, number, 1, &[value]), Decision::Pause { .. }));
    }
    assert_eq!(study.resume(&rule, false), None);
    // No new trial may begin: the best one goes on from rung to rung.
    assert_eq!(study.resume(&rule, true), Some(1));
    assert!(matches!(study.report(&rule, 1, 3, &[0.9]), Decision::Pause { .. }));
    assert_eq!(study.resume(&rule, true), Some(1));
    assert_eq!(study.report(&rule, 1, 9, &[0.8]), Decision::Continue);
    assert_eq!(study.states(), [State::Paused, State::Complete]);
    assert_eq!(study.resume(&rule, true), None);
}

#[test]
fn what_ended_at_a_rung_holds_no_slot_of_the_next() {
    let mut study = Study::new(Goals::minimize("loss"));
    let rule = asha(Mode::Pause);
    for value in [1.0, 2.0, 3.0] {
        let number = study.begin();
        study.report_full(number, 1, &[value], &[]);
        study.change(number, |trial| trial.state = State::Paused);
    }
    // The best one's machine ran out of memory.
    study.change(0, |trial| trial.state = State::Failed);
    assert_eq!(study.resume(&rule, false), Some(1));
}

#[test]
fn when_stopping_the_first_passes_and_later_ones_by_their_place() {
    let mut study = Study::new(Goals::minimize("loss"));
    let rule = asha(Mode::Stop);
    let mut stopped = Vec::new();
    for value in [5.0, 4.0, 6.0, 4.5, 3.0, 4.2] {
        let number = study.begin();
        stopped.push(stops(&study.report(&rule, number, 1, &[value])));
    }
    assert_eq!(stopped, [false, false, true, false, false, true]);
    assert!(!rule.pauses());
}

#[test]
fn hyperband_compares_within_a_bracket_and_from_its_first_rung_on() {
    let rule = Hyperband::new(rungs(), 3, 3, Mode::Pause).unwrap();
    let mut study = Study::new(Goals::minimize("loss"));
    for number in 0..40 {
        study.begin();
        let bracket = rule.bracket(number);
        let first = study.report(&rule, number, 1, &[number as f64]);
        assert_eq!(first == Decision::Continue, bracket > 0 || first == Decision::Continue);
        if bracket > 0 {
            assert_eq!(first, Decision::Continue);
            let second = study.report(&rule, number, 3, &[number as f64]);
            assert_eq!(bracket == 2, second == Decision::Continue, "{number}");
        }
    }
    // The best of each bracket is promoted, though one of another is better.
    let mut resumed = Vec::new();
    while let Some(number) = study.resume(&rule, false) {
        resumed.push(number);
    }
    for bracket in [0, 1] {
        let best = (0..40).find(|&number| rule.bracket(number) == bracket).unwrap();
        assert!(resumed.contains(&best), "{bracket}: {resumed:?}");
    }
}

#[test]
fn the_median_rule_spares_the_front_and_waits_for_others() {
    let rule = Median::new(rungs(), 3);
    let mut study = Study::new(Goals::minimize("loss"));
    let mut stopped = Vec::new();
    for value in [9.0, 9.5, 9.9, 9.7, 9.2, 1.0] {
        let number = study.begin();
        stopped.push(stops(&study.report(&rule, number, 1, &[value])));
    }
    // The fourth has two of three others before it, the fifth one of four.
    assert_eq!(stopped, [false, false, false, true, false, false]);

    let mut study = Study::new(two_axes(&[]));
    for index in 0..8 {
        let number = study.begin();
        let value = f64::from(index);
        assert_eq!(study.report(&rule, number, 1, &[value, value]), Decision::Continue);
    }
    let number = study.begin();
    assert!(stops(&study.report(&rule, number, 1, &[9.0, 0.5])));
}

/// Two trials whose first objective's items differ by `by` and a little noise.
fn with_items(goals: Goals, by: f64, second: [f64; 2]) -> (Study, Decision) {
    let random = temper_run::Random::new(2, "test");
    let mut study = Study::new(goals);
    for (trial, second) in second.into_iter().enumerate() {
        let number = study.begin();
        let items: Vec<f64> = (0..40)
            .map(|item| 3.0 * random.unit(item) + 0.1 * random.within(number).unit(item) + by * trial as f64)
            .collect();
        let values = vec![items.iter().sum::<f64>() / 40.0, second];
        let mut report = Report::new(1, Measured { values, constraints: vec![] });
        report.measured.values.truncate(study.history.goals().objectives.len());
        report.items = vec![items];
        study.change(number, |trial| {
            trial.put(report);
        });
    }
    let decision = Paired::new(rungs(), 0.05).unwrap().decide(&study.history, study.history.trial(1).unwrap());
    (study, decision)
}

#[test]
fn the_paired_test_sees_through_what_items_have_in_common() {
    // The items spread by 3, the trials differ by 0.1.
    assert!(stops(&with_items(Goals::minimize("loss"), 0.1, [0.0; 2]).1));
    assert_eq!(with_items(Goals::minimize("loss"), 0.0, [0.0; 2]).1, Decision::Continue);
    assert_eq!(with_items(Goals::minimize("loss"), -0.1, [0.0; 2]).1, Decision::Continue);
    // What is better on another axis is not ended, what is not better there is.
    assert_eq!(with_items(two_axes(&[]), 0.1, [1.0, 1.1]).1, Decision::Continue);
    assert!(stops(&with_items(two_axes(&[]), 0.1, [1.0, 1.0]).1));
}

#[test]
fn the_paired_test_passes_over_items_that_do_not_match_or_are_no_numbers() {
    let rule = Paired::new(rungs(), 0.05).unwrap();
    let (mut study, _) = with_items(Goals::minimize("loss"), 0.1, [0.0; 2]);
    study.change(1, |trial| trial.reports[0].items[0][..10].fill(f64::NAN));
    let decision = rule.decide(&study.history, study.history.trial(1).unwrap());
    assert!(matches!(&decision, Decision::Stop { reason } if reason.contains("on 30 items")), "{decision:?}");
    study.change(1, |trial| {
        trial.reports[0].items[0].pop();
    });
    assert_eq!(rule.decide(&study.history, study.history.trial(1).unwrap()), Decision::Continue);
    study.change(1, |trial| trial.reports[0].items.clear());
    assert_eq!(rule.decide(&study.history, study.history.trial(1).unwrap()), Decision::Continue);
}

#[test]
fn the_paired_tests_level_holds_against_the_best_of_many() {
    // 20 trials that are all alike: the last one is tested against whichever is best by chance.
    let rule = Paired::new(rungs(), 0.05).unwrap();
    let ended = (0..400).filter(|&study_number| {
        let random = temper_run::Random::new(study_number, "test");
        let mut study = Study::new(Goals::minimize("loss"));
        for trial in 0..20 {
            let number = study.begin();
            let items: Vec<f64> = (0..30).map(|item| random.unit(item) + random.within(1 + trial).unit(item)).collect();
            let mut report =
                Report::new(1, Measured { values: vec![items.iter().sum::<f64>() / 30.0], constraints: vec![] });
            report.items = vec![items];
            study.change(number, |trial| {
                trial.put(report);
            });
        }
        stops(&rule.decide(&study.history, study.history.trial(19).unwrap()))
    });
    let share = ended.count() as f64 / 400.0;
    assert!(share <= 0.05, "{share}");
}

/// A study of finished trials whose losses fall to `ends`, over rungs 1, 2, 4, 8, 16, 32.
fn fallen(goals: Goals, ends: &[f64], values: impl Fn(f64, f64) -> Vec<f64>) -> Study {
    let mut study = Study::new(goals);
    for &end in ends {
        let number = study.begin();
        for step in [1, 2, 4, 8, 16, 32] {
            study.report_full(number, step, &values(end, step as f64 / 32.0), &[]);
        }
        study.change(number, |trial| {
            trial.state = State::Complete;
            trial.result = trial.last().map(|last| last.measured.clone());
        });
    }
    study
}

fn falling(end: f64, x: f64) -> f64 {
    end + 0.2 * (x.powf(-0.5) - 1.0)
}

#[test]
fn extrapolation_ends_what_cannot_catch_up_and_spares_what_may() {
    let rungs = Rungs::geometric(32, 2, 1).unwrap();
    let rule = Extrapolation::new(rungs, 0.05).unwrap();
    let chance = |end: f64, upto: u64| {
        let mut study = fallen(Goals::minimize("loss"), &[1.0, 1.2, 1.1], |end, x| vec![falling(end, x)]);
        let number = study.begin();
        for step in [1, 2, 4, 8, 16].into_iter().filter(|step| *step <= upto) {
            study.report_full(number, step, &[falling(end, step as f64 / 32.0)], &[]);
        }
        rule.chance(&study.history, study.history.trial(number).unwrap())
    };
    assert_eq!(chance(5.0, 2), None);
    assert!(chance(2.0, 4).unwrap() < 0.05);
    assert!(chance(1.3, 16).unwrap() < 0.05);
    assert!(chance(0.9, 4).unwrap() > 0.5);
    assert!(chance(0.99, 16).unwrap() > 0.3);
}

#[test]
fn extrapolation_spares_what_will_be_on_the_front_by_any_axis_and_asks_for_constraints() {
    let rungs = Rungs::geometric(32, 2, 1).unwrap();
    let rule = Extrapolation::new(rungs, 0.05).unwrap();
    let chance = |kept: f64| {
        let mut study = fallen(two_axes(&[]), &[1.0, 1.1], |end, x| vec![falling(end, x), 0.5 - 0.1 * x]);
        let number = study.begin();
        for step in [1, 2, 4, 8] {
            let x = step as f64 / 32.0;
            study.report_full(number, step, &[falling(2.0, x), kept - 0.1 * x], &[]);
        }
        rule.chance(&study.history, study.history.trial(number).unwrap()).unwrap()
    };
    assert!(chance(0.4) < 0.05);
    assert!(chance(0.7) > 0.9);

    // The better loss, but by a constraint that gets ever more broken.
    let constrained = Goals { constraints: vec!["floor".into()], ..Goals::minimize("loss") };
    let mut study = fallen(constrained, &[1.0], |end, x| vec![falling(end, x)]);
    study.change(0, |trial| {
        trial.reports.iter_mut().for_each(|report| report.measured.constraints = vec![-1.0]);
        trial.result = trial.last().map(|last| last.measured.clone());
    });
    let number = study.begin();
    for step in [1, 2, 4, 8] {
        study.report_full(number, step, &[falling(0.5, step as f64 / 32.0)], &[step as f64]);
    }
    assert!(stops(&rule.decide(&study.history, study.history.trial(number).unwrap())));
}

#[test]
fn extrapolation_ends_nothing_before_anything_feasible_is_finished() {
    let rule = Extrapolation::new(Rungs::geometric(32, 2, 1).unwrap(), 0.05).unwrap();
    let mut study = Study::new(Goals::minimize("loss"));
    for end in [1.0, 9.0] {
        let number = study.begin();
        for step in [1, 2, 4, 8] {
            assert_eq!(study.report(&rule, number, step, &[falling(end, step as f64 / 32.0)]), Decision::Continue);
        }
    }
}

#[test]
fn what_diverges_ends_by_the_direction_and_size_of_its_objective() {
    let watch = |objective, start| Divergence { objective, start, factor: 1.0 };
    let rule = |divergence| Hopeless::new(rungs(), vec![divergence], 0.01).unwrap();
    let ends = |divergence, first: &[f64], second: &[f64]| {
        let mut study = Study::new(two_axes(&[]));
        let number = study.begin();
        study.report_full(number, 1, first, &[]);
        study.report_full(number, 2, second, &[]);
        stops(&rule(divergence).decide(&study.history, study.history.trial(number).unwrap()))
    };
    assert!(ends(watch(0, None), &[2.0, 0.5], &[4.1, 0.5]));
    assert!(!ends(watch(0, None), &[2.0, 0.5], &[3.9, 0.5]));
    // Diverged before the first report: known by the value before training.
    assert!(!ends(watch(0, None), &[9.0, 0.5], &[9.0, 0.5]));
    assert!(ends(watch(0, Some(2.0)), &[9.0, 0.5], &[9.0, 0.5]));
    // Kept is better when higher: a rise is no divergence.
    assert!(!ends(watch(1, None), &[2.0, 0.5], &[2.0, 5.0]));
    assert!(ends(watch(1, None), &[2.0, 0.5], &[2.0, -0.1]));
}

#[test]
fn a_floor_that_is_broken_beyond_recovery_ends_a_trial_and_one_that_recovers_does_not() {
    let rule = Hopeless::new(Rungs::geometric(32, 2, 1).unwrap(), vec![], 0.01).unwrap();
    let goals = || Goals { constraints: vec!["floor".into()], ..Goals::minimize("loss") };
    let decision = |floor: fn(f64) -> f64| {
        let mut study = Study::new(goals());
        let number = study.begin();
        for step in [1, 2, 4, 8] {
            study.report_full(number, step, &[1.0 / step as f64], &[floor(step as f64)]);
        }
        rule.decide(&study.history, study.history.trial(number).unwrap())
    };
    assert!(stops(&decision(|step| 0.5 + 0.1 * step.ln())));
    assert_eq!(decision(|step| 0.5 - 0.2 * step.ln()), Decision::Continue);
    assert_eq!(decision(|_| -0.1), Decision::Continue);
    // A constraint that is no number says nothing of what it will be.
    assert_eq!(decision(|_| f64::NAN), Decision::Continue);
}

#[test]
fn rules_that_do_not_go_together_are_refused() {
    let other = Asha::new(Rungs::at(vec![1, 9]).unwrap(), 3, Mode::Stop).unwrap();
    let refused = |rules: Vec<Box<dyn Stopping>>| Together::new(rules).err().unwrap().to_string();
    assert_eq!(refused(vec![]), "rules: expected at least one");
    assert_eq!(
        refused(vec![Box::new(asha(Mode::Stop)), Box::new(other)]),
        "rules: asha and asha differ in their rungs"
    );
    let both: Vec<Box<dyn Stopping>> =
        vec![Box::new(asha(Mode::Pause)), Box::new(Hyperband::new(rungs(), 3, 1, Mode::Pause).unwrap())];
    assert_eq!(refused(both), "rules: at most one may pause, got asha and hyperband");
    assert!(Asha::new(rungs(), 1, Mode::Stop).is_err());
    assert!(Paired::new(rungs(), 0.0).is_err());
    assert!(Extrapolation::new(rungs(), f64::NAN).is_err());
    assert!(Hopeless::new(rungs(), vec![Divergence { objective: 0, start: None, factor: 0.0 }], 0.1).is_err());
}

#[test]
fn of_several_rules_a_stop_outweighs_a_pause_and_reasons_name_their_rule() {
    let rules: Vec<Box<dyn Stopping>> =
        vec![Box::new(asha(Mode::Pause)), Box::new(Hopeless::new(rungs(), vec![], 0.01).unwrap())];
    let rule = Together::new(rules).unwrap();
    let mut study = Study::new(Goals::minimize("loss"));
    let (a, b) = (study.begin(), study.begin());
    let Decision::Pause { reason } = study.report(&rule, a, 1, &[1.0]) else { panic!("expected a pause") };
    assert_eq!(reason, "asha: place 1 of 1 at step 1, where 0 go on");
    let Decision::Stop { reason } = study.report(&rule, b, 1, &[f64::INFINITY]) else { panic!("expected a stop") };
    assert_eq!(reason, "hopeless: loss is inf at step 1");
}

#[test]
fn between_rungs_and_at_the_full_budget_nothing_is_compared() {
    for rule in every_rule() {
        let mut study = Study::new(Goals::minimize("loss"));
        for value in 0..5 {
            let number = study.begin();
            study.report_full(number, 1, &[f64::from(value)], &[]);
        }
        let number = study.begin();
        for step in [2, 9, 10] {
            study.report_full(number, step, &[100.0], &[]);
            let decision = rule.decide(&study.history, study.history.trial(number).unwrap());
            assert_eq!(decision, Decision::Continue, "{} at {step}", rule.name());
        }
    }
}

#[test]
fn whoever_works_on_what_has_ended_is_told_to_end_and_on_what_is_paused_to_pause() {
    for rule in every_rule() {
        let mut study = Study::new(Goals::minimize("loss"));
        let number = study.begin();
        study.report_full(number, 1, &[1.0], &[]);
        for state in [State::Complete, State::Pruned, State::Failed] {
            study.change(number, |trial| trial.state = state);
            assert!(stops(&rule.decide(&study.history, study.history.trial(number).unwrap())), "{}", rule.name());
        }
        study.change(number, |trial| trial.state = State::Paused);
        let decision = rule.decide(&study.history, study.history.trial(number).unwrap());
        assert!(matches!(decision, Decision::Pause { .. }), "{}", rule.name());
    }
}

#[test]
fn a_late_report_takes_its_place_by_step_and_only_the_first_of_a_step_counts() {
    let rule = asha(Mode::Pause);
    let mut study = Study::new(Goals::minimize("loss"));
    let number = study.begin();
    study.report_full(number, 3, &[1.0], &[]);
    study.report_full(number, 1, &[2.0], &[]);
    study.report_full(number, 3, &[0.0], &[]);
    let trial = study.history.trial(number).unwrap();
    let seen: Vec<_> = trial.reports.iter().map(|report| (report.step, report.measured.values[0])).collect();
    assert_eq!(seen, [(1, 2.0), (3, 1.0)]);
    // Judged by its highest step, where it is alone, and not by the one that came last.
    let decision = rule.decide(&study.history, trial);
    assert!(matches!(&decision, Decision::Pause { reason } if reason.contains("1 of 1 at step 3")), "{decision:?}");
    // At rung 1 it counts among all: with it there are three, of which one goes on.
    for value in [1.5, 3.0] {
        let number = study.begin();
        study.report(&rule, number, 1, &[value]);
    }
    assert_eq!(study.states()[1..], [State::Paused, State::Paused]);
    assert_eq!(study.resume(&rule, false), Some(1));
}

#[test]
fn a_late_report_of_what_has_ended_counts_for_others() {
    let rule = asha(Mode::Pause);
    let mut study = Study::new(Goals::minimize("loss"));
    for value in [2.0, 3.0] {
        let number = study.begin();
        study.report(&rule, number, 1, &[value]);
    }
    let number = study.begin();
    study.report_full(number, 3, &[9.0], &[]);
    study.change(number, |trial| trial.state = State::Pruned);
    assert_eq!(study.resume(&rule, false), None);
    study.report_full(number, 1, &[9.0], &[]);
    assert_eq!(study.resume(&rule, false), Some(0));
}

#[test]
fn a_trial_that_skipped_a_rung_counts_neither_for_nor_against_others_there() {
    let rule = asha(Mode::Pause);
    let mut study = Study::new(Goals::minimize("loss"));
    for value in [2.0, 3.0] {
        let number = study.begin();
        study.report(&rule, number, 1, &[value]);
    }
    let skipped = study.begin();
    assert!(matches!(study.report(&rule, skipped, 3, &[0.1]), Decision::Pause { .. }));
    assert_eq!(study.resume(&rule, false), None);
    // Three at rung 3: now it is promoted there.
    for value in [0.2, 0.3] {
        let number = study.begin();
        study.report(&rule, number, 3, &[value]);
    }
    assert_eq!(study.resume(&rule, false), Some(skipped));
}
