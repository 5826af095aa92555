//! PostgreSQL: one server, many machines.
//!
//! **Durability** is the server's: with its own setting (`synchronous_commit=on`) nothing that was committed is lost by a power cut.

use std::collections::HashMap;
use std::time::Duration;

use postgres::config::{Config, SslMode};
use postgres::error::SqlState;
use postgres::types::private::BytesMut;
use postgres::types::{FromSql, IsNull, Kind, ToSql, Type};
use postgres::{Client, NoTls, Statement};

use super::StoreError;
use super::address::without_password;
use super::database::{Access, Cell, Connection, Dialect, Result, Row};

/// How long the server may take to answer at first, where the address does not say (`connect_timeout`).
const CONNECT: Duration = Duration::from_secs(10);

static DIALECT: Dialect = Dialect {
    argument: '$',
    is_postgres: true,
    words: &[
        ("{now}", "CAST(extract(epoch FROM clock_timestamp()) AS float8)"),
        ("{utc}", "(clock_timestamp() AT TIME ZONE 'utc')"),
        // As Optuna does before it gives a number.
        ("{locked}", "FOR UPDATE"),
        ("{serial}", "SERIAL"),
        ("{float}", "FLOAT(53)"),
        ("{datetime}", "TIMESTAMP WITHOUT TIME ZONE"),
        ("{studydirection}", "studydirection"),
        ("{trialstate}", "trialstate"),
        ("{trialvaluetype}", "trialvaluetype"),
        ("{trialintermediatevaluetype}", "trialintermediatevaluetype"),
        ("{of_study}", "REFERENCES studies (study_id) ON DELETE CASCADE"),
        ("{of_trial}", "REFERENCES trials (trial_id) ON DELETE CASCADE"),
        (
            "{tables}",
            "(SELECT CAST(table_name AS text) AS name FROM information_schema.tables WHERE table_schema = current_schema())",
        ),
        // Two that open a new database at once make its tables one after the other. The number is ours alone: "temper" in ASCII.
        ("{alone}", "SELECT CAST(pg_advisory_xact_lock(127970252678514) AS text)"),
    ],
};

pub(super) struct Postgres {
    config: Config,
    address: String,
    client: Client,
    statements: HashMap<String, Statement>,
}

impl Postgres {
    /// Connects.
    pub fn open(url: &str) -> Result<Self> {
        let address = without_password(url);
        let wrong = |what: String| StoreError::Address { address: address.clone(), what };
        let mut config: Config = url.parse().map_err(|error| wrong(format!("{error}")))?;
        if config.get_ssl_mode() == SslMode::Require {
            return Err(wrong(
                "sslmode=require is not supported: this build speaks to PostgreSQL without TLS; hint: leave sslmode out within a \
                 network that is trusted, or forward the port through SSH"
                    .into(),
            ));
        }
        if config.get_connect_timeout().is_none() {
            config.connect_timeout(CONNECT);
        }
        if config.get_application_name().is_none() {
            config.application_name("temper");
        }
        let client = connect(&config, &address)?;
        Ok(Self { config, address, client, statements: HashMap::new() })
    }

    fn prepared(&mut self, sql: &str) -> Result<Statement> {
        if let Some(statement) = self.statements.get(sql) {
            return Ok(statement.clone());
        }
        let statement = self.client.prepare(sql).map_err(|error| failed(&self.address, &error))?;
        // What names trials by number is asked once; the rest is a few dozen texts.
        if !sql.contains(" IN (") {
            self.statements.insert(sql.to_owned(), statement.clone());
        }
        Ok(statement)
    }
}

fn connect(config: &Config, address: &str) -> Result<Client> {
    config.connect(NoTls).map_err(|error| failed(address, &error))
}

fn failed(address: &str, error: &postgres::Error) -> StoreError {
    const AGAIN: [SqlState; 6] = [
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::ADMIN_SHUTDOWN,
        SqlState::CRASH_SHUTDOWN,
        SqlState::CANNOT_CONNECT_NOW,
        SqlState::TOO_MANY_CONNECTIONS,
    ];
    let transient = match error.code() {
        Some(code) => AGAIN.contains(code) || code.code().starts_with("08"),
        None => error.is_closed() || is_io(error),
    };
    let what = error.as_db_error().map_or_else(|| chain(error), |said| said.message().to_owned());
    StoreError::Database { database: address.to_owned(), what, transient }
}

/// An error with what caused it.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

