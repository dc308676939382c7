//! A common interface to both databases: statements, values and rows with the same meaning in SQLite and Postgres.
//!
//! Each statement is one text for both, with parameters `$1`, `$2`, …. SQLite has no types for ids and times and stores
//! them as text: ids in lower case, times in UTC with six decimals, so that the order of the texts is the order in
//! time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SubsecRound, Utc};
use ecow::EcoString;
use foldhash::fast::RandomState;
use futures::TryStreamExt;
use sqlx::postgres::{PgArguments, PgPool, PgPoolOptions, PgRow};
use sqlx::sqlite::{
    SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions,
    SqliteRow, SqliteSynchronous,
};
use sqlx::{AssertSqlSafe, Decode, Postgres, Row as _, SqlSafeStr, Sqlite, Transaction, Type};
use uuid::Uuid;

use super::postgres::{connect_options, log_slow_statements_at_debug};
use super::sqlite_file::MigrationLock;
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::model::{Month, micros};
use crate::store::error::StoreError;

/// The maximum time that a statement waits for a connection, or for another process that writes.
const BUSY_TIMEOUT: Duration = Duration::from_secs(20);
/// The maximum wait for a connection of a caller that retries anyway.
const SHORT_ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// The maximum number of connections of a process.
const MAX_CONNECTIONS: u32 = 8;

