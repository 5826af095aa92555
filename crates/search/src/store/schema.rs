//! The tables: Optuna's own, to the column, and ours beside them.
//!
//! Optuna's are those of its releases 3.2 to 5.0 (Alembic revision `v3.2.0.a`), so that `optuna.load_study` and `optuna-dashboard`
//! open the database and Optuna goes on with a study. Ours begin with `temper_`; Optuna does not look at them, and what it deletes
//! there goes here with it.

use super::StoreError;
use super::database::{Result, Sql};

/// The state of Optuna's schema: the newest one since its release 3.2.
pub(super) const REVISION: &str = "v3.2.0.a";
/// The number that Optuna keeps beside it, and no longer changes.
const SCHEMA_VERSION: i64 = 12;
/// The release of Optuna whose tables these are.
const LIBRARY_VERSION: &str = "5.0.0";
/// Of our own tables. A database of another one is refused.
pub(super) const FORMAT: i64 = 1;

/// The types that PostgreSQL has for states and kinds; in SQLite they are texts.
const TYPES: [&str; 4] = [
    "CREATE TYPE studydirection AS ENUM ('NOT_SET', 'MINIMIZE', 'MAXIMIZE')",
    "CREATE TYPE trialstate AS ENUM ('RUNNING', 'COMPLETE', 'PRUNED', 'FAIL', 'WAITING')",
    "CREATE TYPE trialvaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG')",
    "CREATE TYPE trialintermediatevaluetype AS ENUM ('FINITE', 'INF_POS', 'INF_NEG', 'NAN')",
];

const OPTUNA: [&str; 15] = [
    "CREATE TABLE studies (study_id {serial} NOT NULL, study_name VARCHAR(512) NOT NULL, PRIMARY KEY (study_id))",
    "CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name)",
    "CREATE TABLE study_directions (study_direction_id {serial} NOT NULL, direction {studydirection} NOT NULL, \
     study_id INTEGER NOT NULL, objective INTEGER NOT NULL, PRIMARY KEY (study_direction_id), UNIQUE (study_id, objective), \
     FOREIGN KEY (study_id) REFERENCES studies (study_id))",
    "CREATE TABLE study_user_attributes (study_user_attribute_id {serial} NOT NULL, study_id INTEGER, key VARCHAR(512), \
     value_json TEXT, PRIMARY KEY (study_user_attribute_id), UNIQUE (study_id, key), \
     FOREIGN KEY (study_id) REFERENCES studies (study_id))",
    "CREATE TABLE study_system_attributes (study_system_attribute_id {serial} NOT NULL, study_id INTEGER, key VARCHAR(512), \
     value_json TEXT, PRIMARY KEY (study_system_attribute_id), UNIQUE (study_id, key), \
     FOREIGN KEY (study_id) REFERENCES studies (study_id))",
    "CREATE TABLE trials (trial_id {serial} NOT NULL, number INTEGER, study_id INTEGER, state {trialstate} NOT NULL, \
     datetime_start {datetime}, datetime_complete {datetime}, PRIMARY KEY (trial_id), \
     FOREIGN KEY (study_id) REFERENCES studies (study_id))",
    "CREATE INDEX ix_trials_study_id ON trials (study_id)",
    "CREATE TABLE trial_user_attributes (trial_user_attribute_id {serial} NOT NULL, trial_id INTEGER, key VARCHAR(512), \
     value_json TEXT, PRIMARY KEY (trial_user_attribute_id), UNIQUE (trial_id, key), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_system_attributes (trial_system_attribute_id {serial} NOT NULL, trial_id INTEGER, key VARCHAR(512), \
     value_json TEXT, PRIMARY KEY (trial_system_attribute_id), UNIQUE (trial_id, key), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_params (param_id {serial} NOT NULL, trial_id INTEGER, param_name VARCHAR(512), param_value {float}, \
     distribution_json TEXT, PRIMARY KEY (param_id), UNIQUE (trial_id, param_name), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_values (trial_value_id {serial} NOT NULL, trial_id INTEGER NOT NULL, objective INTEGER NOT NULL, \
     value {float}, value_type {trialvaluetype} NOT NULL, PRIMARY KEY (trial_value_id), UNIQUE (trial_id, objective), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_intermediate_values (trial_intermediate_value_id {serial} NOT NULL, trial_id INTEGER NOT NULL, \
     step INTEGER NOT NULL, intermediate_value {float}, intermediate_value_type {trialintermediatevaluetype} NOT NULL, \
     PRIMARY KEY (trial_intermediate_value_id), UNIQUE (trial_id, step), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE trial_heartbeats (trial_heartbeat_id {serial} NOT NULL, trial_id INTEGER NOT NULL, \
     heartbeat {datetime} NOT NULL, PRIMARY KEY (trial_heartbeat_id), UNIQUE (trial_id), \
     FOREIGN KEY (trial_id) REFERENCES trials (trial_id))",
    "CREATE TABLE version_info (version_info_id INTEGER NOT NULL, schema_version INTEGER, library_version VARCHAR(256), \
     PRIMARY KEY (version_info_id), CHECK (version_info_id = 1))",
    "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))",
];

