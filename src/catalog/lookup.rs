//! Finds an asset by its id, its tag or its name, among the visible assets only.

use super::asset::Asset;
use super::names::{name, tag};
use super::snapshot::Snapshot;
use super::visible::VisibleAssets;
use crate::model::AssetId;

/// The maximum number of candidates that an error lists.
const MAX_CANDIDATES: usize = 5;
/// The maximum length of texts that are compared, in bytes. A comparison takes as many steps as the product of the
/// lengths.
const MAX_COMPARED_BYTES: usize = 100;
/// The maximum number of characters of the requested text that an error repeats.
const MAX_QUOTED_CHARS: usize = 80;
/// The minimum similarity of a suggestion, exclusive.
const MIN_SIMILARITY: f64 = 0.5;

/// The reason why no asset was found. Hidden assets are reported in the same way as missing ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AssetNotFound {
    /// No visible asset has this id, tag or name.
    #[error("no visible asset '{text}'; {}", suggestion(.nearest))]
    Unknown {
        /// The requested text.
        text: String,
        /// The most similar tag or name.
        nearest: Option<String>,
    },
    /// Several visible assets have it.
    #[error("'{text}' is the {what} of several assets: {}; use the id of one", list_candidates(.candidates, *.more))]
    Ambiguous {
        /// The requested text.
        text: String,
        /// The property that they share: `tag` or `name`.
        what: &'static str,
        /// The first candidates, each with its id.
        candidates: Vec<String>,
        /// The number of further candidates.
        more: usize,
    },
}

fn suggestion(nearest: &Option<String>) -> String {
    match nearest {
        Some(nearest) => format!("did you mean '{nearest}'?"),
        None => "use an id, a tag or a full name of the table assets".to_owned(),
    }
}

fn list_candidates(candidates: &[String], more: usize) -> String {
    let told = candidates.join(", ");
    match more {
        0 => told,
        more => format!("{told}, and {more} more"),
    }
}

impl Snapshot {
    /// Returns the visible asset that `text` identifies. A tag takes precedence over a name.
    pub fn find(&self, text: &str, visible: &VisibleAssets) -> Result<&Asset, AssetNotFound> {
        let text = text.trim();
        if let Ok(id) = AssetId::parse(text) {
            let asset = self.asset(id).filter(|asset| visible.contains(asset.id));
            return asset.ok_or_else(|| self.not_found(text, visible));
        }
        let names = self.names();
        for (what, list, of) in [
            ("tag", &names.by_tag, tag as fn(&Asset) -> Option<&str>),
            ("name", &names.by_name, name),
        ] {
            let mut found = self.assets_with_text(list, of, text, visible);
            let Some(first) = found.next() else {
                continue;
            };
            let others: Vec<&Asset> = found.collect();
            if others.is_empty() {
                return Ok(first);
            }
            let all = [first].into_iter().chain(others.iter().copied());
            let candidates = all.take(MAX_CANDIDATES);
            return Err(AssetNotFound::Ambiguous {
                text: truncate(text),
                what,
                candidates: candidates
                    .map(|asset| format!("{} ({})", asset.id, truncate(&asset.name)))
                    .collect(),
                more: (others.len() + 1).saturating_sub(MAX_CANDIDATES),
            });
        }
        Err(self.not_found(text, visible))
    }

    /// Returns the visible assets of a sorted list that have this text, in the plant's order.
    fn assets_with_text<'s>(
        &'s self,
        list: &'s [usize],
        of: fn(&Asset) -> Option<&str>,
        text: &str,
        visible: &VisibleAssets,
    ) -> impl Iterator<Item = &'s Asset> {
        let assets = &self.catalog().assets;
        let text_at = move |at: usize| assets.get(at).and_then(of);
        let start = list.partition_point(|at| text_at(*at) < Some(text));
        let rest = list.get(start..).unwrap_or_default().iter();
        rest.take_while(move |at| text_at(**at) == Some(text))
            .filter_map(|at| assets.get(*at))
            .filter(|asset| visible.contains(asset.id))
    }

    fn not_found(&self, text: &str, visible: &VisibleAssets) -> AssetNotFound {
        AssetNotFound::Unknown {
            text: truncate(text),
            nearest: self.most_similar(text, visible).map(str::to_owned),
        }
    }

    /// Returns the tag or name of a visible asset that is most similar to `text`, regardless of case; of several, the
    /// first in the plant's order.
    fn most_similar(&self, text: &str, visible: &VisibleAssets) -> Option<&str> {
        if text.len() > MAX_COMPARED_BYTES {
            return None;
        }
        let wanted = text.to_lowercase();
        let assets = self.catalog().assets.iter();
        let seen = assets.filter(|asset| visible.contains(asset.id));
        let texts = seen.flat_map(|asset| tag(asset).into_iter().chain(name(asset)));
        let mut nearest = None;
        let mut best = MIN_SIMILARITY;
        for known in texts {
            let longer = known.len().max(text.len());
            // If one text is more than twice as long, less than half can be the same.
            if longer > MAX_COMPARED_BYTES || longer > 2 * known.len().min(text.len()) {
                continue;
            }
            let alike = strsim::normalized_levenshtein(&known.to_lowercase(), &wanted);
            if alike > best {
                (nearest, best) = (Some(known), alike);
            }
        }
        nearest
    }
}

