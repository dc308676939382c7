//! The organisation database: organisations, their users, keys, sessions and grants, and the audit trail.
//!
//! The URL selects SQLite or Postgres; both behave the same (`database`). Secrets arrive hashed: this module never
//! receives a plain one. Every change of access is a transaction that first updates the single row of
//! `access_revision`. Changes are therefore serialised, limits hold across any number of processes, and servers detect
//! a change by comparing one number.

mod access;
mod account_limits;
mod backend;
mod chain;
mod copy;
mod error;
mod jobs;
mod organisation_store;
mod usage;

pub use access::actor::Actor;
pub use access::audit::{AuditEntry, AuditFilter, FailedSignIns};
pub use access::grants::WritingOrganisation;
pub use access::keys::{ApiKey, NewKey};
pub use access::limits::LimitsChange;
pub use access::organisations::{NewOrganisation, Organisation, Profile};
pub use access::sessions::Session;
pub use access::users::{Credential, NewUser, User, UserChange};
pub use account_limits::AccountLimits;
pub use backend::examine::{Examination, ServerFacts, examine, server_facts};
pub use backend::migrate::{Migrated, SCHEMA};
pub use backend::postgres::connect_options;
pub(crate) use backend::sqlite_file::for_owner_only;
pub use chain::{
    ChainEnd, ChainFinding, ChainHead, ChainHeads, ChainKind, ChainVerification, FindingKind,
};
pub use copy::{CopyPart, DatabaseRestore};
pub use error::{StoreError, UserAddresses};
pub use jobs::{JobEnd, JobHolder, JobRun, JobState, RunStatus};
pub use organisation_store::OrganisationStore;
pub use usage::requests::{UsageDemand, UsageTotals};
pub use usage::usage_records::{LedgerEntry, LedgerPosition, RecordFilter};
pub use usage::usage_report::{Adjustment, ReportBy, ReportFilter, ReportLine, UsageSums};
pub use usage::usage_statements::{Closing, UsageStatement};
pub use usage::usage_verify::{Difference, Verification};
