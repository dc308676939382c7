//! The organisation database as a whole: opening and closing it, and its revision.

use super::account_limits::AccountLimits;
use super::backend::database::{Database, Executor, values};
use super::backend::migrate;
use super::backend::migrate::Migrated;
use super::error::StoreError;
use crate::config::{DatabaseKind, DatabaseUrl};

/// The organisation database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OrganisationStore {
    pub(super) database: Database,
    pub(super) account_limits: AccountLimits,
}

impl OrganisationStore {
    /// Connects, and migrates the schema to the current version.
    pub async fn open(url: &DatabaseUrl) -> Result<(Self, Migrated), StoreError> {
        let database = Database::connect(url).await?;
        let migrated = migrate::migrate(&database, url).await?;
        Ok((Self::from_database(database), migrated))
    }

    /// Connects to a database that exists, to read it or to change its contents, and migrates the schema to the current
    /// version. Unlike [`open`](Self::open) it creates no SQLite file, and no folder: a missing file is usually a
    /// misspelt path.
    ///
    /// # Errors
    ///
    /// Returns [`StoreError::Missing`] if the file does not exist.
    pub async fn open_existing(url: &DatabaseUrl) -> Result<(Self, Migrated), StoreError> {
        match url.kind() {
            DatabaseKind::Sqlite(path) if !path.exists() => {
                Err(StoreError::Missing { path: path.clone() })
            }
            _ => Self::open(url).await,
        }
    }

    /// Connects to a database that is to be filled with a copy of schema version `schema`, and migrates it to exactly
    /// that version.
    ///
    /// # Errors
    ///
    /// Returns an error if the database already has a later schema.
    pub async fn open_at(url: &DatabaseUrl, schema: i64) -> Result<Self, StoreError> {
        let database = Database::connect(url).await?;
        migrate::migrate_to(&database, url, schema).await?;
        Ok(Self::from_database(database))
    }

    fn from_database(database: Database) -> Self {
        let caps = AccountLimits::default();
        Self {
            database,
            account_limits: caps,
        }
    }

    /// Closes all connections. A SQLite database is a single file afterwards.
    pub async fn close(self) {
        self.database.close().await;
    }

    /// Returns a store for the same database with a connection of its own, which is opened on first use. It is for work
    /// that can wait, because it takes no connection from the shared pool.
    pub fn with_own_connection(&self) -> Self {
        Self {
            database: self.database.with_own_connection(),
            account_limits: self.account_limits,
        }
    }

    /// Returns the same store with other limits.
    #[must_use]
    pub fn with_account_limits(mut self, caps: AccountLimits) -> Self {
        self.account_limits = caps;
        self
    }

    /// Returns a number that increases with each change of access.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/revision.sql"), values![])
            .await?;
        row.ok_or_else(|| StoreError::damaged("revision", &"no row"))?
            .get("revision")
    }
}
