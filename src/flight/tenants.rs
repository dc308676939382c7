//! The assets of the current catalog that each organisation may see and write to, resolved once for each change of the
//! catalog or the grants.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::auth::Principal;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::model::{Grant, OrganisationId};

/// The maximum number of cached organisations.
const MAX_CACHED_ORGANISATIONS: usize = 1_000;

/// A cache of the assets that organisations may see and write to.
#[derive(Debug, Default)]
pub(super) struct TenantAssets {
    known: Mutex<HashMap<OrganisationId, CachedAssets>>,
}

#[derive(Debug)]
struct CachedAssets {
    grants: Vec<Grant>,
    catalog: u64,
    visible: Arc<VisibleAssets>,
    /// The assets that may be written to, and the grants that they follow from. Set only for organisations that send
    /// readings.
    writable: Option<(Vec<Grant>, Arc<VisibleAssets>)>,
}

impl TenantAssets {
    /// Returns the assets that `principal` may see; the same value for as long as neither the grants nor the catalog
    /// change.
    pub fn visible(&self, principal: &Principal, catalog: &Snapshot) -> Arc<VisibleAssets> {
        let is_current = |known: &&CachedAssets| {
            known.catalog == catalog.version() && known.grants == principal.grants
        };
        let organisation = principal.organisation_id;
        if let Some(known) = self.lock().get(&organisation).filter(is_current) {
            return Arc::clone(&known.visible);
        }
        let assets = &catalog.catalog().assets;
        let visible = Arc::new(VisibleAssets::resolve(assets, &principal.grants));
        let mut known = self.lock();
        if known.len() >= MAX_CACHED_ORGANISATIONS && !known.contains_key(&organisation) {
            known.clear();
        }
        known.insert(
            organisation,
            CachedAssets {
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
    pub fn writable(&self, principal: &Principal, catalog: &Snapshot) -> Arc<VisibleAssets> {
        // Ensures that the cached entry is for this catalog and these grants.
        self.visible(principal, catalog);
        let organisation = principal.organisation_id;
        let rules = &principal.write_grants;
        if let Some(known) = self.lock().get(&organisation)
            && let Some((of, writable)) = &known.writable
            && of == rules
            && known.catalog == catalog.version()
        {
            return Arc::clone(writable);
        }
        let writable = Arc::new(VisibleAssets::resolve(&catalog.catalog().assets, rules));
        if let Some(known) = self.lock().get_mut(&organisation)
            && known.catalog == catalog.version()
        {
            known.writable = Some((rules.clone(), Arc::clone(&writable)));
        }
        writable
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<OrganisationId, CachedAssets>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
