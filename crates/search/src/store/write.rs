//! What a worker says of its trial.

use serde_json::Value as Json;
use temper_run::to_json;

use super::claim::{attribute, end, stamp};
use super::database::{Cell, Result, Row, Sql};
use super::{Lease, Store, StoreError, load, optuna};
use crate::trial::{Measured, Report};

/// What became of what was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrote {
    /// It is written.
    Done,
    /// The same had been written before.
    Already,
    /// Something else had been written before, and stays: in one line, what.
    Kept(String),
    /// Nothing is written: the lease is lost, in one line, to whom. The worker leaves the trial as it is.
    Lost(String),
}

/// What a trial has cost so far, over all workers that had it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// Tokens.
    pub tokens: u64,
    /// Seconds.
    pub seconds: f64,
}

/// What may come with a report.
#[derive(Clone, Copy, Debug, Default)]
pub struct Beside<'a> {
    /// Where the trial can be gone on with from this step. A path beside the study's file is best given relative to it.
    pub checkpoint: Option<&'a str>,
    /// What the trial has cost so far.
    pub spent: Spent,
}

/// How a trial ends.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// With a result. Where an objective is no number, the trial has failed.
    Complete(Measured),
    /// Stopped early; its result is its last report.
    Pruned {
        /// Why.
        reason: String,
    },
    /// Without a result.
    Failed {
        /// Why.
        reason: String,
    },
}

/// A trial in Optuna's and our tables, as its holder finds it.
enum Standing {
    /// It is running, and his.
    Held,
    /// It is paused, by him.
    Paused,
    /// It is ended: the state, and whether its lease was his at the time.
    Ended(String, bool),
    /// Another has it.
    Lost(String),
}

impl Store {
    /// Writes a measurement on the way, and keeps the lease. The first report of a step counts: the same once more is silent, another
    /// is told and passed over. A step that lies before one that was reported is written like any other.
    ///
    /// # Errors
    /// [`StoreError`] where the numbers are not as many as the goals, the step is 0, or the database cannot be written.
    pub fn report(&mut self, lease: &Lease, report: &Report, beside: &Beside<'_>) -> Result<Wrote> {
        self.check(lease.number, &report.measured)?;
        let Some(step) = i64::try_from(report.step).ok().filter(|step| *step > 0) else {
            return Err(self.wrong(lease.number, format!("expected a step above 0, got {}", report.step)));
        };
        let measured = json(lease.number, &report.measured)?;
        let items = (!report.items.is_empty()).then(|| json(lease.number, &report.items)).transpose()?;
        // Optuna has no reports of several objectives: its samplers stop at a pruned trial that has some. And its steps have 32 bits.
        let shown = match report.measured.values[..] {
            [value] if step <= i64::from(i32::MAX) => Some(optuna::columns(value)),
            _ => None,
        };
        let spent = beside.spent;
        let checkpoint = beside.checkpoint;
        self.hold(lease, spent, |sql, revision| {
            let text = "SELECT measured_json FROM temper_reports WHERE trial_id = $1 AND step = $2";
            if let Some(row) = sql.first(text, &[lease.row.into(), step.into()])? {
                let kept = row.text(0)?;
                return Ok(if kept == measured { Wrote::Already } else { Wrote::Kept(kept.to_owned()) });
            }
            let text = "INSERT INTO temper_reports (trial_id, step, measured_json, items_json) VALUES ($1, $2, $3, $4)";
            sql.execute(text, &[lease.row.into(), step.into(), measured.as_str().into(), items.clone().into()])?;
            if let Some([value, kind]) = shown.clone() {
                let text = "INSERT INTO trial_intermediate_values (trial_id, step, intermediate_value, intermediate_value_type) \
                     VALUES ($1, $2, $3, $4) ON CONFLICT (trial_id, step) DO NOTHING";
                sql.execute(text, &[lease.row.into(), step.into(), value, kind])?;
            }
            if let Some(path) = checkpoint {
                artifact(sql, lease.row, "checkpoint", step, path)?;
            }
            // It came further: the workers that were lost with it before are forgiven.
            sql.execute("UPDATE temper_trials SET losses = 0 WHERE trial_id = $1", &[lease.row.into()])?;
            touch(sql, lease.row, revision)?;
            Ok(Wrote::Done)
        })
    }

