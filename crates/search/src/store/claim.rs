//! Who works on what: trials that begin, and those that are gone on with.

use serde_json::Value as Json;
use temper_run::from_python_json;

use super::database::{Cell, Result, Sql};
use super::load::Open;
use super::study::{check_fixed, insert, lock, wait};
use super::{Lease, Store, StoreError, optuna};
use crate::history::History;
use crate::space::{Parameter, Point, Space};
use crate::trial::State;

/// How many trials a study may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Budget {
    /// Trials in all, over all workers and all starts; none: any number.
    pub trials: Option<u64>,
    /// Whether pruned ones count.
    pub pruned: bool,
    /// Whether failed ones count. If they do not, a study in which every trial fails never ends.
    pub failed: bool,
}

impl Budget {
    /// So many trials, whatever becomes of them.
    pub fn trials(trials: u64) -> Self {
        Self { trials: Some(trials), pruned: true, failed: true }
    }

    /// No end.
    pub fn unlimited() -> Self {
        Self { trials: None, pruned: true, failed: true }
    }

    /// Whether the study has all its trials. Running, paused and stale ones count: they are begun.
    pub fn is_spent(&self, history: &History) -> bool {
        let counts = |state: State| match state {
            State::Pruned => self.pruned,
            State::Failed => self.failed,
            State::Running | State::Paused | State::Stale | State::Complete => true,
        };
        let counted = history.trials().iter().filter(|trial| counts(trial.state)).count() as u64;
        self.trials.is_some_and(|trials| counted >= trials)
    }
}

/// What came of asking for a new trial.
#[derive(Clone, Debug, PartialEq)]
pub enum Begun {
    /// A trial, with its point; it is in the history.
    Trial(Lease, Point),
    /// The budget is spent.
    Enough,
    /// There is no point that has not been tried.
    Exhausted,
}

/// A trial that is gone on with.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// The right to it.
    pub lease: Lease,
    /// Its point. Its reports are in the history.
    pub point: Point,
    /// Its last checkpoint: step and path. None: it begins anew.
    pub checkpoint: Option<(u64, String)>,
}

impl Store {
    /// Begins a trial: one that waits ([`Self::enqueue`], Optuna's `enqueue_trial`), else a new one whose point `choose` finds from the
    /// history and the number that the trial will have. Of a waiting one `choose` is asked for what is left open only.
    ///
    /// A point begins only while nobody else's did since it was chosen, else the history is read again and `choose` is asked again: no
    /// two workers choose without knowing of each other, numbers are contiguous, and no trial is there without a point.
    ///
    /// A waiting trial whose values are not of the space is failed, with the reason.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written, or a tie has no value at the point that was chosen.
    pub fn begin(&mut self, budget: &Budget, mut choose: impl FnMut(&History, u64) -> Option<Point>) -> Result<Begun> {
        let claim = self.next_claim();
        loop {
            self.refresh()?;
            if budget.is_spent(&self.history) {
                return Ok(Begun::Enough);
            }
            let waiting = self.seen.open.iter().find_map(|(row, open)| match open {
                Open::Waiting { number, fixed } => Some((*row, *number, fixed.clone())),
                Open::Ours(_) | Open::Foreign => None,
            });
            let (row, number, fixed) = match waiting {
                None => (None, self.seen.trials, None),
                Some((row, number, json)) => match fixed(self.history.space(), &json) {
                    Ok(point) => (Some(row), number, Some(point)),
                    Err(what) => {
                        self.refuse(row, &what)?;
                        continue;
                    }
                },
            };
            let point = match fixed {
                Some(fixed) if self.history.space().check_point(&fixed).is_ok() => fixed,
                fixed => {
                    let Some(chosen) = choose(&self.history, number) else { return Ok(Begun::Exhausted) };
                    match fixed.zip(row) {
                        None => chosen,
                        Some((fixed, row)) => match completed(self.history.space(), &chosen, &fixed) {
                            Ok(point) => point,
                            Err(what) => {
                                self.refuse(row, &what)?;
                                continue;
                            }
                        },
                    }
                }
            };
            if let Some(lease) = self.write_begun(&claim, row, number, &point)? {
                self.refresh()?;
                let kept = self.history.trial(lease.number).map_or(point, |trial| trial.point.clone());
                return Ok(Begun::Trial(lease, kept));
            }
        }
    }

