//! Writes a backup while servers and jobs keep running.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use super::failure::BackupFailure;
use super::folders::part_folder;
use super::report::BackupReport;
use super::table_files::table_file;
use crate::app::serve::journal_folder;
use crate::backup::{
    BackupError, BackupHeader, BackupWriter, DatabaseHeader, FORMAT, Part, Stamps,
};
use crate::clock;
use crate::config::{DatabaseKind, Settings};
use crate::lake::records::runs::Runs;
use crate::lake::storage::failpoint::reach;
use crate::lake::{Store, StoreError as LakeError};
use crate::metering::journals;
use crate::model::host_name;
use crate::store::{CopyPart, OrganisationStore, SCHEMA};

/// Writes `parts` to a backup at `to`. Calls `on_progress` with the number of bytes written since the last call.
///
/// The journal is copied before the database, so that a request that has left the journal is in the database. A request
/// that is in both does no harm, because the ledger stores each request once.
pub async fn back_up(
    settings: &Settings,
    to: &Path,
    parts: &BTreeSet<Part>,
    on_progress: &dyn Fn(u64),
) -> Result<BackupReport, BackupFailure> {
    let has_database = parts.contains(&Part::Database);
    if has_database {
        require_database(settings)?;
    }
    let head = BackupHeader {
        format: FORMAT,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        made_at: clock::now(),
        host: host_name(),
        lake: settings.lake.to_string(),
        database: has_database.then(|| DatabaseHeader {
            kind: match settings.organisation_url.kind() {
                DatabaseKind::Sqlite(_) => "sqlite",
                DatabaseKind::Postgres => "postgres",
            }
            .to_owned(),
            schema: SCHEMA,
        }),
        parts: parts.iter().copied().collect(),
    };
    let mut writer = BackupWriter::create(to, &head)?;
    reach("backup-begun");
    let mut rows = BTreeMap::new();
    for part in parts {
        match part {
            Part::Catalog | Part::Jobs | Part::Keys => {
                add_folder(&mut writer, settings, *part, on_progress)?;
            }
            Part::Runs => add_runs(&mut writer, settings, on_progress).await?,
            Part::Journal => add_journals(&mut writer, settings, on_progress)?,
            Part::Database => {}
        }
        reach("backup-after-part");
        // Yields, so that an interruption takes effect.
        tokio::task::yield_now().await;
    }
    if has_database {
        // Opened only after the files are read: reading a SQLite file that is open in the same process releases its
        // locks.
        let (store, _) = OrganisationStore::open(&settings.organisation_url).await?;
        let add = |part: CopyPart<'_>| {
            writer.add(&Part::Database.member_name(&table_file(&part)), part.text)?;
            *rows.entry(part.table.to_owned()).or_insert(0) += part.rows;
            on_progress(part.text.len() as u64);
            reach("backup-in-database");
            Ok::<_, BackupFailure>(())
        };
        store.copy(add).await?;
        store.close().await;
    }
    let finished = writer.finish()?;
    reach("backup-before-place");
    let (bytes, digests) = finished.move_into_place()?;
    reach("backup-after-place");
    Ok(BackupReport {
        rows,
        ..BackupReport::new(to, bytes, &head, &digests)
    })
}

/// Refuses to back up a SQLite database that does not exist: opening it would create an empty one.
fn require_database(settings: &Settings) -> Result<(), BackupFailure> {
    match settings.organisation_url.kind() {
        DatabaseKind::Sqlite(path) if !path.exists() => {
            Err(BackupFailure::NoDatabase(path.clone()))
        }
        _ => Ok(()),
    }
}

/// Adds the files of a folder as of one point in time; fails if any of them changes meanwhile.
fn add_folder(
    writer: &mut BackupWriter,
    settings: &Settings,
    part: Part,
    on_progress: &dyn Fn(u64),
) -> Result<(), BackupFailure> {
    let Some(folder) = part_folder(settings, part) else {
        return Ok(());
    };
    let before = Stamps::read(&folder)?;
    for (file, size) in before.files() {
        writer.add_file(&part.member_name(file), &folder.join(file))?;
        on_progress(size);
    }
    if Stamps::read(&folder)? != before {
        return Err(BackupError::Changed(folder).into());
    }
    Ok(())
}

/// Adds the log of the lake's runs, if there is a lake.
async fn add_runs(
    writer: &mut BackupWriter,
    settings: &Settings,
    on_progress: &dyn Fn(u64),
) -> Result<(), BackupFailure> {
    let lake = match Store::open_existing(&settings.lake, settings.storage.options()) {
        Err(LakeError::Missing { .. }) => return Ok(()),
        lake => lake?,
    };
    let runs = Runs::open(&lake);
    for file in runs.log_files().await? {
        // Records of old runs may be deleted meanwhile.
        if let Some(bytes) = runs.log_file(&file).await? {
            writer.add(&Part::Runs.member_name(&file), &bytes)?;
            on_progress(bytes.len() as u64);
        }
    }
    Ok(())
}

/// Adds the journals of requests. Their files grow while they are copied, and are deleted once the ledger has their
/// records.
fn add_journals(
    writer: &mut BackupWriter,
    settings: &Settings,
    on_progress: &dyn Fn(u64),
) -> Result<(), BackupFailure> {
    let folder = journal_folder(settings);
    for file in journals::files(&folder)? {
        let path = folder.join(&file);
        let bytes = match std::fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(BackupError::io("read", &path)(error).into()),
        };
        let name: Vec<_> = file.iter().map(|part| part.to_string_lossy()).collect();
        writer.add(&Part::Journal.member_name(&name.join("/")), &bytes)?;
        on_progress(bytes.len() as u64);
    }
    Ok(())
}
