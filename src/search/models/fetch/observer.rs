//! The progress of a fetch.

/// The progress of a fetch.
#[derive(Debug, Clone, Copy)]
pub enum FetchEvent<'a> {
    /// A source is being tried.
    Trying(&'a str),
    /// A source failed.
    Failed {
        /// The source.
        place: &'a str,
        /// The cause.
        problem: &'a str,
    },
    /// The download of a file has started.
    File {
        /// The name of the file.
        name: &'a str,
        /// The size of the file, if it is known.
        bytes: Option<u64>,
    },
    /// This number of bytes of the file was received.
    Bytes(u64),
}

/// A callback for the progress.
pub type FetchObserver<'a> = &'a (dyn Fn(FetchEvent<'_>) + Send + Sync);
