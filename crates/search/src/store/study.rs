//! Opening a study, making it where it is not there.

use std::time::Duration;

use serde_json::{Value as Json, json};

use super::database::{Database, Result, Sql};
use super::{LEASE, Seen, Store, StoreError, connect, describe, optuna, schema, unique, without_password};
use crate::goals::{Direction, Goals};
use crate::history::History;
use crate::space::{Point, Space};

/// What a study is.
#[derive(Clone, Debug)]
pub struct Setup {
    /// Its name; at most 512 characters, as Optuna has it.
    pub name: String,
    /// What is searched.
    pub space: Space,
    /// What is sought.
    pub goals: Goals,
    /// What else is to be known of it by whoever works on it, such as the recipe.
    pub settings: Json,
    /// Points that are tried before a sampler is asked, from the first trial on.
    pub first: Vec<Point>,
}

/// How a study is opened.
#[derive(Clone, Debug)]
pub struct Opening {
    /// What the worker is called: a host's name, say. The process's number and a random one are put behind it.
    pub worker: String,
    /// How long a lease is. A worker that shows no sign of life for so long is lost.
    pub lease: Duration,
    /// Go on with another space than the study began with. What it holds of the older trials is learnt from, by name.
    pub change_space: bool,
}

impl Default for Opening {
    fn default() -> Self {
        Self { worker: "worker".into(), lease: LEASE, change_space: false }
    }
}

/// What is known of a study before it is opened.
#[derive(Clone, Debug, PartialEq)]
pub struct Known {
    /// Its name.
    pub name: String,
    /// What was given when it was made; none of a study that Optuna made.
    pub settings: Option<Json>,
}

impl Store {
    /// The studies at an address, by name. A file that is not there has none, and is not made.
    ///
    /// # Errors
    /// [`StoreError`] where there is no such address, or the database cannot be read.
    pub fn studies(address: &str) -> Result<Vec<Known>> {
        if let super::address::Address::Sqlite(path) = super::address::Address::parse(address)?
            && !path.exists()
        {
            return Ok(Vec::new());
        }
        let mut database = Database::new(connect(address)?);
        let rows = database.read(|sql| {
            let tables = schema::tables(sql)?;
            let is_there = |name: &str| tables.iter().any(|table| table == name);
            match (is_there("studies"), is_there("temper_studies")) {
                (false, _) => Ok(Vec::new()),
                (true, false) => sql.query("SELECT study_name, NULL FROM studies ORDER BY study_name", &[]),
                (true, true) => {
                    let text = "SELECT s.study_name, x.settings_json FROM studies s \
                         LEFT JOIN temper_studies x ON x.study_id = s.study_id ORDER BY s.study_name";
                    sql.query(text, &[])
                }
            }
        })?;
        let known = |row: &super::database::Row| {
            let settings = row.maybe_text(1)?.and_then(|text| serde_json::from_str(text).ok());
            Ok(Known { name: row.text(0)?.to_owned(), settings })
        };
        rows.iter().map(known).collect()
    }

