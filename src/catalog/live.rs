//! The catalog in effect while a process runs: follows the files, and keeps the last valid version.
//!
//! The files' sizes and times are polled instead of using notifications, because network file systems support
//! polling only. The files are replaced one after another, so they are read only once they have stopped changing.

use std::fs::Metadata;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::watch;
use tokio::task::{JoinHandle, spawn_blocking};

use super::content::{ASSETS_FILE, GRAPH_FILE, ID_TO_ASSETS_FILE};
use super::error::CatalogError;
use super::snapshot::Snapshot;
use crate::metrics::METRICS;

/// The polling interval. A change takes effect after two to three intervals.
const POLL_INTERVAL: Duration = Duration::from_secs(1);
/// The maximum number of first reads while the files change.
const MAX_FIRST_READS: usize = 10;

/// The catalog in effect, and the mistakes of a later one.
#[derive(Debug, Clone)]
pub struct LiveState {
    /// The last valid catalog.
    pub snapshot: Arc<Snapshot>,
    /// The reason why the files' current content is not in effect, if it is not.
    pub problem: Option<Arc<CatalogError>>,
}

/// Follows the catalog in a folder until it is dropped.
#[derive(Debug)]
pub struct LiveCatalog {
    state: watch::Receiver<LiveState>,
    follower: JoinHandle<()>,
}

impl LiveCatalog {
    /// Reads the catalog in `folder`, which must be valid, and follows it from then on.
    pub async fn open(folder: &Path) -> Result<Self, CatalogError> {
        Self::open_with(folder, POLL_INTERVAL).await
    }

    /// Opens the catalog as [`Self::open`] does, with another polling interval.
    pub async fn open_with(folder: &Path, poll: Duration) -> Result<Self, CatalogError> {
        let mut attempt = 1;
        let (seen, first) = loop {
            let (seen, outcome, moved) = read(folder.to_owned()).await;
            let is_good = outcome.is_ok() && !moved;
            if is_good || attempt == MAX_FIRST_READS {
                break (seen, outcome?);
            }
            // Mistakes that were read while the files were being replaced are no reason to refuse the start.
            let moves_on = has_pending_changes(folder, &seen, poll).await;
            if !moved && !moves_on {
                break (seen, outcome?);
            }
            attempt += 1;
        };
        let (sender, state) = watch::channel(LiveState {
            snapshot: Arc::new(first),
            problem: None,
        });
        let follower = tokio::spawn(follow(folder.to_owned(), poll, seen, sender));
        Ok(Self { state, follower })
    }

    /// Returns the last valid catalog.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.state.borrow().snapshot)
    }

    /// Returns the reason why the files' current content is not in effect, if it is not.
    pub fn problem(&self) -> Option<Arc<CatalogError>> {
        self.state.borrow().problem.clone()
    }

    /// Returns a receiver of changes, both of the catalog in effect and of the problem.
    pub fn changes(&self) -> watch::Receiver<LiveState> {
        self.state.clone()
    }
}

impl Drop for LiveCatalog {
    fn drop(&mut self) {
        self.follower.abort();
    }
}

/// The metadata by which a changed file is recognised without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FileStamp {
    Missing,
    Unknown(ErrorKind),
    Present {
        size: u64,
        modified: Option<SystemTime>,
        identity: Identity,
    },
}

/// The inode and the time of its last change. Even a copy that keeps the modification time of its source alters them.
type Identity = (u64, i64, i64);

