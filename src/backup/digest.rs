//! Digests of archive members: the length in bytes and the SHA-256.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::model::hex;

/// The length and SHA-256 of a member, which identify its content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// The length in bytes.
    pub bytes: u64,
    /// The SHA-256 in lower-case hexadecimal.
    pub sha256: String,
}

/// Maps names of members to their digests.
pub type Digests = BTreeMap<String, Digest>;

/// An incremental hasher that computes a [`Digest`].
pub struct DigestHasher {
    context: Context,
    bytes: u64,
}

impl Default for DigestHasher {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl DigestHasher {
    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// Returns the digest of all bytes added.
    pub fn finish(self) -> Digest {
        Digest {
            bytes: self.bytes,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

impl Digest {
    /// Returns the digest of `bytes`.
    pub fn compute(bytes: &[u8]) -> Self {
        let mut hashing = DigestHasher::default();
        hashing.update(bytes);
        hashing.finish()
    }
}
