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
fn the_table_tells_what_stands_out_and_fits() {
    let history = history();
    let table = trials(&page(&history), 100, 20);
    println!("{table}");
    println!("{}", trials(&page(&history), 60, 4));
    println!("{}", front(&page(&history), 72, 18).unwrap());
    assert!(table.lines().all(|line| line.chars().count() <= 100));
}
