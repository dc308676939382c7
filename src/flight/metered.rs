//! The meter in front of the service: collects the usage record of a call, and ends a response only when the record is
//! written.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use arrow::ipc::root_as_message;
use arrow_flight::{
    ActionType, FlightData, FlightInfo, HandshakeResponse, PollInfo, PutResult, SchemaResult,
};
use ecow::{EcoString, eco_format};
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use prost::Message;
use tokio::time::{Interval, MissedTickBehavior};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};
use uuid::Uuid;

use super::call_context::client_address;
use super::{error_text, status};
use crate::auth::{Principal, Proof};
use crate::engine::FingerprintCache;
use crate::lake::scanned_bytes::ScannedBytes;
use crate::metering::{
    Caller, EndOutcome, EndedBy, IS_DISABLED, LimitExceeded, OpenRequest, ResponseEnd,
    StatementRefused,
};
use crate::metrics::RequestKind;

/// The maximum length of a client's user agent in a record, in characters.
const MAX_AGENT_CHARS: usize = 200;

/// A message of a response.
pub(super) trait Metered: Message {
    /// Returns the number of table rows in the message, and the bytes that are billed for it.
    fn size(&self) -> (u64, u64) {
        (0, self.encoded_len() as u64)
    }
}

impl Metered for FlightData {
    /// The padding of buffers to multiples of 64 bytes, and the bitmaps of nulls, which batches without nulls do not
    /// have, are not billed: both depend on the order of rows, and therefore on the order in which the partitions of a
    /// query became ready.
    fn size(&self) -> (u64, u64) {
        let message = root_as_message(&self.data_header).ok();
        let Some(batch) = message.and_then(|message| message.header_as_record_batch()) else {
            return (0, self.encoded_len() as u64);
        };
        let buffers = batch.buffers().into_iter().flatten();
        let body: u64 = buffers.map(|buffer| buffer.length().unsigned_abs()).sum();
        let nodes = batch.nodes().into_iter().flatten();
        let nodes = nodes.filter(|node| node.null_count() != 0);
        let bitmaps: u64 = nodes
            .map(|node| node.length().unsigned_abs().div_ceil(8))
            .sum();
        let rest = self.data_header.len() + self.app_metadata.len();
        (
            batch.length().unsigned_abs(),
            body.saturating_sub(bitmaps) + rest as u64,
        )
    }
}

impl Metered for ActionType {}
impl Metered for FlightInfo {}
impl Metered for HandshakeResponse {}
impl Metered for PollInfo {}
impl Metered for PutResult {}
impl Metered for SchemaResult {}
impl Metered for arrow_flight::Result {}

/// Returns the caller of a request, for its usage record.
pub(super) fn usage_caller<T>(principal: &Principal, request: &Request<T>) -> Caller {
    let (api_key_id, session_id) = match &principal.proof {
        Proof::Key { id, .. } => (Some(id.clone()), None),
        Proof::Session { id, .. } => (None, Some(*id)),
    };
    let address = client_address(request).map(|address| eco_format!("{address}"));
    Caller {
        organisation_id: principal.organisation_id,
        user_id: principal.user_id,
        api_key_id,
        session_id,
        address: address.unwrap_or_default(),
        agent: user_agent(request.metadata()),
    }
}

fn user_agent(headers: &MetadataMap) -> EcoString {
    let agent = headers.get("user-agent");
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    // Header text is ASCII, so the cut is at a character boundary.
    agent.get(..MAX_AGENT_CHARS).unwrap_or(agent).into()
}

/// The usage record of a call, shared by the code that handles the call.
#[derive(Debug)]
pub(super) struct Meter {
    request: Mutex<OpenRequest>,
    warning: Mutex<Option<String>>,
}

impl Meter {
    /// Creates the meter of a call of the RPC `name`.
    pub fn new(mut request: OpenRequest, name: &str) -> Self {
        request.set_endpoint(name.into());
        Self {
            request: Mutex::new(request),
            warning: Mutex::default(),
        }
    }

    /// Sets the command of the call.
    pub fn set_command(&self, rpc: &str, command: &str) {
        self.lock().set_endpoint(eco_format!("{rpc}/{command}"));
    }

    /// Sets the kind of the action that the call runs, for metrics.
    pub fn set_action_kind(&self, kind: RequestKind) {
        self.lock().set_action_kind(kind);
    }

    /// Sets the statement of the call.
    pub fn set_statement(&self, sql: &str, known: &FingerprintCache) {
        if !IS_DISABLED {
            let fingerprint = known.get(sql);
            self.lock().set_statement(sql, fingerprint);
        }
    }

