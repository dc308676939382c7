//! Which assets have readings in a file, and on which dates. By this a query opens no file for the sake of readings that its
//! caller may not see.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use futures::TryStreamExt;

use super::read::{Want, read};
use super::{FileFault, RawFile, RawFormat};
use crate::lake::Store;
use crate::model::{AssetId, DateSet, Day, Window, day_of};

/// The maximum number of assets of a file; of one with more, none are known.
const MAX_ASSETS: usize = 100_000;
/// The maximum number of ranges of dates while a file is read; beyond, each asset has one, from its first date to its last.
const MAX_RANGES_READ: usize = 1 << 18;
/// The maximum number of groups of a file, and of ranges of dates of all its groups; beyond, dates are given more roughly.
const MAX_GROUPS: usize = 64;
const MAX_RANGES: usize = 1_024;
/// Rows that are read at once.
const BATCH_ROWS: usize = 16_384;

/// Ranges of dates, each from its first to its last.
type Ranges<'a> = &'a [(Day, Day)];

/// Assets with readings on the same dates.
#[derive(Debug, Clone, PartialEq)]
pub struct AssetGroup {
    /// The assets, in order.
    pub assets: Arc<[AssetId]>,
    /// The dates; perhaps a few more.
    pub dates: DateSet,
    /// Whether any of them may have readings without a time.
    pub untimed: bool,
}

/// Which assets have readings in a file, and on which dates.
#[derive(Debug, Clone, PartialEq)]
pub struct FileContents {
    /// All assets of the file, each in one group.
    pub groups: Vec<AssetGroup>,
    /// Whether it has rows whose id is no asset's.
    pub has_other_ids: bool,
}

impl FileContents {
    /// The contents of a file of one asset.
    pub fn of_one(asset: AssetId, dates: DateSet, untimed: bool) -> Self {
        Self {
            groups: vec![AssetGroup {
                assets: Arc::new([asset]),
                dates,
                untimed,
            }],
            has_other_ids: false,
        }
    }

    /// The dates of all assets.
    pub fn dates(&self) -> DateSet {
        let mut dates = DateSet::default();
        for group in &self.groups {
            dates.extend(&group.dates);
        }
        dates
    }
}

/// Reads which assets a file has readings of, and when; none if they are too many.
pub async fn contents(
    raw: &Store,
    file: &RawFile,
    format: &RawFormat,
) -> Result<Option<FileContents>, FileFault> {
    let want = Want {
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
    /// The date that was added last.
    last: Option<Day>,
}

/// What a value of the dictionary of ids is.
#[derive(Debug, Clone, Copy)]
enum Id {
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
    /// Ranges of dates of all entries.
    ranges: usize,
    /// Whether gaps between dates are left out of account.
    is_rough: bool,
    has_too_many: bool,
}

impl ContentsBuilder {
    /// Adds readings in their canonical form: `id` (dictionary of text), `timestamp` (UTC microseconds), others.
    pub fn add(&mut self, readings: &RecordBatch) {
        let ids = readings.column(0).as_dictionary::<Int32Type>();
        let texts = ids.values().as_string::<i32>();
        let times = readings
            .column(1)
            .as_primitive::<TimestampMicrosecondType>();
        let mut seen = vec![Id::Unseen; texts.len()];
        for (row, key) in ids.keys().iter().enumerate() {
            if self.has_too_many {
                return;
            }
            let key = key.and_then(|key| usize::try_from(key).ok());
            let Some((key, id)) = key.and_then(|key| Some((key, seen.get_mut(key)?))) else {
                self.has_other_ids = true;
                continue;
            };
            if let Id::Unseen = id {
                let text = texts.is_valid(key).then(|| texts.value(key));
                *id = self.id(text);
            }
            let Id::Entry(index) = *id else {
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

    fn id(&mut self, text: Option<&str>) -> Id {
        let Some(asset) = text.and_then(|text| AssetId::parse(text).ok()) else {
            return Id::Other;
        };
        let next = self.entries.len();
        let index = *self.known.entry(asset).or_insert(next);
        if index == next {
            self.has_too_many |= next >= MAX_ASSETS;
            self.entries.push(Entry {
                asset,
                dates: DateSet::default(),
                untimed: false,
                last: None,
            });
        }
        Id::Entry(index)
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
        if self.is_rough {
            entry.dates = hull(&entry.dates);
            return;
        }
        self.ranges = (self.ranges + entry.dates.ranges().len()).saturating_sub(before);
        if self.ranges > MAX_RANGES_READ {
            self.is_rough = true;
            for entry in &mut self.entries {
                entry.dates = hull(&entry.dates);
            }
        }
    }

    /// The contents; none if there are too many assets.
    pub fn finish(mut self) -> Option<FileContents> {
        if self.has_too_many {
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

/// The dates without gaps.
fn hull(dates: &DateSet) -> DateSet {
    match dates.first().zip(dates.last()) {
        Some((first, last)) => DateSet::range(first, last),
        None => DateSet::default(),
    }
}

/// Entries with the same dates together.
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

    use super::super::canonical::canonical_schema;
    use super::*;
    use crate::model::MICROS_PER_DAY;

    fn asset(number: u32) -> AssetId {
        let mut bytes = [0; 16];
        bytes[12..].copy_from_slice(&number.to_be_bytes());
        AssetId::from_bytes(bytes)
    }

    /// The contents of readings of these assets, by number, on these days.
    fn of(readings: &[(Option<u32>, Option<Day>)]) -> Option<FileContents> {
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
        let found = of(&[
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
        assert!(of(&[(None, Some(1))]).unwrap().has_other_ids);
    }

    #[test]
    fn contents_with_too_many_gaps_are_rough_and_never_less() {
        // Two assets, each on two of four days.
        let rows: Vec<_> = (0..3_000_u16)
            .map(|day| (Some(u32::from(day % 4 / 2)), Some(Day::from(day))))
            .collect();
        let found = of(&rows).unwrap();
        assert_eq!(
            groups(&found),
            [(1, &[(0, 2_997)] as &[_], false), (1, &[(2, 2_999)], false)]
        );
    }

    #[test]
    fn contents_with_too_many_groups_have_one_for_all() {
        let rows: Vec<_> = (0..100).map(|day| (Some(day), Some(day as Day))).collect();
        let found = of(&rows).unwrap();
        assert_eq!(groups(&found), [(100, &[(0, 99)] as &[_], false)]);
    }
}
