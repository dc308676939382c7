//! Errors of authentication.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::store::StoreError;

/// The reason for which a caller is refused. The texts may be sent to the caller: they contain no secret, and do not
/// reveal whether a user exists.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// No user has this address, or the password is wrong.
    #[error("wrong e-mail address or password")]
    WrongPassword,
    /// The password is wrong and begins like an API key, but is not a complete one: probably a part was copied.
    #[error("wrong e-mail address or password; if it was meant to be an API key, it is incomplete")]
    IncompleteKey,
    /// The password is right, but the user or the organisation is deactivated or removed.
    #[error("this user has no access: {0}")]
    NoAccess(&'static str),
    /// Too many passwords are waiting to be checked or set.
    #[error(
        "too many passwords are being checked or set at once; try again in {} s",
        retry_after.as_secs().max(1)
    )]
    Busy {
        /// The time after which to try again.
        retry_after: Duration,
    },
    /// The current password, which is required to set a new one, is wrong.
    #[error("the current password is wrong")]
    WrongCurrentPassword,
    /// A new password does not meet the requirements.
    #[error("cannot use this password: {0}")]
    UnacceptablePassword(String),
    /// A password cannot be hashed, for a reason other than the password.
    #[error("cannot hash the password: {0}")]
    Hashing(String),
    /// The text has the format of neither a key nor a token.
    #[error("the credential is neither an API key (pl_…) nor an access token")]
    MalformedCredential,
    /// No key has this id, or its secret differs.
    #[error("the API key is not valid")]
    InvalidKey,
    /// The key or token was valid once.
    #[error("the {what} {state}")]
    NoLongerValid {
        /// `API key`, `access token`.
        what: &'static str,
        /// `has expired`, `was revoked`, ….
        state: &'static str,
    },
    /// The token was not issued by this installation, or is malformed.
    #[error("the access token is not valid: {0}")]
    InvalidToken(&'static str),
    /// The bytes were not encrypted by this installation, were altered, or are for another purpose.
    #[error("it was not issued by this server, or its key was removed; request a new one")]
    InvalidCiphertext,
    /// The operating system returned no random numbers.
    #[error("cannot get random numbers from the operating system")]
    NoRandomness,
    /// The signing keys cannot be used.
    #[error(transparent)]
    Keys(#[from] KeyRingError),
    /// The organisation database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The task was dropped, because the program is shutting down.
    #[error("the server is shutting down")]
    ShuttingDown,
}

impl AuthError {
    /// Whether the credential itself was refused, as opposed to a failure of the server.
    pub fn is_refusal(&self) -> bool {
        !matches!(
            self,
            Self::Store(_)
                | Self::Keys(_)
                | Self::NoRandomness
                | Self::Hashing(_)
                | Self::ShuttingDown
                | Self::Busy { .. }
        )
    }
}

/// The reason for which the keys cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyRingError {
    /// The operating system reported an error.
    #[error("cannot {action} the key folder or file {}; check `keys_dir` and its owner", path.display())]
    Io {
        /// `read`, `write`, ….
        action: &'static str,
        /// The folder or file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// The permissions allow others than the owner to use the keys.
    #[error(
        "{} is accessible to users other than its owner (mode {mode:03o}), who could forge tokens; \
         run `chmod go-rwx` on it, and rotate the keys if others may have read them",
        path.display()
    )]
    Exposed {
        /// The folder or file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// A file does not hold a valid key.
    #[error("the key file {} is damaged ({problem}); remove it, or restore it from a backup", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem.
        problem: String,
    },
    /// No key has this id.
    #[error("there is no signing key {id:?}; `plantlake token keys list` shows all")]
    Unknown {
        /// The requested id.
        id: String,
    },
}
