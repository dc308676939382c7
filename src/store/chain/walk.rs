//! Walks along a chain in the order of its places, and finds where it is broken.
//!
//! A record is checked against the hash stored with the record before it. If that does not match, it is checked against
//! the hash that the record before should have. A change is therefore found at the changed record, and not at all
//! records that follow.

use uuid::Uuid;

use super::anchors::{AnchorSums, Anchors, start_after_anchors};
use super::columns::StoredRecord;
use super::findings::{ChainFinding, FindingKind, Findings};
use super::hashed_line::{Hash, HashedLine, hash_of};
use super::heads::ChainEnd;
use super::kind::ChainKind;
use crate::model::hex;
use crate::store::error::StoreError;

/// The maximum number of records of one place that are checked; there should be one.
const MAX_MEMBERS: usize = 16;

/// A record at the current place.
struct Candidate {
    name: String,
    /// The stored hash.
    hash: String,
    /// The hashes that it may have; empty if the stored hash is one of them.
    computed: Vec<String>,
    /// Whether the record follows one of the hashes before it.
    is_linked: bool,
}

/// The data with which a chain is compared.
pub(super) struct Expected<'a> {
    pub anchors: Anchors,
    /// The end that the database stores.
    pub end: Option<&'a ChainEnd>,
    /// An end that was exported earlier.
    pub head: Option<&'a ChainEnd>,
}

/// A walk along one chain.
pub(super) struct ChainWalk<'a> {
    kind: ChainKind,
    expected: Expected<'a>,
    /// The number of records that the anchors stand for, and the hash that the first record after them follows.
    start: (u64, String),
    sums: AnchorSums,
    /// The current place, and the records at it; at first, the place of the last record that the anchors stand for.
    place: u64,
    members: Vec<Candidate>,
    last_name: String,
    /// The hashes that the next record may follow; `None` if the record before it is missing.
    previous_hashes: Option<Vec<String>>,
    /// Several matching records at the place before, all but one of which were inserted.
    competing: Vec<(String, String)>,
    /// Whether the chain had the exported head's hash at the head's place; `None` if it has not got there.
    matches_head: Option<bool>,
    buffer: Vec<u8>,
    pub records: u64,
    pub findings: Findings,
}

impl<'a> ChainWalk<'a> {
    pub fn new(
        kind: ChainKind,
        organisation: Uuid,
        expected: Expected<'a>,
    ) -> Result<Self, StoreError> {
        let start = start_after_anchors(kind, &expected.anchors)?;
        let head = expected.head.filter(|head| head.length == start.0);
        Ok(Self {
            kind,
            matches_head: head.map(|head| head.hash == start.1),
            sums: AnchorSums::new(kind, organisation),
            place: start.0,
            members: Vec::new(),
            last_name: String::new(),
            previous_hashes: Some(vec![start.1.clone()]),
            competing: Vec::new(),
            buffer: Vec::new(),
            records: 0,
            findings: Findings::default(),
            expected,
            start,
        })
    }

    /// Returns the last place of a record, and its hash.
    pub fn end(&self) -> ChainEnd {
        let hash = self
            .previous_hashes
            .as_ref()
            .and_then(|formers| formers.first());
        ChainEnd {
            length: self.place,
            hash: hash.cloned().unwrap_or_default(),
        }
    }

    /// Checks the next record.
    pub fn add(&mut self, record: &StoredRecord) -> Result<(), StoreError> {
        self.records += 1;
        let Some(place) = record.sequence else {
            if self.expected.anchors.contains_key(&record.month(self.kind)) {
                return self.sums.add(record);
            }
            if self.expected.end.is_some() {
                self.report(FindingKind::Inserted, None, record.name(), |_, name| {
                    format!("{name} was inserted: it has no place in the chain")
                });
            }
            return Ok(());
        };
        let is_beyond = self.expected.end.is_some_and(|end| place > end.length);
        if place <= self.start.0 || is_beyond {
            self.report(
                FindingKind::Inserted,
                Some(place),
                record.name(),
                |place, name| format!("{name} was inserted: the chain has no place {place} for it"),
            );
            return Ok(());
        }
        if place != self.place || self.members.is_empty() {
            self.finish_place();
            if place > self.place + 1 {
                let after = std::mem::take(&mut self.last_name);
                self.report_missing(self.place + 1, place - 1, &after, &record.name());
                self.previous_hashes = None;
            }
            self.place = place;
        }
        self.last_name = record.name();
        self.check(place, record)
    }

