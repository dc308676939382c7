//! Results that are being sent. They can be cancelled, and end when the access of their caller ends.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use futures::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;
use tonic::Status;
use uuid::Uuid;

use super::status;
use crate::auth::{Access, Ended};

/// The queries whose results are being sent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(super) struct Running {
    queries: Arc<Mutex<HashMap<Uuid, Query>>>,
}

#[derive(Debug)]
struct Query {
    cancel: watch::Sender<bool>,
    /// The number of result streams; a ticket may be redeemed more than once.
    streams: usize,
}

impl Running {
    /// Cancels the query. Returns false if it does not run on this server.
    pub fn cancel(&self, query: Uuid) -> bool {
        match self.locked().get(&query) {
            Some(query) => query.cancel.send(true).is_ok(),
            None => false,
        }
    }

    /// Returns `stream`, ended by an error as soon as the query is cancelled or the access ends. Everything that the stream
    /// holds is dropped at once.
    pub fn guard<T: Send + 'static>(
        &self,
        query: Uuid,
        access: Access,
        stream: BoxStream<'static, Result<T, Status>>,
    ) -> Guarded<T> {
        let mut cancelled = {
            let mut queries = self.locked();
            let entry = queries.entry(query).or_insert_with(|| Query {
                cancel: watch::Sender::new(false),
                streams: 0,
            });
            entry.streams += 1;
            entry.cancel.subscribe()
        };
        let end = async move {
            tokio::select! {
                ended = access.ended() => refusal(&ended),
                _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => {
                    Status::cancelled("the query was cancelled on request")
                }
            }
        };
        Guarded {
            stream: Some(stream),
            end: end.boxed(),
            query,
            running: self.clone(),
        }
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, Query>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status for a call whose access has ended; its code says whether a retry may succeed.
pub(super) fn refusal(ended: &Ended) -> Status {
    match ended {
        Ended::Narrowed => status::callers_doing(Status::unavailable(ended.to_string())),
        Ended::Over(_) => Status::unauthenticated(ended.to_string()),
    }
}

/// A stream that ends when its query is cancelled or its access ends; see [`Running::guard`].
pub(super) struct Guarded<T> {
    stream: Option<BoxStream<'static, Result<T, Status>>>,
    end: BoxFuture<'static, Status>,
    query: Uuid,
    running: Running,
}

impl<T> Stream for Guarded<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        if self.stream.is_none() {
            return Poll::Ready(None);
        }
        if let Poll::Ready(status) = self.end.poll_unpin(context) {
            self.stream = None;
            return Poll::Ready(Some(Err(status)));
        }
        let Some(stream) = &mut self.stream else {
            return Poll::Ready(None);
        };
        let next = stream.poll_next_unpin(context);
        if let Poll::Ready(None | Some(Err(_))) = &next {
            self.stream = None;
        }
        next
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        let mut queries = self.running.locked();
        if let Some(query) = queries.get_mut(&self.query) {
            query.streams -= 1;
            if query.streams == 0 {
                queries.remove(&self.query);
            }
        }
    }
}
