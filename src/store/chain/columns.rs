//! Records as arrays of their columns, both before they are added and as a database stores them.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::ser::SerializeSeq;
use serde_json::Value as Json;
use uuid::Uuid;

use super::cell::{CellKind, cell};
use super::hashed_line::{ChainRecord, Hash};
use super::kind::ChainKind;
use crate::model::{UsageRecord, micros};
use crate::store::backend::database::Row;
use crate::store::error::StoreError;

/// A column and the type of its values.
type Column = (&'static str, CellKind);

/// The columns of the audit trail, in the order of their declaration.
const AUDIT: [Column; 7] = [
    ("id", CellKind::Integer),
    ("at", CellKind::Time),
    ("actor", CellKind::Text),
    ("action", CellKind::Text),
    ("organization_id", CellKind::Id),
    ("subject", CellKind::Text),
    ("details", CellKind::Text),
];

/// The columns of the ledger, in the order of their declaration.
const LEDGER: [Column; 22] = [
    ("request_id", CellKind::Id),
    ("organization_id", CellKind::Id),
    ("user_id", CellKind::Id),
    ("api_key_id", CellKind::Text),
    ("session_id", CellKind::Id),
    ("server_id", CellKind::Id),
    ("endpoint", CellKind::Text),
    ("sql_fingerprint", CellKind::Text),
    ("sql_text", CellKind::Text),
    ("started_at", CellKind::Time),
    ("ended_at", CellKind::Time),
    ("billing_month", CellKind::Text),
    ("first_byte_microseconds", CellKind::Integer),
    ("duration_microseconds", CellKind::Integer),
    ("rows", CellKind::Integer),
    ("bytes_sent", CellKind::Integer),
    ("bytes_scanned", CellKind::Integer),
    ("status", CellKind::Text),
    ("cancelled", CellKind::Boolean),
    ("client_address", CellKind::Text),
    ("client_agent", CellKind::Text),
    ("billable", CellKind::Boolean),
];

impl ChainKind {
    pub(super) fn columns(self) -> &'static [Column] {
        match self {
            Self::Audit => &AUDIT,
            Self::Ledger => &LEDGER,
        }
    }

    /// Returns the index of the column whose text begins with the month in which a record is counted.
    pub(super) fn month_column(self) -> usize {
        match self {
            Self::Audit => 1,
            Self::Ledger => 11,
        }
    }

    /// Returns the statement that selects the records of an organisation (`$1`), in the order of their places, those
    /// without a place first.
    pub(super) fn select(self, is_of_nobody: bool) -> String {
        let names: Vec<&str> = self.columns().iter().map(|(name, _)| *name).collect();
        let order = match self {
            Self::Audit => "id",
            Self::Ledger => "billing_month, ended_at, request_id",
        };
        format!(
            "SELECT {}, chain_sequence, chain_hash FROM {} \
             ORDER BY chain_sequence IS NOT NULL, chain_sequence, {order}",
            names.join(", "),
            self.records_of(is_of_nobody),
        )
    }

    /// Returns the statement that counts the records of an organisation.
    pub(super) fn count(self, is_of_nobody: bool) -> String {
        let records = self.records_of(is_of_nobody);
        format!("SELECT count(*) AS records FROM {records}")
    }

    /// Returns the statement that selects the organisations that have records.
    pub(super) fn owners(self) -> String {
        let table = self.table();
        format!("SELECT DISTINCT organization_id FROM {table}")
    }

    fn table(self) -> &'static str {
        match self {
            Self::Audit => "audit_trail",
            Self::Ledger => "api_usage_logs",
        }
    }

    fn records_of(self, is_of_nobody: bool) -> String {
        let table = self.table();
        match is_of_nobody {
            true => format!("{table} WHERE organization_id IS NULL AND $1 IS NOT NULL"),
            false => format!("{table} WHERE organization_id = $1"),
        }
    }
}

/// A record as a database stores it.
#[derive(Debug)]
pub(super) struct StoredRecord {
    cells: Vec<Json>,
    /// The record's place in its chain, if it has one.
    pub sequence: Option<u64>,
    /// The stored hash, if it is a valid one.
    pub hash: Option<Hash>,
}

