//! The catalog: what the plant's assets are and how they hang together, in three JSON files.
//!
//! | file | holds |
//! |---|---|
//! | `assets.json` | a list of all assets ([`Asset`]): sites, units, equipment and sensors |
//! | `id2assets.json` | the same assets as an object, keyed by id: look up a reading's `id` in it and get the whole asset |
//! | `graph.json` | the topology ([`Graph`]): a node for each asset, and edges `part_of`, `measures`, `flows_to` |
//!
//! `assets.json` is the source of truth; `id2assets.json` is derived from it and is only written,
//! for clients that would otherwise build that map themselves. Each entry is on a line of its own,
//! so that a diff of two catalogs shows the assets that differ.

mod asset;
mod graph;
mod visible;

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

pub use asset::{Asset, Interpolation, Specifications};
pub use graph::{Edge, Graph, Node, NodeKind, Relation};
pub use visible::Visible;

/// The list of assets.
pub const ASSETS_FILE: &str = "assets.json";
/// The assets by id.
pub const ID_TO_ASSETS_FILE: &str = "id2assets.json";
/// The plant's topology.
pub const GRAPH_FILE: &str = "graph.json";

/// Why a catalog cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum CatalogError {
    /// The operating system refused.
    #[error(
        "the catalog file {path} cannot be {action}; check that the folder exists and that you may use it"
    )]
    Io {
        /// `read` or `written`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The file is not JSON of the documented form.
    #[error(
        "the catalog file {path} is not of the form that plantlake expects; correct it at the place named below"
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        source: serde_json::Error,
    },
    /// Two assets have the same id.
    #[error(
        "the catalog file {path} has the id {id} twice ({first:?} and {second:?}); give each asset its own"
    )]
    RepeatedId {
        /// The file.
        path: PathBuf,
        /// The id.
        id: String,
        /// The name of the asset that comes first.
        first: String,
        /// The name of the asset that comes later.
        second: String,
    },
    /// A value has no JSON form.
    #[error("the catalog cannot be turned into JSON")]
    Encode {
        /// What serde says.
        source: serde_json::Error,
    },
}

/// A plant's assets and its topology.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Catalog {
    /// All assets, in the plant's order: each site, its units, their equipment, its sensors.
    pub assets: Vec<Asset>,
    /// How they hang together.
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
    /// Reads `assets.json` and, where there is one, `graph.json` from `folder`.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        let path = folder.join(ASSETS_FILE);
        let assets: Vec<Asset> = parse(&path, &read_bytes(&path)?)?;
        let mut names = BTreeMap::new();
        for asset in &assets {
            if let Some(first) = names.insert(asset.id, &asset.name) {
                return Err(CatalogError::RepeatedId {
                    path,
                    id: asset.id.to_string(),
                    first: first.clone(),
                    second: asset.name.clone(),
                });
            }
        }
        let path = folder.join(GRAPH_FILE);
        let graph = match read_bytes(&path) {
            Ok(bytes) => parse(&path, &bytes)?,
            // A catalog that people wrote by hand may have no topology.
            Err(CatalogError::Io { source, .. })
                if source.kind() == std::io::ErrorKind::NotFound =>
            {
                Graph::default()
            }
            Err(error) => return Err(error),
        };
        Ok(Self { assets, graph })
    }

    /// The three files' content, in the order in which they are to be written.
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

    /// Writes the three files to `folder`, which is made if it is not there. Replaces what is there.
    pub fn write(&self, folder: &Path) -> Result<(), CatalogError> {
        for file in self.encode()? {
            file.write(folder)?;
        }
        Ok(())
    }
}

impl CatalogFile {
    /// Writes the file to `folder`: whole or not at all, for whoever reads it meanwhile.
    pub fn write(&self, folder: &Path) -> Result<(), CatalogError> {
        let path = folder.join(self.name);
        // The rename is the step that makes the new content visible; it needs the same file system.
        let staged = folder.join(format!(".{}.staged", self.name));
        let write = || {
            std::fs::create_dir_all(folder)?;
            let mut file = std::fs::File::create(&staged)?;
            file.write_all(&self.bytes)?;
            file.sync_all()?;
            std::fs::rename(&staged, &path)
        };
        write().map_err(|source| CatalogError::Io {
            action: "written",
            path: path.clone(),
            source,
        })
    }
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, CatalogError> {
    std::fs::read(path).map_err(|source| CatalogError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    })
}

