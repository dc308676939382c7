//! What each organisation may see of the catalog in force, and write to, worked out once for each change of either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Principal;
use crate::catalog::{Snapshot, Visible};
use crate::model::{Grant, OrganisationId};

/// Organisations that are remembered at most.
const MOST: usize = 1_000;

/// What organisations may see.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    known: Mutex<HashMap<OrganisationId, Known>>,
}

#[derive(Debug)]
struct Known {
    grants: Vec<Grant>,
    catalog: u64,
    visible: Arc<Visible>,
    /// What may be written to, and the rules that it follows from. Only organisations that send readings have it.
    writable: Option<(Vec<Grant>, Arc<Visible>)>,
}

impl Tenants {
    /// What `principal` may see; the same value for as long as neither the grants nor the catalog change.
    pub fn visible(&self, principal: &Principal, catalog: &Snapshot) -> Arc<Visible> {
        let is_current =
            |known: &&Known| known.catalog == catalog.version() && known.grants == principal.grants;
        let organisation = principal.organisation_id;
        if let Some(known) = self.locked().get(&organisation).filter(is_current) {
            return Arc::clone(&known.visible);
        }
        let assets = &catalog.catalog().assets;
        let visible = Arc::new(Visible::resolve(assets, &principal.grants));
        let mut known = self.locked();
        if known.len() >= MOST && !known.contains_key(&organisation) {
            known.clear();
        }
        known.insert(
            organisation,
            Known {
                grants: principal.grants.clone(),
                catalog: catalog.version(),
                visible: Arc::clone(&visible),
                writable: None,
            },
        );
        visible
    }

    /// The assets that `principal` may send readings for; the same value for as long as neither the grants nor the catalog
    /// change.
    pub fn writable(&self, principal: &Principal, catalog: &Snapshot) -> Arc<Visible> {
        // So that what is remembered is of this catalog and these grants.
        self.visible(principal, catalog);
        let organisation = principal.organisation_id;
        let rules = &principal.write_grants;
        if let Some(known) = self.locked().get(&organisation)
            && let Some((of, writable)) = &known.writable
            && of == rules
            && known.catalog == catalog.version()
        {
            return Arc::clone(writable);
        }
        let writable = Arc::new(Visible::resolve(&catalog.catalog().assets, rules));
        if let Some(known) = self.locked().get_mut(&organisation)
            && known.catalog == catalog.version()
        {
            known.writable = Some((rules.clone(), Arc::clone(&writable)));
        }
        writable
    }

    fn locked(&self) -> std::sync::MutexGuard<'_, HashMap<OrganisationId, Known>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
