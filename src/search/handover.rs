//! Handover of requests to the process that owns the index. The embedded index belongs to one process. Another
//! process on the same machine, such as `plantlake search` beside a server, sends its request over a socket in the
//! index's folder, which only the folder's owner can access.
//!
//! A request is one line of JSON. Progress and the result are lines of JSON, too. `handover_server` is the side that answers.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::net::unix::OwnedWriteHalf;

use super::indexing::{IndexProgress, IndexReport};
use super::request::{RankingMethod, SearchResult};

pub use super::error::HandoverError;

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
pub(super) enum Line {
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

/// Returns the path of the socket in the folder of an index.
pub(super) fn socket_path(folder: &Path) -> PathBuf {
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

/// Writes a value as one line of JSON.
pub(super) async fn write_line<T: Serialize>(
    writer: &mut OwnedWriteHalf,
    line: &T,
) -> std::io::Result<()> {
    let mut text = serde_json::to_vec(line)?;
    text.push(b'\n');
    writer.write_all(&text).await
}
