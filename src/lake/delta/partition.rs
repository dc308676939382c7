//! The partitions of a table, and the files in them.

use chrono::{Datelike, NaiveDate};

use crate::model::{Day, Resolution, day_from_date, day_to_date};

/// A partition's value as in its folder name: `2026-01-31`, `2026-01` or `2026`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Partition(pub(super) String);

impl Partition {
    /// Returns the partition of a table that contains the date.
    pub fn containing(resolution: Resolution, day: Day) -> Self {
        let date = day_to_date(day);
        Self(match resolution {
            Resolution::Minute => date.format("%Y-%m-%d").to_string(),
            Resolution::Hour => date.format("%Y-%m").to_string(),
            Resolution::Day => date.year().to_string(),
        })
    }

    /// Returns the text of the value.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the first and the last date of the partition, or `None` if the text is not a valid value.
    pub fn days(&self) -> Option<(Day, Day)> {
        let numbers: Vec<i32> = self
            .0
            .split('-')
            .map(str::parse)
            .collect::<Result<_, _>>()
            .ok()?;
        let date = |year, month: i32, day: i32| {
            NaiveDate::from_ymd_opt(year, month as u32, day as u32).map(day_from_date)
        };
        match numbers[..] {
            [year, month, day] => date(year, month, day).map(|day| (day, day)),
            [year, 12] => Some((date(year, 12, 1)?, date(year, 12, 31)?)),
            [year, month] => Some((date(year, month, 1)?, date(year, month + 1, 1)? - 1)),
            [year] => Some((date(year, 1, 1)?, date(year, 12, 31)?)),
            _ => None,
        }
    }
}

/// A data file of a table.
#[derive(Debug, Clone, PartialEq)]
pub struct DataFile {
    /// The path relative to the table's folder.
    pub path: String,
    /// The size in bytes.
    pub size: u64,
    /// The number of rows, if the log has it.
    pub rows: Option<u64>,
    /// The partition of the file.
    pub partition: Partition,
    /// The lower bound of the times of its buckets, in microseconds.
    pub min_time: Option<i64>,
    /// The upper bound of the times of its buckets, in microseconds.
    pub max_time: Option<i64>,
    /// The minimum asset id.
    pub min_asset: Option<String>,
    /// The maximum asset id.
    pub max_asset: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partition_days_match_its_text() {
        let day = day_from_date("2024-12-31".parse().unwrap());
        for (resolution, text, dates) in [
            (Resolution::Minute, "2024-12-31", 1),
            (Resolution::Hour, "2024-12", 31),
            (Resolution::Day, "2024", 366),
        ] {
            let partition = Partition::containing(resolution, day);
            assert_eq!(partition.as_str(), text);
            let (first, last) = partition.days().unwrap();
            assert_eq!((last - first + 1, last), (dates, day));
        }
        assert_eq!(Partition("x".to_owned()).days(), None);
    }
}
