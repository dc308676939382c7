//! The entries of the raw folder: raw files, files that are passed over, and entries that cannot be used.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use super::file_names::{NameKind, name_kind};
use super::raw_file::RawFile;

/// The maximum number of files that are named among those that are passed over.
const MAX_NAMED: usize = 100;

/// Files of the raw folder that are no raw files. Files and folders whose names begin with `.` or `_` are not among
/// them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PassedOver {
    /// The number of files.
    pub files: usize,
    /// The first of them, by path, each with the reason.
    pub named: BTreeSet<(String, String)>,
}

impl PassedOver {
    /// Adds a file.
    pub fn add(&mut self, path: String, reason: String) {
        self.files = self.files.saturating_add(1);
        self.named.insert((path, reason));
        if self.named.len() > MAX_NAMED {
            self.named.pop_last();
        }
    }
}

/// The entries of the raw folder.
#[derive(Debug, Default)]
pub(super) struct FoundEntries {
    pub files: Vec<RawFile>,
    pub passed_over: PassedOver,
    /// The folders of Delta tables, each with a hash of the entries of its log.
    pub delta_logs: BTreeMap<String, u64>,
}

impl FoundEntries {
    /// Adds a file whose name is valid.
    pub fn add_file(&mut self, file: RawFile) {
        let name = file.path.rsplit('/').next().unwrap_or_default();
        match name_kind(name.as_bytes()) {
            NameKind::Parquet | NameKind::Undecided => self.files.push(file),
            NameKind::Other => {
                let reason = "its ending is not that of Parquet files";
                self.passed_over.add(file.path, reason.to_owned());
            }
            NameKind::Hidden => {}
        }
    }

    /// Adds an entry that cannot be used.
    pub fn add_fault(&mut self, path: String, reason: &str, is_folder: bool) {
        self.files
            .push(RawFile::faulty(path, reason.to_owned(), is_folder));
    }

    /// Adds an entry of the log of a Delta table.
    pub fn add_log_entry(&mut self, table: &str, name: &str, size: u64, modified: i64) {
        // Without a commit there is no table.
        if !name.ends_with(".json") && !name.ends_with(".parquet") {
            return;
        }
        let mut hasher = DefaultHasher::new();
        (name, size, modified).hash(&mut hasher);
        let hash = self.delta_logs.entry(table.to_owned()).or_default();
        // The sum does not depend on the order of the entries.
        *hash = hash.wrapping_add(hasher.finish());
    }

    /// Makes the paths of entries that cannot be used distinct from those of files. Their names are shown with escapes,
    /// and a file may have such a name.
    pub fn make_paths_unique(&mut self) {
        let (mut faulty, mut files): (Vec<_>, Vec<_>) = std::mem::take(&mut self.files)
            .into_iter()
            .partition(|file| file.fault.is_some());
        if !faulty.is_empty() {
            let mut paths: HashSet<String> = files.iter().map(|file| file.path.clone()).collect();
            for file in &mut faulty {
                while !paths.insert(file.path.clone()) {
                    file.path.push('?');
                }
            }
        }
        files.append(&mut faulty);
        self.files = files;
    }
}