    /// Writes a trial with its point; nothing where another began since the history was read.
    fn write_begun(&mut self, claim: &str, waiting: Option<i64>, number: u64, point: &Point) -> Result<Option<Lease>> {
        let (study, trials, lease) = (self.study, self.seen.trials, self.lease.as_secs_f64());
        let space = self.history.space();
        let fields = space.fields(point).map_err(|error| self.wrong(number, error.to_string()))?;
        let mut parameters = Vec::new();
        for (name, value) in point {
            let domain = space.parameter(name).map(|parameter| &parameter.domain);
            let Some((domain, place)) = domain.and_then(|domain| Some((domain, optuna::number(domain, value)?))) else {
                return Err(self.wrong(number, format!("{name}: {value} is no value of the space")));
            };
            parameters.push((name.as_str(), place, optuna::distribution(domain)));
        }
        let (name, worker) = (&self.name, &self.worker);
        self.database.write(|sql| {
            lock(sql, study, name)?;
            if let Some(lease) = find_claim(sql, claim)? {
                return Ok(Some(lease));
            }
            let count = sql.first("SELECT COUNT(*) FROM trials WHERE study_id = $1", &[study.into()])?;
            if count.map(|row| row.int(0)).transpose()? != Some(trials as i64) {
                return Ok(None);
            }
            let (row, number) = match waiting {
                None => insert(sql, study, "'RUNNING', {utc}")?,
                Some(row) => {
                    let text = "UPDATE trials SET state = 'RUNNING', datetime_start = {utc} \
                         WHERE trial_id = $1 AND state = 'WAITING'";
                    if sql.execute(text, &[row.into()])? == 0 {
                        return Ok(None);
                    }
                    (row, number)
                }
            };
            let revision = stamp(sql, study)?;
            let text = "INSERT INTO temper_trials (trial_id, study_id, revision, phase, claims, claim, worker, lease_until, losses, \
                 tokens, seconds) VALUES ($1, $2, $3, 'running', 1, $4, $5, {now} + $6, 0, 0, 0)";
            let cells = [row.into(), study.into(), revision.into(), claim.into(), worker.as_str().into(), lease.into()];
            sql.execute(text, &cells)?;
            for (name, place, distribution) in &parameters {
                let text = "INSERT INTO trial_params (trial_id, param_name, param_value, distribution_json) \
                     VALUES ($1, $2, $3, $4)";
                sql.execute(text, &[row.into(), (*name).into(), (*place).into(), distribution.as_str().into()])?;
            }
            for (name, value) in fields.iter().filter(|(name, _)| !point.contains_key(*name)) {
                attribute(sql, "trial_user_attributes", row, name, &serde_json::json!(value).to_string())?;
            }
            Ok(Some(Lease { number, row, claims: 1 }))
        })
    }

    /// Fails a trial that waits with values that are not of the space.
    fn refuse(&mut self, row: i64, what: &str) -> Result<()> {
        let (study, claim, worker) = (self.study, self.next_claim(), &self.worker);
        let reason = format!("it was to be tried with what is not of the space: {what}");
        self.database.write(|sql| {
            let text = "UPDATE trials SET state = 'FAIL', datetime_complete = {utc} WHERE trial_id = $1 AND state = 'WAITING'";
            if sql.execute(text, &[row.into()])? == 0 {
                return Ok(());
            }
            let revision = stamp(sql, study)?;
            let text = "INSERT INTO temper_trials (trial_id, study_id, revision, phase, claims, claim, worker, lease_until, losses, \
                 tokens, seconds, reason) VALUES ($1, $2, $3, 'done', 1, $4, $5, 0, 0, 0, 0, $6)";
            let cells: [Cell; 6] = [
                row.into(),
                study.into(),
                revision.into(),
                claim.as_str().into(),
                worker.as_str().into(),
                reason.as_str().into(),
            ];
            sql.execute(text, &cells).map(drop)
        })
    }

