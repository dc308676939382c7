//! A response whose messages are counted, and which ends only when its record is written.

use std::collections::VecDeque;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio::time::{Interval, MissedTickBehavior};
use tonic::{Code, Status};
use uuid::Uuid;

use super::message_size::Metered;
use super::meter::metering_unavailable;
use super::request_id::with_request_id;
use crate::metering::{EndOutcome, EndedBy, OpenRequest, ResponseEnd};
use crate::server::errors::status;

/// The maximum time for which a response is held back to wait for its end.
const HOLD_TIMEOUT: Duration = Duration::from_millis(100);
/// The maximum size of a response that is held back: in messages, and in bytes.
const MAX_HELD_MESSAGES: usize = 4;
const MAX_HELD_BYTES: usize = 64 << 10;

/// A response whose messages are counted, and which ends when its record is written. If it is dropped before, the client
/// has cancelled it.
pub(in crate::server) struct MeteredStream<T> {
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
    pub(super) async fn begin(
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
            end = Some(Some(metering_unavailable(&error, id)));
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
        let status = Status::failed_precondition(text);
        let end = ResponseEnd {
            by: EndedBy::Quota,
            ..to_end(Some(&status))
        };
        self.end_with(Some(status), end);
        true
    }

    /// Ends the response, with an error if there is one.
    fn end(&mut self, error: Option<Status>) {
        let end = to_end(error.as_ref());
        self.end_with(error, end);
    }

    fn end_with(&mut self, error: Option<Status>, end: ResponseEnd) {
        let error = error.map(|error| with_request_id(error, self.id));
        // The query may count bytes until its stream is dropped here.
        self.rest = Rest::Ended(None);
        self.rest = match self.request.end(end) {
            Ok(EndOutcome::Recorded) => Rest::Ended(error),
            Ok(EndOutcome::Syncing(syncing)) => Rest::Syncing(syncing, error),
            Err(failed) => Rest::Ended(Some(self.metering_unavailable(&failed))),
        };
    }

    fn metering_unavailable(&self, error: &dyn std::error::Error) -> Status {
        with_request_id(metering_unavailable(error, self.id), self.id)
    }
}

/// Returns an interval that skips the ticks it missed.
fn skipping_interval(period: Duration) -> Interval {
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    ticks
}

/// Counts a message of a response.
pub(super) fn count<T: Metered>(request: &mut OpenRequest, message: &T) {
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

/// Returns the end of a response, for its record; `error` is none if the response is complete.
pub(super) fn to_end(error: Option<&Status>) -> ResponseEnd {
    ResponseEnd {
        status: status::code_name(error.map_or(Code::Ok, Status::code)),
        by: match error.is_some_and(status::is_server_fault) {
            true => EndedBy::Server,
            false => EndedBy::Caller,
        },
    }
}
