//! Administration of users and keys. It serves both an operator at the machine and an organisation's own admin, who
//! connects remotely.

use super::api_key::FreshKey;
use super::authenticator::Authenticator;
use super::command::{AdminCommand, AdminOutcome, MAX_AUDIT_ENTRIES};
use super::error::AuthError;
use super::hash_queue::Requester;
use super::password::{Passwords, check_new as check_new_password};
use super::principal::Principal;
use crate::model::{Email, OrganisationId, Role};
use crate::store::{
    Actor, AuditFilter, NewKey, NewUser, OrganisationStore, StoreError, User, UserChange,
};

/// Runs administration commands on behalf of an actor.
pub struct Administrator {
    store: OrganisationStore,
    passwords: Passwords,
    actor: Actor,
    /// The only organisation that the actor may read or change; `None` for all.
    scope: Option<OrganisationId>,
}

impl Administrator {
    /// Returns an administrator for the operator at the machine, who may do everything.
    pub fn operator(store: OrganisationStore, passwords: Passwords, actor: Actor) -> Self {
        Self {
            store,
            passwords,
            actor,
            scope: None,
        }
    }

    /// Returns an administrator for the admin of an organisation, who may do everything within it; `None` for other roles.
    pub fn for_principal(
        principal: &Principal,
        store: OrganisationStore,
        passwords: Passwords,
    ) -> Option<Self> {
        principal.role.manages_organisation().then(|| Self {
            store,
            passwords,
            actor: Actor::user(&principal.user),
            scope: Some(principal.organisation_id),
        })
    }

    /// Runs a command.
    pub async fn run(&self, order: AdminCommand) -> Result<AdminOutcome, AuthError> {
        order.check().map_err(StoreError::from)?;
        match order {
            AdminCommand::CreateUser {
                organisation,
                email,
                name,
                role,
                password,
                may_ingest,
            } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let organisation = organisation.ok_or_else(|| {
                    StoreError::Refused("no organisation given for the user".to_owned())
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
                Ok(user_outcome(
                    self.store.create_user(&self.actor, new).await?,
                    true,
                ))
            }
            AdminCommand::Users { organisation } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let users = self.store.users(organisation).await?;
                Ok(AdminOutcome::Users { users })
            }
            AdminCommand::User { email } => Ok(user_outcome(self.user(&email).await?, false)),
            AdminCommand::SetPassword { email, password } => {
                let user = self.user(&email).await?;
                let hash = self
                    .new_password(user.role, &user.email, Some(password))
                    .await?;
                if let Some(hash) = hash {
                    self.store.set_password(&self.actor, user.id, hash).await?;
                }
                Ok(user_outcome(user, true))
            }
            AdminCommand::ChangeUser {
                email,
                role,
                name,
                may_ingest,
            } => {
                let wanted = UserChange {
                    role,
                    may_ingest,
                    name,
                };
                self.change_user(&email, &wanted).await
            }
            AdminCommand::SetUserActive { email, active } => {
                let user = self.user(&email).await?;
                let is_change = self
                    .store
                    .set_user_active(&self.actor, user.id, active)
                    .await?;
                Ok(user_outcome(self.user(&email).await?, is_change))
            }
            AdminCommand::RemoveUser { email } => {
                let user = self.user(&email).await?;
                self.store.remove_user(&self.actor, user.id).await?;
                Ok(user_outcome(user, true))
            }
            AdminCommand::ChangeOwnPassword { .. } => Err(refused(
                "operators have no password of their own; set a user's with `plantlake user passwd`",
            )),
            order => self.run_key_command(order).await,
        }
    }

    async fn change_user(
        &self,
        email: &str,
        wanted: &UserChange,
    ) -> Result<AdminOutcome, AuthError> {
        let user = self.user(email).await?;
        let change = self.store.change_user(&self.actor, user.id, wanted);
        Ok(user_outcome(change.await?, true))
    }