    /// Compares a record with the hashes that it may follow.
    fn check(&mut self, place: u64, record: &StoredRecord) -> Result<(), StoreError> {
        if self.members.len() == MAX_MEMBERS {
            self.report(
                FindingKind::Inserted,
                Some(place),
                record.name(),
                |place, name| format!("{name} was inserted: place {place} has another record"),
            );
            return Ok(());
        }
        let written = record.hash.as_ref().map(|hash| hex(hash));
        let mut computed = Vec::new();
        // If the record before it is missing, the record cannot be checked. Without a stored end, it belongs to no
        // chain.
        let is_unknown = self.previous_hashes.is_none() && self.expected.end.is_some();
        let mut is_linked = is_unknown && written.is_some();
        for former in self.previous_hashes.iter().flatten() {
            let hash = hex(&link(self.kind, place, former, record, &mut self.buffer)?);
            if Some(&hash) == written.as_ref() {
                is_linked = true;
                self.competing.retain(|(_, rival)| rival != former);
                if !self.competing.is_empty() {
                    let rivals = std::mem::take(&mut self.competing);
                    self.report_unfollowed(rivals);
                }
                computed.clear();
                break;
            }
            computed.push(hash);
        }
        self.members.push(Candidate {
            name: record.name(),
            hash: written.unwrap_or_default(),
            computed,
            is_linked,
        });
        Ok(())
    }

    /// Reports what is wrong with the records at the current place, and determines which hashes the next record may
    /// follow.
    fn finish_place(&mut self) {
        let members = std::mem::take(&mut self.members);
        if members.is_empty() {
            return;
        }
        let place = self.place;
        if let Some(head) = self.expected.head.filter(|head| head.length == place) {
            self.matches_head = Some(members.iter().any(|member| member.hash == head.hash));
        }
        let linked = members.iter().filter(|member| member.is_linked).count();
        let mut formers = Vec::new();
        for member in &members {
            if member.is_linked {
                formers.push(member.hash.clone());
            }
        }
        for member in members {
            if member.is_linked {
                if linked > 1 {
                    self.competing.push((member.name, member.hash));
                }
                continue;
            }
            match linked {
                0 => {
                    self.report(
                        FindingKind::Changed,
                        Some(place),
                        member.name,
                        |place, name| {
                            format!("{name}, record {place}, was changed, or its hash was")
                        },
                    );
                    formers.push(member.hash);
                    formers.extend(member.computed);
                }
                _ => self.report(
                    FindingKind::Inserted,
                    Some(place),
                    member.name,
                    |place, name| format!("{name} was inserted: place {place} has another record"),
                ),
            }
        }
        formers.truncate(MAX_MEMBERS);
        self.previous_hashes = Some(formers);
    }

    fn report_unfollowed(&mut self, rivals: Vec<(String, String)>) {
        for (name, _) in rivals {
            self.report(FindingKind::Inserted, None, name, |_, name| {
                format!("{name} was inserted: no later record follows it")
            });
        }
    }

