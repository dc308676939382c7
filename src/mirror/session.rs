//! A connection to the mirror's Postgres with timeouts for all operations, and the lock that excludes other runs.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use sqlx::postgres::{PgArguments, PgConnection};
use sqlx::query::Query;
use sqlx::{AssertSqlSafe, ConnectOptions, Connection, Postgres, Row, Transaction};

use super::error::MirrorError;
use crate::config::{DatabaseUrl, MirrorSettings};
use crate::model::{Resolution, host_name};
use crate::store::connect_options;

/// The timeout of connecting.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The time beyond its own statement timeout in which Postgres can report that the statement was too slow.
const TIMEOUT_GRACE: Duration = Duration::from_secs(5);
/// The number of attempts to take the lock, and the pause between them: a server notices the death of a client with a delay.
const MAX_LOCK_ATTEMPTS: u32 = 8;
const LOCK_PAUSE: Duration = Duration::from_millis(250);
/// The maximum length of an application name in Postgres, in bytes.
const MAX_NAME_BYTES: usize = 63;

/// The timeout of one statement, with the URL for errors.
#[derive(Debug, Clone)]
pub(super) struct TimedRunner {
    pub url: String,
    pub timeout: Duration,
}

impl TimedRunner {
    /// Awaits `work`, or fails after the timeout. After a timeout the connection is unusable.
    pub async fn run<T>(
        &self,
        doing: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, MirrorError> {
        self.run_within(self.timeout + TIMEOUT_GRACE, doing, work)
            .await
    }

    async fn run_within<T>(
        &self,
        limit: Duration,
        doing: &'static str,
        work: impl Future<Output = Result<T, sqlx::Error>>,
    ) -> Result<T, MirrorError> {
        match tokio::time::timeout(limit, work).await {
            Ok(done) => done.map_err(|source| MirrorError::database(&self.url, doing, source)),
            Err(_) => Err(MirrorError::TimedOut {
                url: self.url.clone(),
                doing,
                timeout: limit,
            }),
        }
    }
}

/// A connection. Dropping it rolls its transaction back.
pub(super) struct Session {
    connection: PgConnection,
    runner: TimedRunner,
    name: String,
}

/// A transaction in progress. Dropping it without a commit rolls it back.
pub(super) struct MirrorTransaction<'a> {
    transaction: Transaction<'a, Postgres>,
    patience: TimedRunner,
}

/// A connection for statements, in a transaction or outside one.
pub(super) struct Link<'a> {
    pub connection: &'a mut PgConnection,
    pub runner: &'a TimedRunner,
}

impl Link<'_> {
    /// Runs `work` within the timeout of one statement.
    pub async fn run<T>(
        &mut self,
        doing: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, MirrorError> {
        self.run_many(1, doing, work).await
    }

    /// Runs `work` within the timeout of `statements` statements.
    pub async fn run_many<T>(
        &mut self,
        statements: u32,
        doing: &'static str,
        work: impl AsyncFnOnce(&mut PgConnection) -> Result<T, sqlx::Error>,
    ) -> Result<T, MirrorError> {
        let limit = self.runner.timeout.saturating_mul(statements) + TIMEOUT_GRACE;
        self.runner
            .run_within(limit, doing, work(self.connection))
            .await
    }
}

/// Returns the statement for the table of this resolution, which replaces `data_x`.
pub(super) fn in_table(template: &str, resolution: Resolution) -> String {
    template.replace("data_x", resolution.table())
}

/// Returns the statement for the table of this resolution. The assertion of sqlx holds, because only constant table names
/// are inserted.
pub(super) fn for_table(template: &str, resolution: Resolution) -> AssertSqlSafe<String> {
    AssertSqlSafe(in_table(template, resolution))
}

type Statement<'q> = Query<'q, Postgres, PgArguments>;

/// Runs a statement; returns the number of affected rows.
pub(super) async fn execute(
    link: &mut Link<'_>,
    doing: &'static str,
    statement: Statement<'_>,
) -> Result<u64, MirrorError> {
    link.run(doing, async |connection| {
        let done = statement.execute(connection).await?;
        Ok(done.rows_affected())
    })
    .await
}

impl Session {
    /// Connects for a run.
    pub async fn open(url: &DatabaseUrl, settings: &MirrorSettings) -> Result<Self, MirrorError> {
        let timeout = settings.timeout.to_std().unwrap_or(CONNECT_TIMEOUT);
        Self::connect(url, timeout, timeout.min(CONNECT_TIMEOUT)).await
    }

    /// Connects for reading the status, with a short timeout.
    pub async fn open_with_timeout(
        url: &DatabaseUrl,
        limit: Duration,
    ) -> Result<Self, MirrorError> {
        Self::connect(url, limit, limit).await
    }

    async fn connect(
        url: &DatabaseUrl,
        timeout: Duration,
        connecting: Duration,
    ) -> Result<Self, MirrorError> {
        let runner = TimedRunner {
            url: url.to_string(),
            timeout,
        };
        let name = application_name();
        let options = connect_options(url)
            .map_err(|source| MirrorError::invalid_url(url, source))?
            .application_name(&name);
        let connection = runner
            .run_within(connecting, "connecting", options.connect())
            .await?;
        let mut session = Self {
            connection,
            runner,
            name,
        };
        session.prepare(timeout).await?;
        Ok(session)
    }

