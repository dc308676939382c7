//! Where an index of the suite is kept: a folder, or a fake server.

use std::time::Duration;

use plantlake::search::index::{EdgeIndex, QdrantIndex, VectorIndex};
use tempfile::TempDir;

use crate::fake::Server;

/// A place for an index; it goes with it.
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

    /// The index in it, opened anew.
    pub fn index(&self) -> Box<dyn VectorIndex> {
        match self {
            Self::Folder(folder) => {
                Box::new(EdgeIndex::open(&folder.path().join("search")).unwrap())
            }
            Self::Server(server) => Box::new(connect(server)),
        }
    }
}

/// Connects to a server as the settings do by default, but with more patience: tests run beside each other.
pub fn connect(server: &Server) -> QdrantIndex {
    QdrantIndex::connect(&server.url(), None, "plantlake", Duration::from_secs(20)).unwrap()
}
