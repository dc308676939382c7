//! The assets that have readings in a file, and the dates of those readings. With them a query skips files that contain
//! only readings which its caller may not see.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use futures::TryStreamExt;

use super::error::RawFileError;
use super::format::RawFormat;
use super::raw_file::RawFile;
use super::read::{ReadRequest, read};
use crate::lake::storage::store::Store;
use crate::model::{AssetId, DateSet, Day, Window, day_of};

/// The maximum number of assets of a file. Nothing is recorded for a file with more.
const MAX_ASSETS: usize = 100_000;
/// The maximum number of date ranges while a file is read. Beyond it, each asset has one range from its first to its
/// last date.
const MAX_RANGES_READ: usize = 1 << 18;
/// The maximum number of groups of a file. Beyond it, or beyond `MAX_RANGES` date ranges in all groups, dates are less
/// precise.
const MAX_GROUPS: usize = 64;
const MAX_RANGES: usize = 1_024;
/// The number of rows in a batch.
const BATCH_ROWS: usize = 16_384;

/// Ranges of dates, first and last inclusive.
type Ranges<'a> = &'a [(Day, Day)];

/// Assets that have readings on the same dates.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetGroup {
    /// The assets, sorted.
    pub assets: Arc<[AssetId]>,
    /// The dates, and possibly a few more.
    pub dates: DateSet,
    /// Whether any of the assets may have readings without a plausible time.
    pub untimed: bool,
}

/// The assets that have readings in a file, and the dates of those readings.
#[derive(Debug, Clone, PartialEq)]
pub struct FileContents {
    /// The assets of the file, each in exactly one group.
    pub groups: Vec<AssetGroup>,
    /// Whether the file has rows whose id is not an asset id.
    pub has_other_ids: bool,
}

impl FileContents {
    /// Returns the contents of a file with readings of one asset only.
    pub fn from_asset(asset: AssetId, dates: DateSet, untimed: bool) -> Self {
        Self {
            groups: vec![AssetGroup {
                assets: Arc::new([asset]),
                dates,
                untimed,
            }],
            has_other_ids: false,
        }
    }

    /// Returns the dates of all assets together.
    pub fn dates(&self) -> DateSet {
        let mut dates = DateSet::default();
        for group in &self.groups {
            dates.extend(&group.dates);
        }
        dates
    }
}

/// Reads the assets of a file and the dates of their readings. Returns `None` if there are too many assets.
pub async fn read_contents(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
) -> Result<Option<FileContents>, RawFileError> {
    let want = ReadRequest {
        window: Window::ALL,
        untimed: true,
        batch_rows: BATCH_ROWS,
    };
    let mut batches = read(raw, file, format, &want).await?;
    let mut contents = ContentsBuilder::default();
    while let Some(batch) = batches.try_next().await? {
        contents.add(&batch);
    }
    Ok(contents.finish())
}

/// The readings of one asset.
#[derive(Debug)]
struct Entry {
    asset: AssetId,
    dates: DateSet,
    untimed: bool,
    /// The date of the asset's previous reading.
    last: Option<Day>,
}

/// The meaning of a value in the dictionary of ids.
#[derive(Debug, Clone, Copy)]
enum DictionaryEntry {
    Unseen,
    Entry(usize),
    Other,
}

/// Collects the contents of a file from its readings.
#[derive(Debug, Default)]
pub struct ContentsBuilder {
    known: HashMap<AssetId, usize>,
    entries: Vec<Entry>,
    has_other_ids: bool,
    /// The number of date ranges of all entries together.
    ranges: usize,
    /// Whether the gaps between an asset's dates are ignored.
    is_coarse: bool,
    has_too_many_assets: bool,
}

