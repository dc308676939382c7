//! Synchronises written lines to the disk: periodically, and at once if someone waits for it; one sync serves all
//! waiters.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// The delay of a sync after a write. Lines are on the disk within 100 ms.
const SOON: Duration = Duration::from_millis(90);

/// The state of synchronisation.
#[derive(Debug)]
pub(super) struct Syncing {
    /// The number of writes.
    written: AtomicU64,
    /// Signals a write.
    news: Notify,
    /// The number of writes before the last sync, and its result.
    synced: watch::Sender<(u64, Result<(), io::ErrorKind>)>,
    /// Signals that someone waits for a sync.
    wanted: Notify,
    /// Older files with lines that may not be on the disk.
    left: Mutex<Vec<Arc<File>>>,
}

impl Default for Syncing {
    fn default() -> Self {
        Self {
            written: AtomicU64::new(0),
            news: Notify::new(),
            synced: watch::Sender::new((0, Ok(()))),
            wanted: Notify::new(),
            left: Mutex::default(),
        }
    }
}

impl Syncing {
    /// Reports a write.
    pub fn written(&self) {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.news.notify_one();
    }

    /// Adds a file that is no longer written to, and that may have lines that are not on the disk.
    pub fn leave(&self, file: Arc<File>) {
        self.left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(file);
    }

    /// Waits until all previous writes are on the disk.
    pub async fn wait(&self) -> io::Result<()> {
        let upto = self.written.load(Ordering::SeqCst);
        let mut synced = self.synced.subscribe();
        self.wanted.notify_one();
        let found = synced.wait_for(|(count, _)| *count >= upto).await;
        let outcome = found.map(|found| found.1);
        outcome
            .map_err(|_| io::ErrorKind::BrokenPipe)?
            .map_err(io::Error::from)
    }

    /// Synchronises until the future is dropped; `file` returns the newest file.
    pub async fn keep_on(&self, file: impl Fn() -> Arc<File>) {
        let mut done = 0;
        loop {
            // A signal may be outdated: it may come from a write that the last sync included.
            while self.written.load(Ordering::SeqCst) == done {
                self.news.notified().await;
            }
            tokio::select! {
                () = tokio::time::sleep(SOON) => {}
                () = self.wanted.notified() => {}
            }
            let upto = self.written.load(Ordering::SeqCst);
            let mut files =
                std::mem::take(&mut *self.left.lock().unwrap_or_else(PoisonError::into_inner));
            let older = files.clone();
            files.push(file());
            let sync = move || files.iter().try_for_each(|file| file.sync_data());
            let outcome = tokio::task::spawn_blocking(sync).await;
            let outcome = outcome.unwrap_or_else(|error| Err(io::Error::other(error)));
            if let Err(error) = &outcome {
                tracing::error!("cannot sync the journal of requests to the disk: {error}");
                // Older files are synced again with the next lines.
                let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
                left.extend(older);
            }
            let _before = self
                .synced
                .send_replace((upto, outcome.map_err(|error| error.kind())));
            done = upto;
        }
    }
}