impl StoredRecord {
    pub fn from_row(row: &Row, kind: ChainKind) -> Result<Self, StoreError> {
        let cells = kind.columns().iter();
        let cells = cells.map(|(name, kind)| cell(row, name, *kind));
        // A value that is not a hash or a place was not written by plantlake.
        let hash: Option<Vec<u8>> = row.get("chain_hash").unwrap_or_default();
        Ok(Self {
            cells: cells.collect::<Result<_, _>>()?,
            sequence: cell(row, "chain_sequence", CellKind::Integer)?.as_u64(),
            hash: hash.and_then(|hash| hash.try_into().ok()),
        })
    }

    /// Returns the record's name, which is its first column.
    pub fn name(&self) -> String {
        match self.cells.first() {
            Some(Json::String(text)) => text.clone(),
            Some(other) => other.to_string(),
            None => String::new(),
        }
    }

    /// Returns the month in which the record is counted.
    pub fn month(&self, kind: ChainKind) -> String {
        let text = self.cells.get(kind.month_column());
        let text = text.and_then(Json::as_str).unwrap_or_default();
        text.chars().take(7).collect()
    }

    /// Returns the columns as a line of JSON, with its line feed.
    pub fn line(&self) -> Result<Vec<u8>, StoreError> {
        let mut line = serde_json::to_vec(&self.cells)
            .map_err(|error| StoreError::damaged("chain_hash", &error))?;
        line.push(b'\n');
        Ok(line)
    }
}

impl ChainRecord for StoredRecord {
    fn write<S: SerializeSeq>(&self, columns: &mut S) -> Result<(), S::Error> {
        let mut cells = self.cells.iter();
        cells.try_for_each(|cell| columns.serialize_element(cell))
    }
}

/// A record to be added to the audit trail.
pub(in crate::store) struct AuditRow<'a> {
    pub id: i64,
    pub at: DateTime<Utc>,
    pub actor: &'a str,
    pub action: &'a str,
    pub organisation: Option<Uuid>,
    pub subject: &'a str,
    pub details: &'a str,
}

impl ChainRecord for AuditRow<'_> {
    fn write<S: SerializeSeq>(&self, columns: &mut S) -> Result<(), S::Error> {
        columns.serialize_element(&self.id)?;
        columns.serialize_element(&micros::text(&self.at))?;
        columns.serialize_element(&stored(self.actor))?;
        columns.serialize_element(&stored(self.action))?;
        columns.serialize_element(&self.organisation)?;
        columns.serialize_element(&stored(self.subject))?;
        columns.serialize_element(&stored(self.details))
    }
}

/// A record to be added to the ledger.
pub(in crate::store) struct LedgerRow<'a> {
    pub record: &'a UsageRecord,
    pub billing_month: &'a str,
}

impl ChainRecord for LedgerRow<'_> {
    fn write<S: SerializeSeq>(&self, columns: &mut S) -> Result<(), S::Error> {
        let record = self.record;
        columns.serialize_element(&record.request_id)?;
        columns.serialize_element(&record.organisation_id)?;
        columns.serialize_element(&record.user_id)?;
        columns.serialize_element(&record.api_key_id.as_deref().map(stored))?;
        columns.serialize_element(&record.session_id)?;
        columns.serialize_element(&record.server_id)?;
        columns.serialize_element(&stored(&record.endpoint))?;
        columns.serialize_element(&record.sql_fingerprint.as_deref().map(stored))?;
        columns.serialize_element(&record.sql_text.as_deref().map(stored))?;
        columns.serialize_element(&micros::text(&record.started_at))?;
        columns.serialize_element(&micros::text(&record.ended_at))?;
        columns.serialize_element(self.billing_month)?;
        columns.serialize_element(&record.first_byte_microseconds.map(count))?;
        columns.serialize_element(&count(record.duration_microseconds))?;
        columns.serialize_element(&count(record.rows))?;
        columns.serialize_element(&count(record.bytes_sent))?;
        columns.serialize_element(&count(record.bytes_scanned))?;
        columns.serialize_element(&stored(&record.status))?;
        columns.serialize_element(&record.cancelled)?;
        columns.serialize_element(&stored(&record.client_address))?;
        columns.serialize_element(&stored(&record.client_agent))?;
        columns.serialize_element(&record.billable)
    }
}

/// Returns a text in the form in which it will be stored: see `Value`.
fn stored(text: &str) -> Cow<'_, str> {
    match text.contains('\0') {
        true => text.replace('\0', "\u{fffd}").into(),
        false => text.into(),
    }
}

/// Returns a number in the form in which it will be stored: see `Value`.
fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
