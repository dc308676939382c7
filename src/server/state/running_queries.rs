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

use crate::auth::{Access, AccessEnded};
use crate::server::errors::status;

/// The queries whose results are being sent. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(in crate::server) struct RunningQueries {
    queries: Arc<Mutex<HashMap<Uuid, RunningQuery>>>,
}

#[derive(Debug)]
struct RunningQuery {
    cancel: watch::Sender<bool>,
    /// The number of result streams; a ticket may be redeemed more than once.
    streams: usize,
}

impl RunningQueries {
    /// Cancels the query. Returns false if it does not run on this server.
    pub fn cancel(&self, query: Uuid) -> bool {
        match self.lock().get(&query) {
            Some(query) => query.cancel.send(true).is_ok(),
            None => false,
        }
    }

    /// Returns `stream`, ended by an error as soon as the query is cancelled or the access ends. Everything that the stream
    /// holds is dropped at once.
    pub fn cancellable<T: Send + 'static>(
        &self,
        query: Uuid,
        access: Access,
        stream: BoxStream<'static, Result<T, Status>>,
    ) -> CancellableStream<T> {
        let mut cancelled = {
            let mut queries = self.lock();
            let entry = queries.entry(query).or_insert_with(|| RunningQuery {
                cancel: watch::Sender::new(false),
                streams: 0,
            });
            entry.streams += 1;
            entry.cancel.subscribe()
        };
        let end = async move {
            tokio::select! {
                ended = access.wait_for_end() => access_ended_status(&ended),
                _ = cancelled.wait_for(|is_cancelled| *is_cancelled) => {
                    Status::cancelled("the query was cancelled on request")
                }
            }
        };
        CancellableStream {
            stream: Some(stream),
            end: end.boxed(),
            query,
            running: self.clone(),
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<Uuid, RunningQuery>> {
        self.queries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status for a call whose access has ended; its code says whether a retry may succeed.
pub(in crate::server) fn access_ended_status(ended: &AccessEnded) -> Status {
    match ended {
        AccessEnded::PermissionsReduced => {
            status::mark_caused_by_caller(Status::unavailable(ended.to_string()))
        }
        AccessEnded::CredentialInvalid(_) => Status::unauthenticated(ended.to_string()),
    }
}

/// A stream that ends when its query is cancelled or its access ends; see [`RunningQueries::cancellable`].
pub(in crate::server) struct CancellableStream<T> {
    stream: Option<BoxStream<'static, Result<T, Status>>>,
    end: BoxFuture<'static, Status>,
    query: Uuid,
    running: RunningQueries,
}

impl<T> Stream for CancellableStream<T> {
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

impl<T> Drop for CancellableStream<T> {
    fn drop(&mut self) {
        let mut queries = self.running.lock();
        if let Some(query) = queries.get_mut(&self.query) {
            query.streams -= 1;
            if query.streams == 0 {
                queries.remove(&self.query);
            }
        }
    }
}
