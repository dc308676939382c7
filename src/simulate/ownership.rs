//! Tracks the files that the simulator wrote. It replaces and removes only those.
//!
//! `<lake>/simulation.json` contains the names of all files that a simulation wrote below the lake, and
//! `<catalog>/simulation.json` those of the catalog. Both are written before the files, so that an interrupted
//! simulation can be repeated, and again when all files are complete.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path as FsPath, PathBuf};

use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use serde::{Deserialize, Serialize};

use super::error::{OwnershipError, SimulateError};
use super::plan::Schedule;
use super::random::fingerprint;
use crate::catalog::CatalogFile;
use crate::lake::Store;

/// The name of the manifests.
pub(super) const MANIFEST_FILE: &str = "simulation.json";
/// The file of the simulation's faults.
pub(super) const GROUND_TRUTH_FILE: &str = "ground_truth.json";
/// The folder of the readings.
const RAW: &str = "raw";
/// The format version of both manifests.
const FORMAT: u32 = 1;

/// The manifest of the lake.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct LakeManifest {
    written_by: String,
    format: u32,
    pub simulation: Schedule,
    /// Whether all files are complete. If not, the simulation is in progress or was interrupted.
    pub complete: bool,
    /// The files of readings, by path relative to the lake.
    pub files: BTreeMap<String, LakeFile>,
}

/// A file of readings.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LakeFile {
    /// The number of rows; 0 until it is written.
    pub readings: u64,
    /// The size in bytes; 0 until it is written.
    pub bytes: u64,
}

/// The manifest of a catalog.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct CatalogManifest {
    written_by: String,
    format: u32,
    pub simulation: Schedule,
    /// The files, each with the fingerprints of its possible contents: two while it is being replaced.
    pub files: BTreeMap<String, BTreeSet<String>>,
}

impl LakeManifest {
    pub fn new(simulation: &Schedule, complete: bool, files: BTreeMap<String, LakeFile>) -> Self {
        Self {
            written_by: "plantlake simulate".to_owned(),
            format: FORMAT,
            simulation: simulation.clone(),
            complete,
            files,
        }
    }

    /// Reads the manifest, if it exists.
    pub async fn read(lake: &Store) -> Result<Option<Self>, SimulateError> {
        let refused = |source| OwnershipError::Manifest {
            file: display_path(lake, MANIFEST_FILE),
            option: "--lake",
            source,
        };
        let manifest: Option<Self> = match read(&*lake.objects(), MANIFEST_FILE).await? {
            Some(bytes) => {
                Some(serde_json::from_slice(&bytes).map_err(|error| refused(Some(error)))?)
            }
            None => None,
        };
        if manifest
            .as_ref()
            .is_some_and(|manifest| manifest.format != FORMAT)
        {
            return Err(refused(None).into());
        }
        Ok(manifest)
    }

    /// Reads the manifest, if it exists, and fails if the lake contains other raw files.
    pub async fn inspect(lake: &Store) -> Result<Option<Self>, SimulateError> {
        let manifest = Self::read(lake).await?;
        let named = |file: &str| display_path(lake, file);
        let objects = lake.objects();
        if manifest.is_none() && exists(&*objects, GROUND_TRUTH_FILE).await? {
            return Err(OwnershipError::Foreign {
                file: named(GROUND_TRUTH_FILE),
                option: "--lake",
            }
            .into());
        }
        let listed = |source: object_store::Error| SimulateError::Read {
            file: named(RAW),
            source,
        };
        let mut listing = objects.list(Some(&Path::from(RAW)));
        while let Some(object) = listing.try_next().await.map_err(listed)? {
            // Hidden files such as `.gitkeep` contain no readings.
            if object
                .location
                .filename()
                .is_some_and(|name| name.starts_with('.'))
            {
                continue;
            }
            let file = object.location.to_string();
            let Some(own) = manifest
                .as_ref()
                .and_then(|manifest| manifest.files.get(&file))
            else {
                return Err(OwnershipError::Foreign {
                    file: named(&file),
                    option: "--lake",
                }
                .into());
            };
            if manifest.as_ref().is_some_and(|manifest| manifest.complete)
                && own.bytes != object.size
            {
                return Err(OwnershipError::Changed {
                    file: named(&file),
                    option: "--lake",
                }
                .into());
            }
        }
        Ok(manifest)
    }

    /// Writes the manifest.
    pub async fn write(&self, lake: &Store) -> Result<(), SimulateError> {
        put_json(&*lake.objects(), MANIFEST_FILE, self).await
    }
}

/// Returns the location of a file in the lake, for messages.
fn display_path(lake: &Store, file: &str) -> String {
    format!("{}/{file}", lake.to_string().trim_end_matches('/'))
}

