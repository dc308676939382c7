//! The ends of all chains, to be kept elsewhere: whoever has them can later see that nothing before was changed.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ChainKind;
use crate::clock;
use crate::model::OrganisationId;
use crate::store::database::{Change, Executor, values};
use crate::store::{OrganisationStore, StoreError};

/// What a file of heads says that it is.
const FORMAT: &str = "plantlake head 1";

/// Where a chain ends.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainEnd {
    /// Records up to there.
    pub length: u64,
    /// The hash of the last one, in hexadecimal; empty if there is none.
    pub hash: String,
}

/// Where the chains of an organisation end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHead {
    /// Whose; none for what operators did that is of no organisation.
    pub organisation_id: Option<OrganisationId>,
    /// Its name.
    pub organisation: Option<String>,
    /// The audit trail.
    pub audit: ChainEnd,
    /// The ledger of requests.
    pub ledger: ChainEnd,
}

/// Where all chains ended at one time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChainHeads {
    format: String,
    /// When.
    pub at: DateTime<Utc>,
    /// By organisation.
    pub heads: Vec<ChainHead>,
}

impl ChainHeads {
    /// Reads what [`OrganisationStore::chain_heads`] gave, as JSON.
    ///
    /// # Errors
    ///
    /// The text is something else, which is said.
    pub fn parse(text: &str) -> Result<Self, String> {
        let heads: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        match heads.format.as_str() {
            FORMAT => Ok(heads),
            other => Err(format!("its format is {other:?}, not {FORMAT:?}")),
        }
    }

    /// Where a chain ended, if there is something of its organisation.
    pub(super) fn end(&self, kind: ChainKind, organisation: Uuid) -> Option<&ChainEnd> {
        let mut heads = self.heads.iter();
        let head = heads.find(|head| super::key_of(head.organisation_id) == organisation)?;
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

/// The ends that are written down, by organisation; nil stands for none.
pub(super) async fn ends(
    change: &mut Change,
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

/// The organisations that there are, by id.
pub(super) async fn names(change: &mut Change) -> Result<BTreeMap<Uuid, String>, StoreError> {
    let rows = include_str!("../sql/organisations.sql");
    let rows = change.rows(rows, values![]).await?;
    let read = |row: &crate::store::database::Row| Ok((row.id("id")?, row.get("name")?));
    rows.iter().map(read).collect()
}

impl OrganisationStore {
    /// Where all chains end now, or those of one organisation. Chains that have not begun do.
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