/// A pool of connections.
#[derive(Debug, Clone)]
pub(in crate::store) enum Database {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// A parameter of a statement; `None` is null.
#[derive(Debug, Clone)]
pub(in crate::store) enum Value {
    Text(Option<Arc<str>>),
    Integer(Option<i64>),
    Number(Option<f64>),
    Boolean(bool),
    Id(Option<Uuid>),
    Time(Option<DateTime<Utc>>),
    Bytes(Vec<u8>),
}

/// A row of a result.
pub(in crate::store) enum Row {
    Sqlite(SqliteRow),
    Postgres(PgRow),
}

/// A transaction. It is rolled back if dropped without a commit.
pub(in crate::store) enum StoreTransaction {
    Sqlite(Transaction<'static, Sqlite>),
    Postgres(Transaction<'static, Postgres>),
}

/// A target on which statements can run: the database or a transaction.
pub(in crate::store) trait Executor {
    /// Returns all rows of the result.
    async fn rows(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StoreError>;
    /// Runs the statement. Returns the number of changed rows.
    async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StoreError>;

    /// Returns the first row of the result, if there is one.
    async fn row(
        &mut self,
        sql: &'static str,
        values: &[Value],
    ) -> Result<Option<Row>, StoreError> {
        Ok(self.rows(sql, values).await?.into_iter().next())
    }
}

impl Database {
    /// Connects. A missing SQLite file is created, accessible to its owner only.
    pub async fn connect(url: &DatabaseUrl) -> Result<Self, StoreError> {
        let connected = match url.kind() {
            DatabaseKind::Sqlite(path) => {
                super::sqlite_file::create_if_missing(path)?;
                // Two processes that switch a new file to WAL mode at the same time do not wait for each other: one of
                // them fails.
                let _alone = MigrationLock::acquire(path).await?;
                let options = SqliteConnectOptions::new()
                    .filename(path)
                    .create_if_missing(true)
                    .journal_mode(SqliteJournalMode::Wal)
                    // A committed change survives a power failure.
                    .synchronous(SqliteSynchronous::Full)
                    .foreign_keys(true)
                    .busy_timeout(BUSY_TIMEOUT);
                let pool = sqlite_pool(MAX_CONNECTIONS)
                    .connect_with(log_slow_statements_at_debug(options));
                pool.await.map(Self::Sqlite)
            }
            DatabaseKind::Postgres => {
                let options = connect_options(url)
                    .map_err(|source| StoreError::unreachable(url, source))?
                    .application_name("plantlake");
                let pool = PgPoolOptions::new()
                    .max_connections(MAX_CONNECTIONS)
                    .acquire_timeout(BUSY_TIMEOUT)
                    .connect_with(options);
                pool.await.map(Self::Postgres)
            }
        };
        connected.map_err(|source| StoreError::unreachable(url, source))
    }

    /// Returns a single further connection to the same database, opened on first use. Its user does not hold up those
    /// that share the other connections.
    pub fn with_own_connection(&self) -> Self {
        match self {
            Self::Sqlite(pool) => {
                let options = (*pool.connect_options()).clone();
                Self::Sqlite(sqlite_pool(1).connect_lazy_with(options))
            }
            Self::Postgres(pool) => {
                let options = (*pool.connect_options()).clone();
                let one = PgPoolOptions::new().max_connections(1);
                let one = one.acquire_timeout(SHORT_ACQUIRE_TIMEOUT);
                Self::Postgres(one.connect_lazy_with(options))
            }
        }
    }

    /// Closes all connections.
    pub async fn close(&self) {
        match self {
            Self::Sqlite(pool) => pool.close().await,
            Self::Postgres(pool) => pool.close().await,
        }
    }

    /// Begins a read transaction, which sees the database as it is at the transaction's first statement.
    pub async fn snapshot(&self) -> Result<StoreTransaction, StoreError> {
        let mut snapshot = self.begin().await?;
        if let Self::Postgres(_) = self {
            let alike = include_str!("../sql/snapshot.postgres.sql");
            snapshot.execute(alike, values![]).await?;
        }
        Ok(snapshot)
    }

    /// Begins a transaction.
    pub async fn begin(&self) -> Result<StoreTransaction, StoreError> {
        Ok(match self {
            Self::Sqlite(pool) => StoreTransaction::Sqlite(pool.begin().await?),
            Self::Postgres(pool) => StoreTransaction::Postgres(pool.begin().await?),
        })
    }
}

fn sqlite_pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new()
        .max_connections(connections)
        .acquire_timeout(BUSY_TIMEOUT)
        // A connection to a file is never lost, and a test takes as long as a small statement.
        .test_before_acquire(false)
}

impl StoreTransaction {
    /// Commits the transaction.
    pub async fn commit(self) -> Result<(), StoreError> {
        match self {
            Self::Sqlite(transaction) => transaction.commit().await?,
            Self::Postgres(transaction) => transaction.commit().await?,
        }
        Ok(())
    }

    /// Passes the rows of a result to `take` one by one, because they may not fit in memory. The statement consists
    /// only of names that the database itself returned and of texts of this program.
    pub async fn for_each_row<E: From<StoreError>>(
        &mut self,
        sql: String,
        values: &[Value],
        mut take: impl FnMut(&Row) -> Result<(), E>,
    ) -> Result<(), E> {
        let sql = AssertSqlSafe(sql);
        match self {
            Self::Sqlite(change) => {
                let mut rows = sqlite(sql, values).fetch(&mut **change);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    take(&Row::Sqlite(row))?;
                }
            }
            Self::Postgres(change) => {
                let mut rows = postgres(sql, values).fetch(&mut **change);
                while let Some(row) = rows.try_next().await.map_err(StoreError::from)? {
                    take(&Row::Postgres(row))?;
                }
            }
        }
        Ok(())
    }

    /// Runs a statement that contains names that the database itself returned.
    pub async fn execute_dynamic(&mut self, sql: &str, values: &[Value]) -> Result<(), StoreError> {
        let sql = AssertSqlSafe(sql.to_owned());
        match self {
            Self::Sqlite(change) => sqlite(sql, values).execute(&mut **change).await.map(drop)?,
            Self::Postgres(change) => {
                postgres(sql, values)
                    .execute(&mut **change)
                    .await
                    .map(drop)?;
            }
        }
        Ok(())
    }
}

type SqliteQuery = sqlx::query::Query<'static, Sqlite, SqliteArguments>;
type PostgresQuery = sqlx::query::Query<'static, Postgres, PgArguments>;

fn sqlite(sql: impl SqlSafeStr, values: &[Value]) -> SqliteQuery {
    // Statements with many rows repeat few ids. Each distinct id is formatted and allocated once, because another
    // thread has to free the texts.
    let mut texts: HashMap<Uuid, Arc<str>, RandomState> = HashMap::default();
    let mut text_of = |id: Uuid| {
        let text = texts.entry(id).or_insert_with(|| id.to_string().into());
        Arc::clone(text)
    };
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Integer(number) => query.bind(*number),
            Value::Number(number) => query.bind(*number),
            Value::Boolean(boolean) => query.bind(*boolean),
            Value::Id(id) => query.bind(id.map(&mut text_of)),
            Value::Time(time) => query.bind(time.as_ref().map(micros::text)),
            Value::Bytes(bytes) => query.bind(bytes.clone()),
        })
}