    /// Reports what is wrong with the end of the chain and with the records older than the chain. Returns whether there
    /// is a chain at all.
    pub fn finish(&mut self) -> bool {
        self.finish_place();
        let last = self.place;
        let ends: Vec<String> = self.previous_hashes.clone().unwrap_or_default();
        match self.expected.end {
            None if last > 0 => {
                self.findings.push(ChainFinding::for_chain(
                    FindingKind::End,
                    "the chain's end, in record_chains, was removed".to_owned(),
                ));
            }
            None => {}
            Some(end) if end.length > last => self.report_truncated(last + 1, end.length),
            Some(end) if !ends.contains(&end.hash) || end.length < last => {
                let text = format!(
                    "the chain's end, in record_chains, was changed: it has {} records, and {} as the last hash",
                    end.length, end.hash
                );
                self.findings
                    .push(ChainFinding::for_chain(FindingKind::End, text));
            }
            Some(end) => {
                let mut rivals = std::mem::take(&mut self.competing);
                rivals.retain(|(_, hash)| *hash != end.hash);
                self.report_unfollowed(rivals);
            }
        }
        let rivals = std::mem::take(&mut self.competing);
        self.report_unfollowed(rivals);
        self.compare_head(last);
        self.compare_anchors();
        self.expected.end.is_some() || last > 0
    }

    fn compare_head(&mut self, last: u64) {
        let Some(head) = self.expected.head else {
            return;
        };
        let is_told = self
            .expected
            .end
            .is_some_and(|end| end.length >= head.length);
        if head.length > last {
            if !is_told {
                self.report_truncated(last + 1, head.length);
            }
        } else if self.matches_head == Some(false) || head.length < self.start.0 {
            let text = format!(
                "a record up to {} was changed, inserted or removed, and all hashes after it were recomputed: record {} \
                 has another hash than when the head was exported",
                head.length, head.length
            );
            self.findings
                .push(ChainFinding::for_chain(FindingKind::Rewritten, text));
        }
    }

    fn compare_anchors(&mut self) {
        let organisation = self.sums.organisation();
        let sums = std::mem::replace(&mut self.sums, AnchorSums::new(self.kind, organisation));
        let mut found = sums.anchors();
        for (month, anchor) in std::mem::take(&mut self.expected.anchors) {
            let there = found.remove(&month);
            if there.as_ref() == Some(&anchor) {
                continue;
            }
            let count = there.map_or(0, |there| there.records);
            let what = match count == anchor.records {
                true => "one of them was changed".to_owned(),
                false => format!("there are {count} of them now"),
            };
            let text = format!(
                "the {} records of {month} that are older than the chain have changed since it began: {what}",
                anchor.records
            );
            self.findings
                .push(ChainFinding::for_chain(FindingKind::Anchor, text));
        }
    }

    fn report_missing(&mut self, first: u64, last: u64, after: &str, before: &str) {
        let between = match after.is_empty() {
            true => format!("before {before}"),
            false => format!("between {after} and {before}"),
        };
        let text = match first == last {
            true => format!("record {first} was removed, {between}"),
            false => format!("records {first} to {last} were removed, {between}"),
        };
        self.findings.push(ChainFinding {
            kind: FindingKind::Removed,
            sequence: Some(first),
            record: None,
            text,
        });
    }

    fn report_truncated(&mut self, first: u64, last: u64) {
        let text = match first == last {
            true => format!("record {first}, the last, was removed"),
            false => format!("records {first} to {last}, the last ones, were removed"),
        };
        self.findings.push(ChainFinding {
            kind: FindingKind::Cut,
            sequence: Some(first),
            record: None,
            text,
        });
    }

    fn report(
        &mut self,
        kind: FindingKind,
        sequence: Option<u64>,
        name: String,
        text: impl Fn(u64, &str) -> String,
    ) {
        let what = match self.kind {
            ChainKind::Audit => "entry",
            ChainKind::Ledger => "request",
        };
        self.findings.push(ChainFinding {
            kind,
            sequence,
            text: text(sequence.unwrap_or_default(), &format!("{what} {name}")),
            record: Some(name),
        });
    }
}

fn link(
    kind: ChainKind,
    sequence: u64,
    former: &str,
    record: &StoredRecord,
    buffer: &mut Vec<u8>,
) -> Result<Hash, StoreError> {
    let line = HashedLine {
        kind,
        sequence,
        previous: former,
        record,
    };
    hash_of(&line, buffer)
}
