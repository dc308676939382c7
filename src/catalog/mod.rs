//! The catalog: the plant's assets and their topology, in three JSON files.
//!
//! | file | content |
//! |---|---|
//! | `assets.json` | a list of all assets ([`Asset`]): sites, units, equipment and sensors |
//! | `id2assets.json` | the same assets as an object, keyed by id, to look up the asset of a reading's `id` |
//! | `graph.json` | the topology ([`Graph`]): a node for each asset, and edges `part_of`, `measures`, `flows_to` |
//!
//! `assets.json` is the source of truth. `id2assets.json` is derived from it, for clients that would otherwise build
//! that map themselves; plantlake only checks that it agrees. Each entry is on a line of its own, so that a diff of two
//! catalogs shows the assets that differ.

mod asset;
mod entries;
mod error;
mod graph;
mod live;
mod lookup;
mod read;
mod read_graph;
mod snapshot;
mod topology;
mod visible;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::Path;

use serde::Serialize;

pub use asset::{Asset, Interpolation, Specifications};
pub use error::{CatalogError, EntryKind, Problem, Problems};
pub use graph::{Edge, Graph, Node, NodeKind, Relation};
pub use live::{LiveCatalog, LiveState};
pub use lookup::AssetNotFound;
pub use snapshot::Snapshot;
pub use topology::{Direction, FlowDirection, PathStep, ReachedAsset, Topology};
pub use visible::VisibleAssets;

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
    /// Reads and checks the catalog in `folder`. `assets.json` must be there; the other two may be missing.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        Ok(read::read(folder)?.catalog)
    }

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

/// Returns a JSON list with each item on a line of its own.
fn list<T: Serialize>(items: &[T]) -> Result<Vec<u8>, CatalogError> {
    let mut out = Vec::new();
    out.push(b'[');
    for (i, item) in items.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut out, item).map_err(|source| CatalogError::Encode { source })?;
    }
    out.extend_from_slice(b"\n]\n");
    Ok(out)
}

/// Returns a JSON object with each entry on a line of its own.
fn object<T: Serialize>(entries: &BTreeMap<String, T>) -> Result<Vec<u8>, CatalogError> {
    let mut out = Vec::new();
    out.push(b'{');
    for (i, (key, value)) in entries.iter().enumerate() {
        out.extend_from_slice(if i == 0 { b"\n" } else { b",\n" });
        serde_json::to_writer(&mut out, key).map_err(|source| CatalogError::Encode { source })?;
        out.extend_from_slice(b": ");
        serde_json::to_writer(&mut out, value).map_err(|source| CatalogError::Encode { source })?;
    }
    out.extend_from_slice(b"\n}\n");
    Ok(out)
}

#[cfg(test)]
mod tests;
