//! Several rules as one.

use super::{Decision, Rungs, Stopping, StoppingError, first_paused};
use crate::history::History;
use crate::trial::Trial;

/// Several rules: a trial ends where one of them ends it, else is paused where one pauses it, else goes on. Each reason begins with the
/// name of its rule; of several, the first rule's is given.
pub struct Together {
    rules: Vec<Box<dyn Stopping>>,
}

impl Together {
    /// In this order.
    ///
    /// # Errors
    /// [`StoppingError`] when there are none, they differ in their rungs, or more than one of them pauses: each would go on with what
    /// the other one holds back.
    pub fn new(rules: Vec<Box<dyn Stopping>>) -> Result<Self, StoppingError> {
        let wrong = |what: String| Err(StoppingError::Rules(what));
        let Some(first) = rules.first() else { return wrong("expected at least one".into()) };
        if let Some(other) = rules.iter().find(|rule| rule.rungs() != first.rungs()) {
            return wrong(format!("{} and {} differ in their rungs", first.name(), other.name()));
        }
        let pausing: Vec<&str> = rules.iter().filter(|rule| rule.pauses()).map(|rule| rule.name()).collect();
        if pausing.len() > 1 {
            return wrong(format!("at most one may pause, got {}", pausing.join(" and ")));
        }
        Ok(Self { rules })
    }
}

impl Stopping for Together {
    fn name(&self) -> &'static str {
        "together"
    }

    fn rungs(&self) -> &Rungs {
        self.rules[0].rungs()
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        let mut paused = Decision::Continue;
        for rule in &self.rules {
            let named = |reason: String| format!("{}: {reason}", rule.name());
            match rule.decide(history, trial) {
                Decision::Stop { reason } => return Decision::Stop { reason: named(reason) },
                Decision::Pause { reason } if paused == Decision::Continue => {
                    paused = Decision::Pause { reason: named(reason) };
                }
                Decision::Pause { .. } | Decision::Continue => {}
            }
        }
        paused
    }

    fn pauses(&self) -> bool {
        self.rules.iter().any(|rule| rule.pauses())
    }

    fn resume(&self, history: &History, closing: bool) -> Option<u64> {
        match self.rules.iter().find(|rule| rule.pauses()) {
            Some(rule) => rule.resume(history, closing),
            None => first_paused(history),
        }
    }
}
