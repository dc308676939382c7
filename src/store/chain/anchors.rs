//! The beginning of a chain that covers records older than the chain. These have no hash of their own, because records
//! are never changed; one hash over the records of each month, an anchor, stands for them.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use uuid::Uuid;

use super::append::Chain;
use super::columns::StoredRecord;
use super::hashed_line::hash_of;
use super::heads::{ends, names};
use super::kind::ChainKind;
use crate::model::hex;
use crate::store::backend::database::{Executor, Row, StoreTransaction, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The anchor of a month: stands for the month's records that are older than the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Anchor {
    pub records: u64,
    /// SHA-256, in hexadecimal.
    pub hash: String,
}

/// Anchors, by month.
pub(super) type Anchors = BTreeMap<String, Anchor>;

/// Accumulates records into anchors.
pub(super) struct AnchorSums {
    kind: ChainKind,
    organisation: Uuid,
    months: BTreeMap<String, (u64, Context)>,
}

impl AnchorSums {
    pub fn new(kind: ChainKind, organisation: Uuid) -> Self {
        Self {
            kind,
            organisation,
            months: BTreeMap::new(),
        }
    }

    /// Adds a record. Records of a month must be added in the order of the table.
    pub fn add(&mut self, record: &StoredRecord) -> Result<(), StoreError> {
        let month = record.month(self.kind);
        let (records, context) = match self.months.get_mut(&month) {
            Some(sums) => sums,
            None => {
                let head = (self.kind.anchor_format(), self.organisation, &month);
                let mut context = Context::new(&SHA256);
                context.update(&line(&head)?);
                self.months.entry(month).or_insert((0, context))
            }
        };
        *records += 1;
        context.update(&record.line()?);
        Ok(())
    }

    pub fn organisation(&self) -> Uuid {
        self.organisation
    }

    pub fn anchors(self) -> Anchors {
        let months = self.months.into_iter();
        let anchors = months.map(|(month, (records, context))| {
            let hash = hex(context.finish().as_ref());
            (month, Anchor { records, hash })
        });
        anchors.collect()
    }
}

impl ChainKind {
    /// Returns the format that begins the hashed text of a month.
    fn anchor_format(self) -> &'static str {
        match self {
            Self::Audit => "plantlake audit anchor 1",
            Self::Ledger => "plantlake ledger anchor 1",
        }
    }
}

fn line(value: &impl serde::Serialize) -> Result<Vec<u8>, StoreError> {
    let mut text =
        serde_json::to_vec(value).map_err(|error| StoreError::damaged("chain_hash", &error))?;
    text.push(b'\n');
    Ok(text)
}

/// Returns the number of records that the anchors stand for, and the hash that the first record after them follows.
pub(super) fn start_after_anchors(
    kind: ChainKind,
    anchors: &Anchors,
) -> Result<(u64, String), StoreError> {
    if anchors.is_empty() {
        return Ok((0, String::new()));
    }
    let parts: Vec<_> = anchors
        .iter()
        .map(|(month, anchor)| (month, anchor.records, &anchor.hash))
        .collect();
    let hash = hash_of(&(kind.format(), 0, "", parts), &mut Vec::new())?;
    let records = anchors.values().map(|anchor| anchor.records).sum();
    Ok((records, hex(&hash)))
}

/// Returns the anchors of a chain that has begun.
pub(super) async fn read_anchors(
    database: &mut impl Executor,
    kind: ChainKind,
    organisation: Uuid,
) -> Result<Anchors, StoreError> {
    let values = values![kind.name(), organisation];
    let parts = include_str!("../sql/chain_parts.sql");
    let mut anchors = Anchors::new();
    for row in database.rows(parts, values).await? {
        let part: String = row.get("part")?;
        if !part.is_empty() {
            let (records, hash) = (row.count("length")?, row.get("hash")?);
            anchors.insert(part, Anchor { records, hash });
        }
    }
    Ok(anchors)
}

