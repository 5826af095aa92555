//! Successive halving without waiting, for several objectives.

use super::order::{Entry, at_rung, order};
use super::{Decision, Rungs, Stopping, StoppingError, settled, standing};
use crate::history::History;
use crate::trial::{State, Trial};

/// What becomes of a trial that is not promoted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It is paused, and goes on from its checkpoint once it is among the best of its rung.
    Pause,
    /// It ends: no checkpoint is kept. A trial that is early in its rung meets few others, and is let pass more easily.
    Stop,
}

/// Asynchronous successive halving (ASHA: Li et al., 2020), its order that of several objectives under constraints
/// (MO-ASHA: Schmucker et al., 2021): of the trials that reported at a rung, the best `1 / reduction` go on to the next.
///
/// Each rung is looked at as it is at that moment, so that no worker ever waits, and one worker alone makes progress: with every
/// `reduction` trials of a rung, one more of it is promoted.
#[derive(Clone, Debug)]
pub struct Asha {
    rungs: Rungs,
    reduction: u64,
    mode: Mode,
}

impl Asha {
    /// A reduction of 3 or 4 is usual (Li et al., 2020, use 4; Hyperband 3).
    ///
    /// # Errors
    /// [`StoppingError`] when `reduction` is below 2.
    pub fn new(rungs: Rungs, reduction: u64, mode: Mode) -> Result<Self, StoppingError> {
        if reduction < 2 {
            return Err(StoppingError::Reduction(reduction));
        }
        Ok(Self { rungs, reduction, mode })
    }

    /// As [`Stopping::decide`], where `member` says which trials are compared at all and `lowest` is their first rung.
    pub(super) fn decide_among(
        &self,
        history: &History,
        trial: &Trial,
        lowest: u64,
        member: impl Fn(&Trial) -> bool,
    ) -> Decision {
        if let Some(decision) = settled(trial) {
            return decision;
        }
        let Some(last) = standing(&self.rungs, trial).filter(|last| last.step >= lowest) else {
            return Decision::Continue;
        };
        let entries: Vec<Entry<'_>> =
            at_rung(history, last.step).into_iter().filter(|entry| member(entry.trial)).collect();
        let ordered = order(history.goals(), &entries);
        let place = 1 + ordered.iter().take_while(|&&index| entries[index].trial.number != trial.number).count();
        let sound = history.goals().is_sound(&last.measured);
        let (count, step) = (entries.len(), last.step);
        match self.mode {
            Mode::Pause => {
                if sound && self.promoted(&entries, &ordered, false).contains(&trial.number) {
                    return Decision::Continue;
                }
                let slots = count as u64 / self.reduction;
                Decision::Pause { reason: format!("place {place} of {count} at step {step}, where {slots} go on") }
            }
            Mode::Stop => {
                let slots = (count as u64).div_ceil(self.reduction);
                if sound && place as u64 <= slots {
                    return Decision::Continue;
                }
                Decision::Stop { reason: format!("place {place} of {count} at step {step}, where {slots} go on") }
            }
        }
    }

    /// As [`Stopping::resume`], among the trials that `member` names.
    pub(super) fn resume_among(
        &self,
        history: &History,
        closing: bool,
        member: impl Fn(&Trial) -> bool,
    ) -> Option<u64> {
        if self.mode == Mode::Stop {
            return history
                .trials()
                .iter()
                .find(|trial| trial.state == State::Paused && member(trial))
                .map(|trial| trial.number);
        }
        let interrupted = |trial: &&Trial| trial.state == State::Paused && standing(&self.rungs, trial).is_none();
        if let Some(trial) = history.trials().iter().filter(|trial| member(trial)).find(interrupted) {
            return Some(trial.number);
        }
        let steps = self.rungs.steps();
        let below_full = &steps[..steps.len() - 1];
        // From the top: what has come furthest is closest to a result.
        below_full.iter().rev().find_map(|&step| {
            let entries: Vec<Entry<'_>> =
                at_rung(history, step).into_iter().filter(|entry| member(entry.trial)).collect();
            let waits = |entry: &Entry<'_>| entry.trial.state == State::Paused && stands_at(entry.trial, step);
            if !entries.iter().any(waits) {
                return None;
            }
            let ordered = order(history.goals(), &entries);
            let promoted = self.promoted(&entries, &ordered, closing);
            let index = ordered.into_iter().find(|&index| {
                let entry = &entries[index];
                waits(entry)
                    && history.goals().is_sound(&entry.report.measured)
                    && promoted.contains(&entry.trial.number)
            })?;
            Some(entries[index].trial.number)
        })
    }

    /// The numbers of those that hold a slot of the next rung: a `reduction`th of all that reported here, and at least one when no
    /// new trial may begin. What ended here, by an error or another rule, counts among all but takes no slot: it would hold it for ever.
    fn promoted(&self, entries: &[Entry<'_>], ordered: &[usize], closing: bool) -> Vec<u64> {
        let count = entries.len() as u64;
        let slots = if closing { count.div_ceil(self.reduction) } else { count / self.reduction };
        let may_hold =
            |entry: &Entry<'_>| !(entry.trial.state.is_finished() && stands_at(entry.trial, entry.report.step));
        let able = ordered.iter().map(|&index| &entries[index]).filter(|entry| may_hold(entry));
        able.take(slots as usize).map(|entry| entry.trial.number).collect()
    }
}

/// Whether nothing was reported beyond `step`.
fn stands_at(trial: &Trial, step: u64) -> bool {
    trial.last().is_some_and(|last| last.step == step)
}

impl Stopping for Asha {
    fn name(&self) -> &'static str {
        "asha"
    }

    fn rungs(&self) -> &Rungs {
        &self.rungs
    }

    fn decide(&self, history: &History, trial: &Trial) -> Decision {
        self.decide_among(history, trial, 0, |_| true)
    }

    fn pauses(&self) -> bool {
        self.mode == Mode::Pause
    }

    fn resume(&self, history: &History, closing: bool) -> Option<u64> {
        self.resume_among(history, closing, |_| true)
    }
}
