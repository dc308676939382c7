//! The passes that keep the index of a search up to date, and the wait for the first one.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::{Search, State};
use crate::catalog::{LiveState, Snapshot};
use crate::search::error::SearchError;
use crate::search::indexing::{IndexPass, IndexProgress, IndexReport, PassModel, ReadyCollection};

/// The interval of checks for new models and of retries after a failure.
const RETRY_INTERVAL: Duration = Duration::from_secs(30);

impl Search {
    /// Updates the index from a catalog; with `full`, all assets are indexed again.
    pub async fn index(
        &self,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let _one = self.shared.pass_lock.lock().await;
        self.index_locked(snapshot, full, progress).await
    }

    /// Updates the index like [`Self::index`], unless another pass has made it searchable in the meantime.
    async fn index_if_unsearchable(&self, snapshot: &Snapshot) -> Result<(), SearchError> {
        let _one = self.shared.pass_lock.lock().await;
        if matches!(*self.shared.state.borrow(), State::Ready(_)) {
            return Ok(());
        }
        self.index_locked(snapshot, false, &|_| {})
            .await
            .map(|_| ())
    }

    async fn index_locked(
        &self,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let model = self.model().await;
        let has_model = model.is_some();
        let mut outcome = self.pass(model, snapshot, full, progress).await;
        if let Err(SearchError::Model(error)) = &outcome
            && has_model
        {
            tracing::warn!("cannot use the bi-encoder, so assets are found by words only: {error}");
            outcome = self.pass(None, snapshot, full, progress).await;
        }
        if let Err(error) = &outcome {
            self.shared.state.send_modify(|state| {
                if !matches!(state, State::Ready(_)) {
                    *state = State::Failed(error.to_string());
                }
            });
        }
        outcome
    }

    async fn pass(
        &self,
        model: Option<PassModel>,
        snapshot: &Snapshot,
        full: bool,
        progress: &(dyn Fn(IndexProgress) + Send + Sync),
    ) -> Result<IndexReport, SearchError> {
        let pass = IndexPass {
            index: &*self.shared.index,
            runs: &self.shared.runs,
            model,
            snapshot,
            full,
            progress,
            ready: &|ready| {
                self.shared.state.send_replace(State::Ready(ready));
            },
        };
        pass.run().await
    }

    /// Returns the bi-encoder for a pass. A damaged one is logged and treated as missing.
    async fn model(&self) -> Option<PassModel> {
        let models = self.shared.models.clone();
        let looked = self
            .shared
            .runs
            .runtime
            .spawn_blocking(move || models.bi_encoder_identity());
        let identity = match looked.await {
            Ok(Ok(identity)) => identity?,
            Ok(Err(error)) => {
                tracing::warn!(
                    "cannot use the bi-encoder, so assets are found by words only: {error}"
                );
                return None;
            }
            Err(_) => return None,
        };
        let models = self.shared.models.clone();
        Some(PassModel {
            fingerprint: identity.fingerprint,
            dimensions: identity.dimensions,
            load: Arc::new(move || models.bi_encoder()),
        })
    }

    /// Keeps the index up to date with the catalog, for as long as the future is polled: from the start if there is a
    /// model, otherwise from the first search on. `requests` is the folder of the embedded index; if it is given,
    /// requests from other processes are accepted there.
    pub async fn follow(&self, catalog: watch::Receiver<LiveState>, requests: Option<&Path>) {
        let others = async {
            if let Some(folder) = requests {
                self.serve_requests(folder, &catalog).await;
            }
        };
        tokio::join!(self.follow_catalog(catalog.clone()), others);
    }

    async fn follow_catalog(&self, mut catalog: watch::Receiver<LiveState>) {
        let mut known: Option<(u64, Option<String>)> = None;
        let mut is_failing = false;
        loop {
            let snapshot = Arc::clone(&catalog.borrow_and_update().snapshot);
            let model = self.model().await.map(|model| model.fingerprint);
            let is_wanted =
                model.is_some() || !matches!(*self.shared.state.borrow(), State::Unknown);
            let now = Some((snapshot.version(), model));
            if is_wanted && known != now {
                match self.index(&snapshot, false, &|_| {}).await {
                    Ok(report) => {
                        known = now;
                        is_failing = false;
                        tracing::info!(
                            assets = report.assets,
                            indexed = report.indexed,
                            removed = report.removed,
                            "the search index is up to date"
                        );
                    }
                    Err(error) if !is_failing => {
                        is_failing = true;
                        tracing::warn!("cannot update the search index, and will retry: {error}");
                    }
                    Err(_) => {}
                }
            }
            let changed = tokio::time::timeout(RETRY_INTERVAL, catalog.changed()).await;
            if matches!(changed, Ok(Err(_))) {
                return;
            }
        }
    }

    /// Returns the searchable collection, after a first pass if there is none yet.
    pub(super) async fn ready(
        &self,
        snapshot: &Arc<Snapshot>,
    ) -> Result<ReadyCollection, SearchError> {
        if let State::Ready(ready) = &*self.shared.state.borrow() {
            return Ok(ready.clone());
        }
        let mut state = self.shared.state.subscribe();
        let (search, snapshot) = (self.clone(), Arc::clone(snapshot));
        // The pass is a task of its own, because it must continue for other callers when this one goes away.
        let mut pass = self
            .shared
            .runs
            .runtime
            .spawn(async move { search.index_if_unsearchable(&snapshot).await });
        if self.shared.waits_for_embeddings {
            (&mut pass).await.map_err(|_| SearchError::Ended)??;
        } else {
            tokio::select! {
                outcome = &mut pass => outcome.map_err(|_| SearchError::Ended)??,
                _ = state.wait_for(|state| matches!(state, State::Ready(_))) => {}
            }
        }
        match &*self.shared.state.borrow() {
            State::Ready(ready) => Ok(ready.clone()),
            State::Failed(problem) => Err(SearchError::NotReady(problem.clone())),
            State::Unknown => Err(SearchError::Ended),
        }
    }
}
