//! Tests with faults of the Qdrant server: the kind of error, its delay, and the recovery.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fastrand::Rng;
use plantlake::catalog::VisibleAssets;
use plantlake::clock::Stopwatch;
use plantlake::search::index::{IndexError, IndexQuery, QdrantIndex, VectorIndex as _};

use crate::vectors::fake::Server;
use crate::vectors::oracle::{DIMENSIONS, point, sparse};

const NAME: &str = "t1w1-first";
const SHORT: Duration = Duration::from_millis(700);

fn connect(server: &Server, key: Option<&str>) -> QdrantIndex {
    QdrantIndex::connect(&server.url(), key, "plantlake", SHORT).unwrap()
}

fn lookup() -> IndexQuery {
    IndexQuery {
        embedding: None,
        words: sparse(&[(0, 1.0)]),
        granted: Arc::new(VisibleAssets::All),
        limit: 10,
    }
}

/// Returns a server with an active collection of some points.
async fn filled() -> (Server, QdrantIndex) {
    let server = Server::start();
    let index = connect(&server, None);
    let mut rng = Rng::with_seed(1);
    let points = (0..50)
        .map(|number| point(&mut rng, number, DIMENSIONS))
        .collect();
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    index.put(NAME, points).await.unwrap();
    index.activate(NAME).await.unwrap();
    (server, index)
}

/// Checks that a search fails within this time with the right error, and returns the error's text.
async fn fails(index: &QdrantIndex, within: Duration, is_right: fn(&IndexError) -> bool) -> String {
    let since = Stopwatch::start();
    let error = index.search(NAME, lookup()).await.unwrap_err();
    assert!(since.elapsed() < within, "{:?}", since.elapsed());
    assert!(is_right(&error), "{error:?}");
    error.to_string()
}

fn is_unavailable(error: &IndexError) -> bool {
    matches!(error, IndexError::Unavailable { .. })
}

