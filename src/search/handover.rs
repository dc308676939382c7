//! Handover of requests to the process that owns the index. The embedded index belongs to one process. Another
//! process on the same machine, such as `plantlake search` beside a server, sends its request over a socket in the
//! index's folder, which only the folder's owner can access.
//!
//! A request is one line of JSON. Progress and the result are lines of JSON, too.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{mpsc, watch};

use super::error::SearchError;
use super::indexing::{IndexProgress, IndexReport};
use super::request::{MAX_QUERY_CHARS, RankingMethod, SearchRequest, SearchResult};
use super::searcher::Search;
use crate::catalog::{LiveState, VisibleAssets};

/// The maximum length of a request in bytes.
const MAX_REQUEST_BYTES: u64 = 8 * MAX_QUERY_CHARS as u64;

/// A request to the process that owns the index.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// Updates the index.
    Index {
        /// Whether to index all assets again.
        full: bool,
    },
    /// Searches all assets.
    Search {
        /// The query.
        text: String,
        /// The maximum number of results.
        limit: usize,
        /// The requested ranking.
        by: Option<RankingMethod>,
    },
}

/// A line of a response.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    Progress(IndexProgress),
    Done(Outcome),
    Failed(String),
}

/// The result of a request.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// The index is up to date.
    Indexed(IndexReport),
    /// The search is complete.
    Found {
        /// The results, best first.
        found: Vec<SearchResult>,
        /// Whether the index has embeddings to rank by.
        has_meanings: bool,
    },
}

/// The error for a request that the other process rejected or did not complete.
#[derive(Debug, thiserror::Error)]
#[error("the process that owns the search index ({folder}) failed: {problem}")]
pub struct HandoverError {
    folder: String,
    problem: String,
}

fn socket_path(folder: &Path) -> PathBuf {
    folder.join("socket")
}

/// Sends a request to the process that owns the index in `folder`; none if no process accepts the connection.
pub async fn send_request(
    folder: &Path,
    request: &Request,
    progress: &(dyn Fn(IndexProgress) + Send + Sync),
) -> Option<Result<Outcome, HandoverError>> {
    let stream = UnixStream::connect(socket_path(folder)).await.ok()?;
    let failed = |problem: String| HandoverError {
        folder: folder.display().to_string(),
        problem,
    };
    let told = exchange(stream, request, progress).await;
    Some(match told {
        Ok(Ok(outcome)) => Ok(outcome),
        Ok(Err(problem)) => Err(failed(problem)),
        Err(error) => Err(failed(error.to_string())),
    })
}

async fn exchange(
    stream: UnixStream,
    request: &Request,
    progress: &(dyn Fn(IndexProgress) + Send + Sync),
) -> std::io::Result<Result<Outcome, String>> {
    let (reader, mut writer) = stream.into_split();
    write_line(&mut writer, request).await?;
    let mut lines = BufReader::new(reader).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Line::Progress(now) => progress(now),
            Line::Done(outcome) => return Ok(Ok(outcome)),
            Line::Failed(problem) => return Ok(Err(problem)),
        }
    }
    Ok(Err(
        "it closed the connection before it completed the request".to_owned(),
    ))
}

async fn write_line<T: Serialize>(writer: &mut OwnedWriteHalf, line: &T) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    writer.write_all(&text).await
}

/// Accepts requests for `search`, whose index is in `folder`, for as long as the future is polled.
pub(super) async fn serve_requests(
    search: &Search,
    folder: &Path,
    catalog: &watch::Receiver<LiveState>,
) {
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
                    working.spawn(serve_connection(search.clone(), catalog.clone(), reader, writer));
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
    snapshot: &Arc<crate::catalog::Snapshot>,
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
