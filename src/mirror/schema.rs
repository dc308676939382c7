//! The schema of the mirror: the first run creates it together with its rows, later runs migrate it.

use std::borrow::Cow;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Row, SqlSafeStr};

use super::error::MirrorError;
use super::session::Link;

/// A migration. Once released it is never changed; a new one is added instead.
struct MigrationStep {
    version: i64,
    name: &'static str,
    sql: &'static str,
}

/// The migration that creates the tables. The first rows are copied right after it, before the other migrations.
const TABLES_VERSION: i64 = 1;

const MIGRATIONS: &[MigrationStep] = &[
    MigrationStep {
        version: TABLES_VERSION,
        name: "tables",
        sql: include_str!("../../migrations/chemical/0001_tables.sql"),
    },
    MigrationStep {
        version: 2,
        name: "keys",
        sql: include_str!("../../migrations/chemical/0002_keys.sql"),
    },
];

/// The maximum number of slow statements in one migration.
const MAX_STATEMENTS: u32 = 8;

/// The table of applied migrations. The organisation database has another one, so that both may share a database.
const MIGRATIONS_TABLE: &str = "mirror_migrations";

/// The schema version of a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SchemaVersion {
    /// The database has no tables of the mirror.
    None,
    /// Migrations are pending.
    Older,
    /// All migrations are applied.
    UpToDate,
}

/// Returns the schema version of the database.
///
/// # Errors
///
/// The version is newer than this plantlake knows, or foreign tables have the same names.
pub(super) async fn version(link: &mut Link<'_>) -> Result<SchemaVersion, MirrorError> {
    let url = link.runner.url.clone();
    let made: Option<i64> = link
        .run("reading its schema", async |connection| {
            let is_there: bool = sqlx::query_scalar(include_str!("sql/step_table.sql"))
                .fetch_one(&mut *connection)
                .await?;
            if !is_there {
                return Ok(None);
            }
            let step = sqlx::query_scalar(include_str!("sql/step.sql"));
            step.fetch_one(connection).await
        })
        .await?;
    let last = MIGRATIONS.last().map_or(0, |step| step.version);
    match made {
        Some(version) if version > last => return Err(MirrorError::NewerSchema { url, version }),
        Some(version) if version < last => return Ok(SchemaVersion::Older),
        Some(_) => return Ok(SchemaVersion::UpToDate),
        None => {}
    }
    let stranger: Option<(String, bool)> = link
        .run("reading its schema", async |connection| {
            let strangers = sqlx::query(include_str!("sql/strangers.sql"));
            let Some(row) = strangers.fetch_optional(connection).await? else {
                return Ok(None);
            };
            Ok(Some((row.try_get("name")?, row.try_get("is_original")?)))
        })
        .await?;
    match stranger {
        None => Ok(SchemaVersion::None),
        Some((table, is_original)) => Err(MirrorError::TableExists {
            url,
            table,
            is_original,
        }),
    }
}

/// Creates the tables, without keys.
pub(super) async fn create_tables(link: &mut Link<'_>) -> Result<(), MirrorError> {
    apply_migrations(link, TABLES_VERSION).await
}

/// Applies all pending migrations.
pub(super) async fn migrate(link: &mut Link<'_>) -> Result<(), MirrorError> {
    apply_migrations(link, i64::MAX).await
}

async fn apply_migrations(link: &mut Link<'_>, last: i64) -> Result<(), MirrorError> {
    let steps = MIGRATIONS.iter().filter(|step| step.version <= last);
    let steps = steps.map(|step| {
        Migration::new(
            step.version,
            Cow::Borrowed(step.name),
            MigrationType::Simple,
            step.sql.into_sql_str(),
            false,
        )
    });
    let mut migrator = Migrator::with_migrations(steps.collect());
    migrator.dangerous_set_table_name(MIGRATIONS_TABLE);
    // The run holds its own lock.
    migrator.set_locking(false);
    let url = link.runner.url.clone();
    let mut failed = None;
    let made = link.run_many(MAX_STATEMENTS, "creating its tables", async |connection| {
        let made = migrator.run(connection).await;
        // Errors of Postgres itself are returned unchanged, so that the caller can classify them.
        made.or_else(|error| match error {
            MigrateError::Execute(source) | MigrateError::ExecuteMigration(source, _) => {
                Err(source)
            }
            other => {
                failed = Some(other);
                Ok(())
            }
        })
    });
    made.await?;
    match failed {
        None => Ok(()),
        Some(MigrateError::VersionMissing(version)) => {
            Err(MirrorError::NewerSchema { url, version })
        }
        Some(source) => Err(MirrorError::Migration {
            url,
            source: Box::new(source),
        }),
    }
}
