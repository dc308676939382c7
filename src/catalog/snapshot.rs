//! A catalog as it was at one time, with an index: never changes, so many may look at it at once.

use std::collections::HashMap;
use std::path::Path;
use std::sync::OnceLock;

use super::lookup::Names;
use super::topology::Links;
use super::{Asset, Catalog, CatalogError, Topology, Visible, read};
use crate::model::AssetId;

/// A catalog that was read and found to be right.
#[derive(Debug)]
pub struct Snapshot {
    catalog: Catalog,
    index: HashMap<AssetId, usize>,
    fingerprint: u64,
    version: u64,
    /// Made when they are first asked for: many sessions never look along the graph.
    links: OnceLock<Links>,
    names: OnceLock<Names>,
}

impl Snapshot {
    /// Reads and checks the catalog in `folder`. Blocks while it does.
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

    /// A catalog that was never in a folder.
    #[cfg(test)]
    pub fn of(catalog: Catalog) -> Self {
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

    /// This one, as the successor of `former`.
    pub(super) fn after(mut self, former: &Self) -> Self {
        self.version = former.version + 1;
        self
    }

    /// The catalog.
    pub fn catalog(&self) -> &Catalog {
        &self.catalog
    }

    /// The asset with this id.
    pub fn asset(&self, id: AssetId) -> Option<&Asset> {
        self.catalog.assets.get(*self.index.get(&id)?)
    }

    /// Where the asset is in the list.
    pub(super) fn position(&self, id: AssetId) -> Option<usize> {
        self.index.get(&id).copied()
    }

    /// The graph, as far as `visible` shows it.
    pub fn topology<'a>(&'a self, visible: &'a Visible) -> Topology<'a> {
        Topology::new(self, visible)
    }

    pub(super) fn links(&self) -> &Links {
        self.links.get_or_init(|| Links::of(self))
    }

    pub(super) fn names(&self) -> &Names {
        self.names.get_or_init(|| Names::of(&self.catalog.assets))
    }

    /// Tells the content of the files: it is the same for the same bytes, in any process.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Counts the catalogs that this process had in force: 1 for the first.
    pub fn version(&self) -> u64 {
        self.version
    }
}
