//! The catalog at one time, indexed and immutable, so that many readers can share it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use super::adjacency::AdjacencyList;
use super::asset::Asset;
use super::content::Catalog;
use super::error::CatalogError;
use super::names::NameIndex;
use super::read;
use crate::model::AssetId;

/// A catalog that was read and found to be valid.
#[derive(Debug)]
pub struct Snapshot {
    catalog: Catalog,
    index: HashMap<AssetId, usize>,
    fingerprint: u64,
    version: u64,
    /// Built on first use: many sessions never query the graph.
    links: OnceLock<AdjacencyList>,
    names: OnceLock<NameIndex>,
}

impl Snapshot {
    /// Reads and checks the catalog in `folder`. Blocks the thread meanwhile.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        let contents = read::read(folder)?;
        Ok(Self {
            catalog: contents.catalog,
            index: contents.index,
            fingerprint: contents.fingerprint,
            version: 1,
            links: OnceLock::new(),
            names: OnceLock::new(),
        })
    }

    /// Returns a snapshot of a catalog that was never in a folder.
    #[cfg(test)]
    pub fn from_catalog(catalog: Catalog) -> Self {
        let positions = catalog.assets.iter().enumerate();
        Self {
            index: positions.map(|(at, asset)| (asset.id, at)).collect(),
            catalog,
            fingerprint: 0,
            version: 1,
            links: OnceLock::new(),
            names: OnceLock::new(),
        }
    }

    /// Returns this snapshot with the version after that of `former`.
    pub(super) fn with_version_after(mut self, former: &Self) -> Self {
        self.version = former.version + 1;
        self
    }

    /// Returns the catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// Returns the asset with this id.
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.catalog.assets.get(*self.index.get(&id)?)
    }

    /// Returns the index of the asset in the list.
    pub(super) fn position(&self, id: AssetId) -> Option<usize> {
        self.index.get(&id).copied()
    }

    pub(super) fn links(&self) -> &AdjacencyList {
        self.links.get_or_init(|| {
            let edges = &self.catalog.graph.edges;
            AdjacencyList::new(edges, &self.index, self.catalog.assets.len())
        })
    }

    pub(super) fn names(&self) -> &NameIndex {
        self.names
            .get_or_init(|| NameIndex::new(&self.catalog.assets))
    }

    /// Returns a hash of the files' content: the same for the same bytes, in any process.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Returns the version: 1 for the first catalog in effect in this process, and one more for each later one.
    pub fn version(&self) -> u64 {
        self.version
    }
}
