//! One file's readings on their way in: checked, counted when left out, and handed to their asset's series.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{Float64Type, Int32Type, TimestampMicrosecondType};

use super::cell::Cell;
use super::left_out::{LeftOut, Reason};
use super::series::{MINUTES_PER_DAY, Minutes, Series};
use super::summary::MinuteRow;
use crate::model::{AssetId, DateSet, Window, day_of};

/// What is asked of one file, beside its readings in the cell.
#[derive(Debug, Clone, Default)]
pub struct FileTask {
    /// Dates for which this file's left-out readings are counted now, so that each counts in one run only.
    pub count_dates: DateSet,
    /// Whether readings without a plausible time, which are on no date, are counted now.
    pub count_untimed: bool,
    /// How many minute rows may come of the file in this cell, of all assets together: space is set aside
    /// for them at once. Zero if nothing is known.
    pub expected_minutes: usize,
}

/// What became of one file's readings.
#[derive(Debug, Default)]
pub struct FileMinutes {
    /// Each asset's minutes.
    pub assets: Vec<(AssetId, Minutes)>,
    /// What was left out, of what the task asked to count.
    pub left_out: LeftOut,
    /// Valid readings inside the cell, repeated ones included.
    pub valid: u64,
}

impl FileMinutes {
    /// Bytes held.
    pub fn bytes(&self) -> usize {
        self.assets
            .iter()
            .map(|(_, minutes)| {
                minutes.rows.capacity() * size_of::<MinuteRow>()
                    + minutes.contested.capacity() * 4
                    + size_of::<Minutes>()
            })
            .sum()
    }
}

/// Where a dictionary entry's readings go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    Series(u32),
    Malformed,
    Elsewhere,
}

/// A reading that waits to be sorted.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    slot: u32,
    time: i64,
    value: f64,
}

/// Disorder up to one reading in this many is settled as contested minutes; beyond it, sorting is cheaper.
const DISORDER_WORTH_SORTING: u64 = 64;

/// Takes in the readings of one file, batch by batch in row order.
#[derive(Debug)]
pub struct Intake<'a> {
    cell: Cell,
    window: Window,
    plausible: Window,
    task: &'a FileTask,
    series: Vec<(AssetId, Series)>,
    slots: HashMap<AssetId, u32>,
    /// The slots of the dictionary entries of the latest batch.
    mapping: Vec<Slot>,
    mapped: Option<ArrayRef>,
    left_out: LeftOut,
    valid: u64,
    /// Rows of minutes for which space was set aside: no more than the file promises, however many assets it has.
    reserved: usize,
    /// Readings that wait to be sorted, and how many may; none while the file is in order.
    waiting: Option<(Vec<Waiting>, usize)>,
}