    async fn prepare(&mut self, timeout: Duration) -> Result<(), MirrorError> {
        // The server accepts milliseconds as a 32-bit integer.
        let timeout = timeout.as_millis().min(i32::MAX as u128).to_string();
        for (setting, value) in [
            ("statement_timeout", timeout.as_str()),
            ("lock_timeout", "0"),
            // The lake is read between two statements.
            ("idle_in_transaction_session_timeout", "0"),
            ("work_mem", "64MB"),
        ] {
            self.set_parameter(setting, value).await?;
        }
        // These release the lock of a dead run early. Not every server has or permits all of them.
        for (setting, value) in [
            ("client_connection_check_interval", "5s"),
            ("tcp_keepalives_idle", "30"),
            ("tcp_keepalives_interval", "10"),
            ("tcp_keepalives_count", "3"),
        ] {
            match self.set_parameter(setting, value).await {
                Err(MirrorError::Database { source, .. })
                    if source.as_database_error().is_some() =>
                {
                    tracing::debug!(setting, %source, "the server does not accept a setting");
                }
                set => set?,
            }
        }
        Ok(())
    }

    async fn set_parameter(&mut self, setting: &str, value: &str) -> Result<(), MirrorError> {
        let set = sqlx::query(include_str!("sql/setting.sql"))
            .bind(setting.to_owned())
            .bind(value.to_owned());
        self.link()
            .run("connecting", async |connection| {
                set.execute(connection).await.map(drop)
            })
            .await
    }

    /// Returns the connection for statements outside a transaction.
    pub fn link(&mut self) -> Link<'_> {
        Link {
            connection: &mut self.connection,
            runner: &self.runner,
        }
    }

    /// Begins a transaction.
    pub async fn begin(&mut self) -> Result<MirrorTransaction<'_>, MirrorError> {
        let begun = self.connection.begin_with(include_str!("sql/begin.sql"));
        Ok(MirrorTransaction {
            transaction: self.runner.run("beginning a transaction", begun).await?,
            patience: self.runner.clone(),
        })
    }

    /// Takes the lock, which is held until the connection closes.
    pub async fn lock(&mut self) -> Result<(), MirrorError> {
        for attempt in 1.. {
            let locked: bool = self
                .link()
                .run("taking the lock", async |connection| {
                    let lock = sqlx::query_scalar(include_str!("sql/lock.sql"));
                    lock.fetch_one(connection).await
                })
                .await?;
            if locked {
                break;
            }
            if attempt >= MAX_LOCK_ATTEMPTS {
                return Err(self.lock_holder_error().await?);
            }
            tokio::time::sleep(LOCK_PAUSE).await;
        }
        Ok(())
    }

    /// Returns an error that describes the holder of the lock.
    async fn lock_holder_error(&mut self) -> Result<MirrorError, MirrorError> {
        /// The name of its session and its description.
        type LockHolder = (Option<String>, String);
        let found: Option<LockHolder> = self
            .link()
            .run("reading who holds the lock", async |connection| {
                let holder = sqlx::query(include_str!("sql/lock_holder.sql"));
                let Some(row) = holder.fetch_optional(connection).await? else {
                    return Ok(None);
                };
                let name: Option<String> = row.try_get("application_name")?;
                let client: Option<String> = row.try_get("client")?;
                let since: Option<DateTime<Utc>> = row.try_get("backend_start")?;
                let pid: i32 = row.try_get("pid")?;
                let mut text = name
                    .clone()
                    .unwrap_or_else(|| "a run of another user".to_owned());
                if let Some(client) = client {
                    text.push_str(&format!(", from {client}"));
                }
                if let Some(since) = since {
                    let since = since.to_rfc3339_opts(SecondsFormat::Secs, true);
                    text.push_str(&format!(", since {since}"));
                }
                text.push_str(&format!(" (Postgres process {pid})"));
                Ok(Some((name, text)))
            })
            .await?;
        let (name, holder) = found.unwrap_or((None, "a run that has just ended".to_owned()));
        Ok(MirrorError::Held {
            url: self.runner.url.clone(),
            holder,
            is_own: name.is_some_and(|name| name == self.name),
        })
    }
}

impl MirrorTransaction<'_> {
    pub fn link(&mut self) -> Link<'_> {
        Link {
            connection: &mut self.transaction,
            runner: &self.patience,
        }
    }

    /// Commits the transaction.
    pub async fn commit(self) -> Result<(), MirrorError> {
        let committed = self.transaction.commit();
        self.patience.run("committing", committed).await
    }
}

/// Returns the name of this run in `pg_stat_activity`.
fn application_name() -> String {
    let name = format!(
        "plantlake mirror, process {} on {}",
        std::process::id(),
        host_name()
    );
    let end = name.floor_char_boundary(MAX_NAME_BYTES);
    name.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn for_table_replaces_the_table_name() {
        let sql = for_table(
            "DELETE FROM data_x USING y WHERE data_x.ctid = y.place",
            Resolution::Hour,
        );
        assert_eq!(
            sql.0,
            "DELETE FROM data_h USING y WHERE data_h.ctid = y.place"
        );
    }

    #[test]
    fn application_name_fits_into_postgres() {
        assert!(application_name().len() <= MAX_NAME_BYTES);
        assert!(application_name().contains(&std::process::id().to_string()));
    }
}
