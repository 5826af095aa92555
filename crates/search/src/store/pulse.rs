//! Heartbeats beside the work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use super::database::Result;
use super::write::{Spent, Wrote, beat, cost};
use super::{Lease, Store};

/// Heartbeats in the time of a lease: two may be lost.
const BEATS: u32 = 3;

/// A thread that keeps a lease while a trial is carried out, with a connection of its own. It ends when this is dropped.
///
/// A database that cannot be reached stops no work: the beat is tried again in time, and if the lease ran out meanwhile, the next one
/// that gets through keeps it still, unless another took the trial over.
pub struct Pulse {
    is_lost: Arc<AtomicBool>,
    spent: Arc<Mutex<Spent>>,
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Store {
    /// Keeps a lease by heartbeats, until what is returned is dropped.
    ///
    /// # Errors
    /// [`super::StoreError`] where the database does not let a second connection in.
    pub fn keep(&self, lease: &Lease) -> Result<Pulse> {
        let mut database = self.database.another()?;
        let (is_lost, spent) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(Spent::default())));
        let (stop, stopped) = channel::<()>();
        let (lease, study, worker, length) = (lease.clone(), self.study, self.worker.clone(), self.lease);
        let (lost, costs) = (Arc::clone(&is_lost), Arc::clone(&spent));
        let thread = std::thread::spawn(move || {
            while let Err(RecvTimeoutError::Timeout) = stopped.recv_timeout(length / BEATS) {
                let spent = *costs.lock().unwrap_or_else(PoisonError::into_inner);
                let Ok((tokens, seconds)) = cost(lease.number, spent) else { continue };
                let seconds = [tokens, seconds];
                let wrote =
                    database.write(|sql| beat(sql, &lease, length.as_secs_f64(), study, &worker, seconds.clone()));
                if let Ok(Wrote::Lost(_)) = wrote {
                    lost.store(true, Ordering::Relaxed);
                    break;
                }
            }
        });
        Ok(Pulse { is_lost, spent, stop: Some(stop), thread: Some(thread) })
    }
}

impl Pulse {
    /// Whether the trial is another's by now: the work may end.
    pub fn is_lost(&self) -> bool {
        self.is_lost.load(Ordering::Relaxed)
    }

    /// What the trial has cost so far, for the next beat.
    pub fn spend(&self, spent: Spent) {
        *self.spent.lock().unwrap_or_else(PoisonError::into_inner) = spent;
    }
}

impl Drop for Pulse {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so itself.
            drop(thread.join());
        }
    }
}
