//! The files of the organisation database's copy in a backup.

use crate::backup::{DigestHasher, Digests};
use crate::store::CopyPart;

/// Returns the name of the file that holds a part of a table.
pub(super) fn table_file(part: &CopyPart<'_>) -> String {
    format!("{}/{:06}.jsonl", part.table, part.number)
}

/// Returns the table that a file belongs to; `None` if it is not the file of a table.
pub(super) fn table_name(file: &str) -> Option<&str> {
    let (table, part) = file.split_once('/')?;
    part.ends_with(".jsonl").then_some(table)
}

/// Adds the digest of a part of the database's copy.
pub(super) fn add_digest(digests: &mut Digests, part: &CopyPart<'_>) {
    let mut hashing = DigestHasher::default();
    hashing.update(part.text);
    digests.insert(table_file(part), hashing.finish());
}
