//! The order of the readings of a file in periods of local time that occur twice. The order decides whether a reading
//! belongs to the first or to the second occurrence, as pandas' `tz_localize(ambiguous="infer")` does.

use std::collections::HashMap;

/// The maximum number of assets times periods whose order is known. The readings of others are left out.
const MAX_SEQUENCES: usize = 1 << 20;

/// The occurrence of a repeated local time that a reading belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Position {
    First,
    Second,
    /// The order does not decide.
    Unknown,
}

/// The readings of one asset in one period, in row order.
#[derive(Debug, Default, Clone, Copy)]
struct Sequence {
    readings: u64,
    /// The local time of the last one.
    last: i64,
    /// The number of readings before the one at which local time does not advance.
    switch: Option<u64>,
    /// Whether the order contradicts one change of clocks: local time fails to advance more than once, or the period is
    /// entered again after readings of other times.
    is_contradictory: bool,
}

/// The period of the last reading of an asset.
#[derive(Debug, Default, Clone, Copy)]
struct LastReading {
    period: Option<usize>,
    section: u64,
}

/// The order of the readings of each asset in each period.
#[derive(Debug, Default)]
pub(super) struct ReadingOrder {
    assets: HashMap<String, u32>,
    last: Vec<LastReading>,
    sequences: HashMap<(u32, usize), Sequence>,
    /// The number of the contiguous part of the file that is being added.
    section: u64,
}

impl ReadingOrder {
    /// Adds the next reading of an asset: its period and its local time, or `None` if it is in no period.
    pub fn add(&mut self, id: &str, reading: Option<(usize, i64)>) {
        let asset = self.asset(id);
        let Some((period, local)) = reading else {
            if let Some(last) = asset.and_then(|asset| self.last.get_mut(asset as usize)) {
                last.period = None;
            }
            return;
        };
        let is_full = self.sequences.len() >= MAX_SEQUENCES;
        let asset = match asset {
            Some(asset) => asset,
            None if is_full => return,
            None => self.add_asset(id),
        };
        if is_full && !self.sequences.contains_key(&(asset, period)) {
            return;
        }
        let now = LastReading {
            period: Some(period),
            section: self.section,
        };
        let Some(last) = self.last.get_mut(asset as usize) else {
            return;
        };
        let former = std::mem::replace(last, now);
        let continues = former.period == now.period && former.section == now.section;
        let sequence = self.sequences.entry((asset, period)).or_default();
        sequence.is_contradictory |= sequence.readings > 0 && !continues;
        if sequence.readings > 0 && local <= sequence.last {
            sequence.is_contradictory |= sequence.switch.is_some();
            sequence.switch = Some(sequence.readings);
        }
        sequence.readings += 1;
        sequence.last = local;
    }

    /// Notes that rows are skipped, which may have readings of any asset outside of the periods.
    pub fn skip_rows(&mut self) {
        self.section += 1;
    }

    fn add_asset(&mut self, id: &str) -> u32 {
        // There are at most `MAX_SEQUENCES` assets.
        let asset = self.last.len() as u32;
        self.last.push(LastReading::default());
        self.assets.insert(id.to_owned(), asset);
        asset
    }

    /// Returns the number of an asset; `None` if it has no reading in a period.
    pub fn asset(&self, id: &str) -> Option<u32> {
        self.assets.get(id).copied()
    }

    /// Returns the occurrence of an asset's reading in a period; `index` counts these readings from 0 in row order.
    pub fn position(&self, asset: u32, period: usize, index: u64) -> Position {
        match self.sequences.get(&(asset, period)) {
            Some(Sequence {
                switch: Some(switch),
                is_contradictory: false,
                ..
            }) if index < *switch => Position::First,
            Some(Sequence {
                switch: Some(_),
                is_contradictory: false,
                ..
            }) => Position::Second,
            _ => Position::Unknown,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(times: &[Option<i64>]) -> Vec<Position> {
        let mut order = ReadingOrder::default();
        for time in times {
            match time {
                Some(local) => order.add("pump", Some((3, *local))),
                None => order.add("pump", None),
            }
        }
        let asset = order.asset("pump").unwrap();
        let inside = times.iter().flatten().count() as u64;
        (0..inside)
            .map(|index| order.position(asset, 3, index))
            .collect()
    }

    #[test]
    fn positions_follow_from_the_one_step_back() {
        use Position::{First, Second, Unknown};
        let t = Some;
        assert_eq!(positions(&[None, t(0), t(0), None]), [First, Second]);
        assert_eq!(
            positions(&[t(0), t(30), t(5), t(35)]),
            [First, First, Second, Second]
        );
        // Without a repetition, with two, and in a period that is entered again, pandas raises an error.
        assert_eq!(positions(&[t(0), t(30)]), [Unknown; 2]);
        assert_eq!(positions(&[t(0), t(0), t(0)]), [Unknown; 3]);
        assert_eq!(positions(&[t(0), t(30), None, t(5)]), [Unknown; 3]);
        let mut order = ReadingOrder::default();
        assert_eq!(order.asset("tank"), None);
        for (id, local) in [
            ("tank", 0),
            ("pump", 0),
            ("tank", 0),
            ("pump", 5),
            ("pump", 1),
        ] {
            order.add(id, Some((1, local)));
        }
        let position = |id: &str, index| order.position(order.asset(id).unwrap(), 1, index);
        assert_eq!([position("tank", 0), position("tank", 1)], [First, Second]);
        assert_eq!([position("pump", 1), position("pump", 2)], [First, Second]);
        // In rows that are skipped, clocks may have been set back.
        let mut order = ReadingOrder::default();
        order.add("tank", Some((1, 0)));
        order.skip_rows();
        order.add("tank", Some((1, 0)));
        assert_eq!(order.position(0, 1, 0), Unknown);
    }
}
