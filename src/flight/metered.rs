//! The meter in front of the service: what is known of a call goes into its record, and an answer ends for the client
//! only when the record is written.

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

use super::call::address_of;
use super::{error_text, status};
use crate::auth::{Principal, Proof};
use crate::engine::Fingerprints;
use crate::lake::scanned::Scanned;
use crate::metering::{Caller, End, Ended, EndedBy, IS_OFF, NotBegun, OpenRequest, OverLimit};

/// Longest name of a client that is kept, in characters.
const LONGEST_AGENT: usize = 200;

/// A message of an answer.
pub(super) trait Metered: Message {
    /// Returns the rows of a table in it, and the bytes that are billed for it.
    fn size(&self) -> (u64, u64) {
        (0, self.encoded_len() as u64)
    }
}

impl Metered for FlightData {
    /// The padding of buffers to multiples of 64 bytes is not billed: it depends on the order of rows, and so on when the
    /// partitions of a query were ready.
    fn size(&self) -> (u64, u64) {
        let message = root_as_message(&self.data_header).ok();
        let Some(batch) = message.and_then(|message| message.header_as_record_batch()) else {
            return (0, self.encoded_len() as u64);
        };
        let buffers = batch.buffers().into_iter().flatten();
        let body: u64 = buffers.map(|buffer| buffer.length().unsigned_abs()).sum();
        let rest = self.data_header.len() + self.app_metadata.len();
        (batch.length().unsigned_abs(), body + rest as u64)
    }
}

impl Metered for ActionType {}
impl Metered for FlightInfo {}
impl Metered for HandshakeResponse {}
impl Metered for PollInfo {}
impl Metered for PutResult {}
impl Metered for SchemaResult {}
impl Metered for arrow_flight::Result {}

/// Who makes a call, for its record.
pub(super) fn caller_of<T>(principal: &Principal, request: &Request<T>) -> Caller {
    let (api_key_id, session_id) = match &principal.proof {
        Proof::Key { id, .. } => (Some(id.clone()), None),
        Proof::Session { id, .. } => (None, Some(*id)),
    };
    let address = address_of(request).map(|address| eco_format!("{address}"));
    Caller {
        organisation_id: principal.organisation_id,
        user_id: principal.user_id,
        api_key_id,
        session_id,
        address: address.unwrap_or_default(),
        agent: agent_of(request.metadata()),
    }
}

fn agent_of(headers: &MetadataMap) -> EcoString {
    let agent = headers.get("user-agent");
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    // What can be read of a header is ASCII.
    agent.get(..LONGEST_AGENT).unwrap_or(agent).into()
}

/// The record of a call, as those see it who work on the call.
#[derive(Debug)]
pub(super) struct Meter {
    request: Mutex<OpenRequest>,
    warning: Mutex<Option<String>>,
}

impl Meter {
    /// For a call of the RPC `name`.
    pub fn new(mut request: OpenRequest, name: &str) -> Self {
        request.asks(name.into());
        Self {
            request: Mutex::new(request),
            warning: Mutex::default(),
        }
    }

    /// Says which command the call has.
    pub fn asks(&self, rpc: &str, command: &str) {
        self.locked().asks(eco_format!("{rpc}/{command}"));
    }

    /// Says which statement the call is about.
    pub fn is_about(&self, sql: &str, known: &Fingerprints) {
        if !IS_OFF {
            let fingerprint = known.of(sql);
            self.locked().is_about(sql, fingerprint);
        }
    }

    /// Says that a statement will be run, which is paid for. Before the client knows anything of it, it is to be
    /// [kept](Self::keep), or answered by a [`MeteredStream`].
    pub fn bills(&self, request: Uuid) -> Result<(), Status> {
        let begun = self.locked().bills();
        let warning = begun.map_err(|error| match error {
            NotBegun::OverLimit(over) => over_limit(&over),
            NotBegun::Journal(error) => unrecorded(&error, request),
        })?;
        if let Some(warning) = warning {
            *self.warning.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
        }
        Ok(())
    }

    /// Writes down that the statement is being run.
    pub fn keep(&self, request: Uuid) -> Result<(), Status> {
        let kept = self.locked().keep();
        kept.map_err(|error| unrecorded(&error, request))
    }

