//! Request bodies: limits on the size of a message, on the time it takes to arrive, and on the memory for all messages that
//! arrive at once.
//!
//! A gRPC message begins with its length, and tonic allocates that much at once. Therefore the length is read here, and
//! memory is reserved for it, before tonic sees it.

use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use hyper::body::{Body, Frame, SizeHint};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{Sleep, sleep};
use tonic::Status;

use crate::model::OrganisationId;

/// The size of the prefix of a gRPC message, in bytes: a flag of one byte, and the length of the message in four.
const HEADER_BYTES: usize = 5;
/// The unit in which memory is reserved, in bytes.
const UNIT_BYTES: usize = 1024;
/// The divisor of the total memory that gives the share of one organisation.
const SHARE_DIVISOR: u64 = 4;
/// The maximum number of an organisation's messages that wait for memory. For each, the client may have sent as much as the
/// flow-control window of a call allows. Together they must not fill the window of a connection, or messages that have
/// memory could not arrive.
const MAX_WAITING: usize = 8;

/// The memory for messages that arrive. Cheap to clone.
#[derive(Clone)]
pub(in crate::server) struct MessageMemory {
    all: Arc<Semaphore>,
    share_units: usize,
    shares: Arc<Mutex<HashMap<OrganisationId, Share>>>,
}

/// The share of one organisation.
#[derive(Clone)]
struct Share {
    memory: Arc<Semaphore>,
    /// Permits to wait for memory.
    waiting: Arc<Semaphore>,
}

impl MessageMemory {
    /// Creates a memory of `bytes` in all. An organisation's share is a part of it, but always enough for a message of
    /// `max_message_bytes`.
    pub fn new(bytes: u64, max_message_bytes: usize) -> Self {
        let share_bytes = (bytes / SHARE_DIVISOR).max(max_message_bytes as u64);
        let units = |bytes: u64| {
            let units = usize::try_from(bytes).unwrap_or(usize::MAX) / UNIT_BYTES + 1;
            units.min(Semaphore::MAX_PERMITS)
        };
        Self {
            all: Arc::new(Semaphore::new(units(bytes.max(share_bytes)))),
            share_units: units(share_bytes),
            shares: Arc::default(),
        }
    }

    /// Opens an account for the messages of one call of an organisation.
    pub fn open(&self, organisation: OrganisationId) -> Arc<MessageReservation> {
        let mut shares = self.shares.lock().unwrap_or_else(PoisonError::into_inner);
        let share = shares.entry(organisation).or_insert_with(|| Share {
            memory: Arc::new(Semaphore::new(self.share_units)),
            waiting: Arc::new(Semaphore::new(MAX_WAITING)),
        });
        Arc::new(MessageReservation {
            share: share.clone(),
            all: Arc::clone(&self.all),
            reserved: Mutex::default(),
        })
    }
}

/// The memory that is reserved for the latest message of a call. It is released when the next message begins, or when all
/// holders of the account have dropped it.
pub(in crate::server) struct MessageReservation {
    share: Share,
    all: Arc<Semaphore>,
    reserved: Mutex<Option<Reserved>>,
}

/// Permits of the organisation's share, and of the total.
type Reserved = (OwnedSemaphorePermit, OwnedSemaphorePermit);

impl MessageReservation {
    fn set_reserved(&self, reserved: Option<Reserved>) {
        *self.reserved.lock().unwrap_or_else(PoisonError::into_inner) = reserved;
    }

    fn try_reserve(&self, units: u32) -> Option<Reserved> {
        let share = Arc::clone(&self.share.memory);
        let share = share.try_acquire_many_owned(units).ok()?;
        let all = Arc::clone(&self.all).try_acquire_many_owned(units).ok()?;
        Some((share, all))
    }

    /// Reserves memory in order of arrival: first from the organisation's share, then from the total. Returns none if too
    /// many messages wait.
    fn reserve(&self, units: u32) -> Option<BoxFuture<'static, Option<Reserved>>> {
        let waiting = Arc::clone(&self.share.waiting).try_acquire_owned().ok()?;
        let (share, all) = (Arc::clone(&self.share.memory), Arc::clone(&self.all));
        let reserve = async move {
            let _waiting = waiting;
            let share = share.acquire_many_owned(units).await.ok()?;
            Some((share, all.acquire_many_owned(units).await.ok()?))
        };
        Some(reserve.boxed())
    }
}

