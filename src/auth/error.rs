//! Why someone is not let in.

use std::time::Duration;

use super::key_ring::KeyRingError;
use crate::store::StoreError;

/// Why someone is not let in. The texts may be told to the one who asked: they hold no secret, and do not say whether a
/// user exists.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// There is no such user, or the password is another.
    #[error("wrong e-mail address or password")]
    WrongPassword,
    /// It is not the password, and looks like an API key without being one: somebody copied a part of it.
    #[error("wrong e-mail address or password; if it was meant to be an API key, it is not whole")]
    BrokenKey,
    /// The password is right, but access was taken away.
    #[error("this user has no access: {0}")]
    NoAccess(&'static str),
    /// Too many passwords are waiting to be checked or set.
    #[error(
        "too many passwords are being checked or set at once; try again in {} s",
        retry_after.as_secs().max(1)
    )]
    Busy {
        /// When to try again.
        retry_after: Duration,
    },
    /// The current password, which is given to set a new one, is wrong.
    #[error("the current password is wrong")]
    WrongCurrentPassword,
    /// A password that is to be set is not good enough.
    #[error("the password cannot be used: {0}")]
    UnfitPassword(String),
    /// The text has the form of neither a key nor a token.
    #[error("the credential is neither an API key (pl_…) nor an access token")]
    NoCredential,
    /// The key is not one of ours, or its secret differs.
    #[error("the API key is not valid")]
    UnknownKey,
    /// The key or token was good once.
    #[error("the {what} {state}")]
    Over {
        /// `API key`, `access token`.
        what: &'static str,
        /// `has expired`, `was revoked`, ….
        state: &'static str,
    },
    /// The token is not one of ours.
    #[error("the access token is not valid: {0}")]
    WrongToken(&'static str),
    /// Sealed bytes are not ours, were altered, or are for another purpose.
    #[error("it was not made by this server, or its key is gone; ask for a new one")]
    NotSealed,
    /// The operating system gives no random numbers.
    #[error("the operating system gives no random numbers")]
    NoRandomness,
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The organisation database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The work was dropped, because the program ends.
    #[error("the program is ending")]
    Ending,
}

impl AuthError {
    /// Whether the credential itself was refused, as opposed to a failure on this side.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Store(_) | Self::Keys(_) | Self::NoRandomness | Self::Ending | Self::Busy { .. }
        )
    }
}
