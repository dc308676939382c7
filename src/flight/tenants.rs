//! The assets of the current catalog that each organisation may see and write to, resolved once for each change of the
//! catalog or the grants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Principal;
use crate::catalog::{Snapshot, Visible};
use crate::model::{Grant, OrganisationId};

/// The maximum number of cached organisations.
const MOST: usize = 1_000;

/// A cache of the assets that organisations may see and write to.
#[derive(Debug, Default)]
pub(super) struct Tenants {
    known: Mutex<HashMap<OrganisationId, Known>>,
}

#[derive(Debug)]
struct Known {
    grants: Vec<Grant>,
    catalog: u64,
    visible: Arc<Visible>,
    /// The assets that may be written to, and the grants that they follow from. Set only for organisations that send
    /// readings.
    writable: Option<(Vec<Grant>, Arc<Visible>)>,
}

impl Tenants {
    /// Returns the assets that `principal` may see; the same value for as long as neither the grants nor the catalog
    /// change.
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

    /// Returns the assets that `principal` may send readings for; the same value for as long as neither the grants nor the
    /// catalog change.
    pub fn writable(&self, principal: &Principal, catalog: &Snapshot) -> Arc<Visible> {
        // Ensures that the cached entry is for this catalog and these grants.
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
