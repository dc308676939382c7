//! Checks a backup.

use std::collections::BTreeMap;
use std::path::Path;

use super::failure::BackupFailure;
use super::report::BackupReport;
use super::table_files::table_name;
use crate::backup::{Archive, Part, VerifiedBackup};

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
