//! Plans a resample run from the ledger and the files in the raw folder. Pure: no I/O.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::ledger::{KnownFile, Ledger};
use crate::lake::raw::RawFile;
use crate::model::{DateSet, Day, day_of};

/// The differences between the raw folder and the ledger.
#[derive(Debug, Default)]
pub struct Changes {
    /// Files to survey, because they are new or changed.
    pub fresh: Vec<RawFile>,
    /// The number of new files among `fresh`.
    pub new: usize,
    /// Known files that no longer exist.
    pub removed: Vec<String>,
    /// Expired files that are no longer in the raw folder.
    pub deleted_expired: Vec<String>,
}

/// Compares a listing with the ledger. With `full`, every file is fresh; callers also set it if the settings have
/// changed.
pub fn compare(ledger: &Ledger, listed: &[RawFile], full: bool) -> Changes {
    let mut changes = Changes::default();
    let leaves = |file: &RawFile| {
        let leaving = ledger.leaving.get(&file.path);
        leaving.is_some_and(|leaving| leaving.is_version(file))
    };
    for file in listed {
        if leaves(file) {
            continue;
        }
        let known = ledger.files.get(&file.path);
        if known.is_none() {
            changes.new += 1;
        }
        if full || known.is_none_or(|known| !known.is_version(file)) {
            changes.fresh.push(file.clone());
        }
    }
    let here: HashSet<&str> = listed.iter().map(|file| file.path.as_str()).collect();
    changes.removed = ledger
        .files
        .keys()
        .filter(|path| !here.contains(path.as_str()))
        .cloned()
        .collect();
    let still: HashSet<&str> = listed
        .iter()
        .filter(|file| leaves(file))
        .map(|file| file.path.as_str())
        .collect();
    let left = ledger.leaving.keys();
    let left = left.filter(|path| !still.contains(path.as_str()));
    changes.deleted_expired = left.cloned().collect();
    changes
}

/// The inputs that determine which dates a run computes, besides the files.
#[derive(Debug, Clone)]
pub struct Scope {
    /// The only dates to compute, if given; other dates stay due.
    pub dates: Option<(Day, Day)>,
    /// The end of the plausible times at the moment, in UTC microseconds; later dates stay due.
    pub plausible_end: i64,
    /// The dates of runs that began and were never published.
    pub unfinished: DateSet,
    /// The dates in the tables, for a full run.
    pub in_tables: DateSet,
}

/// The plan of a run.
#[derive(Debug)]
pub struct Plan {
    /// The dates to compute.
    pub dirty: DateSet,
    /// The ledger after the dates are computed.
    pub ledger: Ledger,
    /// The dates that are computed with a file for the first time, by the file's key. Readings of the file that are
    /// left out are counted on these dates.
    pub first_time: BTreeMap<String, DateSet>,
}

impl Plan {
    /// Whether the file was used for results that this plan does not replace.
    pub fn is_used_elsewhere(&self, path: &str) -> bool {
        self.ledger.file(path).is_some_and(|file| {
            let mut new = file.due.clone();
            if let Some(dates) = self.first_time.get(path) {
                new.extend(dates);
            }
            !file.dates.difference(&new).is_empty()
        })
    }
}

/// The results of surveys, by the keys of files in the ledger.
#[derive(Debug, Default)]
pub struct SurveyResults {
    /// The files that are fresh according to [`compare`], and for a full run also the archived ones.
    pub files: BTreeMap<String, KnownFile>,
    /// The names in the archive of files that are identical, byte for byte, to the raw file at their former path, by
    /// that path.
    pub restored: BTreeMap<String, String>,
}

/// Returns the dates to compute, and the ledger after that.
pub fn plan(before: &Ledger, changes: &Changes, surveyed: SurveyResults, scope: &Scope) -> Plan {
    let mut due = before.due.clone();
    due.extend(&scope.unfinished);
    due.extend(&scope.in_tables);
    let mut ledger = Ledger {
        due: DateSet::default(),
        ..before.clone()
    };
    for path in &changes.deleted_expired {
        ledger.leaving.remove(path);
    }
    for path in &changes.removed {
        if let Some(old) = ledger.files.remove(path) {
            due.extend(&old.dates);
        }
    }
    apply_surveys(&mut ledger, surveyed, &mut due);
    let due = due.difference(&ledger.sealed);
    exclude_sealed(&mut ledger);
    let last_plausible = day_of(scope.plausible_end.saturating_sub(1));
    let plausible = DateSet::range(Day::MIN, last_plausible);
    let chosen = scope.dates.map_or_else(
        || plausible.clone(),
        |(first, last)| DateSet::range(first, last).intersection(&plausible),
    );
    let mut dirty = due.intersection(&chosen);
    for file in ledger.all_files() {
        if !file.due.is_empty() {
            dirty.extend(&file.due.intersection(&chosen));
        }
    }
    // The last plausible date is due again for files with readings after the end, until all of it is plausible.
    let settled = DateSet::range(Day::MIN, last_plausible.saturating_sub(1));
    let done = dirty.intersection(&settled);
    ledger.due = due.difference(&dirty);
    let mut first_time = BTreeMap::new();
    ledger.recomputed.extend(&dirty);
    for (key, file) in ledger.all_files_mut() {
        if !file.due.is_empty() {
            first_time.insert(key, file.due.intersection(&dirty));
            let ahead = match file.last {
                Some(last) => last >= scope.plausible_end,
                None => file.dates.last().is_some_and(|last| last >= last_plausible),
            };
            file.due = file.due.difference(if ahead { &done } else { &dirty });
        }
    }
    Plan {
        dirty,
        ledger,
        first_time,
    }
}

