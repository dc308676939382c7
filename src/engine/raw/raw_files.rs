//! The raw files and the known facts about each, shared by all sessions.
//!
//! The contents of a file ([`FileContents`]) are determined once for all callers: when a client sends the readings,
//! when a query first needs the file, or ahead of queries by [`RawFiles::watch`]. After that, a query opens only files
//! with readings of assets that its caller sees, on dates that it asks for.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use datafusion::common::{DataFusionError, Result};
use futures::{StreamExt, stream};

use crate::clock::Stopwatch;
use crate::engine::scheduler::QueryScheduler;
use crate::lake::Store;
use crate::lake::raw::{
    FileContents, RawFile, RawFileError, RawFormat, list_raw_files, read_contents, survey,
};
use crate::model::{AssetId, DateSet, Window};

/// The number of files that are inspected concurrently.
const MAX_CONCURRENT_SURVEYS: usize = 16;
/// The time after which the folder is listed again.
const LISTING_LIFETIME: Duration = Duration::from_secs(1);
/// The interval at which new files are inspected ahead of queries.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
/// The folder of files that clients send.
pub const INGESTED: &str = "ingested";
/// The maximum size in bytes of a file whose ids and times are read ahead of queries; files that clients send have no
/// such limit. The assets of larger files are known only if the footer names them.
const MAX_READ_BYTES: u64 = 8 << 20;
/// The maximum number of assets in all remembered lists of assets, which take 64 MiB. Files with the same assets share
/// a list.
const MAX_LISTED_ASSETS: usize = 4 << 20;

/// The known facts about a readable file.
#[derive(Debug)]
pub(in crate::engine) struct FileFacts {
    /// The dates of its readings, possibly with a few more.
    pub dates: DateSet,
    /// Whether it may have readings without a plausible time.
    pub irregular: bool,
    /// Its assets and the dates of their readings; `None` if unknown.
    pub contents: Option<FileContents>,
    /// Whether the readings were searched for the contents.
    was_read: bool,
}

/// A readable file.
#[derive(Debug, Clone)]
pub(in crate::engine) struct KnownFile {
    pub file: RawFile,
    pub facts: Arc<FileFacts>,
}

/// The raw files. Shared by all sessions.
pub struct RawFiles {
    pub(in crate::engine) raw: Store,
    pub(in crate::engine) format: Arc<RawFormat>,
    known: Mutex<FileCache>,
    /// Held while files are listed and inspected; other tasks wait for the result.
    survey_lock: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct FileCache {
    listed: Option<(Stopwatch, Arc<[RawFile]>)>,
    /// The known versions, by path.
    versions: HashMap<String, Version>,
    /// The listed files that are readable; `None` after a change.
    readable: Option<Arc<[KnownFile]>>,
    lists: AssetLists,
}

/// The known facts about one version of a file.
struct Version {
    etag: String,
    /// `None` for an unreadable file, which the job quarantines and reports.
    facts: Option<Arc<FileFacts>>,
    /// Whether a listing ended since the version became known. That listing may have begun before a file was written,
    /// and lack it; later ones contain it.
    has_had_listing: bool,
}

impl FileCache {
    fn version(&self, file: &RawFile) -> Option<&Version> {
        let version = self.versions.get(&file.path);
        version.filter(|version| version.etag == file.etag)
    }

    fn insert(&mut self, file: &RawFile, facts: Option<FileFacts>, has_had_listing: bool) {
        let facts = facts.map(|mut facts| {
            if let Some(contents) = &mut facts.contents
                && !self.lists.intern(contents)
            {
                facts.contents = None;
            }
            Arc::new(facts)
        });
        let version = Version {
            etag: file.etag.clone(),
            facts,
            has_had_listing,
        };
        self.versions.insert(file.path.clone(), version);
        self.readable = None;
    }

    /// Stores a new listing and forgets files that are gone. Listings are made one after the other.
    fn set_listing(&mut self, files: Vec<RawFile>) -> Arc<[RawFile]> {
        let files: Arc<[RawFile]> = match &self.listed {
            // With more versions than files, some are gone or were just written.
            Some((_, former)) if **former == *files && self.versions.len() <= files.len() => {
                Arc::clone(former)
            }
            _ => {
                self.readable = None;
                let there: HashSet<&str> = files.iter().map(|file| file.path.as_str()).collect();
                self.versions.retain(|path, version| {
                    let was_listed_before = std::mem::replace(&mut version.has_had_listing, true);
                    there.contains(path.as_str()) || !was_listed_before
                });
                files.into()
            }
        };
        self.listed = Some((Stopwatch::start(), Arc::clone(&files)));
        files
    }

