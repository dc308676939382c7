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

use super::timer::QueryTimer;
use super::turn_slot::TurnSlot;
use super::turns::Turn;
use super::{CutShort, Lanes, cut_by_panic};
use crate::clock::Stopwatch;
use crate::memory::QueryMemory;
use crate::metrics::METRICS;
use crate::model::OrganisationId;

/// The time to wait for the client to take an item before the query gives up its permit, until the client reads on.
const PATIENCE: Duration = Duration::from_secs(1);
/// The number of items buffered for the client.
pub(super) const AHEAD: usize = 2;
/// The time that a cancelled query has to end before its permit is available to others.
const GRACE: Duration = Duration::from_millis(500);
/// The minimum interval at which the time of a paused query is checked.
const MIN_WATCH: Duration = Duration::from_millis(20);

/// An item of the result, or `None` for its end.
pub(super) type Sent<T> = Option<Result<T, CutShort>>;

/// A long query.
pub(super) struct Long<T> {
    pub lanes: Arc<Lanes>,
    pub organisation: OrganisationId,
    pub timer: QueryTimer,
    pub memory: Arc<QueryMemory>,
    pub items: mpsc::Sender<Sent<T>>,
}

impl<T: Send + 'static> Long<T> {
    /// Waits for a permit, starts the query, and ends it at its time limit. Sends the reason of an early end to
    /// `ended`, whose receiver is dropped when the client leaves.
    pub async fn watch(
        self,
        has_begun: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
        mut ended: oneshot::Sender<CutShort>,
    ) {
        let turn = tokio::select! {
            turn = self.turn(has_begun) => turn,
            () = ended.closed() => return,
        };
        let (lanes, timer, organisation) = (
            Arc::clone(&self.lanes),
            self.timer.clone(),
            self.organisation,
        );
        let begun = turn.map_err(Some).and_then(|turn| {
            let workers = lanes.runtimes.get(organisation);
            let workers = workers.map_err(|error| {
                tracing::error!("cannot start a thread for a query: {error}");
                Some(CutShort::Lost)
            })?;
            let turn = TurnSlot::new(turn);
            // The time spent waiting for a thread of the organisation counts towards the limit.
            timer.resume();
            let task = workers.spawn_task(self.work_in(turn.clone(), start));
            Ok((workers, turn, task.ok_or(Some(CutShort::Lost))?))
        });
        let (workers, turn, mut task) = match begun {
            Ok(begun) => begun,
            Err(cut) => {
                // The client may have left already.
                let _ = cut.map(|cut| ended.send(cut.counted()));
                return;
            }
        };
        let is_late = loop {
            tokio::select! {
                _ = &mut task => return,
                () = ended.closed() => break false,
                () = sleep(timer.remaining().max(MIN_WATCH)) => {
                    if timer.remaining().is_zero() {
                        break true;
                    }
                }
            }
        };
        if is_late {
            // Send the reason before the cancellation: items that the cancelled query sends afterwards are ignored.
            let _ = ended.send(CutShort::Worked(timer.limit()).counted());
        }
        timer.token().cancel();
        task.abort();
        // The next query of the organisation must not wait for threads that may be blocked.
        lanes.runtimes.withdraw(organisation, &workers);
        match timeout(GRACE, &mut task).await {
            Ok(_) => lanes.runtimes.restore(organisation, workers),
            Err(_) => {
                tracing::warn!("a cancelled query is still running and cannot be interrupted yet");
                turn.abandon();
                workers.step_back_further();
                let _ = task.await;
            }
        }
    }

    async fn work_in(
        self,
        turn: TurnSlot,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) {
        let _release = turn.release_on_drop();
        let work = self.memory.charge_to(Box::pin(self.work(&turn, start)));
        let last = match AssertUnwindSafe(work).catch_unwind().await {
            Ok(Ok(())) => None,
            Ok(Err(Some(cut))) => Some(Err(cut.counted())),
            Ok(Err(None)) => return,
            Err(panic) => Some(Err(cut_by_panic(&self.memory, &*panic).counted())),
        };
        // The client may have left already.
        let _ = self.items.send(last).await;
    }

    /// Sends all items. The error is the reason for an early end, or `None` if the client has left.
    async fn work(
        &self,
        turn: &TurnSlot,
        start: impl FnOnce() -> BoxStream<'static, T> + Send,
    ) -> Result<(), Option<CutShort>> {
        let unread = self.lanes.limits.unread;
        self.timer.resume();
        let mut stream = self.timer.token().scope(start);
        loop {
            self.timer.resume();
            let next = stream.next().await;
            self.timer.pause();
            let Some(item) = next else {
                return Ok(());
            };
            let place = match timeout(PATIENCE, self.items.reserve()).await {
                Ok(place) => place,
                Err(_) => {
                    turn.release();
                    let place = timeout(unread, self.items.reserve()).await;
                    let place = place.map_err(|_| Some(CutShort::Unread(unread)))?;
                    turn.put(self.turn(false).await.map_err(Some)?);
                    place
                }
            };
            place.map_err(|_| None)?.send(Some(Ok(item)));
        }
    }

    async fn turn(&self, has_begun: bool) -> Result<Turn, CutShort> {
        let wait = self.lanes.limits.wait;
        let (_waiting, since) = (METRICS.engine.waiting(), Stopwatch::start());
        let turn = timeout(wait, self.lanes.turns.wait(self.organisation, has_begun)).await;
        METRICS.engine.waited(since.elapsed());
        turn.map_err(|_| CutShort::Waited(wait))
    }
}
