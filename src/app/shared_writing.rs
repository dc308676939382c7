//! Finds organisations that may write to the same assets. If both send a reading of one asset and instant, the later
//! file decides, so each can change the other's averages.

use crate::catalog::{Asset, VisibleAssets};
use crate::model::Grant;
use crate::store::WritingOrganisation;

/// The assets that an organisation shares with another that may write to them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedWriting {
    /// The other organisation's name.
    pub with: String,
    /// The number of assets of the catalog that both may write to; `None` if the catalog cannot be read.
    pub assets: Option<usize>,
    /// The name of one of them.
    pub example: Option<String>,
}

impl SharedWriting {
    /// Returns what `rules` and those of `other` both allow to write to, if anything. Without a catalog, rules of
    /// different kinds count as if they had assets in common.
    pub fn find(
        rules: &[Grant],
        other: &WritingOrganisation,
        assets: Option<&[Asset]>,
    ) -> Option<Self> {
        let of_rules = |is_shared: fn(&Grant, &Grant) -> bool| {
            let mut pairs =
                (rules.iter()).flat_map(|one| other.rules.iter().map(move |it| (one, it)));
            pairs.any(|(one, it)| is_shared(one, it))
        };
        let with = other.name.clone();
        let Some(assets) = assets else {
            return of_rules(|one, it| one.overlaps(it) || one.kind() != it.kind()).then_some(
                Self {
                    with,
                    assets: None,
                    example: None,
                },
            );
        };
        let (one, it) = (
            VisibleAssets::resolve(assets, rules),
            VisibleAssets::resolve(assets, &other.rules),
        );
        let mut shared = assets
            .iter()
            .filter(|asset| one.contains(asset.id) && it.contains(asset.id));
        let example = shared.next().map(|asset| asset.name.clone());
        let count = usize::from(example.is_some()) + shared.count();
        (count > 0 || of_rules(Grant::overlaps)).then_some(Self {
            with,
            assets: Some(count),
            example,
        })
    }
}

impl std::fmt::Display for SharedWriting {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?}", self.with)?;
        match (self.assets, &self.example) {
            (Some(1), Some(name)) => write!(f, " (1 asset: {name})"),
            (Some(count), Some(name)) => write!(f, " ({count} assets, such as {name})"),
            (Some(_), None) => f.write_str(" (assets that the catalog does not have yet)"),
            (None, _) => f.write_str(" (unknown assets, because the catalog cannot be read)"),
        }
    }
}

/// Returns the warning about an organisation whose users may send readings, but which has no write grant.
pub fn no_write_grant_warning(organisation: &str) -> String {
    format!(
        "{organisation:?} has users who may send readings, but no write grant: their readings are refused; \
         `plantlake org grant {organisation:?} … --write` allows writing"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Specifications;
    use crate::model::{AssetId, OrganisationId};

    fn asset(id: u8, kind: &str, location: &str) -> Asset {
        Asset {
            id: AssetId::from_bytes([id; 16]),
            name: format!("asset {id}"),
            kind: kind.to_owned(),
            location: location.to_owned(),
            specifications: Specifications::default(),
        }
    }

    fn rule(kind: &str, value: &str) -> Grant {
        Grant::parse(kind, value).unwrap()
    }

    #[test]
    fn find_rules_that_overlap_returns_shared_assets() {
        let assets = [
            asset(1, "pump", "Works / Unit 1"),
            asset(2, "tank", "Works / Unit 2"),
        ];
        let other = WritingOrganisation {
            id: OrganisationId(uuid::Uuid::nil()),
            name: "North".to_owned(),
            rules: vec![rule("type", "pump")],
        };
        let find = |rules: Grant, assets| SharedWriting::find(&[rules], &other, assets);
        let found = find(rule("location", "Works / Unit 1"), Some(&assets[..])).unwrap();
        assert_eq!(
            (found.assets, found.example),
            (Some(1), Some("asset 1".to_owned()))
        );
        assert_eq!(
            find(rule("location", "Works / Unit 2"), Some(&assets[..])),
            None
        );
        assert_eq!(find(rule("type", "tank"), Some(&assets[..])), None);
        // Equal rules overlap in the assets that are added later.
        let found = find(rule("type", "pump"), Some(&[])).unwrap();
        assert_eq!(found.assets, Some(0));
        assert!(find(rule("location", "Works / Unit 2"), None).is_some());
        assert_eq!(find(rule("type", "tank"), None), None);
        assert!(find(Grant::All, None).is_some());
    }
}