    /// Says that the worker lives, and what the trial has cost so far.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn heartbeat(&mut self, lease: &Lease, spent: Spent) -> Result<Wrote> {
        let (seconds, study, worker) = (self.lease.as_secs_f64(), self.study, self.worker.as_str());
        let (tokens, spent_seconds) = cost(lease.number, spent)?;
        self.database.write(|sql| beat(sql, lease, seconds, study, worker, [tokens.clone(), spent_seconds.clone()]))
    }

    /// Lets the trial rest where its last checkpoint is; [`Self::resume`] goes on with it.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn pause(&mut self, lease: &Lease, reason: &str, spent: Spent) -> Result<Wrote> {
        let (study, cost) = (self.study, cost(lease.number, spent)?);
        self.database.write(|sql| {
            let revision = stamp(sql, study)?;
            match standing(sql, lease)? {
                Standing::Held => {}
                Standing::Paused => return Ok(Wrote::Already),
                Standing::Ended(state, _) => return Ok(Wrote::Kept(format!("it is {state}"))),
                Standing::Lost(what) => return Ok(Wrote::Lost(what)),
            }
            spend(sql, lease.row, &cost)?;
            let text = "UPDATE temper_trials SET phase = 'paused', reason = $2, revision = $3 WHERE trial_id = $1";
            sql.execute(text, &[lease.row.into(), reason.into(), revision.into()])?;
            Ok(Wrote::Done)
        })
    }

    /// Ends the trial. A result in which an objective is no number is a failure, with that as its reason.
    ///
    /// Whoever lost the lease is told so and writes nothing, however the trial stands by then.
    ///
    /// # Errors
    /// [`StoreError`] where the numbers are not as many as the goals, or the database cannot be written.
    pub fn tell(&mut self, lease: &Lease, outcome: &Outcome, spent: Spent) -> Result<Wrote> {
        let goals = self.history.goals().clone();
        let mut reason = None;
        let (state, result) = match outcome {
            Outcome::Complete(measured) => {
                self.check(lease.number, measured)?;
                let none = goals.objectives.iter().zip(&measured.values).find(|(_, value)| value.is_nan());
                match none {
                    None => ("COMPLETE", Some(measured.clone())),
                    Some((objective, _)) => {
                        reason = Some(format!("{} is no number", objective.name));
                        ("FAIL", None)
                    }
                }
            }
            Outcome::Pruned { reason: why } => {
                reason = Some(why.clone());
                ("PRUNED", None)
            }
            Outcome::Failed { reason: why } => {
                reason = Some(why.clone());
                ("FAIL", None)
            }
        };
        let (study, cost) = (self.study, cost(lease.number, spent)?);
        self.database.write(|sql| {
            let revision = stamp(sql, study)?;
            match standing(sql, lease)? {
                Standing::Held => {}
                Standing::Paused => return Ok(Wrote::Lost("it is paused".into())),
                Standing::Ended(there, true) if there == state => return Ok(Wrote::Already),
                Standing::Ended(there, true) => return Ok(Wrote::Kept(format!("it is {there}"))),
                Standing::Ended(there, false) => {
                    return Ok(Wrote::Lost(format!("another took it over, and it is {there}")));
                }
                Standing::Lost(what) => return Ok(Wrote::Lost(what)),
            }
            let result = match (&result, state) {
                (None, "PRUNED") => last_report(sql, lease.row)?,
                (result, _) => result.clone(),
            };
            // Optuna has no column for what is no number; a pruned trial may do without a value.
            if let Some(result) = &result
                && !result.values.iter().any(|value| value.is_nan())
            {
                for (index, value) in result.values.iter().enumerate() {
                    let [value, kind] = optuna::columns(*value);
                    let text = "INSERT INTO trial_values (trial_id, objective, value, value_type) VALUES ($1, $2, $3, $4) \
                         ON CONFLICT (trial_id, objective) DO UPDATE SET value = excluded.value, value_type = excluded.value_type";
                    sql.execute(text, &[lease.row.into(), (index as i64).into(), value, kind])?;
                }
            }
            if let Some(result) = &result {
                for (name, value) in goals.constraints.iter().zip(&result.constraints) {
                    let (key, value) = (format!("constraints:{name}"), optuna::constraint(*value));
                    attribute(sql, "trial_system_attributes", lease.row, &key, &value)?;
                }
            }
            spend(sql, lease.row, &cost)?;
            touch(sql, lease.row, revision)?;
            end(sql, lease.row, state, reason.as_deref())?;
            Ok(Wrote::Done)
        })
    }

    /// Keeps the path of something that a trial left, by what it is and the step; in the place of what was there.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn set_artifact(&mut self, lease: &Lease, name: &str, step: u64, path: &str) -> Result<Wrote> {
        self.hold(lease, Spent::default(), |sql, _| {
            artifact(sql, lease.row, name, step as i64, path).map(|()| Wrote::Done)
        })
    }

    /// The paths of a trial by what they are, and their steps, by rising step.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such trial, or the database cannot be read.
    pub fn artifacts(&mut self, number: u64, name: &str) -> Result<Vec<(u64, String)>> {
        let row = self.row(number)?;
        let text = "SELECT step, path FROM temper_artifacts WHERE trial_id = $1 AND name = $2 ORDER BY step";
        let rows = self.database.read(|sql| sql.query(text, &[row.into(), name.into()]))?;
        rows.iter().map(|row| Ok((row.int(0)? as u64, row.text(1)?.to_owned()))).collect()
    }

    /// Keeps an attribute of a trial where Optuna keeps a user's; in the place of what was there.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn set_attribute(&mut self, lease: &Lease, key: &str, value: &Json) -> Result<Wrote> {
        let text = value.to_string();
        self.hold(lease, Spent::default(), |sql, _| {
            attribute(sql, "trial_user_attributes", lease.row, key, &text).map(|()| Wrote::Done)
        })
    }

    /// What is kept of a trial as a user's attributes: those that were set, and the fields that follow from its point.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such trial, or the database cannot be read.
    pub fn attributes(&mut self, number: u64) -> Result<Vec<(String, Json)>> {
        let row = self.row(number)?;
        let text = "SELECT key, value_json FROM trial_user_attributes WHERE trial_id = $1 ORDER BY key";
        let rows = self.database.read(|sql| sql.query(text, &[row.into()]))?;
        let entry = |row: &Row| {
            let json = row.maybe_text(1)?.and_then(temper_run::from_python_json).unwrap_or(Json::Null);
            Ok((row.text(0)?.to_owned(), json))
        };
        rows.iter().map(entry).collect()
    }

    /// What trials have cost so far, by number.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be read.
    pub fn spent(&mut self) -> Result<Vec<(u64, Spent)>> {
        let study = self.study;
        let text = "SELECT t.number, x.tokens, x.seconds FROM temper_trials x JOIN trials t ON t.trial_id = x.trial_id \
             WHERE x.study_id = $1 ORDER BY t.number";
        let rows = self.database.read(|sql| sql.query(text, &[study.into()]))?;
        let spent = |row: &Row| {
            let (tokens, seconds) = (row.int(1)? as u64, row.real(2)?.unwrap_or(0.0));
            Ok((row.int(0)? as u64, Spent { tokens, seconds }))
        };
        rows.iter().map(spent).collect()
    }

    /// Does `work` where the lease is held, and keeps it. `work` is given the number of this write.
    fn hold(
        &mut self,
        lease: &Lease,
        spent: Spent,
        mut work: impl FnMut(&mut Sql<'_>, i64) -> Result<Wrote>,
    ) -> Result<Wrote> {
        let (study, seconds, cost) = (self.study, self.lease.as_secs_f64(), cost(lease.number, spent)?);
        self.database.write(|sql| {
            let revision = stamp(sql, study)?;
            match standing(sql, lease)? {
                Standing::Held => {}
                Standing::Paused => return Ok(Wrote::Lost("it is paused".into())),
                Standing::Ended(state, _) => return Ok(Wrote::Lost(format!("it is {state}"))),
                Standing::Lost(what) => return Ok(Wrote::Lost(what)),
            }
            let text = "UPDATE temper_trials SET lease_until = {now} + $2 WHERE trial_id = $1";
            sql.execute(text, &[lease.row.into(), seconds.into()])?;
            spend(sql, lease.row, &cost)?;
            work(sql, revision)
        })
    }

    fn check(&self, number: u64, measured: &Measured) -> Result<()> {
        let goals = self.history.goals();
        let (expected, got) = (goals.objectives.len(), measured.values.len());
        if expected != got {
            return Err(self.wrong(number, format!("expected {expected} objectives, got {got}")));
        }
        let (expected, got) = (goals.constraints.len(), measured.constraints.len());
        if expected != got {
            return Err(self.wrong(number, format!("expected {expected} constraints, got {got}")));
        }
        Ok(())
    }
}