fn postgres(sql: impl SqlSafeStr, values: &[Value]) -> PostgresQuery {
    values
        .iter()
        .fold(sqlx::query(sql), |query, value| match value {
            Value::Text(text) => query.bind(text.clone()),
            Value::Integer(number) => query.bind(*number),
            Value::Number(number) => query.bind(*number),
            Value::Boolean(boolean) => query.bind(*boolean),
            Value::Id(id) => query.bind(*id),
            // Postgres stores microseconds.
            Value::Time(time) => query.bind(time.map(|time| time.trunc_subsecs(6))),
            Value::Bytes(bytes) => query.bind(bytes.clone()),
        })
}

impl Executor for &Database {
    async fn rows(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Database::Sqlite(pool) => {
                let rows = sqlite(sql, values).fetch_all(pool).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Database::Postgres(pool) => {
                let rows = postgres(sql, values).fetch_all(pool).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StoreError> {
        Ok(match self {
            Database::Sqlite(pool) => sqlite(sql, values).execute(pool).await?.rows_affected(),
            Database::Postgres(pool) => postgres(sql, values).execute(pool).await?.rows_affected(),
        })
    }
}

impl Executor for StoreTransaction {
    async fn rows(&mut self, sql: &'static str, values: &[Value]) -> Result<Vec<Row>, StoreError> {
        Ok(match self {
            Self::Sqlite(change) => {
                let rows = sqlite(sql, values).fetch_all(&mut **change).await?;
                rows.into_iter().map(Row::Sqlite).collect()
            }
            Self::Postgres(change) => {
                let rows = postgres(sql, values).fetch_all(&mut **change).await?;
                rows.into_iter().map(Row::Postgres).collect()
            }
        })
    }

    async fn execute(&mut self, sql: &'static str, values: &[Value]) -> Result<u64, StoreError> {
        Ok(match self {
            Self::Sqlite(change) => sqlite(sql, values)
                .execute(&mut **change)
                .await?
                .rows_affected(),
            Self::Postgres(change) => postgres(sql, values)
                .execute(&mut **change)
                .await?
                .rows_affected(),
        })
    }
}

/// A type that both databases support.
pub(in crate::store) trait Column:
    Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

impl<T> Column for T where
    T: Type<Sqlite> + Type<Postgres> + for<'r> Decode<'r, Sqlite> + for<'r> Decode<'r, Postgres>
{
}

impl Row {
    /// Returns the value of a column.
    pub fn get<T: Column>(&self, column: &str) -> Result<T, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get(column)?,
            Self::Postgres(row) => row.try_get(column)?,
        })
    }

