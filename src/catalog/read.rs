//! Reads a catalog's files. All mistakes are collected, each with its place.

use std::collections::HashMap;
use std::path::Path;

use twox_hash::XxHash64;

use super::content::{ASSETS_FILE, Catalog, GRAPH_FILE, ID_TO_ASSETS_FILE};
use super::entry_list::FileText;
use super::error::{CatalogError, Problems};
use super::graph::Graph;
use super::read_assets::{Assets, check_assets, check_by_id};
use super::read_graph::check_graph;
use crate::model::AssetId;

/// The content of a catalog's files.
pub(super) struct Contents {
    pub catalog: Catalog,
    /// The index of each asset in the list.
    pub index: HashMap<AssetId, usize>,
    /// A hash of the content of the files, which depends on nothing else.
    pub fingerprint: u64,
}

/// Reads and checks the files in `folder`. Only `assets.json` must be there.
pub(super) fn read(folder: &Path) -> Result<Contents, CatalogError> {
    // All files are read before any is parsed, so that their contents are from about the same time.
    let assets = bytes(folder, ASSETS_FILE)?;
    let by_id = optional_bytes(folder, ID_TO_ASSETS_FILE)?;
    let graph = optional_bytes(folder, GRAPH_FILE)?;
    let fingerprint = fingerprint([Some(assets.as_slice()), by_id.as_deref(), graph.as_deref()]);

    let mut problems = Problems::default();
    let known = match FileText::new(folder, ASSETS_FILE, &assets, &mut problems) {
        Some(text) => check_assets(&text, &mut problems),
        None => Assets::default(),
    };
    if let Some(bytes) = by_id
        && let Some(text) = FileText::new(folder, ID_TO_ASSETS_FILE, &bytes, &mut problems)
    {
        check_by_id(&text, &known, &mut problems);
    }
    let graph = match graph {
        Some(bytes) => match FileText::new(folder, GRAPH_FILE, &bytes, &mut problems) {
            Some(text) => check_graph(&text, &known, &mut problems),
            None => Graph::default(),
        },
        None => Graph::default(),
    };
    if !problems.is_empty() {
        return Err(CatalogError::Invalid(problems));
    }
    Ok(Contents {
        catalog: Catalog {
            assets: known.list.into_iter().flatten().collect(),
            graph,
        },
        index: known.index,
        fingerprint,
    })
}

fn fingerprint(files: [Option<&[u8]>; 3]) -> u64 {
    files.into_iter().fold(0, |former, file| match file {
        Some(bytes) => XxHash64::oneshot(former, bytes),
        // A missing file must differ from an empty one.
        None => !former,
    })
}

fn bytes(folder: &Path, name: &str) -> Result<Vec<u8>, CatalogError> {
    let path = folder.join(name);
    std::fs::read(&path).map_err(|source| CatalogError::Io {
        action: "read",
        path,
        source,
    })
}

fn optional_bytes(folder: &Path, name: &str) -> Result<Option<Vec<u8>>, CatalogError> {
    match bytes(folder, name) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(CatalogError::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}

impl Catalog {
    /// Reads and checks the catalog in `folder`. `assets.json` must be there; the other two may be missing.
    pub fn read(folder: &Path) -> Result<Self, CatalogError> {
        Ok(read(folder)?.catalog)
    }
}
