use super::*;
use crate::goals::{Direction, Goals, Objective};
use crate::space::{Domain, Parameter, Point, Space};
use crate::trial::{Measured, Report};

/// A study put together by hand.
pub(super) struct Study {
    pub history: History,
}

/// Loss (lower) and kept (higher), under these constraints.
pub(super) fn two_axes(constraints: &[&str]) -> Goals {
    let objective = |name: &str, direction| Objective { name: name.into(), direction };
    Goals {
        objectives: vec![objective("loss", Direction::Minimize), objective("kept", Direction::Maximize)],
        constraints: constraints.iter().map(|name| (*name).to_owned()).collect(),
    }
}

impl Study {
    pub fn new(goals: Goals) -> Self {
        let space = Space::new(vec![Parameter::new("x", Domain::float(0.0, 1.0))], vec![], vec![]).unwrap();
        Self { history: History::new(space, goals) }
    }

    pub fn begin(&mut self) -> u64 {
        let number = self.history.trials().len() as u64;
        self.history.put(Trial::new(number, Point::new()));
        number
    }

    pub fn change(&mut self, number: u64, change: impl FnOnce(&mut Trial)) {
        let mut trial = self.history.trial(number).unwrap().clone();
        change(&mut trial);
        self.history.put(trial);
    }

    pub fn report_full(&mut self, number: u64, step: u64, values: &[f64], constraints: &[f64]) {
        let measured = Measured { values: values.to_vec(), constraints: constraints.to_vec() };
        self.change(number, |trial| {
            trial.put(Report::new(step, measured));
        });
    }

    /// Reports, is answered, and does what it is told.
    pub fn report(&mut self, rule: &dyn Stopping, number: u64, step: u64, values: &[f64]) -> Decision {
        self.report_full(number, step, values, &[]);
        self.obey(rule, number)
    }

    pub fn obey(&mut self, rule: &dyn Stopping, number: u64) -> Decision {
        let decision = rule.decide(&self.history, self.history.trial(number).unwrap());
        let full = rule.rungs().full();
        self.change(number, |trial| match &decision {
            Decision::Continue if trial.last().is_some_and(|last| last.step >= full) => {
                trial.state = State::Complete;
                trial.result = trial.last().map(|last| last.measured.clone());
            }
            Decision::Continue => {}
            Decision::Pause { reason } => {
                trial.state = State::Paused;
                trial.reason = Some(reason.clone());
            }
            Decision::Stop { reason } => {
                trial.state = State::Pruned;
                trial.reason = Some(reason.clone());
            }
        });
        decision
    }

    pub fn resume(&mut self, rule: &dyn Stopping, closing: bool) -> Option<u64> {
        let number = rule.resume(&self.history, closing)?;
        self.change(number, |trial| trial.state = State::Running);
        Some(number)
    }

    pub fn states(&self) -> Vec<State> {
        self.history.trials().iter().map(|trial| trial.state).collect()
    }
}

mod meanings;
mod reports;
