//! Sessions: sign-ins with a password. An access token belongs to a session and ends with it.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::actor::Actor;
use super::users;
use crate::clock::new_id;
use crate::model::{SessionId, UserId};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A stored session. It may have expired or been revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The user's id.
    pub user_id: UserId,
    /// The user's address.
    pub user: String,
    /// The start of the session.
    pub created_at: DateTime<Utc>,
    /// The time at which the session expires.
    pub expires_at: DateTime<Utc>,
    /// The client's address at the start.
    pub client_address: String,
    /// The time of revocation, if the session was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

impl Session {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: SessionId(row.id("id")?),
            user_id: UserId(row.id("user_id")?),
            user: row.get("email")?,
            created_at: row.time("created_at")?,
            expires_at: row.time("expires_at")?,
            client_address: row.get("client_address")?,
            revoked_at: row.optional_time("revoked_at")?,
        })
    }
}

impl OrganisationStore {
    /// Begins a session. Deletes all expired sessions.
    pub async fn begin_session(
        &self,
        user: UserId,
        created_at: DateTime<Utc>,
        expires_at: DateTime<Utc>,
        client_address: &str,
    ) -> Result<SessionId, StoreError> {
        let id = SessionId(new_id());
        let mut change = self.database.begin().await?;
        let values = values![id, user, created_at, expires_at, client_address];
        change
            .execute(include_str!("../sql/session_add.sql"), values)
            .await?;
        change
            .execute(
                include_str!("../sql/user_signed_in.sql"),
                values![user, created_at],
            )
            .await?;
        change
            .execute(
                include_str!("../sql/sessions_forget.sql"),
                values![created_at],
            )
            .await?;
        change.commit().await?;
        self.trim_sessions(user).await?;
        Ok(id)
    }

    /// Deletes the sessions of a user that are beyond the maximum: revoked ones first, then the oldest.
    async fn trim_sessions(&self, user: UserId) -> Result<(), StoreError> {
        let count = include_str!("../sql/sessions_count.sql");
        let row = (&self.database).row(count, values![user]).await?;
        let count = row.map_or(Ok(0), |row| row.count("n"))?;
        if count <= self.account_limits.sessions_per_user {
            return Ok(());
        }
        let mut change = self.database.begin().await?;
        // The new revision makes servers end the requests that run in the deleted sessions.
        change
            .execute(include_str!("../sql/revise.sql"), values![])
            .await?;
        let values = values![user, self.account_limits.sessions_per_user];
        change
            .execute(include_str!("../sql/sessions_trim.sql"), values)
            .await?;
        change.commit().await
    }

    /// Returns the session, if it exists.
    pub async fn session(&self, id: SessionId) -> Result<Option<Session>, StoreError> {
        let row = (&self.database)
            .row(include_str!("../sql/session.sql"), values![id])
            .await?;
        row.as_ref().map(Session::from_row).transpose()
    }

    /// Returns the sessions of one user or of all users that are valid at `now`.
    pub async fn sessions(
        &self,
        user: Option<UserId>,
        now: DateTime<Utc>,
    ) -> Result<Vec<Session>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("../sql/sessions.sql"), values![user, now])
            .await?;
        rows.iter().map(Session::from_row).collect()
    }

    /// Revokes a session. Returns false if it was already revoked.
    pub async fn revoke_session(&self, actor: &Actor, id: SessionId) -> Result<bool, StoreError> {
        let Some(session) = self.session(id).await? else {
            return Err(StoreError::NotFound {
                what: "session",
                name: id.to_string(),
                command: "session list",
            });
        };
        let mut change = self.begin_change(actor).await?;
        let values = values![id, change.at];
        if change
            .change
            .execute(include_str!("../sql/session_revoke.sql"), values)
            .await?
            == 0
        {
            return Ok(false);
        }
        let user = self.user_by_id(session.user_id).await?;
        let organisation = user.map(|user| user.organisation_id);
        let details = json!({"user": session.user});
        change
            .commit("session.revoke", organisation, &id.to_string(), details)
            .await?;
        Ok(true)
    }

    /// Revokes all sessions of a user. Returns their number.
    pub async fn revoke_sessions(&self, actor: &Actor, user: UserId) -> Result<u64, StoreError> {
        let mut change = self.begin_change(actor).await?;
        let found = users::find_by_id(&mut change.change, user).await?;
        let values = values![user, change.at];
        let ended = change
            .change
            .execute(include_str!("../sql/sessions_revoke.sql"), values)
            .await?;
        let details = json!({"sessions_ended": ended});
        change
            .commit(
                "session.revoke-all",
                Some(found.organisation_id),
                &found.email,
                details,
            )
            .await?;
        Ok(ended)
    }
}