    /// Puts values in the line of what is tried before a sampler is asked, and returns the trial's number. What is left open, the
    /// sampler chooses. The same values that already wait are not put there again.
    ///
    /// # Errors
    /// [`StoreError`] where a value is not of the space, or the database cannot be written.
    pub fn enqueue(&mut self, point: &Point) -> Result<u64> {
        check_fixed(self.history.space(), point)
            .map_err(|what| StoreError::Study { study: self.name.clone(), what })?;
        let (study, name) = (self.study, &self.name);
        self.database.write(|sql| {
            lock(sql, study, name)?;
            wait(sql, study, point)
        })
    }

    /// Goes on with a paused trial; nothing where it is not paused (any more): another worker was first.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such trial, or the database cannot be written.
    pub fn resume(&mut self, number: u64) -> Result<Option<Claimed>> {
        let row = self.row(number)?;
        let text = "SELECT x.trial_id, x.claims FROM temper_trials x JOIN trials t ON t.trial_id = x.trial_id \
             WHERE x.study_id = $1 AND x.trial_id = $2 AND x.phase = 'paused' AND t.state = 'RUNNING'";
        self.claim(text, &[row.into()], None)
    }

    /// Takes over a trial whose worker was lost: the one that waits longest. A trial that was lost with more than `losses` workers
    /// since its last report is
    /// failed in place of that, for it is likely that it kills them. Nothing where none is stale.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn take_over(&mut self, losses: u32) -> Result<Option<Claimed>> {
        self.refresh()?;
        if !self.seen.open.values().any(|open| *open == Open::Ours(State::Stale)) {
            return Ok(None);
        }
        let text = "SELECT x.trial_id, x.claims FROM temper_trials x JOIN trials t ON t.trial_id = x.trial_id \
             WHERE x.study_id = $1 AND x.phase = 'running' AND x.lease_until < {now} AND t.state = 'RUNNING' \
             ORDER BY x.lease_until, x.trial_id LIMIT 1";
        self.claim(text, &[], Some(losses))
    }

    /// Claims the trial that `text` finds. `losses`: its worker was lost, and this many are allowed.
    fn claim(&mut self, text: &str, more: &[Cell], losses: Option<u32>) -> Result<Option<Claimed>> {
        let claim = self.next_claim();
        let (study, name, worker, seconds) = (self.study, &self.name, &self.worker, self.lease.as_secs_f64());
        let cells = [&[Cell::from(study)], more].concat();
        let lease = self.database.write(|sql| {
            if let Some(lease) = find_claim(sql, &claim)? {
                return Ok(Some(lease));
            }
            // Writers of a study stand in line here: what is found below is nobody else's meanwhile.
            let revision = stamp(sql, study)?;
            loop {
                let Some(row) = sql.first(text, &cells)? else { return Ok(None) };
                let (row, claims) = (row.int(0)?, row.int(1)? + 1);
                let text = "UPDATE temper_trials SET phase = 'running', revision = $2, claims = $3, claim = $4, worker = $5, \
                     lease_until = {now} + $6, losses = losses + $7 WHERE trial_id = $1 RETURNING losses";
                let cells = [
                    row.into(),
                    revision.into(),
                    claims.into(),
                    claim.as_str().into(),
                    worker.as_str().into(),
                    seconds.into(),
                    i64::from(losses.is_some()).into(),
                ];
                let lost = sql.first(text, &cells)?.map(|row| row.int(0)).transpose()?.unwrap_or(0);
                if losses.is_some_and(|losses| lost > i64::from(losses)) {
                    let reason = format!("{lost} workers were lost with it: it may be what ends them");
                    end(sql, row, "FAIL", Some(&reason))?;
                    // The claim's name is free again, for the one that it finds.
                    let text = "UPDATE temper_trials SET claim = $2 WHERE trial_id = $1";
                    sql.execute(text, &[row.into(), format!("{claim}/lost-{row}").as_str().into()])?;
                    continue;
                }
                let number = sql.first("SELECT number FROM trials WHERE trial_id = $1", &[row.into()])?;
                let Some(number) = number.map(|row| row.int(0)).transpose()? else {
                    return Err(StoreError::Study { study: name.clone(), what: "was deleted meanwhile".into() });
                };
                return Ok(Some(Lease { number: number as u64, row, claims }));
            }
        })?;
        self.refresh()?;
        let Some(lease) = lease else { return Ok(None) };
        let point = self.history.trial(lease.number).map(|trial| trial.point.clone()).unwrap_or_default();
        let checkpoint = self.artifacts(lease.number, "checkpoint")?.pop();
        Ok(Some(Claimed { lease, point, checkpoint }))
    }

    /// Ends the leases of a worker that is known to be gone, such as a process whose end was seen: its trials are stale at once, and
    /// nobody waits until they run out. Returns how many.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be written.
    pub fn release(&mut self, worker: &str) -> Result<u64> {
        let study = self.study;
        self.database.write(|sql| {
            let text =
                "UPDATE temper_trials SET lease_until = 0 WHERE study_id = $1 AND worker = $2 AND phase = 'running'";
            sql.execute(text, &[study.into(), worker.into()])
        })
    }
}

