//! Where the time between the command and the first optimiser step goes.

use std::cell::{Cell, RefCell};
use std::time::Instant;

use serde::Serialize;

/// One part of what comes before training.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Phase {
    /// What was done.
    pub name: &'static str,
    /// Wall time.
    pub seconds: f64,
}

/// A clock that is read at the end of each phase. It belongs to one thread.
#[derive(Debug)]
pub struct Phases {
    begun: Instant,
    last: Cell<Instant>,
    laps: RefCell<Vec<Phase>>,
    over: Cell<bool>,
}

impl Phases {
    /// Counting from `begun`.
    pub fn since(begun: Instant) -> Self {
        Self { begun, last: Cell::new(begun), laps: RefCell::default(), over: Cell::new(false) }
    }

    /// Ends a phase that began where the last one ended. Phases of one name are added up; after [`Phases::end`] nothing is
    /// counted any more.
    pub fn lap(&self, name: &'static str) {
        if self.over.get() {
            return;
        }
        let now = Instant::now();
        let seconds = now.duration_since(self.last.replace(now)).as_secs_f64();
        let mut laps = self.laps.borrow_mut();
        match laps.iter_mut().find(|phase| phase.name == name) {
            Some(phase) => phase.seconds += seconds,
            None => laps.push(Phase { name, seconds }),
        }
    }

    /// Seconds since the beginning.
    pub fn elapsed(&self) -> f64 {
        self.begun.elapsed().as_secs_f64()
    }

    /// Stops the clock and gives the phases, in the order in which each was first ended; none where it had been stopped.
    pub fn end(&self) -> Option<Vec<Phase>> {
        (!self.over.replace(true)).then(|| self.laps.take())
    }
}

impl Default for Phases {
    fn default() -> Self {
        Self::since(Instant::now())
    }
}
