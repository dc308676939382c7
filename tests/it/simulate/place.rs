//! A lake and a catalog in a temporary folder, and a plan for simulations.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use chrono::NaiveDate;
use plantlake::lake::{Store, StoreOptions};
use plantlake::simulate::{Plan, Shape, SimulateError, Summary, simulate};
use tempfile::TempDir;

pub struct Place {
    pub folder: TempDir,
}

impl Place {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    pub fn lake(&self) -> PathBuf {
        self.folder.path().join("lake")
    }

    pub fn catalog(&self) -> PathBuf {
        self.folder.path().join("catalog")
    }

    pub async fn simulate(&self, plan: &Plan) -> Result<Summary, SimulateError> {
        let lake = Store::open(self.lake().to_str().unwrap(), &StoreOptions::new()).unwrap();
        simulate(plan, &lake, &self.catalog(), |_| {}).await
    }

    /// Returns the contents of all files, by their paths below the folder.
    pub fn files(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(folder: &Path, root: &Path, files: &mut BTreeMap<String, Vec<u8>>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    let name = path
                        .strip_prefix(root)
                        .unwrap()
                        .to_str()
                        .unwrap()
                        .to_owned();
                    match std::fs::read(&path) {
                        // An interrupted simulation may still be removing files.
                        Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
                        bytes => files.insert(name, bytes.unwrap()),
                    };
                }
            }
        }
        let mut files = BTreeMap::new();
        walk(self.folder.path(), self.folder.path(), &mut files);
        files
    }

    pub fn write(&self, file: &str, text: &str) {
        let path = self.folder.path().join(file);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
}

pub fn plan() -> Plan {
    Plan {
        assets: 24,
        days: 5,
        start: NaiveDate::from_ymd_opt(2026, 2, 27),
        interval: Duration::from_secs(30),
        seed: 7,
        shape: Shape::Realistic,
    }
}
