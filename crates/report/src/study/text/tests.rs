use temper_search::{Direction, Domain, Goals, History, Measured, Objective, Parameter, Report, Space, State, Trial};

use super::super::{Measure, Recommended, StudyPage};
use super::*;

fn history() -> History {
    let objective = |name: &str, direction| Objective { name: name.into(), direction };
    let goals = Goals {
        objectives: vec![objective("accuracy", Direction::Maximize), objective("loss", Direction::Minimize)],
        constraints: vec!["floor".into()],
    };
    let parameters = vec![
        Parameter::new("stage.rate", Domain::log_float(1e-5, 1e-2)),
        Parameter::new("stage.mode", Domain::choice(["lora", "full"])),
        Parameter::new("stage.same", Domain::int(1, 3)),
    ];
    let mut history = History::new(Space::new(parameters, vec![], vec![]).unwrap(), goals);
    let modes = ["lora", "full"];
    let numbers = [
        (0.41, 2.61, -0.1, State::Complete),
        (0.62, 2.75, 0.1, State::Complete),
        (0.58, 2.66, -0.1, State::Complete),
        (0.35, 2.63, -0.1, State::Pruned),
        (0.55, 2.64, -0.1, State::Complete),
        (0.50, f64::INFINITY, 1.0, State::Complete),
        (f64::NAN, f64::NAN, f64::NAN, State::Failed),
        (0.47, 2.65, -0.1, State::Paused),
        (0.48, 2.62, -0.1, State::Running),
    ];
    for (number, (accuracy, loss, floor, state)) in numbers.into_iter().enumerate() {
        let point = [
            ("stage.rate".to_owned(), (1e-5 * 2f64.powi(number as i32)).into()),
            ("stage.mode".to_owned(), modes[number % 2].into()),
            ("stage.same".to_owned(), 2.into()),
        ];
        let measured = Measured { values: vec![accuracy, loss], constraints: vec![floor] };
        let mut trial = Trial::new(number as u64, point.into_iter().collect());
        trial.state = state;
        if state != State::Failed {
            let step = if state == State::Complete { 400 } else { 100 };
            trial.reports.push(Report::new(step, measured.clone()));
        }
        trial.result = matches!(state, State::Complete | State::Pruned).then_some(measured);
        history.put(trial);
    }
    history
}

fn page(history: &History) -> StudyPage<'_> {
    StudyPage {
        default: Some(0),
        recommended: Some(Recommended { trial: 2, reason: String::new(), sure: true }),
        rungs: vec![100, 400],
        measures: vec![Measure { label: "accuracy".into(), unit: "%".into(), scale: 100.0 }],
        ..StudyPage::new("x", history)
    }
}

#[test]
fn the_table_tells_what_stands_out() {
    let expected = "   trial  state     rung  accuracy, % ^  loss v     rate  mode
D      0  finished   2/2          41.00   2.610     1e-5  lora
x      1  finished   2/2          62.00   2.750     2e-5  full
R      2  finished   2/2          58.00   2.660     4e-5  lora
       3  stopped    1/2          35.00   2.630     8e-5  full
*      4  finished   2/2          55.00   2.640   1.6e-4  lora
x      5  finished   2/2          50.00     inf   3.2e-4  full
       6  failed     0/2              -       -   6.4e-4  lora
       7  paused     1/2          47.00   2.650  0.00128  full
       8  running    1/2          48.00   2.620  0.00256  lora
R recommended   D default   * on the front   x a constraint is broken
";
    assert_eq!(trials(&page(&history()), 100, 20), expected);
}

#[test]
fn a_narrow_table_keeps_the_best_then_the_newest_and_says_what_is_missing() {
    let expected = "   trial  state     rung  accuracy, % ^  loss v     rate
D      0  finished   2/2          41.00   2.610     1e-5
R      2  finished   2/2          58.00   2.660     4e-5
*      4  finished   2/2          55.00   2.640   1.6e-4
       8  running    1/2          48.00   2.620  0.00256
5 more trials are not shown
no room for: mode
R recommended   D default   * on the front
";
    assert_eq!(trials(&page(&history()), 60, 4), expected);
    for width in [20, 40, 80, 100] {
        let table = trials(&page(&history()), width, 20);
        assert!(table.lines().take(10).all(|line| line.chars().count() <= width), "{width}:\n{table}");
    }
}

#[test]
fn the_front_is_drawn_with_round_marks() {
    let expected = "loss (lower is better)
2.75 ┤                               ⠈                       ⠄
     │
     │
     │
2.70 ┤
     │
     │
     │                                               R
2.65 ┤                          ⠂
     │  ⢀                                      *
     │                            ⠄
     │              D
     └────────────┬──────────────────┬───────────────────┬──────
                 40                 50                  60
                                  accuracy, % (higher is better)
R recommended   D default   * on the front
1 beyond the axis, at its edge; 1 without a number
";
    let history = history();
    let drawn = front(&page(&history), 64, 18).unwrap();
    assert_eq!(drawn, expected, "{drawn}");
    assert!(drawn.lines().all(|line| line.chars().count() <= 64));
    assert!(drawn.lines().count() <= 18);
}

#[test]
fn without_a_number_or_room_there_is_no_front() {
    let history = history();
    assert_eq!(front(&page(&history), 20, 17), None);
    let mut none = History::new(history.space().clone(), history.goals().clone());
    assert_eq!(front(&page(&none), 64, 17), None);
    none.put(history.trial(6).unwrap().clone());
    assert_eq!(front(&page(&none), 64, 17), None);
    assert!(trials(&page(&none), 100, 20).contains("failed"));
}