impl ContentsBuilder {
    /// Adds readings in canonical form: `id` (dictionary of text), `timestamp` (UTC microseconds), and further columns.
    pub fn add(&mut self, readings: &RecordBatch) {
        let ids = readings.column(0).as_dictionary::<Int32Type>();
        let texts = ids.values().as_string::<i32>();
        let times = readings
            .column(1)
            .as_primitive::<TimestampMicrosecondType>();
        let mut seen = vec![DictionaryEntry::Unseen; texts.len()];
        for (row, key) in ids.keys().iter().enumerate() {
            if self.has_too_many_assets {
                return;
            }
            let key = key.and_then(|key| usize::try_from(key).ok());
            let Some((key, id)) = key.and_then(|key| Some((key, seen.get_mut(key)?))) else {
                self.has_other_ids = true;
                continue;
            };
            if let DictionaryEntry::Unseen = id {
                let text = texts.is_valid(key).then(|| texts.value(key));
                *id = self.resolve_id(text);
            }
            let DictionaryEntry::Entry(index) = *id else {
                self.has_other_ids = true;
                continue;
            };
            let time = times.is_valid(row).then(|| times.value(row));
            if let Some(entry) = self.entries.get_mut(index) {
                entry.untimed |= time.is_none_or(|time| !Window::ALL.contains(time));
            }
            if let Some(time) = time {
                self.add_day(index, day_of(time));
            }
        }
    }

    fn resolve_id(&mut self, text: Option<&str>) -> DictionaryEntry {
        let Some(asset) = text.and_then(|text| AssetId::parse(text).ok()) else {
            return DictionaryEntry::Other;
        };
        let next = self.entries.len();
        let index = *self.known.entry(asset).or_insert(next);
        if index == next {
            self.has_too_many_assets |= next >= MAX_ASSETS;
            self.entries.push(Entry {
                asset,
                dates: DateSet::default(),
                untimed: false,
                last: None,
            });
        }
        DictionaryEntry::Entry(index)
    }

    fn add_day(&mut self, index: usize, day: Day) {
        let Some(entry) = self.entries.get_mut(index) else {
            return;
        };
        if entry.last == Some(day) {
            return;
        }
        entry.last = Some(day);
        let before = entry.dates.ranges().len();
        entry.dates.insert(day);
        if self.is_coarse {
            entry.dates = hull(&entry.dates);
            return;
        }
        self.ranges = (self.ranges + entry.dates.ranges().len()).saturating_sub(before);
        if self.ranges > MAX_RANGES_READ {
            self.is_coarse = true;
            for entry in &mut self.entries {
                entry.dates = hull(&entry.dates);
            }
        }
    }

    /// Returns the contents, or `None` if there are too many assets.
    pub fn finish(mut self) -> Option<FileContents> {
        if self.has_too_many_assets {
            return None;
        }
        let mut groups = grouped(&self.entries);
        if is_too_large(&groups) {
            for entry in &mut self.entries {
                entry.dates = hull(&entry.dates);
            }
            groups = grouped(&self.entries);
        }
        if is_too_large(&groups) {
            let mut all = DateSet::default();
            for entry in &self.entries {
                all.extend(&entry.dates);
            }
            let (all, untimed) = (hull(&all), self.entries.iter().any(|entry| entry.untimed));
            for entry in &mut self.entries {
                (entry.dates, entry.untimed) = (all.clone(), untimed);
            }
            groups = grouped(&self.entries);
        }
        Some(FileContents {
            groups,
            has_other_ids: self.has_other_ids,
        })
    }
}

/// Returns the range from the first to the last date.
fn hull(dates: &DateSet) -> DateSet {
    match dates.first().zip(dates.last()) {
        Some((first, last)) => DateSet::range(first, last),
        None => DateSet::default(),
    }
}

