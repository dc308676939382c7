//! A request that is being answered: what is counted while it is, and how its record comes about. Dropped before it was
//! [ended](OpenRequest::end), it was cancelled.

use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ecow::EcoString;
use futures::future::BoxFuture;
use uuid::Uuid;

use super::quotas::Counted;
use super::{IS_OFF, JournalError, Meter, OverLimit};
use crate::clock::{self, Stopwatch};
use crate::config::JournalFull;
use crate::lake::scanned::Scanned;
use crate::metrics::{EndedRequest, METRICS, RequestKind};
use crate::model::{ABORTED, OrganisationId, SessionId, UsageRecord, UserId};

/// The status of what was cancelled, as gRPC names it.
const CANCELLED: &str = "CANCELLED";
/// The maximum length of a statement in the ledger, in characters; of a longer one the beginning is kept.
const MAX_SQL_CHARS: usize = 64 << 10;
/// The journal is told of so many bytes of a long answer at a time: more of it is never lost if the server dies.
const PROGRESS_BYTES: u64 = 16 << 20;
/// How often quotas are checked while an answer has nothing to send: so long a query may read on.
const CHECKED_EVERY: Duration = Duration::from_millis(100);
/// A statement that is longer, in bytes, is not repeated with them.
const MAX_REPEATED_SQL_BYTES: usize = 16 << 10;

/// Who asks, and where from.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Who pays.
    pub organisation_id: OrganisationId,
    /// Who asks.
    pub user_id: UserId,
    /// The key that they ask with.
    pub api_key_id: Option<EcoString>,
    /// The session that they ask in.
    pub session_id: Option<SessionId>,
    /// Where they are.
    pub address: EcoString,
    /// What their program calls itself.
    pub agent: EcoString,
}

/// How an answer ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// As gRPC names it: `OK`, `INVALID_ARGUMENT`, …
    pub status: &'static str,
    /// Who ended it.
    pub by: EndedBy,
}

/// Who ended an answer. It decides whether one of which nothing was sent is paid for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndedBy {
    /// The client, its organisation's admins or the statement: it is paid for.
    Caller,
    /// Something on the server's side: it is paid for if rows were sent until then.
    Server,
    /// A quota of its organisation: it is paid for if anything was sent until then.
    Quota,
}

impl EndedBy {
    /// Returns whether a request that ran is paid for.
    fn is_billable(self, record: &UsageRecord) -> bool {
        match self {
            Self::Caller => true,
            Self::Server => record.rows > 0,
            Self::Quota => record.bytes_sent > 0,
        }
    }
}

