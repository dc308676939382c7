//! Encryption of bytes that a server gives to a client and gets back later. They are encrypted and authenticated
//! (AES-256-GCM-SIV, RFC 8452), so that no one else can read, alter or forge them. Any server that shares the keys
//! decrypts them.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};

use super::error::AuthError;
use super::key_ring::KeyRing;
use super::random::random;

/// The version of the layout: version, length of the key's id, the id, the nonce, the ciphertext with its tag.
const VERSION: u8 = 1;

impl KeyRing {
    /// Encrypts `content`. The same `purpose` is required to decrypt it.
    pub fn encrypt(&self, purpose: &str, content: &[u8]) -> Result<Vec<u8>, AuthError> {
        let key = self.newest()?;
        let nonce: [u8; NONCE_LEN] = random()?;
        let id = key.id().as_bytes();
        let length = u8::try_from(id.len()).map_err(|_| AuthError::InvalidCiphertext)?;
        let mut sealed = vec![VERSION, length];
        sealed.extend_from_slice(id);
        sealed.extend_from_slice(&nonce);
        let mut body = content.to_vec();
        key.encryption_key()
            .0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(associated_data(purpose, id)),
                &mut body,
            )
            .map_err(|_| AuthError::InvalidCiphertext)?;
        sealed.append(&mut body);
        Ok(sealed)
    }

    /// Decrypts bytes that a server with the same keys encrypted for this purpose.
    pub fn decrypt(&self, purpose: &str, sealed: &[u8]) -> Result<Vec<u8>, AuthError> {
        let not_ours = || AuthError::InvalidCiphertext;
        let rest = sealed.strip_prefix(&[VERSION]).ok_or_else(not_ours)?;
        let (&length, rest) = rest.split_first().ok_or_else(not_ours)?;
        let (id, rest) = rest.split_at_checked(length.into()).ok_or_else(not_ours)?;
        let (nonce, body) = rest.split_at_checked(NONCE_LEN).ok_or_else(not_ours)?;
        let name = std::str::from_utf8(id).map_err(|_| not_ours())?;
        let key = self.find(name)?.ok_or_else(not_ours)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| not_ours())?;
        let mut body = body.to_vec();
        let content = key
            .encryption_key()
            .0
            .open_in_place(nonce, Aad::from(associated_data(purpose, id)), &mut body)
            .map_err(|_| not_ours())?;
        Ok(content.to_vec())
    }
}

/// Returns the associated data: it is authenticated, but not encrypted.
fn associated_data(purpose: &str, id: &[u8]) -> Vec<u8> {
    [b"plantlake\0", purpose.as_bytes(), b"\0", id].concat()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decrypt_requires_same_keys_and_purpose() {
        let folder = tempfile::tempdir().unwrap();
        let ring = KeyRing::open(&folder.path().join("keys")).unwrap();
        let sealed = ring.encrypt("ticket", b"SELECT 1").unwrap();
        let twin = KeyRing::open(&folder.path().join("keys")).unwrap();
        assert_eq!(twin.decrypt("ticket", &sealed).unwrap(), b"SELECT 1");
        assert!(twin.decrypt("statement", &sealed).is_err());
        let stranger = KeyRing::open(&folder.path().join("other")).unwrap();
        assert!(stranger.decrypt("ticket", &sealed).is_err());
        assert_ne!(ring.encrypt("ticket", b"SELECT 1").unwrap(), sealed);
        assert!(!sealed.windows(6).any(|part| part == b"SELECT"));
        let (newer, _) = ring.rotate().unwrap();
        assert_eq!(ring.decrypt("ticket", &sealed).unwrap(), b"SELECT 1");
        assert_ne!(ring.list().unwrap()[0].id, newer.id);
    }

    proptest! {
        #[test]
        fn decrypt_refuses_altered_or_truncated_bytes(content in prop::collection::vec(any::<u8>(), 0..100), at in any::<prop::sample::Index>(), change in 1..=255_u8) {
            let folder = tempfile::tempdir().unwrap();
            let ring = KeyRing::open(&folder.path().join("keys")).unwrap();
            let sealed = ring.encrypt("ticket", &content).unwrap();
            let mut altered = sealed.clone();
            let at = at.index(altered.len());
            altered[at] ^= change;
            prop_assert!(ring.decrypt("ticket", &altered).is_err());
            prop_assert!(ring.decrypt("ticket", &sealed[..at]).is_err());
            prop_assert_eq!(ring.decrypt("ticket", &sealed).unwrap(), content);
        }
    }
}
