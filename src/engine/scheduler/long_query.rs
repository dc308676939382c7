//! Execution of long queries, and the watch over it.
//!
//! The query runs on the threads of its organisation. The watch runs on the serving threads, because only these are
//! never blocked: it ends the query when its time is up or its client has left. A query that cannot be interrupted then
//! still counts towards its organisation's share of permits, while the permit is available to others.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{FutureExt, StreamExt};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::aborted::{QueryAborted, abort_reason_from_panic};
use super::fair_queue::Permit;
use super::permit_slot::PermitSlot;
use super::query_scheduler::QueryScheduler;
use super::timer::QueryTimer;
use crate::clock::Stopwatch;
use crate::memory::QueryMemory;
use crate::metrics::METRICS;
use crate::model::OrganisationId;

/// The time to wait for the client to take an item before the query gives up its permit, until the client reads on.
const SLOW_READER_TIMEOUT: Duration = Duration::from_secs(1);
/// The number of items buffered for the client.
pub(super) const MAX_BUFFERED_ITEMS: usize = 2;
/// The time that a cancelled query has to end before its permit is available to others.
const CANCEL_TIMEOUT: Duration = Duration::from_millis(500);
/// The minimum interval at which the time of a paused query is checked.
const MIN_WATCH_INTERVAL: Duration = Duration::from_millis(20);

/// An item of the result, or `None` for its end.
pub(super) type ResultItem<T> = Option<Result<T, QueryAborted>>;

/// A long query.
pub(super) struct LongQuery<T> {
    pub scheduler: Arc<QueryScheduler>,
    pub organisation: OrganisationId,
    pub timer: QueryTimer,
    pub memory: Arc<QueryMemory>,
    pub items: mpsc::Sender<ResultItem<T>>,
}

impl<T: Send + 'static> LongQuery<T> {
    /// Waits for a permit, starts the query, and ends it at its time limit. Sends the reason of an early end to
    /// `ended`, whose receiver is dropped when the client leaves.
    pub async fn run(
        self,
        has_started: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
        mut ended: oneshot::Sender<QueryAborted>,
    ) {
        let permit = tokio::select! {
            turn = self.wait_for_permit(has_started) => turn,
            () = ended.closed() => return,
        };
        let (scheduler, timer, organisation) = (
            Arc::clone(&self.scheduler),
            self.timer.clone(),
            self.organisation,
        );
        let started = permit.map_err(Some).and_then(|permit| {
            let workers = scheduler.organisation_threads.get(organisation);
            let workers = workers.map_err(|error| {
                tracing::error!("cannot start a thread for a query: {error}");
                Some(QueryAborted::Failed)
            })?;
            let permit = PermitSlot::new(permit);
            // The time spent waiting for a thread of the organisation counts towards the limit.
            timer.resume();
            let task = workers.spawn_task(self.run_with_permit(permit.clone(), start));
            Ok((workers, permit, task.ok_or(Some(QueryAborted::Failed))?))
        });
        let (workers, permit, mut task) = match started {
            Ok(begun) => begun,
            Err(cut) => {
                // The client may have left already.
                let _ = cut.map(|cut| ended.send(cut.record_metric()));
                return;
            }
        };
        let is_late = loop {
            tokio::select! {
                _ = &mut task => return,
                () = ended.closed() => break false,
                () = sleep(timer.remaining().max(MIN_WATCH_INTERVAL)) => {
                    if timer.remaining().is_zero() {
                        break true;
                    }
                }
            }
        };
        if is_late {
            // Send the reason before the cancellation: items that the cancelled query sends afterwards are ignored.
            let _ = ended.send(QueryAborted::TimedOut(timer.limit()).record_metric());
        }
        timer.token().cancel();
        task.abort();
        // The next query of the organisation must not wait for threads that may be blocked.
        scheduler
            .organisation_threads
            .remove(organisation, &workers);
        match timeout(CANCEL_TIMEOUT, &mut task).await {
            Ok(_) => scheduler
                .organisation_threads
                .restore(organisation, workers),
            Err(_) => {
                tracing::warn!("a cancelled query is still running and cannot be interrupted yet");
                permit.abandon();
                workers.lower_priority();
                let _ = task.await;
            }
        }
    }

    async fn run_with_permit(
        self,
        permit: PermitSlot,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) {
        let _release = permit.release_on_drop();
        let work = self
            .memory
            .charge_to(Box::pin(self.send_items(&permit, start)));
        let last = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => None,
            Ok(Err(Some(cut))) => Some(Err(cut.record_metric())),
            Ok(Err(None)) => return,
            Err(panic) => Some(Err(
                abort_reason_from_panic(&self.memory, &*panic).record_metric()
            )),
        };
        // The client may have left already.
        let _ = self.items.send(last).await;
    }

    /// Sends all items. The error is the reason for an early end, or `None` if the client has left.
    async fn send_items(
        &self,
        permit: &PermitSlot,
        start: impl FnOnce() -> BoxStream<'static, T> + Send,
    ) -> Result<(), Option<QueryAborted>> {
        let unread = self.scheduler.limits.unread_timeout;
        self.timer.resume();
        let mut stream = self.timer.token().scope(start);
        loop {
            self.timer.resume();
            let next = stream.next().await;
            self.timer.pause();
            let Some(item) = next else {
                return Ok(());
            };
            let place = match timeout(SLOW_READER_TIMEOUT, self.items.reserve()).await {
                Ok(place) => place,
                Err(_) => {
                    permit.release();
                    let place = timeout(unread, self.items.reserve()).await;
                    let place = place.map_err(|_| Some(QueryAborted::ResultUnread(unread)))?;
                    permit.set(self.wait_for_permit(false).await.map_err(Some)?);
                    place
                }
            };
            place.map_err(|_| None)?.send(Some(Ok(item)));
        }
    }

    async fn wait_for_permit(&self, has_started: bool) -> Result<Permit, QueryAborted> {
        let wait = self.scheduler.limits.queue_timeout;
        let (_waiting, since) = (METRICS.engine.track_waiting(), Stopwatch::start());
        let permit = timeout(
            wait,
            self.scheduler.queue.acquire(self.organisation, has_started),
        )
        .await;
        METRICS.engine.record_wait(since.elapsed());
        permit.map_err(|_| QueryAborted::QueueTimedOut(wait))
    }
}
