//! Takes in the readings of one file: checks them, counts those that are left out, and adds the others to the series of
//! their assets.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};

use super::cell::Cell;
use super::left_out::{LeftOut, Reason};
use super::series::{MINUTES_PER_DAY, Minutes, Series};
use super::summary::MinuteRow;
use crate::model::{AMBIGUOUS_TIME, AssetId, DateSet, Window, day_of};

/// The task for one file, besides reading its readings in the cell.
#[derive(Debug, Clone, Default)]
pub struct FileTask {
    /// The dates on which readings of this file that are left out are counted now, so that each is counted in one run
    /// only.
    pub count_dates: DateSet,
    /// Whether readings without a plausible time, which belong to no date, are counted now.
    pub count_untimed: bool,
    /// The maximum number of minute rows of the file in this cell, for all assets together. Memory for them is
    /// allocated in advance. 0 if it is unknown.
    pub expected_minutes: usize,
}

/// The minutes of one file.
#[derive(Debug, Default)]
pub struct FileMinutes {
    /// The minutes by asset.
    pub assets: Vec<(AssetId, Minutes)>,
    /// The readings that were left out, among those that the task counts.
    pub left_out: LeftOut,
    /// The number of valid readings inside the cell, including duplicates.
    pub valid: u64,
}

impl FileMinutes {
    /// Returns the number of bytes held.
    pub fn bytes(&self) -> usize {
        self.assets
            .iter()
            .map(|(_, minutes)| {
                minutes.rows.capacity() * size_of::<MinuteRow>()
                    + minutes.conflicting.capacity() * 4
                    + size_of::<Minutes>()
            })
            .sum()
    }
}

/// The destination of readings with one id of the dictionary.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Series(u32),
    Malformed,
    OutsideCell,
}

/// A reading that is buffered to be sorted.
#[derive(Debug, Clone, Copy)]
struct BufferedReading {
    slot: u32,
    time: i64,
    value: f64,
}

/// The number of readings per out-of-order reading below which a file is sorted. With less disorder it is cheaper to
/// decide the conflicting minutes.
const MIN_READINGS_PER_DISORDER: u64 = 64;

/// Takes in the readings of one file, batch by batch in row order.
#[derive(Debug)]
pub struct FileReducer<'a> {
    cell: Cell,
    window: Window,
    plausible: Window,
    task: &'a FileTask,
    series: Vec<(AssetId, Series)>,
    slots: HashMap<AssetId, u32>,
    /// The destinations for the ids in the dictionary of the latest batch.
    mapping: Vec<Slot>,
    mapped: Option<ArrayRef>,
    left_out: LeftOut,
    valid: u64,
    /// The number of minute rows for which memory was allocated. It is at most the number that the task expects,
    /// however many assets the file has.
    reserved: usize,
    /// The buffered readings and their maximum number; `None` while the file is read in its own order.
    buffer: Option<(Vec<BufferedReading>, usize)>,
}

impl<'a> FileReducer<'a> {
    /// Creates an intake for readings inside `cell`. Times outside `plausible` are left out.
    pub fn new(cell: Cell, plausible: Window, task: &'a FileTask) -> Self {
        Self {
            cell,
            window: cell.window(),
            plausible,
            task,
            series: Vec::new(),
            slots: HashMap::new(),
            mapping: Vec::new(),
            mapped: None,
            left_out: LeftOut::default(),
            valid: 0,
            reserved: 0,
            buffer: None,
        }
    }

    /// Sorts up to `readings` readings at a time before they are reduced, for files that are not in order.
    pub fn with_sorting(mut self, readings: usize) -> Self {
        self.buffer = Some((Vec::new(), readings.max(1)));
        self
    }

    /// Whether the file is so far out of order that it should be read again [with sorting](Self::with_sorting).
    pub fn is_unsorted(&self) -> bool {
        self.buffer.is_none()
            && self.valid > 1_024
            && self
                .series
                .iter()
                .map(|(_, series)| series.disorder())
                .sum::<u64>()
                * MIN_READINGS_PER_DISORDER
                > self.valid
    }

    /// Returns the number of bytes held.
    pub fn bytes(&self) -> usize {
        let waiting = self.buffer.as_ref().map_or(0, |(waiting, _)| {
            waiting.capacity() * size_of::<BufferedReading>() * 3 / 2
        });
        waiting
            + self
                .series
                .iter()
                .map(|(_, series)| series.bytes() + size_of::<Series>())
                .sum::<usize>()
    }

