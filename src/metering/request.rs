//! A request in progress: counts its amounts and writes its record. If it is dropped before it [ended](OpenRequest::end), it
//! was cancelled.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ecow::EcoString;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::journal::JournalError;
use super::limit_exceeded::LimitExceeded;
use super::meter_state::MeterState;
use super::quotas::RequestAmounts;
use super::response_end::{EndedBy, ResponseEnd};
use super::settings::IS_DISABLED;
use crate::clock::{self, Stopwatch};
use crate::config::JournalFullAction;
use crate::lake::storage::scanned_bytes::ScannedBytes;
use crate::metrics::{EndedRequest, METRICS, RequestKind};
use crate::model::{ABORTED, OrganisationId, SessionId, UsageRecord, UserId};

/// The status of a cancelled request, as gRPC names it.
const CANCELLED: &str = "CANCELLED";
/// The maximum length of a statement in the ledger, in characters; a longer one is truncated.
const MAX_SQL_CHARS: usize = 64 << 10;
/// The number of bytes sent after which the journal is updated. If the server dies, at most this many bytes of a response
/// are lost from its record.
const PROGRESS_BYTES: u64 = 16 << 20;
/// The interval at which quotas are checked while a query reads without sending anything.
const QUOTA_CHECK_INTERVAL: Duration = Duration::from_millis(100);
/// The maximum size of a statement that these updates repeat, in bytes.
const MAX_REPEATED_SQL_BYTES: usize = 16 << 10;

/// The caller of a request, and its address.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The organisation, which is billed.
    pub organisation_id: OrganisationId,
    /// The user.
    pub user_id: UserId,
    /// The API key, if one was used.
    pub api_key_id: Option<EcoString>,
    /// The session, if one was used.
    pub session_id: Option<SessionId>,
    /// The client's address.
    pub address: EcoString,
    /// The client's user agent.
    pub agent: EcoString,
}

/// The remaining work after the end of a response.
pub enum EndOutcome {
    /// Nothing: the client may be notified.
    Recorded,
    /// A synchronisation, after which the client may be notified.
    Syncing(BoxFuture<'static, io::Result<()>>),
}

/// A request in progress, with its record.
#[derive(Debug)]
pub struct OpenRequest {
    meter: Arc<MeterState>,
    /// `None` once it is in the journal.
    record: Option<Box<UsageRecord>>,
    since: Stopwatch,
    scanned: ScannedBytes,
    /// Whether it counts as a concurrent query of its organisation.
    is_query: bool,
    /// The kind of the action that it runs, if it runs one.
    action_kind: RequestKind,
    /// The amounts that the quotas know.
    last_amounts: RequestAmounts,
    /// The number of bytes sent at the last update of the journal; `None` if the journal does not know the request.
    journaled_bytes: Option<u64>,
    /// The status that it ended with.
    status: &'static str,
    /// The party that ended it. If it is dropped, that is its client.
    ended_by: EndedBy,
}

/// The reason for which a statement is refused.
#[derive(Debug, thiserror::Error)]
pub enum StatementRefused {
    /// The organisation is over a limit.
    #[error(transparent)]
    OverLimit(#[from] LimitExceeded),
    /// The journal cannot record it.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl OpenRequest {
    pub(super) fn new(meter: Arc<MeterState>, id: Uuid, caller: Caller) -> Self {
        let now = clock::now();
        let record = UsageRecord {
            request_id: id,
            organisation_id: caller.organisation_id,
            user_id: caller.user_id,
            api_key_id: caller.api_key_id,
            session_id: caller.session_id,
            server_id: meter.server,
            endpoint: EcoString::new(),
            sql_fingerprint: None,
            sql_text: None,
            started_at: now,
            ended_at: now,
            first_byte_microseconds: None,
            duration_microseconds: 0,
            rows: 0,
            bytes_sent: 0,
            bytes_scanned: 0,
            status: CANCELLED.into(),
            cancelled: true,
            client_address: caller.address,
            client_agent: caller.agent,
            billable: false,
        };
        meter.open.fetch_add(1, Ordering::Relaxed);
        Self {
            meter,
            record: Some(Box::new(record)),
            since: Stopwatch::start(),
            scanned: ScannedBytes::default(),
            is_query: false,
            action_kind: RequestKind::Other,
            last_amounts: RequestAmounts::default(),
            journaled_bytes: None,
            status: CANCELLED,
            ended_by: EndedBy::Caller,
        }
    }

    /// Returns the counter of bytes that are read from the lake's files for this request.
    pub fn scanned(&self) -> ScannedBytes {
        self.scanned.clone()
    }

    /// Sets the RPC and its command.
    pub fn set_endpoint(&mut self, endpoint: EcoString) {
        if let Some(record) = &mut self.record {
            record.endpoint = endpoint;
        }
    }

    /// Sets the kind of the action that it runs, for metrics.
    pub fn set_action_kind(&mut self, kind: RequestKind) {
        self.action_kind = kind;
    }

    /// Sets the statement. `fingerprint` is shared by all statements that differ only in literals.
    pub fn set_statement(&mut self, sql: &str, fingerprint: EcoString) {
        let keeps = self.meter.settings.sql;
        if let Some(record) = &mut self.record {
            record.sql_fingerprint = Some(fingerprint);
            record.sql_text = keeps.then(|| sql.chars().take(MAX_SQL_CHARS).collect());
        }
    }

    /// Marks the request as running a billable statement. Returns a warning about quotas of its organisation. Before
    /// the client receives anything of the response, the request must be [persisted](Self::persist_start), or must have
    /// ended.
    ///
    /// # Errors
    ///
    /// The organisation is over a limit; or the request cannot be recorded, and such requests are refused.
    pub fn mark_billable(&mut self) -> Result<Option<String>, StatementRefused> {
        let Some(record) = &mut self.record else {
            return Ok(None);
        };
        if IS_DISABLED {
            return Ok(None);
        }
        let begun = self.meter.quotas.admit_query(record.organisation_id);
        let warning = begun.inspect_err(LimitExceeded::count)?;
        self.is_query = true;
        record.billable = true;
        match self.meter.journal.check_room() {
            Err(full) if self.meter.settings.when_full == JournalFullAction::Refuse => {
                record.billable = false;
                Err(full.into())
            }
            _ => Ok(warning),
        }
    }

    /// Writes the start of a running statement to the journal. If the server dies after that, the request is found as
    /// aborted.
    ///
    /// # Errors
    ///
    /// The journal cannot be written, and such requests are refused.
    pub fn persist_start(&mut self) -> Result<(), JournalError> {
        if !self.is_query {
            return Ok(());
        }
        let kept = self.persist_progress();
        match (kept, &mut self.record) {
            (Err(error), Some(record))
                if self.meter.settings.when_full == JournalFullAction::Refuse =>
            {
                record.billable = false;
                Err(error)
            }
            // The end of the request is another attempt.
            _ => Ok(()),
        }
    }

    /// Writes the progress of the response, which is what is billed if the server dies.
    fn persist_progress(&mut self) -> Result<(), JournalError> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        let text = record.sql_text.as_ref();
        let is_short = self.journaled_bytes.is_none()
            || text.is_none_or(|text| text.len() <= MAX_REPEATED_SQL_BYTES);
        let if_lost = UsageRecord {
            status: ABORTED.into(),
            cancelled: false,
            billable: record.billable && record.rows > 0,
            bytes_scanned: self.scanned.bytes(),
            ended_at: clock::now().max(record.started_at),
            sql_text: text.filter(|_| is_short).cloned(),
            ..UsageRecord::clone(record)
        };
        self.meter.journal.record_start(&if_lost)?;
        self.journaled_bytes = Some(record.bytes_sent);
        Ok(())
    }