    /// Opens the study of that name, and makes it where it is not there: a file's folder must be. One that Optuna made is opened as
    /// well; its trials are the history.
    ///
    /// # Errors
    /// [`StoreError`] where the address is none, the database cannot be opened or is of another version, or the study there has other
    /// goals, or another space and [`Opening::change_space`] is not set.
    pub fn open(address: &str, setup: &Setup, opening: &Opening) -> Result<Self> {
        let shown = without_password(address);
        let wrong = |what: String| StoreError::Study { study: setup.name.clone(), what };
        if setup.name.is_empty() || setup.name.chars().count() > 512 {
            return Err(wrong("expected a name of 1 to 512 characters".into()));
        }
        if let Some(name) = describe::inexact(&setup.space) {
            return Err(wrong(format!("{name}: whole numbers beyond 2^53 are not exact in an Optuna database")));
        }
        for point in &setup.first {
            check_fixed(&setup.space, point).map_err(|what| wrong(format!("a point to begin with: {what}")))?;
        }
        let worker = unique(&opening.worker);
        let mut database = Database::new(connect(address)?);
        let study = database.write(|sql| {
            schema::prepare(sql, &shown)?;
            let study = find_or_make(sql, setup)?;
            enter(sql, study, setup, opening.change_space)?;
            sql.execute(
                "INSERT INTO temper_workers (study_id, worker, started, seen) VALUES ($1, $2, {utc}, {now}) \
                 ON CONFLICT (study_id, worker) DO NOTHING",
                &[study.into(), worker.as_str().into()],
            )?;
            Ok(study)
        })?;
        let mut store = Self {
            database,
            address: shown,
            study,
            name: setup.name.clone(),
            worker,
            lease: opening.lease,
            claims: 0,
            history: History::new(setup.space.clone(), setup.goals.clone()),
            seen: Seen::default(),
        };
        store.refresh()?;
        Ok(store)
    }
}

/// The study's row; its directions must be those of the goals.
fn find_or_make(sql: &mut Sql<'_>, setup: &Setup) -> Result<i64> {
    let direction = |direction| if direction == Direction::Minimize { "MINIMIZE" } else { "MAXIMIZE" };
    let expected: Vec<&str> = setup.goals.objectives.iter().map(|objective| direction(objective.direction)).collect();
    let name = setup.name.as_str();
    if let Some(row) = sql.first("SELECT study_id FROM studies WHERE study_name = $1", &[name.into()])? {
        let study = row.int(0)?;
        let text = "SELECT direction FROM study_directions WHERE study_id = $1 ORDER BY objective";
        let rows = sql.query(text, &[study.into()])?;
        let found = rows.iter().map(|row| row.text(0)).collect::<Result<Vec<_>>>()?;
        if found != expected {
            let what = format!(
                "is there with other goals: its directions are {}, now {}; hint: give the study another name",
                found.join(", "),
                expected.join(", ")
            );
            return Err(StoreError::Study { study: name.to_owned(), what });
        }
        return Ok(study);
    }
    let text = "INSERT INTO studies (study_name) VALUES ($1) RETURNING study_id";
    let Some(row) = sql.first(text, &[name.into()])? else {
        return Err(StoreError::Damaged { study: name.to_owned(), what: "its row was not written".into() });
    };
    let study = row.int(0)?;
    for (index, direction) in expected.into_iter().enumerate() {
        let text = "INSERT INTO study_directions (direction, study_id, objective) VALUES ($1, $2, $3)";
        sql.execute(text, &[direction.into(), study.into(), (index as i64).into()])?;
    }
    let names: Vec<&str> = setup.goals.objectives.iter().map(|objective| objective.name.as_str()).collect();
    sql.execute(
        "INSERT INTO study_system_attributes (study_id, key, value_json) VALUES ($1, 'study:metric_names', $2)",
        &[study.into(), json!(names).to_string().into()],
    )?;
    Ok(study)
}

