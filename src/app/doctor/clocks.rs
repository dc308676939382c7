//! Compares clocks. Clocks that differ do not take a run away from its owner, but they bill requests in the wrong
//! month, end tokens too early, and place readings of today in the future.

use chrono::{DateTime, TimeDelta, Utc};

use super::finding::Finding;
use crate::clock;

/// The difference that networks and file systems explain.
const MAX_NORMAL_DIFFERENCE: TimeDelta = TimeDelta::seconds(5);
/// The difference above which a clock is wrong.
const MAX_TOLERATED_DIFFERENCE: TimeDelta = TimeDelta::minutes(5);
const REMEDY: &str = "synchronise the clocks by NTP (timedatectl shows the state of this machine's), and check which of the \
                    two is wrong";

/// The times that were collected.
#[derive(Default)]
pub(super) struct Clocks {
    /// Other clocks, and how far each is ahead of this one.
    others: Vec<(String, TimeDelta)>,
    /// Past events, and how far each lies in the future.
    ahead: Vec<(String, TimeDelta)>,
}

impl Clocks {
    /// Adds the current time of another clock.
    pub fn add_clock(&mut self, place: impl Into<String>, there: DateTime<Utc>) {
        self.others.push((place.into(), there - clock::now()));
    }

    /// Adds the time of an event that must lie in the past.
    pub fn add_past_event(&mut self, what: impl Into<String>, at: DateTime<Utc>) {
        let ahead = at - clock::now();
        self.ahead.push((what.into(), ahead.max(TimeDelta::zero())));
    }

    /// Returns the finding for the largest difference.
    pub fn finding(self) -> Finding {
        let now = clock::now().format("%Y-%m-%d %H:%M:%S UTC");
        let compared = self.others.len();
        let all = self.others.into_iter().chain(self.ahead);
        let worst = all.max_by_key(|(_, by)| by.abs());
        match worst {
            Some((place, by)) if by.abs() > MAX_NORMAL_DIFFERENCE => {
                let direction = if by > TimeDelta::zero() {
                    "ahead of"
                } else {
                    "behind"
                };
                let seconds = by.abs().num_seconds();
                let found =
                    format!("{place} is {seconds} s {direction} this machine's clock ({now})");
                match by.abs() > MAX_TOLERATED_DIFFERENCE {
                    true => Finding::wrong("clock", found, REMEDY),
                    false => Finding::note("clock", found, REMEDY),
                }
            }
            _ => Finding::right(
                "clock",
                match compared {
                    0 => format!("{now}; clock is plausible"),
                    _ => format!("{now}, as the other clocks; clock is plausible"),
                },
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::doctor::finding::Severity;

    #[test]
    fn finding_reports_worst_clock_and_accepts_past_events() {
        let now = clock::now();
        let standing = |compared: i64, happened: i64| {
            let mut clocks = Clocks::default();
            clocks.add_clock("the database's clock", now + TimeDelta::seconds(compared));
            clocks.add_past_event("the newest run", now + TimeDelta::seconds(happened));
            let finding = clocks.finding();
            (finding.standing, finding.found)
        };
        assert_eq!(standing(1, -9_000_000).0, Severity::Right);
        let (off, found) = standing(-60, 0);
        assert_eq!(off, Severity::Note);
        assert!(
            found.starts_with("the database's clock is 60 s behind"),
            "{found}"
        );
        let (off, found) = standing(0, 86_400);
        assert_eq!(off, Severity::Wrong);
        assert!(found.starts_with("the newest run is 86"), "{found}");
    }
}
