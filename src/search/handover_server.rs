//! The answers to requests that other processes hand over to the owner of the index ([`super::handover`]).

use std::path::Path;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::error::SearchError;
use super::handover::{Line, Outcome, Request, socket_path, write_line};
use super::indexing::IndexProgress;
use super::request::{MAX_QUERY_CHARS, SearchRequest};
use super::searcher::Search;
use crate::catalog::{LiveState, Snapshot, VisibleAssets};

/// The maximum length of a request in bytes.
const MAX_REQUEST_BYTES: u64 = 8 * MAX_QUERY_CHARS as u64;

impl Search {
    /// Accepts requests of other processes, while the index is in `folder`, for as long as the future is polled.
    pub(super) async fn serve_requests(&self, folder: &Path, catalog: &watch::Receiver<LiveState>) {
        let listener = match listen(folder).await {
            Ok(listener) => listener,
            Err(error) => {
                tracing::warn!(
                    "cannot accept requests of `plantlake search` and `plantlake index` at {}: {error}",
                    socket_path(folder).display()
                );
                return;
            }
        };
        let mut working = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                connected = listener.accept() => match connected {
                    Ok((stream, _)) => {
                        let (reader, writer) = stream.into_split();
                        working.spawn(serve_connection(self.clone(), catalog.clone(), reader, writer));
                    }
                    Err(error) => {
                        tracing::debug!("cannot accept a request of another process: {error}");
                        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
                    }
                },
                Some(_) = working.join_next() => {}
            }
        }
    }
}

async fn listen(folder: &Path) -> std::io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;
    let path = socket_path(folder);
    tokio::fs::create_dir_all(folder).await?;
    if UnixStream::connect(&path).await.is_ok() {
        return Err(std::io::Error::other("another server accepts them"));
    }
    // A server that died leaves its socket behind.
    match tokio::fs::remove_file(&path).await {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // The folder's permissions keep others out, even before those of the socket are set.
    tokio::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o700)).await?;
    UnixListener::bind(&path)
}

async fn serve_connection(
    search: Search,
    catalog: watch::Receiver<LiveState>,
    reader: OwnedReadHalf,
    mut writer: OwnedWriteHalf,
) {
    let mut line = String::new();
    let mut reader = BufReader::new(reader.take(MAX_REQUEST_BYTES));
    if reader.read_line(&mut line).await.is_err() {
        return;
    }
    let request = match serde_json::from_str::<Request>(&line) {
        Ok(request) => request,
        Err(error) => {
            let problem =
                format!("invalid request ({error}); it may come from another version of plantlake");
            // The client may have disconnected.
            let _ = write_line(&mut writer, &Line::Failed(problem)).await;
            return;
        }
    };
    let (teller, mut told) = mpsc::unbounded_channel();
    let progress = move |now: IndexProgress| {
        let _ = teller.send(now);
    };
    let snapshot = Arc::clone(&catalog.borrow().snapshot);
    let work = execute(&search, &snapshot, request, &progress);
    tokio::pin!(work);
    let last = loop {
        tokio::select! {
            biased;
            Some(now) = told.recv() => {
                // The client has disconnected: the work ends, and completed batches remain.
                if write_line(&mut writer, &Line::Progress(now)).await.is_err() {
                    return;
                }
            }
            outcome = &mut work => break match outcome {
                Ok(outcome) => Line::Done(outcome),
                Err(error) => Line::Failed(error.to_string()),
            },
        }
    };
    let _ = write_line(&mut writer, &last).await;
}

async fn execute(
    search: &Search,
    snapshot: &Arc<Snapshot>,
    request: Request,
    progress: &(dyn Fn(IndexProgress) + Send + Sync),
) -> Result<Outcome, SearchError> {
    match request {
        Request::Index { full } => {
            let report = search.index(snapshot, full, progress).await?;
            Ok(Outcome::Indexed(report))
        }
        Request::Search { text, limit, by } => {
            let ask = SearchRequest {
                text,
                limit,
                granted: Arc::new(VisibleAssets::All),
                by,
            };
            let found = search.search(&ask, snapshot).await?;
            let has_meanings = search.has_embeddings();
            Ok(Outcome::Found {
                found,
                has_meanings,
            })
        }
    }
}
