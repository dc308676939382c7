//! The result stream of a query, on whichever threads the query runs.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::{mpsc, oneshot};

use super::aborted::{QueryAborted, abort_reason_from_panic};
use super::limits::SHORT_QUERY_TIMEOUT;
use super::long_query::{LongQuery, MAX_BUFFERED_ITEMS, ResultItem};
use super::query_scheduler::QueryScheduler;
use super::timer::QueryTimer;
use crate::clock::Stopwatch;
use crate::engine::limits::cancellation::with_time_slice;
use crate::memory::{self, Charged, QueryMemory};
use crate::metrics::{GaugeGuard, Lane, METRICS};
use crate::model::OrganisationId;

/// The time after which a scan yields the serving thread, so that other requests are answered in between.
const TIME_SLICE: Duration = Duration::from_millis(5);

/// The result stream of a query. Dropping it cancels the query.
pub struct ResultStream<T> {
    scheduler: Arc<QueryScheduler>,
    organisation: OrganisationId,
    timer: QueryTimer,
    execution: Execution<T>,
}

/// The task or threads that run the query.
enum Execution<T> {
    /// The task that polls the stream.
    ServingThread {
        stream: Charged<BoxStream<'static, T>>,
        run_time: Duration,
        _running: GaugeGuard,
    },
    Workers {
        items: mpsc::Receiver<ResultItem<T>>,
        /// The reason why the query ended early. Dropping it ends the work.
        abort_reason: oneshot::Receiver<QueryAborted>,
        /// Whether the sender of `abort_reason` was dropped without a reason.
        has_ended: bool,
    },
    Ended,
}

impl QueryScheduler {
    /// Runs a query that probably takes less than `SHORT_QUERY_TIMEOUT`.
    pub fn run_short<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> ResultStream<T> {
        ResultStream::on_serving_thread(Arc::clone(self), organisation, timer, stream)
    }

    /// Runs a query that may take long; `start` is called on the threads that run it.
    pub fn run_long<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> ResultStream<T> {
        ResultStream::on_workers(Arc::clone(self), organisation, timer, start)
    }
}

impl<T: Send + 'static> ResultStream<T> {
    /// Runs a query that probably takes less than `SHORT_QUERY_TIMEOUT`.
    pub(super) fn on_serving_thread(
        scheduler: Arc<QueryScheduler>,
        organisation: OrganisationId,
        timer: QueryTimer,
        stream: BoxStream<'static, T>,
    ) -> Self {
        let at = Execution::ServingThread {
            stream: QueryMemory::start().charge_to(stream),
            run_time: Duration::ZERO,
            _running: METRICS.engine.track_running(Lane::Short),
        };
        Self {
            scheduler,
            organisation,
            timer,
            execution: at,
        }
    }

    /// Runs a query that may take long.
    pub(super) fn on_workers(
        scheduler: Arc<QueryScheduler>,
        organisation: OrganisationId,
        timer: QueryTimer,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> Self {
        let mut answer = Self {
            scheduler,
            organisation,
            timer,
            execution: Execution::Ended,
        };
        answer.move_to_workers(QueryMemory::start(), false, start);
        answer
    }

    fn move_to_workers(
        &mut self,
        memory: Arc<QueryMemory>,
        has_started: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) {
        let (items, receiver) = mpsc::channel(MAX_BUFFERED_ITEMS);
        let (ender, ended) = oneshot::channel();
        memory::watch(&memory);
        let long = LongQuery {
            scheduler: Arc::clone(&self.scheduler),
            organisation: self.organisation,
            timer: self.timer.clone(),
            memory,
            items,
        };
        drop(
            self.scheduler
                .serving_runtime
                .spawn(long.run(has_started, start, ender)),
        );
        self.execution = Execution::Workers {
            items: receiver,
            abort_reason: ended,
            has_ended: false,
        };
    }
}

impl<T> Drop for ResultStream<T> {
    fn drop(&mut self) {
        self.timer.token().cancel();
    }
}

impl<T: Send + 'static> Stream for ResultStream<T> {
    type Item = Result<T, QueryAborted>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = &mut *self;
        match &mut answer.execution {
            Execution::ServingThread {
                stream,
                run_time: worked,
                ..
            } => {
                let since = Stopwatch::start();
                let next = AssertUnwindSafe(|| {
                    with_time_slice(TIME_SLICE, || stream.poll_next_unpin(context))
                });
                let next = match std::panic::catch_unwind(next) {
                    Ok(next) => next,
                    Err(panic) => {
                        let cut = abort_reason_from_panic(stream.memory(), &*panic);
                        answer.execution = Execution::Ended;
                        return Poll::Ready(Some(Err(cut.record_metric())));
                    }
                };
                *worked += since.elapsed();
                if *worked < SHORT_QUERY_TIMEOUT || matches!(next, Poll::Ready(None)) {
                    return next.map(|item| item.map(Ok));
                }
                let memory = Arc::clone(stream.memory());
                let stream = stream.replace(futures::stream::empty().boxed());
                answer.move_to_workers(memory, true, move || stream);
                match next {
                    Poll::Ready(item) => Poll::Ready(item.map(Ok)),
                    Poll::Pending => self.poll_next(context),
                }
            }
            Execution::Workers {
                items,
                abort_reason: ended,
                has_ended: is_over,
            } => {
                // Poll this first: after a query is ended, its work sends only the cancellation error.
                if !*is_over && let Poll::Ready(reason) = ended.poll_unpin(context) {
                    if let Ok(cut) = reason {
                        answer.execution = Execution::Ended;
                        return Poll::Ready(Some(Err(cut)));
                    }
                    *is_over = true;
                }
                match items.poll_recv(context) {
                    Poll::Ready(Some(sent)) => Poll::Ready(sent),
                    // The reason is still to arrive.
                    Poll::Ready(None) if !*is_over => Poll::Pending,
                    // Without its end marker the result is incomplete, however many items arrived.
                    Poll::Ready(None) => {
                        Poll::Ready(Some(Err(QueryAborted::Failed.record_metric())))
                    }
                    Poll::Pending => Poll::Pending,
                }
            }
            Execution::Ended => Poll::Ready(None),
        }
    }
}
