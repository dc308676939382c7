//! Looks at the organisation database, and changes nothing: which server it is, how far its schema is, what time it is there.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::migrate::Migrate;
use sqlx::postgres::PgConnection;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection, Row};

use super::error::StoreError;
use super::migrate::SCHEMA;
use super::postgres::connect_options;
use crate::config::{DatabaseKind, DatabaseUrl};

/// How long one who only looks waits.
const LOOKING: Duration = Duration::from_secs(5);
const SENDERS: &str = include_str!("sql/grants_senders.sql");
/// Where the steps that were made are written down.
const MADE: &str = "_sqlx_migrations";

/// What there is to know of a Postgres.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerFacts {
    /// Its version, as it says it: `17.2 (Debian 17.2-1)`.
    pub version: String,
    /// The same as a number: 170002.
    pub number: i64,
    /// What time it is there.
    pub now: DateTime<Utc>,
    /// Whether it follows another, and takes no changes.
    pub is_standby: bool,
    /// Whether this user may make tables.
    pub may_create: bool,
}

/// What there is to know of the organisation database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Examination {
    /// Of the server; none for SQLite.
    pub server: Option<ServerFacts>,
    /// The last step of the schema that was made; none if there is no schema yet.
    pub schema: Option<i64>,
    /// The last step that this program knows.
    pub newest: i64,
    /// The organisations of [`senders_without_write_grant`](super::OrganisationStore::senders_without_write_grant), if the
    /// schema is the newest.
    pub senders_without_write_grant: Vec<String>,
}

/// Asks a Postgres what it is.
pub async fn server_facts(connection: &mut PgConnection) -> Result<ServerFacts, sqlx::Error> {
    let row = sqlx::query(include_str!("sql/server_facts.postgres.sql"))
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

/// Looks at the database; a SQLite file that is not there is not made.
pub async fn examine(url: &DatabaseUrl) -> Result<Examination, StoreError> {
    let unreachable = |source| StoreError::unreachable(url, source);
    let looking = async {
        match url.kind() {
            DatabaseKind::Sqlite(path) if !path.exists() => Ok((None, None, Vec::new())),
            DatabaseKind::Sqlite(path) => {
                let options = SqliteConnectOptions::new().filename(path).read_only(true);
                let mut connection = options.connect().await?;
                let schema = last_step(&mut connection).await;
                // That it can be read at all is told by asking it something.
                sqlx::query("PRAGMA schema_version")
                    .execute(&mut connection)
                    .await?;
                let senders = match schema {
                    Some(SCHEMA) => {
                        sqlx::query_scalar(SENDERS)
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
                        sqlx::query_scalar(SENDERS)
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
    let looked = tokio::time::timeout(LOOKING, looking).await;
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

/// The last step that was made, if any was: before the first there is no table of them.
async fn last_step<C: Migrate>(connection: &mut C) -> Option<i64> {
    let made = connection.list_applied_migrations(MADE).await.ok()?;
    made.iter().map(|step| step.version).max()
}