    /// Runs the commands on keys and the audit trail.
    async fn run_key_command(&self, order: AdminCommand) -> Result<AdminOutcome, AuthError> {
        match order {
            AdminCommand::CreateKey {
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
                Ok(AdminOutcome::MadeKey { made, text })
            }
            AdminCommand::Keys { organisation, user } => {
                let organisation = self.organisation(organisation.as_deref()).await?;
                let user = match user {
                    Some(email) => Some(self.user(&email).await?.id),
                    None => None,
                };
                let keys = self.store.keys(organisation, user).await?;
                Ok(AdminOutcome::Keys { keys })
            }
            AdminCommand::RevokeKey { id } => {
                let key = self.store.key(&id).await?;
                if !key.is_some_and(|key| self.may_access(key.organisation_id)) {
                    return Err(not_found("key", &id, "key list"));
                }
                let changed = self.store.revoke_key(&self.actor, &id).await?;
                Ok(AdminOutcome::RevokedKey { id, changed })
            }
            AdminCommand::Audit { organisation, last } => {
                let max = self.scope.map_or(u32::MAX, |_| MAX_AUDIT_ENTRIES);
                let filter = AuditFilter {
                    organisation: self.organisation(organisation.as_deref()).await?,
                    last: last.min(max).into(),
                };
                let mut entries = self.store.audit(&filter).await?;
                if self.scope.is_some() {
                    // Tenants must not learn which people operate the server, and on which machine.
                    let operators = entries.iter_mut().filter(|entry| entry.is_by_operator());
                    operators.for_each(|entry| entry.actor = "operator".to_owned());
                }
                Ok(AdminOutcome::Audit { entries })
            }
            order => Err(refused(format!(
                "{} is not a command on keys",
                order.name()
            ))),
        }
    }

    fn may_access(&self, organisation: OrganisationId) -> bool {
        self.scope.is_none_or(|within| within == organisation)
    }

    /// Returns the organisation of this name; without a name, the one that the actor is limited to.
    async fn organisation(&self, name: Option<&str>) -> Result<Option<OrganisationId>, AuthError> {
        let Some(name) = name else {
            return Ok(self.scope);
        };
        let unknown = || not_found("organisation", name, "org list");
        match self.store.organisation(name).await {
            Ok(found) if self.may_access(found.id) => Ok(Some(found.id)),
            // The error does not reveal whether another tenant has an organisation of this name.
            Ok(_) => Err(unknown()),
            Err(error) => Err(error.into()),
        }
    }

    async fn user(&self, email: &str) -> Result<User, AuthError> {
        // The error does not reveal whether another tenant has a user with this address.
        Ok(self.store.user_within(email, self.scope).await?)
    }

    /// Checks and hashes a new password, for roles that have one.
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
            (true, None) => Err(refused("no password given for the user")),
            (true, Some(password)) => {
                check_new_password(&password, email)?;
                let party = Requester::Organisation(self.scope);
                let hash = hash_for(&self.store, &self.passwords, party, email, &password);
                Ok(Some(hash.await?))
            }
        }
    }
}

/// Hashes a new password for this address. All users with the same address share one salt.
async fn hash_for(
    store: &OrganisationStore,
    passwords: &Passwords,
    party: Requester,
    email: &str,
    password: &str,
) -> Result<String, AuthError> {
    let relatives = store.credentials(email).await?;
    let relative = relatives.into_iter().find_map(|one| one.password_hash);
    passwords.hash(party, password, relative.as_deref()).await
}

/// Replaces the caller's own password, after checking the current one.
pub async fn change_own_password(
    authenticator: &Authenticator,
    store: &OrganisationStore,
    principal: &Principal,
    address: Option<std::net::IpAddr>,
    current: &str,
    new: &str,
) -> Result<AdminOutcome, AuthError> {
    check_new_password(new, &principal.user)?;
    authenticator
        .check_own_password(principal, current, address)
        .await?;
    let party = Requester::Organisation(Some(principal.organisation_id));
    let passwords = authenticator.passwords();
    let hash = hash_for(store, passwords, party, &principal.user, new).await?;
    let actor = Actor::user(&principal.user);
    store.set_password(&actor, principal.user_id, hash).await?;
    let id = principal.user_id.to_string();
    Ok(user_outcome(store.user(&id).await?, true))
}

fn user_outcome(user: User, changed: bool) -> AdminOutcome {
    AdminOutcome::User { user, changed }
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
