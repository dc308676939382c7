//! Writes the operator's batches to the data files of the three tables.
//!
//! Minutes are written as they come, because a date is a partition. Hours and days wait until all dirty dates of their
//! month or year are computed, and are merged with the existing rows of other dates.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{Int32Type, SchemaRef, TimestampMicrosecondType};
use chrono::Datelike;
use futures::TryStreamExt;
use tokio::task::JoinSet;

use crate::jobs::error::RollupFilesError;
use crate::lake::delta::data_file::{FileWriter, WrittenFile};
use crate::lake::delta::error::TableError;
use crate::lake::delta::partition::{DataFile, Partition};
use crate::lake::delta::table::Table;
use crate::lake::delta::table_columns::{conform_rows, merged_file_schema};
use crate::lake::storage::failpoint;
use crate::model::{DateSet, Day, Resolution, day_of, day_to_date};
use crate::rollup::schema::ADDRESS_COLUMNS;

/// The maximum number of rows of a partition whose files are merged into one. Files of a larger partition are kept, or
/// copied without the dates that were computed again.
const MAX_MERGED_ROWS: u64 = 2_000_000;

/// The files that a commit adds to one table and removes from it.
#[derive(Debug, Default)]
pub struct TableChange {
    /// The files that were written.
    pub add: Vec<WrittenFile>,
    /// The files that they replace.
    pub remove: Vec<DataFile>,
    /// The number of rows computed by this run. Existing rows that are copied do not count.
    pub rows: u64,
}

/// Writes the files of one run.
pub struct RollupFiles {
    tables: [Table; 3],
    dirty: DateSet,
    /// The changes to each table, finest first.
    changes: [Mutex<TableChange>; 3],
    /// Batches of hours and days that wait, by the first date of their partition.
    waiting: [Mutex<BTreeMap<Day, Vec<RecordBatch>>>; 2],
}

/// The writer of minute files for one output partition of the operator.
pub struct MinuteWriter {
    files: Arc<RollupFiles>,
    open: Option<(u32, FileWriter)>,
}