fn parse<T: DeserializeOwned>(path: &Path, bytes: &[u8]) -> Result<T, CatalogError> {
    serde_json::from_slice(bytes).map_err(|source| CatalogError::Malformed {
        path: path.to_owned(),
        source,
    })
}

/// A JSON list with each item on a line of its own.
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

/// A JSON object with each entry on a line of its own.
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
mod tests {
    use super::*;
    use crate::model::AssetId;

    fn asset(byte: u8, name: &str) -> Asset {
        Asset {
            id: AssetId::from_bytes([byte; 16]),
            name: name.to_owned(),
            kind: "temperature sensor".to_owned(),
            location: "Works / Unit 100 / R-101".to_owned(),
            specifications: Specifications {
                unit: Some("°C".to_owned()),
                range_low: Some(0.0),
                range_high: Some(250.0),
                resolution: Some(0.1),
                tag: Some("TT-101".to_owned()),
                interpolation: Some(Interpolation::Linear),
                other: BTreeMap::from([("material".to_owned(), "316L".into())]),
            },
        }
    }

    fn catalog() -> Catalog {
        let (one, two) = (asset(2, "one"), asset(1, "two"));
        let node = |asset: &Asset| Node {
            id: asset.id,
            kind: NodeKind::Sensor,
            name: asset.name.clone(),
        };
        let graph = Graph {
            nodes: vec![node(&one), node(&two)],
            edges: vec![Edge {
                source: one.id,
                target: two.id,
                relation: Relation::Other("spare_of".to_owned()),
            }],
        };
        Catalog {
            assets: vec![one, two],
            graph,
        }
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        catalog()
            .write(&folder.path().join("deep/catalog"))
            .unwrap();
        assert_eq!(
            Catalog::read(&folder.path().join("deep/catalog")).unwrap(),
            catalog()
        );
        let text =
            std::fs::read_to_string(folder.path().join("deep/catalog").join(ID_TO_ASSETS_FILE))
                .unwrap();
        let by_id: BTreeMap<String, Asset> = serde_json::from_str(&text).unwrap();
        assert_eq!(by_id["01010101-0101-0101-0101-010101010101"].name, "two");
        let left: Vec<_> = std::fs::read_dir(folder.path().join("deep/catalog"))
            .unwrap()
            .collect();
        assert_eq!(left.len(), 3, "no staged file is left: {left:?}");
    }

    #[test]
    fn a_catalog_written_by_hand_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"[{"id": "A1B2C3D4E5F67890ABCDEF1234567890", "name": "Tank 7", "type": "tank", "colour": "red"}]"#;
        std::fs::write(folder.path().join(ASSETS_FILE), text).unwrap();
        let catalog = Catalog::read(folder.path()).unwrap();
        assert_eq!(
            catalog.assets[0].id.to_string(),
            "a1b2c3d4-e5f6-7890-abcd-ef1234567890"
        );
        assert_eq!(catalog.assets[0].specifications, Specifications::default());
        assert_eq!(catalog.graph, Graph::default());
    }

    #[test]
    fn errors_name_the_file_and_the_place() {
        let folder = tempfile::tempdir().unwrap();
        assert!(
            Catalog::read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("assets.json cannot be read")
        );
        let path = folder.path().join(ASSETS_FILE);
        std::fs::write(
            &path,
            r#"[{"id": "pump 7", "name": "Pump", "type": "pump"}]"#,
        )
        .unwrap();
        let error = Catalog::read(folder.path()).unwrap_err();
        assert!(
            std::error::Error::source(&error)
                .unwrap()
                .to_string()
                .contains("\"pump 7\" is not a UUID at line 1")
        );
        std::fs::write(&path, list(&[asset(1, "one"), asset(1, "two")]).unwrap()).unwrap();
        assert!(
            Catalog::read(folder.path())
                .unwrap_err()
                .to_string()
                .contains("(\"one\" and \"two\")")
        );
    }
}
