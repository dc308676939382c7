//! A cell: the dates and assets that one pass of the operator computes.

use crate::model::{AssetId, Day, Window};

/// Consecutive dates and a range of assets that fit into memory together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cell {
    /// The first date, inclusive.
    pub first: Day,
    /// The last date, inclusive.
    pub last: Day,
    /// The first asset, inclusive; `None` is unbounded.
    pub from_asset: Option<AssetId>,
    /// The end of the range of assets, exclusive; `None` is unbounded.
    pub to_asset: Option<AssetId>,
}

impl Cell {
    /// Returns a cell with all assets on the dates `first..=last`.
    pub const fn days(first: Day, last: Day) -> Self {
        Self {
            first,
            last,
            from_asset: None,
            to_asset: None,
        }
    }

    /// Returns the time window of the cell.
    pub const fn window(&self) -> Window {
        Window::days(self.first, self.last)
    }

    /// Whether the cell contains this asset.
    pub fn has_asset(&self, asset: AssetId) -> bool {
        self.from_asset.is_none_or(|from| from <= asset)
            && self.to_asset.is_none_or(|to| asset < to)
    }

    /// Returns the number of dates.
    pub const fn dates(&self) -> usize {
        (self.last as i64 - self.first as i64 + 1) as usize
    }

    /// Splits a cell that does not fit into memory into two: by date while there is more than one, then by asset at
    /// `median_asset`. Returns `None` if it cannot be split.
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
