//! A Qdrant server that does something wrong: which error it is, how soon, and that it passes.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use plantlake::catalog::Visible;
use plantlake::clock::Stopwatch;
use plantlake::search::index::{IndexError, Lookup, QdrantIndex, VectorIndex as _};

use crate::fake::Server;
use crate::oracle::{DIMENSIONS, point, sparse};

const NAME: &str = "t1w1-first";
const SHORT: Duration = Duration::from_millis(700);

fn connect(server: &Server, key: Option<&str>) -> QdrantIndex {
    QdrantIndex::connect(&server.url(), key, "plantlake", SHORT).unwrap()
}

fn lookup() -> Lookup {
    Lookup {
        meaning: None,
        words: sparse(&[(0, 1.0)]),
        granted: Arc::new(Visible::All),
        limit: 10,
    }
}

/// A server with a collection in force that has some points.
async fn filled() -> (Server, QdrantIndex) {
    let server = Server::start();
    let index = connect(&server, None);
    let mut rng = Rng::with_seed(1);
    let points = (0..50)
        .map(|number| point(&mut rng, number, DIMENSIONS))
        .collect();
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    index.put(NAME, points).await.unwrap();
    index.put_in_force(NAME).await.unwrap();
    (server, index)
}

/// Checks that looking up fails within this time, and how.
async fn fails(index: &QdrantIndex, within: Duration, is_right: fn(&IndexError) -> bool) -> String {
    let since = Stopwatch::start();
    let error = index.look_up(NAME, lookup()).await.unwrap_err();
    assert!(since.elapsed() < within, "{:?}", since.elapsed());
    assert!(is_right(&error), "{error:?}");
    error.to_string()
}