fn truncate(text: &str) -> String {
    match text.char_indices().nth(MAX_QUOTED_CHARS) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::asset::Specifications;
    use crate::catalog::content::Catalog;

    fn plant(assets: &[(u8, &str, Option<&str>)]) -> Snapshot {
        let assets = assets.iter().map(|(id, name, tag)| Asset {
            id: AssetId::from_bytes([*id; 16]),
            name: (*name).to_owned(),
            kind: "pump".to_owned(),
            location: "Works".to_owned(),
            specifications: Specifications {
                tag: tag.map(str::to_owned),
                ..Specifications::default()
            },
        });
        Snapshot::from_catalog(Catalog {
            assets: assets.collect(),
            ..Catalog::default()
        })
    }

    fn only(ids: &[u8]) -> VisibleAssets {
        VisibleAssets::Only(
            ids.iter()
                .map(|id| AssetId::from_bytes([*id; 16]))
                .collect(),
        )
    }

    fn found(plant: &Snapshot, text: &str, visible: &VisibleAssets) -> Result<u8, String> {
        let found = plant.find(text, visible);
        let found = found.map(|asset| asset.id.as_bytes()[0]);
        found.map_err(|error| error.to_string())
    }

    #[test]
    fn find_accepts_id_tag_and_name() {
        let plant = plant(&[
            (1, "R-101 reactor", Some("R-101")),
            (2, "Unit 100", None),
            (3, "R-101", Some("R-102")),
        ]);
        let id = AssetId::from_bytes([2; 16]).to_string();
        for (text, expected) in [
            (id.as_str(), 2),
            (id.to_uppercase().as_str(), 2),
            (" R-101 ", 1),
            ("R-101 reactor", 1),
            ("Unit 100", 2),
            ("R-102", 3),
        ] {
            assert_eq!(
                found(&plant, text, &VisibleAssets::All),
                Ok(expected),
                "{text}"
            );
        }
        // The asset with this tag is hidden, so the name is unique.
        assert_eq!(found(&plant, "R-101", &only(&[2, 3])), Ok(3));
    }

    #[test]
    fn find_reports_hidden_assets_like_missing_ones() {
        let plant = plant(&[
            (1, "R-101 reactor", Some("R-101")),
            (2, "R-202 reactor", Some("R-202")),
        ]);
        let visible = only(&[2]);
        let hidden = AssetId::from_bytes([1; 16]).to_string();
        let missing = AssetId::from_bytes([9; 16]).to_string();
        for (hidden, missing) in [
            (hidden.as_str(), missing.as_str()),
            ("R-101", "R-107"),
            ("R-101 reactor", "R-107 reactor"),
        ] {
            let [one, other] =
                [hidden, missing].map(|text| found(&plant, text, &visible).unwrap_err());
            assert_eq!(one.replace(hidden, missing), other);
        }
        assert_eq!(
            found(&plant, "R-20", &visible).unwrap_err(),
            "no visible asset 'R-20'; did you mean 'R-202'?"
        );
        let error = found(&plant, "r-202", &visible).unwrap_err();
        assert!(error.ends_with("did you mean 'R-202'?"), "{error}");
        let long = found(&plant, &"R-202".repeat(1_000), &visible).unwrap_err();
        assert!(
            long.len() < 250 && long.contains("the table assets"),
            "{long}"
        );
        assert!(
            found(&plant, "", &only(&[]))
                .unwrap_err()
                .contains("no visible asset ''")
        );
    }

    #[test]
    fn find_with_an_ambiguous_text_lists_candidates() {
        let assets: Vec<_> = (1..=7).map(|id| (id, "pump", Some("P-1"))).collect();
        let plant = plant(&assets);
        let error = found(&plant, "P-1", &VisibleAssets::All).unwrap_err();
        assert!(
            error.contains("is the tag of several assets: 01010101-"),
            "{error}"
        );
        assert!(error.contains(", and 2 more; use the id"), "{error}");
        let error = found(&plant, "pump", &only(&[3, 5])).unwrap_err();
        assert!(error.contains("is the name of several"), "{error}");
        assert!(
            error.contains("05050505-") && !error.contains("01010101-"),
            "{error}"
        );
        assert_eq!(found(&plant, "P-1", &only(&[4])), Ok(4));
    }
}
