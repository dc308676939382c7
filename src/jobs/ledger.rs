//! What a run knew when it was published: the raw files, those in the archive, and what is still to be done about them.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::lake::raw::RawFile;
use crate::model::{AssetId, DateSet};
use crate::resample::LeftOut;

/// What keys of files in the archive begin with. No path below the raw folder begins with a slash.
const ARCHIVE: &str = "/archive/raw/";

/// What a run knew when it was published: every raw file, and what is still to be done about it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    /// The settings that the results depend on; when they change, everything is computed again.
    pub settings: String,
    /// Raw files by path.
    pub files: BTreeMap<String, KnownFile>,
    /// Dates that a removed or damaged file touched and that a run with `--from` or `--to` left for later.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
    /// Dates whose raw files expired and were deleted: their averages stay as they are, whatever comes.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub sealed: DateSet,
    /// Raw files that expired and are in the archive, by their names there. Averages are made of them as of the others.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub archived: BTreeMap<String, ArchivedFile>,
    /// Raw files that expired and are still in the raw folder, until nobody reads them any more.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub leaving: BTreeMap<String, Leaving>,
    /// Names in the archive that are not needed there any more.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub unarchived: BTreeSet<String>,
    /// Dates that were computed and may be in the archive as they were before.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub recomputed: DateSet,
    /// What was brought back from the archive, and is to stay for a while.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub holds: Vec<Hold>,
}

/// One raw file as it was last taken up.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct KnownFile {
    /// The version of the file.
    pub etag: String,
    /// When it was last modified, nanoseconds since the epoch. A store that names versions by their contents gives
    /// the same one to a file that is put again, which then is the younger of two with the same reading.
    #[serde(default)]
    pub modified: i64,
    /// The time by which it goes before or after others, where that is not when it was modified: a file that came back
    /// from the archive is as old as it was before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ranks_as: Option<i64>,
    /// Bytes.
    pub size: u64,
    /// Rows.
    pub rows: u64,
    /// At most so many minute rows come of it.
    pub minutes: u64,
    /// The asset that all its readings are of, where the footer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub asset: Option<AssetId>,
    /// The dates that its readings touch, or more.
    pub dates: DateSet,
    /// Those of them that no run has computed with it yet.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub due: DateSet,
    /// Those of them that were sealed before it came: its readings of them are in no average.
    #[serde(default, skip_serializing_if = "DateSet::is_empty")]
    pub late: DateSet,
    /// Whether it may have readings without a plausible time that were not counted yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub untimed: bool,
    /// What was left out of it so far.
    #[serde(default, skip_serializing_if = "is_nothing")]
    pub left_out: LeftOut,
    /// Why it is in quarantine, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quarantined: Option<String>,
}

/// A raw file that is in the archive.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ArchivedFile {
    /// Where it was below the raw folder.
    pub path: String,
    /// What was known of it.
    pub file: KnownFile,
    /// SHA-256 of its bytes, in hexadecimal digits.
    pub sha256: String,
    /// When it was archived.
    pub archived_at: DateTime<Utc>,
}

/// A version of a raw file that is no longer one of the raw files, though it is still there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Leaving {
    /// The version.
    pub etag: String,
    /// When it was last modified, nanoseconds since the epoch.
    pub modified: i64,
    /// Bytes.
    pub size: u64,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// Dates that stay where they are, whatever their age.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    /// `raw`, or a table's name.
    pub what: String,
    /// The dates.
    pub dates: DateSet,
    /// Until when.
    pub until: DateTime<Utc>,
}

impl KnownFile {
    /// Whether it is this very version.
    pub fn is_version(&self, file: &RawFile) -> bool {
        (self.etag.as_str(), self.modified, self.size)
            == (file.etag.as_str(), file.modified, file.size)
    }

    /// The time by which it goes before or after others.
    pub fn rank(&self) -> i64 {
        self.ranks_as.unwrap_or(self.modified)
    }

    /// At most so many minute rows on these dates, if the file's dates are all alike.
    pub fn minutes_on(&self, dates: &DateSet) -> f64 {
        self.minutes as f64 * self.dates.intersection(dates).len() as f64
            / self.dates.len().max(1) as f64
    }
}

impl ArchivedFile {
    /// The file in the archive, for who reads it there.
    pub fn stored(&self, name: &str) -> RawFile {
        // Its version there says nothing: an archive may have been moved, or come from a backup.
        RawFile::fixed(name, self.file.size)
    }
}

impl Leaving {
    /// Whether it is this very version.
    pub fn is_version(&self, file: &RawFile) -> bool {
        (self.etag.as_str(), self.modified, self.size)
            == (file.etag.as_str(), file.modified, file.size)
    }
}

impl Ledger {
    /// The ledger without files that have left the raw folder at last: that alone is nothing to publish.
    pub fn left(mut self, left: &[String]) -> Self {
        self.leaving.retain(|path, _| !left.contains(path));
        self
    }

    /// The key of a file in the archive; a raw file's is its path.
    pub fn archive_key(name: &str) -> String {
        format!("{ARCHIVE}{name}")
    }

    /// The name in the archive of the file with this key; none if it is not there.
    pub fn archive_name(key: &str) -> Option<&str> {
        key.strip_prefix(ARCHIVE)
    }

    /// How a file with this key is called to people: by its path below the raw folder, or below the lake.
    pub fn told(key: &str) -> String {
        key.trim_start_matches('/').to_owned()
    }

    /// The file with this key.
    pub fn file(&self, key: &str) -> Option<&KnownFile> {
        match Self::archive_name(key) {
            Some(name) => self.archived.get(name).map(|archived| &archived.file),
            None => self.files.get(key),
        }
    }

    /// The same, to be changed.
    pub fn file_mut(&mut self, key: &str) -> Option<&mut KnownFile> {
        match Self::archive_name(key) {
            Some(name) => {
                let archived = self.archived.get_mut(name);
                archived.map(|archived| &mut archived.file)
            }
            None => self.files.get_mut(key),
        }
    }

    /// All files that averages are made of, raw and in the archive.
    pub fn all_files(&self) -> impl Iterator<Item = &KnownFile> {
        let archived = self.archived.values().map(|archived| &archived.file);
        self.files.values().chain(archived)
    }

    /// The same with their keys, to be changed.
    pub fn all_files_mut(&mut self) -> impl Iterator<Item = (String, &mut KnownFile)> {
        let archived = self.archived.iter_mut();
        let archived =
            archived.map(|(name, archived)| (Self::archive_key(name), &mut archived.file));
        let files = self.files.iter_mut();
        files
            .map(|(path, file)| (path.clone(), file))
            .chain(archived)
    }

    /// The dates of `what` that are held at `now`.
    pub fn held(&self, what: &str, now: DateTime<Utc>) -> DateSet {
        let mut held = DateSet::default();
        for hold in &self.holds {
            if hold.what == what && hold.until > now {
                held.extend(&hold.dates);
            }
        }
        held
    }
}

fn is_nothing(left_out: &LeftOut) -> bool {
    left_out.total() == 0
}
