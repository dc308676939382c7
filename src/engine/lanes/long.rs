//! Work on a long query, and the watch over it.
//!
//! The work runs on its organisation's threads. The watch runs on those that answer, because only they are sure to come to
//! it: it ends the work when its time is up or its client has left. Work that does not end then keeps its organisation's
//! turn, while others have the place again.

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

/// A client that does not take what is there for so long loses its turn until it does.
const PATIENCE: Duration = Duration::from_secs(1);
/// Items that wait to be taken.
pub(super) const AHEAD: usize = 2;
/// How long work has to notice that it was cancelled, before others have its place.
const GRACE: Duration = Duration::from_millis(500);
/// The time of a query that stands still is looked at no more often than this.
const MIN_WATCH: Duration = Duration::from_millis(20);

/// An item of an answer, or its end.
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
    /// Waits for a turn, starts the work, and ends it in time; `ended` is told why, and is closed when the client has left.
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
                tracing::error!("no thread can be started for a query: {error}");
                Some(CutShort::Lost)
            })?;
            let turn = TurnSlot::new(turn);
            // Waiting for one of its organisation's threads counts, too.
            timer.resume();
            let task = workers.spawn_task(self.work_in(turn.clone(), start));
            Ok((workers, turn, task.ok_or(Some(CutShort::Lost))?))
        });
        let (workers, turn, mut task) = match begun {
            Ok(begun) => begun,
            Err(cut) => {
                // The client may have left.
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
            // Before the work can come upon it: what it then makes of the answer is not looked at any more.
            let _ = ended.send(CutShort::Worked(timer.limit()).counted());
        }
        timer.token().cancel();
        task.abort();
        // The organisation's next query must not wait for threads that may be blocked.
        lanes.runtimes.withdraw(organisation, &workers);
        match timeout(GRACE, &mut task).await {
            Ok(_) => lanes.runtimes.restore(organisation, workers),
            Err(_) => {
                tracing::warn!("a query that was ended cannot be interrupted yet");
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
        // Nobody may be there to read it.
        let _ = self.items.send(last).await;
    }

    /// Sends everything; or says why not, which is nothing if the client has gone.
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
