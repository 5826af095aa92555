//! Behind half of the others.

use super::order::{at_rung, ranks};
use super::{Decision, Rungs, Stopping, settled, standing};
use crate::history::History;
use crate::trial::Trial;

/// The median rule (Golovin et al., Vizier, 2017, section 3.2), by ranks: a trial ends at a rung when more than half of the others
/// there are of a better rank. With one objective that is a value worse than the median of the others; with several, no trial of
/// the front is ever ended, however many are in it.
#[derive(Clone, Debug)]
pub struct Median {
    rungs: Rungs,
    others: usize,
}

impl Median {
    /// Where fewer than `others` other trials have reported, nothing is ended (5 is usual).
    pub fn new(rungs: Rungs, others: usize) -> Self {
        Self { rungs, others: others.max(1) }
    }
}

impl Stopping for Median {
    fn name(&self) -> &'static str {
        "median"
    }

    fn rungs(&self) -> &Rungs {
        &self.rungs
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        if let Some(decision) = settled(trial) {
            return decision;
        }
        let Some(last) = standing(&self.rungs, trial) else { return Decision::Continue };
        let entries = at_rung(history, last.step);
        let others = entries.len().saturating_sub(1);
        if others < self.others {
            return Decision::Continue;
        }
        let ranks = ranks(history.goals(), &entries);
        let Some(own) = entries.iter().position(|entry| entry.trial.number == trial.number) else {
            return Decision::Continue;
        };
        let better = ranks.iter().filter(|rank| **rank < ranks[own]).count();
        // Among values that are all no numbers there is no better one, and yet none is worth going on with.
        if 2 * better > others || !history.goals().is_sound(&last.measured) {
            return Decision::Stop { reason: format!("{better} of {others} others are better at step {}", last.step) };
        }
        Decision::Continue
    }
}
