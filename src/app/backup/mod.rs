//! Backs up the data that cannot be recomputed to one file, and restores it. Each part is read and written by the
//! module that owns it.

mod database;
mod failure;
mod history;
mod restore;
mod write;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::serve::journal_folder;
use crate::backup::{
    Archive, BackupHeader, DatabaseHeader, DigestHasher, Digests, Part, VerifiedBackup,
};
use crate::config::Settings;
use crate::store::CopyPart;
pub use failure::BackupFailure;
pub use restore::{RestoreOutcome, RestoreReport, restore};
pub use write::back_up;

/// The size of a part.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PartReport {
    /// The part.
    pub part: Part,
    /// The number of its files.
    pub files: usize,
    /// The size of its files in bytes.
    pub bytes: u64,
}

/// The report on a backup that was written or checked.
#[derive(Debug, Clone, Serialize)]
pub struct BackupReport {
    /// The path of the backup.
    pub file: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// The header of the backup.
    #[serde(flatten)]
    pub head: BackupHeader,
    /// The sizes of its parts.
    pub contents: Vec<PartReport>,
    /// The number of rows of the organisation database, by table.
    pub rows: BTreeMap<String, u64>,
}

impl BackupReport {
    fn new(file: &Path, bytes: u64, head: &BackupHeader, digests: &Digests) -> Self {
        let of = |part: Part| {
            let own = digests
                .iter()
                .filter(|(member, _)| Part::split_member(member).is_some_and(|(of, _)| of == part));
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

/// Reads a whole backup, and reports its contents.
pub fn check(file: &Path) -> Result<BackupReport, BackupFailure> {
    let archive = Archive::open(file)?;
    let bytes = archive.size()?;
    let checked = archive.verify()?;
    let mut report = BackupReport::new(file, bytes, checked.header(), checked.digests());
    report.rows = rows(&checked)?;
    Ok(report)
}

/// Counts the rows of each table.
fn rows(checked: &VerifiedBackup) -> Result<BTreeMap<String, u64>, BackupFailure> {
    let mut rows = BTreeMap::new();
    let mut contents = checked.contents()?;
    for member in contents.members()? {
        let member = member?;
        let table = Part::split_member(&member.name).and_then(|(_, file)| table_name(file));
        if let Some(table) = table.map(str::to_owned) {
            let mut lines = 0;
            member.for_each_chunk(|bytes| {
                lines += bytes.iter().filter(|&&byte| byte == b'\n').count() as u64;
                Ok(())
            })?;
            // The first line of each file names the columns.
            *rows.entry(table).or_default() += lines.saturating_sub(1);
        }
    }
    Ok(rows)
}

/// Returns the name of the file that holds a part of a table.
fn table_file(part: &CopyPart<'_>) -> String {
    format!("{}/{:06}.jsonl", part.table, part.number)
}

/// Returns the table that a file belongs to; `None` if it is not the file of a table.
fn table_name(file: &str) -> Option<&str> {
    let (table, part) = file.split_once('/')?;
    part.ends_with(".jsonl").then_some(table)
}

/// Adds the digest of a part of the database's copy.
fn add_digest(digests: &mut Digests, part: &CopyPart<'_>) {
    let mut hashing = DigestHasher::default();
    hashing.update(part.text);
    digests.insert(table_file(part), hashing.finish());
}

/// Returns the folder of a part's files; `None` for parts that are not the files of one folder.
fn part_folder(settings: &Settings, part: Part) -> Option<PathBuf> {
    match part {
        Part::Catalog => Some(settings.catalog.clone()),
        Part::Jobs => Some(settings.jobs.clone()),
        Part::Keys => Some(settings.auth.keys_dir.clone()),
        Part::Journal => Some(journal_folder(settings)),
        Part::Runs | Part::Database => None,
    }
}
