//! UTC dates as day numbers, and sets of dates stored as ranges.

use std::fmt;

use chrono::{Days, NaiveDate};
use serde::{Deserialize, Serialize};

/// The number of days since 1970-01-01 (UTC), as in Arrow's Date32.
pub type Day = i32;

/// The microseconds of a UTC day (without leap seconds, as in Arrow and Delta).
pub const MICROS_PER_DAY: i64 = 86_400_000_000;

/// Returns the UTC day that contains `timestamp` (microseconds since the epoch).
pub const fn day_of(timestamp: i64) -> Day {
    timestamp.div_euclid(MICROS_PER_DAY) as Day
}

/// Returns the calendar date of `day`.
pub fn day_to_date(day: Day) -> NaiveDate {
    let epoch = NaiveDate::default();
    let shift = Days::new(day.unsigned_abs().into());
    if day < 0 {
        epoch.checked_sub_days(shift).unwrap_or(NaiveDate::MIN)
    } else {
        epoch.checked_add_days(shift).unwrap_or(NaiveDate::MAX)
    }
}

/// Returns the day number of a calendar date.
pub fn day_from_date(date: NaiveDate) -> Day {
    date.signed_duration_since(NaiveDate::default()).num_days() as Day
}

/// A set of UTC dates, stored as sorted, disjoint, non-adjacent closed ranges.
///
/// Serialised as a list of `[first, last]` day numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DateSet {
    ranges: Vec<(Day, Day)>,
}

impl DateSet {
    /// Creates the set `first..=last`; empty if `last < first`.
    pub fn range(first: Day, last: Day) -> Self {
        Self {
            ranges: if first <= last {
                vec![(first, last)]
            } else {
                Vec::new()
            },
        }
    }

    /// Whether the set has no dates.
    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// Returns the number of dates in the set.
    pub fn len(&self) -> usize {
        self.ranges
            .iter()
            .map(|&(first, last)| (i64::from(last) - i64::from(first) + 1) as usize)
            .sum()
    }

    /// Returns the earliest date.
    pub fn first(&self) -> Option<Day> {
        self.ranges.first().map(|range| range.0)
    }

    /// Returns the latest date.
    pub fn last(&self) -> Option<Day> {
        self.ranges.last().map(|range| range.1)
    }

    /// Whether `day` is in the set.
    pub fn contains(&self, day: Day) -> bool {
        let after = self.ranges.partition_point(|&(first, _)| first <= day);
        after > 0 && self.ranges[after - 1].1 >= day
    }

    /// Returns the closed ranges, in ascending order.
    pub fn ranges(&self) -> &[(Day, Day)] {
        &self.ranges
    }

    /// Returns an iterator over every date, in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = Day> + '_ {
        self.ranges.iter().flat_map(|&(first, last)| first..=last)
    }

    /// Adds one date.
    pub fn insert(&mut self, day: Day) {
        if !self.contains(day) {
            self.insert_range(day, day);
        }
    }

    /// Adds `first..=last`.
    pub fn insert_range(&mut self, first: Day, last: Day) {
        if last < first {
            return;
        }
        // Ranges that overlap or adjoin the new one are merged with it.
        let from = self
            .ranges
            .partition_point(|&(_, end)| i64::from(end) + 1 < i64::from(first));
        let to = self
            .ranges
            .partition_point(|&(start, _)| i64::from(start) <= i64::from(last) + 1);
        if from < to {
            let merged = (
                first.min(self.ranges[from].0),
                last.max(self.ranges[to - 1].1),
            );
            self.ranges.splice(from..to, [merged]);
        } else {
            self.ranges.insert(from, (first, last));
        }
    }

    /// Adds every date of `other`.
    pub fn extend(&mut self, other: &Self) {
        for &(first, last) in &other.ranges {
            self.insert_range(first, last);
        }
    }

    /// Returns the dates that are in both sets.
    pub fn intersection(&self, other: &Self) -> Self {
        let mut out = Self::default();
        let (mut i, mut j) = (0, 0);
        while i < self.ranges.len() && j < other.ranges.len() {
            let (a, b) = (self.ranges[i], other.ranges[j]);
            out.insert_range(a.0.max(b.0), a.1.min(b.1));
            if a.1 < b.1 { i += 1 } else { j += 1 }
        }
        out
    }

    /// Returns the dates of this set that are not in `other`.
    pub fn difference(&self, other: &Self) -> Self {
        let mut out = Self::default();
        for &(first, last) in &self.ranges {
            let mut from = i64::from(first);
            for &(cut_first, cut_last) in &other.ranges {
                if i64::from(cut_last) < from || cut_first > last {
                    continue;
                }
                out.insert_range(from as Day, (i64::from(cut_first) - 1) as Day);
                from = i64::from(cut_last) + 1;
            }
            if from <= i64::from(last) {
                out.insert_range(from as Day, last);
            }
        }
        out
    }

    /// Whether the sets have a date in common.
    pub fn intersects(&self, other: &Self) -> bool {
        !self.intersection(other).is_empty()
    }
}

impl FromIterator<Day> for DateSet {
    fn from_iter<T: IntoIterator<Item = Day>>(days: T) -> Self {
        let mut set = Self::default();
        for day in days {
            set.insert(day);
        }
        set
    }
}

impl fmt::Display for DateSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, &(first, last)) in self.ranges.iter().enumerate() {
            if i > 0 {
                f.write_str(", ")?;
            }
            write!(f, "{}", day_to_date(first))?;
            if last > first {
                write!(f, "..{}", day_to_date(last))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn days() -> impl Strategy<Value = Vec<(Day, Day)>> {
        proptest::collection::vec(
            (-20..20, 0..5).prop_map(|(first, len)| (first, first + len)),
            0..8,
        )
    }

    fn both(ranges: &[(Day, Day)]) -> (DateSet, BTreeSet<Day>) {
        let mut set = DateSet::default();
        for &(first, last) in ranges {
            set.insert_range(first, last);
        }
        (
            set,
            ranges
                .iter()
                .flat_map(|&(first, last)| first..=last)
                .collect(),
        )
    }

    fn check(set: &DateSet, model: &BTreeSet<Day>) {
        assert_eq!(
            set.iter().collect::<Vec<_>>(),
            model.iter().copied().collect::<Vec<_>>()
        );
        assert_eq!(set.len(), model.len());
        for pair in set.ranges().windows(2) {
            assert!(pair[0].1 + 1 < pair[1].0, "ranges touch: {set:?}");
        }
    }

    proptest! {
        #[test]
        fn date_set_operations_match_btree_set(a in days(), b in days()) {
            let ((sa, ma), (sb, mb)) = (both(&a), both(&b));
            check(&sa, &ma);
            check(&sa.intersection(&sb), &ma.intersection(&mb).copied().collect());
            check(&sa.difference(&sb), &ma.difference(&mb).copied().collect());
            let mut union = sa.clone();
            union.extend(&sb);
            check(&union, &ma.union(&mb).copied().collect());
            for day in -25..30 {
                assert_eq!(sa.contains(day), ma.contains(&day));
            }
        }
    }

    #[test]
    fn day_to_date_around_epoch_round_trips() {
        for (day, text) in [
            (0, "1970-01-01"),
            (-1, "1969-12-31"),
            (19_723, "2024-01-01"),
        ] {
            assert_eq!(day_to_date(day).to_string(), text);
            assert_eq!(day_from_date(day_to_date(day)), day);
        }
        assert_eq!(day_of(-1), -1);
    }
}
