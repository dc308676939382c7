//! The ledger of usage: its records, reports, statements of closed months, and their verification.

pub(super) mod requests;
pub(super) mod usage_hash;
pub(super) mod usage_records;
pub(super) mod usage_report;
pub(super) mod usage_statements;
pub(super) mod usage_verify;
