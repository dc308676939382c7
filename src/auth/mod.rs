//! Authentication and authorisation: checks passwords, API keys and access tokens against the organisation database,
//! and returns the caller with its permissions ([`Principal`]).
//!
//! | file | purpose |
//! |---|---|
//! | `authenticator` | the entry point: signs users in, and turns credentials into [`Access`] |
//! | `password` | Argon2id, on blocking threads, bounded in number |
//! | `hash_queue` | the order in which passwords are hashed, fair to organisations and addresses |
//! | `throttle` | delays for repeated wrong passwords |
//! | `failures` | failed sign-ins, aggregated for the audit trail |
//! | `api_key` | the format of API keys |
//! | `token` | the format of access tokens: JWT with EdDSA |
//! | `key_ring` | the keys that sign tokens, in a folder that servers share |
//! | `encryption` | encryption of tickets and handles that clients hold |
//! | `command` | commands on users and keys, and the limits of their texts |
//! | `administration` | execution of these commands, within the caller's permissions |
//! | `live` | access that ends within seconds of its revocation |

mod administration;
mod api_key;
mod authenticator;
mod command;
mod encryption;
mod error;
mod failures;
mod hash_queue;
mod key_ring;
mod live;
mod password;
mod principal;
mod throttle;
mod token;

pub use administration::{Administrator, change_own_password};
pub use api_key::{FreshKey, parse_expiry};
pub use authenticator::{Authenticator, SignedIn};
pub use command::{AdminCommand, AdminOutcome};
pub use error::AuthError;
pub use hash_queue::Requester;
pub use key_ring::{KeyInfo, KeyRing, KeyRingError};
pub use live::{Access, AccessEnded};
pub use password::{MIN_PASSWORD_CHARS, Passwords, check_new as check_new_password};
pub use principal::{Principal, Proof};

/// Returns random bytes from the operating system's generator.
fn random<const N: usize>() -> Result<[u8; N], AuthError> {
    let mut bytes = [0; N];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| AuthError::NoRandomness)?;
    Ok(bytes)
}

/// SHA-256.
fn digest(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}
