//! From the minutes of many files to one ordered sequence for each asset, and from there to output batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Float64Array, Float64Builder, Int32Array, Int64Array, RecordBatch,
    StringArray, TimestampMicrosecondArray, UInt8Array, UInt32Array,
};
use arrow::datatypes::Int32Type;
use arrow::error::ArrowError;

use super::contested::ContestedMinutes;
use super::intake::FileMinutes;
use super::schema;
use super::series::MICROS_PER_MINUTE;
use super::summary::{MinuteRow, Summary};
use crate::model::{AssetId, Day, Resolution};

/// At most this many rows go into one output file; a larger date is written as several, by ranges of assets.
pub const ROWS_PER_PART: usize = 2 << 20;
/// At most this many rows are in one output batch.
const ROWS_PER_BATCH: usize = 256 << 10;
const MINUTES_PER_DAY: i32 = 1_440;
const MINUTES_PER_HOUR: i32 = 60;

/// Each asset's minutes, in order of asset and time, each minute once.
#[derive(Debug, Default)]
pub struct Assembled {
    assets: Vec<(AssetId, Vec<MinuteRow>)>,
}

/// One output file: one date, consecutive assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The date.
    pub day: Day,
    from: usize,
    to: usize,
}

/// Finds what is contested between the files of a cell, and within them.
pub fn find_contested(files: &[&FileMinutes]) -> ContestedMinutes {
    let mut contested = ContestedMinutes::default();
    let mut claims: HashMap<AssetId, Vec<&[MinuteRow]>> = HashMap::new();
    for file in files {
        for (asset, minutes) in &file.assets {
            for &minute in &minutes.contested {
                contested.insert(*asset, minute);
            }
            claims.entry(*asset).or_default().push(&minutes.rows);
        }
    }
    for (asset, mut runs) in claims {
        runs.retain(|rows| !rows.is_empty());
        runs.sort_by_key(|rows| rows[0].minute);
        let ordered = runs
            .iter()
            .all(|rows| rows.is_sorted_by(|a, b| a.minute < b.minute))
            && runs
                .windows(2)
                .all(|pair| pair[0][pair[0].len() - 1].minute < pair[1][0].minute);
        if ordered {
            continue;
        }
        let mut minutes: Vec<i32> = runs
            .iter()
            .flat_map(|rows| rows.iter().map(|row| row.minute))
            .collect();
        minutes.sort_unstable();
        for pair in minutes.windows(2).filter(|pair| pair[0] == pair[1]) {
            contested.insert(asset, pair[0]);
        }
    }
    contested
}

impl Assembled {
    /// Puts the files' minutes together; those in `contested` are taken from `decided` instead.
    pub fn new(
        files: Vec<FileMinutes>,
        contested: &ContestedMinutes,
        decided: HashMap<AssetId, Vec<MinuteRow>>,
    ) -> Self {
        let mut assets: BTreeMap<AssetId, Vec<Vec<MinuteRow>>> = BTreeMap::new();
        for file in files {
            for (asset, minutes) in file.assets {
                let mut rows = minutes.rows;
                if let Some(contested) = contested.of(asset) {
                    rows.retain(|row| !contested.contains(&row.minute));
                }
                assets.entry(asset).or_default().push(rows);
            }
        }
        for (asset, rows) in decided {
            assets.entry(asset).or_default().push(rows);
        }
        let assets = assets.into_iter().map(|(asset, mut runs)| {
            runs.retain(|rows| !rows.is_empty());
            let mut rows = if runs.len() == 1 {
                runs.swap_remove(0)
            } else {
                runs.concat()
            };
            if !rows.is_sorted_by(|a, b| a.minute < b.minute) {
                rows.sort_by_key(|row| row.minute);
            }
            (asset, rows)
        });
        Self {
            assets: assets.filter(|(_, rows)| !rows.is_empty()).collect(),
        }
    }

    /// How many minute rows there are.
    pub fn minutes(&self) -> usize {
        self.assets.iter().map(|(_, rows)| rows.len()).sum()
    }

    /// How many readings they were made of, each time once.
    pub fn readings(&self) -> u64 {
        self.assets
            .iter()
            .flat_map(|(_, rows)| rows)
            .map(MinuteRow::count)
            .sum()
    }

    /// The output files, by date and asset.
    pub fn parts(&self) -> Vec<Part> {
        let mut rows_by_day: BTreeMap<Day, Vec<(usize, usize)>> = BTreeMap::new();
        for (index, (_, rows)) in self.assets.iter().enumerate() {
            for chunk in rows.chunk_by(|a, b| day_of_minute(a.minute) == day_of_minute(b.minute)) {
                rows_by_day
                    .entry(day_of_minute(chunk[0].minute))
                    .or_default()
                    .push((index, chunk.len()));
            }
        }
        let mut parts = Vec::new();
        for (day, assets) in rows_by_day {
            let mut rows = 0;
            let mut part: Option<Part> = None;
            for (index, len) in assets {
                match part.as_mut() {
                    Some(part) if rows + len <= ROWS_PER_PART => part.to = index + 1,
                    _ => {
                        parts.extend(part.take());
                        part = Some(Part {
                            day,
                            from: index,
                            to: index + 1,
                        });
                        rows = 0;
                    }
                }
                rows += len;
            }
            parts.extend(part);
        }
        parts
    }