fn is_unavailable(error: &IndexError) -> bool {
    matches!(error, IndexError::Unavailable { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_hangs_is_given_up_on() {
    let (server, index) = filled().await;
    server.faults().hangs.store(true, Ordering::SeqCst);
    let message = fails(&index, SHORT * 2, is_unavailable).await;
    assert!(message.contains("no answer within 0.7 s"), "{message}");
    let since = Stopwatch::start();
    assert!(is_unavailable(&index.in_force().await.unwrap_err()));
    assert!(since.elapsed() < SHORT * 2);
    server.faults().hangs.store(false, Ordering::SeqCst);
    index.look_up(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_is_gone_is_unavailable_and_is_found_when_it_is_back() {
    let (mut server, index) = filled().await;
    let before = index.look_up(NAME, lookup()).await.unwrap();
    server.stop();
    fails(&index, SHORT * 2, is_unavailable).await;
    assert!(is_unavailable(&index.in_force().await.unwrap_err()));
    let some = point(&mut Rng::with_seed(2), 99, DIMENSIONS);
    assert!(is_unavailable(
        &index.put(NAME, vec![some]).await.unwrap_err()
    ));
    server.go_on();
    // At once, for every kind of call.
    assert_eq!(index.in_force().await.unwrap().as_deref(), Some(NAME));
    assert_eq!(index.look_up(NAME, lookup()).await.unwrap(), before);
    server.stop();
    server.go_on();
    assert_eq!(index.stored(NAME).await.unwrap().len(), 50);
    server.stop();
    server.go_on();
    index.settle(NAME).await.unwrap();
    assert_eq!(index.look_up(NAME, lookup()).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_starts_up_is_asked_once_more() {
    let (server, index) = filled().await;
    server.faults().unavailable.store(1, Ordering::SeqCst);
    index.look_up(NAME, lookup()).await.unwrap();
    server.faults().unavailable.store(1, Ordering::SeqCst);
    index.in_force().await.unwrap();
    server
        .faults()
        .unavailable
        .store(usize::MAX, Ordering::SeqCst);
    let message = fails(&index, SHORT * 2, is_unavailable).await;
    assert!(message.contains("starting up"), "{message}");
    // It is not asked without end.
    assert!(server.faults().calls.load(Ordering::SeqCst) < 40);
    server.faults().unavailable.store(0, Ordering::SeqCst);
    index.look_up(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn without_its_key_nobody_is_let_in_and_no_message_has_it() {
    let (server, index) = filled().await;
    *server.faults().key.lock().unwrap() = Some("right".to_owned());
    let is_refused = |error: &IndexError| matches!(error, IndexError::Refused { .. });
    let message = fails(&index, SHORT, is_refused).await;
    assert!(message.contains("qdrant_api_key"), "{message}");
    let wrong = connect(&server, Some("wrong-and-secret"));
    let message = fails(&wrong, SHORT, is_refused).await;
    assert!(!format!("{message}{wrong:?}").contains("secret"));
    let right = connect(&server, Some("right"));
    right.look_up(NAME, lookup()).await.unwrap();
    // The key is changed, and changed back.
    *server.faults().key.lock().unwrap() = Some("another".to_owned());
    fails(&right, SHORT, is_refused).await;
    *server.faults().key.lock().unwrap() = Some("right".to_owned());
    right.look_up(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_old_one_is_refused_also_if_it_comes_later() {
    let (mut server, index) = filled().await;
    *server.faults().version.lock().unwrap() = Some("1.18.0");
    let is_unfit = |error: &IndexError| matches!(error, IndexError::Unfit { .. });
    let fresh = connect(&server, None);
    let message = fails(&fresh, SHORT, is_unfit).await;
    assert!(
        message.contains("1.18.0") && message.contains("1.19"),
        "{message}"
    );
    // One that was looked at already is looked at again when it was away.
    server.stop();
    fails(&index, SHORT * 2, is_unavailable).await;
    server.go_on();
    fails(&index, SHORT, is_unfit).await;
    *server.faults().version.lock().unwrap() = None;
    index.look_up(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_acknowledged_is_not_there() {
    let (server, index) = filled().await;
    server
        .faults()
        .acknowledges_only
        .store(true, Ordering::SeqCst);
    let some = point(&mut Rng::with_seed(3), 7, DIMENSIONS);
    let error = index.put(NAME, vec![some.clone()]).await.unwrap_err();
    assert!(error.to_string().contains("Acknowledged"), "{error}");
    assert!(index.remove(NAME, &[some.id]).await.is_err());
    server
        .faults()
        .acknowledges_only
        .store(false, Ordering::SeqCst);
    index.put(NAME, vec![some]).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collection_that_another_process_has_removed_is_missing() {
    let (server, index) = filled().await;
    server.lose(&format!("plantlake-{NAME}"));
    fails(&index, SHORT, |error| {
        matches!(error, IndexError::Missing { .. })
    })
    .await;
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    index.look_up(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_waited_for_until_it_is_green() {
    let (server, index) = filled().await;
    server.faults().yellow.store(4, Ordering::SeqCst);
    index.settle(NAME).await.unwrap();
    assert_eq!(server.faults().yellow.load(Ordering::SeqCst), 0);
    // Whoever waits can be stopped.
    server.faults().yellow.store(usize::MAX, Ordering::SeqCst);
    let waited = tokio::time::timeout(Duration::from_millis(500), index.settle(NAME)).await;
    assert!(waited.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_keep_there_is_left_alone() {
    let server = Server::start();
    server.add_foreign("plantlake_test-t1w1-a", "plantlake_test");
    server.add_foreign("plantlake-by-hand", "by_hand");
    server.add_foreign("unrelated", "plantlake");
    let index = connect(&server, None);
    let error = index.in_force().await.unwrap_err();
    assert!(matches!(error, IndexError::Unfit { .. }), "{error}");
    index.create(NAME, None).await.unwrap();
    index.create("t1w1-second", None).await.unwrap();
    index.put_in_force(NAME).await.unwrap();
    assert_eq!(
        server.collections(),
        [
            "plantlake-by-hand",
            "plantlake-t1w1-first",
            "plantlake_test-t1w1-a",
            "unrelated"
        ]
    );
    // Its name is taken by a collection.
    server.add_foreign("taken", "other");
    let index = QdrantIndex::connect(&server.url(), None, "taken", SHORT).unwrap();
    index.create(NAME, None).await.unwrap();
    let error = index.put_in_force(NAME).await.unwrap_err();
    assert!(matches!(error, IndexError::Unfit { .. }), "{error}");
    assert!(QdrantIndex::connect(&server.url(), None, "a-b", SHORT).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_cut() {
    // 8,000 points of 1,536 dimensions are 50 MB; the fake takes 32 MiB at once, as a server does.
    let server = Server::start();
    let index = connect(&server, None);
    let mut rng = Rng::with_seed(4);
    let points: Vec<_> = (0..3_000)
        .map(|number| point(&mut rng, number, 3_072))
        .collect();
    index.create(NAME, Some(3_072)).await.unwrap();
    index.put(NAME, points).await.unwrap();
    assert_eq!(index.stored(NAME).await.unwrap().len(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn two_processes_may_make_the_same_collection() {
    let server = Server::start();
    let (one, other) = (connect(&server, None), connect(&server, None));
    for round in 0..5 {
        let name = format!("t1w1-{round}");
        let (a, b) = tokio::join!(one.create(&name, Some(3)), other.create(&name, Some(3)));
        a.unwrap();
        b.unwrap();
        let (a, b) = tokio::join!(one.put_in_force(&name), other.put_in_force(&name));
        a.unwrap();
        b.unwrap();
        assert_eq!(other.in_force().await.unwrap(), Some(name));
    }
    assert_eq!(server.collections(), ["plantlake-t1w1-4"]);
}