/// Keeps a lease.
pub(super) fn beat(
    sql: &mut Sql<'_>,
    lease: &Lease,
    seconds: f64,
    study: i64,
    worker: &str,
    [tokens, spent]: [Cell; 2],
) -> Result<Wrote> {
    match standing(sql, lease)? {
        Standing::Held => {}
        Standing::Paused => return Ok(Wrote::Lost("it is paused".into())),
        Standing::Ended(state, _) => return Ok(Wrote::Lost(format!("it is {state}"))),
        Standing::Lost(what) => return Ok(Wrote::Lost(what)),
    }
    // Another may have claimed it since it was looked at: then no row is changed.
    let text =
        "UPDATE temper_trials SET lease_until = {now} + $3 WHERE trial_id = $1 AND claims = $2 AND phase = 'running'";
    if sql.execute(text, &[lease.row.into(), lease.claims.into(), seconds.into()])? == 0 {
        return Ok(Wrote::Lost("another took it over".into()));
    }
    spend(sql, lease.row, &(tokens, spent))?;
    let text = "UPDATE temper_workers SET seen = {now} WHERE study_id = $1 AND worker = $2";
    sql.execute(text, &[study.into(), worker.into()])?;
    Ok(Wrote::Done)
}

/// How a trial stands for the holder of `lease`.
fn standing(sql: &mut Sql<'_>, lease: &Lease) -> Result<Standing> {
    let text = "SELECT t.state, x.phase, x.claims, x.worker FROM trials t JOIN temper_trials x ON x.trial_id = t.trial_id \
         WHERE t.trial_id = $1";
    let Some(row) = sql.first(text, &[lease.row.into()])? else {
        return Ok(Standing::Lost("its study was deleted".into()));
    };
    let (state, phase, is_his) = (row.text(0)?, row.text(1)?, row.int(2)? == lease.claims);
    Ok(match (state, phase) {
        ("RUNNING", "running") if is_his => Standing::Held,
        ("RUNNING", "paused") if is_his => Standing::Paused,
        ("RUNNING", _) => Standing::Lost(format!("{} took it over", row.text(3)?)),
        (state, _) => Standing::Ended(state.to_owned(), is_his),
    })
}

