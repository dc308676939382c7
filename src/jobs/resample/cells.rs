//! Divides the dates to compute into cells whose minute rows fit into memory. Pure: no I/O.
//!
//! A raw file is read once for each block of dates that it touches, so blocks should be long. A cell of a long block
//! fits into memory because it covers only a range of assets. But each range adds a file to every date, and hours wait
//! until the last range of their month is done, so there are few ranges.

use std::collections::{BTreeMap, VecDeque};

use super::ledger::KnownFile;
use crate::model::{AssetId, DateSet, Day};
use crate::rollup::Cell;

/// The maximum number of asset ranges. The hours and days of as many cells wait in memory.
const MAX_RANGES: usize = 8;
/// The minimum mean number of rows in each file of a date that is divided by asset.
pub const MIN_ROWS_PER_FILE: usize = 65_536;
/// The minimum share of rows whose asset is known before they are read; below it, dates are not divided by asset.
const MIN_KNOWN_SHARE: f64 = 0.8;

/// A range of assets, from inclusive to exclusive; `None` is unbounded.
type AssetRange = (Option<AssetId>, Option<AssetId>);

/// An iterator over cells of consecutive dates and ranges of assets. They cover each date and asset once.
#[derive(Debug)]
pub struct Cells {
    queue: VecDeque<Cell>,
    remaining: DateSet,
    rows_by_date: BTreeMap<Day, f64>,
    /// The ratio of actual to expected rows, updated from finished cells.
    ratio: f64,
    capacity: f64,
    ranges: Vec<AssetRange>,
}

impl Cells {
    /// Creates cells over `dirty` with at most `capacity` minute rows each, estimated from `files`. A date's files
    /// should have at least `rows_per_file` rows.
    pub fn new<'a>(
        dirty: &DateSet,
        files: impl Iterator<Item = &'a KnownFile>,
        capacity: usize,
        rows_per_file: usize,
    ) -> Self {
        let mut rows_by_date = BTreeMap::new();
        let mut rows_by_asset = BTreeMap::new();
        for file in files {
            let each = file.minutes as f64 / file.dates.len().max(1) as f64;
            let dates = file.dates.intersection(dirty);
            for day in dates.iter() {
                *rows_by_date.entry(day).or_insert(0.0) += each;
            }
            if let Some(asset) = file.asset {
                *rows_by_asset.entry(asset).or_insert(0.0) += each * dates.len() as f64;
            }
        }
        let capacity = capacity.max(1) as f64;
        Self {
            queue: VecDeque::new(),
            remaining: dirty.clone(),
            ranges: asset_ranges(&rows_by_date, &rows_by_asset, capacity, rows_per_file),
            rows_by_date,
            ratio: 1.0,
            capacity,
        }
    }

    /// Updates the ratio from a finished cell.
    pub fn update_ratio(&mut self, cell: &Cell, minutes: usize) {
        let expected: f64 = self
            .rows_by_date
            .range(cell.first..=cell.last)
            .map(|(_, rows)| rows)
            .sum::<f64>()
            / self.ranges.len() as f64;
        let regular = self.ranges.contains(&(cell.from_asset, cell.to_asset));
        if regular && expected > 0.0 && minutes > 0 {
            self.ratio = (minutes as f64 / expected * 1.15).clamp(0.001, 1.0);
        }
    }

    /// Queues the two parts of a cell that did not fit, before all other cells.
    pub fn requeue(&mut self, parts: (Cell, Cell)) {
        self.queue.push_front(parts.1);
        self.queue.push_front(parts.0);
    }

    /// Whether a cell that has not been computed touches the dates `first..=last`.
    pub fn has_pending(&self, first: Day, last: Day) -> bool {
        self.queue
            .iter()
            .any(|cell| cell.first <= last && cell.last >= first)
            || self.remaining.intersects(&DateSet::range(first, last))
    }
}

