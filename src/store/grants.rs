//! Which assets an organisation may see, as rules.

use serde_json::json;

use super::database::{Executor, values};
use super::{Actor, OrganisationStore, StoreError, organisations};
use crate::model::{Grant, OrganisationId};

impl OrganisationStore {
    /// The rules of an organisation, in order; none means that it sees nothing.
    pub async fn grants(&self, organisation: OrganisationId) -> Result<Vec<Grant>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("sql/grants.sql"), values![organisation])
            .await?;
        let mut grants = Vec::with_capacity(rows.len());
        for row in rows {
            let (kind, value): (String, String) = (row.get("kind")?, row.get("value")?);
            grants.push(
                Grant::of(&kind, &value).map_err(|error| StoreError::damaged("value", &error))?,
            );
        }
        Ok(grants)
    }

    /// Adds rules. Returns those that are new.
    pub async fn grant(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
    ) -> Result<Vec<Grant>, StoreError> {
        let mut change = self.change(actor).await?;
        let found = organisations::find(&mut change.change, &organisation.to_string()).await?;
        let mut added = Vec::new();
        for grant in grants {
            let values = values![organisation, grant.kind(), grant.value(), change.at];
            if change
                .change
                .execute(include_str!("sql/grant_add.sql"), values)
                .await?
                > 0
            {
                added.push(grant.clone());
            }
        }
        if !added.is_empty() {
            let details = json!({"added": added});
            change
                .commit("org.grant", Some(organisation), &found.name, details)
                .await?;
        }
        Ok(added)
    }

    /// Takes rules away; all of them must be there, or none is taken.
    pub async fn revoke_grants(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
    ) -> Result<(), StoreError> {
        let mut change = self.change(actor).await?;
        let found = organisations::find(&mut change.change, &organisation.to_string()).await?;
        for grant in grants {
            let values = values![organisation, grant.kind(), grant.value()];
            if change
                .change
                .execute(include_str!("sql/grant_remove.sql"), values)
                .await?
                == 0
            {
                return Err(StoreError::Refused(format!(
                    "organisation {:?} has no grant of {grant}; `plantlake org show` lists those it has",
                    found.name
                )));
            }
        }
        let details = json!({"removed": grants});
        change
            .commit("org.revoke", Some(organisation), &found.name, details)
            .await
    }
}
