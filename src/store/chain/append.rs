//! Adds records to a chain.

use uuid::Uuid;

use super::hashed_line::{ChainRecord, Hash, HashedLine, hash_of};
use super::kind::ChainKind;
use crate::model::{OrganisationId, hex};
use crate::store::backend::database::{Executor, StoreTransaction, values};
use crate::store::error::StoreError;

/// A record's place in its chain, and its hash.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::store) struct Link {
    /// The place, from 1.
    pub sequence: u64,
    /// The hash over the record and the hash before it.
    pub hash: Hash,
}

/// The end of a chain, locked until its transaction ends.
pub(in crate::store) struct Chain {
    pub(super) kind: ChainKind,
    /// The organisation's id; nil for records without an organisation.
    pub(super) organisation: Uuid,
    pub(super) length: u64,
    /// The hash of the last record, in hexadecimal; empty if there is none.
    pub(super) hash: String,
    pub(super) buffer: Vec<u8>,
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
pub(super) fn key_of(organisation: Option<OrganisationId>) -> Uuid {
    organisation.map_or(Uuid::nil(), |organisation| organisation.0)
}