    fn readable(&mut self, files: &[RawFile]) -> Arc<[KnownFile]> {
        let readable = files.iter().filter_map(|file| {
            let facts = self.version(file)?.facts.as_ref()?;
            Some(KnownFile {
                file: file.clone(),
                facts: Arc::clone(facts),
            })
        });
        let readable: Arc<[KnownFile]> = readable.collect();
        self.readable = Some(Arc::clone(&readable));
        readable
    }
}

/// Lists of assets; files with equal lists share one.
#[derive(Default)]
struct AssetLists {
    lists: HashSet<Arc<[AssetId]>>,
    /// The number of assets in all lists.
    assets: usize,
}

impl AssetLists {
    /// Replaces lists by equal ones that are known, and adds new ones; returns `false` if there is no room for a new
    /// one.
    fn intern(&mut self, contents: &mut FileContents) -> bool {
        for group in &mut contents.groups {
            if let Some(known) = self.lists.get(&group.assets) {
                group.assets = Arc::clone(known);
                continue;
            }
            if self.assets + group.assets.len() > MAX_LISTED_ASSETS {
                self.lists.retain(|list| Arc::strong_count(list) > 1);
                self.assets = self.lists.iter().map(|list| list.len()).sum();
            }
            if self.assets + group.assets.len() > MAX_LISTED_ASSETS {
                return false;
            }
            self.assets += group.assets.len();
            self.lists.insert(Arc::clone(&group.assets));
        }
        true
    }
}

impl fmt::Debug for RawFiles {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawFiles").finish_non_exhaustive()
    }
}

impl RawFiles {
    /// Opens the files in `raw`, with columns as in `format`. Readings with times outside its plausible range are
    /// included.
    pub fn new(raw: Store, format: RawFormat) -> Self {
        let format = RawFormat {
            plausible: Window::ALL,
            marks_ambiguous: false,
            ..format
        };
        Self {
            raw,
            format: Arc::new(format),
            known: Mutex::default(),
            survey_lock: tokio::sync::Mutex::default(),
        }
    }

    /// Stores the contents of a file that was just written.
    pub(in crate::engine) fn insert_written(&self, file: &RawFile, contents: Option<FileContents>) {
        // Without contents, the file is inspected like any other.
        if let Some(contents) = contents {
            let facts = FileFacts {
                dates: contents.dates(),
                irregular: false,
                contents: Some(contents),
                was_read: true,
            };
            self.locked().insert(file, Some(facts), false);
        }
    }