/// Enters the surveyed files into the ledger, and adds the dates of the files that they replace to `due`.
fn apply_surveys(ledger: &mut Ledger, surveyed: SurveyResults, due: &mut DateSet) {
    let archived = names_by_path(ledger);
    let is_archived = |(key, _): &(String, KnownFile)| Ledger::archive_name(key).is_some();
    let (in_archive, raw): (Vec<_>, Vec<_>) = surveyed.files.into_iter().partition(is_archived);
    // Archived files come first, because raw files may replace some of them.
    for (key, file) in in_archive {
        if let Some(old) = ledger.file_mut(&key) {
            due.extend(&old.dates);
            let old = std::mem::replace(old, file);
            copy_identity(ledger, &key, &old);
        }
    }
    for (key, mut file) in raw {
        match surveyed.restored.get(&key) {
            Some(name) => restore_archived(ledger, &mut file, name),
            None => {
                let same = ledger.files.get(&key);
                let same = same.filter(|old| {
                    (&old.etag, old.modified, old.size) == (&file.etag, file.modified, file.size)
                });
                file.late = match same {
                    Some(old) => old.late.clone(),
                    None => file.dates.intersection(&ledger.sealed),
                };
                file.ranks_as = same.and_then(|old| old.ranks_as);
                let names = archived.get(&key).into_iter().flatten();
                replace_archived(ledger, names, &file, due);
            }
        }
        quarantine_if_sealed(&mut file);
        if let Some(old) = ledger.files.insert(key, file) {
            due.extend(&old.dates);
        }
    }
}

/// Puts a file into quarantine if all its dates are sealed, because none of its readings are used.
fn quarantine_if_sealed(file: &mut KnownFile) {
    if file.late.is_empty() || file.quarantined.is_some() {
        return;
    }
    if file.dates.difference(&file.late).is_empty() {
        file.quarantined = Some(format!(
            "all its dates are sealed ({}): their raw files have expired and were deleted, so their averages cannot be \
             computed again. Remove it",
            file.late
        ));
        file.dates = DateSet::default();
        file.due = DateSet::default();
        file.untimed = false;
    }
}

/// Removes the sealed dates from the due dates of all files, including those that were due before they were sealed.
fn exclude_sealed(ledger: &mut Ledger) {
    let sealed = ledger.sealed.clone();
    for (_, file) in ledger.all_files_mut() {
        file.due = file.due.difference(&sealed);
    }
}

/// Keeps the version and the precedence of an archived file that was surveyed again.
fn copy_identity(ledger: &mut Ledger, key: &str, old: &KnownFile) {
    if let Some(file) = ledger.file_mut(key) {
        file.etag.clone_from(&old.etag);
        file.modified = old.modified;
        file.size = old.size;
        file.ranks_as = old.ranks_as;
        file.late = old.late.clone();
    }
}

/// Makes an archived file a raw file again. Its readings do not change, so nothing becomes due.
fn restore_archived(ledger: &mut Ledger, file: &mut KnownFile, name: &str) {
    if let Some(archived) = ledger.archived.remove(name) {
        ledger.unarchived.insert(name.to_owned());
        *file = KnownFile {
            etag: std::mem::take(&mut file.etag),
            modified: file.modified,
            ranks_as: Some(archived.file.precedence()),
            ..archived.file
        };
    }
}

/// Returns the names of archived files by their former paths.
pub(in crate::jobs) fn names_by_path(ledger: &Ledger) -> HashMap<String, Vec<String>> {
    let mut names: HashMap<String, Vec<String>> = HashMap::new();
    for (name, archived) in &ledger.archived {
        let of_path = names.entry(archived.path.clone()).or_default();
        of_path.push(name.clone());
    }
    names
}

/// Removes archived files that had the path of a raw file and share dates with it: the raw file is a correction of
/// them.
fn replace_archived<'a>(
    ledger: &mut Ledger,
    names: impl Iterator<Item = &'a String>,
    file: &KnownFile,
    due: &mut DateSet,
) {
    for name in names {
        let archived = ledger.archived.get(name);
        if archived.is_some_and(|archived| archived.file.dates.intersects(&file.dates))
            && let Some(archived) = ledger.archived.remove(name)
        {
            due.extend(&archived.file.dates);
            ledger.unarchived.insert(name.clone());
        }
    }
}

#[cfg(test)]
mod tests;
