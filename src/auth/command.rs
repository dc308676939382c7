//! Administration commands on users and keys, and their outcomes.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{InvalidText, Role, TextKind};
use crate::store::{ApiKey, AuditEntry, User};

/// An administration command. `Debug` does not show passwords.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum AdminCommand {
    /// Creates a user.
    CreateUser {
        /// The organisation, by name or id; an admin's own if not given.
        organisation: Option<String>,
        /// The e-mail address.
        email: String,
        /// The name of the person or program.
        name: String,
        /// The role.
        role: Role,
        /// The password, for roles that have one.
        password: Option<String>,
        /// Whether the user may send readings.
        may_ingest: bool,
    },
    /// Lists users, by organisation and address.
    Users {
        /// Limits the list to this organisation, by name or id.
        organisation: Option<String>,
    },
    /// Returns one user.
    User {
        /// The e-mail address.
        email: String,
    },
    /// Sets the password of a user; ends the sessions that began with the old one.
    SetPassword {
        /// The e-mail address.
        email: String,
        /// The new password.
        password: String,
    },
    /// Sets the caller's own password, in any role that has one; ends the sessions that began with the old one.
    ChangeOwnPassword {
        /// The current password.
        current: String,
        /// The new password.
        new: String,
    },
    /// Changes a user.
    ChangeUser {
        /// The e-mail address.
        email: String,
        /// The new role.
        role: Option<Role>,
        /// The new name.
        name: Option<String>,
        /// Whether the user may send readings.
        may_ingest: Option<bool>,
    },
    /// Activates or deactivates a user.
    SetUserActive {
        /// The e-mail address.
        email: String,
        /// Whether the user has access from now on.
        active: bool,
    },
    /// Removes a user.
    RemoveUser {
        /// The e-mail address.
        email: String,
    },
    /// Creates an API key.
    CreateKey {
        /// The owner, by e-mail address.
        user: String,
        /// The name of the key, which describes its purpose.
        name: String,
        /// The time at which the key expires; `None` for never.
        expires_at: Option<DateTime<Utc>>,
        /// Whether the key may send readings.
        may_ingest: bool,
    },
    /// Lists keys, without their secrets.
    Keys {
        /// Limits the list to users of this organisation, by name or id.
        organisation: Option<String>,
        /// Limits the list to this user, by e-mail address.
        user: Option<String>,
    },
    /// Revokes a key.
    RevokeKey {
        /// The public part of the key.
        id: String,
    },
    /// Lists the last entries of the audit trail, the latest first.
    Audit {
        /// Limits the list to this organisation, by name or id.
        organisation: Option<String>,
        /// The maximum number of entries.
        last: u32,
    },
}

/// The maximum number of audit entries in one reply to an organisation's admin.
pub(super) const MAX_AUDIT_ENTRIES: u32 = 10_000;

impl AdminCommand {
    /// The name of the command in logs.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::CreateUser { .. } => "create_user",
            Self::Users { .. } => "users",
            Self::User { .. } => "user",
            Self::SetPassword { .. } => "set_password",
            Self::ChangeUser { .. } => "change_user",
            Self::SetUserActive { .. } => "set_user_active",
            Self::RemoveUser { .. } => "remove_user",
            Self::CreateKey { .. } => "create_key",
            Self::Keys { .. } => "keys",
            Self::RevokeKey { .. } => "revoke_key",
            Self::ChangeOwnPassword { .. } => "change_own_password",
            Self::Audit { .. } => "audit",
        }
    }

    /// Whether users of any role may run the command, for themselves.
    pub const fn is_self_service(&self) -> bool {
        matches!(self, Self::ChangeOwnPassword { .. })
    }

    /// Checks the texts of the command, before any of them is looked up, stored or logged.
    ///
    /// # Errors
    ///
    /// A text is too long, or has control characters.
    pub fn check(&self) -> Result<(), InvalidText> {
        let optional = |kind: TextKind, text: &Option<String>| match text {
            Some(text) => kind.check(text),
            None => Ok(()),
        };
        match self {
            Self::CreateUser {
                organisation,
                email,
                name,
                ..
            } => {
                optional(TextKind::OrganisationName, organisation)?;
                TextKind::Email.check(email)?;
                TextKind::UserName.check(name)
            }
            Self::ChangeUser { email, name, .. } => {
                TextKind::Email.check(email)?;
                optional(TextKind::UserName, name)
            }
            Self::User { email }
            | Self::SetPassword { email, .. }
            | Self::SetUserActive { email, .. }
            | Self::RemoveUser { email } => TextKind::Email.check(email),
            Self::CreateKey { user, name, .. } => {
                TextKind::Email.check(user)?;
                TextKind::KeyName.check(name)
            }
            Self::Users { organisation } | Self::Audit { organisation, .. } => {
                optional(TextKind::OrganisationName, organisation)
            }
            Self::Keys { organisation, user } => {
                optional(TextKind::OrganisationName, organisation)?;
                optional(TextKind::Email, user)
            }
            Self::RevokeKey { id } => TextKind::KeyId.check(id),
            // Passwords are neither stored nor logged, and are checked elsewhere.
            Self::ChangeOwnPassword { .. } => Ok(()),
        }
    }
}

impl std::fmt::Debug for AdminCommand {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Order").field(&self.name()).finish()
    }
}

/// The outcome of a command. `Debug` does not show keys.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum AdminOutcome {
    /// A user, in its present state.
    User {
        /// The user.
        user: User,
        /// Whether the command changed the user.
        changed: bool,
    },
    /// Users.
    Users {
        /// The users.
        users: Vec<User>,
    },
    /// A key that was created.
    MadeKey {
        /// The key.
        made: ApiKey,
        /// The whole key. It is shown only this once.
        text: String,
    },
    /// Keys.
    Keys {
        /// The keys.
        keys: Vec<ApiKey>,
    },
    /// Entries of the audit trail.
    Audit {
        /// The entries.
        entries: Vec<AuditEntry>,
    },
    /// A key that was revoked.
    RevokedKey {
        /// The public part of the key.
        id: String,
        /// Whether the key was valid until now.
        changed: bool,
    },
}

impl std::fmt::Debug for AdminOutcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome").finish_non_exhaustive()
    }
}
