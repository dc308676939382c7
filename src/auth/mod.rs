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
//! | `encryption`, `encryption_key` | encryption of tickets and handles that clients hold |
//! | `command` | commands on users and keys, and the limits of their texts |
//! | `administration` | execution of these commands, within the caller's permissions |
//! | `live` | access that ends within seconds of its revocation |

mod administration;
mod api_key;
mod authenticator;
mod command;
mod digest;
mod encryption;
mod encryption_key;
mod error;
mod failures;
mod hash_queue;
mod key_ring;
mod live;
mod password;
mod principal;
mod random;
mod throttle;
mod token;

pub use administration::{Administrator, change_own_password};
pub use api_key::{FreshKey, parse_expiry};
pub use authenticator::{Authenticator, SignedIn};
pub use command::{AdminCommand, AdminOutcome};
pub use error::{AuthError, KeyRingError};
pub use hash_queue::Requester;
pub use key_ring::{KeyInfo, KeyRing};
pub use live::{Access, AccessEnded};
pub use password::{MIN_PASSWORD_CHARS, Passwords, check_new as check_new_password};
pub use principal::{Principal, Proof};
