//! Conflicting minutes, which several runs of readings contain. They are found after the first pass, and a second pass
//! decides them from their raw readings: the last file wins, and in it the last row.

use std::collections::{HashMap, HashSet};

use super::file_reducer::FileMinutes;
use super::series::{Series, minute_of};
use super::summary::MinuteRow;
use crate::model::AssetId;

/// A set of conflicting minutes by asset.
#[derive(Debug, Default)]
pub struct ConflictingMinutes {
    assets: HashMap<AssetId, HashSet<i32>>,
}

/// One raw reading of a conflicting minute.
#[derive(Debug, Clone, Copy)]
pub struct RawReading {
    /// The asset of the reading.
    pub asset: AssetId,
    /// The time in microseconds since the Unix epoch.
    pub time: i64,
    /// The value, always finite.
    pub value: f64,
}

impl ConflictingMinutes {
    /// Whether there are no conflicting minutes.
    pub fn is_empty(&self) -> bool {
        self.assets.is_empty()
    }

    /// Adds a minute.
    pub fn insert(&mut self, asset: AssetId, minute: i32) {
        self.assets.entry(asset).or_default().insert(minute);
    }

    /// Returns the conflicting minutes of `asset`, if it has any.
    pub fn minutes_of_asset(&self, asset: AssetId) -> Option<&HashSet<i32>> {
        self.assets.get(&asset)
    }

    /// Whether the minute of this reading is a conflicting one.
    pub fn contains(&self, asset: AssetId, time: i64) -> bool {
        self.minutes_of_asset(asset)
            .is_some_and(|minutes| minutes.contains(&minute_of(time)))
    }

    /// Whether the file has readings in a conflicting minute.
    pub fn has_minute_of(&self, file: &FileMinutes) -> bool {
        file.assets.iter().any(|(asset, minutes)| {
            self.minutes_of_asset(*asset).is_some_and(|contested| {
                minutes
                    .rows
                    .iter()
                    .map(|row| row.minute)
                    .chain(minutes.conflicting.iter().copied())
                    .any(|minute| contested.contains(&minute))
            })
        })
    }
}

/// Reduces the raw readings of conflicting minutes. They must be in the order of files and rows.
pub fn resolve(mut readings: Vec<RawReading>) -> HashMap<AssetId, Vec<MinuteRow>> {
    // The sort is stable: among equal times the last in the order of files and rows stays last, and `Series` keeps the
    // last.
    readings.sort_by_key(|reading| (reading.asset, reading.time));
    readings
        .chunk_by(|a, b| a.asset == b.asset)
        .map(|chunk| {
            let mut series = Series::default();
            for reading in chunk {
                series.push(reading.time, reading.value);
            }
            (chunk[0].asset, series.finish().rows)
        })
        .collect()
}
