//! A catalog as it was at one time, with an index: never changes, so many may look at it at once.

use std::collections::HashMap;
use std::path::Path;

use super::{Asset, Catalog, CatalogError, read};
use crate::model::AssetId;

/// A catalog that was read and found to be right.
#[derive(Debug)]
pub struct Snapshot {
    catalog: Catalog,
    index: HashMap<AssetId, usize>,
    fingerprint: u64,
    version: u64,
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
        })
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

    /// Tells the content of the files: it is the same for the same bytes, in any process.
    pub fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// Counts the catalogs that this process had in force: 1 for the first.
    pub fn version(&self) -> u64 {
        self.version
    }
}
