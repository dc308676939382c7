//! Hash chains over the audit trail and the ledger, one of each for every organisation. A record's hash covers the
//! record and the hash of the record before it. Computing the chain again therefore reveals a record that was changed,
//! inserted or removed. An older end of the chain also reveals that the chain was rewritten from some record on.
//!
//! `docs/billing.md` documents the hashed text, and other programs depend on it. A record's hash is the SHA-256 of a
//! compact JSON array in UTF-8: the format, the record's place in the chain from 1, the hash before it in hexadecimal,
//! and the record's columns in the order in which its table declares them. Records that are older than the chain have
//! no place in it; the chain begins with hashes over them, one for each month ([`begin`]).
//!
//! The transaction that adds records extends the chain, while the row of `record_chains` that has its end is locked.
//! The chain therefore does not fork, however many servers there are.

mod anchors;
mod cell;
mod columns;
mod heads;
mod verify;
mod walk;

use aws_lc_rs::digest::{SHA256, digest};
use serde::ser::{SerializeSeq, Serializer};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::StoreError;
use super::database::{Executor, StoreTransaction, values};
use crate::model::{OrganisationId, hex};

pub(super) use columns::{AuditRow, LedgerRow};
pub use heads::{ChainEnd, ChainHead, ChainHeads};
pub use verify::{ChainFinding, ChainVerification, FindingKind};

/// The table that a chain covers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ChainKind {
    /// The audit trail.
    Audit,
    /// The ledger of requests.
    Ledger,
}

impl ChainKind {
    /// Returns the name used in the database.
    fn name(self) -> &'static str {
        match self {
            Self::Audit => "audit",
            Self::Ledger => "ledger",
        }
    }

    /// Returns the format that begins each hashed array.
    fn format(self) -> &'static str {
        match self {
            Self::Audit => "plantlake audit 1",
            Self::Ledger => "plantlake ledger 1",
        }
    }
}

impl std::fmt::Display for ChainKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Audit => "audit trail",
            Self::Ledger => "ledger",
        })
    }
}

/// A SHA-256 hash.
pub(super) type Hash = [u8; 32];

/// A record's place in its chain, and its hash.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Link {
    /// The place, from 1.
    pub sequence: u64,
    /// The hash over the record and the hash before it.
    pub hash: Hash,
}

/// A record in its hashed form: its columns, in the order of its table.
pub(super) trait ChainRecord {
    /// Adds all columns to the hashed array.
    fn write<S: SerializeSeq>(&self, columns: &mut S) -> Result<(), S::Error>;
}

/// The hashed array.
struct HashedLine<'a, R> {
    kind: ChainKind,
    sequence: u64,
    previous: &'a str,
    record: &'a R,
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

fn hash_of(line: &impl Serialize, buffer: &mut Vec<u8>) -> Result<Hash, StoreError> {
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

/// The end of a chain, locked until its transaction ends.
pub(super) struct Chain {
    kind: ChainKind,
    /// The organisation's id; nil for records without an organisation.
    organisation: Uuid,
    length: u64,
    /// The hash of the last record, in hexadecimal; empty if there is none.
    hash: String,
    buffer: Vec<u8>,
}

impl Chain {
    /// Locks the end of a chain. A missing chain is begun over the existing records.
    pub async fn lock(
        change: &mut StoreTransaction,
        kind: ChainKind,
        organisation: Option<OrganisationId>,
    ) -> Result<Self, StoreError> {
        let organisation = key_of(organisation);
        loop {
            let values = values![kind.name(), organisation];
            let end = change
                .row(include_str!("../sql/chain_lock.sql"), values)
                .await?;
            if let Some(end) = end {
                return Ok(Self {
                    kind,
                    organisation,
                    length: end.count("length")?,
                    hash: end.get("hash")?,
                    buffer: Vec::new(),
                });
            }
            if let Some(begun) = Self::begin(change, kind, organisation, None).await? {
                return Ok(begun);
            }
            // Another transaction has just begun the chain.
        }
    }

    /// Appends a record.
    pub fn append(&mut self, record: &impl ChainRecord) -> Result<Link, StoreError> {
        let sequence = self.length + 1;
        let line = HashedLine {
            kind: self.kind,
            sequence,
            previous: &self.hash,
            record,
        };
        let hash = hash_of(&line, &mut self.buffer)?;
        (self.length, self.hash) = (sequence, hex(&hash));
        Ok(Link { sequence, hash })
    }

    /// Stores the current end.
    pub async fn store(&self, change: &mut StoreTransaction) -> Result<(), StoreError> {
        let values = values![self.kind.name(), self.organisation, self.length, &self.hash];
        let extend = include_str!("../sql/chain_extend.sql");
        match change.execute(extend, values).await? {
            1 => Ok(()),
            rows => Err(StoreError::damaged(
                "record_chains",
                &format!("{rows} ends of a chain"),
            )),
        }
    }
}

/// Returns the key of an organisation in `record_chains`; nil stands for no organisation.
fn key_of(organisation: Option<OrganisationId>) -> Uuid {
    organisation.map_or(Uuid::nil(), |organisation| organisation.0)
}
