//! Computes chains again, and says what does not fit.

use std::collections::BTreeSet;

use serde::Serialize;
use uuid::Uuid;

use super::begin::anchors_of;
use super::columns::Stored;
use super::groups::{Expected, Walk};
use super::heads::{ends, names};
use super::{ChainEnd, ChainHeads, ChainKind};
use crate::model::OrganisationId;
use crate::store::database::{Change, values};
use crate::store::{OrganisationStore, StoreError};

/// Findings of one chain that are kept; of the others it is said how many there are.
const MAX_FINDINGS: usize = 1_000;

/// What was done to a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FindingKind {
    /// A record is not what it was.
    Changed,
    /// A record was added by something else than plantlake.
    Inserted,
    /// Records are missing.
    Removed,
    /// The last records are missing.
    Cut,
    /// Records of a month that are older than the chain are not what they were.
    Anchor,
    /// The end that is written down was changed.
    End,
    /// The chain was made anew from some record on.
    Rewritten,
}

/// Something that does not fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainFinding {
    /// What was done.
    pub kind: FindingKind,
    /// At which place of the chain.
    pub sequence: Option<u64>,
    /// To which record: an entry's number, or a request's id.
    pub record: Option<String>,
    /// In words.
    pub text: String,
}

impl ChainFinding {
    pub(super) fn of_chain(kind: FindingKind, text: String) -> Self {
        Self {
            kind,
            sequence: None,
            record: None,
            text,
        }
    }
}

/// The findings of a chain, and how many there are beside these.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub found: Vec<ChainFinding>,
    pub more: u64,
}

impl Findings {
    pub fn push(&mut self, finding: ChainFinding) {
        match self.found.len() < MAX_FINDINGS {
            true => self.found.push(finding),
            false => self.more += 1,
        }
    }
}

/// What came of computing a chain again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ChainVerification {
    /// What it is over.
    pub chain: ChainKind,
    /// Whose; none for what operators did that is of no organisation.
    pub organisation_id: Option<OrganisationId>,
    /// Its name.
    pub organisation: Option<String>,
    /// Whether the chain has begun. If not, nothing protects the records that there are.
    pub begun: bool,
    /// Records that were read.
    pub records: u64,
    /// Where it ends, as far as it is whole.
    pub end: ChainEnd,
    /// What does not fit; nothing, if all is well.
    pub findings: Vec<ChainFinding>,
    /// Further findings, beyond those that are kept.
    pub more_findings: u64,
}

impl OrganisationStore {
    /// Computes the chains of a kind again, of one organisation or of all, as of one instant, and compares them with a head
    /// that was exported earlier.
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
        keys.extend(exported.map(|head| super::key_of(head.organisation_id)));
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
    change: &mut Change,
    kind: ChainKind,
    organisation: Uuid,
    written: Option<&ChainEnd>,
    head: Option<&ChainEnd>,
) -> Result<ChainVerification, StoreError> {
    let expected = Expected {
        anchors: anchors_of(change, kind, organisation).await?,
        end: written,
        head,
    };
    let mut walk = Walk::new(kind, organisation, expected)?;
    let select = kind.select(organisation.is_nil());
    let add = |row: &_| walk.add(&Stored::read(row, kind)?);
    change
        .each::<StoreError>(select, values![organisation], add)
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

/// Whose records there are, known or not.
async fn owners(change: &mut Change, kind: ChainKind) -> Result<BTreeSet<Uuid>, StoreError> {
    let mut found = BTreeSet::new();
    let read = |row: &crate::store::database::Row| {
        // What is no id is found as a record that its organisation misses.
        if let Ok(Some(owner)) = row.optional_id("organization_id") {
            found.insert(owner);
        }
        Ok(())
    };
    change
        .each::<StoreError>(kind.owners(), values![], read)
        .await?;
    Ok(found)
}