/// Marks a trial as written to.
fn touch(sql: &mut Sql<'_>, row: i64, revision: i64) -> Result<()> {
    let text = "UPDATE temper_trials SET revision = $2 WHERE trial_id = $1";
    sql.execute(text, &[row.into(), revision.into()]).map(drop)
}

/// Costs as cells.
pub(super) fn cost(number: u64, spent: Spent) -> Result<(Cell, Cell)> {
    let tokens = i64::try_from(spent.tokens).ok();
    match tokens.filter(|_| spent.seconds.is_finite() && spent.seconds >= 0.0) {
        Some(tokens) => Ok((tokens.into(), spent.seconds.into())),
        None => Err(StoreError::Trial { number, what: format!("expected costs that can be, got {spent:?}") }),
    }
}

/// Costs only grow: what is said late, or not at all, changes nothing.
fn spend(sql: &mut Sql<'_>, row: i64, (tokens, seconds): &(Cell, Cell)) -> Result<()> {
    let text = "UPDATE temper_trials SET tokens = CASE WHEN tokens < $2 THEN $2 ELSE tokens END, \
         seconds = CASE WHEN seconds < $3 THEN $3 ELSE seconds END WHERE trial_id = $1 AND (tokens < $2 OR seconds < $3)";
    sql.execute(text, &[row.into(), tokens.clone(), seconds.clone()]).map(drop)
}

fn artifact(sql: &mut Sql<'_>, row: i64, name: &str, step: i64, path: &str) -> Result<()> {
    let text = "INSERT INTO temper_artifacts (trial_id, name, step, path) VALUES ($1, $2, $3, $4) \
         ON CONFLICT (trial_id, name, step) DO UPDATE SET path = excluded.path";
    sql.execute(text, &[row.into(), name.into(), step.into(), path.into()]).map(drop)
}

fn last_report(sql: &mut Sql<'_>, row: i64) -> Result<Option<Measured>> {
    let text = "SELECT measured_json FROM temper_reports WHERE trial_id = $1 ORDER BY step DESC LIMIT 1";
    let row = sql.first(text, &[row.into()])?;
    Ok(row.as_ref().map(|row| row.text(0)).transpose()?.and_then(load::measured))
}

fn json<T: serde::Serialize + ?Sized>(number: u64, value: &T) -> Result<String> {
    to_json(value).map_err(|error| StoreError::Trial { number, what: error.to_string() })
}