    /// Checks whether the monthly quotas allow more of the response to be sent.
    ///
    /// # Errors
    ///
    /// The organisation has used up one of them.
    pub fn check_quotas(&mut self) -> Result<(), LimitExceeded> {
        if !self.is_query || IS_DISABLED {
            return Ok(());
        }
        let Some(record) = &self.record else {
            return Ok(());
        };
        let so_far = RequestAmounts {
            bytes_sent: record.bytes_sent,
            bytes_scanned: self.scanned.bytes(),
        };
        let quotas = &self.meter.quotas;
        let checked = quotas.advance(record.organisation_id, self.last_amounts, so_far);
        self.last_amounts = so_far;
        checked.inspect_err(LimitExceeded::count)
    }

    /// Returns the interval at which the quotas must be checked while nothing is sent; `None` if reading cannot use up any.
    pub fn quota_check_interval(&self) -> Option<Duration> {
        let record = self.record.as_ref().filter(|_| self.is_query)?;
        let quotas = &self.meter.quotas;
        quotas
            .has_scan_quota(record.organisation_id)
            .then_some(QUOTA_CHECK_INTERVAL)
    }

    /// Counts a message of the response.
    pub fn count_sent(&mut self, rows: u64, bytes: u64) {
        let since = self.since;
        if let Some(record) = &mut self.record {
            record.rows = record.rows.saturating_add(rows);
            record.bytes_sent = record.bytes_sent.saturating_add(bytes);
            let first = || u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            record.first_byte_microseconds.get_or_insert_with(first);
            let is_behind = self
                .journaled_bytes
                .is_some_and(|told| record.bytes_sent - told >= PROGRESS_BYTES);
            // The starts and ends of requests have priority over progress in the remaining room of the journal.
            if is_behind && self.meter.journal.check_room().is_ok() {
                // The next message is another attempt.
                let _ = self.persist_progress();
            }
        }
    }

    /// Counts rows that were ingested.
    pub fn count_ingested(&mut self, rows: u64) {
        if let Some(record) = &mut self.record {
            record.rows = record.rows.saturating_add(rows);
        }
    }

