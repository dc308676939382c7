//! Errors of the vector index.

/// An error of the index.
#[derive(Debug, thiserror::Error)]
pub enum IndexError {
    /// Another process has locked the index in this folder.
    #[error(
        "the search index in {folder} is in use by another process{holder}; send the request to that process, stop it, or \
         let both use a Qdrant server (`qdrant_url`)"
    )]
    InUse {
        /// The index's folder.
        folder: String,
        /// ` (process 4711)`, if the id is known.
        holder: String,
    },
    /// The files of the index cannot be read or written.
    #[error("cannot use the search index in {folder}: {problem}")]
    Local {
        /// The index's folder.
        folder: String,
        /// The cause.
        problem: String,
    },
    /// The Qdrant server cannot be reached, or did not answer in time.
    #[error(
        "cannot reach the Qdrant server {url}: {problem}; check `qdrant_url` and that the server runs"
    )]
    Unavailable {
        /// Its URL.
        url: String,
        /// The cause.
        problem: String,
    },
    /// The Qdrant server rejects the API key.
    #[error("the Qdrant server {url} rejects the API key; check `qdrant_api_key`")]
    Unauthenticated {
        /// Its URL.
        url: String,
    },
    /// A collection does not exist, because it was removed in the meantime.
    #[error("the index has no collection {collection}; run `plantlake index` to rebuild it")]
    Missing {
        /// The collection.
        collection: String,
    },
    /// The Qdrant server or its configuration is unsuitable.
    #[error("the Qdrant server {url} {problem}")]
    Unsuitable {
        /// Its URL.
        url: String,
        /// The cause.
        problem: String,
    },
}
