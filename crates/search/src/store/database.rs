//! One SQL for both databases: what differs between them is a handful of words, and how a connection is made.

use std::time::{Duration, Instant};

use super::StoreError;

pub(super) type Result<T> = std::result::Result<T, StoreError>;

/// How long an operation is tried again while the database is locked, restarts or cannot be reached.
const PATIENCE: Duration = Duration::from_secs(60);
/// The first wait before it is tried again; each further one is twice as long, up to a second.
const FIRST_WAIT: Duration = Duration::from_millis(5);

/// One cell of a row, or one argument.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Int(i64),
    Real(f64),
    Text(String),
}

impl From<i64> for Cell {
    fn from(value: i64) -> Self {
        Self::Int(value)
    }
}

impl From<f64> for Cell {
    fn from(value: f64) -> Self {
        Self::Real(value)
    }
}

impl From<&str> for Cell {
    fn from(value: &str) -> Self {
        Self::Text(value.to_owned())
    }
}

impl From<String> for Cell {
    fn from(value: String) -> Self {
        Self::Text(value)
    }
}

impl<T: Into<Cell>> From<Option<T>> for Cell {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

/// One row of an answer.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Row(pub Vec<Cell>);

impl Row {
    /// The whole number in a column.
    pub fn int(&self, column: usize) -> Result<i64> {
        match self.0.get(column) {
            Some(Cell::Int(value)) => Ok(*value),
            other => Err(unexpected(column, "a whole number", other)),
        }
    }

    /// The number in a column; none where it is NULL.
    pub fn real(&self, column: usize) -> Result<Option<f64>> {
        match self.0.get(column) {
            Some(Cell::Real(value)) => Ok(Some(*value)),
            Some(Cell::Int(value)) => Ok(Some(*value as f64)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected(column, "a number", other)),
        }
    }

    /// The text in a column; none where it is NULL.
    pub fn maybe_text(&self, column: usize) -> Result<Option<&str>> {
        match self.0.get(column) {
            Some(Cell::Text(value)) => Ok(Some(value)),
            Some(Cell::Null) => Ok(None),
            other => Err(unexpected(column, "a text", other)),
        }
    }

    /// The text in a column.
    pub fn text(&self, column: usize) -> Result<&str> {
        self.maybe_text(column)?.ok_or_else(|| unexpected(column, "a text", None))
    }
}

fn unexpected(column: usize, expected: &str, got: Option<&Cell>) -> StoreError {
    let what = format!("expected {expected} in column {}, got {got:?}", column + 1);
    StoreError::Database { database: "an answer".into(), what, transient: false }
}

/// The words in which the databases differ. In our SQL they stand in braces; arguments are `$1`, `$2`, ..
pub(super) struct Dialect {
    /// Word and what it means here.
    pub words: &'static [(&'static str, &'static str)],
    /// What an argument's number follows.
    pub argument: char,
    /// PostgreSQL: enumerations are types, and deleted rows take along what belongs to them, whoever deletes.
    pub is_postgres: bool,
}

impl Dialect {
    /// Our SQL as this database reads it.
    pub fn translate(&self, sql: &str) -> String {
        let mut text = if self.argument == '$' { sql.to_owned() } else { sql.replace('$', &self.argument.to_string()) };
        if text.contains('{') {
            for (word, meaning) in self.words {
                text = text.replace(word, meaning);
            }
        }
        text
    }
}

/// What a transaction may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// See one state of the database.
    Read,
    /// Change it.
    Write,
}

/// A connection to a database, in or out of a transaction.
pub(super) trait Connection: Send {
    fn dialect(&self) -> &'static Dialect;
    fn begin(&mut self, access: Access) -> Result<()>;
    fn commit(&mut self) -> Result<()>;
    fn rollback(&mut self);
    /// Runs translated SQL and returns the rows.
    fn query(&mut self, sql: &str, arguments: &[Cell]) -> Result<Vec<Row>>;
    /// Runs translated SQL and returns how many rows it changed.
    fn execute(&mut self, sql: &str, arguments: &[Cell]) -> Result<u64>;
    /// Connects anew where the connection was lost.
    fn recover(&mut self) -> Result<()>;
    /// A second connection to the same database.
    fn another(&self) -> Result<Box<dyn Connection>>;
}

/// A database, asked in transactions.
pub(super) struct Database {
    connection: Box<dyn Connection>,
}

/// The inside of a transaction.
pub(super) struct Sql<'a> {
    connection: &'a mut dyn Connection,
}

impl Database {
    pub fn new(connection: Box<dyn Connection>) -> Self {
        Self { connection }
    }

    /// A second connection to the same database, for another thread.
    pub fn another(&self) -> Result<Self> {
        Ok(Self { connection: self.connection.another()? })
    }

    /// Runs `work` as one transaction that sees one state.
    pub fn read<T>(&mut self, work: impl FnMut(&mut Sql<'_>) -> Result<T>) -> Result<T> {
        self.transaction(Access::Read, work)
    }

    /// Runs `work` as one transaction: all of it is written or nothing. It is run again, whole, where the database was locked, found a
    /// deadlock or went away, for as long as our patience lasts. Whether a commit arrived cannot be known when the connection breaks
    /// meanwhile: `work` must find out itself that it was done before.
    pub fn write<T>(&mut self, work: impl FnMut(&mut Sql<'_>) -> Result<T>) -> Result<T> {
        self.transaction(Access::Write, work)
    }

    fn transaction<T>(&mut self, access: Access, mut work: impl FnMut(&mut Sql<'_>) -> Result<T>) -> Result<T> {
        let (begun, mut wait) = (Instant::now(), FIRST_WAIT);
        loop {
            let error = match self.once(access, &mut work) {
                Err(error) if error.is_transient() && begun.elapsed() < PATIENCE => error,
                other => return other,
            };
            std::thread::sleep(wait);
            wait = (wait * 2).min(Duration::from_secs(1));
            match self.connection.recover() {
                Err(lost) if !lost.is_transient() => return Err(error),
                _ => {}
            }
        }
    }

    fn once<T>(&mut self, access: Access, work: &mut impl FnMut(&mut Sql<'_>) -> Result<T>) -> Result<T> {
        self.connection.begin(access)?;
        let done = work(&mut Sql { connection: &mut *self.connection });
        let done = done.and_then(|value| self.connection.commit().map(|()| value));
        if done.is_err() {
            self.connection.rollback();
        }
        done
    }
}

impl Sql<'_> {
    /// Whether this is PostgreSQL.
    pub fn is_postgres(&self) -> bool {
        self.connection.dialect().is_postgres
    }

    /// Runs SQL and returns the rows.
    pub fn query(&mut self, sql: &str, arguments: &[Cell]) -> Result<Vec<Row>> {
        self.connection.query(&self.connection.dialect().translate(sql), arguments)
    }

    /// Runs SQL and returns the first row, if there is one.
    pub fn first(&mut self, sql: &str, arguments: &[Cell]) -> Result<Option<Row>> {
        Ok(self.query(sql, arguments)?.into_iter().next())
    }

    /// Runs SQL and returns how many rows it changed.
    pub fn execute(&mut self, sql: &str, arguments: &[Cell]) -> Result<u64> {
        self.connection.execute(&self.connection.dialect().translate(sql), arguments)
    }
}
