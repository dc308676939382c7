//! Inspects the organisation database without changing it: the server's version and time, and the version of the
//! schema.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::migrate::SCHEMA;
use super::postgres::connect_options;
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::store::error::StoreError;

/// The maximum duration of an inspection.
const EXAMINE_TIMEOUT: Duration = Duration::from_secs(5);
const SENDERS_SQL: &str = include_str!("../sql/grants_senders.sql");
/// The table of the applied migration steps.
const MIGRATIONS_TABLE: &str = "_sqlx_migrations";

/// Facts about a Postgres server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// The version as the server reports it: `17.2 (Debian 17.2-1)`.
    pub version: String,
    /// The version as a number: 170002.
    pub number: i64,
    /// The server's time.
    pub now: DateTime<Utc>,
    /// Whether the server is a standby, which accepts no changes.
    pub is_standby: bool,
    /// Whether the connected user may create tables.
    pub may_create: bool,
}

/// The result of inspecting the organisation database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Facts about the server; `None` for SQLite.
    pub server: Option<ServerFacts>,
    /// The last migration step applied; `None` if there is no schema yet.
    pub schema: Option<i64>,
    /// The last migration step that this program knows.
    pub newest: i64,
    /// The organisations that [`senders_without_write_grant`](crate::store::organisation_store::OrganisationStore::senders_without_write_grant)
    /// returns, if the schema is the newest.
    pub senders_without_write_grant: Vec<String>,
}

/// Returns facts about the Postgres server of a connection.
pub async fn server_facts(connection: &mut PgConnection) -> Result<ServerFacts, sqlx::Error> {
    let row = sqlx::query(include_str!("../sql/server_facts.postgres.sql"))
        .fetch_one(connection)
        .await?;
    Ok(ServerFacts {
        version: row.try_get("version")?,
        number: row.try_get("number")?,
        now: row.try_get("now")?,
        is_standby: row.try_get("is_standby")?,
        may_create: row.try_get("may_create")?,
    })
}

/// Inspects the database. A missing SQLite file is not created.
pub async fn examine(url: &DatabaseUrl) -> Result<Examination, StoreError> {
    let unreachable = |source| StoreError::unreachable(url, source);
    let looking = async {
        match url.kind() {
            DatabaseKind::Sqlite(path) if !path.exists() => Ok((None, None, Vec::new())),
            DatabaseKind::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true);
                let mut connection = options.connect().await?;
                let schema = last_step(&mut connection).await;
                // `last_step` hides errors; this query shows whether the file can be read at all.
                sqlx::query("PRAGMA schema_version")
                    .execute(&mut connection)
                    .await?;
                let senders = match schema {
                    Some(SCHEMA) => {
                        sqlx::query_scalar(SENDERS_SQL)
                            .fetch_all(&mut connection)
                            .await?
                    }
                    _ => Vec::new(),
                };
                connection.close().await?;
                Ok((None, schema, senders))
            }
            DatabaseKind::Postgres => {
                let mut connection = connect_options(url)?.connect().await?;
                let facts = server_facts(&mut connection).await?;
                let schema = last_step(&mut connection).await;
                let senders = match schema {
                    Some(SCHEMA) => {
                        sqlx::query_scalar(SENDERS_SQL)
                            .fetch_all(&mut connection)
                            .await?
                    }
                    _ => Vec::new(),
                };
                connection.close().await?;
                Ok((Some(facts), schema, senders))
            }
        }
    };
    let looked = tokio::time::timeout(EXAMINE_TIMEOUT, looking).await;
    let looked = looked.unwrap_or_else(|_| {
        let silent = std::io::Error::from(std::io::ErrorKind::TimedOut);
        Err(sqlx::Error::Io(silent))
    });
    let (server, schema, senders_without_write_grant) = looked.map_err(unreachable)?;
    Ok(Examination {
        server,
        schema,
        newest: SCHEMA,
        senders_without_write_grant,
    })
}

/// Returns the last step applied, if there is one. Before the first, the table of steps does not exist.
async fn last_step<C: Migrate>(connection: &mut C) -> Option<i64> {
    let made = connection
        .list_applied_migrations(MIGRATIONS_TABLE)
        .await
        .ok()?;
    made.iter().map(|step| step.version).max()
}