/// Limits on the body of a call.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct BodyLimits {
    /// The maximum size of a message, in bytes; tonic rejects larger ones.
    pub max_message_bytes: usize,
    /// The time limit for a message to arrive. If the body has only one message, the time counts from the start of the call
    /// to the end of the body.
    pub message_timeout: Duration,
    /// The time limit for the next message to begin; none if the body has only one message.
    pub idle_timeout: Option<Duration>,
}

/// The position of a body within its messages.
#[derive(Debug, Default)]
struct Framing {
    header: [u8; HEADER_BYTES],
    header_bytes: usize,
    /// The bytes of the message after its header that have not arrived yet.
    left_bytes: usize,
}

impl Framing {
    /// Advances over the messages in `data`. Returns the length of the last message that begins in it, if one does.
    fn advance(&mut self, mut data: &[u8]) -> Option<usize> {
        let mut begun = None;
        while !data.is_empty() {
            if self.left_bytes > 0 {
                let taken = self.left_bytes.min(data.len());
                self.left_bytes -= taken;
                data = data.get(taken..).unwrap_or_default();
                continue;
            }
            let taken = (HEADER_BYTES - self.header_bytes).min(data.len());
            let (part, rest) = data.split_at(taken);
            for byte in part {
                if let Some(place) = self.header.get_mut(self.header_bytes) {
                    *place = *byte;
                }
                self.header_bytes += 1;
            }
            data = rest;
            if self.header_bytes == HEADER_BYTES {
                let [_, a, b, c, d] = self.header;
                let length = u32::from_be_bytes([a, b, c, d]) as usize;
                self.header_bytes = 0;
                self.left_bytes = length;
                begun = Some(length);
            }
        }
        begun
    }

    /// Whether a message has begun and has not arrived completely.
    fn is_within_message(&self) -> bool {
        self.left_bytes > 0 || self.header_bytes > 0
    }
}

/// A body that enforces its limits.
pub(in crate::server) struct RequestBody<B> {
    inner: B,
    limits: BodyLimits,
    /// None if the messages are too small to be counted.
    account: Option<Arc<MessageReservation>>,
    framing: Framing,
    /// Data that waits for memory.
    waiting: Option<(Bytes, BoxFuture<'static, Option<Reserved>>)>,
    /// Set while the body waits for data or memory.
    timer: Option<Pin<Box<Sleep>>>,
    /// Whether the timer is for the next message to begin, rather than for a message to arrive.
    is_idle: bool,
}

impl<B> RequestBody<B> {
    pub fn new(inner: B, limits: BodyLimits, account: Option<Arc<MessageReservation>>) -> Self {
        Self {
            inner,
            limits,
            account,
            framing: Framing::default(),
            waiting: None,
            timer: None,
            is_idle: false,
        }
    }

    /// Accepts data. Returns it once memory is reserved for the message that begins in it; returns none if the data has to
    /// wait for memory.
    ///
    /// # Errors
    /// Fails if too many messages wait for memory.
    fn accept(&mut self, data: Bytes) -> Result<Option<Bytes>, Status> {
        let begun = self.framing.advance(&data);
        let (Some(length), Some(account)) = (begun, &self.account) else {
            return Ok(Some(data));
        };
        // The previous message was decoded, or will be in a moment.
        account.set_reserved(None);
        if length > self.limits.max_message_bytes {
            // tonic rejects it, and allocates nothing for it.
            return Ok(Some(data));
        }
        let units = u32::try_from(length / UNIT_BYTES + 1).unwrap_or(u32::MAX);
        match account.try_reserve(units) {
            Some(reserved) => {
                account.set_reserved(Some(reserved));
                Ok(Some(data))
            }
            None => {
                let reserve = account.reserve(units).ok_or_else(no_memory_status)?;
                self.waiting = Some((data, reserve));
                Ok(None)
            }
        }
    }

