//! Grants: the rules that define which assets an organisation may see and write to.

use serde_json::json;

use super::actor::Actor;
use super::organisations;
use crate::model::{AssetGrant, Grant, GrantAccess, OrganisationId, TextKind, printable};
use crate::store::backend::database::{Executor, values};
use crate::store::error::StoreError;
use crate::store::organisation_store::OrganisationStore;

/// An organisation that may write, and the rules that allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WritingOrganisation {
    /// The organisation.
    pub id: OrganisationId,
    /// The organisation's name.
    pub name: String,
    /// The rules of its grants that allow writing.
    pub rules: Vec<Grant>,
}

/// The maximum number of grants of an organisation.
const MAX_GRANTS: u64 = 10_000;

impl OrganisationStore {
    /// Returns the rules of an organisation, in order. An organisation without rules sees nothing.
    pub async fn grants(&self, organisation: OrganisationId) -> Result<Vec<Grant>, StoreError> {
        let grants = self.asset_grants(organisation).await?;
        Ok(grants.into_iter().map(|grant| grant.rule).collect())
    }

    /// Returns the grants of an organisation, in the order of their rules. An organisation without grants sees nothing.
    pub async fn asset_grants(
        &self,
        organisation: OrganisationId,
    ) -> Result<Vec<AssetGrant>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("../sql/grants.sql"), values![organisation])
            .await?;
        let mut grants = Vec::with_capacity(rows.len());
        for row in rows {
            let (kind, value): (String, String) = (row.get("kind")?, row.get("value")?);
            let may_write: bool = row.get("may_write")?;
            grants.push(AssetGrant {
                rule: rule(&kind, &value)?,
                access: match may_write {
                    true => GrantAccess::Write,
                    false => GrantAccess::Read,
                },
            });
        }
        Ok(grants)
    }

    /// Returns the organisations that may write, by name.
    pub async fn writing_organisations(&self) -> Result<Vec<WritingOrganisation>, StoreError> {
        read_writing_organisations(&mut &self.database).await
    }

    /// Returns the names of active organisations that have users who may send readings, but no grant that allows
    /// writing: all readings that they send are refused.
    pub async fn senders_without_write_grant(&self) -> Result<Vec<String>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("../sql/grants_senders.sql"), values![])
            .await?;
        rows.iter().map(|row| row.get("name")).collect()
    }

    /// Adds rules that allow reading. Returns those that are new.
    pub async fn grant(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
    ) -> Result<Vec<Grant>, StoreError> {
        self.grant_access(actor, organisation, grants, GrantAccess::Read, |_| Ok(()))
            .await
    }

    /// Adds rules that allow `access`. An existing rule that allows reading allows writing, too, if `access` is
    /// writing. Returns the rules that changed.
    ///
    /// For write access, `check` receives the other organisations that may write, while no one else can change them. It
    /// may refuse the change.
    pub async fn grant_access(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        rules: &[Grant],
        access: GrantAccess,
        check: impl FnOnce(&[WritingOrganisation]) -> Result<(), String> + Send,
    ) -> Result<Vec<Grant>, StoreError> {
        for rule in rules {
            TextKind::Grant.check(&rule.value())?;
        }
        let may_write = access == GrantAccess::Write;
        let mut change = self.begin_change(actor).await?;
        let found = organisations::find(&mut change.change, &organisation.to_string()).await?;
        if may_write {
            let mut others = read_writing_organisations(&mut change.change).await?;
            others.retain(|other| other.id != organisation);
            check(&others).map_err(StoreError::Refused)?;
        }
        let mut added = Vec::new();
        for rule in rules {
            let values = values![
                organisation,
                rule.kind(),
                rule.value(),
                change.at,
                may_write
            ];
            let changed = change
                .change
                .execute(include_str!("../sql/grant_add.sql"), values)
                .await?;
            if changed > 0 {
                added.push(rule.clone());
            }
        }
        let row = change
            .change
            .row(
                include_str!("../sql/grants_count.sql"),
                values![organisation],
            )
            .await?;
        let count = row.map_or(Ok(0), |row| row.count("n"))?;
        if count > MAX_GRANTS {
            return Err(StoreError::Refused(format!(
                "organisation {:?} would have {count} grants, more than {MAX_GRANTS}; grant locations or types instead of assets",
                found.name
            )));
        }
        if !added.is_empty() {
            let details = json!({"added": added, "access": access});
            change
                .commit("org.grant", Some(organisation), &found.name, details)
                .await?;
        }
        Ok(added)
    }

    /// Removes rules. All of them must exist, or none is removed.
    pub async fn revoke_grants(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
    ) -> Result<(), StoreError> {
        let sql = include_str!("../sql/grant_remove.sql");
        self.remove_grants(actor, organisation, grants, sql, GrantAccess::Read)
            .await
    }

    /// Removes write access from grants, which then allow reading only. All of them must allow writing, or none is
    /// changed.
    pub async fn revoke_writing(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
    ) -> Result<(), StoreError> {
        let sql = include_str!("../sql/grant_read_only.sql");
        self.remove_grants(actor, organisation, grants, sql, GrantAccess::Write)
            .await
    }

    async fn remove_grants(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        grants: &[Grant],
        sql: &'static str,
        access: GrantAccess,
    ) -> Result<(), StoreError> {
        let mut change = self.begin_change(actor).await?;
        let found = organisations::find(&mut change.change, &organisation.to_string()).await?;
        for grant in grants {
            let values = values![organisation, grant.kind(), grant.value()];
            if change.change.execute(sql, values).await? == 0 {
                let what = match access {
                    GrantAccess::Read => "no grant of",
                    GrantAccess::Write => "no write grant of",
                };
                return Err(StoreError::Refused(format!(
                    "organisation {:?} has {what} {}; `plantlake org show` lists those it has",
                    found.name,
                    printable(&grant.to_string(), 600)
                )));
            }
        }
        let details = match access {
            GrantAccess::Read => json!({"removed": grants}),
            GrantAccess::Write => json!({"removed": grants, "access": access}),
        };
        change
            .commit("org.revoke", Some(organisation), &found.name, details)
            .await
    }
}

fn rule(kind: &str, value: &str) -> Result<Grant, StoreError> {
    Grant::parse(kind, value).map_err(|error| StoreError::damaged("value", &error))
}

async fn read_writing_organisations(
    database: &mut impl Executor,
) -> Result<Vec<WritingOrganisation>, StoreError> {
    let rows = database
        .rows(include_str!("../sql/grants_writing.sql"), values![])
        .await?;
    let mut writing: Vec<WritingOrganisation> = Vec::new();
    for row in rows {
        let id = OrganisationId(row.id("id")?);
        let (kind, value): (String, String) = (row.get("kind")?, row.get("value")?);
        let rule = rule(&kind, &value)?;
        match writing.last_mut().filter(|last| last.id == id) {
            Some(last) => last.rules.push(rule),
            None => writing.push(WritingOrganisation {
                id,
                name: row.get("name")?,
                rules: vec![rule],
            }),
        }
    }
    Ok(writing)
}