fn is_io(error: &postgres::Error) -> bool {
    std::error::Error::source(error).is_some_and(|cause| cause.is::<std::io::Error>())
}

type Fault = Box<dyn std::error::Error + Sync + Send>;

/// A cell goes as whatever type the server found for its place.
impl ToSql for Cell {
    fn to_sql(&self, kind: &Type, out: &mut BytesMut) -> std::result::Result<IsNull, Fault> {
        match (self, kind) {
            (Self::Null, _) => Ok(IsNull::Yes),
            (Self::Int(value), &Type::INT4) => i32::try_from(*value)?.to_sql(kind, out),
            (Self::Int(value), &Type::FLOAT8) => (*value as f64).to_sql(kind, out),
            (Self::Int(value), _) => value.to_sql(&Type::INT8, out),
            (Self::Real(value), _) => value.to_sql(&Type::FLOAT8, out),
            (Self::Text(value), _) => {
                // A NUL is valid in UTF-8 and in SQLite, but no text of PostgreSQL holds one.
                value.replace('\0', "\u{fffd}").to_sql(&Type::TEXT, out)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    postgres::types::to_sql_checked!();
}

impl<'a> FromSql<'a> for Cell {
    fn from_sql(kind: &Type, raw: &'a [u8]) -> std::result::Result<Self, Fault> {
        Ok(match *kind {
            Type::INT4 => Self::Int(i64::from(i32::from_sql(kind, raw)?)),
            Type::INT8 => Self::Int(i64::from_sql(kind, raw)?),
            Type::FLOAT8 => Self::Real(f64::from_sql(kind, raw)?),
            _ => Self::Text(std::str::from_utf8(raw)?.to_owned()),
        })
    }

    fn from_sql_null(_: &Type) -> std::result::Result<Self, Fault> {
        Ok(Self::Null)
    }

    fn accepts(kind: &Type) -> bool {
        const KNOWN: [Type; 6] = [Type::INT4, Type::INT8, Type::FLOAT8, Type::TEXT, Type::VARCHAR, Type::NAME];
        KNOWN.contains(kind) || matches!(kind.kind(), Kind::Enum(_))
    }
}

/// The arguments as the client takes them.
fn borrowed(arguments: &[Cell]) -> Vec<&(dyn ToSql + Sync)> {
    arguments.iter().map(|cell| cell as &(dyn ToSql + Sync)).collect()
}

impl Connection for Postgres {
    fn dialect(&self) -> &'static Dialect {
        &DIALECT
    }

    fn begin(&mut self, access: Access) -> Result<()> {
        let sql = match access {
            Access::Read => "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY",
            // Each statement sees what others committed before it: whoever waited for a lock sees what was done under it.
            Access::Write => "BEGIN ISOLATION LEVEL READ COMMITTED",
        };
        self.client.batch_execute(sql).map_err(|error| failed(&self.address, &error))
    }

    fn commit(&mut self) -> Result<()> {
        self.client.batch_execute("COMMIT").map_err(|error| failed(&self.address, &error))
    }

    fn rollback(&mut self) {
        // Where the connection is lost, the server rolls back by itself.
        drop(self.client.batch_execute("ROLLBACK"));
    }

    fn query(&mut self, sql: &str, arguments: &[Cell]) -> Result<Vec<Row>> {
        let statement = self.prepared(sql)?;
        let rows =
            self.client.query(&statement, &borrowed(arguments)).map_err(|error| failed(&self.address, &error))?;
        let row = |row: &postgres::Row| {
            let cell = |column| row.try_get(column).map_err(|error| failed(&self.address, &error));
            (0..row.len()).map(cell).collect::<Result<_>>().map(Row)
        };
        rows.iter().map(row).collect()
    }

    fn execute(&mut self, sql: &str, arguments: &[Cell]) -> Result<u64> {
        let statement = self.prepared(sql)?;
        self.client.execute(&statement, &borrowed(arguments)).map_err(|error| failed(&self.address, &error))
    }

    fn recover(&mut self) -> Result<()> {
        if self.client.is_closed() {
            self.client = connect(&self.config, &self.address)?;
            self.statements.clear();
        }
        Ok(())
    }

    fn another(&self) -> Result<Box<dyn Connection>> {
        let client = connect(&self.config, &self.address)?;
        Ok(Box::new(Self {
            config: self.config.clone(),
            address: self.address.clone(),
            client,
            statements: HashMap::new(),
        }))
    }
}
