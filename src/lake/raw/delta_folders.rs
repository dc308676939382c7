//! Delta tables inside the raw folder. Of these, only the files of the current version are raw files: the others have
//! rows that were deleted or replaced.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use object_store::ObjectStoreExt;

use super::found_entries::FoundEntries;
use super::raw_file::RawFile;
use crate::lake::delta::foreign_table::{CurrentFiles, ForeignTableError, current_files};
use crate::lake::storage::store::Store;

/// The folder of a Delta table's log.
pub(super) const LOG_FOLDER: &str = "_delta_log";
/// The maximum number of tables whose files are remembered between listings.
const MAX_REMEMBERED: usize = 1_000;

/// The current files of a table, or the reason why they are unknown.
type Contents = Result<Arc<CurrentFiles>, String>;

/// Removes the files that Delta tables no longer contain.
pub(super) async fn apply_delta_logs(
    raw: &Store,
    found: &mut FoundEntries,
) -> Result<(), ForeignTableError> {
    if found.delta_logs.is_empty() {
        return Ok(());
    }
    let mut tables: BTreeMap<String, Contents> = BTreeMap::new();
    for (folder, hash) in std::mem::take(&mut found.delta_logs) {
        let contents = match remembered(raw, &folder, hash).await {
            Ok(files) => Ok(files),
            Err(ForeignTableError::Unreadable(reason)) => Err(reason),
            Err(error @ ForeignTableError::Store(_)) => return Err(error),
        };
        tables.insert(folder, contents);
    }
    let missing = missing_files(raw, &found.files, &tables).await?;
    for file in std::mem::take(&mut found.files) {
        let Some((table, name)) = table_of(&file.path, &tables) else {
            found.files.push(file);
            continue;
        };
        let shown = if table.is_empty() { "." } else { table };
        match tables.get(table) {
            _ if file.fault.is_some() => found.files.push(file),
            Some(Ok(current)) => match current.get(name) {
                Some(false) => found.files.push(file),
                Some(true) => {
                    let reason = format!(
                        "rows of it were deleted from the Delta table {shown} by a deletion vector, which is not \
                         supported; rewrite it (REORG TABLE … APPLY (PURGE))"
                    );
                    let path = file.path;
                    found.files.push(RawFile::faulty(path, reason, false));
                }
                None => {
                    let reason = format!(
                        "the current version of the Delta table {shown} does not contain it"
                    );
                    found.passed_over.add(file.path, reason);
                }
            },
            Some(Err(reason)) => {
                let reason = format!("the Delta table {shown} cannot be opened: {reason}");
                let path = file.path;
                found.files.push(RawFile::faulty(path, reason, false));
            }
            None => found.files.push(file),
        }
    }
    found.files.extend(missing);
    Ok(())
}

/// Returns an entry for each missing file of the current version of a table.
async fn missing_files(
    raw: &Store,
    listed: &[RawFile],
    tables: &BTreeMap<String, Contents>,
) -> Result<Vec<RawFile>, ForeignTableError> {
    let listed: HashSet<&str> = listed.iter().map(|file| file.path.as_str()).collect();
    let mut missing = Vec::new();
    for (table, contents) in tables {
        let Ok(current) = contents else {
            continue;
        };
        for name in current.keys() {
            let (path, shown) = match table.is_empty() {
                true => (name.clone(), "."),
                false => (format!("{table}/{name}"), table.as_str()),
            };
            if listed.contains(path.as_str()) {
                continue;
            }
            // A version that was written after the folder was listed has files that are taken later.
            let there = match object_store::path::Path::parse(&path) {
                Ok(location) => raw.objects().head(&location).await.map(|_| ()),
                Err(_) => Ok(()),
            };
            match there {
                Ok(()) => {}
                Err(object_store::Error::NotFound { .. }) => {
                    let reason = format!(
                        "the current version of the Delta table {shown} contains it, but it is missing, and its readings \
                         are in no average; restore it, or remove it from the table (FSCK REPAIR TABLE)"
                    );
                    missing.push(RawFile::faulty(path, reason, false));
                }
                Err(error) => return Err(ForeignTableError::Store(Box::new(error.into()))),
            }
        }
    }
    Ok(missing)
}

/// Returns the innermost table that a file is in, and the path of the file relative to it.
fn table_of<'a>(path: &'a str, tables: &BTreeMap<String, Contents>) -> Option<(&'a str, &'a str)> {
    let mut slashes = path.rmatch_indices('/');
    let inner = slashes.find_map(|(at, _)| {
        let (folder, name) = (path.get(..at)?, path.get(at + 1..)?);
        tables.contains_key(folder).then_some((folder, name))
    });
    inner.or_else(|| tables.contains_key("").then_some(("", path)))
}

/// Returns the current files of a table, which is opened only if its log has changed.
async fn remembered(
    raw: &Store,
    folder: &str,
    hash: u64,
) -> Result<Arc<CurrentFiles>, ForeignTableError> {
    type Known = HashMap<String, (u64, Arc<CurrentFiles>)>;
    static KNOWN: OnceLock<Mutex<Known>> = OnceLock::new();
    let known = || {
        let known = KNOWN.get_or_init(Mutex::default);
        known.lock().unwrap_or_else(PoisonError::into_inner)
    };
    let table = match folder.is_empty() {
        true => raw.clone(),
        false => raw.child(folder),
    };
    let key = table.url().to_string();
    if let Some((former, files)) = known().get(&key)
        && *former == hash
    {
        return Ok(Arc::clone(files));
    }
    let files = Arc::new(current_files(&table).await?);
    let mut known = known();
    if known.len() >= MAX_REMEMBERED {
        known.clear();
    }
    known.insert(key, (hash, Arc::clone(&files)));
    Ok(files)
}
