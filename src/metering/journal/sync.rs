//! Synchronises written lines to the disk: periodically, and at once if someone waits for it; one sync serves all
//! waiters.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// The delay of a sync after a write. Lines are on the disk within 100 ms.
const SYNC_DELAY: Duration = Duration::from_millis(90);

/// The state of synchronisation.
#[derive(Debug)]
pub(super) struct JournalSync {
    /// The number of writes.
    write_count: AtomicU64,
    /// Signals a write.
    write_signal: Notify,
    /// The number of writes before the last sync, and its result.
    synced: watch::Sender<(u64, Result<(), io::ErrorKind>)>,
    /// Signals that someone waits for a sync.
    wait_signal: Notify,
    /// Older files with lines that may not be on the disk.
    unsynced_files: Mutex<Vec<Arc<File>>>,
}

impl Default for JournalSync {
    fn default() -> Self {
        Self {
            write_count: AtomicU64::new(0),
            write_signal: Notify::new(),
            synced: watch::Sender::new((0, Ok(()))),
            wait_signal: Notify::new(),
            unsynced_files: Mutex::default(),
        }
    }
}

impl JournalSync {
    /// Reports a write.
    pub fn record_write(&self) {
        self.write_count.fetch_add(1, Ordering::SeqCst);
        self.write_signal.notify_one();
    }

    /// Adds a file that is no longer written to, and that may have lines that are not on the disk.
    pub fn add_unsynced(&self, file: Arc<File>) {
        self.unsynced_files
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(file);
    }

    /// Waits until all previous writes are on the disk.
    pub async fn wait(&self) -> io::Result<()> {
        let upto = self.write_count.load(Ordering::SeqCst);
        let mut synced = self.synced.subscribe();
        self.wait_signal.notify_one();
        let found = synced.wait_for(|(count, _)| *count >= upto).await;
        let outcome = found.map(|found| found.1);
        outcome
            .map_err(|_| io::ErrorKind::BrokenPipe)?
            .map_err(io::Error::from)
    }

    /// Synchronises until the future is dropped; `file` returns the newest file.
    pub async fn run(&self, file: impl Fn() -> Arc<File>) {
        let mut done = 0;
        loop {
            // A signal may be outdated: it may come from a write that the last sync included.
            while self.write_count.load(Ordering::SeqCst) == done {
                self.write_signal.notified().await;
            }
            tokio::select! {
                () = tokio::time::sleep(SYNC_DELAY) => {}
                () = self.wait_signal.notified() => {}
            }
            let upto = self.write_count.load(Ordering::SeqCst);
            let mut files = std::mem::take(
                &mut *self
                    .unsynced_files
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner),
            );
            let older = files.clone();
            files.push(file());
            let sync = move || files.iter().try_for_each(|file| file.sync_data());
            let outcome = tokio::task::spawn_blocking(sync).await;
            let outcome = outcome.unwrap_or_else(|error| Err(io::Error::other(error)));
            if let Err(error) = &outcome {
                tracing::error!("cannot sync the journal of requests to the disk: {error}");
                // Older files are synced again with the next lines.
                let mut left = self
                    .unsynced_files
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner);
                left.extend(older);
            }
            let _before = self
                .synced
                .send_replace((upto, outcome.map_err(|error| error.kind())));
            done = upto;
        }
    }
}
