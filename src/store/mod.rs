//! The organisation database: organisations, their users, keys, sessions and grants, and the audit trail.
//!
//! The URL selects SQLite or Postgres; both behave the same (`database`). Secrets arrive hashed: this module never
//! receives a plain one. Every change of access is a transaction that first updates the single row of
//! `access_revision`. Changes are therefore serialised, limits hold across any number of processes, and servers detect
//! a change by comparing one number.

mod access_change;
mod account_limits;
mod actor;
mod audit;
mod audit_entry;
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
mod organisation_store;
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

pub use account_limits::AccountLimits;
pub use actor::Actor;
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
pub use organisation_store::OrganisationStore;
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
