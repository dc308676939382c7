//! Turns the operator's batches into the data files of the three tables.
//!
//! Minutes are written as they come: a date is a partition. Hours and days wait until all dirty dates of
//! their month or year are computed, and are merged with the rows of the dates that stay.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch, RecordBatchOptions};
use arrow::compute::{filter_record_batch, interleave_record_batch};
use arrow::datatypes::{Int32Type, TimestampMicrosecondType};
use chrono::Datelike;
use futures::TryStreamExt;
use tokio::task::JoinSet;

use crate::lake::failpoint;
use crate::lake::table::{DataFile, FileWriter, Partition, Table, TableError, WrittenFile};
use crate::model::{DateSet, Day, Resolution, day_of, day_to_date};

/// Rows of a partition up to which its files are melted into one; larger files are kept, or copied
/// without the dates that were computed anew.
const MERGE_ROWS: u64 = 2_000_000;

/// Why the files cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum FilesError {
    /// A table's file cannot be written or read.
    #[error("a data file of {table} cannot be written")]
    Table {
        /// The table.
        table: &'static str,
        /// What the table says.
        source: Box<TableError>,
    },
    /// A writer's task died.
    #[error("a writer stopped")]
    Task(#[source] tokio::task::JoinError),
    /// Rows cannot be put together.
    #[error("rollup rows cannot be put in order")]
    Arrow(#[from] arrow::error::ArrowError),
}

/// The files of one table that a commit adds and removes.
#[derive(Debug, Default)]
pub struct TableChange {
    /// Files that were written.
    pub add: Vec<WrittenFile>,
    /// Files that they replace.
    pub remove: Vec<DataFile>,
    /// Rows computed by this run (rows that stay are not counted).
    pub rows: u64,
}

/// Writes the files of one run.
pub struct RollupFiles {
    tables: [Table; 3],
    dirty: DateSet,
    /// What was written of each table.
    changes: [Mutex<TableChange>; 3],
    /// Hour and day batches that wait, by the first day of their partition.
    waiting: [Mutex<BTreeMap<Day, Vec<RecordBatch>>>; 2],
}

/// One output partition's writer of minute files.
pub struct MinuteWriter {
    files: Arc<RollupFiles>,
    open: Option<(u32, FileWriter)>,
}

fn failed(resolution: Resolution) -> impl Fn(TableError) -> FilesError {
    move |source| FilesError::Table {
        table: resolution.table(),
        source: Box::new(source),
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The first day of the partition that `day` is in.
fn partition_start(resolution: Resolution, day: Day) -> Day {
    let date = day_to_date(day);
    match resolution {
        Resolution::Minute => day,
        Resolution::Hour => day - date.day0() as Day,
        Resolution::Day => day - date.ordinal0() as Day,
    }
}

/// The last day of the partition that begins on `start`.
fn partition_end(resolution: Resolution, start: Day) -> Day {
    match resolution {
        Resolution::Minute => start,
        // 31 days on is always in the next month, 366 in the next year.
        Resolution::Hour => partition_start(resolution, start + 31) - 1,
        Resolution::Day => partition_start(resolution, start + 366) - 1,
    }
}

impl RollupFiles {
    /// Files for `dirty` dates, to replace those of the tables as they are (minute, hour, day).
    pub fn new(tables: [Table; 3], dirty: DateSet) -> Self {
        Self {
            tables,
            dirty,
            changes: Default::default(),
            waiting: Default::default(),
        }
    }

    /// A writer for one output partition of the operator.
    pub fn minute_writer(self: &Arc<Self>) -> MinuteWriter {
        MinuteWriter {
            files: Arc::clone(self),
            open: None,
        }
    }

    fn table(&self, resolution: Resolution) -> &Table {
        &self.tables[resolution as usize]
    }

    /// Hands the tables back for their commits, finest first.
    pub fn tables(&self) -> [Table; 3] {
        self.tables.clone()
    }

    /// What the commits are to change, finest first; call once, when everything is written.
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

    /// Writes the partitions of hours or days that begin on `starts`, each in a task of its own.
    pub async fn write_partitions(
        self: &Arc<Self>,
        resolution: Resolution,
        starts: &DateSet,
    ) -> Result<(), FilesError> {
        let mut writers = JoinSet::new();
        let mut written = Ok(());
        let mut starts = starts.iter();
        loop {
            // Two at a time: each holds its partition's rows twice.
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
            written = written.and(joined.unwrap_or_else(|error| Err(FilesError::Task(error))));
        }
    }

    /// The starts of all partitions that have a dirty date.
    pub fn dirty_partitions(&self, resolution: Resolution) -> DateSet {
        self.dirty
            .iter()
            .map(|day| partition_start(resolution, day))
            .collect()
    }

    /// The last day of a partition, by its start.
    pub fn end_of(resolution: Resolution, start: Day) -> Day {
        partition_end(resolution, start)
    }

    async fn write_partition(&self, resolution: Resolution, start: Day) -> Result<(), FilesError> {
        let waiting = &self.waiting[resolution as usize - 1];
        let mut batches = lock(waiting).remove(&start).unwrap_or_default();
        let change = &self.changes[resolution as usize];
        lock(change).rows += batches
            .iter()
            .map(|batch| batch.num_rows() as u64)
            .sum::<u64>();
        let table = self.table(resolution);
        let partition = Partition::of(resolution, start);
        let existing: Vec<DataFile> = table
            .files()
            .into_iter()
            .filter(|file| file.partition == partition)
            .collect();
        let melt = existing
            .iter()
            .map(|file| file.rows.unwrap_or(u64::MAX))
            .fold(0, u64::saturating_add)
            <= MERGE_ROWS;
        for file in existing {
            let touched = match (file.min_time, file.max_time) {
                (Some(min), Some(max)) => self
                    .dirty
                    .intersects(&DateSet::range(day_of(min), day_of(max))),
                _ => true,
            };
            if !melt && !touched {
                continue;
            }
            let mut rows = table.read_file(&file).await.map_err(failed(resolution))?;
            let mut copy = if melt {
                None
            } else {
                Some(table.writer(partition.clone()))
            };
            while let Some(batch) = rows.try_next().await.map_err(failed(resolution))? {
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
        let merged = in_order(&batches)?;
        if let Some(rows) = merged {
            let mut writer = table.writer(partition);
            writer.write(&rows).await.map_err(failed(resolution))?;
            failpoint::reach("before-data-file");
            let written = writer.finish().await.map_err(failed(resolution))?;
            lock(change).add.extend(written);
            failpoint::reach("after-data-file");
        }
        Ok(())
    }

    fn without_dirty(&self, batch: &RecordBatch) -> Result<RecordBatch, FilesError> {
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let keep = times
            .values()
            .iter()
            .map(|&time| Some(!self.dirty.contains(day_of(time))))
            .collect();
        Ok(filter_record_batch(batch, &keep)?)
    }

    /// Deletes what was written, for a run that is given up.
    pub async fn discard(&self) {
        for (resolution, change) in Resolution::ALL.into_iter().zip(&self.changes) {
            let change = std::mem::take(&mut *lock(change));
            self.table(resolution).delete_uncommitted(&change.add).await;
        }
    }
}

impl MinuteWriter {
    /// Takes one output batch of the operator.
    pub async fn take(&mut self, batch: &RecordBatch) -> Result<(), FilesError> {
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
        let columns = batch.columns()[2..].to_vec();
        let schema = Arc::clone(&crate::resample::schema::ROLLUP);
        let rows = RecordBatch::try_new_with_options(schema, columns, &RecordBatchOptions::new())?;
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
                (part, table.writer(Partition::of(Resolution::Minute, day)))
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

    /// Ends the open file.
    pub async fn finish(&mut self) -> Result<(), FilesError> {
        if let Some((_, writer)) = self.open.take() {
            failpoint::reach("before-data-file");
            let written = writer.finish().await.map_err(failed(Resolution::Minute))?;
            failpoint::reach("after-data-file");
            lock(&self.files.changes[0]).add.extend(written);
        }
        Ok(())
    }
}

/// All rows in one batch, by asset and time; none if there are none.
fn in_order(batches: &[RecordBatch]) -> Result<Option<RecordBatch>, FilesError> {
    let mut keys = Vec::new();
    for (number, batch) in batches.iter().enumerate() {
        let assets = batch.column(0).as_dictionary::<Int32Type>();
        let texts = assets.values().as_string::<i32>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        // Canonical texts order as the numbers that they spell: comparing numbers is much cheaper.
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
    fn partitions_begin_and_end_with_the_calendar() {
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
