//! Restores a backup to the organisation database.

use std::path::{Path, PathBuf};

use super::{BackupFailure, note, table_of};
use crate::backup::{Checked, Digests, NewFolders, Part};
use crate::config::{DatabaseKind, DatabaseUrl};
use crate::store::{CopyPart, OrganisationStore, Restoring, SCHEMA, StoreError};

/// The suffixes of a SQLite database's own file and of the files that SQLite and plantlake create next to it.
const COMPANIONS: [&str; 4] = ["", "-wal", "-shm", ".migration-lock"];

/// A database to be restored. If it is dropped before the commit, the database stays as it was.
pub(super) struct DatabasePlace {
    url: DatabaseUrl,
    schema: i64,
    wanted: Digests,
    /// Whether the database equals the backup.
    is_done: bool,
    /// Tables that have rows already.
    in_the_way: Vec<String>,
    store: Option<OrganisationStore>,
    restoring: Option<Restoring>,
    /// The new file of a SQLite database that did not exist.
    new: Option<NewFile>,
}

impl DatabasePlace {
    /// Compares the database with the backup.
    pub async fn look(url: &DatabaseUrl, checked: &Checked) -> Result<Self, BackupFailure> {
        let head = checked.head();
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
            wanted: checked.files_of(Part::Database),
            is_done: false,
            in_the_way: Vec::new(),
            store: None,
            restoring: None,
            new: NewFile::of(url),
        };
        if place.new.is_none() {
            let store = place.open().await?;
            place.in_the_way = store.filled_tables().await?;
            if !place.in_the_way.is_empty() {
                let mut there = Digests::new();
                let copied = store.copy(|part| {
                    note(&mut there, &part);
                    Ok::<_, StoreError>(())
                });
                copied.await?;
                place.is_done = there == place.wanted;
            }
            place.store = Some(store);
        }
        Ok(place)
    }

    async fn open(&self) -> Result<OrganisationStore, BackupFailure> {
        let opened = OrganisationStore::open_at(&self.url, self.schema).await;
        opened.map_err(|error| match error {
            StoreError::Newer { url, version } if version <= SCHEMA => BackupFailure::LaterSchema {
                url,
                there: version,
                schema: self.schema,
            },
            error => error.into(),
        })
    }

    /// Whether the database equals the backup.
    pub fn is_done(&self) -> bool {
        self.is_done
    }

    /// Returns a description of the rows that a restore would overwrite; `None` if there are none.
    pub fn in_the_way(&self) -> Option<String> {
        let is_in_the_way = !self.is_done && !self.in_the_way.is_empty();
        is_in_the_way.then(|| {
            let tables = self.in_the_way.join(", ");
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
            self.restoring = Some(store.restoring().await?);
        }
        let table = table_of(name).unwrap_or(name);
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
            note(&mut found, &part);
            Ok::<_, StoreError>(())
        };
        restoring.copy(verify).await?;
        let differs = |name: &&String| found.get(*name) != self.wanted.get(*name);
        match self.wanted.keys().chain(found.keys()).find(differs) {
            Some(name) => Err(BackupFailure::Unlike(name.clone())),
            None => Ok(()),
        }
    }

    /// Commits the added rows.
    pub async fn commit(&mut self) -> Result<(), BackupFailure> {
        if let Some(restoring) = self.restoring.take() {
            restoring.commit().await?;
        }
        if let Some(new) = &mut self.new {
            new.keep();
        }
        Ok(())
    }

    /// Migrates the schema to the current version, because the backup may have an older one.
    pub async fn bring_up_to_date(mut self) -> Result<(), BackupFailure> {
        if let Some(store) = self.store.take() {
            store.close().await;
            if self.schema < SCHEMA {
                OrganisationStore::open(&self.url).await?.0.close().await;
            }
        }
        Ok(())
    }

    /// Rolls back, so that the database stays as it was.
    pub async fn give_up(mut self) {
        self.restoring = None;
        if let Some(store) = self.store.take() {
            store.close().await;
        }
    }
}

/// A SQLite database file that did not exist. Dropping this removes the file, unless it is kept.
struct NewFile {
    path: PathBuf,
    is_kept: bool,
    folders: NewFolders,
}

impl NewFile {
    fn of(url: &DatabaseUrl) -> Option<Self> {
        let DatabaseKind::Sqlite(path) = url.kind() else {
            return None;
        };
        let folder = path.parent().unwrap_or(Path::new(""));
        (!path.exists()).then(|| Self {
            path: path.clone(),
            is_kept: false,
            folders: NewFolders::of(folder),
        })
    }

    fn keep(&mut self) {
        self.is_kept = true;
        self.folders.keep();
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.is_kept {
            return;
        }
        for companion in COMPANIONS {
            let mut name = self.path.clone().into_os_string();
            name.push(companion);
            // The new folders are removed after this, when `folders` is dropped.
            let _ = std::fs::remove_file(name);
        }
    }
}