/// Our row of the study. Where it is there, what it was made with must be what is given.
fn enter(sql: &mut Sql<'_>, study: i64, setup: &Setup, change_space: bool) -> Result<()> {
    let wrong = |what: String| Err(StoreError::Study { study: setup.name.clone(), what });
    let (space, goals) = (describe::space(&setup.space), describe::goals(&setup.goals));
    lock(sql, study, &setup.name)?;
    let text = "SELECT space_json, goals_json FROM temper_studies WHERE study_id = $1";
    let Some(row) = sql.first(text, &[study.into()])? else {
        let text = "INSERT INTO temper_studies (study_id, format, revision, space_json, goals_json, settings_json) \
             VALUES ($1, $2, 0, $3, $4, $5)";
        let settings = setup.settings.to_string();
        let cells =
            [study.into(), schema::FORMAT.into(), space.to_string().into(), goals.to_string().into(), settings.into()];
        sql.execute(text, &cells)?;
        return setup.first.iter().try_for_each(|point| wait(sql, study, point).map(drop));
    };
    let read = |column| -> Result<Json> {
        serde_json::from_str(row.text(column)?).map_err(|error| StoreError::Damaged {
            study: setup.name.clone(),
            what: format!("temper_studies, study_id {study}: {error}"),
        })
    };
    let other = describe::differences(&read(1)?, &goals);
    if !other.is_empty() {
        let what = "is there with other goals, whose values are not to be compared; hint: give the study another name";
        return wrong(format!("{what}:\n  {}", other.join("\n  ")));
    }
    let other = describe::differences(&read(0)?, &space);
    if other.is_empty() {
        return Ok(());
    }
    if !change_space {
        let what = "is there with another space; hint: give the study another name, or say that its space is to be changed: \
             trials so far then count as far as the new space holds their values";
        return wrong(format!("{what}:\n  {}", other.join("\n  ")));
    }
    let text = "UPDATE temper_studies SET space_json = $2 WHERE study_id = $1";
    sql.execute(text, &[study.into(), space.to_string().into()]).map(drop)
}

/// Nobody else begins a trial of the study until the transaction ends, Optuna neither.
pub(super) fn lock(sql: &mut Sql<'_>, study: i64, name: &str) -> Result<()> {
    match sql.first("SELECT study_id FROM studies WHERE study_id = $1 {locked}", &[study.into()])? {
        Some(_) => Ok(()),
        None => Err(StoreError::Study { study: name.to_owned(), what: "was deleted meanwhile".into() }),
    }
}

/// Puts a trial in the line of those that wait to be begun, as Optuna's `enqueue_trial` does, and returns its number. The study must
/// be locked.
pub(super) fn wait(sql: &mut Sql<'_>, study: i64, point: &Point) -> Result<u64> {
    let fixed = optuna::object(point);
    let text = "SELECT t.number FROM trials t JOIN trial_system_attributes a ON a.trial_id = t.trial_id \
         WHERE t.study_id = $1 AND t.state = 'WAITING' AND a.key = 'fixed_params' AND a.value_json = $2";
    if let Some(row) = sql.first(text, &[study.into(), fixed.as_str().into()])? {
        return Ok(row.int(0)? as u64);
    }
    let (row, number) = insert(sql, study, "'WAITING', NULL")?;
    let text = "INSERT INTO trial_system_attributes (trial_id, key, value_json) VALUES ($1, 'fixed_params', $2)";
    sql.execute(text, &[row.into(), fixed.into()])?;
    Ok(number)
}

/// A new trial of the study, which must be locked: its row and its number. `state` is its state and when it began, as SQL.
pub(super) fn insert(sql: &mut Sql<'_>, study: i64, state: &str) -> Result<(i64, u64)> {
    // As Optuna counts: trials of the study that were there before.
    let text = format!(
        "INSERT INTO trials (study_id, number, state, datetime_start) \
         VALUES ($1, (SELECT COUNT(*) FROM trials WHERE study_id = $1), {state}) RETURNING trial_id, number"
    );
    match sql.first(&text, &[study.into()])? {
        Some(row) => Ok((row.int(0)?, row.int(1)? as u64)),
        None => Err(StoreError::Damaged { study: study.to_string(), what: "a trial's row was not written".into() }),
    }
}

/// Checks values that are to be tried: each is of the space. Others may be left open.
pub(super) fn check_fixed(space: &Space, point: &Point) -> std::result::Result<(), String> {
    for (name, value) in point {
        let Some(parameter) = space.parameter(name) else {
            return Err(format!("{name} is no parameter of the space"));
        };
        if parameter.domain.coordinate(value).is_none() {
            return Err(format!("{name}: {value} is not in its domain"));
        }
    }
    Ok(())
}
