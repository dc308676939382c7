//! Limits per organisation and user, so that none of them can fill the shared database.

use crate::config::AuthSettings;

/// Limits on keys, sessions and administrative changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AccountLimits {
    /// The maximum number of an organisation's keys that are neither revoked nor expired.
    pub keys_per_organisation: u64,
    /// The maximum number of a user's sessions. Beyond it, revoked sessions are deleted first, then the oldest.
    pub sessions_per_user: u64,
    /// The maximum number of changes that a user may make within 24 hours, as an administrator or to the user's own
    /// password.
    pub changes_per_day: u64,
}

impl From<&AuthSettings> for AccountLimits {
    fn from(settings: &AuthSettings) -> Self {
        Self {
            keys_per_organisation: settings.keys_per_organisation,
            sessions_per_user: settings.sessions_per_user,
            changes_per_day: settings.changes_per_day,
        }
    }
}

impl Default for AccountLimits {
    fn default() -> Self {
        Self {
            keys_per_organisation: 1_000,
            sessions_per_user: 1_000,
            changes_per_day: 5_000,
        }
    }
}
