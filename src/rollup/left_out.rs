//! Readings that are left out: the reasons and their counts.

use serde::{Deserialize, Serialize};

/// The reasons why a reading is left out. A reading with several faults counts under the first of them in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum Reason {
    /// The time is null.
    NullTime,
    /// The time is outside the plausible range of the settings.
    TimeOutOfRange,
    /// The local time occurs twice, because clocks are set back, and the order of the readings in the file does not show
    /// which of the two instants is meant.
    AmbiguousTime,
    /// The asset id is null.
    NullId,
    /// The asset id is not a UUID.
    MalformedId,
    /// The value is null.
    NullValue,
    /// The value is not a number (NaN).
    NanValue,
    /// The value is infinite.
    InfiniteValue,
}

impl Reason {
    /// All reasons, in order of precedence.
    pub const ALL: [Self; 8] = [
        Self::NullTime,
        Self::TimeOutOfRange,
        Self::AmbiguousTime,
        Self::NullId,
        Self::MalformedId,
        Self::NullValue,
        Self::NanValue,
        Self::InfiniteValue,
    ];

    /// Returns the name in records and JSON.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NullTime => "null_time",
            Self::TimeOutOfRange => "time_out_of_range",
            Self::AmbiguousTime => "ambiguous_time",
            Self::NullId => "null_id",
            Self::MalformedId => "malformed_id",
            Self::NullValue => "null_value",
            Self::NanValue => "nan_value",
            Self::InfiniteValue => "infinite_value",
        }
    }
}

/// The number of readings that were left out, by reason.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LeftOut([u64; Reason::ALL.len()]);

impl LeftOut {
    /// Adds `readings` to the count of `reason`.
    pub fn add(&mut self, reason: Reason, readings: u64) {
        self.0[reason as usize] += readings;
    }

    /// Adds the counts of `other`.
    pub fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.0.iter_mut().zip(other.0) {
            *mine += theirs;
        }
    }

    /// Returns the number of readings that were left out for any reason.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Returns the reasons with counts above 0, and their counts.
    pub fn iter(&self) -> impl Iterator<Item = (Reason, u64)> + '_ {
        Reason::ALL
            .into_iter()
            .zip(self.0)
            .filter(|&(_, count)| count > 0)
    }
}

impl Serialize for LeftOut {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.iter().map(|(reason, count)| (reason.name(), count)))
    }
}

impl<'de> Deserialize<'de> for LeftOut {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let counts = std::collections::BTreeMap::<Reason, u64>::deserialize(deserializer)?;
        let mut left_out = Self::default();
        for (reason, count) in counts {
            left_out.add(reason, count);
        }
        Ok(left_out)
    }
}
