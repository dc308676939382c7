//! Administration of users and keys: what may be ordered, and the doing of it, for an operator at the machine and for
//! an organisation's own admin from afar alike.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AuthError, FreshKey, Passwords, Principal, check_new_password};
use crate::model::{Email, OrganisationId, Role};
use crate::store::{
    Actor, ApiKey, NewKey, NewUser, OrganisationStore, StoreError, User, UserChange,
};

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
}

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

/// Carries out orders on behalf of someone.
pub struct Administrator {
    store: OrganisationStore,
    passwords: Passwords,
    actor: Actor,
    /// The only organisation that may be touched.
    within: Option<OrganisationId>,
}

impl Administrator {
    /// The operator at the machine, who may do everything.
    pub fn operator(store: OrganisationStore, passwords: Passwords, actor: Actor) -> Self {
        Self {
            store,
            passwords,
            actor,
            within: None,
        }
    }

    /// An organisation's admin, who may do everything within it; none for others.
    pub fn of(
        principal: &Principal,
        store: OrganisationStore,
        passwords: Passwords,
    ) -> Option<Self> {
        principal.role.manages_organisation().then(|| Self {
            store,
            passwords,
            actor: Actor(format!("user {}", principal.user)),
            within: Some(principal.organisation_id),
        })
    }

    /// Does it.
    pub async fn carry_out(&self, order: Order) -> Result<Outcome, AuthError> {
        match order {
            Order::CreateUser {
                organisation,
                email,
                name,
                role,
                password,
                may_ingest,
            } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let organisation = organisation.ok_or_else(|| {
                    StoreError::Refused("the user's organisation is not given".to_owned())
                })?;
                let email = Email::parse(&email).map_err(refused)?;
                let password_hash = self.new_password(role, email.as_str(), password).await?;
                let new = NewUser {
                    organisation,
                    email,
                    name,
                    role,
                    password_hash,
                    may_ingest,
                };
                let made = self.store.create_user(&self.actor, new).await;
                let user = made.map_err(|error| self.without_strangers(error))?;
                Ok(changed(user, true))
            }
            Order::Users { organisation } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let users = self.store.users(organisation).await?;
                Ok(Outcome::Users { users })
            }
            Order::User { email } => Ok(changed(self.user(&email).await?, false)),
            Order::SetPassword { email, password } => {
                let user = self.user(&email).await?;
                let hash = self
                    .new_password(user.role, &user.email, Some(password))
                    .await?;
                if let Some(hash) = hash {
                    self.store.set_password(&self.actor, user.id, hash).await?;
                }
                Ok(changed(user, true))
            }
            Order::ChangeUser {
                email,
                role,
                name,
                may_ingest,
            } => {
                let user = self.user(&email).await?;
                let wanted = UserChange {
                    role,
                    may_ingest,
                    name,
                };
                let user = self
                    .store
                    .change_user(&self.actor, user.id, &wanted)
                    .await?;
                Ok(changed(user, true))
            }
            Order::SetUserActive { email, active } => {
                let user = self.user(&email).await?;
                let is_change = self
                    .store
                    .set_user_active(&self.actor, user.id, active)
                    .await?;
                Ok(changed(self.user(&email).await?, is_change))
            }
            Order::RemoveUser { email } => {
                let user = self.user(&email).await?;
                self.store.remove_user(&self.actor, user.id).await?;
                Ok(changed(user, true))
            }
            Order::CreateKey {
                user,
                name,
                expires_at,
                may_ingest,
            } => {
                let fresh = FreshKey::new()?;
                let new = NewKey {
                    id: fresh.id.clone(),
                    user: self.user(&user).await?.id,
                    name,
                    secret_hash: fresh.secret_hash,
                    may_ingest,
                    expires_at,
                };
                let made = self.store.create_key(&self.actor, new).await?;
                let text = fresh.text().to_owned();
                Ok(Outcome::MadeKey { made, text })
            }
            Order::Keys { organisation, user } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let user = match user {
                    Some(email) => Some(self.user(&email).await?.id),
                    None => None,
                };
                let keys = self.store.keys(organisation, user).await?;
                Ok(Outcome::Keys { keys })
            }
            Order::RevokeKey { id } => {
                let key = self.store.key(&id).await?;
                if !key.is_some_and(|key| self.may_touch(key.organisation_id)) {
                    return Err(not_found("key", &id, "key list"));
                }
                let changed = self.store.revoke_key(&self.actor, &id).await?;
                Ok(Outcome::RevokedKey { id, changed })
            }
        }
    }

    fn may_touch(&self, organisation: OrganisationId) -> bool {
        self.within.is_none_or(|within| within == organisation)
    }

    /// The organisation that is meant; that of the admin, if none is named.
    async fn organisation(&self, name: Option<&str>) -> Result<Option<OrganisationId>, AuthError> {
        let Some(name) = name else {
            return Ok(self.within);
        };
        let unknown = || not_found("organisation", name, "org list");
        match self.store.organisation(name).await {
            Ok(found) if self.may_touch(found.id) => Ok(Some(found.id)),
            // Whether others have one of that name, is not told.
            Ok(_) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    async fn user(&self, email: &str) -> Result<User, AuthError> {
        let user = self.store.user(email).await?;
        if !self.may_touch(user.organisation_id) {
            return Err(not_found("user", email, "user list"));
        }
        Ok(user)
    }

    /// The hash of a password that is good enough, for those who have one.
    async fn new_password(
        &self,
        role: Role,
        email: &str,
        password: Option<String>,
    ) -> Result<Option<String>, AuthError> {
        match (role.has_password(), password) {
            (false, None) => Ok(None),
            (false, Some(_)) => Err(refused(format!(
                "{email} is a service: it has keys only, and no password"
            ))),
            (true, None) => Err(refused("the user's password is not given")),
            (true, Some(password)) => {
                check_new_password(&password, email)?;
                Ok(Some(self.passwords.hash(&password).await?))
            }
        }
    }

    /// The same error, but that an address belongs to another organisation's user is not told to an admin.
    fn without_strangers(&self, error: StoreError) -> AuthError {
        match error {
            StoreError::Taken { name, .. } if self.within.is_some() => refused(format!(
                "{name:?} cannot be used as the address of a new user"
            )),
            error => error.into(),
        }
    }
}

fn changed(user: User, changed: bool) -> Outcome {
    Outcome::User { user, changed }
}

fn refused(why: impl ToString) -> AuthError {
    StoreError::Refused(why.to_string()).into()
}

fn not_found(what: &'static str, name: &str, command: &'static str) -> AuthError {
    let name = name.to_owned();
    StoreError::NotFound {
        what,
        name,
        command,
    }
    .into()
}
