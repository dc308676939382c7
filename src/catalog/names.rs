//! The assets of a catalog by their tags and names.

use super::asset::Asset;

/// The indices of the assets in the list, sorted by tag and by name.
#[derive(Debug)]
pub(super) struct NameIndex {
    pub by_tag: Vec<usize>,
    pub by_name: Vec<usize>,
}

impl NameIndex {
    pub fn new(assets: &[Asset]) -> Self {
        let sorted = |text: fn(&Asset) -> Option<&str>| {
            let with_text = assets.iter().enumerate();
            let mut with_text: Vec<_> = with_text
                .filter_map(|(at, asset)| Some((text(asset)?, at)))
                .collect();
            with_text.sort_unstable();
            with_text.into_iter().map(|(_, at)| at).collect()
        };
        Self {
            by_tag: sorted(tag),
            by_name: sorted(name),
        }
    }
}

/// Returns the tag of an asset.
pub(super) fn tag(asset: &Asset) -> Option<&str> {
    asset.specifications.tag.as_deref()
}

/// Returns the name of an asset.
pub(super) fn name(asset: &Asset) -> Option<&str> {
    Some(&asset.name)
}
