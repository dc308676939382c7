//! Where queries are worked on. What is done within a moment is worked on where it was asked for; the rest on threads of
//! its own, so many at once, the organisations by turns, and not for ever.

mod turns;

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use self::turns::Turns;
use crate::clock::Stopwatch;
use crate::metrics::{Cut, Lane, METRICS, Running};
use crate::model::OrganisationId;
use crate::workers::{Workers, Working};

/// A query that was thought to be done within a moment is moved to the others after so much work.
const MOMENT: Duration = Duration::from_millis(30);
/// A client that does not take what is there for so long loses its turn until it does.
const PATIENCE: Duration = Duration::from_secs(1);
/// Items that wait to be taken.
const AHEAD: usize = 2;

/// The limits of long queries.
#[derive(Debug, Clone, Copy)]
pub struct LaneLimits {
    /// How many at once.
    pub places: usize,
    /// Threads that work on them.
    pub threads: usize,
    /// The stack of each, in bytes.
    pub stack: usize,
    /// How long one may be worked on.
    pub work: Duration,
    /// How long one may wait for its turn.
    pub wait: Duration,
    /// How long an answer may lie there and not be read.
    pub unread: Duration,
}

/// Why an answer ends before it is whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CutShort {
    /// It took too long.
    #[error(
        "the query was worked on for {} s, and no query may take longer; ask for fewer rows, or for a coarser table",
        .0.as_secs()
    )]
    Worked(Duration),
    /// There was no place.
    #[error(
        "the server is busy: the query waited {} s for its turn; try again later",
        .0.as_secs()
    )]
    Waited(Duration),
    /// The client stopped reading.
    #[error(
        "the answer was not read on for {} s, so its query was ended; run it again",
        .0.as_secs()
    )]
    Unread(Duration),
    /// The work on it broke off.
    #[error("the query broke off on the server's side; run it again")]
    Lost,
}

impl CutShort {
    /// Counts it in the metrics.
    fn counted(self) -> Self {
        METRICS.engine.cut(match self {
            Self::Worked(_) => Cut::Worked,
            Self::Waited(_) => Cut::Waited,
            Self::Unread(_) => Cut::Unread,
            Self::Lost => Cut::Lost,
        });
        self
    }
}

/// Works on queries.
#[derive(Debug)]
pub struct Lanes {
    workers: Workers,
    turns: Turns,
    limits: LaneLimits,
}

impl Lanes {
    /// Starts the threads.
    pub fn start(limits: LaneLimits) -> std::io::Result<Arc<Self>> {
        let places = limits.places as f64;
        METRICS.engine.places.from(move || Some(places));
        Ok(Arc::new(Self {
            workers: Workers::start("query", limits.threads, limits.stack)?,
            turns: Turns::new(limits.places),
            limits,
        }))
    }

    /// Works on what is probably done within a moment.
    pub fn short<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        stream: BoxStream<'static, T>,
    ) -> Answer<T> {
        Answer {
            lanes: Arc::clone(self),
            organisation,
            at: At::Here {
                stream,
                worked: Duration::ZERO,
                _running: METRICS.engine.running(Lane::Short),
            },
        }
    }

    /// Works on what may take long; `start` is called on the threads that work on it.
    pub fn long<T: Send + 'static>(
        self: &Arc<Self>,
        organisation: OrganisationId,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> Answer<T> {
        Answer {
            lanes: Arc::clone(self),
            organisation,
            at: self.hand_over(organisation, false, start),
        }
    }

    /// Works on what is no query, without waiting for a turn; none if the threads have ended. Dropped, it ends.
    pub async fn beside<T: Send + 'static>(
        &self,
        task: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        self.workers.run(task).await
    }

    fn hand_over<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        has_begun: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send + 'static,
    ) -> At<T> {
        let (items, receiver) = mpsc::channel(AHEAD);
        let long = Long {
            organisation,
            turns: self.turns.clone(),
            limits: self.limits,
            items,
        };
        let working = self.workers.spawn(async move {
            let last = match long.work(has_begun, start).await {
                Ok(()) => None,
                Err(Some(cut)) => Some(Err(cut.counted())),
                Err(None) => return,
            };
            // Nobody may be there to read it.
            let _ = long.items.send(last).await;
        });
        At::Workers {
            items: receiver,
            _working: working,
        }
    }
}

/// An item of an answer, or its end.
type Sent<T> = Option<Result<T, CutShort>>;

/// A query on the threads for long ones.
struct Long<T> {
    organisation: OrganisationId,
    turns: Turns,
    limits: LaneLimits,
    items: mpsc::Sender<Sent<T>>,
}

