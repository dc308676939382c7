//! The organisations of the demo: the owner of the plant, and a contractor who may see one of its units. Each has a
//! user, and a key that is valid while the demo runs.

use std::collections::BTreeSet;

use chrono::TimeDelta;

use crate::auth::{AdminCommand, AdminOutcome, Administrator, AuthError, Passwords};
use crate::catalog::{Snapshot, VisibleAssets};
use crate::clock;
use crate::config::DatabaseUrl;
use crate::model::{AssetId, Grant, OrganisationId, Role};
use crate::store::{Actor, NewOrganisation, OrganisationStore, Profile, StoreError, User};

/// The names of the organisation that sees everything, and of its user.
const OWNER: (&str, &str) = ("Demo Works", "history@works.example");
/// The names of the organisation that sees one unit, and of its user.
const CONTRACTOR: (&str, &str) = ("Demo Contractor", "history@contractor.example");
/// The name of the users and of their keys.
const DEMO_NAME: &str = "plantlake demo";
/// The catalog's type of a process unit.
const UNIT_TYPE: &str = "process unit";

/// An error of creating the organisations of the demo.
#[derive(Debug, thiserror::Error)]
pub enum AccountsError {
    /// The organisation database failed or refused a change.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A user or a key cannot be created.
    #[error(transparent)]
    Auth(#[from] AuthError),
    /// An order returned the outcome of another kind of order.
    #[error("no key was created; this is a bug in plantlake, please report it")]
    NoKey,
}

/// An organisation of the demo, with a key of its user. It does not implement `Debug`, because the key is secret.
pub struct Tenant {
    /// The organisation's name.
    pub organisation: String,
    /// The e-mail address of the user.
    pub user: String,
    /// The grants that determine which assets the organisation sees.
    pub grants: Vec<Grant>,
    /// The complete key, with its secret.
    pub key: String,
    /// The public id of the key.
    key_id: String,
    /// The assets that the grants allow.
    visible: VisibleAssets,
}

impl Tenant {
    /// Returns the assets of the catalog that the organisation may see.
    pub fn assets(&self, catalog: &Snapshot) -> BTreeSet<AssetId> {
        let all = catalog.catalog().assets.iter().map(|asset| asset.id);
        all.filter(|id| self.visible.contains(*id)).collect()
    }
}

/// Creates the missing organisations and users, and a new key for each. Revokes the keys of an earlier demo that was
/// killed.
pub async fn open(
    database: &DatabaseUrl,
    actor: Actor,
    catalog: &Snapshot,
) -> Result<Vec<Tenant>, AccountsError> {
    let (store, _) = OrganisationStore::open(database).await?;
    let units = catalog.catalog().assets.iter();
    let mut units = units.filter(|asset| asset.kind == UNIT_TYPE);
    // The second unit if there are several, because the examples query the first.
    let (first, second) = (units.next(), units.next());
    let unit = second.or(first);
    let unit = unit.map(|unit| Grant::Location(unit.location.clone()));
    let mut tenants = Vec::new();
    for ((organisation, user), grant) in [(OWNER, Some(Grant::All)), (CONTRACTOR, unit)] {
        let id = find_or_create_organisation(&store, &actor, organisation).await?;
        store.grant(&actor, id, grant.as_slice()).await?;
        let grants = store.grants(id).await?;
        let administrator =
            Administrator::operator(store.clone(), Passwords::new()?, actor.clone());
        create_missing_user(&store, &administrator, organisation, user).await?;
        revoke_former_keys(&store, &actor, id).await?;
        let order = AdminCommand::CreateKey {
            user: user.to_owned(),
            name: DEMO_NAME.to_owned(),
            // The key expires even if the demo is killed before it revokes the key.
            expires_at: Some(clock::now() + TimeDelta::days(1)),
            may_ingest: false,
        };
        let AdminOutcome::MadeKey { made, text } = administrator.run(order).await? else {
            return Err(AccountsError::NoKey);
        };
        tenants.push(Tenant {
            organisation: organisation.to_owned(),
            user: user.to_owned(),
            visible: VisibleAssets::resolve(&catalog.catalog().assets, &grants),
            grants,
            key: text,
            key_id: made.id,
        });
    }
    Ok(tenants)
}

/// Revokes the keys.
pub async fn close(
    database: &DatabaseUrl,
    actor: &Actor,
    tenants: &[Tenant],
) -> Result<(), AccountsError> {
    let (store, _) = OrganisationStore::open(database).await?;
    for tenant in tenants {
        store.revoke_key(actor, &tenant.key_id).await?;
    }
    Ok(())
}

async fn find_or_create_organisation(
    store: &OrganisationStore,
    actor: &Actor,
    name: &str,
) -> Result<OrganisationId, StoreError> {
    let known = store.organisations().await?;
    if let Some(known) = known.into_iter().find(|known| known.name == name) {
        return Ok(known.id);
    }
    let new = NewOrganisation {
        name: name.to_owned(),
        profile: Profile::default(),
        user_limit: 5,
    };
    Ok(store.create_organisation(actor, new).await?.id)
}

async fn create_missing_user(
    store: &OrganisationStore,
    administrator: &Administrator,
    organisation: &str,
    email: &str,
) -> Result<(), AccountsError> {
    let users = store.users(None).await?;
    let is_there = |user: &User| user.email == email && user.organisation == organisation;
    if users.iter().any(is_there) {
        return Ok(());
    }
    let order = AdminCommand::CreateUser {
        organisation: Some(organisation.to_owned()),
        email: email.to_owned(),
        name: DEMO_NAME.to_owned(),
        // A service user has keys only: there is no password to choose or to guess.
        role: Role::Service,
        password: None,
        may_ingest: false,
    };
    administrator.run(order).await?;
    Ok(())
}

async fn revoke_former_keys(
    store: &OrganisationStore,
    actor: &Actor,
    organisation: OrganisationId,
) -> Result<(), StoreError> {
    for key in store.keys(Some(organisation), None).await? {
        if key.name == DEMO_NAME && key.revoked_at.is_none() {
            store.revoke_key(actor, &key.id).await?;
        }
    }
    Ok(())
}
