//! Who is asking: passwords, API keys and access tokens, each checked against the organisation database, and what the
//! one who asks may do ([`Principal`]).
//!
//! | file | what it knows |
//! |---|---|
//! | `authenticator` | the one way in: sign-in, and credentials to [`Access`] |
//! | `password` | Argon2id, on threads of its own, bounded in number |
//! | `turns` | whose password is hashed next, fair to organisations and addresses |
//! | `throttle` | growing delays for those who guess |
//! | `failures` | failed sign-ins, taken together for the audit trail |
//! | `api_key` | the form of keys |
//! | `token` | the form of access tokens: JWT with EdDSA |
//! | `key_ring` | the keys that tokens are signed with, in a folder that servers share |
//! | `seal` | what a server gives a client to keep: tickets and handles |
//! | `order` | orders about users and keys, and the limits of their texts |
//! | `administration` | who may give which order, and the doing of it |
//! | `live` | access that ends within seconds of its revocation |

mod administration;
mod api_key;
mod authenticator;
mod error;
mod failures;
mod key_ring;
mod live;
mod order;
mod password;
mod principal;
mod seal;
mod throttle;
mod token;
mod turns;

pub use administration::{Administrator, change_own_password};
pub use api_key::{FreshKey, expiry};
pub use authenticator::{Authenticator, SignedIn};
pub use error::AuthError;
pub use key_ring::{KeyInfo, KeyRing, KeyRingError};
pub use live::{Access, Ended};
pub use order::{Order, Outcome};
pub use password::{Passwords, SHORTEST_PASSWORD, check_new as check_new_password};
pub use principal::{Principal, Proof};
pub use turns::Party;

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
