//! Who is asking: passwords, API keys and access tokens, each checked against the organisation database, and what the
//! one who asks may do ([`Principal`]).
//!
//! | file | what it knows |
//! |---|---|
//! | `authenticator` | the one way in: sign-in, and credentials to [`Access`] |
//! | `password` | Argon2id, on threads of its own, bounded in number |
//! | `throttle` | growing delays for those who guess |
//! | `api_key` | the form of keys |
//! | `token` | the form of access tokens: JWT with EdDSA |
//! | `key_ring` | the keys that tokens are signed with, in a folder that servers share |
//! | `seal` | what a server gives a client to keep: tickets and handles |
//! | `administration` | orders about users and keys, and who may give them |
//! | `live` | access that ends within seconds of its revocation |

mod administration;
mod api_key;
mod authenticator;
mod error;
mod key_ring;
mod live;
mod password;
mod principal;
mod seal;
mod throttle;
mod token;

pub use administration::{Administrator, Order, Outcome};
pub use api_key::{FreshKey, expiry};
pub use authenticator::{Authenticator, SignedIn};
pub use error::AuthError;
pub use key_ring::{KeyInfo, KeyRing, KeyRingError};
pub use live::{Access, Ended};
pub use password::{Passwords, SHORTEST_PASSWORD, check_new as check_new_password};
pub use principal::{Principal, Proof};
pub use throttle::Throttle;

/// Random bytes from the operating system's generator.
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
