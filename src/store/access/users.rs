//! Users: their organisation, their role and their status, within the organisation's user limit.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::access_change::AccessChange;
use super::actor::Actor;
use super::organisations;
use crate::clock::new_id;
use crate::model::{Email, OrganisationId, Role, TextKind, UserId};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A user to be created.
#[derive(Debug, Clone)]
pub struct NewUser {
    /// The organisation.
    pub organisation: OrganisationId,
    /// The address. No other user of the organisation may have it, in any case.
    pub email: Email,
    /// The person's or program's name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The hash of the password, in the PHC string format; `None` for users who have keys only.
    pub password_hash: Option<String>,
    /// Whether the user may send readings.
    pub may_ingest: bool,
}

/// A user who was not removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The user's id.
    pub id: UserId,
    /// The organisation's id.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The address, in its original spelling.
    pub email: String,
    /// The person's or program's name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// Whether the user may send readings.
    pub may_ingest: bool,
    /// Whether the user has access. A deactivated user still counts towards the limit.
    pub active: bool,
    /// Whether the organisation is active.
    pub organisation_active: bool,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the last sign-in with a password.
    pub last_sign_in_at: Option<DateTime<Utc>>,
}

/// The data against which a sign-in is checked. `Debug` omits the hash.
#[derive(Clone)]
pub struct Credential {
    /// The user.
    pub user: User,
    /// The hash of the password, if the user has one.
    pub password_hash: Option<String>,
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential")
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// A change of a user. A field that is `None` stays as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UserChange {
    /// The role.
    pub role: Option<Role>,
    /// Whether the user may send readings.
    pub may_ingest: Option<bool>,
    /// The name.
    pub name: Option<String>,
}

impl User {
    pub(in crate::store) fn from_row(row: &Row) -> Result<Self, StoreError> {
        let role: String = row.get("role")?;
        Ok(Self {
            id: UserId(row.id("id")?),
            organisation_id: OrganisationId(row.id("organization_id")?),
            organisation: row.get("organization")?,
            email: row.get("email")?,
            name: row.get("name")?,
            role: Role::from_name(&role).ok_or_else(|| StoreError::damaged("role", &role))?,
            may_ingest: row.get("may_ingest")?,
            active: row.get("active")?,
            organisation_active: row.get("organization_active")?,
            created_at: row.time("created_at")?,
            last_sign_in_at: row.optional_time("last_sign_in_at")?,
        })
    }
}