    /// Returns the text in a column, in the compact form for callers that keep many texts.
    pub fn text(&self, column: &str) -> Result<EcoString, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get::<&str, _>(column)?.into(),
            Self::Postgres(row) => row.try_get::<&str, _>(column)?.into(),
        })
    }

    /// Returns the text in a column that may be null.
    pub fn optional_text(&self, column: &str) -> Result<Option<EcoString>, StoreError> {
        Ok(match self {
            Self::Sqlite(row) => row.try_get::<Option<&str>, _>(column)?.map(EcoString::from),
            Self::Postgres(row) => row.try_get::<Option<&str>, _>(column)?.map(EcoString::from),
        })
    }

    /// Returns the id in a column.
    pub fn id(&self, column: &str) -> Result<Uuid, StoreError> {
        match self {
            Self::Sqlite(row) => Uuid::try_parse(row.try_get(column)?)
                .map_err(|error| StoreError::damaged(column, &error)),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// Returns the id in a column that may be null.
    pub fn optional_id(&self, column: &str) -> Result<Option<Uuid>, StoreError> {
        match self {
            Self::Sqlite(row) => row
                .try_get::<Option<&str>, _>(column)?
                .map(Uuid::try_parse)
                .transpose()
                .map_err(|error| StoreError::damaged(column, &error)),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }

    /// Returns the month in a column.
    pub fn month(&self, column: &str) -> Result<Month, StoreError> {
        let text: String = self.get(column)?;
        text.parse()
            .map_err(|error| StoreError::damaged(column, &error))
    }

    /// Returns the count in a column; a negative number is an error.
    pub fn count(&self, column: &str) -> Result<u64, StoreError> {
        let number: i64 = self.get(column)?;
        u64::try_from(number).map_err(|error| StoreError::damaged(column, &error))
    }

    /// Returns the count in a column that may be null; a negative number is an error.
    pub fn optional_count(&self, column: &str) -> Result<Option<u64>, StoreError> {
        let number: Option<i64> = self.get(column)?;
        number
            .map(u64::try_from)
            .transpose()
            .map_err(|error| StoreError::damaged(column, &error))
    }

    /// Returns the time in a column.
    pub fn time(&self, column: &str) -> Result<DateTime<Utc>, StoreError> {
        self.optional_time(column)?
            .ok_or_else(|| StoreError::damaged(column, &"no time"))
    }

    /// Returns the time in a column that may be null.
    pub fn optional_time(&self, column: &str) -> Result<Option<DateTime<Utc>>, StoreError> {
        match self {
            Self::Sqlite(row) => row
                .try_get::<Option<&str>, _>(column)?
                .map(|text| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc()))
                .transpose()
                .map_err(|error| StoreError::damaged(column, &error)),
            Self::Postgres(row) => Ok(row.try_get(column)?),
        }
    }
}

macro_rules! value_from {
    ($($from:ty => |$given:ident| $value:expr;)*) => {$(
        impl From<$from> for Value {
            fn from($given: $from) -> Self {
                $value
            }
        }
    )*};
}

/// Replaces null characters by U+FFFD. Postgres cannot store them in a text; SQLite can, and must not differ.
fn without_null(text: Arc<str>) -> Arc<str> {
    if text.contains('\0') {
        text.replace('\0', "\u{fffd}").into()
    } else {
        text
    }
}

value_from! {
    Arc<str> => |text| Self::Text(Some(without_null(text)));
    Option<Arc<str>> => |text| Self::Text(text.map(without_null));
    &str => |text| Self::from(Arc::from(text));
    String => |text| Self::from(Arc::from(text));
    &String => |text| Self::from(text.as_str());
    Option<String> => |text| Self::from(text.map(Arc::from));
    i64 => |number| Self::Integer(Some(number));
    Option<i64> => |number| Self::Integer(number);
    u64 => |count| Self::Integer(Some(i64::try_from(count).unwrap_or(i64::MAX)));
    Option<u64> => |count| Self::Integer(count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)));
    f64 => |number| Self::Number(Some(number));
    Option<f64> => |number| Self::Number(number);
    bool => |boolean| Self::Boolean(boolean);
    Uuid => |id| Self::Id(Some(id));
    Option<Uuid> => |id| Self::Id(id);
    DateTime<Utc> => |time| Self::Time(Some(time));
    Option<DateTime<Utc>> => |time| Self::Time(time);
    &[u8] => |bytes| Self::Bytes(bytes.to_vec());
    crate::model::OrganisationId => |id| Self::Id(Some(id.0));
    Option<crate::model::OrganisationId> => |id| Self::Id(id.map(|id| id.0));
    crate::model::UserId => |id| Self::Id(Some(id.0));
    Option<crate::model::UserId> => |id| Self::Id(id.map(|id| id.0));
    crate::model::SessionId => |id| Self::Id(Some(id.0));
}

/// Builds the parameters of a statement, in order.
macro_rules! values {
    ($($value:expr),* $(,)?) => { &[$($crate::store::backend::database::Value::from($value)),*] };
}
pub(in crate::store) use values;