    /// Inspects new files ahead of queries, while the future is polled.
    pub(in crate::engine) async fn watch(self: &Arc<Self>, scheduler: &QueryScheduler) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            let listed = {
                let _turn = self.survey_lock.lock().await;
                self.list_files().await
            };
            match listed {
                Ok(listed) => {
                    let files = Arc::clone(self);
                    scheduler
                        .run_without_permit(async move { files.inspect_new(&listed).await })
                        .await;
                }
                Err(error) => tracing::debug!("cannot list raw files: {error}"),
            }
        }
    }

    /// Inspects files without holding `survey_lock`: this runs in the background, and queries must not wait for it.
    async fn inspect_new(&self, listed: &[RawFile]) {
        for file in listed {
            if self.locked().version(file).is_none() {
                self.survey(file).await;
            }
            let facts = self.locked().version(file).and_then(|version| {
                let facts = version.facts.as_ref()?;
                let is_open = facts.contents.is_none() && !facts.was_read;
                is_open.then(|| Arc::clone(facts))
            });
            if let Some(facts) = facts {
                self.read_contents(file, &facts).await;
            }
        }
    }

    /// Determines the assets of a file from its readings, if its footer does not name them.
    async fn read_contents(&self, file: &RawFile, known: &Arc<FileFacts>) {
        let is_sent = file.path.starts_with(&format!("{INGESTED}/"));
        if !is_sent && file.size > MAX_READ_BYTES {
            return;
        }
        // An error in the file is reported by the query or job that reads it.
        let contents = read_contents(&self.raw, file, &self.format).await;
        let facts = FileFacts {
            dates: known.dates.clone(),
            irregular: known.irregular,
            contents: contents.ok().flatten(),
            was_read: true,
        };
        let mut locked = self.locked();
        // The file may have been left out meanwhile.
        let is_same = |version: &Version| {
            let facts = version.facts.as_ref();
            facts.is_some_and(|facts| Arc::ptr_eq(facts, known))
        };
        if locked.version(file).is_some_and(is_same) {
            locked.insert(file, Some(facts), true);
        }
    }

    /// Returns the readable files, each with the known facts.
    pub(in crate::engine) async fn readable(&self) -> Result<Arc<[KnownFile]>> {
        if let Some(readable) = self.cached_readable() {
            return Ok(readable);
        }
        let _turn = self.survey_lock.lock().await;
        if let Some(readable) = self.cached_readable() {
            return Ok(readable);
        }
        let files = self.list_files().await?;
        let unknown: Vec<RawFile> = {
            let known = self.locked();
            let unknown = files.iter().filter(|file| known.version(file).is_none());
            unknown.cloned().collect()
        };
        let faults: Vec<String> = stream::iter(unknown)
            .map(|file| async move { self.survey(&file).await })
            .buffer_unordered(MAX_CONCURRENT_SURVEYS)
            .filter_map(async |fault| fault)
            .collect()
            .await;
        if let Some(first) = faults.first() {
            let count = faults.len();
            tracing::warn!(count, "raw files are not in raw_readings, such as: {first}");
        }
        Ok(self.locked().readable(&files))
    }

    fn cached_readable(&self) -> Option<Arc<[KnownFile]>> {
        let known = self.locked();
        let (since, _) = known.listed.as_ref()?;
        (since.elapsed() < LISTING_LIFETIME)
            .then(|| known.readable.clone())
            .flatten()
    }

    async fn list_files(&self) -> Result<Arc<[RawFile]>> {
        if let Some((since, files)) = &self.locked().listed
            && since.elapsed() < LISTING_LIFETIME
        {
            return Ok(Arc::clone(files));
        }
        let files = list_raw_files(&self.raw)
            .await
            .map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(self.locked().set_listing(files))
    }

    /// Determines the facts about a file. Returns the fault of a raw file that cannot be read.
    async fn survey(&self, file: &RawFile) -> Option<String> {
        let mut reason = None;
        let facts = match survey(&self.raw, file, &self.format).await {
            Ok(survey) => {
                let of_one = survey.asset.map(|asset| {
                    FileContents::from_asset(asset, survey.dates.clone(), survey.has_untimed)
                });
                Some(FileFacts {
                    dates: survey.dates,
                    irregular: survey.has_untimed,
                    contents: of_one,
                    was_read: false,
                })
            }
            Err(fault) => {
                tracing::debug!("excluded from raw_readings: {fault}");
                let is_raw = !matches!(fault, RawFileError::NotParquet { .. });
                reason = is_raw.then(|| fault.to_string());
                None
            }
        };
        let mut locked = self.locked();
        // Another task may have stored the same facts, or more, meanwhile.
        if locked.version(file).is_none() {
            locked.insert(file, facts, true);
        }
        reason
    }

    /// Excludes a file from now on, like the job that quarantines it.
    pub(in crate::engine) fn exclude(&self, file: &RawFile) {
        tracing::warn!("cannot read {}; excluded from raw_readings", file.path);
        self.locked().insert(file, None, true);
    }

    fn locked(&self) -> MutexGuard<'_, FileCache> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn set_listing_forgets_written_files_that_vanish_before_they_are_listed() {
        let mut cache = FileCache::default();
        let (kept, vanished) = (RawFile::immutable("a", 1), RawFile::immutable("b", 1));
        cache.insert(&kept, None, false);
        cache.set_listing(vec![kept.clone()]);
        cache.insert(&vanished, None, false);
        // This listing may have begun before the file was written.
        cache.set_listing(vec![kept.clone()]);
        assert!(cache.version(&vanished).is_some());
        cache.set_listing(vec![kept.clone()]);
        assert!(cache.version(&vanished).is_none());
        assert!(cache.version(&kept).is_some());
    }
}
