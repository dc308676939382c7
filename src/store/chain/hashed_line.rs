//! The text of a record that is hashed, and its hash.

use aws_lc_rs::digest::{SHA256, digest};
use serde::Serialize;
use serde::ser::{SerializeSeq, Serializer};

use super::kind::ChainKind;
use crate::store::error::StoreError;

/// A SHA-256 hash.
pub(in crate::store) type Hash = [u8; 32];

/// A record in its hashed form: its columns, in the order of its table.
pub(in crate::store) trait ChainRecord {
    /// Adds all columns to the hashed array.
    fn write<S: SerializeSeq>(&self, columns: &mut S) -> Result<(), S::Error>;
}

/// The hashed array.
pub(super) struct HashedLine<'a, R> {
    pub kind: ChainKind,
    pub sequence: u64,
    pub previous: &'a str,
    pub record: &'a R,
}

impl<R: ChainRecord> Serialize for HashedLine<'_, R> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut line = serializer.serialize_seq(None)?;
        line.serialize_element(self.kind.format())?;
        line.serialize_element(&self.sequence)?;
        line.serialize_element(self.previous)?;
        self.record.write(&mut line)?;
        line.end()
    }
}

pub(super) fn hash_of(line: &impl Serialize, buffer: &mut Vec<u8>) -> Result<Hash, StoreError> {
    buffer.clear();
    serde_json::to_writer(&mut *buffer, line)
        .map_err(|error| StoreError::damaged("chain_hash", &error))?;
    Ok(sha256(buffer))
}

fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    // A SHA-256 digest has the length of `Hash`.
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}
