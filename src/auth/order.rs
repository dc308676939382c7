//! Orders of administration: what may be ordered about users and keys, and what comes of it.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::model::{Role, TextKind, UnfitText};
use crate::store::{ApiKey, AuditEntry, User};

/// What is to be done. `Debug` shows no password.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "order", rename_all = "snake_case", deny_unknown_fields)]
pub enum Order {
    /// Make a user.
    CreateUser {
        /// By name or id; an admin's own, if it is not given.
        organisation: Option<String>,
        /// The address.
        email: String,
        /// The person's or program's name.
        name: String,
        /// What the user may do.
        role: Role,
        /// For those who sign in with one.
        password: Option<String>,
        /// Whether the user may send readings.
        may_ingest: bool,
    },
    /// Users, by organisation and address.
    Users {
        /// Of this one only, by name or id.
        organisation: Option<String>,
    },
    /// One user.
    User {
        /// The address.
        email: String,
    },
    /// Give a user another password; ends the sessions that began with the old one.
    SetPassword {
        /// The address.
        email: String,
        /// The new one.
        password: String,
    },
    /// Give oneself another password, in any role that has one; ends the sessions that began with the old one.
    ChangeOwnPassword {
        /// The present one.
        current: String,
        /// The new one.
        new: String,
    },
    /// Change a user.
    ChangeUser {
        /// The address.
        email: String,
        /// The new role.
        role: Option<Role>,
        /// The new name.
        name: Option<String>,
        /// Whether the user may send readings.
        may_ingest: Option<bool>,
    },
    /// Give access back, or take it away.
    SetUserActive {
        /// The address.
        email: String,
        /// Whether the user is to have access.
        active: bool,
    },
    /// Remove a user.
    RemoveUser {
        /// The address.
        email: String,
    },
    /// Make a key.
    CreateKey {
        /// Whose, by address.
        user: String,
        /// What for.
        name: String,
        /// When it ends by itself.
        expires_at: Option<DateTime<Utc>>,
        /// Whether readings may be sent with it.
        may_ingest: bool,
    },
    /// Keys, without their secrets.
    Keys {
        /// Of this organisation's users only, by name or id.
        organisation: Option<String>,
        /// Of this user only, by address.
        user: Option<String>,
    },
    /// End a key.
    RevokeKey {
        /// Its public part.
        id: String,
    },
    /// The last entries of the audit trail, the latest first.
    Audit {
        /// Of this organisation only, by name or id.
        organisation: Option<String>,
        /// At most so many.
        last: u32,
    },
}

/// The maximum number of entries of the audit trail in one answer to an organisation's admin.
pub(super) const MAX_AUDIT_ENTRIES: u32 = 10_000;

impl Order {
    /// What it is called in logs.
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

    /// Whether users give it for themselves, in any role.
    pub const fn is_for_everybody(&self) -> bool {
        matches!(self, Self::ChangeOwnPassword { .. })
    }

    /// Checks its texts, before any of them is looked up, stored or logged.
    ///
    /// # Errors
    ///
    /// A text is too long, or has control characters.
    pub fn check(&self) -> Result<(), UnfitText> {
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
            // Passwords are neither stored nor logged, and have a check of their own.
            Self::ChangeOwnPassword { .. } => Ok(()),
        }
    }
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Order").field(&self.name()).finish()
    }
}

/// What came of an order. `Debug` shows no key.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    /// A user, as it is now.
    User {
        /// The user.
        user: User,
        /// Whether the order changed it.
        changed: bool,
    },
    /// Users.
    Users {
        /// The users.
        users: Vec<User>,
    },
    /// A key that was made.
    MadeKey {
        /// The key.
        made: ApiKey,
        /// The whole of it, this once.
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
    /// A key that is over.
    RevokedKey {
        /// Its public part.
        id: String,
        /// Whether it was good until now.
        changed: bool,
    },
}

impl std::fmt::Debug for Outcome {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Outcome").finish_non_exhaustive()
    }
}
