//! A catalog as a value, and its files as they are written.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use super::asset::Asset;
use super::error::CatalogError;
use super::graph::Graph;
use super::json_lines::{list, object};

/// The file with the list of assets.
pub const ASSETS_FILE: &str = "assets.json";
/// The file with the assets by id.
pub const ID_TO_ASSETS_FILE: &str = "id2assets.json";
/// The file with the plant's topology.
pub const GRAPH_FILE: &str = "graph.json";

/// A plant's assets and its topology.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// All assets, in the plant's order: each site, its units, their equipment, its sensors.
    pub assets: Vec<Asset>,
    /// The topology of the assets.
    pub graph: Graph,
}

/// One file of the catalog, ready to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogFile {
    /// Its name in the catalog folder.
    pub name: &'static str,
    /// Its content.
    pub bytes: Vec<u8>,
}

impl Catalog {
    /// Returns the content of the three files, in the order in which they are to be written.
    pub fn encode(&self) -> Result<[CatalogFile; 3], CatalogError> {
        let by_id: BTreeMap<String, &Asset> = self
            .assets
            .iter()
            .map(|asset| (asset.id.to_string(), asset))
            .collect();
        Ok([
            CatalogFile {
                name: ASSETS_FILE,
                bytes: list(&self.assets)?,
            },
            CatalogFile {
                name: ID_TO_ASSETS_FILE,
                bytes: object(&by_id)?,
            },
            CatalogFile {
                name: GRAPH_FILE,
                bytes: self.graph.encode()?,
            },
        ])
    }

    /// Writes the three files to `folder`, which is created if it does not exist. Replaces existing files.
    pub fn write(&self, folder: &Path) -> Result<(), CatalogError> {
        for file in self.encode()? {
            file.write(folder)?;
        }
        Ok(())
    }
}

impl CatalogFile {
    /// Writes the file to `folder` atomically: concurrent readers see either the old or the new content.
    pub fn write(&self, folder: &Path) -> Result<(), CatalogError> {
        let path = folder.join(self.name);
        // The rename makes the new content visible; it requires the same file system.
        let staged = folder.join(format!(".{}.staged", self.name));
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut file = std::fs::File::create(&staged)?;
            file.write_all(&self.bytes)?;
            file.sync_all()?;
            std::fs::rename(&staged, &path)
        };
        write().map_err(|source| CatalogError::Io {
            action: "write",
            path: path.clone(),
            source,
        })
    }
}
