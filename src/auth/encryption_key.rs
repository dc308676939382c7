//! A key that encrypts what a server gives to a client.

use aws_lc_rs::aead::{AES_256_GCM_SIV, LessSafeKey, UnboundKey};

/// An encryption key. `Debug` does not show it.
pub(super) struct EncryptionKey(pub(super) LessSafeKey);

impl EncryptionKey {
    /// Creates a key from 32 bytes; returns `None` for any other length.
    pub fn new(key: &[u8]) -> Option<Self> {
        let key = UnboundKey::new(&AES_256_GCM_SIV, key).ok()?;
        Some(Self(LessSafeKey::new(key)))
    }
}
