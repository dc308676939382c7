//! The organisation database: organisations, their users, keys, sessions and grants, and the audit trail.
//!
//! The URL selects SQLite or Postgres; both behave the same (`database`). Secrets arrive hashed: this module never
//! receives a plain one. Every change of access is a transaction that first updates the single row of
//! `access_revision`. Changes are therefore serialised, limits hold across any number of processes, and servers detect
//! a change by comparing one number.

mod account_limits;
mod audit;
mod chain;
mod copy;
mod database;
mod error;
mod examine;
mod grants;
mod jobs;
mod keys;
mod limits;
mod migrate;
mod organisations;
mod postgres;
mod sessions;
mod sqlite_file;
mod usage;
mod usage_hash;
mod usage_records;
mod usage_report;
mod usage_statements;
mod usage_verify;
mod users;

use chrono::{DateTime, Utc};

pub use account_limits::AccountLimits;
pub use audit::{AuditEntry, AuditFilter, FailedSignIns};
pub use chain::{
    ChainEnd, ChainFinding, ChainHead, ChainHeads, ChainKind, ChainVerification, FindingKind,
};
pub use copy::{CopyPart, DatabaseRestore};
pub use error::{StoreError, UserAddresses};
pub use examine::{Examination, ServerFacts, examine, server_facts};
pub use grants::WritingOrganisation;
pub use jobs::{JobEnd, JobHolder, JobRun, JobState, RunStatus};
pub use keys::{ApiKey, NewKey};
pub use limits::LimitsChange;
pub use migrate::{Migrated, SCHEMA};
pub use organisations::{NewOrganisation, Organisation, Profile};
pub use postgres::connect_options;
pub use sessions::Session;
pub(crate) use sqlite_file::for_owner_only;
pub use usage::{UsageDemand, UsageTotals};
pub use usage_records::{LedgerEntry, LedgerPosition, RecordFilter};
pub use usage_report::{Adjustment, ReportBy, ReportFilter, ReportLine, UsageSums};
pub use usage_statements::{Closing, UsageStatement};
pub use usage_verify::{Difference, Verification};
pub use users::{Credential, NewUser, User, UserChange};

use crate::clock::{self, new_id};
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::model::{OrganisationId, TextKind, printable};
use database::{Database, Executor, StoreTransaction, values};

/// The organisation database. Cheap to clone.
#[derive(Debug, Clone)]
pub struct OrganisationStore {
    database: Database,
    account_limits: AccountLimits,
}

/// The author of a change, as recorded in the audit trail: `operator ada on plant7`, `user ada@example.com`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Actor(pub String);

/// The maximum length of an actor in the audit trail, in characters.
const MAX_ACTOR_CHARS: usize = 300;
/// The maximum size of the details of an entry of the audit trail, in bytes.
const MAX_DETAILS_BYTES: usize = 1 << 20;

impl Actor {
    /// Returns the actor for a user of an organisation, as opposed to an operator.
    pub fn user(email: &str) -> Self {
        Self(format!("user {email}"))
    }

    fn is_user(&self) -> bool {
        self.0.starts_with("user ")
    }
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

    /// Returns a number that increases with each change of access.
    pub async fn revision(&self) -> Result<i64, StoreError> {
        let row = (&self.database)
            .row(include_str!("sql/revision.sql"), values![])
            .await?;
        row.ok_or_else(|| StoreError::damaged("revision", &"no row"))?
            .get("revision")
    }

    /// Begins a change of access. Waits until no other change is in progress.
    async fn begin_change(&self, actor: &Actor) -> Result<AccessChange, StoreError> {
        let mut change = self.database.begin().await?;
        change
            .execute(include_str!("sql/revise.sql"), values![])
            .await?;
        Ok(self.access_change(change, actor))
    }

    /// Begins an addition to the audit trail that changes nobody's access. Waits until no change is in progress. The
    /// revision stays the same, so servers reload nothing.
    async fn begin_audit_only(&self, actor: &Actor) -> Result<AccessChange, StoreError> {
        let mut change = self.database.begin().await?;
        change
            .execute(include_str!("sql/access_take.sql"), values![])
            .await?;
        Ok(self.access_change(change, actor))
    }

    fn access_change(&self, change: StoreTransaction, actor: &Actor) -> AccessChange {
        AccessChange {
            change,
            actor: Actor(printable(&actor.0, MAX_ACTOR_CHARS)),
            at: clock::now(),
            caps: self.account_limits,
        }
    }
}

/// A change of access in progress. It is rolled back if dropped without a commit.
struct AccessChange {
    change: StoreTransaction,
    actor: Actor,
    at: DateTime<Utc>,
    caps: AccountLimits,
}

impl AccessChange {
    /// Records the change in the audit trail and commits it.
    async fn commit(
        mut self,
        action: &'static str,
        organisation: Option<OrganisationId>,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<(), StoreError> {
        self.write(action, organisation, subject, details).await?;
        self.change.commit().await
    }

    /// Records one part of the change in the audit trail.
    async fn write(
        &mut self,
        action: &'static str,
        organisation: Option<OrganisationId>,
        subject: &str,
        details: serde_json::Value,
    ) -> Result<(), StoreError> {
        self.check_change_rate(action, organisation).await?;
        TextKind::AuditSubject.check(subject)?;
        let details = details.to_string();
        if details.len() > MAX_DETAILS_BYTES {
            return Err(StoreError::Refused(format!(
                "the change has {} bytes of details for the audit trail; the limit is {MAX_DETAILS_BYTES}; \
                 split it into smaller changes",
                details.len()
            )));
        }
        let entry = audit::NewAuditEntry {
            at: self.at,
            actor: &self.actor,
            action,
            organisation,
            subject,
            details: &details,
        };
        audit::append(&mut self.change, &entry).await
    }
}
