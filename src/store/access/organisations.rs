//! Organisations: their profile, their user limit, and whether they are active.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::json;

use super::actor::Actor;
use crate::clock::new_id;
use crate::model::{OrganisationId, TextKind};
use crate::store::backend::database::{Executor, Row, values};
use crate::store::error::{StoreError, UserAddresses};
use crate::store::organisation_store::OrganisationStore;

/// The maximum user limit of an organisation.
const MAX_USER_LIMIT: i64 = 100_000;

/// Contact and billing details.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Profile {
    /// A person or a department.
    pub contact: String,
    /// The postal address.
    pub address: String,
    /// The address for invoices.
    pub billing_email: String,
}

impl Profile {
    fn check(&self) -> Result<(), StoreError> {
        TextKind::Contact.check(&self.contact)?;
        TextKind::PostalAddress.check(&self.address)?;
        Ok(TextKind::Email.check(&self.billing_email)?)
    }
}

/// An organisation to be created.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewOrganisation {
    /// The name; names must differ in more than case.
    pub name: String,
    /// Contact and billing details.
    pub profile: Profile,
    /// The maximum number of users.
    pub user_limit: i64,
}

/// An organisation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Organisation {
    /// Its id.
    pub id: OrganisationId,
    /// Its name.
    pub name: String,
    /// Contact and billing details.
    #[serde(flatten)]
    pub profile: Profile,
    /// The maximum number of users.
    pub user_limit: i64,
    /// The number of users, including deactivated ones.
    pub users: i64,
    /// Whether its users and keys have access.
    pub active: bool,
    /// The time of creation.
    pub created_at: DateTime<Utc>,
    /// The time of the last change.
    pub updated_at: DateTime<Utc>,
}

impl Organisation {
    fn from_row(row: &Row) -> Result<Self, StoreError> {
        Ok(Self {
            id: OrganisationId(row.id("id")?),
            name: row.get("name")?,
            profile: Profile {
                contact: row.get("contact")?,
                address: row.get("address")?,
                billing_email: row.get("billing_email")?,
            },
            user_limit: row.get("user_limit")?,
            users: row.get("users")?,
            active: row.get("active")?,
            created_at: row.time("created_at")?,
            updated_at: row.time("updated_at")?,
        })
    }
}

impl OrganisationStore {
    /// Returns all organisations, by name.
    pub async fn organisations(&self) -> Result<Vec<Organisation>, StoreError> {
        let rows = (&self.database)
            .rows(include_str!("../sql/organisations.sql"), values![])
            .await?;
        rows.iter().map(Organisation::from_row).collect()
    }

    /// Returns the organisation with this name, in any case, or with this id.
    pub async fn organisation(&self, name_or_id: &str) -> Result<Organisation, StoreError> {
        find(&mut &self.database, name_or_id).await
    }

    /// Creates an organisation. It sees nothing until something is granted.
    pub async fn create_organisation(
        &self,
        actor: &Actor,
        new: NewOrganisation,
    ) -> Result<Organisation, StoreError> {
        let name = new.name.trim().to_owned();
        TextKind::OrganisationName.check(&name)?;
        new.profile.check()?;
        if name.is_empty() {
            return Err(StoreError::Refused(
                "the name of an organisation must not be empty".to_owned(),
            ));
        }
        if name.parse::<OrganisationId>().is_ok() {
            return Err(StoreError::Refused(format!(
                "invalid organisation name {name:?}: it has the format of an id"
            )));
        }
        check_limit(new.user_limit)?;
        let id = OrganisationId(new_id());
        let mut change = self.begin_change(actor).await?;
        let profile = &new.profile;
        let values = values![
            id,
            &name,
            name.to_lowercase(),
            &profile.contact,
            &profile.address,
            &profile.billing_email,
            new.user_limit,
            change.at,
        ];
        let added = change
            .change
            .execute(include_str!("../sql/organisation_add.sql"), values)
            .await;
        match added {
            Err(error) if error.is_duplicate() => {
                return Err(StoreError::AlreadyExists {
                    what: "an organisation",
                    name,
                });
            }
            added => added?,
        };
        let details = json!({"user_limit": new.user_limit, "profile": new.profile});
        change
            .commit("org.create", Some(id), &name, details)
            .await?;
        self.organisation(&id.to_string()).await
    }

    /// Changes the maximum number of users.
    pub async fn set_user_limit(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        limit: i64,
    ) -> Result<Organisation, StoreError> {
        check_limit(limit)?;
        let mut change = self.begin_change(actor).await?;
        let before = find(&mut change.change, &organisation.to_string()).await?;
        if limit < before.users {
            let holders = users_towards_limit(&mut change.change, organisation).await?;
            return Err(StoreError::LimitTooLow {
                organisation: before.name,
                limit,
                taken: holders.0.len(),
                holders,
            });
        }
        let values = values![organisation, limit, change.at];
        change
            .change
            .execute(include_str!("../sql/organisation_set_limit.sql"), values)
            .await?;
        let details = json!({"from": before.user_limit, "to": limit});
        change
            .commit("org.set-limit", Some(organisation), &before.name, details)
            .await?;
        self.organisation(&organisation.to_string()).await
    }

    /// Activates or deactivates an organisation: all its users and keys get access again, or lose it. Returns whether
    /// that was a change.
    pub async fn set_organisation_active(
        &self,
        actor: &Actor,
        organisation: OrganisationId,
        active: bool,
    ) -> Result<bool, StoreError> {
        let mut change = self.begin_change(actor).await?;
        let before = find(&mut change.change, &organisation.to_string()).await?;
        if before.active == active {
            return Ok(false);
        }
        let values = values![organisation, active, change.at];
        change
            .change
            .execute(include_str!("../sql/organisation_set_active.sql"), values)
            .await?;
        let action = if active {
            "org.activate"
        } else {
            "org.deactivate"
        };
        change
            .commit(action, Some(organisation), &before.name, json!({}))
            .await?;
        Ok(true)
    }
}

fn check_limit(limit: i64) -> Result<(), StoreError> {
    if !(0..=MAX_USER_LIMIT).contains(&limit) {
        return Err(StoreError::Refused(format!(
            "the user limit must be between 0 and {MAX_USER_LIMIT}, not {limit}"
        )));
    }
    Ok(())
}

/// Returns the organisation with this name or id.
pub(in crate::store) async fn find(
    database: &mut impl Executor,
    name_or_id: &str,
) -> Result<Organisation, StoreError> {
    TextKind::OrganisationName.check(name_or_id)?;
    let id = name_or_id.trim().parse::<OrganisationId>().ok();
    let values = values![id, name_or_id.trim().to_lowercase()];
    match database
        .row(include_str!("../sql/organisation.sql"), values)
        .await?
    {
        Some(row) => Organisation::from_row(&row),
        None => Err(StoreError::NotFound {
            what: "organisation",
            name: name_or_id.to_owned(),
            command: "org list",
        }),
    }
}

/// Returns the users who count towards the limit of an organisation.
pub(in crate::store) async fn users_towards_limit(
    database: &mut impl Executor,
    organisation: OrganisationId,
) -> Result<UserAddresses, StoreError> {
    let rows = database
        .rows(include_str!("../sql/holders.sql"), values![organisation])
        .await?;
    let holder = |row: &Row| -> Result<String, StoreError> {
        let email: String = row.get("email")?;
        let active: bool = row.get("active")?;
        Ok(if active {
            email
        } else {
            format!("{email} (deactivated)")
        })
    };
    rows.iter()
        .map(holder)
        .collect::<Result<_, _>>()
        .map(UserAddresses)
}