impl<T: Send + 'static> Long<T> {
    /// Sends everything; or says why not, which is nothing if the client has gone.
    async fn work(
        &self,
        has_begun: bool,
        start: impl FnOnce() -> BoxStream<'static, T> + Send,
    ) -> Result<(), Option<CutShort>> {
        let LaneLimits { work, unread, .. } = self.limits;
        let mut turn = self.turn(has_begun).await?;
        let mut stream = start();
        let mut worked = Duration::ZERO;
        loop {
            let since = Stopwatch::start();
            let next = timeout(work.saturating_sub(worked), stream.next()).await;
            worked += since.elapsed();
            let Some(item) = next.map_err(|_| Some(CutShort::Worked(work)))? else {
                return Ok(());
            };
            let place = match timeout(PATIENCE, self.items.reserve()).await {
                Ok(place) => place,
                Err(_) => {
                    drop(turn);
                    let place = timeout(unread, self.items.reserve()).await;
                    let place = place.map_err(|_| Some(CutShort::Unread(unread)))?;
                    turn = self.turn(false).await?;
                    place
                }
            };
            place.map_err(|_| None)?.send(Some(Ok(item)));
        }
    }

    async fn turn(&self, has_begun: bool) -> Result<turns::Turn, Option<CutShort>> {
        let wait = self.limits.wait;
        let (_waiting, since) = (METRICS.engine.waiting(), Stopwatch::start());
        let turn = timeout(wait, self.turns.wait(self.organisation, has_begun)).await;
        METRICS.engine.waited(since.elapsed());
        turn.map_err(|_| Some(CutShort::Waited(wait)))
    }
}

/// What comes of a query. Dropped, it ends the work on it.
pub struct Answer<T> {
    lanes: Arc<Lanes>,
    organisation: OrganisationId,
    at: At<T>,
}

/// Where it is worked on.
enum At<T> {
    /// By whoever reads it.
    Here {
        stream: BoxStream<'static, T>,
        worked: Duration,
        _running: Running,
    },
    Workers {
        items: mpsc::Receiver<Sent<T>>,
        _working: Working,
    },
}

impl<T: Send + 'static> Stream for Answer<T> {
    type Item = Result<T, CutShort>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let answer = &mut *self;
        match &mut answer.at {
            At::Here { stream, worked, .. } => {
                let since = Stopwatch::start();
                let next = AssertUnwindSafe(|| stream.poll_next_unpin(context));
                let Ok(next) = std::panic::catch_unwind(next) else {
                    *stream = futures::stream::empty().boxed();
                    return Poll::Ready(Some(Err(CutShort::Lost.counted())));
                };
                *worked += since.elapsed();
                if *worked < MOMENT || matches!(next, Poll::Ready(None)) {
                    return next.map(|item| item.map(Ok));
                }
                let stream = std::mem::replace(stream, futures::stream::empty().boxed());
                answer.at = answer.lanes.hand_over(answer.organisation, true, || stream);
                match next {
                    Poll::Ready(item) => Poll::Ready(item.map(Ok)),
                    Poll::Pending => self.poll_next(context),
                }
            }
            // Without its end, an answer is not whole, however many items came.
            At::Workers { items, .. } => items
                .poll_recv(context)
                .map(|sent| sent.unwrap_or(Some(Err(CutShort::Lost)))),
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    fn lanes() -> Arc<Lanes> {
        let second = Duration::from_secs(1);
        Lanes::start(LaneLimits {
            places: 1,
            threads: 1,
            stack: 1 << 20,
            work: second,
            wait: second,
            unread: second,
        })
        .unwrap()
    }

    fn organisation() -> OrganisationId {
        OrganisationId(uuid::Uuid::from_bytes([1; 16]))
    }

    #[tokio::test]
    async fn an_answer_whose_work_breaks_off_does_not_pass_for_whole() {
        let lanes = lanes();
        let whole = lanes.long(organisation(), || stream::iter(0..100).boxed());
        let whole: Vec<_> = whole.collect().await;
        assert_eq!(whole, (0..100).map(Ok).collect::<Vec<_>>());
        let breaking = || {
            let items = stream::iter(0..100);
            items
                .inspect(|item| assert!(*item < 3, "as if by a mistake in an operator"))
                .boxed()
        };
        let long = lanes.long(organisation(), breaking);
        for mut broken in [long, lanes.short(organisation(), breaking())] {
            for item in 0..3 {
                assert_eq!(broken.next().await, Some(Ok(item)));
            }
            assert_eq!(broken.next().await, Some(Err(CutShort::Lost)));
        }
    }

    #[tokio::test]
    async fn what_takes_longer_than_a_moment_is_moved_and_comes_whole() {
        let items = stream::iter(0..20).inspect(|_| std::thread::sleep(MOMENT / 5));
        let moved: Vec<_> = lanes().short(organisation(), items.boxed()).collect().await;
        assert_eq!(moved, (0..20).map(Ok).collect::<Vec<_>>());
    }
}
