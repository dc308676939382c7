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

mod adjacency;
mod asset;
mod content;
mod entries;
mod entry_list;
mod error;
mod graph;
mod json_lines;
mod live;
mod lookup;
mod names;
mod read;
mod read_assets;
mod read_graph;
mod snapshot;
mod topology;
mod visible;

pub use adjacency::Direction;
pub use asset::{Asset, Interpolation, Specifications};
pub use content::{ASSETS_FILE, Catalog, CatalogFile, GRAPH_FILE, ID_TO_ASSETS_FILE};
pub use error::{CatalogError, EntryKind, Problem, Problems};
pub use graph::{Edge, Graph, Node, NodeKind, Relation};
pub use live::{LiveCatalog, LiveState};
pub use lookup::AssetNotFound;
pub use snapshot::Snapshot;
pub use topology::{FlowDirection, PathStep, ReachedAsset, Topology};
pub use visible::VisibleAssets;

#[cfg(test)]
mod tests;
