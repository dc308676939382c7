//! Minutes that more than one run of readings claims: found after the first pass, decided in a second one
//! from their raw readings, where the last file and in it the last row wins.

use std::collections::{HashMap, HashSet};

use super::intake::FileMinutes;
use super::series::{Series, minute_of};
use super::summary::MinuteRow;
use crate::model::AssetId;

/// A set of minutes of assets.
#[derive(Debug, Default)]
pub struct ContestedMinutes {
    assets: HashMap<AssetId, HashSet<i32>>,
}

/// One raw reading of a contested minute.
#[derive(Debug, Clone, Copy)]
pub struct RawReading {
    /// Its asset.
    pub asset: AssetId,
    /// Microseconds since the epoch.
    pub time: i64,
    /// Its value, finite.
    pub value: f64,
}

impl ContestedMinutes {
    /// Whether nothing is contested.
    pub fn is_empty(&self) -> bool {
        self.assets.is_empty()
    }

    /// Adds a minute.
    pub fn insert(&mut self, asset: AssetId, minute: i32) {
        self.assets.entry(asset).or_default().insert(minute);
    }

    /// The contested minutes of `asset`, if it has any.
    pub fn of(&self, asset: AssetId) -> Option<&HashSet<i32>> {
        self.assets.get(&asset)
    }

    /// Whether the minute of this reading is contested.
    pub fn has(&self, asset: AssetId, time: i64) -> bool {
        self.of(asset)
            .is_some_and(|minutes| minutes.contains(&minute_of(time)))
    }

    /// Whether the file has readings in a contested minute.
    pub fn touches(&self, file: &FileMinutes) -> bool {
        file.assets.iter().any(|(asset, minutes)| {
            self.of(*asset).is_some_and(|contested| {
                minutes
                    .rows
                    .iter()
                    .map(|row| row.minute)
                    .chain(minutes.contested.iter().copied())
                    .any(|minute| contested.contains(&minute))
            })
        })
    }
}

/// Reduces the raw readings of contested minutes, given in the order of files and rows.
pub fn decide(mut readings: Vec<RawReading>) -> HashMap<AssetId, Vec<MinuteRow>> {
    // Stable: of equal times the last in the order of files and rows stays last, and `Series` keeps it.
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
