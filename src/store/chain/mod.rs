//! Hash chains over the audit trail and the ledger, one of each for every organisation. A record's hash covers the
//! record and the hash of the record before it. Computing the chain again therefore reveals a record that was changed,
//! inserted or removed. An older end of the chain also reveals that the chain was rewritten from some record on.
//!
//! `docs/billing.md` documents the hashed text, and other programs depend on it. A record's hash is the SHA-256 of a
//! compact JSON array in UTF-8: the format, the record's place in the chain from 1, the hash before it in hexadecimal,
//! and the record's columns in the order in which its table declares them. Records that are older than the chain have
//! no place in it; the chain begins with hashes over them, one for each month ([`begin`](Chain::begin)).
//!
//! The transaction that adds records extends the chain, while the row of `record_chains` that has its end is locked.
//! The chain therefore does not fork, however many servers there are.

mod anchors;
mod append;
mod cell;
mod columns;
mod findings;
mod hashed_line;
mod heads;
mod kind;
mod verify;
mod walk;

pub(super) use append::{Chain, Link};
pub(super) use columns::{AuditRow, LedgerRow};
pub use findings::{ChainFinding, FindingKind};
pub use heads::{ChainEnd, ChainHead, ChainHeads};
pub use kind::ChainKind;
pub use verify::ChainVerification;