fn failed(resolution: Resolution) -> impl Fn(TableError) -> RollupFilesError {
    move |source| RollupFilesError::Table {
        table: resolution.table(),
        source: Box::new(source),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Returns the first date of the partition that contains `day`.
fn partition_start(resolution: Resolution, day: Day) -> Day {
    let date = day_to_date(day);
    match resolution {
        Resolution::Minute => day,
        Resolution::Hour => day - date.day0() as Day,
        Resolution::Day => day - date.ordinal0() as Day,
    }
}

/// Returns the last date of the partition that begins on `start`.
fn partition_end(resolution: Resolution, start: Day) -> Day {
    match resolution {
        Resolution::Minute => start,
        // 31 days after a first of the month lie in the next month, and 366 days after a 1 January in the next year.
        Resolution::Hour => partition_start(resolution, start + 31) - 1,
        Resolution::Day => partition_start(resolution, start + 366) - 1,
    }
}

impl RollupFiles {
    /// Creates a writer for the rows of `dirty` dates, which replace those in `tables` (minute, hour, day).
    pub fn new(tables: [Table; 3], dirty: DateSet) -> Self {
        Self {
            tables,
            dirty,
            changes: Default::default(),
            waiting: Default::default(),
        }
    }

    /// Creates a writer for one output partition of the operator.
    pub fn minute_writer(self: &Arc<Self>) -> MinuteWriter {
        MinuteWriter {
            files: Arc::clone(self),
            open: None,
        }
    }

    fn table(&self, resolution: Resolution) -> &Table {
        &self.tables[resolution as usize]
    }

    /// Returns the tables for their commits, finest first.
    pub fn tables(&self) -> [Table; 3] {
        self.tables.clone()
    }

    /// Takes the changes to commit, finest first. Must be called once, after everything is written.
    pub fn take_changes(&self) -> [TableChange; 3] {
        let mut changes = self
            .changes
            .each_ref()
            .map(|change| std::mem::take(&mut *lock(change)));
        changes[Resolution::Minute as usize].remove = self
            .table(Resolution::Minute)
            .files()
            .into_iter()
            .filter(|file| {
                file.partition
                    .days()
                    .is_none_or(|(first, _)| self.dirty.contains(first))
            })
            .collect();
        changes
    }

    /// Writes the partitions of hours or days that begin on `starts`, each in its own task.
    pub async fn write_partitions(
        self: &Arc<Self>,
        resolution: Resolution,
        starts: &DateSet,
    ) -> Result<(), RollupFilesError> {
        let mut writers = JoinSet::new();
        let mut written = Ok(());
        let mut starts = starts.iter();
        loop {
            // At most two at a time, because each holds the rows of its partition twice.
            while writers.len() < 2
                && written.is_ok()
                && let Some(start) = starts.next()
            {
                let files = Arc::clone(self);
                writers.spawn(async move { files.write_partition(resolution, start).await });
            }
            let Some(joined) = writers.join_next().await else {
                return written;
            };
            written =
                written.and(joined.unwrap_or_else(|error| Err(RollupFilesError::Task(error))));
        }
    }

    /// Returns the first dates of all partitions that have a dirty date.
    pub fn dirty_partitions(&self, resolution: Resolution) -> DateSet {
        self.dirty
            .iter()
            .map(|day| partition_start(resolution, day))
            .collect()
    }

    /// Returns the last date of the partition that begins on `start`.
    pub fn last_day_of_partition(resolution: Resolution, start: Day) -> Day {
        partition_end(resolution, start)
    }

    async fn write_partition(
        &self,
        resolution: Resolution,
        start: Day,
    ) -> Result<(), RollupFilesError> {
        let waiting = &self.waiting[resolution as usize - 1];
        let mut batches = lock(waiting).remove(&start).unwrap_or_default();
        let change = &self.changes[resolution as usize];
        lock(change).rows += batches
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum::<u64>();
        let table = self.table(resolution);
        let partition = Partition::containing(resolution, start);
        let existing: Vec<DataFile> = table
            .files()
            .into_iter()
            .filter(|file| file.partition == partition)
            .collect();
        let is_merged = existing
            .iter()
            .map(|file| file.rows.unwrap_or(u64::MAX))
            .fold(0, u64::saturating_add)
            <= MAX_MERGED_ROWS;
        for file in existing {
            let touched = match (file.min_time, file.max_time) {
                (Some(min), Some(max)) => self
                    .dirty
                    .intersects(&DateSet::range(day_of(min), day_of(max))),
                _ => true,
            };
            if !is_merged && !touched {
                continue;
            }
            let rows = table.read_whole_file(&file).await;
            let mut rows = rows.map_err(failed(resolution))?;
            let mut copy = if is_merged {
                None
            } else {
                let schema = Arc::clone(&rows.schema);
                Some(table.writer_with_schema(partition.clone(), schema))
            };
            while let Some(batch) = rows.batches.try_next().await.map_err(failed(resolution))? {
                let kept = self.without_dirty(&batch)?;
                match copy.as_mut() {
                    Some(writer) if kept.num_rows() > 0 => {
                        writer.write(&kept).await.map_err(failed(resolution))?
                    }
                    Some(_) => {}
                    None => batches.push(kept),
                }
            }
            if let Some(writer) = copy {
                let written = writer.finish().await.map_err(failed(resolution))?;
                lock(change).add.extend(written);
            }
            lock(change).remove.push(file);
        }
        let schemas: Vec<SchemaRef> = batches.iter().map(RecordBatch::schema).collect();
        let schema = merged_file_schema(table.schema(), &schemas);
        for batch in &mut batches {
            *batch = conform_rows(batch, &schema)?;
        }
        let merged = sort_rows(&batches)?;
        if let Some(rows) = merged {
            let mut writer = table.writer_with_schema(partition, schema);
            writer.write(&rows).await.map_err(failed(resolution))?;
            failpoint::reach("before-data-file");
            let written = writer.finish().await.map_err(failed(resolution))?;
            lock(change).add.extend(written);
            failpoint::reach("after-data-file");
        }
        Ok(())
    }

    fn without_dirty(&self, batch: &RecordBatch) -> Result<RecordBatch, RollupFilesError> {
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let keep = times
            .values()
            .iter()
            .map(|&time| Some(!self.dirty.contains(day_of(time))))
            .collect();
        Ok(filter_record_batch(batch, &keep)?)
    }

    /// Deletes the files of a run that failed.
    pub async fn discard(&self) {
        for (resolution, change) in Resolution::ALL.into_iter().zip(&self.changes) {
            let change = std::mem::take(&mut *lock(change));
            self.table(resolution).delete_uncommitted(&change.add).await;
        }
    }
}

impl MinuteWriter {
    /// Writes one output batch of the operator.
    pub async fn write(&mut self, batch: &RecordBatch) -> Result<(), RollupFilesError> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        let part = batch
            .column(0)
            .as_primitive::<arrow::datatypes::UInt32Type>()
            .value(0);
        let resolution = batch
            .column(1)
            .as_primitive::<arrow::datatypes::UInt8Type>()
            .value(0);
        let columns = batch.columns()[ADDRESS_COLUMNS..].to_vec();
        let table = self.files.table(Resolution::Minute);
        let schema = Arc::clone(table.schema().file_schema());
        let rows = RecordBatch::try_new(schema, columns)?;
        let day = day_of(
            rows.column(1)
                .as_primitive::<TimestampMicrosecondType>()
                .value(0),
        );
        let coarser = match resolution {
            0 => None,
            1 => Some(Resolution::Hour),
            _ => Some(Resolution::Day),
        };
        if let Some(resolution) = coarser {
            let start = partition_start(resolution, day);
            lock(&self.files.waiting[resolution as usize - 1])
                .entry(start)
                .or_default()
                .push(rows);
            return Ok(());
        }
        if self.open.as_ref().is_some_and(|(open, _)| *open != part) {
            self.finish().await?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => {
                let table = self.files.table(Resolution::Minute);
                (
                    part,
                    table.writer(Partition::containing(Resolution::Minute, day)),
                )
            }
        };
        open.1
            .write(&rows)
            .await
            .map_err(failed(Resolution::Minute))?;
        lock(&self.files.changes[0]).rows += rows.num_rows() as u64;
        self.open = Some(open);
        Ok(())
    }

    /// Closes the open file.
    pub async fn finish(&mut self) -> Result<(), RollupFilesError> {
        if let Some((_, writer)) = self.open.take() {
            failpoint::reach("before-data-file");
            let written = writer.finish().await.map_err(failed(Resolution::Minute))?;
            failpoint::reach("after-data-file");
            lock(&self.files.changes[0]).add.extend(written);
        }
        Ok(())
    }
}

/// Returns all rows in one batch, sorted by asset and time, or `None` if there are no rows.
fn sort_rows(batches: &[RecordBatch]) -> Result<Option<RecordBatch>, RollupFilesError> {
    let mut keys = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let assets = batch.column(0).as_dictionary::<Int32Type>();
        let texts = assets.values().as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        // Canonical UUID texts sort like their numbers, and comparing numbers is much cheaper.
        let numbers: Vec<u128> = (0..texts.len())
            .map(|entry| {
                crate::model::AssetId::parse(texts.value(entry))
                    .map_or(u128::MAX, |asset| u128::from_be_bytes(*asset.as_bytes()))
            })
            .collect();
        for row in 0..batch.num_rows() {
            keys.push((
                numbers[assets.keys().value(row) as usize],
                times.value(row),
                number,
                row,
            ));
        }
    }
    if keys.is_empty() {
        return Ok(None);
    }
    keys.sort_unstable();
    let indices: Vec<(usize, usize)> = keys.iter().map(|key| (key.2, key.3)).collect();
    Ok(Some(interleave_record_batch(
        &batches.iter().collect::<Vec<_>>(),
        &indices,
    )?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_start_and_end_follow_calendar() {
        for (date, month, year) in [
            (
                "2024-02-29",
                ("2024-02-01", "2024-02-29"),
                ("2024-01-01", "2024-12-31"),
            ),
            (
                "2023-12-31",
                ("2023-12-01", "2023-12-31"),
                ("2023-01-01", "2023-12-31"),
            ),
            (
                "1969-12-31",
                ("1969-12-01", "1969-12-31"),
                ("1969-01-01", "1969-12-31"),
            ),
        ] {
            let day = crate::model::day_from_date(date.parse().unwrap());
            for (resolution, (first, last)) in [(Resolution::Hour, month), (Resolution::Day, year)]
            {
                let start = partition_start(resolution, day);
                assert_eq!(day_to_date(start).to_string(), first);
                assert_eq!(
                    day_to_date(partition_end(resolution, start)).to_string(),
                    last
                );
            }
        }
    }
}
