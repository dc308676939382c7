//! When what was written is on the disk: soon by itself, and at once for those who wait for it; for many at a time.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};

/// How long what was written may wait: it is to be on the disk within a tenth of a second.
const SOON: Duration = Duration::from_millis(90);

/// What was written, and what of it is on the disk.
#[derive(Debug)]
pub(super) struct Syncing {
    /// How often something was written.
    written: AtomicU64,
    /// Something was written since it was last waited for.
    news: Notify,
    /// How often something had been written when the disk was last told to keep it, and what it said.
    synced: watch::Sender<(u64, Result<(), io::ErrorKind>)>,
    /// Somebody waits.
    wanted: Notify,
    /// Files that were written to before the newest.
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
    /// Something was written.
    pub fn written(&self) {
        self.written.fetch_add(1, Ordering::SeqCst);
        self.news.notify_one();
    }

    /// This file is not written to any more, and may not be on the disk.
    pub fn leave(&self, file: Arc<File>) {
        self.left
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(file);
    }

    /// Waits until all that was written so far is on the disk.
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

    /// Syncs, for as long as the future is polled; `file` is the newest.
    pub async fn keep_on(&self, file: impl Fn() -> Arc<File>) {
        let mut done = 0;
        loop {
            // There may be old news: of what was written while the disk was told.
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
                tracing::error!("the journal of requests cannot be written to the disk: {error}");
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