#[cfg(unix)]
fn identity(file: &Metadata) -> Identity {
    use std::os::unix::fs::MetadataExt;
    (file.ino(), file.ctime(), file.ctime_nsec())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Identity {
    (0, 0, 0)
}

type Stamps = [FileStamp; 3];

fn stamps(folder: &Path) -> Stamps {
    [ASSETS_FILE, ID_TO_ASSETS_FILE, GRAPH_FILE].map(|name| {
        match std::fs::metadata(folder.join(name)) {
            Ok(file) => FileStamp::Present {
                size: file.len(),
                modified: file.modified().ok(),
                identity: identity(&file),
            },
            Err(error) if error.kind() == ErrorKind::NotFound => FileStamp::Missing,
            Err(error) => FileStamp::Unknown(error.kind()),
        }
    })
}

/// Returns the files' stamps. Runs on a blocking thread, because a network file system may be slow.
async fn read_stamps(folder: PathBuf) -> Stamps {
    spawn_blocking(move || stamps(&folder))
        .await
        .unwrap_or([FileStamp::Unknown(ErrorKind::Other); 3])
}

/// Reads the catalog. Returns the stamps before the read, the result, and whether files changed meanwhile.
async fn read(folder: PathBuf) -> (Stamps, Result<Snapshot, CatalogError>, bool) {
    let path = folder.clone();
    let work = move || {
        let before = stamps(&folder);
        let outcome = Snapshot::read(&folder);
        (before, outcome, stamps(&folder) != before)
    };
    spawn_blocking(work).await.unwrap_or_else(|error| {
        let outcome = Err(CatalogError::Io {
            action: "read",
            path,
            source: std::io::Error::other(error),
        });
        ([FileStamp::Unknown(ErrorKind::Other); 3], outcome, false)
    })
}

/// Whether the files change within two polling intervals.
async fn has_pending_changes(folder: &Path, seen: &Stamps, poll: Duration) -> bool {
    tokio::time::sleep(poll * 2).await;
    read_stamps(folder.to_owned()).await != *seen
}

/// Polls the files forever, and activates valid content.
async fn follow(
    folder: PathBuf,
    poll: Duration,
    mut done: Stamps,
    state: watch::Sender<LiveState>,
) {
    let mut last = done;
    // A file that could not be read is tried again even if nothing about it has changed.
    let mut again = false;
    loop {
        tokio::time::sleep(poll).await;
        let now = read_stamps(folder.clone()).await;
        let is_still = now == last;
        last = now;
        if !is_still || now == done && !again {
            continue;
        }
        let (seen, outcome, moved) = read(folder.clone()).await;
        if moved || seen != now {
            continue;
        }
        done = seen;
        again = matches!(&outcome, Err(CatalogError::Io { source, .. })
            if source.kind() != ErrorKind::NotFound);
        apply_outcome(&state, outcome);
    }
}

/// Activates a valid catalog, or keeps the current one and records why. Notifies receivers only of changes.
fn apply_outcome(state: &watch::Sender<LiveState>, outcome: Result<Snapshot, CatalogError>) {
    state.send_if_modified(|state| match outcome {
        Ok(found) if found.fingerprint() == state.snapshot.fingerprint() => {
            // The files have their former content again, or only their metadata changed.
            state.problem.take().is_some()
        }
        Ok(found) => {
            let found = found.with_version_after(&state.snapshot);
            METRICS.tables.count_catalog_change(true);
            tracing::info!(version = found.version(), "activated a changed catalog");
            *state = LiveState {
                snapshot: Arc::new(found),
                problem: None,
            };
            true
        }
        Err(error) => {
            let text = |error: &CatalogError| error.problems().list(usize::MAX);
            if let Some(problem) = &state.problem
                && text(problem) == text(&error)
            {
                return false;
            }
            METRICS.tables.count_catalog_change(false);
            tracing::warn!(
                "rejected the changed catalog; the former one stays active: {}",
                error.problems()
            );
            state.problem = Some(Arc::new(error));
            true
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::asset::Asset;
    use crate::catalog::content::Catalog;
    use crate::catalog::tests::{asset, catalog};

    const QUICK: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(60);

    /// Returns a plant whose assets all have `name`, in all three files.
    fn named(name: &str, assets: u8) -> Catalog {
        let mut catalog = catalog();
        catalog
            .assets
            .extend((10..10 + assets).map(|byte| asset(byte, name)));
        for asset in &mut catalog.assets {
            asset.name = name.to_owned();
        }
        for node in &mut catalog.graph.nodes {
            node.name = name.to_owned();
        }
        catalog
    }

    /// Waits until the state satisfies `wanted`.
    async fn until(live: &LiveCatalog, wanted: impl FnMut(&LiveState) -> bool) -> LiveState {
        let mut changes = live.changes();
        let state = tokio::time::timeout(LONG, changes.wait_for(wanted)).await;
        state
            .expect("the state was not reached in time")
            .expect("the follower has ended")
            .clone()
    }

    fn is_of(snapshot: &Snapshot, name: &str) -> bool {
        let is_named = |asset: &Asset| asset.name == name;
        snapshot.catalog().assets.iter().all(is_named)
    }

    #[tokio::test]
    async fn live_catalog_activates_valid_changes_and_rejects_invalid_ones() {
        let folder = tempfile::tempdir().unwrap();
        named("one", 0).write(folder.path()).unwrap();
        let live = LiveCatalog::open_with(folder.path(), QUICK).await.unwrap();
        let first = live.snapshot();
        assert_eq!((first.version(), live.problem().is_none()), (1, true));
        assert!(is_of(&first, "one"));

        named("two", 3).write(folder.path()).unwrap();
        let state = until(&live, |state| is_of(&state.snapshot, "two")).await;
        assert_eq!(state.snapshot.version(), 2);
        assert_ne!(state.snapshot.fingerprint(), first.fingerprint());
        let id = asset(12, "").id;
        assert_eq!(state.snapshot.asset(id).unwrap().name, "two");
        assert!(is_of(&first, "one"), "a former snapshot must not change");

        std::fs::write(folder.path().join(ASSETS_FILE), "[{}]").unwrap();
        let state = until(&live, |state| state.problem.is_some()).await;
        assert_eq!(state.snapshot.version(), 2);
        assert!(is_of(&live.snapshot(), "two"));
        let text = live.problem().unwrap().to_string();
        assert!(
            text.contains("entry 1 (line 1), field id: it is missing"),
            "{text}"
        );

        // The change is undone: this is the same catalog as before, not a third one.
        named("two", 3).write(folder.path()).unwrap();
        let state = until(&live, |state| state.problem.is_none()).await;
        assert_eq!(state.snapshot.version(), 2);

        std::fs::remove_file(folder.path().join(ASSETS_FILE)).unwrap();
        let state = until(&live, |state| state.problem.is_some()).await;
        assert!(
            state
                .problem
                .unwrap()
                .to_string()
                .contains("assets.json; check that the folder exists")
        );
        assert_eq!(live.snapshot().version(), 2);

        named("three", 0).write(folder.path()).unwrap();
        let state = until(&live, |state| is_of(&state.snapshot, "three")).await;
        assert!(state.problem.is_none());
    }

    #[tokio::test]
    async fn live_catalog_follows_removal_and_return_of_the_graph() {
        let folder = tempfile::tempdir().unwrap();
        named("one", 0).write(folder.path()).unwrap();
        let live = LiveCatalog::open_with(folder.path(), QUICK).await.unwrap();
        std::fs::remove_file(folder.path().join(GRAPH_FILE)).unwrap();
        let state = until(&live, |state| state.snapshot.version() == 2).await;
        assert!(state.snapshot.catalog().graph.nodes.is_empty());
        named("one", 0).write(folder.path()).unwrap();
        let state = until(&live, |state| state.snapshot.version() == 3).await;
        assert_eq!(state.snapshot.catalog().graph, catalog_graph("one"));
    }

    fn catalog_graph(name: &str) -> crate::catalog::graph::Graph {
        named(name, 0).graph
    }

    /// Each file is replaced separately, with pauses shorter than the polling interval: intermediate states must not be
    /// seen.
    #[tokio::test(flavor = "multi_thread")]
    async fn live_catalog_never_shows_partly_replaced_files() {
        let poll = Duration::from_millis(300);
        let folder = tempfile::tempdir().unwrap();
        named("0", 0).write(folder.path()).unwrap();
        let live = LiveCatalog::open_with(folder.path(), poll).await.unwrap();
        let mut changes = live.changes();
        let seen = tokio::spawn(async move {
            let mut seen = Vec::new();
            while changes.changed().await.is_ok() {
                let state = changes.borrow_and_update().clone();
                let last = is_of(&state.snapshot, "4");
                seen.push(state);
                if last {
                    break;
                }
            }
            seen
        });
        for round in 1..=4_u8 {
            for file in named(&round.to_string(), round).encode().unwrap() {
                file.write(folder.path()).unwrap();
                tokio::time::sleep(poll / 10).await;
            }
            if round == 2 {
                until(&live, |state| is_of(&state.snapshot, "2")).await;
            }
        }
        let seen = tokio::time::timeout(LONG, seen).await.unwrap().unwrap();
        for state in &seen {
            assert!(state.problem.is_none(), "{:?}", state.problem);
            let assets = &state.snapshot.catalog().assets;
            let name = &assets[0].name;
            assert!(is_of(&state.snapshot, name), "assets of two catalogs");
            assert!(
                state.snapshot.catalog().graph == catalog_graph(name),
                "the graph of another catalog"
            );
        }
        assert_eq!(
            seen.len(),
            2,
            "the third must not be read while it is replaced"
        );
    }

    #[tokio::test]
    async fn open_without_a_valid_catalog_fails() {
        let folder = tempfile::tempdir().unwrap();
        let error = LiveCatalog::open_with(folder.path(), QUICK)
            .await
            .unwrap_err();
        assert!(
            error
                .to_string()
                .contains("assets.json; check that the folder exists"),
            "{error}"
        );
        std::fs::write(folder.path().join(ASSETS_FILE), "[").unwrap();
        let error = LiveCatalog::open_with(folder.path(), QUICK)
            .await
            .unwrap_err();
        assert!(
            error.to_string().contains("line 1: it is not JSON"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn open_during_a_replacement_waits_for_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let poll = Duration::from_millis(200);
        let [assets, by_id, graph] = named("one", 1).encode().unwrap();
        named("zero", 0).write(folder.path()).unwrap();
        assets.write(folder.path()).unwrap();
        let open = LiveCatalog::open_with(folder.path(), poll);
        let rest = async {
            tokio::time::sleep(poll / 2).await;
            by_id.write(folder.path()).unwrap();
            graph.write(folder.path()).unwrap();
        };
        let (live, ()) = tokio::join!(open, rest);
        assert!(is_of(&live.unwrap().snapshot(), "one"));
    }
}
