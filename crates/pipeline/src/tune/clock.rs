//! The time of a study: for how long it has been worked on, over all commands.

use std::time::Instant;

use temper_search::store::{Store, StoreError};

/// Under which name the store keeps it.
const CLOCK: &str = "clock";

/// Seconds for which a study has been worked on, whichever command or worker it was: what `--minutes` bounds, as `--trials` and `--tokens`
/// bound the study and not a command. Those that work at the same time count once. It is kept at every report and between trials; what a
/// process worked after that, and was killed, does not count.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    before: f64,
    begun: Instant,
}

impl Clock {
    /// Goes on from what was kept. `begun`: when this command began.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn read(store: &mut Store, begun: Instant) -> Result<Self, StoreError> {
        Ok(Self { before: kept(store)?, begun })
    }

    /// Seconds so far.
    pub fn seconds(&self) -> f64 {
        self.before + self.begun.elapsed().as_secs_f64()
    }

    /// Keeps it. Where another worker has kept more it is that.
    ///
    /// # Errors
    /// When the store cannot be read or written.
    pub fn keep(&mut self, store: &mut Store) -> Result<(), StoreError> {
        let (kept, own) = (kept(store)?, self.seconds());
        if kept > own {
            self.before += kept - own;
            return Ok(());
        }
        store.set_state(CLOCK, &own.into())
    }
}

fn kept(store: &mut Store) -> Result<f64, StoreError> {
    Ok(store.state(CLOCK)?.and_then(|json| json.as_f64()).unwrap_or(0.0))
}
