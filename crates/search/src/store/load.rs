//! Reading trials into the history: all of them once, then what changed.

use std::collections::{BTreeMap, HashMap, HashSet};

use temper_run::from_python_json;

use super::database::{Result, Row, Sql};
use super::{Store, StoreError, optuna};
use crate::goals::Goals;
use crate::space::{Domain, Point};
use crate::trial::{Measured, Report, State, Trial};

/// More rows than this are not named one by one.
const NAMED: usize = 200;

/// A trial from which more is to come.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Open {
    /// Not begun; with the values that it is to have, as JSON.
    Waiting { number: u64, fixed: String },
    /// Ours, in this state.
    Ours(State),
    /// Optuna's.
    Foreign,
}

/// One row of `trials`.
struct Head {
    row: i64,
    number: u64,
    state: Option<State>,
    reason: Option<String>,
    ours: bool,
}

/// What was read.
#[derive(Default)]
struct News {
    revision: i64,
    trials: u64,
    heads: Vec<Head>,
    filled: Vec<(i64, Trial)>,
    waiting: Vec<(i64, u64, String)>,
}

impl Store {
    /// Brings the history up to date: with what this worker, others, and Optuna wrote.
    ///
    /// # Errors
    /// [`StoreError`] where the database cannot be read, holds what nobody writes, or the study was deleted.
    pub fn refresh(&mut self) -> Result<()> {
        let (study, name, goals, seen) = (self.study, &self.name, self.history.goals(), &self.seen);
        let news = self.database.read(|sql| news(sql, study, name, goals, seen))?;
        let Some(news) = news else { return Ok(()) };
        self.seen.revision = news.revision;
        self.seen.trials = news.trials;
        for head in &news.heads {
            self.seen.last = self.seen.last.max(head.row);
            self.seen.rows.insert(head.number, head.row);
            let open = match head.state {
                None => None,
                Some(state) if state.is_finished() => None,
                Some(state) => Some(if head.ours { Open::Ours(state) } else { Open::Foreign }),
            };
            match open {
                Some(open) => drop(self.seen.open.insert(head.row, open)),
                None => drop(self.seen.open.remove(&head.row)),
            }
        }
        for (row, number, fixed) in news.waiting {
            self.seen.open.insert(row, Open::Waiting { number, fixed });
        }
        for (_, trial) in news.filled {
            self.history.put(trial);
        }
        Ok(())
    }
}

/// What is new since `seen`; none where nothing is.
fn news(sql: &mut Sql<'_>, study: i64, name: &str, goals: &Goals, seen: &super::Seen) -> Result<Option<News>> {
    let text = "SELECT x.revision, (SELECT COUNT(*) FROM trials WHERE study_id = $1) FROM temper_studies x WHERE x.study_id = $1";
    let Some(row) = sql.first(text, &[study.into()])? else {
        return Err(StoreError::Study { study: name.to_owned(), what: "was deleted meanwhile".into() });
    };
    let mut news = News { revision: row.int(0)?, trials: row.int(1)? as u64, ..News::default() };
    // The study's own trials without a list of them, where it is read for the first time.
    let which = if seen.last == 0 {
        format!("IN (SELECT trial_id FROM trials WHERE study_id = {study})")
    } else {
        let changed = changed(sql, study, seen, &news)?;
        match changed.len() {
            0 => return Ok(None),
            // So many that a list would be longer than what it leaves out.
            NAMED.. => format!("IN (SELECT trial_id FROM trials WHERE study_id = {study})"),
            _ => {
                let rows: Vec<String> = changed.iter().map(i64::to_string).collect();
                format!("IN ({})", rows.join(", "))
            }
        }
    };
    fill(sql, &which, name, goals, &mut news)?;
    Ok(Some(news))
}

/// The rows of trials that are not as they were.
fn changed(sql: &mut Sql<'_>, study: i64, seen: &super::Seen, news: &News) -> Result<Vec<i64>> {
    let mut rows = HashSet::new();
    if news.revision != seen.revision {
        let text = "SELECT trial_id FROM temper_trials WHERE study_id = $1 AND revision > $2";
        for row in sql.query(text, &[study.into(), seen.revision.into()])? {
            rows.insert(row.int(0)?);
        }
    }
    if news.trials != seen.trials {
        let text = "SELECT trial_id FROM trials WHERE study_id = $1 AND trial_id > $2";
        for row in sql.query(text, &[study.into(), seen.last.into()])? {
            rows.insert(row.int(0)?);
        }
    }
    // Leases run out without a write, and Optuna's writes have no revision.
    if !seen.open.is_empty() {
        let open: Vec<String> = seen.open.keys().map(i64::to_string).collect();
        let text = format!("SELECT {HEAD} WHERE t.trial_id IN ({})", open.join(", "));
        for row in sql.query(&text, &[])? {
            let head = head(&row)?;
            let is_same = match seen.open.get(&head.row) {
                Some(Open::Ours(state)) => head.state == Some(*state),
                Some(Open::Waiting { .. }) => head.state.is_none(),
                Some(Open::Foreign) | None => false,
            };
            if !is_same {
                rows.insert(head.row);
            }
        }
    }
    Ok(rows.into_iter().collect())
}

