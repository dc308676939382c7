//! The report on a backup that was written or checked.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use crate::backup::{BackupHeader, Digests, Part};

/// The size of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// The part.
    pub part: Part,
    /// The number of its files.
    pub files: usize,
    /// The size of its files in bytes.
    pub bytes: u64,
}

/// The report on a backup that was written or checked.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The path of the backup.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The header of the backup.
    #[serde(flatten)]
    pub head: BackupHeader,
    /// The sizes of its parts.
    pub contents: Vec<PartReport>,
    /// The number of rows of the organisation database, by table.
    pub rows: BTreeMap<String, u64>,
}

impl BackupReport {
    pub(super) fn new(file: &Path, bytes: u64, head: &BackupHeader, digests: &Digests) -> Self {
        let of = |part: Part| {
            let own = digests
                .iter()
                .filter(|(member, _)| Part::split_member(member).is_some_and(|(of, _)| of == part));
            own.fold(
                PartReport {
                    part,
                    files: 0,
                    bytes: 0,
                },
                |report, (_, digest)| PartReport {
                    files: report.files + 1,
                    bytes: report.bytes + digest.bytes,
                    ..report
                },
            )
        };
        Self {
            file: file.to_owned(),
            bytes,
            head: head.clone(),
            contents: head.parts.iter().map(|part| of(*part)).collect(),
            rows: BTreeMap::new(),
        }
    }
}
