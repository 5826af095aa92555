//! SQLite: one file, no server; many processes of one machine.
//!
//! **Durability.** The journal is a write-ahead log. Nothing that was committed is lost with a process, however it ends: it is in the
//! system's hands. For a power cut the log must be on the disk, which costs some milliseconds. So a connection waits for the disk with
//! its first commit after [`SYNC_EVERY`] (`synchronous=FULL`), and with the others not (`NORMAL`): what lies seconds apart, as the
//! steps of real trials do, is all on the disk, and a study of trials of milliseconds does not wait a thousand times. A power cut
//! loses at most what was committed since the last wait, never consistency; workers that train keep that below a heartbeat's interval.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rusqlite::types::{ToSqlOutput, Value, ValueRef};
use rusqlite::{ErrorCode, OpenFlags};

use super::StoreError;
use super::address::network_file_system;
use super::database::{Access, Cell, Connection, Dialect, Result, Row};

/// A commit waits for the disk when the last one that did is longer ago than this.
const SYNC_EVERY: Duration = Duration::from_secs(1);
/// How long SQLite itself waits for another writer: a transaction of ours takes milliseconds, but 32 processes may stand in line.
const BUSY: Duration = Duration::from_secs(30);
/// Statements kept ready; more than we have.
const STATEMENTS: usize = 128;

static DIALECT: Dialect = Dialect {
    argument: '?',
    is_postgres: false,
    words: &[
        // Seconds since 1970, with milliseconds.
        ("{now}", "((julianday('now') - 2440587.5) * 86400.0)"),
        // As SQLAlchemy writes it: naive UTC with six decimals.
        ("{utc}", "strftime('%Y-%m-%d %H:%M:%f000', 'now')"),
        // A writer has the whole file.
        ("{locked}", ""),
        ("{serial}", "INTEGER"),
        ("{float}", "FLOAT"),
        ("{datetime}", "DATETIME"),
        ("{studydirection}", "VARCHAR(8)"),
        ("{trialstate}", "VARCHAR(8)"),
        ("{trialvaluetype}", "VARCHAR(7)"),
        ("{trialintermediatevaluetype}", "VARCHAR(7)"),
        ("{of_study}", ""),
        ("{of_trial}", ""),
        ("{tables}", "(SELECT name FROM sqlite_master WHERE type = 'table')"),
        ("{alone}", "SELECT 1"),
    ],
};

pub(super) struct Sqlite {
    path: PathBuf,
    connection: rusqlite::Connection,
    /// When a commit of this connection last waited for the disk.
    synced: Option<Instant>,
    /// Whether a commit waits now.
    full: bool,
    /// Whether the transaction may write.
    writes: bool,
}

