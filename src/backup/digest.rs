//! What bytes are known by: how many they are, and their SHA-256.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};

use crate::model::hex;

/// What a member is known by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Digest {
    /// Bytes.
    pub bytes: u64,
    /// In hexadecimal.
    pub sha256: String,
}

/// Digests by the names of members.
pub type Digests = BTreeMap<String, Digest>;

/// Takes bytes, and tells their digest in the end.
pub struct Hashing {
    context: Context,
    bytes: u64,
}

impl Default for Hashing {
    fn default() -> Self {
        Self {
            context: Context::new(&SHA256),
            bytes: 0,
        }
    }
}

impl Hashing {
    /// Some more bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.context.update(bytes);
        self.bytes += bytes.len() as u64;
    }

    /// The digest of all.
    pub fn finish(self) -> Digest {
        Digest {
            bytes: self.bytes,
            sha256: hex(self.context.finish().as_ref()),
        }
    }
}

impl Digest {
    /// Of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        let mut hashing = Hashing::default();
        hashing.update(bytes);
        hashing.finish()
    }
}
