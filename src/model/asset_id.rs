//! The identity of an asset: a UUID, always written in lower case with hyphens.

use std::fmt;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The UUID of an asset. The order of ids is that of their canonical texts, so files sorted by text are sorted by id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AssetId(Uuid);

/// The error for a text that is not a UUID in any common spelling.
#[derive(Debug, thiserror::Error)]
#[error("{text:?} is not a UUID")]
pub struct MalformedAssetId {
    text: String,
}

impl AssetId {
    /// Parses a UUID in any common spelling: with or without hyphens, in any case, in braces or as a URN.
    pub fn parse(text: &str) -> Result<Self, MalformedAssetId> {
        Uuid::try_parse(text)
            .map(Self)
            .map_err(|_| MalformedAssetId {
                text: text.chars().take(64).collect(),
            })
    }

    /// Creates the id with these 16 bytes, most significant first.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(Uuid::from_bytes(bytes))
    }

    /// Returns the 16 bytes, most significant first.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        self.0.as_bytes()
    }
}

impl fmt::Display for AssetId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

impl From<Uuid> for AssetId {
    fn from(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_of_any_spelling_returns_canonical_id() {
        let canonical = "a1b2c3d4-e5f6-7890-abcd-ef1234567890";
        for text in [
            canonical,
            "A1B2C3D4-E5F6-7890-ABCD-EF1234567890",
            "a1b2c3d4e5f67890abcdef1234567890",
            "{a1b2c3d4-e5f6-7890-abcd-ef1234567890}",
            "urn:uuid:a1b2c3d4-e5f6-7890-abcd-ef1234567890",
        ] {
            assert_eq!(
                AssetId::parse(text).unwrap().to_string(),
                canonical,
                "{text}"
            );
        }
        for text in [
            "",
            "a1b2c3d4",
            "g1b2c3d4-e5f6-7890-abcd-ef1234567890",
            "pump 7",
        ] {
            assert!(AssetId::parse(text).is_err(), "{text}");
        }
    }
}