const OURS: [&str; 8] = [
    // What is searched and how. `revision` counts the writes of ours to the study: a reader asks for what is newer than it has.
    "CREATE TABLE temper_studies (study_id INTEGER NOT NULL PRIMARY KEY {of_study}, format INTEGER NOT NULL, \
     revision BIGINT NOT NULL, space_json TEXT NOT NULL, goals_json TEXT NOT NULL, settings_json TEXT NOT NULL)",
    // Whatever else is to be kept of a study, by name.
    "CREATE TABLE temper_state (study_id INTEGER NOT NULL {of_study}, key VARCHAR(512) NOT NULL, value_json TEXT NOT NULL, \
     PRIMARY KEY (study_id, key))",
    "CREATE TABLE temper_workers (study_id INTEGER NOT NULL {of_study}, worker VARCHAR(512) NOT NULL, started {datetime} NOT NULL, \
     seen {float} NOT NULL, PRIMARY KEY (study_id, worker))",
    // The lease of each trial of ours. `phase`: running, paused, done. `claims` counts those who had the lease: whoever holds an
    // older count has lost it. `claim` names the claim itself, so that one whose answer was lost is found again. `losses` counts the
    // workers that were lost with it.
    "CREATE TABLE temper_trials (trial_id INTEGER NOT NULL PRIMARY KEY {of_trial}, study_id INTEGER NOT NULL, \
     revision BIGINT NOT NULL, phase VARCHAR(8) NOT NULL, claims INTEGER NOT NULL, claim VARCHAR(512) NOT NULL UNIQUE, \
     worker VARCHAR(512) NOT NULL, lease_until {float} NOT NULL, losses INTEGER NOT NULL, tokens BIGINT NOT NULL, \
     seconds {float} NOT NULL, reason TEXT)",
    "CREATE INDEX temper_trials_revision ON temper_trials (study_id, revision)",
    // Measurements on the way, of all objectives and constraints; and of single evaluation items where they were given.
    "CREATE TABLE temper_reports (trial_id INTEGER NOT NULL {of_trial}, step BIGINT NOT NULL, measured_json TEXT NOT NULL, \
     items_json TEXT, PRIMARY KEY (trial_id, step))",
    // Paths by what they are, such as `checkpoint`.
    "CREATE TABLE temper_artifacts (trial_id INTEGER NOT NULL {of_trial}, name VARCHAR(512) NOT NULL, step BIGINT NOT NULL, \
     path TEXT NOT NULL, PRIMARY KEY (trial_id, name, step))",
    "CREATE TABLE temper_format (format INTEGER NOT NULL)",
];

/// Optuna's connections to SQLite do not heed foreign keys, and numbers of deleted rows are given again.
const FORGET: [&str; 2] = [
    "CREATE TRIGGER temper_forget_trial AFTER DELETE ON trials BEGIN \
     DELETE FROM temper_artifacts WHERE trial_id = OLD.trial_id; DELETE FROM temper_reports WHERE trial_id = OLD.trial_id; \
     DELETE FROM temper_trials WHERE trial_id = OLD.trial_id; END",
    "CREATE TRIGGER temper_forget_study AFTER DELETE ON studies BEGIN \
     DELETE FROM temper_workers WHERE study_id = OLD.study_id; DELETE FROM temper_state WHERE study_id = OLD.study_id; \
     DELETE FROM temper_studies WHERE study_id = OLD.study_id; END",
];

/// The names of the tables that are there.
pub(super) fn tables(sql: &mut Sql<'_>) -> Result<Vec<String>> {
    let rows = sql.query("SELECT name FROM {tables} AS tables", &[])?;
    rows.iter().map(|row| row.text(0).map(str::to_owned)).collect()
}

/// Makes the tables that are not there, and checks that the others are those that we know.
pub(super) fn prepare(sql: &mut Sql<'_>, database: &str) -> Result<()> {
    let wrong = |what: String| StoreError::Database { database: database.to_owned(), what, transient: false };
    sql.query("{alone}", &[])?;
    let tables = tables(sql)?;
    let is_there = |name: &str| tables.iter().any(|table| table == name);
    if is_there("studies") {
        let version = match is_there("alembic_version") {
            true => sql.first("SELECT version_num FROM alembic_version", &[])?,
            false => None,
        };
        let version = version.as_ref().map(|row| row.text(0)).transpose()?.unwrap_or("none");
        if version != REVISION {
            return Err(wrong(format!(
                "its tables are of another Optuna: expected schema {REVISION} (Optuna 3.2 to 5.0), got {version}; hint: bring it up to \
                 date by `optuna storage upgrade --storage URL`"
            )));
        }
    } else {
        if sql.is_postgres() {
            run(sql, &TYPES)?;
        }
        run(sql, &OPTUNA)?;
        sql.execute(
            "INSERT INTO version_info (version_info_id, schema_version, library_version) VALUES (1, $1, $2)",
            &[SCHEMA_VERSION.into(), LIBRARY_VERSION.into()],
        )?;
        sql.execute("INSERT INTO alembic_version (version_num) VALUES ($1)", &[REVISION.into()])?;
    }
    if !is_there("temper_format") {
        run(sql, &OURS)?;
        if !sql.is_postgres() {
            run(sql, &FORGET)?;
        }
        sql.execute("INSERT INTO temper_format (format) VALUES ($1)", &[FORMAT.into()])?;
    }
    let format = sql.first("SELECT format FROM temper_format", &[])?.map(|row| row.int(0)).transpose()?;
    if format != Some(FORMAT) {
        return Err(wrong(format!("was written by another Temper: expected format {FORMAT}, got {format:?}")));
    }
    Ok(())
}

fn run(sql: &mut Sql<'_>, statements: &[&str]) -> Result<()> {
    statements.iter().try_for_each(|statement| sql.execute(statement, &[]).map(drop))
}