/// Removes `files` of an earlier simulation, and the temporary files of interrupted writes, which exist only on a
/// local disk.
pub(super) async fn remove(
    lake: &Store,
    files: impl Iterator<Item = &String>,
    known: &BTreeMap<String, LakeFile>,
) -> Result<(), SimulateError> {
    let objects = lake.objects();
    for file in files {
        match objects.delete(&Path::from(file.as_str())).await {
            Ok(()) | Err(object_store::Error::NotFound { .. }) => {}
            Err(source) => {
                return Err(SimulateError::Remove {
                    file: file.clone(),
                    source: source.into(),
                });
            }
        }
    }
    let Some(folder) = lake.local_path().map(|lake| lake.join(RAW)) else {
        return Ok(());
    };
    let Ok(entries) = std::fs::read_dir(&folder) else {
        return Ok(());
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        // `object_store` writes `NAME#1`, and renames it to `NAME` when it is complete.
        let Some((whole, number)) = name.to_str().and_then(|name| name.rsplit_once('#')) else {
            continue;
        };
        if number.bytes().all(|byte| byte.is_ascii_digit())
            && known.contains_key(&format!("{RAW}/{whole}"))
        {
            std::fs::remove_file(entry.path()).map_err(|source| SimulateError::Remove {
                file: entry.path().display().to_string(),
                source,
            })?;
        }
    }
    Ok(())
}

impl CatalogManifest {
    pub fn new(simulation: &Schedule, files: &[CatalogFile]) -> Self {
        let files = files
            .iter()
            .map(|file| (file.name.to_owned(), BTreeSet::from([hex(&file.bytes)])))
            .collect();
        Self {
            written_by: "plantlake simulate".to_owned(),
            format: FORMAT,
            simulation: simulation.clone(),
            files,
        }
    }

    /// Reads the manifest of `folder`, if it exists, and fails if one of `files` exists with a content that no
    /// simulation wrote. Other files, such as views, are ignored.
    pub fn inspect(folder: &FsPath, files: &[CatalogFile]) -> Result<Option<Self>, SimulateError> {
        let path = folder.join(MANIFEST_FILE);
        let refused = |source| OwnershipError::Manifest {
            file: path.display().to_string(),
            option: "--catalog",
            source,
        };
        let manifest: Option<Self> = match read_local(&path)? {
            Some(bytes) => {
                Some(serde_json::from_slice(&bytes).map_err(|error| refused(Some(error)))?)
            }
            None => None,
        };
        if manifest
            .as_ref()
            .is_some_and(|manifest| manifest.format != FORMAT)
        {
            return Err(refused(None).into());
        }
        for file in files {
            let path = folder.join(file.name);
            let Some(bytes) = read_local(&path)? else {
                continue;
            };
            let (file, option) = (path.display().to_string(), "--catalog");
            match manifest
                .as_ref()
                .and_then(|manifest| manifest.files.get(&file_name(&path)))
            {
                None => return Err(OwnershipError::Foreign { file, option }.into()),
                Some(known) if !known.contains(&hex(&bytes)) => {
                    return Err(OwnershipError::Changed { file, option }.into());
                }
                Some(_) => {}
            }
        }
        Ok(manifest)
    }

    /// Returns this manifest, which also allows the contents that `former` allows.
    pub fn merge(&self, former: Option<Self>) -> Self {
        let mut both = self.clone();
        for (name, known) in former.map(|former| former.files).unwrap_or_default() {
            both.files.entry(name).or_default().extend(known);
        }
        both
    }

    /// Returns the manifest as a file of the catalog.
    pub fn to_file(&self) -> Result<CatalogFile, SimulateError> {
        let bytes = serde_json::to_vec_pretty(self).map_err(|source| SimulateError::Manifest {
            file: MANIFEST_FILE,
            source,
        })?;
        Ok(CatalogFile {
            name: MANIFEST_FILE,
            bytes,
        })
    }
}

fn hex(bytes: &[u8]) -> String {
    format!("{:016x}", fingerprint(bytes))
}

fn file_name(path: &FsPath) -> String {
    path.file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default()
}

fn read_local(path: &PathBuf) -> Result<Option<Vec<u8>>, SimulateError> {
    match std::fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(SimulateError::ReadLocal {
            file: path.clone(),
            source,
        }),
    }
}

async fn read(
    objects: &dyn ObjectStore,
    file: &str,
) -> Result<Option<bytes::Bytes>, SimulateError> {
    let failed = |source| SimulateError::Read {
        file: file.to_owned(),
        source,
    };
    match objects.get(&Path::from(file)).await {
        Ok(found) => Ok(Some(found.bytes().await.map_err(failed)?)),
        Err(object_store::Error::NotFound { .. }) => Ok(None),
        Err(source) => Err(failed(source)),
    }
}

async fn exists(objects: &dyn ObjectStore, file: &str) -> Result<bool, SimulateError> {
    match objects.head(&Path::from(file)).await {
        Ok(_) => Ok(true),
        Err(object_store::Error::NotFound { .. }) => Ok(false),
        Err(source) => Err(SimulateError::Read {
            file: file.to_owned(),
            source,
        }),
    }
}

async fn put_json<T: Serialize>(
    objects: &dyn ObjectStore,
    file: &'static str,
    value: &T,
) -> Result<(), SimulateError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|source| SimulateError::Manifest { file, source })?;
    objects
        .put(&Path::from(file), bytes.into())
        .await
        .map_err(|source| SimulateError::Write {
            file: file.to_owned(),
            source: source.into(),
        })?;
    Ok(())
}
