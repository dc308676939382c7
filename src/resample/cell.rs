//! The piece of the plane of dates and assets that one pass works on.

use crate::model::{AssetId, Day, Window};

/// Consecutive dates, and a range of assets: what fits into memory at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// First date, inclusive.
    pub first: Day,
    /// Last date, inclusive.
    pub last: Day,
    /// The least asset inside; none: from the beginning.
    pub from_asset: Option<AssetId>,
    /// The least asset after; none: to the end.
    pub to_asset: Option<AssetId>,
}

impl Cell {
    /// All assets on the dates `first..=last`.
    pub const fn days(first: Day, last: Day) -> Self {
        Self {
            first,
            last,
            from_asset: None,
            to_asset: None,
        }
    }

    /// The time that the cell covers.
    pub const fn window(&self) -> Window {
        Window::days(self.first, self.last)
    }

    /// Whether the cell has this asset.
    pub fn has_asset(&self, asset: AssetId) -> bool {
        self.from_asset.is_none_or(|from| from <= asset)
            && self.to_asset.is_none_or(|to| asset < to)
    }

    /// How many dates the cell covers.
    pub const fn dates(&self) -> usize {
        (self.last as i64 - self.first as i64 + 1) as usize
    }

    /// The earlier part and the rest, for when the whole does not fit into memory: by dates while there is
    /// more than one, then by assets, at `median_asset`. None if it cannot be cut.
    pub fn split(&self, median_asset: Option<AssetId>) -> Option<(Self, Self)> {
        if self.last > self.first {
            let middle = self.first + (self.last - self.first) / 2;
            return Some((
                Self {
                    last: middle,
                    ..*self
                },
                Self {
                    first: middle + 1,
                    ..*self
                },
            ));
        }
        let middle = median_asset?;
        let inside = self.from_asset.is_none_or(|from| from < middle)
            && self.to_asset.is_none_or(|to| middle < to);
        inside.then_some((
            Self {
                to_asset: Some(middle),
                ..*self
            },
            Self {
                from_asset: Some(middle),
                ..*self
            },
        ))
    }
}