/// Counts a write of ours to the study. Writers of a study stand in line here until their transactions end.
pub(super) fn stamp(sql: &mut Sql<'_>, study: i64) -> Result<i64> {
    let text = "UPDATE temper_studies SET revision = revision + 1 WHERE study_id = $1 RETURNING revision";
    match sql.first(text, &[study.into()])? {
        Some(row) => row.int(0),
        None => Err(StoreError::Study { study: format!("of row {study}"), what: "was deleted meanwhile".into() }),
    }
}

/// Ends a trial that is running.
pub(super) fn end(sql: &mut Sql<'_>, row: i64, state: &str, reason: Option<&str>) -> Result<()> {
    let text = "UPDATE trials SET state = $2, datetime_complete = {utc} WHERE trial_id = $1";
    sql.execute(text, &[row.into(), state.into()])?;
    let text = "UPDATE temper_trials SET phase = 'done', reason = $2 WHERE trial_id = $1";
    sql.execute(text, &[row.into(), reason.into()]).map(drop)
}

/// Keeps an attribute of a trial in one of Optuna's tables.
pub(super) fn attribute(sql: &mut Sql<'_>, table: &str, row: i64, key: &str, json: &str) -> Result<()> {
    let text = format!(
        "INSERT INTO {table} (trial_id, key, value_json) VALUES ($1, $2, $3) \
         ON CONFLICT (trial_id, key) DO UPDATE SET value_json = excluded.value_json"
    );
    sql.execute(&text, &[row.into(), key.into(), json.into()]).map(drop)
}

/// The lease of a claim that was made before, whose answer was lost.
fn find_claim(sql: &mut Sql<'_>, claim: &str) -> Result<Option<Lease>> {
    let text = "SELECT t.number, x.trial_id, x.claims FROM temper_trials x JOIN trials t ON t.trial_id = x.trial_id \
         WHERE x.claim = $1";
    let lease =
        |row: super::database::Row| Ok(Lease { number: row.int(0)? as u64, row: row.int(1)?, claims: row.int(2)? });
    sql.first(text, &[claim.into()])?.map(lease).transpose()
}

/// The values that a trial is to have.
fn fixed(space: &Space, json: &str) -> std::result::Result<Point, String> {
    let Some(Json::Object(entries)) = from_python_json(json) else {
        return Err(format!("{json} is no list of values"));
    };
    let mut point = Point::new();
    for (name, json) in &entries {
        let value = optuna::value(json).ok_or_else(|| format!("{name}: {json} is no value of a recipe"))?;
        point.insert(name.clone(), value);
    }
    check_fixed(space, &point)?;
    Ok(point)
}

/// `chosen` with the values of `fixed`. What is active by these alone and was not chosen takes the middle of its scale.
fn completed(space: &Space, chosen: &Point, fixed: &Point) -> std::result::Result<Point, String> {
    let coordinate = |parameter: &Parameter| {
        let value = fixed.get(&parameter.name).or_else(|| chosen.get(&parameter.name));
        value.and_then(|value| parameter.domain.coordinate(value)).unwrap_or(0.5)
    };
    let mut point = space.point(&space.parameters().iter().map(coordinate).collect::<Vec<_>>());
    for (name, value) in fixed {
        // Exactly as they were given: a coordinate there and back may differ in the last bit.
        point.insert(name.clone(), value.clone());
    }
    space.check_point(&point).map(|()| point).map_err(|error| error.to_string())
}
