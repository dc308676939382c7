//! API keys, with which programs authenticate. Only the hash of a key's secret is stored.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::actor::Actor;
use super::users;
use crate::model::{OrganisationId, TextKind, UserId};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// A key to be created.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// The public part.
    pub id: String,
    /// The user who owns the key.
    pub user: UserId,
    /// The key's name, which describes its purpose.
    pub name: String,
    /// The hash of the secret part.
    pub secret_hash: [u8; 32],
    /// Whether readings may be sent with the key; the user needs the permission, too.
    pub may_ingest: bool,
    /// The time at which the key expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
}

/// A key, without its secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// The public part.
    pub id: String,
    /// The user who owns the key.
    pub user_id: UserId,
    /// The user's address.
    pub user: String,
    /// The user's organisation.
    pub organisation_id: OrganisationId,
    /// The organisation's name.
    pub organisation: String,
    /// The key's name, which describes its purpose.
    pub name: String,
    /// Whether readings may be sent with the key.
    pub may_ingest: bool,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time at which the key expires, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// The time of the last use, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// The time of revocation, if the key was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The hash of the secret part.
    #[serde(skip)]
    pub secret_hash: Vec<u8>,
}

impl ApiKey {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: row.get("id")?,
            user_id: UserId(row.id("user_id")?),
            user: row.get("email")?,
            organisation_id: OrganisationId(row.id("organization_id")?),
            organisation: row.get("organization")?,
            name: row.get("name")?,
            may_ingest: row.get("may_ingest")?,
            created_at: row.time("created_at")?,
            expires_at: row.optional_time("expires_at")?,
            last_used_at: row.optional_time("last_used_at")?,
            revoked_at: row.optional_time("revoked_at")?,
            secret_hash: row.get("secret_hash")?,
        })
    }
}

impl OrganisationStore {
    /// Returns the keys of an organisation's users, of one user, or of all, including revoked keys.
    pub async fn keys(
        &self,
        organisation: Option<OrganisationId>,
        user: Option<UserId>,
    ) -> Result<Vec<ApiKey>, StoreError> {
        let values = values![organisation, user];
        let rows = (&self.database)
            .rows(include_str!("../sql/keys.sql"), values)
            .await?;
        rows.iter().map(ApiKey::from_row).collect()
    }

    /// Returns the key with this public part.
    pub async fn key(&self, id: &str) -> Result<Option<ApiKey>, StoreError> {
        let row = (&self.database)
            .row(include_str!("../sql/key.sql"), values![id])
            .await?;
        row.as_ref().map(ApiKey::from_row).transpose()
    }

    /// Creates a key.
    pub async fn create_key(&self, actor: &Actor, new: NewKey) -> Result<ApiKey, StoreError> {
        TextKind::KeyName.check(new.name.trim())?;
        let mut change = self.begin_change(actor).await?;
        let user = users::find_by_id(&mut change.change, new.user).await?;
        change.check_key_limit(user.organisation_id).await?;
        if new.may_ingest && !user.may_ingest {
            return Err(StoreError::Refused(format!(
                "{} may not send readings, so a key of that user cannot either; \
                 `plantlake user change {} --ingest on` permits it",
                user.email, user.email
            )));
        }
        if new.expires_at.is_some_and(|end| end <= change.at) {
            return Err(StoreError::Refused(
                "the expiry of the key is in the past".to_owned(),
            ));
        }
        let values = values![
            &new.id,
            new.user,
            new.name.trim(),
            new.secret_hash.as_slice(),
            new.may_ingest,
            change.at,
            new.expires_at,
        ];
        change
            .change
            .execute(include_str!("../sql/key_add.sql"), values)
            .await?;
        let details = json!({
            "user": user.email, "name": new.name.trim(), "may_ingest": new.may_ingest, "expires_at": new.expires_at,
        });
        change
            .commit("key.create", Some(user.organisation_id), &new.id, details)
            .await?;
        self.require_key(&new.id).await
    }

    /// Revokes a key. Returns false if it was already revoked.
    pub async fn revoke_key(&self, actor: &Actor, id: &str) -> Result<bool, StoreError> {
        TextKind::KeyId.check(id)?;
        let key = self.require_key(id).await?;
        let mut change = self.begin_change(actor).await?;
        let values = values![id, change.at];
        if change
            .change
            .execute(include_str!("../sql/key_revoke.sql"), values)
            .await?
            == 0
        {
            return Ok(false);
        }
        let details = json!({"user": key.user, "name": key.name});
        change
            .commit("key.revoke", Some(key.organisation_id), id, details)
            .await?;
        Ok(true)
    }

    /// Records the use of a key. Nobody's access changes.
    pub async fn record_key_use(&self, id: &str, at: DateTime<Utc>) -> Result<(), StoreError> {
        (&self.database)
            .execute(include_str!("../sql/key_used.sql"), values![id, at])
            .await?;
        Ok(())
    }

    async fn require_key(&self, id: &str) -> Result<ApiKey, StoreError> {
        self.key(id).await?.ok_or_else(|| StoreError::NotFound {
            what: "key",
            name: id.to_owned(),
            command: "key list",
        })
    }
}
