//! The ends of all chains, to be kept outside the database. They later show whether an earlier record was changed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::append::key_of;
use super::kind::ChainKind;
use crate::clock;
use crate::model::OrganisationId;
use crate::store::backend::database::{Executor, StoreTransaction, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The format that a file of heads declares.
const FORMAT: &str = "plantlake head 1";

/// The end of a chain.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// The number of records up to the end.
    pub length: u64,
    /// The hash of the last record, in hexadecimal; empty if there is none.
    pub hash: String,
}

/// The ends of the chains of an organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// The organisation's id; `None` for changes by operators that concern no organisation.
    pub organisation_id: Option<OrganisationId>,
    /// The organisation's name.
    pub organisation: Option<String>,
    /// The end of the audit trail's chain.
    pub audit: ChainEnd,
    /// The end of the ledger's chain.
    pub ledger: ChainEnd,
}

/// The ends of all chains at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHeads {
    format: String,
    /// The time of the export.
    pub at: DateTime<Utc>,
    /// The ends, by organisation.
    pub heads: Vec<ChainHead>,
}

impl ChainHeads {
    /// Parses the JSON form of the result of [`OrganisationStore::chain_heads`].
    ///
    /// # Errors
    ///
    /// Returns the reason if the text is something else.
    pub fn parse(text: &str) -> Result<Self, String> {
        let heads: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match heads.format.as_str() {
            FORMAT => Ok(heads),
            other => Err(format!("its format is {other:?}, not {FORMAT:?}")),
        }
    }

    /// Returns the end of a chain, if the heads contain its organisation.
    pub(super) fn end(&self, kind: ChainKind, organisation: Uuid) -> Option<&ChainEnd> {
        let mut heads = self.heads.iter();
        let head = heads.find(|head| key_of(head.organisation_id) == organisation)?;
        Some(head.end(kind))
    }
}

impl ChainHead {
    fn end(&self, kind: ChainKind) -> &ChainEnd {
        match kind {
            ChainKind::Audit => &self.audit,
            ChainKind::Ledger => &self.ledger,
        }
    }
}

/// Returns the stored ends by organisation; nil stands for no organisation.
pub(super) async fn ends(
    change: &mut StoreTransaction,
    kind: ChainKind,
) -> Result<BTreeMap<Uuid, ChainEnd>, StoreError> {
    let mut found = BTreeMap::new();
    let rows = include_str!("../sql/chain_ends.sql");
    for row in change.rows(rows, values![]).await? {
        if row.get::<String>("chain")? == kind.name() {
            let (length, hash) = (row.count("length")?, row.get("hash")?);
            found.insert(row.id("organization_id")?, ChainEnd { length, hash });
        }
    }
    Ok(found)
}

/// Returns the names of all organisations, by id.
pub(super) async fn names(
    change: &mut StoreTransaction,
) -> Result<BTreeMap<Uuid, String>, StoreError> {
    let rows = include_str!("../sql/organisations.sql");
    let rows = change.rows(rows, values![]).await?;
    let read = |row: &crate::store::backend::database::Row| Ok((row.id("id")?, row.get("name")?));
    rows.iter().map(read).collect()
}

impl OrganisationStore {
    /// Returns the current ends of all chains, or of those of one organisation. Begins chains that have not begun.
    pub async fn chain_heads(
        &self,
        organisation: Option<OrganisationId>,
    ) -> Result<ChainHeads, StoreError> {
        self.begin_chains().await?;
        let mut snapshot = self.database.snapshot().await?;
        let mut audit = ends(&mut snapshot, ChainKind::Audit).await?;
        let mut ledger = ends(&mut snapshot, ChainKind::Ledger).await?;
        let names = names(&mut snapshot).await?;
        let mut keys: Vec<Uuid> = names
            .keys()
            .chain(audit.keys())
            .chain(ledger.keys())
            .copied()
            .collect();
        keys.sort();
        keys.dedup();
        keys.retain(|key| organisation.is_none_or(|organisation| organisation.0 == *key));
        let heads = keys.into_iter().map(|key| ChainHead {
            organisation_id: (!key.is_nil()).then_some(OrganisationId(key)),
            organisation: names.get(&key).cloned(),
            audit: audit.remove(&key).unwrap_or_default(),
            ledger: ledger.remove(&key).unwrap_or_default(),
        });
        let mut heads: Vec<ChainHead> = heads.collect();
        heads.sort_by(|one, other| one.organisation.cmp(&other.organisation));
        Ok(ChainHeads {
            format: FORMAT.to_owned(),
            at: clock::now(),
            heads,
        })
    }
}
