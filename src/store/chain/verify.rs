//! Computes chains again, and reports what does not match.

use std::collections::BTreeSet;

use serde::Serialize;
use uuid::Uuid;

use super::anchors::read_anchors;
use super::append::key_of;
use super::columns::StoredRecord;
use super::findings::ChainFinding;
use super::heads::{ChainEnd, ChainHeads, ends, names};
use super::kind::ChainKind;
use super::walk::{ChainWalk, Expected};
use crate::model::OrganisationId;
use crate::store::backend::database::{StoreTransaction, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// The result of computing a chain again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainVerification {
    /// The table that the chain covers.
    pub chain: ChainKind,
    /// The organisation's id; `None` for changes by operators that concern no organisation.
    pub organisation_id: Option<OrganisationId>,
    /// The organisation's name.
    pub organisation: Option<String>,
    /// Whether the chain has begun. If not, nothing protects the existing records.
    pub begun: bool,
    /// The number of records read.
    pub records: u64,
    /// The last place of a record, and its hash, as far as the chain is intact.
    pub end: ChainEnd,
    /// The deviations found; empty if the chain is intact.
    pub findings: Vec<ChainFinding>,
    /// The number of further findings, which are not kept.
    pub more_findings: u64,
}

impl OrganisationStore {
    /// Computes the chains of a kind again, of one organisation or of all, from one snapshot, and compares them with a
    /// head that was exported earlier.
    pub async fn verify_chains(
        &self,
        kind: ChainKind,
        organisation: Option<OrganisationId>,
        head: Option<&ChainHeads>,
    ) -> Result<Vec<ChainVerification>, StoreError> {
        let mut snapshot = self.database.snapshot().await?;
        let names = names(&mut snapshot).await?;
        let ends = ends(&mut snapshot, kind).await?;
        let mut keys: BTreeSet<Uuid> = names.keys().chain(ends.keys()).copied().collect();
        keys.insert(Uuid::nil());
        keys.extend(owners(&mut snapshot, kind).await?);
        let exported = head.iter().flat_map(|head| &head.heads);
        keys.extend(exported.map(|head| key_of(head.organisation_id)));
        keys.retain(|key| organisation.is_none_or(|organisation| organisation.0 == *key));
        let mut found = Vec::new();
        for key in keys {
            let written = ends.get(&key);
            let head = head.and_then(|head| head.end(kind, key));
            let verified = verify(&mut snapshot, kind, key, written, head).await?;
            if key.is_nil() && !verified.begun && verified.records == 0 {
                continue;
            }
            found.push(ChainVerification {
                organisation: names.get(&key).cloned(),
                ..verified
            });
        }
        found.sort_by(|one, other| one.organisation.cmp(&other.organisation));
        Ok(found)
    }
}

async fn verify(
    change: &mut StoreTransaction,
    kind: ChainKind,
    organisation: Uuid,
    written: Option<&ChainEnd>,
    head: Option<&ChainEnd>,
) -> Result<ChainVerification, StoreError> {
    let expected = Expected {
        anchors: read_anchors(change, kind, organisation).await?,
        end: written,
        head,
    };
    let mut walk = ChainWalk::new(kind, organisation, expected)?;
    let select = kind.select(organisation.is_nil());
    let add = |row: &_| walk.add(&StoredRecord::from_row(row, kind)?);
    change
        .for_each_row::<StoreError>(select, values![organisation], add)
        .await?;
    let begun = walk.finish();
    Ok(ChainVerification {
        chain: kind,
        organisation_id: (!organisation.is_nil()).then_some(OrganisationId(organisation)),
        organisation: None,
        begun,
        records: walk.records,
        end: walk.end(),
        findings: walk.findings.found,
        more_findings: walk.findings.more,
    })
}

/// Returns the organisations that have records, known or not.
async fn owners(
    change: &mut StoreTransaction,
    kind: ChainKind,
) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut found = BTreeSet::new();
    let read = |row: &crate::store::backend::database::Row| {
        // A record with an invalid id is reported as missing from its organisation's chain.
        if let Ok(Some(owner)) = row.optional_id("organization_id") {
            found.insert(owner);
        }
        Ok(())
    };
    change
        .for_each_row::<StoreError>(kind.owners(), values![], read)
        .await?;
    Ok(found)
}