/// What is left to do when an answer has ended.
pub enum Ended {
    /// The client may know.
    Recorded,
    /// The client may know when this is done.
    Syncing(BoxFuture<'static, io::Result<()>>),
}

/// The record of a request in the making.
#[derive(Debug)]
pub struct OpenRequest {
    meter: Meter,
    /// None only when it is in the journal.
    record: Option<Box<UsageRecord>>,
    since: Stopwatch,
    scanned: Scanned,
    /// Whether it is one of its organisation's queries at once.
    runs: bool,
    /// What the quotas know of it already.
    counted: Counted,
    /// Bytes that had been sent when the journal was last told; none if it knows nothing of it.
    journaled: Option<u64>,
    /// How it ended.
    status: &'static str,
    /// Who ended it; its client, if it is dropped.
    ended_by: EndedBy,
}

/// Why a statement is not run.
#[derive(Debug, thiserror::Error)]
pub enum NotBegun {
    /// The organisation is over a limit.
    #[error(transparent)]
    OverLimit(#[from] OverLimit),
    /// It cannot be recorded.
    #[error(transparent)]
    Journal(#[from] JournalError),
}

impl OpenRequest {
    pub(super) fn new(meter: Meter, id: Uuid, caller: Caller) -> Self {
        let now = clock::now();
        let record = UsageRecord {
            request_id: id,
            organisation_id: caller.organisation_id,
            user_id: caller.user_id,
            api_key_id: caller.api_key_id,
            session_id: caller.session_id,
            server_id: meter.shared.server,
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
        meter.shared.open.fetch_add(1, Ordering::Relaxed);
        Self {
            meter,
            record: Some(Box::new(record)),
            since: Stopwatch::start(),
            scanned: Scanned::default(),
            runs: false,
            counted: Counted::default(),
            journaled: None,
            status: CANCELLED,
            ended_by: EndedBy::Caller,
        }
    }

    /// Where whoever reads the lake's files for it counts.
    pub fn scanned(&self) -> Scanned {
        self.scanned.clone()
    }

    /// Says what is asked: the RPC and the command in it.
    pub fn asks(&mut self, endpoint: EcoString) {
        if let Some(record) = &mut self.record {
            record.endpoint = endpoint;
        }
    }

    /// Says which statement it is about; `fingerprint` is what all have in common that differ in literals only.
    pub fn is_about(&mut self, sql: &str, fingerprint: EcoString) {
        let keeps = self.meter.shared.settings.sql;
        if let Some(record) = &mut self.record {
            record.sql_fingerprint = Some(fingerprint);
            record.sql_text = keeps.then(|| sql.chars().take(MAX_SQL_CHARS).collect());
        }
    }

    /// Says that it runs a statement, which is paid for. Returns what its organisation is to be warned of. Before the client
    /// has anything of the answer, it is to be [kept](Self::keep), or to have ended.
    ///
    /// # Errors
    ///
    /// It may not run, since its organisation is over a limit, or since it cannot be recorded and such requests are to be
    /// refused.
    pub fn bills(&mut self) -> Result<Option<String>, NotBegun> {
        let Some(record) = &mut self.record else {
            return Ok(None);
        };
        if IS_OFF {
            return Ok(None);
        }
        let begun = self.meter.shared.quotas.begin(record.organisation_id);
        let warning = begun.inspect_err(OverLimit::count)?;
        self.runs = true;
        record.billable = true;
        match self.meter.shared.journal.has_room() {
            Err(full) if self.meter.shared.settings.when_full == JournalFull::Refuse => {
                record.billable = false;
                Err(full.into())
            }
            _ => Ok(warning),
        }
    }

    /// Writes down that it runs a statement, if it does: from now on it is found as aborted if the server dies.
    ///
    /// # Errors
    ///
    /// It cannot be written, and such requests are to be refused.
    pub fn keep(&mut self) -> Result<(), JournalError> {
        if !self.runs {
            return Ok(());
        }
        let kept = self.tell_journal();
        match (kept, &mut self.record) {
            (Err(error), Some(record))
                if self.meter.shared.settings.when_full == JournalFull::Refuse =>
            {
                record.billable = false;
                Err(error)
            }
            // It is tried again when it ends.
            _ => Ok(()),
        }
    }

    /// Writes down how far the answer is: what is to be paid for if the server dies.
    fn tell_journal(&mut self) -> Result<(), JournalError> {
        let Some(record) = &self.record else {
            return Ok(());
        };
        let text = record.sql_text.as_ref();
        let is_short = self.journaled.is_none()
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
        self.meter.shared.journal.begun(&if_lost)?;
        self.journaled = Some(record.bytes_sent);
        Ok(())
    }

    /// Whether more of the answer may be sent, as far as the month's quotas go.
    ///
    /// # Errors
    ///
    /// The organisation has used up one of them.
    pub fn check_quotas(&mut self) -> Result<(), OverLimit> {
        if !self.runs || IS_OFF {
            return Ok(());
        }
        let Some(record) = &self.record else {
            return Ok(());
        };
        let so_far = Counted {
            bytes_sent: record.bytes_sent,
            bytes_scanned: self.scanned.bytes(),
        };
        let quotas = &self.meter.shared.quotas;
        let checked = quotas.advance(record.organisation_id, self.counted, so_far);
        self.counted = so_far;
        checked.inspect_err(OverLimit::count)
    }

    /// How often the quotas are to be checked while nothing is sent; never, if none can be used up by that.
    pub fn checks_every(&self) -> Option<Duration> {
        let record = self.record.as_ref().filter(|_| self.runs)?;
        let quotas = &self.meter.shared.quotas;
        quotas
            .limits_scanned(record.organisation_id)
            .then_some(CHECKED_EVERY)
    }

    /// Counts a message of the answer.
    pub fn sent(&mut self, rows: u64, bytes: u64) {
        let since = self.since;
        if let Some(record) = &mut self.record {
            record.rows = record.rows.saturating_add(rows);
            record.bytes_sent = record.bytes_sent.saturating_add(bytes);
            let first = || u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX);
            record.first_byte_microseconds.get_or_insert_with(first);
            let is_behind = self
                .journaled
                .is_some_and(|told| record.bytes_sent - told >= PROGRESS_BYTES);
            // Room in the journal is for beginnings and ends first.
            if is_behind && self.meter.shared.journal.has_room().is_ok() {
                // It is tried again by the next message.
                let _ = self.tell_journal();
            }
        }
    }

    /// Counts rows that were taken in.
    pub fn took_in(&mut self, rows: u64) {
        if let Some(record) = &mut self.record {
            record.rows = record.rows.saturating_add(rows);
        }
    }

    /// Writes the record: from here on it outlives the process.
    ///
    /// # Errors
    ///
    /// It cannot be written, and the client must not take the answer for whole.
    pub fn end(&mut self, end: End) -> Result<Ended, JournalError> {
        if let Some(record) = &mut self.record {
            self.status = end.status;
            self.ended_by = end.by;
            record.status = end.status.into();
            record.cancelled = end.status == CANCELLED;
            record.billable &= end.by.is_billable(record);
        }
        self.write()
    }

    fn write(&mut self) -> Result<Ended, JournalError> {
        let Some(mut record) = self.record.take() else {
            return Ok(Ended::Recorded);
        };
        let took = self.since.elapsed().as_micros();
        record.duration_microseconds = u64::try_from(took).unwrap_or(u64::MAX);
        record.bytes_scanned = self.scanned.bytes();
        let is_waited_for = record.billable;
        METRICS.requests.ended(&EndedRequest {
            kind: kind_of(&record.endpoint, self.runs),
            status: self.status,
            took: Duration::from_micros(record.duration_microseconds),
            first_byte: record.first_byte_microseconds.map(Duration::from_micros),
            rows: record.rows,
            bytes_sent: record.bytes_sent,
            bytes_scanned: record.bytes_scanned,
        });
        // What servers tell of themselves, they tell without metering, too.
        if IS_OFF {
            return Ok(Ended::Recorded);
        }
        let shared = &self.meter.shared;
        record.ended_at = clock::now().max(record.started_at);
        let (counted, by) = (self.counted, self.ended_by);
        shared.quotas.end(&record, counted, self.runs, by);
        let written = match shared.settings.when_full {
            JournalFull::GoOn => shared
                .journal
                .has_room()
                .and_then(|()| shared.journal.ended(*record)),
            // It was let in when there was room for its end.
            JournalFull::Refuse => shared.journal.ended(*record),
        };
        match written {
            Ok(_) if shared.settings.sync && is_waited_for => {
                let journal = shared.journal.clone();
                Ok(Ended::Syncing(Box::pin(
                    async move { journal.synced().await },
                )))
            }
            Ok(_) => Ok(Ended::Recorded),
            Err(error) if shared.settings.when_full == JournalFull::GoOn => {
                METRICS.journal.dropped();
                let dropped = shared.dropped.fetch_add(1, Ordering::Relaxed) + 1;
                tracing::error!(dropped, "a request was answered and not recorded: {error}");
                Ok(Ended::Recorded)
            }
            Err(error) => Err(error),
        }
    }
}

/// What a call asks for, from its RPC and the command in it.
fn kind_of(endpoint: &str, runs: bool) -> RequestKind {
    let (rpc, command) = endpoint.split_once('/').unwrap_or((endpoint, ""));
    match (rpc, command) {
        (_, "StatementIngest") => RequestKind::Ingest,
        // Tickets of statements, and statements that are fetched by their handle.
        ("DoGet", "StatementQuery" | "PreparedStatementQuery") => RequestKind::Query,
        _ if runs => RequestKind::Query,
        ("GetFlightInfo" | "PollFlightInfo" | "GetSchema" | "DoPut", command)
            if command.contains("Statement") =>
        {
            RequestKind::Plan
        }
        ("DoAction", "CreatePreparedStatement" | "ClosePreparedStatement") => RequestKind::Plan,
        ("GetFlightInfo" | "PollFlightInfo" | "GetSchema" | "DoGet", _) => RequestKind::Metadata,
        ("Handshake", _) => RequestKind::SignIn,
        _ => RequestKind::Other,
    }
}

impl Drop for OpenRequest {
    fn drop(&mut self) {
        let is_ending = self.meter.shared.is_ending.load(Ordering::Acquire);
        if let Some(record) = self.record.as_mut().filter(|_| is_ending) {
            // The client did not leave: the server cut it off, as when it dies.
            self.status = ABORTED;
            record.status = ABORTED.into();
            record.cancelled = false;
            record.billable &= EndedBy::Server.is_billable(record);
        }
        if let Err(error) = self.write() {
            tracing::error!("a cancelled request could not be recorded: {error}");
        }
        self.meter.shared.open.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_have_few_kinds() {
        for (endpoint, kind) in [
            ("DoGet/StatementQuery", RequestKind::Query),
            ("DoGet/PreparedStatementQuery", RequestKind::Query),
            ("GetFlightInfo/StatementQuery", RequestKind::Plan),
            ("GetSchema/PreparedStatementQuery", RequestKind::Plan),
            ("DoPut/PreparedStatementQuery", RequestKind::Plan),
            ("DoPut/StatementIngest", RequestKind::Ingest),
            ("DoAction/CreatePreparedStatement", RequestKind::Plan),
            ("DoAction/unknown", RequestKind::Other),
            ("DoGet/GetTables", RequestKind::Metadata),
            ("GetFlightInfo/GetTables", RequestKind::Metadata),
            ("Handshake", RequestKind::SignIn),
            ("ListActions", RequestKind::Other),
        ] {
            assert_eq!(kind_of(endpoint, false), kind, "{endpoint}");
        }
    }
}
