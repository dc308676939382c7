use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, stream};

use super::*;
use crate::clock::Stopwatch;
use crate::engine::limits::cancellation;
use crate::engine::scheduler::limits::SHORT_QUERY_TIMEOUT;
use crate::model::OrganisationId;

const SECOND: Duration = Duration::from_secs(1);

fn scheduler_with(places: usize, work: Duration) -> Arc<QueryScheduler> {
    QueryScheduler::start(SchedulerLimits {
        permits: places,
        threads: 1,
        stack_bytes: 1 << 20,
        query_timeout: work,
        queue_timeout: SECOND,
        unread_timeout: SECOND,
    })
    .unwrap()
}

fn scheduler() -> Arc<QueryScheduler> {
    scheduler_with(1, SECOND)
}

fn organisation(number: u8) -> OrganisationId {
    OrganisationId(uuid::Uuid::from_bytes([number; 16]))
}

/// Returns a stream whose items take `time` each and cannot be interrupted.
fn stuck(time: Duration) -> impl Stream<Item = i32> + Send {
    stream::iter(0..2).inspect(move |_| std::thread::sleep(time))
}

#[tokio::test]
async fn result_of_a_query_that_panics_ends_with_failed() {
    let lanes = scheduler();
    let whole = lanes.run_long(organisation(1), lanes.timer(), || {
        stream::iter(0..100).boxed()
    });
    let whole: Vec<_> = whole.collect().await;
    assert_eq!(whole, (0..100).map(Ok).collect::<Vec<_>>());
    let breaking = || {
        let items = stream::iter(0..100);
        items
            .inspect(|item| assert!(*item < 3, "as a bug in an operator might"))
            .boxed()
    };
    let long = lanes.run_long(organisation(1), lanes.timer(), breaking);
    for mut broken in [
        long,
        lanes.run_short(organisation(1), lanes.timer(), breaking()),
    ] {
        for item in 0..3 {
            assert_eq!(broken.next().await, Some(Ok(item)));
        }
        assert_eq!(broken.next().await, Some(Err(QueryAborted::Failed)));
    }
}

#[tokio::test]
async fn short_query_beyond_its_timeout_is_moved_and_completes() {
    let items = stream::iter(0..20).inspect(|_| std::thread::sleep(SHORT_QUERY_TIMEOUT / 5));
    let lanes = scheduler();
    let moved = lanes.run_short(organisation(1), lanes.timer(), items.boxed());
    let moved: Vec<_> = moved.collect().await;
    assert_eq!(moved, (0..20).map(Ok).collect::<Vec<_>>());
}

#[tokio::test]
async fn uninterruptible_query_ends_at_its_limit_and_delays_no_other_organisation() {
    let limit = Duration::from_millis(300);
    let lanes = scheduler_with(2, limit);
    let since = Stopwatch::start();
    let mut late = lanes.run_long(organisation(1), lanes.timer(), || stuck(4 * SECOND).boxed());
    assert_eq!(late.next().await, Some(Err(QueryAborted::TimedOut(limit))));
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    // The stuck query still holds its organisation's permit; other organisations get theirs at once.
    let mut own = lanes.run_long(organisation(1), lanes.timer(), || stream::iter([7]).boxed());
    let others = [2, 3].map(|number| {
        lanes.run_long(organisation(number), lanes.timer(), || {
            stream::iter([7]).boxed()
        })
    });
    for mut other in others {
        assert_eq!(other.next().await, Some(Ok(7)));
    }
    assert!(since.elapsed() < 2 * SECOND, "{:?}", since.elapsed());
    assert_eq!(
        own.next().await,
        Some(Err(QueryAborted::QueueTimedOut(SECOND)))
    );
}

#[tokio::test]
async fn loop_that_checks_its_token_ends_when_the_client_leaves() {
    let lanes = scheduler_with(2, 60 * SECOND);
    let (began, has_begun) = std::sync::mpsc::channel();
    let (end, ended) = tokio::sync::oneshot::channel();
    let looping = move || {
        let mut end = Some(end);
        let polls = stream::poll_fn(move |_| {
            began.send(()).unwrap();
            while cancellation::check().is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
            let _ = end.take().map(|end| end.send(()));
            std::task::Poll::Ready(None::<i32>)
        });
        polls.boxed()
    };
    let timer = lanes.timer();
    let token = timer.token().clone();
    // Scans and operators set the token in the same way.
    let scoped = move || {
        let mut inner = looping();
        stream::poll_fn(move |context| token.scope(|| inner.poll_next_unpin(context))).boxed()
    };
    let answer = lanes.run_long(organisation(1), timer, scoped);
    let begun = tokio::task::spawn_blocking(move || has_begun.recv());
    begun.await.unwrap().unwrap();
    drop(answer);
    tokio::time::timeout(SECOND, ended).await.unwrap().unwrap();
}

#[tokio::test]
async fn uninterruptible_planning_ends_at_its_limit_and_delays_no_other_organisation() {
    let limit = Duration::from_millis(300);
    let lanes = scheduler_with(2, limit);
    let plan = |number: u8, time: Duration| {
        let lanes = Arc::clone(&lanes);
        async move {
            let work = async move {
                std::thread::sleep(time);
                number
            };
            lanes.plan(organisation(number), &lanes.timer(), work).await
        }
    };
    assert_eq!(plan(1, Duration::ZERO).await, Ok(1));
    let since = Stopwatch::start();
    assert_eq!(
        plan(1, 4 * SECOND).await,
        Err(QueryAborted::PlanningTimedOut(limit))
    );
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    for number in 2..6 {
        // A new thread replaces the one that is stuck.
        assert_eq!(plan(number, Duration::ZERO).await, Ok(number));
    }
    assert!(since.elapsed() < SECOND, "{:?}", since.elapsed());
    assert_eq!(
        plan(1, Duration::ZERO).await,
        Err(QueryAborted::QueueTimedOut(SECOND))
    );
}

#[tokio::test]
async fn planning_that_panics_fails_and_the_next_succeeds() {
    let lanes = scheduler();
    let timer = lanes.timer();
    let broken = lanes.plan(organisation(1), &timer, async {
        panic!("as a library might")
    });
    let broken: Result<(), _> = broken.await;
    assert_eq!(broken, Err(QueryAborted::Failed));
    let token = timer.token().clone();
    let whole = lanes.plan(organisation(1), &timer, async { 7 }).await;
    assert_eq!(whole, Ok(7));
    assert!(
        !token.is_cancelled(),
        "work that has finished is not cancelled"
    );
}

#[tokio::test]
async fn planning_whose_client_leaves_is_cancelled() {
    let lanes = scheduler();
    let (end, ended) = tokio::sync::oneshot::channel();
    let timer = lanes.timer();
    let work = async move {
        while cancellation::check().is_ok() {
            std::thread::sleep(Duration::from_millis(1));
        }
        let _ = end.send(());
    };
    let planning = lanes.plan(organisation(1), &timer, work);
    assert!(
        tokio::time::timeout(Duration::from_millis(100), planning)
            .await
            .is_err()
    );
    tokio::time::timeout(SECOND, ended.map(Result::unwrap))
        .await
        .unwrap();
}