    /// Marks the call as billable, because it runs a statement. Before the client receives any data, the start of the
    /// call must be [persisted](Self::persist_start), or the response must be a [`MeteredStream`].
    ///
    /// # Errors
    /// Fails if the organisation is over a limit, or the call cannot be recorded.
    pub fn mark_billable(&self, request: Uuid) -> Result<(), Status> {
        let begun = self.lock().mark_billable();
        let warning = begun.map_err(|error| match error {
            StatementRefused::OverLimit(over) => over_limit_status(&over),
            StatementRefused::Journal(error) => metering_unavailable(&error, request),
        })?;
        if let Some(warning) = warning {
            *self.warning.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
        }
        Ok(())
    }

    /// Persists that the statement is being run.
    ///
    /// # Errors
    /// Fails if that cannot be recorded.
    pub fn persist_start(&self, request: Uuid) -> Result<(), Status> {
        let kept = self.lock().persist_start();
        kept.map_err(|error| metering_unavailable(&error, request))
    }

    /// Returns the warning for the client, if a quota is nearly used up.
    pub fn warning(&self) -> Option<String> {
        self.warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts ingested readings.
    pub fn count_ingested(&self, rows: usize) {
        self.lock().count_ingested(rows as u64);
    }

    /// Returns the counter of bytes read from the lake's files.
    pub fn scanned(&self) -> ScannedBytes {
        self.lock().scanned()
    }

    /// Returns the record.
    pub fn into_request(self) -> OpenRequest {
        self.request
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, OpenRequest> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status for a call whose organisation is over a limit.
pub(super) fn over_limit_status(over: &LimitExceeded) -> Status {
    let retry_after = match over {
        LimitExceeded::Quota { .. } => return Status::failed_precondition(over.to_string()),
        LimitExceeded::Rate { retry_after, .. } => retry_after.as_secs_f64().ceil().max(1.0) as u64,
        LimitExceeded::Concurrency { .. } => 1,
    };
    let mut status = Status::unavailable(over.to_string());
    status
        .metadata_mut()
        .insert("retry-after", retry_after.into());
    status
}

/// Returns the status for a request that cannot be recorded.
pub(super) fn metering_unavailable(error: &dyn std::error::Error, request: Uuid) -> Status {
    status::hidden_error(
        error,
        request,
        "metering is unavailable: cannot record requests, so none is processed",
    )
}

/// Writes the record of a call whose response is one message.
pub(super) async fn end_unary<T: Metered>(
    mut request: OpenRequest,
    answer: Result<&T, &Status>,
    id: Uuid,
) -> Result<(), Status> {
    if let Ok(message) = answer {
        count(&mut request, message);
    }
    match request.end(to_end(answer.err())) {
        Ok(EndOutcome::Recorded) => Ok(()),
        Ok(EndOutcome::Syncing(syncing)) => syncing
            .await
            .map_err(|error| metering_unavailable(&error, id)),
        Err(error) => Err(metering_unavailable(&error, id)),
    }
}

fn to_end(error: Option<&Status>) -> ResponseEnd {
    ResponseEnd {
        status: status::code_name(error.map_or(Code::Ok, Status::code)),
        by: match error.is_some_and(status::is_server_fault) {
            true => EndedBy::Server,
            false => EndedBy::Caller,
        },
    }
}

/// The maximum time for which a response is held back to wait for its end.
const HOLD_TIMEOUT: Duration = Duration::from_millis(100);
/// The maximum size of a response that is held back: in messages, and in bytes.
const MAX_HELD_MESSAGES: usize = 4;
const MAX_HELD_BYTES: usize = 64 << 10;

/// A response whose messages are counted, and which ends when its record is written. If it is dropped before, the client
/// has cancelled it.
pub(super) struct MeteredStream<T> {
    request: OpenRequest,
    id: Uuid,
    /// Messages that were held back; they are counted already.
    held: VecDeque<T>,
    rest: Rest<T>,
    /// The interval at which quotas are checked while no message arrives.
    checks: Option<Interval>,
}

/// The state after the messages that were held back.
enum Rest<T> {
    /// More messages may follow.
    Streaming(BoxStream<'static, Result<T, Status>>),
    /// The record is being synced to the disk; then follows the end, or an error.
    Syncing(BoxFuture<'static, io::Result<()>>, Option<Status>),
    /// The end, or an error that is still to be sent.
    Ended(Option<Status>),
}

impl<T: Metered + Unpin> MeteredStream<T> {
    /// Starts the response of the call `id`. A short response is held back until its end: the journal has only the record
    /// of its end, and the client receives it in one piece. For any other response, the start is in the journal when this
    /// function returns; if it cannot be written, the client receives only an error.
    pub async fn begin(
        mut answer: BoxStream<'static, Result<T, Status>>,
        request: OpenRequest,
        id: Uuid,
    ) -> Self {
        let mut held = VecDeque::new();
        let hold = async {
            let mut bytes = 0;
            while held.len() < MAX_HELD_MESSAGES && bytes < MAX_HELD_BYTES {
                match answer.next().await {
                    Some(Ok(message)) => {
                        bytes += message.encoded_len();
                        held.push_back(message);
                    }
                    Some(Err(error)) => return Some(Some(error)),
                    None => return Some(None),
                }
            }
            None
        };
        let mut end = tokio::time::timeout(HOLD_TIMEOUT, hold)
            .await
            .unwrap_or(None);
        let mut begun = Self {
            request,
            id,
            held,
            rest: Rest::Streaming(answer),
            checks: None,
        };
        if end.is_none()
            && let Err(error) = begun.request.persist_start()
        {
            begun.held.clear();
            end = Some(Some(begun.metering_unavailable(&error)));
        }
        for message in &begun.held {
            count(&mut begun.request, message);
        }
        match end {
            Some(end) => begun.end(end),
            None => begun.checks = begun.request.quota_check_interval().map(skipping_interval),
        }
        begun
    }

    /// Ends the response if its organisation has used up a quota. Returns whether it has.
    fn end_if_quota_exceeded(&mut self) -> bool {
        let Err(over) = self.request.check_quotas() else {
            return false;
        };
        let text = format!("{over}; the result was cut off, and the part that was sent is billed");
        let status = super::call::with_request_id(Status::failed_precondition(text), self.id);
        let end = ResponseEnd {
            by: EndedBy::Quota,
            ..to_end(Some(&status))
        };
        self.end_with(Some(status), end);
        true
    }

    /// Ends the response, with an error if there is one.
    fn end(&mut self, error: Option<Status>) {
        let error = error.map(error_text::limit_text);
        let end = to_end(error.as_ref());
        self.end_with(error, end);
    }

    fn end_with(&mut self, error: Option<Status>, end: ResponseEnd) {
        // The query may count bytes until its stream is dropped here.
        self.rest = Rest::Ended(None);
        self.rest = match self.request.end(end) {
            Ok(EndOutcome::Recorded) => Rest::Ended(error),
            Ok(EndOutcome::Syncing(syncing)) => Rest::Syncing(syncing, error),
            Err(failed) => Rest::Ended(Some(self.metering_unavailable(&failed))),
        };
    }

    fn metering_unavailable(&self, error: &dyn std::error::Error) -> Status {
        super::call::with_request_id(metering_unavailable(error, self.id), self.id)
    }
}

/// Returns an interval that skips the ticks it missed.
fn skipping_interval(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

fn count<T: Metered>(request: &mut OpenRequest, message: &T) {
    let (rows, bytes) = message.size();
    request.count_sent(rows, bytes);
}

impl<T: Metered + Unpin> Stream for MeteredStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        loop {
            match &mut self.rest {
                Rest::Streaming(answer) => match answer.poll_next_unpin(context) {
                    // A used-up quota ends the response before the next message: the last message sent may exceed it.
                    Poll::Ready(Some(Ok(message))) if !self.end_if_quota_exceeded() => {
                        count(&mut self.request, &message);
                        return Poll::Ready(Some(Ok(message)));
                    }
                    Poll::Ready(Some(Ok(_))) => {}
                    Poll::Ready(end) => self.end(end.and_then(Result::err)),
                    Poll::Pending => {
                        let Some(checks) = &mut self.checks else {
                            return Poll::Pending;
                        };
                        ready!(checks.poll_tick(context));
                        let _is_over = self.end_if_quota_exceeded();
                    }
                },
                Rest::Syncing(syncing, error) => {
                    let synced = ready!(syncing.poll_unpin(context));
                    let error = error.take();
                    self.rest = Rest::Ended(match synced {
                        Ok(()) => error,
                        Err(failed) => Some(self.metering_unavailable(&failed)),
                    });
                }
                Rest::Ended(error) => return Poll::Ready(error.take().map(Err)),
            }
        }
    }
}