/// What [`head`] reads.
const HEAD: &str = "t.trial_id, t.number, t.state, x.phase, x.reason, CASE WHEN x.lease_until < {now} THEN 1 ELSE 0 END \
     FROM trials t LEFT JOIN temper_trials x ON x.trial_id = t.trial_id";

fn head(row: &Row) -> Result<Head> {
    let (phase, is_late) = (row.maybe_text(3)?, row.int(5)? == 1);
    let state = match row.text(2)? {
        "WAITING" => None,
        "COMPLETE" => Some(State::Complete),
        "PRUNED" => Some(State::Pruned),
        "FAIL" => Some(State::Failed),
        _ => Some(match phase {
            Some("paused") => State::Paused,
            Some(_) if is_late => State::Stale,
            _ => State::Running,
        }),
    };
    let reason = row.maybe_text(4)?.map(str::to_owned);
    Ok(Head { row: row.int(0)?, number: row.int(1)? as u64, state, reason, ours: phase.is_some() })
}

/// Reads the trials whose row is `which`.
fn fill(sql: &mut Sql<'_>, which: &str, study: &str, goals: &Goals, news: &mut News) -> Result<()> {
    let damaged = |what: String| StoreError::Damaged { study: study.to_owned(), what };
    let text = format!("SELECT {HEAD} WHERE t.trial_id {which} ORDER BY t.trial_id");
    news.heads = sql.query(&text, &[])?.iter().map(head).collect::<Result<_>>()?;
    let mut points = points(sql, which)?;
    let mut reports = reports(sql, which, study)?;
    if news.heads.iter().any(|head| !head.ours) {
        intermediate(sql, which, &mut reports)?;
    }
    let mut values = values(sql, which, goals.objectives.len())?;
    let mut attributes: HashMap<i64, Vec<(String, String)>> = HashMap::new();
    let text = format!(
        "SELECT trial_id, key, value_json FROM trial_system_attributes WHERE trial_id {which} \
         AND (key LIKE 'constraints%' OR key = 'fixed_params')"
    );
    for row in sql.query(&text, &[])? {
        let entry = (row.text(1)?.to_owned(), row.maybe_text(2)?.unwrap_or("null").to_owned());
        attributes.entry(row.int(0)?).or_default().push(entry);
    }
    let mut numbers = HashSet::new();
    for head in &news.heads {
        let attributes = attributes.remove(&head.row).unwrap_or_default();
        if !numbers.insert(head.number) {
            return Err(damaged(format!("two trials have number {}", head.number)));
        }
        let Some(state) = head.state else {
            let fixed = attributes.into_iter().find(|(key, _)| key == "fixed_params").map(|(_, json)| json);
            news.waiting.push((head.row, head.number, fixed.unwrap_or_else(|| "{}".into())));
            continue;
        };
        let reports: Vec<Report> = reports.remove(&head.row).unwrap_or_default().into_values().collect();
        let values = values.remove(&head.row);
        let result = match state {
            State::Complete => {
                let values = values.unwrap_or_else(|| vec![f64::NAN; goals.objectives.len()]);
                Some(Measured { values, constraints: constraints(&attributes, goals) })
            }
            State::Pruned => match (reports.last(), values) {
                (Some(last), _) => Some(last.measured.clone()),
                (None, Some(values)) => Some(Measured { values, constraints: constraints(&attributes, goals) }),
                (None, None) => None,
            },
            _ => None,
        };
        let point = points.remove(&head.row).unwrap_or_default();
        let trial = Trial { number: head.number, state, point, reports, result, reason: head.reason.clone() };
        news.filled.push((head.row, trial));
    }
    Ok(())
}