impl Sqlite {
    /// Opens the file, or makes it.
    pub fn open(path: &Path) -> Result<Self> {
        let wrong =
            |what: String| StoreError::Database { database: path.display().to_string(), what, transient: false };
        let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let folder = parent.canonicalize().map_err(|error| wrong(format!("its folder cannot be opened: {error}")))?;
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if let Some(kind) = network_file_system(&folder, &mounts) {
            return Err(wrong(format!(
                "lies on a network file system ({kind}), where SQLite's locks and shared memory do not hold and the file would be \
                 damaged; hint: put it on a disk of this machine, or use a PostgreSQL server: postgres://USER@HOST/DATABASE"
            )));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let open = || -> rusqlite::Result<(rusqlite::Connection, String)> {
            let connection = rusqlite::Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(STATEMENTS);
            let mode = connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            connection.pragma_update(None, "synchronous", "normal")?;
            Ok((connection, mode))
        };
        let begun = Instant::now();
        loop {
            // SQLite does not wait for other processes when it changes the journal.
            match open().map_err(|error| failed(path, &error)) {
                Ok((connection, mode)) if mode == "wal" => {
                    return Ok(Self { path: path.to_owned(), connection, synced: None, full: false, writes: false });
                }
                Ok((_, mode)) => {
                    return Err(wrong(format!("its journal cannot be a write-ahead log: it stays {mode}")));
                }
                Err(error) if error.is_transient() && begun.elapsed() < BUSY => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn done<T>(&self, result: rusqlite::Result<T>) -> Result<T> {
        result.map_err(|error| failed(&self.path, &error))
    }
}

fn failed(path: &Path, error: &rusqlite::Error) -> StoreError {
    let code = error.sqlite_error_code();
    let transient = matches!(code, Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked));
    let hint = match code {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => "; hint: another process holds it for long",
        Some(ErrorCode::NotADatabase) => "; hint: this file is something else",
        Some(ErrorCode::DiskFull) => "; hint: make room, and start the same command again: nothing written is lost",
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; hint: its folder must be there and writable, for the log beside it too"
        }
        _ => "",
    };
    StoreError::Database { database: path.display().to_string(), what: format!("{error}{hint}"), transient }
}

impl rusqlite::ToSql for Cell {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(match self {
            Self::Null => ToSqlOutput::Owned(Value::Null),
            Self::Int(value) => ToSqlOutput::Owned(Value::Integer(*value)),
            Self::Real(value) => ToSqlOutput::Owned(Value::Real(*value)),
            Self::Text(value) => ToSqlOutput::Borrowed(ValueRef::Text(value.as_bytes())),
        })
    }
}

impl Connection for Sqlite {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn begin(&mut self, access: Access) -> Result<()> {
        self.writes = access == Access::Write;
        let sql = match access {
            Access::Read => "BEGIN DEFERRED",
            Access::Write => {
                let full = self.synced.is_none_or(|synced| synced.elapsed() >= SYNC_EVERY);
                if full != self.full {
                    let mode = if full { "full" } else { "normal" };
                    self.done(self.connection.pragma_update(None, "synchronous", mode))?;
                    self.full = full;
                }
                // Whoever reads first and writes then may find that another wrote in between, and cannot wait for it.
                "BEGIN IMMEDIATE"
            }
        };
        self.execute(sql, &[]).map(drop)
    }

    fn commit(&mut self) -> Result<()> {
        self.execute("COMMIT", &[])?;
        if self.full && self.writes {
            self.synced = Some(Instant::now());
        }
        Ok(())
    }

    fn rollback(&mut self) {
        if !self.connection.is_autocommit() {
            // Where even this fails, the file is closed with the process, and what was not committed is gone.
            drop(self.execute("ROLLBACK", &[]));
        }
    }

    fn query(&mut self, sql: &str, arguments: &[Cell]) -> Result<Vec<Row>> {
        let run = || -> rusqlite::Result<Vec<Row>> {
            let mut statement = self.connection.prepare_cached(sql)?;
            let columns = statement.column_count();
            let mut rows = statement.query(rusqlite::params_from_iter(arguments))?;
            let mut found = Vec::new();
            while let Some(row) = rows.next()? {
                let cell = |column| {
                    Ok(match row.get_ref(column)? {
                        ValueRef::Null => Cell::Null,
                        ValueRef::Integer(value) => Cell::Int(value),
                        ValueRef::Real(value) => Cell::Real(value),
                        ValueRef::Text(text) | ValueRef::Blob(text) => {
                            Cell::Text(String::from_utf8_lossy(text).into_owned())
                        }
                    })
                };
                found.push(Row((0..columns).map(cell).collect::<rusqlite::Result<_>>()?));
            }
            Ok(found)
        };
        self.done(run())
    }

    fn execute(&mut self, sql: &str, arguments: &[Cell]) -> Result<u64> {
        let run = || {
            let mut statement = self.connection.prepare_cached(sql)?;
            statement.execute(rusqlite::params_from_iter(arguments))
        };
        self.done(run()).map(|changed| changed as u64)
    }

    fn recover(&mut self) -> Result<()> {
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Connection>> {
        Ok(Box::new(Self::open(&self.path)?))
    }
}
