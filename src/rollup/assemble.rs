//! Assembles the minutes of many files into one ordered sequence per asset, and creates the output batches.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arrow::array::{
    ArrayRef, DictionaryArray, Int32Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    UInt8Array, UInt32Array,
};
use arrow::datatypes::{Int32Type, SchemaRef};
use arrow::error::ArrowError;

use super::column_values::ColumnValues;
use super::conflicting::ConflictingMinutes;
use super::file_reducer::FileMinutes;
use super::schema;
use super::series::{MICROS_PER_MINUTE, MINUTES_PER_DAY, Minutes};
use super::summary::{MinuteRow, Summary, append_quantity};
use crate::model::{AssetId, Day, Resolution};
use crate::rollup_schema::{Quantity, RollupSchema};

/// The maximum number of rows in an output file. A date with more rows is written to several files, by ranges of
/// assets.
pub const MAX_ROWS_PER_PART: usize = 2 << 20;
/// The approximate number of rows in an output batch. Its columns stay in the second-level cache while they are
/// encoded.
const ROWS_PER_BATCH: usize = 16 << 10;
const MINUTES_PER_HOUR: i32 = 60;

/// The minutes of all assets, sorted by asset, without duplicate minutes.
#[derive(Debug, Default)]
pub struct AssembledMinutes {
    assets: Vec<(AssetId, MinuteRuns)>,
    readings: u64,
}

/// The contents of one output file: one date and consecutive assets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// The date of the rows.
    pub day: Day,
    from: usize,
    to: usize,
    rows: usize,
}

/// Returns the conflicting minutes between the files of a cell, and within them.
pub fn find_conflicting(files: &[&FileMinutes]) -> ConflictingMinutes {
    let mut contested = ConflictingMinutes::default();
    let mut claims: HashMap<AssetId, Vec<&Minutes>> = HashMap::new();
    for file in files {
        for (asset, minutes) in &file.assets {
            for &minute in &minutes.conflicting {
                contested.insert(*asset, minute);
            }
            claims.entry(*asset).or_default().push(minutes);
        }
    }
    for (asset, mut runs) in claims {
        runs.retain(|run| !run.rows.is_empty());
        runs.sort_by_key(|run| run.rows[0].minute);
        let ordered = runs.iter().all(|run| run.ordered)
            && runs
                .windows(2)
                .all(|pair| pair[0].rows[pair[0].rows.len() - 1].minute < pair[1].rows[0].minute);
        if ordered {
            continue;
        }
        let mut minutes: Vec<i32> = runs
            .iter()
            .flat_map(|run| run.rows.iter().map(|row| row.minute))
            .collect();
        minutes.sort_unstable();
        for pair in minutes.windows(2).filter(|pair| pair[0] == pair[1]) {
            contested.insert(asset, pair[0]);
        }
    }
    contested
}

impl AssembledMinutes {
    /// Assembles the minutes of `files`. Minutes in `contested` are taken from `decided` instead.
    pub fn new(
        files: Vec<FileMinutes>,
        contested: &ConflictingMinutes,
        decided: HashMap<AssetId, Vec<MinuteRow>>,
    ) -> Self {
        let mut readings = 0;
        let mut assets: BTreeMap<AssetId, Vec<Minutes>> = BTreeMap::new();
        for file in files {
            for (asset, mut minutes) in file.assets {
                if let Some(contested) = contested.minutes_of_asset(asset) {
                    minutes.rows.retain(|row| {
                        let decided = contested.contains(&row.minute);
                        minutes.readings -= if decided { row.count() } else { 0 };
                        !decided
                    });
                }
                readings += minutes.readings;
                assets.entry(asset).or_default().push(minutes);
            }
        }
        for (asset, rows) in decided {
            let decided = Minutes::from_rows(rows);
            readings += decided.readings;
            assets.entry(asset).or_default().push(decided);
        }
        let assets = assets
            .into_iter()
            .map(|(asset, runs)| (asset, MinuteRuns::new(runs)));
        Self {
            assets: assets.filter(|(_, runs)| !runs.runs.is_empty()).collect(),
            readings,
        }
    }

    /// Returns the number of minute rows.
    pub fn minutes(&self) -> usize {
        let runs = self.assets.iter().flat_map(|(_, runs)| &runs.runs);
        runs.map(Vec::len).sum()
    }

    /// Returns the number of readings in the rows. Each time of an asset counts once.
    pub fn readings(&self) -> u64 {
        self.readings
    }

