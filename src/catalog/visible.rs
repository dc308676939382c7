//! The assets of a catalog that a set of grants allows: resolved once, and then looked up by id.

use std::collections::{HashMap, HashSet};

use super::asset::Asset;
use crate::model::{AssetId, Grant};

/// The visible assets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum VisibleAssets {
    /// All assets, including readings of assets that the catalog does not know.
    All,
    /// These assets, sorted by id.
    Only(Vec<AssetId>),
}

impl VisibleAssets {
    /// Resolves grants against a catalog. The result agrees with [`Grant::allows`] for each asset, but the time for an
    /// asset does not grow with the number of grants, except for those of locations that end in `*`.
    pub fn resolve(assets: &[Asset], grants: &[Grant]) -> Self {
        if grants.contains(&Grant::All) {
            return Self::All;
        }
        let mut ids = HashSet::new();
        let mut types = HashSet::new();
        let mut places = LocationSet::default();
        for grant in grants {
            match grant {
                Grant::All => {}
                Grant::Location(prefix) => places.add(prefix),
                Grant::Type(kind) => {
                    types.insert(kind.as_str());
                }
                Grant::Asset(id) => {
                    ids.insert(*id);
                }
            }
        }
        // Many assets are at the same location.
        let mut known: HashMap<&str, bool> = HashMap::new();
        let allowed = assets.iter().filter(|asset| {
            ids.contains(&asset.id)
                || types.contains(asset.kind.as_str())
                || !places.is_empty()
                    && *known
                        .entry(&asset.location)
                        .or_insert_with(|| places.contains(&asset.location))
        });
        let mut allowed: Vec<AssetId> = allowed.map(|asset| asset.id).collect();
        allowed.sort_unstable();
        Self::Only(allowed)
    }

    /// Whether this asset is visible.
    pub fn contains(&self, id: AssetId) -> bool {
        match self {
            Self::All => true,
            Self::Only(ids) => ids.binary_search(&id).is_ok(),
        }
    }
}

/// Granted locations, with everything inside them.
#[derive(Default)]
struct LocationSet {
    /// Whole locations, such as `Works/Unit 100`: their parts without the blanks around them.
    locations: HashSet<String>,
    /// Prefixes of the text of a location.
    prefixes: Vec<String>,
}

impl LocationSet {
    fn add(&mut self, prefix: &str) {
        match prefix.strip_suffix('*') {
            Some(start) => self.prefixes.push(start.to_owned()),
            None => {
                let parts: Vec<&str> = Grant::location_parts(prefix).collect();
                self.locations.insert(parts.join("/"));
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.locations.is_empty() && self.prefixes.is_empty()
    }

    fn contains(&self, location: &str) -> bool {
        if self
            .prefixes
            .iter()
            .any(|start| location.starts_with(start))
        {
            return true;
        }
        let mut place = String::with_capacity(location.len());
        Grant::location_parts(location).any(|part| {
            if !place.is_empty() {
                place.push('/');
            }
            place.push_str(part);
            self.locations.contains(&place)
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::catalog::asset::Specifications;

    fn asset(id: u8, kind: &str, location: &str) -> Asset {
        Asset {
            id: AssetId::from_bytes([id; 16]),
            name: "name".to_owned(),
            kind: kind.to_owned(),
            location: location.to_owned(),
            specifications: Specifications::default(),
        }
    }

    fn location() -> impl Strategy<Value = String> {
        prop_oneof![
            prop::collection::vec("[ab]{0,2}", 0..4).prop_map(|parts| parts.join("/")),
            prop::collection::vec("[ab]{0,2}", 0..4).prop_map(|parts| parts.join(" / ")),
        ]
    }

    fn grant() -> impl Strategy<Value = Grant> {
        prop_oneof![
            1 => Just(Grant::All),
            5 => (location(), any::<bool>()).prop_filter_map("names a place", |(text, star)| {
                Grant::parse("location", &format!("{text}{}", if star { "*" } else { "" })).ok()
            }),
            5 => "[pq]".prop_map(Grant::Type),
            5 => (0u8..20).prop_map(|id| Grant::Asset(AssetId::from_bytes([id; 16]))),
        ]
    }

    proptest! {
        #[test]
        fn resolve_agrees_with_each_grant_for_each_asset(
            places in prop::collection::vec((location(), "[pqr]"), 0..20),
            grants in prop::collection::vec(grant(), 0..5),
        ) {
            let assets: Vec<Asset> = places
                .iter()
                .enumerate()
                .map(|(id, (location, kind))| asset(id as u8, kind, location))
                .collect();
            let visible = VisibleAssets::resolve(&assets, &grants);
            for asset in &assets {
                let expected = grants
                    .iter()
                    .any(|grant| grant.allows(asset.id, &asset.kind, &asset.location));
                prop_assert_eq!(visible.contains(asset.id), expected, "{:?}", asset);
            }
        }
    }

    #[test]
    fn resolve_without_grants_allows_nothing_and_with_all_everything() {
        let assets = [asset(1, "pump", "Works")];
        assert_eq!(
            VisibleAssets::resolve(&assets, &[]),
            VisibleAssets::Only(Vec::new())
        );
        assert!(
            VisibleAssets::resolve(&assets, &[Grant::All]).contains(AssetId::from_bytes([9; 16]))
        );
    }
}