    /// What the client is to be warned of.
    pub fn warning(&self) -> Option<String> {
        self.warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts readings that were taken in.
    pub fn took_in(&self, rows: usize) {
        self.locked().took_in(rows as u64);
    }

    /// Where bytes of the lake's files are counted.
    pub fn scanned(&self) -> Scanned {
        self.locked().scanned()
    }

    /// The record itself.
    pub fn into_request(self) -> OpenRequest {
        self.request
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn locked(&self) -> MutexGuard<'_, OpenRequest> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the client is told when its organisation is over a limit.
pub(super) fn over_limit(over: &OverLimit) -> Status {
    let retry_after = match over {
        OverLimit::Quota { .. } => return Status::failed_precondition(over.to_string()),
        OverLimit::Rate { retry_after, .. } => retry_after.as_secs_f64().ceil().max(1.0) as u64,
        OverLimit::Concurrency { .. } => 1,
    };
    let mut status = Status::unavailable(over.to_string());
    status
        .metadata_mut()
        .insert("retry-after", retry_after.into());
    status
}

/// What the client is told when its request cannot be recorded.
pub(super) fn unrecorded(error: &dyn std::error::Error, request: Uuid) -> Status {
    status::hidden(
        error,
        request,
        "requests cannot be recorded now, so none is answered",
    )
}

/// Writes the record of an answer of one message.
pub(super) async fn end_one<T: Metered>(
    mut request: OpenRequest,
    answer: Result<&T, &Status>,
    id: Uuid,
) -> Result<(), Status> {
    if let Ok(message) = answer {
        count(&mut request, message);
    }
    match request.end(end_of(answer.err())) {
        Ok(Ended::Recorded) => Ok(()),
        Ok(Ended::Syncing(syncing)) => syncing.await.map_err(|error| unrecorded(&error, id)),
        Err(error) => Err(unrecorded(&error, id)),
    }
}

fn end_of(error: Option<&Status>) -> End {
    End {
        status: status::name_of(error.map_or(Code::Ok, Status::code)),
        by: match error.is_some_and(status::is_ours) {
            true => EndedBy::Server,
            false => EndedBy::Caller,
        },
    }
}

/// An answer is waited for so long before the client is told that it begins,
const HELD: Duration = Duration::from_millis(100);
/// if it is no longer than this: messages, and bytes.
const MOST_HELD: usize = 4;
const MOST_BYTES: usize = 64 << 10;

/// An answer whose messages are counted, and which ends when its record is written. Dropped before, it was cancelled.
pub(super) struct MeteredStream<T> {
    request: OpenRequest,
    id: Uuid,
    /// Messages that were held, and counted.
    held: VecDeque<T>,
    rest: Rest<T>,
    /// When quotas are checked while nothing comes.
    checks: Option<Interval>,
}

/// What comes after the messages that are held.
enum Rest<T> {
    /// More of them, perhaps.
    Coming(BoxStream<'static, Result<T, Status>>),
    /// The end, or an error, when the record is on the disk.
    Syncing(BoxFuture<'static, io::Result<()>>, Option<Status>),
    /// The end, or an error.
    Ended(Option<Status>),
}

impl<T: Metered + Unpin> MeteredStream<T> {
    /// Of the call `id`. A short answer is waited for: it is in the journal once, as ended, and goes to the client in one
    /// piece. Any other is in the journal as begun when this returns; if it cannot be, an error is all that the client gets.
    pub async fn begin(
        mut answer: BoxStream<'static, Result<T, Status>>,
        request: OpenRequest,
        id: Uuid,
    ) -> Self {
        let mut held = VecDeque::new();
        let hold = async {
            let mut bytes = 0;
            while held.len() < MOST_HELD && bytes < MOST_BYTES {
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
        let mut end = tokio::time::timeout(HELD, hold).await.unwrap_or(None);
        let mut begun = Self {
            request,
            id,
            held,
            rest: Rest::Coming(answer),
            checks: None,
        };
        if end.is_none()
            && let Err(error) = begun.request.keep()
        {
            begun.held.clear();
            end = Some(Some(begun.unrecorded(&error)));
        }
        for message in &begun.held {
            count(&mut begun.request, message);
        }
        match end {
            Some(end) => begun.end(end),
            None => begun.checks = begun.request.checks_every().map(every),
        }
        begun
    }

    /// Ends the answer if its organisation has used up a quota; whether it has.
    fn is_used_up(&mut self) -> bool {
        let Err(over) = self.request.check_quotas() else {
            return false;
        };
        let text = format!("{over}; the answer ends here, and what was sent of it is billed");
        let status = super::call::stamped(Status::failed_precondition(text), self.id);
        let end = End {
            by: EndedBy::Quota,
            ..end_of(Some(&status))
        };
        self.end_by(Some(status), end);
        true
    }

    /// Ends the answer, perhaps by an error.
    fn end(&mut self, error: Option<Status>) {
        let error = error.map(error_text::within_limits);
        let end = end_of(error.as_ref());
        self.end_by(error, end);
    }

    fn end_by(&mut self, error: Option<Status>, end: End) {
        // Who works on it may still count until it is dropped.
        self.rest = Rest::Ended(None);
        self.rest = match self.request.end(end) {
            Ok(Ended::Recorded) => Rest::Ended(error),
            Ok(Ended::Syncing(syncing)) => Rest::Syncing(syncing, error),
            Err(failed) => Rest::Ended(Some(self.unrecorded(&failed))),
        };
    }

    fn unrecorded(&self, error: &dyn std::error::Error) -> Status {
        super::call::stamped(unrecorded(error, self.id), self.id)
    }
}

/// Ticks as long as it is polled; what was missed meanwhile is left out.
fn every(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

fn count<T: Metered>(request: &mut OpenRequest, message: &T) {
    let (rows, bytes) = message.size();
    request.sent(rows, bytes);
}

impl<T: Metered + Unpin> Stream for MeteredStream<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if let Some(message) = self.held.pop_front() {
            return Poll::Ready(Some(Ok(message)));
        }
        loop {
            match &mut self.rest {
                Rest::Coming(answer) => match answer.poll_next_unpin(context) {
                    // What was used up ends before the next message, not at it: a quota may be passed by one.
                    Poll::Ready(Some(Ok(message))) if !self.is_used_up() => {
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
                        let _is_over = self.is_used_up();
                    }
                },
                Rest::Syncing(syncing, error) => {
                    let synced = ready!(syncing.poll_unpin(context));
                    let error = error.take();
                    self.rest = Rest::Ended(match synced {
                        Ok(()) => error,
                        Err(failed) => Some(self.unrecorded(&failed)),
                    });
                }
                Rest::Ended(error) => return Poll::Ready(error.take().map(Err)),
            }
        }
    }
}
