//! Restores a backup completely or not at all, and only to places that are empty or equal the backup.
//!
//! Everything is first read and compared, then written next to its destination, and only then made visible: the
//! database by its commit, files by renaming. A kill in between leaves some of it in place. Repeating the restore finds
//! that this equals the backup, and continues with the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, TryLockError};
use std::path::Path;

use serde::Serialize;

use super::database::DatabaseTarget;
use super::failure::BackupFailure;
use super::folders::part_folder;
use super::history::HistoryTarget;
use crate::app::serve::journal_folder;
use crate::backup::{
    Archive, BackupHeader, Member, NewFolders, Part, RestoreFolder, VerifiedBackup,
};
use crate::config::Settings;
use crate::lake::storage::failpoint::reach;
use crate::metering::journals;

/// The outcome of restoring a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RestoreOutcome {
    /// The part was restored.
    Restored,
    /// The part existed already and equals the backup.
    WasThere,
    /// The backup has no files of the part.
    Nothing,
    /// The part was left as it is: the lake has runs, and thus a log of its own.
    LeftAlone,
}

/// The report on a restore.
#[derive(Debug, Clone, Serialize)]
pub struct RestoreReport {
    /// The header of the backup.
    #[serde(flatten)]
    pub head: BackupHeader,
    /// The outcome of each part.
    pub restored: BTreeMap<Part, RestoreOutcome>,
}

/// Restores the parts `only` of the backup `from`, or all parts if the set is empty. Calls `on_progress` with the
/// number of bytes read since the last call.
pub async fn restore(
    settings: &Settings,
    from: &Path,
    only: &BTreeSet<Part>,
    on_progress: &dyn Fn(u64),
) -> Result<RestoreReport, BackupFailure> {
    let checked = Archive::open(from)?.verify()?;
    let parts = requested_parts(checked.header(), only)?;
    let _alone = lock_state_folder(&settings.state, &journal_folder(settings))?;
    let mut places = RestoreTargets::compare(settings, &checked, &parts).await?;
    let prepared = match places.refuse_to_overwrite() {
        Ok(()) => places.prepare(settings, &checked, on_progress).await,
        Err(error) => Err(error),
    };
    if let Err(error) = prepared {
        places.roll_back().await;
        return Err(error);
    }
    let becomes = |part: &Part| match checked.files_of(*part).is_empty() {
        true => (*part, RestoreOutcome::Nothing),
        false => (*part, places.outcome(*part)),
    };
    let report = RestoreReport {
        head: checked.header().clone(),
        restored: parts.iter().map(becomes).collect(),
    };
    places.finish().await?;
    reach("restore-done");
    Ok(report)
}

/// Returns the parts to be restored.
fn requested_parts(
    head: &BackupHeader,
    only: &BTreeSet<Part>,
) -> Result<BTreeSet<Part>, BackupFailure> {
    if let Some(part) = only.iter().find(|part| !head.parts.contains(part)) {
        let has: Vec<&str> = head.parts.iter().map(|part| part.name()).collect();
        return Err(BackupFailure::NoPart {
            part: *part,
            has: has.join(", "),
        });
    }
    match only.is_empty() {
        true => Ok(head.parts.iter().copied().collect()),
        false => Ok(only.clone()),
    }
}

/// Locks the state folder against other restores, and checks that no server is using it. Creates the folder if it does
/// not exist; dropping the returned values in their order removes it if it is still empty, and then ends the lock.
fn lock_state_folder(
    state: &Path,
    journal: &Path,
) -> Result<(NewFolders, Option<File>), BackupFailure> {
    // A state folder that cannot be created is not in use.
    let mut new = NewFolders::create(state).unwrap_or_default();
    let lock = match File::open(state) {
        Ok(folder) => match folder.try_lock() {
            Ok(()) => Some(folder),
            Err(TryLockError::WouldBlock) => {
                // Both restores may have created the folder, and the other one holds a lock on it.
                new.persist();
                return Err(BackupFailure::Restoring(state.to_owned()));
            }
            // The file system does not support locks on folders.
            Err(TryLockError::Error(_)) => None,
        },
        Err(_) => None,
    };
    match journals::is_in_use(journal)? {
        true => Err(BackupFailure::Serving(state.to_owned())),
        false => Ok((new, lock)),
    }
}

/// The destinations of all parts.
struct RestoreTargets {
    files: BTreeMap<Part, RestoreFolder>,
    history: Option<HistoryTarget>,
    database: Option<DatabaseTarget>,
}

impl RestoreTargets {
    /// Compares the existing data with the backup.
    async fn compare(
        settings: &Settings,
        checked: &VerifiedBackup,
        parts: &BTreeSet<Part>,
    ) -> Result<Self, BackupFailure> {
        let mut places = Self {
            files: BTreeMap::new(),
            history: None,
            database: None,
        };
        for part in parts {
            let wanted = checked.files_of(*part);
            if let Some(folder) = part_folder(settings, *part) {
                let place = RestoreFolder::inspect(&folder, part.is_secret(), &wanted)?;
                places.files.insert(*part, place);
            } else if *part == Part::Runs {
                places.history = Some(HistoryTarget::compare(settings, &wanted).await?);
            } else {
                let url = &settings.organisation_url;
                places.database = Some(DatabaseTarget::compare(url, checked).await?);
            }
        }
        Ok(places)
    }