    /// The batches of one part: minutes, then its hours, then its days.
    pub fn batches(&self, number: u32, part: Part) -> Batches<'_> {
        Batches {
            all: self,
            number,
            part,
            next: part.from,
            hours: Columns::default(),
            days: Columns::default(),
            stage: 0,
        }
    }
}

const fn day_of_minute(minute: i32) -> Day {
    minute.div_euclid(MINUTES_PER_DAY)
}

/// The batches of one part, made one at a time.
#[derive(Debug)]
pub struct Batches<'a> {
    all: &'a Assembled,
    number: u32,
    part: Part,
    next: usize,
    hours: Columns,
    days: Columns,
    stage: u8,
}

impl Batches<'_> {
    /// The next minute batch; fills the hours and days on the way.
    fn minutes(&mut self) -> Result<Option<RecordBatch>, ArrowError> {
        let mut columns = Columns::default();
        let start = self.part.day * MINUTES_PER_DAY;
        while self.next < self.part.to && columns.times.len() < ROWS_PER_BATCH {
            let (asset, rows) = &self.all.assets[self.next];
            let from = rows.partition_point(|row| row.minute < start);
            let to =
                from + rows[from..].partition_point(|row| row.minute < start + MINUTES_PER_DAY);
            self.next += 1;
            let rows = &rows[from..to];
            if rows.is_empty() {
                continue;
            }
            columns.begin(*asset);
            for row in rows {
                columns.push(row.minute, row.summary());
            }
            self.hours.begin(*asset);
            self.days.begin(*asset);
            let hours: Vec<(i32, Summary)> = rows
                .chunk_by(|a, b| {
                    a.minute.div_euclid(MINUTES_PER_HOUR) == b.minute.div_euclid(MINUTES_PER_HOUR)
                })
                .filter_map(|hour| {
                    let start = hour[0].minute - hour[0].minute.rem_euclid(MINUTES_PER_HOUR);
                    Summary::combine(hour.iter().map(MinuteRow::summary))
                        .map(|summary| (start, summary))
                })
                .collect();
            for &(minute, summary) in &hours {
                self.hours.push(minute, summary);
            }
            if let Some(day) = Summary::combine(hours.iter().map(|hour| hour.1)) {
                self.days.push(start, day);
            }
        }
        (!columns.times.is_empty())
            .then(|| columns.batch(self.number, Resolution::Minute))
            .transpose()
    }
}

impl Iterator for Batches<'_> {
    type Item = Result<RecordBatch, ArrowError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.stage == 0 {
            if let Some(batch) = self.minutes().transpose() {
                return Some(batch);
            }
            self.stage = 1;
        }
        let (columns, resolution) = match self.stage {
            1 => (std::mem::take(&mut self.hours), Resolution::Hour),
            2 => (std::mem::take(&mut self.days), Resolution::Day),
            _ => return None,
        };
        self.stage += 1;
        if columns.times.is_empty() {
            return None;
        }
        Some(columns.batch(self.number, resolution))
    }
}

/// Rollup columns under construction.
#[derive(Debug, Default)]
struct Columns {
    assets: Vec<String>,
    keys: Vec<i32>,
    times: Vec<i64>,
    values: Vec<f64>,
    counts: Vec<i64>,
    mins: Vec<f64>,
    maxs: Vec<f64>,
    firsts: Vec<f64>,
    lasts: Vec<f64>,
    stddevs: Float64Builder,
}

impl Columns {
    fn begin(&mut self, asset: AssetId) {
        self.assets.push(asset.to_string());
    }

    fn push(&mut self, minute: i32, summary: Summary) {
        self.keys.push(self.assets.len() as i32 - 1);
        self.times.push(i64::from(minute) * MICROS_PER_MINUTE);
        self.values.push(summary.mean());
        self.counts.push(summary.count as i64);
        self.mins.push(summary.min);
        self.maxs.push(summary.max);
        self.firsts.push(summary.first);
        self.lasts.push(summary.last);
        self.stddevs.append_option(summary.stddev());
    }

    fn batch(mut self, part: u32, resolution: Resolution) -> Result<RecordBatch, ArrowError> {
        let rows = self.times.len();
        let doubles = |values: Vec<f64>| Arc::new(Float64Array::from(values)) as ArrayRef;
        let assets = DictionaryArray::<Int32Type>::try_new(
            Int32Array::from(self.keys),
            Arc::new(StringArray::from(self.assets)),
        )?;
        RecordBatch::try_new(
            Arc::clone(&schema::OUTPUT),
            vec![
                Arc::new(UInt32Array::from(vec![part; rows])),
                Arc::new(UInt8Array::from(vec![resolution as u8; rows])),
                Arc::new(assets),
                Arc::new(TimestampMicrosecondArray::from(self.times).with_timezone("UTC")),
                doubles(self.values),
                Arc::new(Int64Array::from(self.counts)),
                doubles(self.mins),
                doubles(self.maxs),
                doubles(self.firsts),
                doubles(self.lasts),
                Arc::new(self.stddevs.finish()),
            ],
        )
    }
}