/// The points. A value whose distribution cannot be read, or which is none of it, is passed over: another program's.
fn points(sql: &mut Sql<'_>, which: &str) -> Result<HashMap<i64, Point>> {
    let text =
        format!("SELECT trial_id, param_name, param_value, distribution_json FROM trial_params WHERE trial_id {which}");
    let (mut points, mut domains) = (HashMap::<i64, Point>::new(), HashMap::<String, Option<Domain>>::new());
    for row in sql.query(&text, &[])? {
        let distribution = row.maybe_text(3)?.unwrap_or_default();
        if !domains.contains_key(distribution) {
            domains.insert(distribution.to_owned(), optuna::domain(distribution));
        }
        let value = domains[distribution].as_ref().zip(row.real(2)?);
        if let Some(value) = value.and_then(|(domain, number)| optuna::value_of(domain, number)) {
            points.entry(row.int(0)?).or_default().insert(row.text(1)?.to_owned(), value);
        }
    }
    Ok(points)
}

/// Reports of trials that are ours, by step.
fn reports(sql: &mut Sql<'_>, which: &str, study: &str) -> Result<HashMap<i64, BTreeMap<u64, Report>>> {
    let text = format!("SELECT trial_id, step, measured_json, items_json FROM temper_reports WHERE trial_id {which}");
    let mut reports = HashMap::<i64, BTreeMap<u64, Report>>::new();
    for row in sql.query(&text, &[])? {
        let (trial, step) = (row.int(0)?, row.int(1)? as u64);
        let Some(measured) = measured(row.text(2)?) else {
            let what = format!("temper_reports, trial_id {trial}, step {step}: no measurement");
            return Err(StoreError::Damaged { study: study.to_owned(), what });
        };
        let items = row.maybe_text(3)?.map_or_else(Vec::new, items);
        reports.entry(trial).or_default().insert(step, Report { items, ..Report::new(step, measured) });
    }
    Ok(reports)
}

/// Scores of single items, of each objective.
fn items(text: &str) -> Vec<Vec<f64>> {
    let json: Option<serde_json::Value> = serde_json::from_str(text).ok();
    let objectives = json.as_ref().and_then(serde_json::Value::as_array).into_iter().flatten();
    let scores = |one: &serde_json::Value| {
        one.as_array().into_iter().flatten().map(|json| optuna::float(json).unwrap_or(f64::NAN)).collect()
    };
    objectives.map(scores).collect()
}

/// What was reported in Optuna.
fn intermediate(sql: &mut Sql<'_>, which: &str, reports: &mut HashMap<i64, BTreeMap<u64, Report>>) -> Result<()> {
    let text = format!(
        "SELECT trial_id, step, intermediate_value, intermediate_value_type FROM trial_intermediate_values \
         WHERE trial_id {which} AND trial_id NOT IN (SELECT trial_id FROM temper_trials)"
    );
    for row in sql.query(&text, &[])? {
        // Optuna takes steps below 0 too.
        let Ok(step) = u64::try_from(row.int(1)?) else { continue };
        let values = vec![optuna::from_columns(row.real(2)?, row.text(3)?)];
        let report = Report::new(step, Measured { values, constraints: Vec::new() });
        reports.entry(row.int(0)?).or_default().insert(step, report);
    }
    Ok(())
}

fn values(sql: &mut Sql<'_>, which: &str, objectives: usize) -> Result<HashMap<i64, Vec<f64>>> {
    let text = format!("SELECT trial_id, objective, value, value_type FROM trial_values WHERE trial_id {which}");
    let mut values = HashMap::<i64, Vec<f64>>::new();
    for row in sql.query(&text, &[])? {
        let of = values.entry(row.int(0)?).or_insert_with(|| vec![f64::NAN; objectives]);
        if let Some(place) = usize::try_from(row.int(1)?).ok().and_then(|objective| of.get_mut(objective)) {
            *place = optuna::from_columns(row.real(2)?, row.text(3)?);
        }
    }
    Ok(values)
}

/// The constraints in the order of the goals, NaN where one is missing. Optuna keeps one attribute for each, and before 5.0 kept a
/// list of all.
fn constraints(attributes: &[(String, String)], goals: &Goals) -> Vec<f64> {
    let read = |key: &str| from_python_json(&attributes.iter().find(|(name, _)| name == key)?.1);
    let list = read("constraints");
    let one = |(index, name): (usize, &String)| {
        let own = read(&format!("constraints:{name}"));
        let json = own.as_ref().or_else(|| list.as_ref()?.get(index));
        json.and_then(optuna::float).unwrap_or(f64::NAN)
    };
    goals.constraints.iter().enumerate().map(one).collect()
}

/// A measurement as [`temper_run::to_json`] wrote it.
pub(super) fn measured(text: &str) -> Option<Measured> {
    let json: serde_json::Value = serde_json::from_str(text).ok()?;
    let floats = |key: &str| json.get(key)?.as_array()?.iter().map(optuna::float).collect::<Option<_>>();
    Some(Measured { values: floats("values")?, constraints: floats("constraints")? })
}
