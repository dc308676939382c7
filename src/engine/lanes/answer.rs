//! The result stream of a query, on whichever threads the query runs.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::super::cancellation::with_time_slice;
use super::long::{AHEAD, Long, Sent};
use super::timer::QueryTimer;
use super::{CutShort, Lanes, MOMENT, cut_by_panic};
use crate::clock::Stopwatch;
use crate::memory::{self, Charged, QueryMemory};
use crate::metrics::{Lane, METRICS, Running};
use crate::model::OrganisationId;

/// The time after which a scan yields the serving thread, so that other requests are answered in between.
const TIME_SLICE: Duration = Duration::from_millis(5);

/// The result stream of a query. Dropping it cancels the query.
pub struct Answer<T> {
    lanes: Arc<Lanes>,
    organisation: OrganisationId,
    timer: QueryTimer,
    at: At<T>,
}

/// The task or threads that run the query.
enum At<T> {
    /// The task that polls the stream.
    Here {
        stream: Charged<BoxStream<'static, T>>,
        worked: Duration,
        _running: Running,
    },
    Workers {
        items: mpsc::Receiver<Sent<T>>,
        /// The reason why the query ended early. Dropping it ends the work.
        ended: oneshot::Receiver<CutShort>,
        /// Whether the sender of `abort_reason` was dropped without a reason.
        is_over: bool,
    },
    Nowhere,
}

impl<T: Send + 'static> Answer<T> {
    /// Runs a query that probably takes less than `SHORT_QUERY_TIMEOUT`.
    pub(super) fn here(
        lanes: Arc<Lanes>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> Self {
        let at = At::Here {
            stream: QueryMemory::start().charge_to(stream),
            worked: Duration::ZERO,
            _running: METRICS.engine.running(Lane::Short),
        };
        Self {
            lanes,
            organisation,
            timer,
            at,
        }
    }

    /// Runs a query that may take long.
    pub(super) fn elsewhere(
        lanes: Arc<Lanes>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> Self {
        let mut answer = Self {
            lanes,
            organisation,
            timer,
            at: At::Nowhere,
        };
        answer.hand_over(QueryMemory::start(), false, start);
        answer
    }

    fn hand_over(
        &mut self,
        memory: Arc<QueryMemory>,
        has_begun: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) {
        let (items, receiver) = mpsc::channel(AHEAD);
        let (ender, ended) = oneshot::channel();
        memory::watch(&memory);
        let long = Long {
            lanes: Arc::clone(&self.lanes),
            organisation: self.organisation,
            timer: self.timer.clone(),
            memory,
            items,
        };
        drop(
            self.lanes
                .answering
                .spawn(long.watch(has_begun, start, ender)),
        );
        self.at = At::Workers {
            items: receiver,
            ended,
            is_over: false,
        };
    }
}

impl<T> Drop for Answer<T> {
    fn drop(&mut self) {
        self.timer.token().cancel();
    }
}

impl<T: Send + 'static> Stream for Answer<T> {
    type Item = Result<T, CutShort>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = &mut *self;
        match &mut answer.at {
            At::Here { stream, worked, .. } => {
                let since = Stopwatch::start();
                let next = AssertUnwindSafe(|| {
                    with_time_slice(TIME_SLICE, || stream.poll_next_unpin(context))
                });
                let next = match std::panic::catch_unwind(next) {
                    Ok(next) => next,
                    Err(panic) => {
                        let cut = cut_by_panic(stream.memory(), &*panic);
                        answer.at = At::Nowhere;
                        return Poll::Ready(Some(Err(cut.counted())));
                    }
                };
                *worked += since.elapsed();
                if *worked < MOMENT || matches!(next, Poll::Ready(None)) {
                    return next.map(|item| item.map(Ok));
                }
                let memory = Arc::clone(stream.memory());
                let stream = stream.replace(futures::stream::empty().boxed());
                answer.hand_over(memory, true, move || stream);
                match next {
                    Poll::Ready(item) => Poll::Ready(item.map(Ok)),
                    Poll::Pending => self.poll_next(context),
                }
            }
            At::Workers {
                items,
                ended,
                is_over,
            } => {
                // Poll this first: after a query is ended, its work sends only the cancellation error.
                if !*is_over && let Poll::Ready(reason) = ended.poll_unpin(context) {
                    if let Ok(cut) = reason {
                        answer.at = At::Nowhere;
                        return Poll::Ready(Some(Err(cut)));
                    }
                    *is_over = true;
                }
                match items.poll_recv(context) {
                    Poll::Ready(Some(sent)) => Poll::Ready(sent),
                    // The reason is still to arrive.
                    Poll::Ready(None) if !*is_over => Poll::Pending,
                    // Without its end marker the result is incomplete, however many items arrived.
                    Poll::Ready(None) => Poll::Ready(Some(Err(CutShort::Lost.counted()))),
                    Poll::Pending => Poll::Pending,
                }
            }
            At::Nowhere => Poll::Ready(None),
        }
    }
}
