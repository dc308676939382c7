//! The ledger of a published run: its raw files, its archived files, and the work that is still due.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::lake::raw::RawFile;
use crate::model::{AssetId, DateSet};
use crate::rollup::LeftOut;

/// The prefix of the keys of archived files. No path below the raw folder begins with a slash.
const ARCHIVE_KEY_PREFIX: &str = "/archive/raw/";

/// The ledger of a run: the raw files that it knew, and the work that is still due.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The settings that determine the results. When they change, everything is computed again.
    pub settings: String,
    /// The raw files by path.
    pub files: BTreeMap<String, KnownFile>,
    /// Dates to compute again that are not in the `due` of a file, such as those of a removed or damaged file that a
    /// run with `--from` or `--to` left for later.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
    /// Dates whose raw files expired and were deleted. Their averages never change again.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub sealed: DateSet,
    /// Expired raw files in the archive, by their names there. Their readings are averaged with those of other files.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub archived: BTreeMap<String, ArchivedFile>,
    /// Expired raw files that stay in the raw folder until no reader uses them.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<String, ExpiredRawFile>,
    /// Names in the archive of files that are no longer needed there.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unarchived: BTreeSet<String>,
    /// Dates that were computed again, and whose rows in the archive may be outdated.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub recomputed: DateSet,
    /// Dates that were restored from the archive and must not expire for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
}

/// A raw file as the last run that processed it knew it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownFile {
    /// The store's identifier of the version.
    pub etag: String,
    /// The time of the last modification, in nanoseconds since the Unix epoch. It is part of the version: a store with
    /// content-based etags gives the same etag to a file that is uploaded again, but the file then takes precedence as
    /// the newer one.
    #[serde(default)]
    pub modified: i64,
    /// The time that determines precedence, if it is not the modification time: a file that was restored from the
    /// archive keeps its earlier precedence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks_as: Option<i64>,
    /// The size in bytes.
    pub size: u64,
    /// The number of rows.
    pub rows: u64,
    /// The maximum number of minute rows that it produces.
    pub minutes: u64,
    /// The asset of all its readings, if the footer shows that there is only one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// The dates of its readings, and possibly more.
    pub dates: DateSet,
    /// The time of its last reading, or a later one, in UTC microseconds. Ledgers of earlier versions lack it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<i64>,
    /// The dates that no run has computed with this file yet.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
    /// The dates that were sealed before the file arrived. Its readings on them are in no average.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub late: DateSet,
    /// Whether it may have readings without a plausible time that are not counted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untimed: bool,
    /// The readings that were left out so far.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: LeftOut,
    /// The reason why the file is in quarantine, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
    /// Whether it is no Parquet file, nor named like one, so that it is passed over instead of quarantined. The reason is
    /// in `quarantined`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_passed_over: bool,
}

/// A raw file in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// The path that it had below the raw folder.
    pub path: String,
    /// The properties that it had as a raw file.
    pub file: KnownFile,
    /// The SHA-256 of its bytes, in hexadecimal.
    pub sha256: String,
    /// The time at which it was archived.
    pub archived_at: DateTime<Utc>,
}

/// A version of an expired raw file that is still in the raw folder but no longer one of the raw files.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ExpiredRawFile {
    /// The store's identifier of the version.
    pub etag: String,
    /// The time of the last modification, in nanoseconds since the Unix epoch.
    pub modified: i64,
    /// The size in bytes.
    pub size: u64,
    /// The time at which it expired.
    pub since: DateTime<Utc>,
}

/// Dates that do not expire, whatever their age.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// `raw` or the name of a table.
    pub what: String,
    /// The dates.
    pub dates: DateSet,
    /// The end of the hold.
    pub until: DateTime<Utc>,
}

impl KnownFile {
    /// Whether `file` is this version.
    pub fn is_version(&self, file: &RawFile) -> bool {
        (self.etag.as_str(), self.modified, self.size)
            == (file.etag.as_str(), file.modified, file.size)
    }

    /// Returns the time that determines precedence among files with the same reading.
    pub fn precedence(&self) -> i64 {
        self.ranks_as.unwrap_or(self.modified)
    }

