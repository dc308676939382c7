//! Migrations of the organisation database's schema. The first process that connects runs them.

use std::borrow::Cow;

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationType, Migrator};
use sqlx::{Connection, SqlSafeStr};

use super::database::Database;
use super::sqlite_file::MigrationLock;
use crate::config::DatabaseUrl;
use crate::store::error::StoreError;

/// A migration step. A released step never changes; changes of the schema are new steps.
struct Step {
    version: i64,
    name: &'static str,
    sqlite: &'static str,
    postgres: &'static str,
}

macro_rules! step {
    ($version:literal, $name:literal, $file:literal) => {
        Step {
            version: $version,
            name: $name,
            sqlite: include_str!(concat!("../../../migrations/organisation/sqlite/", $file)),
            postgres: include_str!(concat!("../../../migrations/organisation/postgres/", $file)),
        }
    };
}

const STEPS: &[Step] = &[
    step!(1, "organisations", "0001_organisations.sql"),
    step!(2, "usage", "0002_usage.sql"),
    step!(3, "jobs", "0003_jobs.sql"),
    step!(5, "chains", "0005_chains.sql"),
    step!(6, "write grants", "0006_write_grants.sql"),
    step!(7, "accounts", "0007_accounts.sql"),
];

/// The current version of the schema.
pub const SCHEMA: i64 = 7;

/// The result of a migration.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Migrated {
    /// The steps applied by this migration, such as `1 organisations`.
    pub made: Vec<String>,
    /// The version of the schema after the migration.
    pub version: i64,
}

/// Applies the missing steps. Several processes may call this at the same time: one applies the steps, the others wait.
pub(in crate::store) async fn migrate(
    database: &Database,
    url: &DatabaseUrl,
) -> Result<Migrated, StoreError> {
    migrate_to(database, url, SCHEMA).await
}

/// Applies the missing steps up to version `schema`.
pub(in crate::store) async fn migrate_to(
    database: &Database,
    url: &DatabaseUrl,
    schema: i64,
) -> Result<Migrated, StoreError> {
    let wanted = || STEPS.iter().filter(move |step| step.version <= schema);
    let migrator = |sql: fn(&Step) -> &'static str| {
        let steps = wanted().map(|step| {
            Migration::new(
                step.version,
                Cow::Borrowed(step.name),
                MigrationType::Simple,
                sql(step).into_sql_str(),
                false,
            )
        });
        Migrator::with_migrations(steps.collect())
    };
    let made = async {
        match database {
            Database::Sqlite(pool) => {
                // sqlx locks Postgres during a migration, but not SQLite.
                let _lock = MigrationLock::acquire(pool.connect_options().get_filename()).await?;
                let before = last_applied_step(database).await;
                migrator(|step| step.sqlite).run(pool).await?;
                Ok(before)
            }
            Database::Postgres(pool) => {
                // sqlx's own lock would suffice, but would not show which process applied which steps. The lock is
                // released when the connection closes.
                let mut connection = pool.acquire().await?.detach();
                sqlx::query(include_str!("../sql/migration_lock.sql"))
                    .execute(&mut connection)
                    .await?;
                let before = last_applied_step(database).await;
                migrator(|step| step.postgres).run(pool).await?;
                connection.close().await?;
                Ok(before)
            }
        }
    };
    let before = made.await.map_err(|failed| match failed {
        MigrationFailure::Store(error) => error,
        MigrationFailure::Step(error) => explain(error, url),
    })?;
    Ok(Migrated {
        made: wanted()
            .filter(|step| before.is_none_or(|before| step.version > before))
            .map(|step| format!("{} {}", step.version, step.name))
            .collect(),
        version: schema,
    })
}

/// Returns the last step applied, if there is one.
async fn last_applied_step(database: &Database) -> Option<i64> {
    async fn last<C: Migrate>(connection: &mut C) -> Option<i64> {
        let applied = connection.list_applied_migrations("_sqlx_migrations").await;
        // Before the first step, the table does not exist.
        applied
            .ok()?
            .iter()
            .map(|migration| migration.version)
            .max()
    }
    match database {
        Database::Sqlite(pool) => last(&mut *pool.acquire().await.ok()?).await,
        Database::Postgres(pool) => last(&mut *pool.acquire().await.ok()?).await,
    }
}

enum MigrationFailure {
    Store(StoreError),
    Step(MigrateError),
}

impl From<StoreError> for MigrationFailure {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl From<sqlx::Error> for MigrationFailure {
    fn from(error: sqlx::Error) -> Self {
        Self::Store(error.into())
    }
}

impl From<MigrateError> for MigrationFailure {
    fn from(error: MigrateError) -> Self {
        Self::Step(error)
    }
}

fn explain(error: MigrateError, url: &DatabaseUrl) -> StoreError {
    let url = url.to_string();
    match error {
        MigrateError::VersionMissing(version) => StoreError::SchemaTooNew { url, version },
        source => StoreError::Migration {
            url,
            source: Box::new(source),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schema_version_equals_last_step() {
        assert_eq!(STEPS.last().map(|step| step.version), Some(SCHEMA));
    }
}
