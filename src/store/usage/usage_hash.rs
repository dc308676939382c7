//! Totals of a month's records, and a hash over them that other programs can compute as well.
//!
//! The hash is SHA-256 over lines of compact JSON in UTF-8, each with a line feed at its end. The first is
//! `["plantlake usage 1",<organisation>,<month>]`. A line for each record follows, in the order of `ended_at` and
//! `request_id`: an array of the ledger's columns in the order of their declaration, without the organisation and the
//! billing month. Ids are in lower case with hyphens, times are in UTC with six decimals and a Z.

use aws_lc_rs::digest::{Context, SHA256};

use super::requests::UsageTotals;
use super::usage_records::{LedgerEntry, RecordFilter, page};
use crate::model::{Month, OrganisationId, hex, micros};
use crate::store::backend::database::Executor;
use crate::store::error::StoreError;

/// The number of records in memory at a time.
const PAGE_RECORDS: u32 = 2_000;

/// Totals of a month of an organisation, derived from the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::store) struct DerivedTotals {
    /// The number of records, billable or not.
    pub records: u64,
    /// Totals of billable requests.
    pub totals: UsageTotals,
    /// The number of billable requests that ended in an earlier month.
    pub late_requests: u64,
    /// SHA-256, in hexadecimal.
    pub hash: String,
}

/// Derives the totals and the hash from the ledger's records of the month.
pub(in crate::store) async fn derive_totals(
    database: &mut impl Executor,
    organisation: OrganisationId,
    month: Month,
) -> Result<DerivedTotals, StoreError> {
    let filter = RecordFilter::month(organisation, month);
    let mut hash = Context::new(&SHA256);
    let head = ("plantlake usage 1", organisation, month);
    hash.update(&line(&head)?);
    let mut derived = DerivedTotals {
        records: 0,
        totals: UsageTotals::default(),
        late_requests: 0,
        hash: String::new(),
    };
    let mut after = None;
    loop {
        let entries = page(database, &filter, after, PAGE_RECORDS).await?;
        for entry in &entries {
            hash.update(&canonical_line(entry)?);
            derived.records += 1;
            let record = &entry.record;
            if record.billable {
                derived.totals = derived.totals.plus(&UsageTotals::from_record(record));
                derived.late_requests += u64::from(Month::containing(record.ended_at) != month);
            }
        }
        after = entries.last().map(LedgerEntry::position);
        if after.is_none() {
            break;
        }
    }
    derived.hash = hex(hash.finish().as_ref());
    Ok(derived)
}

fn canonical_line(entry: &LedgerEntry) -> Result<Vec<u8>, StoreError> {
    let record = &entry.record;
    // Tuples are serialisable up to sixteen elements, so two tuples are joined into one array.
    let first = (
        record.request_id,
        record.user_id,
        &record.api_key_id,
        record.session_id,
        record.server_id,
        &record.endpoint,
        &record.sql_fingerprint,
        &record.sql_text,
        micros::text(&record.started_at),
        micros::text(&record.ended_at),
    );
    let second = (
        record.first_byte_microseconds,
        record.duration_microseconds,
        record.rows,
        record.bytes_sent,
        record.bytes_scanned,
        &record.status,
        record.cancelled,
        &record.client_address,
        &record.client_agent,
        record.billable,
    );
    let (mut text, second) = (line(&first)?, line(&second)?);
    // Drop the bracket and the line feed at the end of the first array, and the bracket at the start of the second.
    text.truncate(text.len().saturating_sub(2));
    text.push(b',');
    text.extend(second.iter().skip(1));
    Ok(text)
}

fn line(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    let mut text =
        serde_json::to_vec(value).map_err(|error| StoreError::damaged("records", &error))?;
    text.push(b'\n');
    Ok(text)
}