    /// Returns the assets found so far.
    pub fn assets(&self) -> impl Iterator<Item = AssetId> + '_ {
        self.series.iter().map(|(asset, _)| *asset)
    }

    /// Adds a batch with the schema [`READINGS`](super::schema::READINGS).
    pub fn push(&mut self, batch: &RecordBatch) {
        let ids = batch.column(0).as_dictionary::<Int32Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        self.map_dictionary(ids.values());
        let whole = ids.null_count() == 0 && times.null_count() == 0 && values.null_count() == 0;
        let keys = ids.keys().values();
        if whole && all_finite(values.values()) {
            let mut from = 0;
            while from < keys.len() {
                let run = run_length(&keys[from..]);
                self.push_run(
                    keys[from] as usize,
                    &times.values()[from..from + run],
                    &values.values()[from..from + run],
                );
                from += run;
            }
            return;
        }
        for row in 0..batch.num_rows() {
            let key = ids.is_valid(row).then(|| keys[row] as usize);
            let time = times.is_valid(row).then(|| times.value(row));
            let value = values.is_valid(row).then(|| values.value(row));
            self.push_reading(key, time, value);
        }
    }

    /// Maps the ids in the dictionary of a batch. The batches of a column chunk usually share one dictionary.
    fn map_dictionary(&mut self, dictionary: &ArrayRef) {
        if self
            .mapped
            .as_ref()
            .is_some_and(|mapped| mapped.to_data().ptr_eq(&dictionary.to_data()))
        {
            return;
        }
        self.mapping.clear();
        let texts = dictionary.as_string::<i32>();
        for row in 0..texts.len() {
            let asset = if texts.is_valid(row) {
                AssetId::parse(texts.value(row)).ok()
            } else {
                None
            };
            let slot = match asset {
                None => Slot::Malformed,
                Some(asset) if !self.cell.has_asset(asset) => Slot::OutsideCell,
                Some(asset) => Slot::Series(*self.slots.entry(asset).or_insert_with(|| {
                    let share = self.task.expected_minutes / texts.len();
                    let max_rows = self.cell.dates() * MINUTES_PER_DAY as usize;
                    let left = self.task.expected_minutes.saturating_sub(self.reserved);
                    let rows = share.min(max_rows).min(left);
                    self.reserved += rows;
                    self.series.push((asset, Series::with_capacity(rows)));
                    (self.series.len() - 1) as u32
                })),
            };
            self.mapping.push(slot);
        }
        self.mapped = Some(ArrayRef::clone(dictionary));
    }

    /// Adds readings with the same id and with finite values.
    fn push_run(&mut self, key: usize, times: &[i64], values: &[f64]) {
        let sorted = times.len() >= 4 && strictly_increasing(times);
        let slot = self.mapping[key];
        if sorted && self.plausible.covers(times[0], times[times.len() - 1]) {
            if slot == Slot::OutsideCell {
                return;
            }
            if let Slot::Series(slot) = slot {
                let (first, last) = (times[0], times[times.len() - 1]);
                let (from, to) = if self.window.covers(first, last) {
                    (0, times.len())
                } else {
                    (
                        times.partition_point(|&time| time < self.window.start),
                        times.partition_point(|&time| time < self.window.end),
                    )
                };
                if from < to {
                    self.valid += (to - from) as u64;
                    self.push_valid(slot, &times[from..to], &values[from..to]);
                }
                return;
            }
        }
        for (&time, &value) in times.iter().zip(values) {
            self.push_reading(Some(key), Some(time), Some(value));
        }
    }

    /// Adds one reading after all checks.
    fn push_reading(&mut self, key: Option<usize>, time: Option<i64>, value: Option<f64>) {
        let untimed = match time {
            None => Some(Reason::NullTime),
            Some(AMBIGUOUS_TIME) => Some(Reason::AmbiguousTime),
            Some(time) if !self.plausible.contains(time) => Some(Reason::TimeOutOfRange),
            Some(_) => None,
        };
        if let Some(reason) = untimed {
            // The reading belongs to no range of assets, either: only the first cell counts it.
            if self.task.count_untimed {
                self.left_out.add(reason, 1);
            }
            return;
        }
        let Some(time) = time.filter(|&time| self.window.contains(time)) else {
            return;
        };
        let slot = key.map(|key| self.mapping[key]);
        let reason = match (slot, value) {
            (None, _) => Reason::NullId,
            (Some(Slot::Malformed), _) => Reason::MalformedId,
            (Some(Slot::OutsideCell), _) => return,
            (_, None) => Reason::NullValue,
            (_, Some(value)) if value.is_nan() => Reason::NanValue,
            (_, Some(value)) if value.is_infinite() => Reason::InfiniteValue,
            (Some(Slot::Series(slot)), Some(value)) => {
                self.valid += 1;
                self.push_valid(slot, &[time], &[value]);
                return;
            }
        };
        // Readings without a valid asset id are in every range of assets of a date, so the first range counts them.
        let first_range = !matches!(reason, Reason::NullId | Reason::MalformedId)
            || self.cell.from_asset.is_none();
        if first_range && self.task.count_dates.contains(day_of(time)) {
            self.left_out.add(reason, 1);
        }
    }

    /// Passes valid readings to their series. Their times must increase strictly.
    #[inline]
    fn push_valid(&mut self, slot: u32, times: &[i64], values: &[f64]) {
        let Some((waiting, limit)) = self.buffer.as_mut() else {
            let series = &mut self.series[slot as usize].1;
            match times {
                [time] => series.push(*time, values[0]),
                _ => series.push_sorted(times, values),
            }
            return;
        };
        waiting.extend(
            times
                .iter()
                .zip(values)
                .map(|(&time, &value)| BufferedReading { slot, time, value }),
        );
        if waiting.len() >= *limit {
            self.flush();
        }
    }

    /// Sorts the buffered readings and reduces them. The sort is stable, so among equal times the last row wins.
    fn flush(&mut self) {
        let Some((waiting, _)) = self.buffer.as_mut() else {
            return;
        };
        waiting.sort_by_key(|reading| (reading.slot, reading.time));
        for reading in waiting.iter() {
            self.series[reading.slot as usize]
                .1
                .push(reading.time, reading.value);
        }
        waiting.clear();
    }

    /// Ends the file and returns its minutes.
    pub fn finish(mut self) -> FileMinutes {
        self.flush();
        let assets = self
            .series
            .into_iter()
            .map(|(asset, series)| (asset, series.finish()));
        FileMinutes {
            assets: assets
                .filter(|(_, minutes)| !minutes.rows.is_empty() || !minutes.conflicting.is_empty())
                .collect(),
            left_out: self.left_out,
            valid: self.valid,
        }
    }
}