#[tokio::test(flavor = "multi_thread")]
async fn hanging_server_times_out() {
    let (server, index) = filled().await;
    server.faults().hangs.store(true, Ordering::SeqCst);
    let message = fails(&index, SHORT * 2, is_unavailable).await;
    assert!(message.contains("no answer within 0.7 s"), "{message}");
    let since = Stopwatch::start();
    assert!(is_unavailable(
        &index.active_collection().await.unwrap_err()
    ));
    assert!(since.elapsed() < SHORT * 2);
    server.faults().hangs.store(false, Ordering::SeqCst);
    index.search(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn stopped_server_is_unavailable_until_it_returns() {
    let (mut server, index) = filled().await;
    let before = index.search(NAME, lookup()).await.unwrap();
    server.stop();
    fails(&index, SHORT * 2, is_unavailable).await;
    assert!(is_unavailable(
        &index.active_collection().await.unwrap_err()
    ));
    let some = point(&mut Rng::with_seed(2), 99, DIMENSIONS);
    assert!(is_unavailable(
        &index.put(NAME, vec![some]).await.unwrap_err()
    ));
    server.go_on();
    // Every kind of call succeeds at once.
    assert_eq!(
        index.active_collection().await.unwrap().as_deref(),
        Some(NAME)
    );
    assert_eq!(index.search(NAME, lookup()).await.unwrap(), before);
    server.stop();
    server.go_on();
    assert_eq!(index.stored_points(NAME).await.unwrap().len(), 50);
    server.stop();
    server.go_on();
    index.optimise(NAME).await.unwrap();
    assert_eq!(index.search(NAME, lookup()).await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn starting_server_is_retried_once() {
    let (server, index) = filled().await;
    server.faults().unavailable.store(1, Ordering::SeqCst);
    index.search(NAME, lookup()).await.unwrap();
    server.faults().unavailable.store(1, Ordering::SeqCst);
    index.active_collection().await.unwrap();
    server
        .faults()
        .unavailable
        .store(usize::MAX, Ordering::SeqCst);
    let message = fails(&index, SHORT * 2, is_unavailable).await;
    assert!(message.contains("starting up"), "{message}");
    // The number of retries is limited.
    assert!(server.faults().calls.load(Ordering::SeqCst) < 40);
    server.faults().unavailable.store(0, Ordering::SeqCst);
    index.search(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_key_is_refused_and_never_shown() {
    let (server, index) = filled().await;
    *server.faults().key.lock().unwrap() = Some("right".to_owned());
    let is_refused = |error: &IndexError| matches!(error, IndexError::Unauthenticated { .. });
    let message = fails(&index, SHORT, is_refused).await;
    assert!(message.contains("qdrant_api_key"), "{message}");
    let wrong = connect(&server, Some("wrong-and-secret"));
    let message = fails(&wrong, SHORT, is_refused).await;
    assert!(!format!("{message}{wrong:?}").contains("secret"));
    let right = connect(&server, Some("right"));
    right.search(NAME, lookup()).await.unwrap();
    // The key is changed, and changed back.
    *server.faults().key.lock().unwrap() = Some("another".to_owned());
    fails(&right, SHORT, is_refused).await;
    *server.faults().key.lock().unwrap() = Some("right".to_owned());
    right.search(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn old_server_is_refused_also_after_reconnect() {
    let (mut server, index) = filled().await;
    *server.faults().version.lock().unwrap() = Some("1.18.0");
    let is_unfit = |error: &IndexError| matches!(error, IndexError::Unsuitable { .. });
    let fresh = connect(&server, None);
    let message = fails(&fresh, SHORT, is_unfit).await;
    assert!(
        message.contains("1.18.0") && message.contains("1.19"),
        "{message}"
    );
    // The version is checked again after a lost connection.
    server.stop();
    fails(&index, SHORT * 2, is_unavailable).await;
    server.go_on();
    fails(&index, SHORT, is_unfit).await;
    *server.faults().version.lock().unwrap() = None;
    index.search(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn acknowledged_change_is_an_error() {
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
async fn collection_removed_by_another_process_is_missing() {
    let (server, index) = filled().await;
    server.lose(&format!("plantlake-{NAME}"));
    fails(&index, SHORT, |error| {
        matches!(error, IndexError::Missing { .. })
    })
    .await;
    index.create(NAME, Some(DIMENSIONS)).await.unwrap();
    index.search(NAME, lookup()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn optimise_waits_until_collection_is_green() {
    let (server, index) = filled().await;
    server.faults().yellow.store(4, Ordering::SeqCst);
    index.optimise(NAME).await.unwrap();
    assert_eq!(server.faults().yellow.load(Ordering::SeqCst), 0);
    // The wait can be cancelled.
    server.faults().yellow.store(usize::MAX, Ordering::SeqCst);
    let waited = tokio::time::timeout(Duration::from_millis(500), index.optimise(NAME)).await;
    assert!(waited.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn foreign_collections_and_aliases_are_kept() {
    let server = Server::start();
    server.add_foreign("plantlake_test-t1w1-a", "plantlake_test");
    server.add_foreign("plantlake-by-hand", "by_hand");
    server.add_foreign("unrelated", "plantlake");
    let index = connect(&server, None);
    let error = index.active_collection().await.unwrap_err();
    assert!(matches!(error, IndexError::Unsuitable { .. }), "{error}");
    index.create(NAME, None).await.unwrap();
    index.create("t1w1-second", None).await.unwrap();
    index.activate(NAME).await.unwrap();
    assert_eq!(
        server.collections(),
        [
            "plantlake-by-hand",
            "plantlake-t1w1-first",
            "plantlake_test-t1w1-a",
            "unrelated"
        ]
    );
    // A collection has the name of the alias.
    server.add_foreign("taken", "other");
    let index = QdrantIndex::connect(&server.url(), None, "taken", SHORT).unwrap();
    index.create(NAME, None).await.unwrap();
    let error = index.activate(NAME).await.unwrap_err();
    assert!(matches!(error, IndexError::Unsuitable { .. }), "{error}");
    assert!(QdrantIndex::connect(&server.url(), None, "a-b", SHORT).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn large_batches_are_split() {
    // 3,000 points of 3,072 dimensions take 37 MB; like a real server, the fake accepts 32 MiB per request.
    let server = Server::start();
    let index = connect(&server, None);
    let mut rng = Rng::with_seed(4);
    let points: Vec<_> = (0..3_000)
        .map(|number| point(&mut rng, number, 3_072))
        .collect();
    index.create(NAME, Some(3_072)).await.unwrap();
    index.put(NAME, points).await.unwrap();
    assert_eq!(index.stored_points(NAME).await.unwrap().len(), 3_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn concurrent_creation_of_a_collection_succeeds() {
    let server = Server::start();
    let (one, other) = (connect(&server, None), connect(&server, None));
    for round in 0..5 {
        let name = format!("t1w1-{round}");
        let (a, b) = tokio::join!(one.create(&name, Some(3)), other.create(&name, Some(3)));
        a.unwrap();
        b.unwrap();
        let (a, b) = tokio::join!(one.activate(&name), other.activate(&name));
        a.unwrap();
        b.unwrap();
        assert_eq!(other.active_collection().await.unwrap(), Some(name));
    }
    assert_eq!(server.collections(), ["plantlake-t1w1-4"]);
}
