//! The store of a study: what every trial is and was, for any number of workers at once, whatever ends them.
//!
//! A study lies in one file of SQLite, or in a PostgreSQL database where workers of several machines share it. The tables are
//! Optuna's (docs/decisions/0026-store.md): `optuna.load_study` and `optuna-dashboard` open them, Optuna goes on with the study, and what it writes is
//! in our history. What Optuna knows nothing of lies in tables of ours beside them.
//!
//! What holds, whoever is killed when:
//! - **Numbers are contiguous, and a trial is there with its point or not at all.** A point is chosen from the history, and begins only
//!   while no other trial began meanwhile; else it is chosen again ([`Store::begin`]).
//! - **A trial is one worker's.** Its *lease* runs out unless it is kept by reports and heartbeats. Then the trial is *stale*, and
//!   exactly one other takes it over, with its last checkpoint. Whoever lost its lease is told so by all that it does, and nothing of
//!   that is written. A lease that ran out and was taken by nobody is kept again by the next sign of life. Times are the database's
//!   clock's; workers' clocks are not read.
//! - **Everything may be said twice.** A report, a result, a pause that is already there is left as it is.
//! - **Each operation is one transaction.** What a power cut can lose is said in docs/decisions/0026-store.md.
//!
//! Optuna knows neither pauses nor leases: there a paused or stale trial is RUNNING, without a heartbeat row, so that Optuna neither
//! runs it nor fails it.

mod address;
mod claim;
mod database;
mod describe;
mod error;
mod load;
mod optuna;
mod postgres;
mod pulse;
mod schema;
mod sqlite;
mod study;
mod write;

use std::collections::BTreeMap;
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use serde_json::Value as Json;

pub use claim::{Begun, Budget, Claimed};
pub use error::StoreError;
pub use pulse::Pulse;
pub use study::{Known, Opening, Setup};
pub use write::{Beside, Outcome, Spent, Wrote};

use address::{Address, without_password};
use database::{Connection, Database, Result};

use crate::history::History;

/// How long a lease is where nothing else is said. Three heartbeats: two may be lost.
pub const LEASE: Duration = Duration::from_secs(60);

/// A study, opened by one worker.
pub struct Store {
    database: Database,
    /// Its path, or its address without the password.
    address: String,
    study: i64,
    name: String,
    worker: String,
    lease: Duration,
    /// Claims made by this worker.
    claims: u64,
    history: History,
    seen: Seen,
}

/// How far the history is read.
#[derive(Debug, Default)]
struct Seen {
    /// The newest write of ours.
    revision: i64,
    /// The newest trial's row.
    last: i64,
    /// Trials in all, those that wait too: the number of the next one.
    trials: u64,
    /// Rows by number.
    rows: BTreeMap<u64, i64>,
    /// What may change without a write of ours, by row.
    open: BTreeMap<i64, load::Open>,
}

/// The right to carry out a trial, until it is lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    /// The trial's number.
    pub number: u64,
    row: i64,
    claims: i64,
}

impl Store {
    /// The trials so far, as of the last [`Self::refresh`] or operation that begins one.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// This worker's name, which is no other's.
    pub fn worker(&self) -> &str {
        &self.worker
    }

    /// The study's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it lies: its path, or its address without the password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// How long a lease is.
    pub fn lease(&self) -> Duration {
        self.lease
    }

    /// Keeps `value` under a name of the study, in the place of what was there.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn set_state(&mut self, key: &str, value: &Json) -> Result<()> {
        let text = value.to_string();
        self.database.write(|sql| {
            let sql_text = "INSERT INTO temper_state (study_id, key, value_json) VALUES ($1, $2, $3) \
                 ON CONFLICT (study_id, key) DO UPDATE SET value_json = excluded.value_json";
            sql.execute(sql_text, &[self.study.into(), key.into(), text.as_str().into()]).map(drop)
        })
    }

    /// What is kept under a name of the study.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be read.
    pub fn state(&mut self, key: &str) -> Result<Option<Json>> {
        let row = self.database.read(|sql| {
            let sql_text = "SELECT value_json FROM temper_state WHERE study_id = $1 AND key = $2";
            sql.first(sql_text, &[self.study.into(), key.into()])
        })?;
        Ok(row.map(|row| row.text(0).map(serde_json::from_str)).transpose()?.and_then(std::result::Result::ok))
    }

    /// The row of a trial.
    fn row(&self, number: u64) -> Result<i64> {
        self.seen.rows.get(&number).copied().ok_or_else(|| self.wrong(number, "there is no such trial".into()))
    }

    fn wrong(&self, number: u64, what: String) -> StoreError {
        StoreError::Trial { number, what }
    }

    /// A name for a claim: if its answer is lost with the connection, the claim is found again by it.
    fn next_claim(&mut self) -> String {
        self.claims += 1;
        format!("{}/{}", self.worker, self.claims)
    }
}

/// A connection to wherever `address` says.
fn connect(address: &str) -> Result<Box<dyn Connection>> {
    Ok(match Address::parse(address)? {
        Address::Sqlite(path) => Box::new(sqlite::Sqlite::open(&path)?),
        Address::Postgres(url) => Box::new(postgres::Postgres::open(&url)?),
    })
}

/// `name` with what makes it this process's alone.
fn unique(name: &str) -> String {
    format!("{name}-{}-{:08x}", std::process::id(), RandomState::new().hash_one(name) as u32)
}