/// Derives anchors from the records of an organisation, none of which has a place in a chain yet.
async fn derive_anchors(
    change: &mut StoreTransaction,
    kind: ChainKind,
    organisation: Uuid,
) -> Result<Anchors, StoreError> {
    let mut sums = AnchorSums::new(kind, organisation);
    let select = kind.select(organisation.is_nil());
    let add = |row: &_| sums.add(&StoredRecord::from_row(row, kind)?);
    change
        .for_each_row::<StoreError>(select, values![organisation], add)
        .await?;
    Ok(sums.anchors())
}

/// Returns the number of records of an organisation; nil stands for records without one.
async fn count(
    change: &mut StoreTransaction,
    kind: ChainKind,
    organisation: Uuid,
) -> Result<u64, StoreError> {
    let mut records = 0;
    let read = |row: &Row| {
        records = row.count("records")?;
        Ok(())
    };
    let sql = kind.count(organisation.is_nil());
    change
        .for_each_row::<StoreError>(sql, values![organisation], read)
        .await?;
    Ok(records)
}

impl Chain {
    /// Begins a chain over the existing records, whose anchors are `ahead` if they are already known. Returns `None` if
    /// the chain has already begun.
    pub(super) async fn begin(
        change: &mut StoreTransaction,
        kind: ChainKind,
        organisation: Uuid,
        ahead: Option<Anchors>,
    ) -> Result<Option<Self>, StoreError> {
        let add = include_str!("../sql/chain_part_add.sql");
        let end = values![kind.name(), organisation, "", 0_u64, ""];
        if change.execute(add, end).await? == 0 {
            return Ok(None);
        }
        let anchors = match ahead {
            Some(anchors) => anchors,
            None => derive_anchors(change, kind, organisation).await?,
        };
        for (month, anchor) in &anchors {
            let values = values![
                kind.name(),
                organisation,
                month,
                anchor.records,
                &anchor.hash
            ];
            change.execute(add, values).await?;
        }
        let (length, hash) = start_after_anchors(kind, &anchors)?;
        let begun = Self {
            kind,
            organisation,
            length,
            hash,
            buffer: Vec::new(),
        };
        begun.store(change).await?;
        Ok(Some(begun))
    }
}

impl OrganisationStore {
    /// Begins the chains over existing records that belong to none yet. Reading the records may take long; others may
    /// add records meanwhile.
    pub async fn begin_chains(&self) -> Result<(), StoreError> {
        for kind in [ChainKind::Audit, ChainKind::Ledger] {
            for organisation in self.without_chain(kind).await? {
                let ahead = {
                    let mut snapshot = self.database.snapshot().await?;
                    derive_anchors(&mut snapshot, kind, organisation).await?
                };
                let mut change = self.database.begin().await?;
                // Every transaction that adds records takes this lock first.
                let take = match kind {
                    ChainKind::Audit => include_str!("../sql/access_take.sql"),
                    ChainKind::Ledger => include_str!("../sql/usage_take.sql"),
                };
                change.execute(take, values![]).await?;
                let found = count(&mut change, kind, organisation).await?;
                let read: u64 = ahead.values().map(|anchor| anchor.records).sum();
                // Records are never removed: if the counts are equal, the records are the same.
                let ahead = (found == read).then_some(ahead);
                Chain::begin(&mut change, kind, organisation, ahead).await?;
                change.commit().await?;
            }
        }
        Ok(())
    }

    /// Returns the organisations that have records and no chain; nil stands for records without an organisation.
    async fn without_chain(&self, kind: ChainKind) -> Result<Vec<Uuid>, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let begun = ends(&mut snapshot, kind).await?;
        let names = names(&mut snapshot).await?;
        let mut found = Vec::new();
        for organisation in names.into_keys().chain([Uuid::nil()]) {
            let is_new = !begun.contains_key(&organisation);
            if is_new && count(&mut snapshot, kind, organisation).await? > 0 {
                found.push(organisation);
            }
        }
        Ok(found)
    }
}