    /// Writes the record. Once this returns, the record survives the death of the process.
    ///
    /// # Errors
    ///
    /// The record cannot be written; the client must not consider the response complete.
    pub fn end(&mut self, end: ResponseEnd) -> Result<EndOutcome, JournalError> {
        if let Some(record) = &mut self.record {
            self.status = end.status;
            self.ended_by = end.by;
            record.status = end.status.into();
            record.cancelled = end.status == CANCELLED;
            record.billable &= end.by.is_billable(record);
        }
        self.write()
    }

    fn write(&mut self) -> Result<EndOutcome, JournalError> {
        let Some(mut record) = self.record.take() else {
            return Ok(EndOutcome::Recorded);
        };
        let took = self.since.elapsed().as_micros();
        record.duration_microseconds = u64::try_from(took).unwrap_or(u64::MAX);
        record.bytes_scanned = self.scanned.bytes();
        let is_waited_for = record.billable;
        METRICS.requests.record_ended(&EndedRequest {
            kind: request_kind(&record.endpoint, self.is_query, self.action_kind),
            status: self.status,
            took: Duration::from_micros(record.duration_microseconds),
            first_byte: record.first_byte_microseconds.map(Duration::from_micros),
            rows: record.rows,
            bytes_sent: record.bytes_sent,
            bytes_scanned: record.bytes_scanned,
        });
        // Metrics are collected even if metering is off.
        if IS_DISABLED {
            return Ok(EndOutcome::Recorded);
        }
        let shared = &self.meter;
        record.ended_at = clock::now().max(record.started_at);
        let (counted, by) = (self.last_amounts, self.ended_by);
        shared.quotas.end(&record, counted, self.is_query, by);
        let written = match shared.settings.when_full {
            JournalFullAction::Continue => match shared.journal.check_room() {
                Ok(()) => shared.journal.record_end(*record),
                Err(full) => {
                    shared.journal.abandon(record.request_id);
                    Err(full)
                }
            },
            // The room for its end was checked when it was admitted.
            JournalFullAction::Refuse => shared.journal.record_end(*record),
        };
        match written {
            Ok(_) if shared.settings.sync && is_waited_for => {
                let journal = shared.journal.clone();
                Ok(EndOutcome::Syncing(Box::pin(async move {
                    journal.wait_until_synced().await
                })))
            }
            Ok(_) => Ok(EndOutcome::Recorded),
            Err(error) if shared.settings.when_full == JournalFullAction::Continue => {
                METRICS.journal.count_dropped();
                let dropped = shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::error!(dropped, "a request was answered but not recorded: {error}");
                Ok(EndOutcome::Recorded)
            }
            Err(error) => Err(error),
        }
    }
}

/// Returns the kind of a call, from its RPC and the command in it, or from its action.
fn request_kind(endpoint: &str, runs: bool, action: RequestKind) -> RequestKind {
    let (rpc, command) = endpoint.split_once('/').unwrap_or((endpoint, ""));
    match (rpc, command) {
        (_, "StatementIngest") => RequestKind::Ingest,
        // Tickets of statements, and prepared statements that are executed by their handle.
        ("DoGet", "StatementQuery" | "PreparedStatementQuery") => RequestKind::Query,
        _ if runs => RequestKind::Query,
        ("GetFlightInfo" | "PollFlightInfo" | "GetSchema" | "DoPut", command)
            if command.contains("Statement") =>
        {
            RequestKind::Plan
        }
        ("DoAction", _) => action,
        ("GetFlightInfo" | "PollFlightInfo" | "GetSchema" | "DoGet", _) => RequestKind::Metadata,
        ("Handshake", _) => RequestKind::SignIn,
        _ => RequestKind::Other,
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let is_ending = self.meter.is_shutting_down.load(Ordering::Acquire);
        if let Some(record) = self.record.as_mut().filter(|_| is_ending) {
            // The client did not leave. The server cut it off, as if it had died.
            self.status = ABORTED;
            record.status = ABORTED.into();
            record.cancelled = false;
            record.billable &= EndedBy::Server.is_billable(record);
        }
        if let Err(error) = self.write() {
            tracing::error!("cannot record a cancelled request: {error}");
        }
        self.meter.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_kind_maps_endpoints() {
        for (endpoint, kind) in [
            ("DoGet/StatementQuery", RequestKind::Query),
            ("DoGet/PreparedStatementQuery", RequestKind::Query),
            ("GetFlightInfo/StatementQuery", RequestKind::Plan),
            ("GetSchema/PreparedStatementQuery", RequestKind::Plan),
            ("DoPut/PreparedStatementQuery", RequestKind::Plan),
            ("DoPut/StatementIngest", RequestKind::Ingest),
            ("DoAction/unknown", RequestKind::Other),
            ("DoGet/GetTables", RequestKind::Metadata),
            ("GetFlightInfo/GetTables", RequestKind::Metadata),
            ("Handshake", RequestKind::SignIn),
            ("ListActions", RequestKind::Other),
        ] {
            let found = request_kind(endpoint, false, RequestKind::Other);
            assert_eq!(found, kind, "{endpoint}");
        }
        let action = "DoAction/CreatePreparedStatement";
        assert_eq!(
            request_kind(action, false, RequestKind::Plan),
            RequestKind::Plan
        );
    }
}