    /// Returns the output files, sorted by date and asset.
    pub fn parts(&self) -> Vec<Part> {
        let mut rows_by_day: BTreeMap<Day, Vec<(usize, usize)>> = BTreeMap::new();
        let runs = self.assets.iter().enumerate();
        for (index, run) in
            runs.flat_map(|(index, (_, runs))| runs.runs.iter().map(move |run| (index, run)))
        {
            let mut rows = run.as_slice();
            while let Some(row) = rows.first() {
                let day = day_of_minute(row.minute);
                // A date has at most one row per minute.
                let reach = rows.len().min(MINUTES_PER_DAY as usize);
                let len = rows[..reach].partition_point(|row| day_of_minute(row.minute) == day);
                let assets = rows_by_day.entry(day).or_default();
                match assets.last_mut() {
                    // A further run of the same asset: its rows of a date belong together.
                    Some((last, rows)) if *last == index => *rows += len,
                    _ => assets.push((index, len)),
                }
                rows = &rows[len..];
            }
        }
        let mut parts = Vec::new();
        for (day, assets) in rows_by_day {
            let mut part: Option<Part> = None;
            for (index, len) in assets {
                match part.as_mut() {
                    Some(part) if part.rows + len <= MAX_ROWS_PER_PART => {
                        part.to = index + 1;
                        part.rows += len;
                    }
                    _ => {
                        parts.extend(part.take());
                        part = Some(Part {
                            day,
                            from: index,
                            to: index + 1,
                            rows: len,
                        });
                    }
                }
            }
            parts.extend(part);
        }
        parts
    }

    /// Returns the batches of one part: its minutes, then its hours, then its days.
    pub fn batches(&self, number: u32, part: Part, schema: &RollupSchema) -> Batches {
        let assets = part.to - part.from;
        let hours = part.rows / MINUTES_PER_HOUR as usize + assets;
        Batches {
            number,
            part,
            next: part.from,
            hours: RollupColumns::with_capacity(schema, hours),
            days: RollupColumns::with_capacity(schema, assets),
            stage: Stage::Minutes,
            schema: schema.clone(),
            output: schema::output(schema),
        }
    }
}

/// The minutes of one asset as they came, one run per file. They are not copied into one run, because that would double
/// the memory.
#[derive(Debug, Default)]
struct MinuteRuns {
    /// The runs, none of them empty and each sorted by time. They are sorted by their first minutes.
    runs: Vec<Vec<MinuteRow>>,
    /// Whether each run ends before the next begins.
    disjoint: bool,
}

impl MinuteRuns {
    /// The maximum number of overlapping runs that are searched for each date. More runs are merged into one.
    const MAX_SEARCHED_RUNS: usize = 8;

    fn new(runs: Vec<Minutes>) -> Self {
        let ordered = runs.into_iter().filter(|run| !run.rows.is_empty());
        let mut runs: Vec<Vec<MinuteRow>> = ordered
            .map(|run| {
                let mut rows = run.rows;
                if !run.ordered {
                    rows.sort_unstable_by_key(|row| row.minute);
                }
                rows
            })
            .collect();
        runs.sort_unstable_by_key(|rows| rows[0].minute);
        let disjoint = runs
            .windows(2)
            .all(|pair| pair[0][pair[0].len() - 1].minute < pair[1][0].minute);
        if !disjoint && runs.len() > Self::MAX_SEARCHED_RUNS {
            let mut rows = runs.concat();
            rows.sort_unstable_by_key(|row| row.minute);
            runs = vec![rows];
        }
        Self {
            disjoint: disjoint || runs.len() == 1,
            runs,
        }
    }

    /// Returns the sorted rows of the day that begins with minute `start`. Rows from more than one run are merged in
    /// `scratch`.
    fn day_rows<'a>(&'a self, start: i32, scratch: &'a mut Vec<MinuteRow>) -> &'a [MinuteRow] {
        let end = start + MINUTES_PER_DAY;
        let skipped = if self.disjoint {
            self.runs
                .partition_point(|rows| rows[rows.len() - 1].minute < start)
        } else {
            0
        };
        let mut found = self.runs[skipped..]
            .iter()
            .take_while(|rows| rows[0].minute < end)
            .map(|rows| {
                let from = rows.partition_point(|row| row.minute < start);
                // A day has at most one row per minute.
                let reach = rows.len().min(from + MINUTES_PER_DAY as usize);
                let to = from + rows[from..reach].partition_point(|row| row.minute < end);
                &rows[from..to]
            })
            .filter(|rows| !rows.is_empty());
        let first = found.next().unwrap_or_default();
        let Some(second) = found.next() else {
            return first;
        };
        scratch.clear();
        scratch.extend_from_slice(first);
        scratch.extend_from_slice(second);
        found.for_each(|rows| scratch.extend_from_slice(rows));
        if !self.disjoint {
            scratch.sort_unstable_by_key(|row| row.minute);
        }
        scratch
    }
}

const fn hour_of(minute: i32) -> i32 {
    minute.div_euclid(MINUTES_PER_HOUR)
}

const fn day_of_minute(minute: i32) -> Day {
    minute.div_euclid(MINUTES_PER_DAY)
}

/// The batches of one part, created one at a time.
#[derive(Debug)]
pub struct Batches {
    number: u32,
    part: Part,
    next: usize,
    hours: RollupColumns,
    days: RollupColumns,
    stage: Stage,
    schema: RollupSchema,
    output: SchemaRef,
}

/// The batches that come next.
#[derive(Debug, Clone, Copy)]
enum Stage {
    Minutes,
    Hours,
    Days,
    Done,
}

