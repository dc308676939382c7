//! The execution of models, off the serving threads.

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::Semaphore;

use super::cancellation::{CancelOnDrop, CancellationFlag};
use super::error::SearchError;
use super::models::ModelError;

/// Runs models on blocking threads, one at a time because each run uses all cores.
#[derive(Debug)]
pub(super) struct ModelRunner {
    permits: Arc<Semaphore>,
    pub(super) runtime: Handle,
}

impl ModelRunner {
    /// Creates a runner whose work runs in the current Tokio runtime.
    pub fn in_current_runtime() -> Self {
        Self {
            permits: Arc::new(Semaphore::new(1)),
            runtime: Handle::current(),
        }
    }

    /// Runs `work` after the runs before it. If the future is dropped, `work` is asked to stop; the next run starts
    /// after it has ended.
    pub async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&CancellationFlag) -> Result<T, ModelError> + Send + 'static,
    ) -> Result<T, SearchError> {
        let turn = Arc::clone(&self.permits).acquire_owned().await;
        let turn = turn.map_err(|_| SearchError::Ended)?;
        let stop = CancellationFlag::default();
        let _guard = CancelOnDrop(stop.clone());
        let ran = self.runtime.spawn_blocking(move || {
            let _turn = turn;
            work(&stop)
        });
        Ok(ran.await.map_err(|_| SearchError::Ended)??)
    }
}
