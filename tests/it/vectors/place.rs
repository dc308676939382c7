//! The storage of an index in the suite: a folder or a fake server.

use std::time::Duration;

use plantlake::search::index::{EdgeIndex, QdrantIndex, VectorIndex};
use tempfile::TempDir;

use crate::vectors::fake::Server;

/// The storage of an index, which is removed when this is dropped.
pub enum Place {
    Folder(TempDir),
    Server(Box<Server>),
}

impl Place {
    pub fn folder() -> Self {
        Self::Folder(tempfile::tempdir().unwrap())
    }

    pub fn server() -> Self {
        Self::Server(Box::new(Server::start()))
    }

    /// Opens the index.
    pub fn index(&self) -> Box<dyn VectorIndex> {
        match self {
            Self::Folder(folder) => {
                Box::new(EdgeIndex::open(&folder.path().join("search")).unwrap())
            }
            Self::Server(server) => Box::new(connect(server)),
        }
    }
}

/// Connects to a server as with the default settings, but with a longer timeout, because tests run concurrently.
pub fn connect(server: &Server) -> QdrantIndex {
    QdrantIndex::connect(&server.url(), None, "plantlake", Duration::from_secs(20)).unwrap()
}