impl OrganisationStore {
    /// Returns the users of an organisation, or of all organisations, by organisation and address.
    pub async fn users(
        &self,
        organisation: Option<OrganisationId>,
    ) -> Result<Vec<User>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("../sql/users.sql"), values![organisation])
            .await?;
        rows.iter().map(User::from_row).collect()
    }

    /// Returns the user with this address, in any case, or with this id.
    ///
    /// # Errors
    ///
    /// Returns an error if there is no such user, or if users of several organisations have the address.
    pub async fn user(&self, email_or_id: &str) -> Result<User, StoreError> {
        find(&mut &self.database, email_or_id, None).await
    }

    /// Returns the user as [`Self::user`] does, among the users of `organisation` only, if one is given.
    pub async fn user_within(
        &self,
        email_or_id: &str,
        organisation: Option<OrganisationId>,
    ) -> Result<User, StoreError> {
        find(&mut &self.database, email_or_id, organisation).await
    }

    /// Returns the user with this id, unless removed.
    pub async fn user_by_id(&self, id: UserId) -> Result<Option<User>, StoreError> {
        let values = values![Some(id), String::new(), None::<OrganisationId>];
        let row = (&self.database)
            .row(include_str!("../sql/user.sql"), values)
            .await?;
        row.as_ref().map(User::from_row).transpose()
    }

    /// Returns the users with this address, in any case, and their password hashes, the oldest first. A sign-in is
    /// checked against them. There is at most one for each organisation.
    pub async fn credentials(&self, email: &str) -> Result<Vec<Credential>, StoreError> {
        let key = email.trim().to_lowercase();
        let values = values![None::<UserId>, key, None::<OrganisationId>];
        let rows = (&self.database)
            .rows(include_str!("../sql/user.sql"), values)
            .await?;
        let read = |row: &Row| {
            Ok(Credential {
                user: User::from_row(row)?,
                password_hash: row.get("password_hash")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Creates a user, if the organisation's limit allows it.
    pub async fn create_user(&self, actor: &Actor, new: NewUser) -> Result<User, StoreError> {
        TextKind::UserName.check(new.name.trim())?;
        let mut change = self.begin_change(actor).await?;
        let organisation =
            organisations::find(&mut change.change, &new.organisation.to_string()).await?;
        if organisation.users >= organisation.user_limit {
            return Err(StoreError::LimitReached {
                limit: organisation.user_limit,
                holders: organisations::users_towards_limit(&mut change.change, organisation.id)
                    .await?,
                organisation: organisation.name,
            });
        }
        let id = UserId(new_id());
        let values = values![
            id,
            organisation.id,
            new.email.as_str(),
            new.email.key(),
            new.name.trim(),
            new.role.name(),
            new.password_hash,
            new.may_ingest,
            change.at,
        ];
        match change
            .change
            .execute(include_str!("../sql/user_add.sql"), values)
            .await
        {
            Err(error) if error.is_duplicate() => {
                return Err(StoreError::AlreadyExists {
                    what: "a user",
                    name: new.email.as_str().to_owned(),
                });
            }
            added => added?,
        };
        let details = json!({"id": id, "name": new.name.trim(), "role": new.role, "may_ingest": new.may_ingest});
        change
            .commit(
                "user.create",
                Some(organisation.id),
                new.email.as_str(),
                details,
            )
            .await?;
        self.user(&id.to_string()).await
    }

    /// Sets the password, and revokes all sessions of the user.
    pub async fn set_password(
        &self,
        actor: &Actor,
        user: UserId,
        password_hash: String,
    ) -> Result<(), StoreError> {
        let mut change = self.begin_change(actor).await?;
        let found = find_by_id(&mut change.change, user).await?;
        if !found.role.has_password() {
            return Err(StoreError::Refused(format!(
                "{} is a service: it has keys only, and no password",
                found.email
            )));
        }
        let values = values![user, password_hash, change.at];
        change
            .change
            .execute(include_str!("../sql/user_set_password.sql"), values)
            .await?;
        let values = values![user, change.at];
        let ended = change
            .change
            .execute(include_str!("../sql/sessions_revoke.sql"), values)
            .await?;
        let details = json!({"sessions_ended": ended});
        change
            .commit(
                "user.passwd",
                Some(found.organisation_id),
                &found.email,
                details,
            )
            .await
    }

    /// Stores a new hash of the same password, made with the current parameters. Changes nothing if the stored hash is
    /// not `old_hash`.
    pub async fn rehash_password(
        &self,
        user: UserId,
        old_hash: &str,
        new_hash: String,
    ) -> Result<(), StoreError> {
        let values = values![user, old_hash, new_hash];
        (&self.database)
            .execute(include_str!("../sql/user_rehash.sql"), values)
            .await?;
        Ok(())
    }

    /// Changes a user's role, name or permission. Returns the changed user.
    pub async fn change_user(
        &self,
        actor: &Actor,
        user: UserId,
        wanted: &UserChange,
    ) -> Result<User, StoreError> {
        let mut change = self.begin_change(actor).await?;
        let before = find_by_id(&mut change.change, user).await?;
        let role = wanted.role.unwrap_or(before.role);
        if role.has_password() != before.role.has_password() {
            return Err(StoreError::Refused(format!(
                "{} cannot be changed from {} to {role}: a service has no password, others have one; \
                 make another user",
                before.email, before.role
            )));
        }
        if role != before.role {
            change.check_last_admin(&before, "give up the role").await?;
        }
        let name = wanted.name.as_deref().unwrap_or(&before.name).trim();
        if wanted.name.is_some() {
            TextKind::UserName.check(name)?;
        }
        let may_ingest = wanted.may_ingest.unwrap_or(before.may_ingest);
        let values = values![user, name, role.name(), may_ingest, change.at];
        change
            .change
            .execute(include_str!("../sql/user_change.sql"), values)
            .await?;
        let shown = |name: &str, role: Role, may_ingest: bool| json!({"name": name, "role": role, "may_ingest": may_ingest});
        let details = json!({
            "from": shown(&before.name, before.role, before.may_ingest),
            "to": shown(name, role, may_ingest),
        });
        change
            .commit(
                "user.change",
                Some(before.organisation_id),
                &before.email,
                details,
            )
            .await?;
        self.user(&user.to_string()).await
    }

    /// Activates a user again, or deactivates the user and revokes all sessions. Returns whether that was a change.
    pub async fn set_user_active(
        &self,
        actor: &Actor,
        user: UserId,
        active: bool,
    ) -> Result<bool, StoreError> {
        let mut change = self.begin_change(actor).await?;
        let before = find_by_id(&mut change.change, user).await?;
        if before.active == active {
            return Ok(false);
        }
        if !active {
            change.check_last_admin(&before, "be deactivated").await?;
        }
        let values = values![user, active, change.at];
        change
            .change
            .execute(include_str!("../sql/user_set_active.sql"), values)
            .await?;
        if !active {
            let values = values![user, change.at];
            change
                .change
                .execute(include_str!("../sql/sessions_revoke.sql"), values)
                .await?;
        }
        let action = if active {
            "user.activate"
        } else {
            "user.deactivate"
        };
        change
            .commit(
                action,
                Some(before.organisation_id),
                &before.email,
                json!({}),
            )
            .await?;
        Ok(true)
    }

    /// Removes a user and revokes all sessions and keys. The address becomes free, and the user no longer counts
    /// towards the limit. The user's records stay in the ledger and in the audit trail.
    pub async fn remove_user(&self, actor: &Actor, user: UserId) -> Result<(), StoreError> {
        let mut change = self.begin_change(actor).await?;
        let before = find_by_id(&mut change.change, user).await?;
        change.check_last_admin(&before, "be removed").await?;
        let values = values![user, change.at];
        for sql in [
            include_str!("../sql/user_remove.sql"),
            include_str!("../sql/sessions_revoke.sql"),
            include_str!("../sql/keys_revoke.sql"),
        ] {
            change.change.execute(sql, values).await?;
        }
        let details = json!({"id": user});
        change
            .commit(
                "user.remove",
                Some(before.organisation_id),
                &before.email,
                details,
            )
            .await
    }
}

impl AccessChange {
    /// Refuses a user's change that would leave an organisation without an active admin, because nobody there could
    /// appoint another.
    async fn check_last_admin(&mut self, user: &User, what: &str) -> Result<(), StoreError> {
        if !self.actor.is_user() || !user.active || !user.role.manages_organisation() {
            return Ok(());
        }
        let values = values![user.organisation_id, user.id];
        let sql = include_str!("../sql/admins_count.sql");
        let row = self.change.row(sql, values).await?;
        match row.map_or(Ok(0), |row| row.count("n"))? {
            0 => Err(StoreError::Refused(format!(
                "{} is the last active admin of {:?} and cannot {what}; make another admin first",
                user.email, user.organisation
            ))),
            _ => Ok(()),
        }
    }
}

/// Returns the user with this id.
pub(in crate::store) async fn find_by_id(
    database: &mut impl Executor,
    id: UserId,
) -> Result<User, StoreError> {
    find(database, &id.to_string(), None).await
}

/// Returns the user with this address or id.
async fn find(
    database: &mut impl Executor,
    email_or_id: &str,
    organisation: Option<OrganisationId>,
) -> Result<User, StoreError> {
    TextKind::Email.check(email_or_id)?;
    let id = email_or_id.trim().parse::<UserId>().ok();
    let values = values![id, email_or_id.trim().to_lowercase(), organisation];
    let rows = database
        .rows(include_str!("../sql/user.sql"), values)
        .await?;
    let users: Vec<User> = rows.iter().map(User::from_row).collect::<Result<_, _>>()?;
    match <[User; 1]>::try_from(users) {
        Ok([user]) => Ok(user),
        Err(users) if users.is_empty() => Err(StoreError::NotFound {
            what: "user",
            name: email_or_id.to_owned(),
            command: "user list",
        }),
        Err(users) => {
            let each = users.iter().take(5);
            let each = each.map(|user| format!("{} of {:?}", user.id, user.organisation));
            Err(StoreError::Refused(format!(
                "{email_or_id:?} is the address of {} users; name one by id: {}",
                users.len(),
                each.collect::<Vec<_>>().join(", ")
            )))
        }
    }
}