/// Returns as many asset ranges as are useful, with about equal numbers of rows.
fn asset_ranges(
    rows_by_date: &BTreeMap<Day, f64>,
    rows_by_asset: &BTreeMap<AssetId, f64>,
    capacity: f64,
    rows_per_file: usize,
) -> Vec<AssetRange> {
    let all = vec![(None, None)];
    let total: f64 = rows_by_date.values().sum();
    let known: f64 = rows_by_asset.values().sum();
    if total <= capacity || known < total * MIN_KNOWN_SHARE {
        return all;
    }
    let rows_of_a_date = total / rows_by_date.len().max(1) as f64;
    let wanted = ((total / capacity).ceil() as usize)
        .min(rows_of_a_date as usize / rows_per_file.max(1))
        .clamp(1, MAX_RANGES);
    let mut borders = Vec::new();
    let mut sum = 0.0;
    for (&asset, &rows) in rows_by_asset {
        // A new range starts at an asset if more than half of its rows lie beyond the current range's share.
        let share = known * (borders.len() + 1) as f64 / wanted as f64;
        if borders.len() + 1 < wanted && sum > 0.0 && sum + rows / 2.0 > share {
            borders.push(asset);
        }
        sum += rows;
    }
    let from = std::iter::once(None).chain(borders.iter().copied().map(Some));
    let to = borders.iter().copied().map(Some).chain([None]);
    from.zip(to).collect()
}

impl Iterator for Cells {
    type Item = Cell;

    fn next(&mut self) -> Option<Cell> {
        if let Some(cell) = self.queue.pop_front() {
            return Some(cell);
        }
        let &(first, last) = self.remaining.ranges().first()?;
        let rows = |day: Day| {
            self.rows_by_date
                .get(&day)
                .map_or(0.0, |rows| rows * self.ratio)
        };
        // Blocks of equal size need less memory than full blocks followed by a small one.
        let total: f64 = (first..=last).map(rows).sum();
        let capacity = self.capacity * self.ranges.len() as f64;
        let share = total / (total / capacity).ceil().max(1.0);
        let (mut end, mut sum) = (first, rows(first));
        while end < last && sum + rows(end + 1) <= share * 1.000_001 {
            end += 1;
            sum += rows(end);
        }
        self.remaining = self.remaining.difference(&DateSet::range(first, end));
        let cells = self.ranges.iter().map(|&(from_asset, to_asset)| Cell {
            from_asset,
            to_asset,
            ..Cell::days(first, end)
        });
        self.queue.extend(cells);
        self.queue.pop_front()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(asset: Option<u8>, first: Day, last: Day) -> KnownFile {
        let dates = DateSet::range(first, last);
        KnownFile {
            minutes: 1_440 * dates.len() as u64,
            asset: asset.map(id),
            due: dates.clone(),
            dates,
            ..KnownFile::default()
        }
    }

    fn id(number: u8) -> AssetId {
        AssetId::from_bytes([number; 16])
    }

    #[test]
    fn cells_cover_each_date_once_and_fit() {
        let files = [file(None, 0, 115)];
        let dirty = DateSet::range(0, 115);
        let cells: Vec<_> =
            Cells::new(&dirty, files.iter(), 1_440 * 60, MIN_ROWS_PER_FILE).collect();
        assert_eq!(cells, [Cell::days(0, 57), Cell::days(58, 115)]);
        let tiny: Vec<_> = Cells::new(&dirty, files.iter(), 1, MIN_ROWS_PER_FILE).collect();
        assert_eq!(tiny.len(), 116);
    }

    #[test]
    fn cells_with_many_assets_are_divided_by_asset_first() {
        let files: Vec<_> = (0..200).map(|number| file(Some(number), 0, 9)).collect();
        let dirty = DateSet::range(0, 9);
        let total = 200 * 10 * 1_440;
        let cells: Vec<_> =
            Cells::new(&dirty, files.iter(), total / 2 + 1, MIN_ROWS_PER_FILE).collect();
        let half = Cell {
            to_asset: Some(id(100)),
            ..Cell::days(0, 9)
        };
        let rest = Cell {
            from_asset: Some(id(100)),
            ..Cell::days(0, 9)
        };
        assert_eq!(cells, [half, rest]);
        // There are no more ranges than files of sufficient size; the rest is divided by date.
        let cells: Vec<_> =
            Cells::new(&dirty, files.iter(), total / 16 + 1, MIN_ROWS_PER_FILE).collect();
        assert_eq!(cells.iter().filter(|cell| cell.first == 0).count(), 4);
        assert_eq!(cells.iter().map(Cell::dates).sum::<usize>(), 40);
    }

    #[test]
    fn cells_with_unknown_assets_are_divided_by_date() {
        let files: Vec<_> = (0..200)
            .map(|number| file((number % 2 == 0).then_some(number), 0, 9))
            .collect();
        let dirty = DateSet::range(0, 9);
        let cells = Cells::new(&dirty, files.iter(), 200 * 5 * 1_440 + 1, 1);
        assert!(
            cells
                .into_iter()
                .all(|cell| cell.from_asset.is_none() && cell.to_asset.is_none())
        );
    }
}
