//! The assets of the current catalog that each organisation may see and write to, resolved once for each change of the
//! catalog or the grants.

use std::sync::Arc;

use quick_cache::sync::Cache;

use crate::auth::Principal;
use crate::catalog::{Snapshot, VisibleAssets};
use crate::model::{Grant, OrganisationId};

/// The approximate number of cached organisations.
const MAX_CACHED_ORGANISATIONS: usize = 1_000;

/// A cache of the assets that organisations may see and write to.
#[derive(Debug)]
pub(in crate::server) struct TenantAssets {
    visible: ResolvedGrants,
    /// Has only organisations that send readings.
    writable: ResolvedGrants,
}

impl Default for TenantAssets {
    fn default() -> Self {
        Self {
            visible: ResolvedGrants::new(),
            writable: ResolvedGrants::new(),
        }
    }
}

impl TenantAssets {
    /// Returns the assets that `principal` may see; the same value for as long as neither the grants nor the catalog
    /// change.
    pub fn visible(&self, principal: &Principal, catalog: &Snapshot) -> Arc<VisibleAssets> {
        let organisation = principal.organisation_id;
        self.visible
            .resolve(organisation, &principal.grants, catalog)
    }

    /// Returns the assets that `principal` may send readings for; the same value for as long as neither the grants nor the
    /// catalog change.
    pub fn writable(&self, principal: &Principal, catalog: &Snapshot) -> Arc<VisibleAssets> {
        let organisation = principal.organisation_id;
        self.writable
            .resolve(organisation, &principal.write_grants, catalog)
    }
}

/// The assets that the grants of each organisation select.
#[derive(Debug)]
struct ResolvedGrants(Cache<OrganisationId, Arc<CachedAssets>>);

#[derive(Debug)]
struct CachedAssets {
    grants: Vec<Grant>,
    catalog: u64,
    assets: Arc<VisibleAssets>,
}

impl ResolvedGrants {
    fn new() -> Self {
        Self(Cache::new(MAX_CACHED_ORGANISATIONS))
    }

    fn resolve(
        &self,
        organisation: OrganisationId,
        grants: &[Grant],
        catalog: &Snapshot,
    ) -> Arc<VisibleAssets> {
        let known = self.0.get(&organisation);
        if let Some(known) = known
            && known.catalog == catalog.version()
            && known.grants == grants
        {
            return Arc::clone(&known.assets);
        }
        let assets = Arc::new(VisibleAssets::resolve(&catalog.catalog().assets, grants));
        let resolved = CachedAssets {
            grants: grants.to_vec(),
            catalog: catalog.version(),
            assets: Arc::clone(&assets),
        };
        self.0.insert(organisation, Arc::new(resolved));
        assets
    }
}