    fn refuse_to_overwrite(&self) -> Result<(), BackupFailure> {
        let mut there = Vec::new();
        let mut free: BTreeSet<Part> = BTreeSet::new();
        for (part, place) in &self.files {
            let files = place.conflicting_files().iter();
            there.extend(files.map(|path| path.display().to_string()));
            free.extend(place.conflicting_files().is_empty().then_some(*part));
        }
        if let Some(history) = &self.history {
            there.extend_from_slice(history.conflicts());
            free.extend(history.conflicts().is_empty().then_some(Part::Runs));
        }
        if let Some(database) = &self.database {
            there.extend(database.conflicts());
            free.extend(database.conflicts().is_none().then_some(Part::Database));
        }
        if there.is_empty() {
            return Ok(());
        }
        let free: Vec<&str> = free.iter().map(|part| part.name()).collect();
        Err(BackupFailure::Conflict {
            there,
            free: free.join(","),
        })
    }

    /// Writes files to temporary names, adds the log of runs to the history, and commits the database.
    async fn prepare(
        &mut self,
        settings: &Settings,
        checked: &VerifiedBackup,
        on_progress: &dyn Fn(u64),
    ) -> Result<(), BackupFailure> {
        let mut contents = checked.contents()?;
        for member in contents.members()? {
            let member = member?;
            let name = member.name.clone();
            let Some((part, file)) = Part::split_member(&name) else {
                continue;
            };
            if let Some(place) = self.files.get_mut(&part) {
                on_progress(stage_member(place, file, member, checked)?);
                reach("restore-staged-file");
                tokio::task::yield_now().await;
                continue;
            }
            match (part, &mut self.history, &mut self.database) {
                (Part::Runs, Some(history), _) => {
                    let bytes = checked.read_verified(member)?;
                    on_progress(bytes.len() as u64);
                    history.add(settings, file, bytes).await?;
                }
                (Part::Database, _, Some(database)) => {
                    let bytes = checked.read_verified(member)?;
                    on_progress(bytes.len() as u64);
                    database.add(file, &bytes).await?;
                    reach("restore-in-database");
                }
                _ => {}
            }
        }
        if let Some(database) = &mut self.database {
            database.verify().await?;
            reach("restore-before-commit");
            database.commit().await?;
            reach("restore-after-commit");
        }
        Ok(())
    }

    /// Returns the outcome of a part.
    fn outcome(&self, part: Part) -> RestoreOutcome {
        let is_done = match part {
            Part::Database => self.database.as_ref().is_none_or(DatabaseTarget::is_done),
            Part::Runs if self.history.as_ref().is_some_and(HistoryTarget::has_runs) => {
                return RestoreOutcome::LeftAlone;
            }
            Part::Runs => self.history.as_ref().is_none_or(HistoryTarget::is_done),
            _ => self.files.get(&part).is_none_or(RestoreFolder::is_complete),
        };
        if is_done {
            RestoreOutcome::WasThere
        } else {
            RestoreOutcome::Restored
        }
    }

    /// Moves the staged files to their names, keeps the history, and migrates the database.
    async fn finish(self) -> Result<(), BackupFailure> {
        if let Some(history) = self.history {
            history.persist();
        }
        for place in self.files.into_values() {
            place.commit(|| reach("restore-after-file"))?;
        }
        match self.database {
            Some(database) => database.migrate().await,
            None => Ok(()),
        }
    }

    /// Undoes the restore. Dropping the file destinations removes their staged files.
    async fn roll_back(self) {
        if let Some(history) = self.history {
            history.roll_back().await;
        }
        if let Some(database) = self.database {
            database.roll_back().await;
        }
    }
}

/// Writes a member to a temporary file unless it exists at its destination. Returns the number of bytes written.
fn stage_member(
    place: &mut RestoreFolder,
    file: &str,
    member: Member<'_>,
    checked: &VerifiedBackup,
) -> Result<u64, BackupFailure> {
    let Some(mut staged) = place.stage(file)? else {
        return Ok(0);
    };
    let name = member.name.clone();
    let digest = member.for_each_chunk(|bytes| staged.write(bytes))?;
    checked.check_digest(&name, &digest)?;
    staged.finish()?;
    Ok(digest.bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_of_missing_state_folder_excludes_other_restores() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("lake/.state");
        let lock = || lock_state_folder(&state, &state.join("journal"));
        let first = lock().unwrap();
        assert!(matches!(lock(), Err(BackupFailure::Restoring(_))));
        drop(first);
        let left = std::fs::read_dir(folder.path()).unwrap();
        assert_eq!(left.count(), 0, "the empty folders are left");
        // A folder with files stays.
        let again = lock().unwrap();
        std::fs::write(state.join("file"), "").unwrap();
        drop(again);
        assert!(state.join("file").exists());
    }
}