/// Groups the entries that have the same dates.
fn grouped(entries: &[Entry]) -> Vec<AssetGroup> {
    let mut groups: BTreeMap<(Ranges<'_>, bool), Vec<AssetId>> = BTreeMap::new();
    for entry in entries {
        let group = groups.entry((entry.dates.ranges(), entry.untimed));
        group.or_default().push(entry.asset);
    }
    let groups = groups.into_iter().map(|((ranges, untimed), mut assets)| {
        assets.sort_unstable();
        let mut dates = DateSet::default();
        for &(first, last) in ranges {
            dates.insert_range(first, last);
        }
        AssetGroup {
            assets: assets.into(),
            dates,
            untimed,
        }
    });
    groups.collect()
}

fn is_too_large(groups: &[AssetGroup]) -> bool {
    let ranges: usize = groups.iter().map(|group| group.dates.ranges().len()).sum();
    groups.len() > MAX_GROUPS || ranges > MAX_RANGES
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, StringArray, TimestampMicrosecondArray};
    use arrow::compute::cast;

    use super::*;
    use crate::lake::raw::canonical::canonical_schema;
    use crate::model::MICROS_PER_DAY;

    fn asset(number: u32) -> AssetId {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        AssetId::from_bytes(bytes)
    }

    /// Returns the contents of readings given as pairs of asset number and day.
    fn collect_contents(readings: &[(Option<u32>, Option<Day>)]) -> Option<FileContents> {
        let ids = readings
            .iter()
            .map(|(id, _)| id.map(|id| asset(id).to_string()));
        let ids: ArrayRef = Arc::new(ids.collect::<StringArray>());
        let days = readings.iter().map(|(_, day)| day);
        let times = days.map(|day| day.map(|day| i64::from(day) * MICROS_PER_DAY + 7));
        let times: ArrayRef = Arc::new(times.collect::<TimestampMicrosecondArray>());
        let schema = canonical_schema();
        let columns = [ids, Arc::clone(&times), times];
        let columns = columns.iter().zip(schema.fields());
        let columns = columns.map(|(column, field)| match field.name().as_str() {
            "value" => arrow::array::new_null_array(field.data_type(), column.len()),
            _ => cast(column, field.data_type()).unwrap(),
        });
        let batch = RecordBatch::try_new(Arc::clone(&schema), columns.collect()).unwrap();
        let mut builder = ContentsBuilder::default();
        builder.add(&batch);
        builder.finish()
    }

    fn groups(contents: &FileContents) -> Vec<(usize, Ranges<'_>, bool)> {
        let groups = contents.groups.iter();
        groups
            .map(|group| (group.assets.len(), group.dates.ranges(), group.untimed))
            .collect()
    }

    #[test]
    fn contents_have_the_dates_of_each_asset() {
        let found = collect_contents(&[
            (Some(1), Some(10)),
            (Some(2), Some(10)),
            (Some(3), Some(12)),
            (Some(3), None),
            (Some(1), Some(11)),
            (Some(2), Some(11)),
        ])
        .unwrap();
        let expected: Vec<(usize, Ranges<'_>, bool)> =
            vec![(2, &[(10, 11)], false), (1, &[(12, 12)], true)];
        assert_eq!(groups(&found), expected);
        assert_eq!(&*found.groups[0].assets, &[asset(1), asset(2)]);
        assert!(!found.has_other_ids);
        assert_eq!(found.dates().ranges(), &[(10, 12)]);
        assert!(collect_contents(&[(None, Some(1))]).unwrap().has_other_ids);
    }

    #[test]
    fn contents_with_too_many_gaps_cover_all_dates() {
        // Two assets; each has readings on two of every four days.
        let rows: Vec<_> = (0..3_000_u16)
            .map(|day| (Some(u32::from(day % 4 / 2)), Some(Day::from(day))))
            .collect();
        let found = collect_contents(&rows).unwrap();
        assert_eq!(
            groups(&found),
            [(1, &[(0, 2_997)] as &[_], false), (1, &[(2, 2_999)], false)]
        );
    }

    #[test]
    fn contents_with_too_many_groups_have_one_group() {
        let rows: Vec<_> = (0..100).map(|day| (Some(day), Some(day as Day))).collect();
        let found = collect_contents(&rows).unwrap();
        assert_eq!(groups(&found), [(100, &[(0, 99)] as &[_], false)]);
    }
}