impl<'a> Intake<'a> {
    /// Reads what is inside `cell`; times outside `plausible` are left out.
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
            waiting: None,
        }
    }

    /// Sorts up to `readings` at a time before reducing them: for files that are not in order.
    pub fn sorting(mut self, readings: usize) -> Self {
        self.waiting = Some((Vec::new(), readings.max(1)));
        self
    }

    /// Whether the file is so much out of order that it had better be read again, with `sorting`.
    pub fn wants_sorting(&self) -> bool {
        self.waiting.is_none()
            && self.valid > 1_024
            && self
                .series
                .iter()
                .map(|(_, series)| series.disorder())
                .sum::<u64>()
                * DISORDER_WORTH_SORTING
                > self.valid
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let waiting = self.waiting.as_ref().map_or(0, |(waiting, _)| {
            waiting.capacity() * size_of::<Waiting>() * 3 / 2
        });
        waiting
            + self
                .series
                .iter()
                .map(|(_, series)| series.bytes() + size_of::<Series>())
                .sum::<usize>()
    }

    /// The assets met so far.
    pub fn assets(&self) -> impl Iterator<Item = AssetId> + '_ {
        self.series.iter().map(|(asset, _)| *asset)
    }

    /// Takes a batch of the schema [`READINGS`](super::schema::READINGS).
    pub fn push(&mut self, batch: &RecordBatch) {
        let ids = batch.column(0).as_dictionary::<Int32Type>();
        let times = batch.column(1).as_primitive::<TimestampMicrosecondType>();
        let values = batch.column(2).as_primitive::<Float64Type>();
        self.map(ids.values());
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

    /// Learns the dictionary of a batch; the batches of a column chunk usually share one.
    fn map(&mut self, dictionary: &ArrayRef) {
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
                Some(asset) if !self.cell.has_asset(asset) => Slot::Elsewhere,
                Some(asset) => Slot::Series(*self.slots.entry(asset).or_insert_with(|| {
                    let share = self.task.expected_minutes / texts.len();
                    let most = self.cell.dates() * MINUTES_PER_DAY as usize;
                    let left = self.task.expected_minutes.saturating_sub(self.reserved);
                    let rows = share.min(most).min(left);
                    self.reserved += rows;
                    self.series.push((asset, Series::with_capacity(rows)));
                    (self.series.len() - 1) as u32
                })),
            };
            self.mapping.push(slot);
        }
        self.mapped = Some(ArrayRef::clone(dictionary));
    }

    /// Takes readings of one dictionary entry, with finite values.
    fn push_run(&mut self, key: usize, times: &[i64], values: &[f64]) {
        let sorted = times.len() >= 4 && strictly_increasing(times);
        let slot = self.mapping[key];
        if sorted && self.plausible.covers(times[0], times[times.len() - 1]) {
            if slot == Slot::Elsewhere {
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
                    self.accept(slot, &times[from..to], &values[from..to]);
                }
                return;
            }
        }
        for (&time, &value) in times.iter().zip(values) {
            self.push_reading(Some(key), Some(time), Some(value));
        }
    }

    /// Takes one reading, checking everything.
    fn push_reading(&mut self, key: Option<usize>, time: Option<i64>, value: Option<f64>) {
        let untimed = match time {
            None => Some(Reason::NullTime),
            Some(time) if !self.plausible.contains(time) => Some(Reason::TimeOutOfRange),
            Some(_) => None,
        };
        if let Some(reason) = untimed {
            // Belongs to no asset range either: the first cell of a date counts it.
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
            (Some(Slot::Elsewhere), _) => return,
            (_, None) => Reason::NullValue,
            (_, Some(value)) if value.is_nan() => Reason::NanValue,
            (_, Some(value)) if value.is_infinite() => Reason::InfiniteValue,
            (Some(Slot::Series(slot)), Some(value)) => {
                self.valid += 1;
                self.accept(slot, &[time], &[value]);
                return;
            }
        };
        // Readings without an asset are in every asset range of the date: the first one counts them.
        let first_range = !matches!(reason, Reason::NullId | Reason::MalformedId)
            || self.cell.from_asset.is_none();
        if first_range && self.task.count_dates.contains(day_of(time)) {
            self.left_out.add(reason, 1);
        }
    }

    /// Passes valid readings, strictly increasing in time, to their series.
    #[inline]
    fn accept(&mut self, slot: u32, times: &[i64], values: &[f64]) {
        let Some((waiting, limit)) = self.waiting.as_mut() else {
            let series = &mut self.series[slot as usize].1;
            match times {
                [time] => series.push(*time, values[0]),
                _ => series.push_sorted(times, values),
            }
            return;
        };
        waiting.extend(times.iter().zip(values).map(|(&time, &value)| Waiting {
            slot,
            time,
            value,
        }));
        if waiting.len() >= *limit {
            self.settle();
        }
    }

    /// Sorts what waits and reduces it. The sort is stable, so of equal times the last row wins.
    fn settle(&mut self) {
        let Some((waiting, _)) = self.waiting.as_mut() else {
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

    /// Ends the file.
    pub fn finish(mut self) -> FileMinutes {
        self.settle();
        let assets = self
            .series
            .into_iter()
            .map(|(asset, series)| (asset, series.finish()));
        FileMinutes {
            assets: assets
                .filter(|(_, minutes)| !minutes.rows.is_empty() || !minutes.contested.is_empty())
                .collect(),
            left_out: self.left_out,
            valid: self.valid,
        }
    }
}

/// How many entries at the start of `keys` are equal.
#[inline]
fn run_length(keys: &[i32]) -> usize {
    const STEP: usize = 256;
    let first = keys[0];
    let mut from = 0;
    // Whole blocks first: the comparison of a block has no exit and runs in vector registers.
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
    fn run_lengths_and_order_are_seen_across_blocks() {
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
