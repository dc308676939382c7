//! Backup and restore of what cannot be computed again: each part by the module that knows it, into one file and back.

mod database;
mod failure;
mod history;
mod restore;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::serve::journal_folder;
use crate::backup::{Archive, Checked, DatabaseHead, Digests, Hashing, Head, Part};
use crate::config::Settings;
use crate::store::CopyPart;
pub use failure::BackupFailure;
pub use restore::{Put, RestoreReport, restore};
pub use write::back_up;

/// What a part has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// The part.
    pub part: Part,
    /// Its files.
    pub files: usize,
    /// Bytes of them.
    pub bytes: u64,
}

/// A backup, as it was made or found to be.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The file.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// What it says of itself.
    #[serde(flatten)]
    pub head: Head,
    /// What is in it.
    pub contents: Vec<PartReport>,
    /// Rows of the organisation database, by table.
    pub rows: BTreeMap<String, u64>,
}

impl BackupReport {
    fn new(file: &Path, bytes: u64, head: &Head, digests: &Digests) -> Self {
        let of = |part: Part| {
            let own = digests
                .iter()
                .filter(|(member, _)| Part::of_member(member).is_some_and(|(of, _)| of == part));
            own.fold(
                PartReport {
                    part,
                    files: 0,
                    bytes: 0,
                },
                |report, (_, digest)| PartReport {
                    files: report.files + 1,
                    bytes: report.bytes + digest.bytes,
                    ..report
                },
            )
        };
        Self {
            file: file.to_owned(),
            bytes,
            head: head.clone(),
            contents: head.parts.iter().map(|part| of(*part)).collect(),
            rows: BTreeMap::new(),
        }
    }
}

/// Reads a backup as a whole, and says what is in it.
pub fn check(file: &Path) -> Result<BackupReport, BackupFailure> {
    let archive = Archive::open(file)?;
    let bytes = archive.size()?;
    let checked = archive.check()?;
    let mut report = BackupReport::new(file, bytes, checked.head(), checked.digests());
    report.rows = rows(&checked)?;
    Ok(report)
}

/// Rows of each table.
fn rows(checked: &Checked) -> Result<BTreeMap<String, u64>, BackupFailure> {
    let mut rows = BTreeMap::new();
    let mut contents = checked.contents()?;
    for member in contents.members()? {
        let member = member?;
        let table = Part::of_member(&member.name).and_then(|(_, file)| table_of(file));
        if let Some(table) = table.map(str::to_owned) {
            let mut lines = 0;
            member.each(|bytes| {
                lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                Ok(())
            })?;
            // The first names the columns.
            *rows.entry(table).or_default() += lines.saturating_sub(1);
        }
    }
    Ok(rows)
}

/// The file of a part of a table.
fn table_file(part: &CopyPart<'_>) -> String {
    format!("{}/{:06}.jsonl", part.table, part.number)
}

/// The table that such a file is a part of.
fn table_of(file: &str) -> Option<&str> {
    let (table, part) = file.split_once('/')?;
    part.ends_with(".jsonl").then_some(table)
}

/// Notes what a part of the copy of a database is.
fn note(digests: &mut Digests, part: &CopyPart<'_>) {
    let mut hashing = Hashing::default();
    hashing.update(part.text);
    digests.insert(table_file(part), hashing.finish());
}

/// The folder that a part's files are in, for those whose files are in one.
fn folder_of(settings: &Settings, part: Part) -> Option<PathBuf> {
    match part {
        Part::Catalog => Some(settings.catalog.clone()),
        Part::Jobs => Some(settings.jobs.clone()),
        Part::Keys => Some(settings.auth.keys_dir.clone()),
        Part::Journal => Some(journal_folder(settings)),
        Part::Runs | Part::Database => None,
    }
}
