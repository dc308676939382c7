//! The three resolutions of averages, and the table of each.

use serde::{Deserialize, Serialize};

/// The width of a bucket. Each coarser resolution is computed from the next finer one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Resolution {
    /// One minute: table `data_min`, partitioned by `date`.
    Minute,
    /// One hour: table `data_h`, partitioned by `month`.
    Hour,
    /// One UTC day: table `data_d`, partitioned by `year`.
    Day,
}

impl Resolution {
    /// All three, finest first: the order in which they are computed and committed.
    pub const ALL: [Self; 3] = [Self::Minute, Self::Hour, Self::Day];

    /// Returns the name of the Delta table. The names are those of the original system.
    pub const fn table(self) -> &'static str {
        match self {
            Self::Minute => "data_min",
            Self::Hour => "data_h",
            Self::Day => "data_d",
        }
    }

    /// Returns the name of the table's partition column.
    pub const fn partition_column(self) -> &'static str {
        match self {
            Self::Minute => "date",
            Self::Hour => "month",
            Self::Day => "year",
        }
    }

    /// Returns the width of a bucket in microseconds.
    pub const fn micros(self) -> i64 {
        match self {
            Self::Minute => 60_000_000,
            Self::Hour => 3_600_000_000,
            Self::Day => super::dates::MICROS_PER_DAY,
        }
    }

    /// Returns the start of the bucket that contains `timestamp` (both in microseconds since the epoch, UTC).
    pub const fn bucket_start(self, timestamp: i64) -> i64 {
        timestamp - timestamp.rem_euclid(self.micros())
    }
}

impl std::fmt::Display for Resolution {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Minute => "minute",
            Self::Hour => "hour",
            Self::Day => "day",
        })
    }
}