/// Returns the number of equal entries at the start of `keys`.
#[inline]
fn run_length(keys: &[i32]) -> usize {
    const STEP: usize = 256;
    let first = keys[0];
    let mut from = 0;
    // Whole blocks first: comparing a block has no early exit and runs in vector registers.
    while from + STEP <= keys.len()
        && keys[from..from + STEP]
            .iter()
            .fold(0, |differ, &key| differ | (key ^ first))
            == 0
    {
        from += STEP;
    }
    from + keys[from..]
        .iter()
        .position(|&key| key != first)
        .unwrap_or(keys.len() - from)
}

#[inline]
fn strictly_increasing(times: &[i64]) -> bool {
    times.chunks(1_024).all(|chunk| {
        chunk
            .iter()
            .zip(&chunk[1..])
            .fold(true, |sorted, (a, b)| sorted & (a < b))
    }) && (1_024..times.len())
        .step_by(1_024)
        .all(|at| times[at - 1] < times[at])
}

#[inline]
fn all_finite(values: &[f64]) -> bool {
    const EXPONENT: u64 = 0x7ff0_0000_0000_0000;
    values.iter().fold(true, |finite, value| {
        finite & (value.to_bits() & EXPONENT != EXPONENT)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn run_length_and_order_checks_work_across_blocks() {
        for len in [1, 255, 256, 257, 600, 2_049] {
            let keys = vec![7; len];
            assert_eq!(run_length(&keys), len);
            let mut broken = keys.clone();
            broken[len - 1] = 8;
            assert_eq!(run_length(&broken), if len == 1 { 1 } else { len - 1 });
            let times: Vec<i64> = (0..len as i64).collect();
            assert!(strictly_increasing(&times));
            for at in [1, 1_023, 1_024, 1_025, len - 1] {
                if at > 0 && at < len {
                    let mut broken = times.clone();
                    broken[at] = broken[at - 1];
                    assert!(!strictly_increasing(&broken), "{len} {at}");
                }
            }
        }
        assert!(all_finite(&[0.0, -1e308]));
        assert!(!all_finite(&[0.0, f64::NAN]) && !all_finite(&[f64::NEG_INFINITY]));
    }
}