    /// Returns the status that ends the call when the wait exceeds its limit.
    fn poll_timer(&mut self, context: &mut Context<'_>) -> Poll<Status> {
        let is_idle = !self.framing.is_within_message() && self.limits.idle_timeout.is_some();
        if self.is_idle != is_idle {
            self.is_idle = is_idle;
            self.timer = None;
        }
        let limit = match self.limits.idle_timeout {
            Some(idle) if is_idle => idle,
            _ => self.limits.message_timeout,
        };
        let timer = self.timer.get_or_insert_with(|| Box::pin(sleep(limit)));
        ready!(timer.as_mut().poll(context));
        let seconds = limit.as_secs();
        Poll::Ready(if self.waiting.is_some() {
            no_memory_status()
        } else if is_idle {
            Status::deadline_exceeded(format!(
                "no message arrived for {seconds} s (serve.unread_timeout); send the messages without long pauses"
            ))
        } else {
            Status::deadline_exceeded(format!(
                "the message did not arrive within {seconds} s (serve.message_timeout); send it again, in smaller parts over a slow network"
            ))
        })
    }
}

fn no_memory_status() -> Status {
    Status::unavailable(
        "too many messages arrive at once, so there is no memory for this one (serve.message_memory); try again in a moment",
    )
}

impl<B> Body for RequestBody<B>
where
    B: Body<Data = Bytes> + Unpin,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        let this = &mut *self;
        if let Some((data, reserving)) = &mut this.waiting {
            if let Poll::Ready(reserved) = reserving.poll_unpin(context) {
                let data = std::mem::take(data);
                this.waiting = None;
                if let Some(account) = &this.account {
                    account.set_reserved(reserved);
                }
                return Poll::Ready(Some(Ok(Frame::data(data))));
            }
            let status = ready!(this.poll_timer(context));
            // Gives up the place in the queue for memory.
            this.waiting = None;
            return Poll::Ready(Some(Err(status)));
        }
        match Pin::new(&mut this.inner).poll_frame(context) {
            Poll::Ready(Some(Ok(frame))) => {
                let data = match frame.into_data() {
                    Ok(data) => data,
                    Err(trailers) => return Poll::Ready(Some(Ok(trailers))),
                };
                let handed_on = match this.accept(data) {
                    Ok(handed_on) => handed_on,
                    Err(status) => return Poll::Ready(Some(Err(status))),
                };
                if this.limits.idle_timeout.is_some() && !this.framing.is_within_message() {
                    // The time limit starts again for the next message.
                    this.timer = None;
                }
                if let Some(data) = handed_on {
                    return Poll::Ready(Some(Ok(Frame::data(data))));
                }
                // The next poll registers the waker with the reservation.
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Poll::Ready(Some(Err(error))) => {
                Poll::Ready(Some(Err(Status::from_error(error.into()))))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => this.poll_timer(context).map(|status| Some(Err(status))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.waiting.is_none() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;
    use crate::clock::Stopwatch;

    /// A body that yields these pieces, and then ends if the flag is set; otherwise it stays pending.
    struct Pieces(VecDeque<Bytes>, bool);

    impl Body for Pieces {
        type Data = Bytes;
        type Error = Status;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
            match self.0.pop_front() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(piece)))),
                None if self.1 => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn message(length: usize) -> Vec<u8> {
        let header = u32::try_from(length).unwrap().to_be_bytes();
        [&[0][..], &header, &vec![7; length]].concat()
    }

    fn limits(idle: Option<u64>) -> BodyLimits {
        BodyLimits {
            max_message_bytes: 1 << 20,
            message_timeout: Duration::from_millis(100),
            idle_timeout: idle.map(Duration::from_millis),
        }
    }

    async fn next(body: &mut RequestBody<Pieces>) -> Option<Result<Bytes, Status>> {
        let frame = std::future::poll_fn(|context| Pin::new(&mut *body).poll_frame(context)).await;
        frame.map(|frame| frame.map(|frame| frame.into_data().unwrap()))
    }

    fn pieces(parts: &[&[u8]], ends: bool) -> Pieces {
        let parts = parts.iter().map(|part| Bytes::copy_from_slice(part));
        Pieces(parts.collect(), ends)
    }

    proptest! {
        #[test]
        fn framing_finds_messages_in_chunks_of_any_size(
            lengths in prop::collection::vec(0..300_usize, 1..8),
            piece in 1..200_usize,
        ) {
            let bytes: Vec<u8> = lengths.iter().flat_map(|length| message(*length)).collect();
            let mut framing = Framing::default();
            let mut last = None;
            for part in bytes.chunks(piece) {
                last = framing.advance(part).or(last);
            }
            prop_assert_eq!(last, lengths.last().copied());
            prop_assert!(!framing.is_within_message());
        }
    }

    #[tokio::test]
    async fn body_stalled_within_message_fails_after_message_timeout() {
        let unfinished = message(100);
        let mut body = RequestBody::new(
            pieces(&[&unfinished[..50]], false),
            limits(Some(60_000)),
            None,
        );
        assert!(next(&mut body).await.unwrap().is_ok());
        let began = Stopwatch::start();
        let status = next(&mut body).await.unwrap().unwrap_err();
        assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
        assert!(status.message().contains("serve.message_timeout"));
        assert!(began.elapsed() < Duration::from_secs(5));
        // Between messages, the idle limit applies. Without an idle limit, the message limit applies throughout.
        for (idle, is_long) in [(Some(1_500), true), (None, false)] {
            let mut body = RequestBody::new(pieces(&[&message(100)], false), limits(idle), None);
            assert!(next(&mut body).await.unwrap().is_ok());
            let began = Stopwatch::start();
            let status = next(&mut body).await.unwrap().unwrap_err();
            assert_eq!(began.elapsed() >= Duration::from_millis(1_500), is_long);
            let setting = if is_long {
                "serve.unread_timeout"
            } else {
                "serve.message_timeout"
            };
            assert!(status.message().contains(setting), "{status}");
        }
    }

    #[tokio::test]
    async fn messages_over_organisation_share_wait_for_memory() {
        let memory = MessageMemory::new(4 << 20, 1 << 20);
        let north = OrganisationId(uuid::Uuid::from_u128(1));
        let south = OrganisationId(uuid::Uuid::from_u128(2));
        let large = message(1 << 20);
        let begun = |organisation| {
            let account = Some(memory.open(organisation));
            RequestBody::new(
                pieces(&[&large[..9], &large[9..]], true),
                limits(Some(60_000)),
                account,
            )
        };
        let mut first = begun(north);
        assert_eq!(next(&mut first).await.unwrap().unwrap().len(), 9);
        let mut second = begun(north);
        let refused = next(&mut second).await.unwrap().unwrap_err();
        assert_eq!(refused.code(), tonic::Code::Unavailable, "{refused}");
        let mut other = begun(south);
        assert!(
            next(&mut other).await.unwrap().is_ok(),
            "has a share of its own"
        );
        let mut third = begun(north);
        let waits = async {
            tokio::time::sleep(Duration::from_millis(20)).await;
            drop(first);
        };
        let (got, ()) = tokio::join!(next(&mut third), waits);
        assert_eq!(got.unwrap().unwrap().len(), 9);
        let mut waiting: Vec<_> = (0..MAX_WAITING).map(|_| begun(north)).collect();
        for body in &mut waiting {
            assert!(next(body).now_or_never().is_none(), "waits");
        }
        let refused = next(&mut begun(north)).now_or_never();
        assert!(refused.is_some_and(|refused| refused.unwrap().is_err()));
    }

    #[tokio::test]
    async fn memory_is_released_at_next_message_and_at_end() {
        let memory = MessageMemory::new(4 << 20, 1 << 20);
        let before = memory.all.available_permits();
        let north = OrganisationId(uuid::Uuid::from_u128(1));
        let account = memory.open(north);
        let (large, small) = (message(1 << 20), message(10));
        let body = pieces(&[&large, &small, &message(2 << 20)], true);
        let mut body = RequestBody::new(body, limits(Some(60_000)), Some(account));
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(before - memory.all.available_permits(), 1025);
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(before - memory.all.available_permits(), 1);
        assert!(
            next(&mut body).await.unwrap().is_ok(),
            "tonic refuses what is too large"
        );
        assert_eq!(memory.all.available_permits(), before);
        assert!(next(&mut body).await.is_none());
    }
}
