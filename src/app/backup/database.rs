//! Restores a backup to the organisation database.

use std::path::{Path, PathBuf};

use super::failure::BackupFailure;
use super::table_files::{add_digest, table_name};
use crate::backup::{Digests, NewFolders, Part, VerifiedBackup};
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::store::{CopyPart, DatabaseRestore, OrganisationStore, SCHEMA, StoreError};

/// The suffixes of a SQLite database's own file and of the files that SQLite and plantlake create next to it.
const SQLITE_FILE_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", ".migration-lock"];

/// A database to be restored. If it is dropped before the commit, the database stays as it was.
pub(super) struct DatabaseTarget {
    url: DatabaseUrl,
    schema: i64,
    expected: Digests,
    /// Whether the database equals the backup.
    is_done: bool,
    /// Tables that have rows already.
    filled_tables: Vec<String>,
    store: Option<OrganisationStore>,
    restoring: Option<DatabaseRestore>,
    /// The new file of a SQLite database that did not exist.
    new: Option<NewFile>,
}

impl DatabaseTarget {
    /// Compares the database with the backup.
    pub async fn compare(
        url: &DatabaseUrl,
        checked: &VerifiedBackup,
    ) -> Result<Self, BackupFailure> {
        let head = checked.header();
        let schema = head.database.as_ref().map_or(SCHEMA, |head| head.schema);
        if schema > SCHEMA {
            return Err(BackupFailure::LaterProgram {
                program: head.program.clone(),
                schema,
            });
        }
        let mut place = Self {
            url: url.clone(),
            schema,
            expected: checked.files_of(Part::Database),
            is_done: false,
            filled_tables: Vec::new(),
            store: None,
            restoring: None,
            new: NewFile::if_missing(url),
        };
        if place.new.is_none() {
            let store = place.open().await?;
            place.filled_tables = store.filled_tables().await?;
            if !place.filled_tables.is_empty() {
                let mut there = Digests::new();
                let copied = store.copy(|part| {
                    add_digest(&mut there, &part);
                    Ok::<_, StoreError>(())
                });
                copied.await?;
                place.is_done = there == place.expected;
            }
            place.store = Some(store);
        }
        Ok(place)
    }

    async fn open(&self) -> Result<OrganisationStore, BackupFailure> {
        let opened = OrganisationStore::open_at(&self.url, self.schema).await;
        opened.map_err(|error| match error {
            StoreError::SchemaTooNew { url, version } if version <= SCHEMA => {
                BackupFailure::LaterSchema {
                    url,
                    there: version,
                    schema: self.schema,
                }
            }
            error => error.into(),
        })
    }

    /// Whether the database equals the backup.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns a description of the rows that a restore would overwrite; `None` if there are none.
    pub fn conflicts(&self) -> Option<String> {
        let is_in_the_way = !self.is_done && !self.filled_tables.is_empty();
        is_in_the_way.then(|| {
            let tables = self.filled_tables.join(", ");
            format!("rows in the organisation database {} ({tables})", self.url)
        })
    }

    /// Adds the rows of the file `name` of the backup.
    pub async fn add(&mut self, name: &str, text: &[u8]) -> Result<(), BackupFailure> {
        if self.is_done {
            return Ok(());
        }
        if self.store.is_none() {
            self.store = Some(self.open().await?);
        }
        if let (None, Some(store)) = (&self.restoring, &self.store) {
            self.restoring = Some(store.begin_restore().await?);
        }
        let table = table_name(name).unwrap_or(name);
        match &mut self.restoring {
            Some(restoring) => Ok(restoring.add(table, text).await?),
            None => Ok(()),
        }
    }

    /// Reads the added rows back, and compares them with the backup.
    pub async fn verify(&mut self) -> Result<(), BackupFailure> {
        let Some(restoring) = &mut self.restoring else {
            return Ok(());
        };
        let mut found = Digests::new();
        let verify = |part: CopyPart<'_>| {
            add_digest(&mut found, &part);
            Ok::<_, StoreError>(())
        };
        restoring.copy(verify).await?;
        let differs = |name: &&String| found.get(*name) != self.expected.get(*name);
        match self.expected.keys().chain(found.keys()).find(differs) {
            Some(name) => Err(BackupFailure::Mismatch(name.clone())),
            None => Ok(()),
        }
    }

    /// Commits the added rows.
    pub async fn commit(&mut self) -> Result<(), BackupFailure> {
        if let Some(restoring) = self.restoring.take() {
            restoring.commit().await?;
        }
        if let Some(new) = &mut self.new {
            new.persist();
        }
        Ok(())
    }

    /// Migrates the schema to the current version, because the backup may have an older one.
    pub async fn migrate(mut self) -> Result<(), BackupFailure> {
        if let Some(store) = self.store.take() {
            store.close().await;
            if self.schema < SCHEMA {
                OrganisationStore::open(&self.url).await?.0.close().await;
            }
        }
        Ok(())
    }

    /// Rolls back, so that the database stays as it was.
    pub async fn roll_back(mut self) {
        self.restoring = None;
        if let Some(store) = self.store.take() {
            store.close().await;
        }
    }
}

/// A SQLite database file that did not exist. Dropping this removes the file, unless it is kept.
struct NewFile {
    path: PathBuf,
    is_persisted: bool,
    folders: NewFolders,
}

impl NewFile {
    fn if_missing(url: &DatabaseUrl) -> Option<Self> {
        let DatabaseKind::Sqlite(path) = url.kind() else {
            return None;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        (!path.exists()).then(|| Self {
            path: path.clone(),
            is_persisted: false,
            folders: NewFolders::find_missing(folder),
        })
    }

    fn persist(&mut self) {
        self.is_persisted = true;
        self.folders.persist();
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_persisted {
            return;
        }
        for companion in SQLITE_FILE_SUFFIXES {
            let mut name = self.path.clone().into_os_string();
            name.push(companion);
            // The new folders are removed after this, when `folders` is dropped.
            let _ = std::fs::remove_file(name);
        }
    }
}