    /// Returns the maximum number of minute rows on `dates`, assuming that all dates of the file have equally many.
    pub fn max_minutes_on(&self, dates: &DateSet) -> f64 {
        self.minutes as f64 * self.dates.intersection(dates).len() as f64
            / self.dates.len().max(1) as f64
    }
}

impl ArchivedFile {
    /// Returns the archived file, to be read from the archive.
    pub fn to_raw_file(&self, name: &str) -> RawFile {
        // The version in the archive is not checked: an archive may have been moved, or restored from a backup.
        RawFile::immutable(name, self.file.size)
    }
}

impl ExpiredRawFile {
    /// Whether `file` is this version.
    pub fn is_version(&self, file: &RawFile) -> bool {
        (self.etag.as_str(), self.modified, self.size)
            == (file.etag.as_str(), file.modified, file.size)
    }
}

impl Ledger {
    /// Returns the ledger without expired files that are no longer in the raw folder. This change alone needs no
    /// publication.
    pub fn without_deleted(mut self, left: &[String]) -> Self {
        self.leaving.retain(|path, _| !left.contains(path));
        self
    }

    /// Returns the paths of the raw files that are not in quarantine.
    pub fn readable_paths(&self) -> impl Iterator<Item = &str> + Clone {
        let files = self.files.iter();
        files.filter_map(|(path, file)| file.quarantined.is_none().then_some(path.as_str()))
    }

    /// Whether the file with this path is passed over.
    pub fn is_passed_over(&self, path: &str) -> bool {
        let file = self.files.get(path);
        file.is_some_and(|file| file.is_passed_over)
    }

    /// Returns the key of an archived file. The key of a raw file is its path.
    pub fn archive_key(name: &str) -> String {
        format!("{ARCHIVE_KEY_PREFIX}{name}")
    }

    /// Returns the name in the archive of the file with this key, or `None` if it is a raw file.
    pub fn archive_name(key: &str) -> Option<&str> {
        key.strip_prefix(ARCHIVE_KEY_PREFIX)
    }

    /// Returns the path of the file with this key for messages, relative to the raw folder or, for an archived file, to
    /// the lake.
    pub fn display_path(key: &str) -> String {
        key.trim_start_matches('/').to_owned()
    }

    /// Returns the file with this key.
    pub fn file(&self, key: &str) -> Option<&KnownFile> {
        match Self::archive_name(key) {
            Some(name) => self.archived.get(name).map(|archived| &archived.file),
            None => self.files.get(key),
        }
    }

    /// Returns the file with this key, mutably.
    pub fn file_mut(&mut self, key: &str) -> Option<&mut KnownFile> {
        match Self::archive_name(key) {
            Some(name) => {
                let archived = self.archived.get_mut(name);
                archived.map(|archived| &mut archived.file)
            }
            None => self.files.get_mut(key),
        }
    }

    /// Returns all files whose readings are averaged, raw and archived.
    pub fn all_files(&self) -> impl Iterator<Item = &KnownFile> {
        let archived = self.archived.values().map(|archived| &archived.file);
        self.files.values().chain(archived)
    }

    /// Returns all files whose readings are averaged with their keys, mutably.
    pub fn all_files_mut(&mut self) -> impl Iterator<Item = (String, &mut KnownFile)> {
        let archived = self.archived.iter_mut();
        let archived =
            archived.map(|(name, archived)| (Self::archive_key(name), &mut archived.file));
        let files = self.files.iter_mut();
        files
            .map(|(path, file)| (path.clone(), file))
            .chain(archived)
    }

    /// Estimates the number of readings that are read to compute `dates`.
    pub fn estimate_readings(&self, dates: &DateSet) -> u64 {
        let share = |file: &KnownFile| {
            file.rows as f64 * file.dates.intersection(dates).len() as f64
                / file.dates.len().max(1) as f64
        };
        self.all_files()
            .filter(|file| file.quarantined.is_none())
            .map(share)
            .sum::<f64>() as u64
    }

    /// Returns the dates of `what` that are on hold at `now`.
    pub fn held_dates(&self, what: &str, now: DateTime<Utc>) -> DateSet {
        let mut held = DateSet::default();
        for hold in &self.holds {
            if hold.what == what && hold.until > now {
                held.extend(&hold.dates);
            }
        }
        held
    }
}

fn is_zero(left_out: &LeftOut) -> bool {
    left_out.total() == 0
}