impl Batches {
    /// Returns the next batch of minutes, and collects their hours and days.
    fn minutes(&mut self, all: &AssembledMinutes) -> Result<Option<RecordBatch>, ArrowError> {
        let rows = ROWS_PER_BATCH + MINUTES_PER_DAY as usize;
        let mut columns = RollupColumns::with_capacity(&self.schema, self.part.rows.min(rows));
        let start = self.part.day * MINUTES_PER_DAY;
        let mut scratch = Vec::new();
        while self.next < self.part.to && columns.times.len() < ROWS_PER_BATCH {
            let (asset, runs) = &all.assets[self.next];
            self.next += 1;
            let rows = runs.day_rows(start, &mut scratch);
            if rows.is_empty() {
                continue;
            }
            columns.begin_asset(*asset);
            columns.extend(rows);
            self.hours.begin_asset(*asset);
            self.days.begin_asset(*asset);
            let mut hours = [None; 24];
            let same_hour = |a: &MinuteRow, b: &MinuteRow| hour_of(a.minute) == hour_of(b.minute);
            for (rows, hour) in rows.chunk_by(same_hour).zip(&mut hours) {
                *hour = Summary::combine(rows.iter().map(MinuteRow::summary));
                if let Some(summary) = *hour {
                    self.hours
                        .push(hour_of(rows[0].minute) * MINUTES_PER_HOUR, summary);
                }
            }
            if let Some(day) = Summary::combine(hours.iter().flatten().copied()) {
                self.days.push(start, day);
            }
        }
        (!columns.times.is_empty())
            .then(|| columns.batch(&self.output, self.number, Resolution::Minute))
            .transpose()
    }

    /// Returns the next batch, or `None` after the last. `all` must be the minutes from which the part was created.
    pub fn next(&mut self, all: &AssembledMinutes) -> Option<Result<RecordBatch, ArrowError>> {
        if let Stage::Minutes = self.stage {
            if let Some(batch) = self.minutes(all).transpose() {
                return Some(batch);
            }
            self.stage = Stage::Hours;
        }
        let (columns, resolution) = match self.stage {
            Stage::Minutes | Stage::Hours => {
                self.stage = Stage::Days;
                (std::mem::take(&mut self.hours), Resolution::Hour)
            }
            Stage::Days => {
                self.stage = Stage::Done;
                (std::mem::take(&mut self.days), Resolution::Day)
            }
            Stage::Done => return None,
        };
        if columns.times.is_empty() {
            return None;
        }
        Some(columns.batch(&self.output, self.number, resolution))
    }
}

/// Columns of a rollup batch under construction.
#[derive(Debug, Default)]
struct RollupColumns {
    assets: Vec<String>,
    keys: Vec<i32>,
    times: Vec<i64>,
    /// All columns in their order. Those of the key are in the fields above.
    columns: Vec<(Quantity, ColumnValues)>,
}

impl RollupColumns {
    fn with_capacity(schema: &RollupSchema, rows: usize) -> Self {
        let columns = schema.columns().iter();
        let columns = columns.map(|it| (it.quantity, ColumnValues::with_capacity(it, rows)));
        Self {
            assets: Vec::new(),
            keys: Vec::with_capacity(rows),
            times: Vec::with_capacity(rows),
            columns: columns.collect(),
        }
    }

    /// Appends minutes of the current asset, column by column.
    fn extend(&mut self, rows: &[MinuteRow]) {
        let key = self.assets.len() as i32 - 1;
        self.keys.resize(self.keys.len() + rows.len(), key);
        let times = rows.iter().map(|row| i64::from(row.minute));
        self.times
            .extend(times.map(|minute| minute * MICROS_PER_MINUTE));
        for (quantity, values) in &mut self.columns {
            append_quantity(*quantity, rows.iter().map(MinuteRow::summary), values);
        }
    }

    fn begin_asset(&mut self, asset: AssetId) {
        self.assets.push(asset.to_string());
    }

    fn push(&mut self, minute: i32, summary: Summary) {
        self.keys.push(self.assets.len() as i32 - 1);
        self.times.push(i64::from(minute) * MICROS_PER_MINUTE);
        for (quantity, values) in &mut self.columns {
            append_quantity(*quantity, std::iter::once(summary), values);
        }
    }

    fn batch(
        self,
        schema: &SchemaRef,
        part: u32,
        resolution: Resolution,
    ) -> Result<RecordBatch, ArrowError> {
        let rows = self.times.len();
        let assets: ArrayRef = Arc::new(DictionaryArray::<Int32Type>::try_new(
            Int32Array::from(self.keys),
            Arc::new(StringArray::from(self.assets)),
        )?);
        let times = TimestampMicrosecondArray::from(self.times).with_timezone("UTC");
        let mut key = [assets, Arc::new(times)].into_iter();
        let mut columns: Vec<ArrayRef> = vec![
            Arc::new(UInt32Array::from(vec![part; rows])),
            Arc::new(UInt8Array::from(vec![resolution as u8; rows])),
        ];
        let values = self.columns.into_iter();
        columns.extend(values.filter_map(|(_, values)| values.finish().or_else(|| key.next())));
        RecordBatch::try_new(Arc::clone(schema), columns)
    }
}
