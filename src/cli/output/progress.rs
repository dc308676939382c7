//! The progress of an operation: a bar on a terminal, a line every few seconds in a log, nothing if the terminal is
//! quiet.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressState, ProgressStyle};

use super::human;
use super::terminal::Terminal;
use crate::clock::Stopwatch;

/// The time between two lines if there is no terminal.
const LINE_INTERVAL: Duration = Duration::from_secs(5);
/// The time between two drawings of a bar without progress.
const TICK_INTERVAL: Duration = Duration::from_millis(200);
/// The value of a total that is not known.
const UNKNOWN: u64 = u64::MAX;

/// The unit of a count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Items, by their plural: `files`, `readings`.
    Count(&'static str),
    /// Bytes.
    Bytes,
}

impl Unit {
    fn amount(self, number: u64) -> String {
        match self {
            Self::Count(_) => human::count(number),
            Self::Bytes => human::bytes(number),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Count(name) => name,
            Self::Bytes => "",
        }
    }

    fn rate(self, per_second: f64) -> String {
        match self {
            Self::Count(name) => human::rate(per_second, name),
            Self::Bytes => human::byte_rate(per_second),
        }
    }
}

/// A count that is displayed. Cheap to clone; any thread may add to it. It disappears when its last clone is dropped.
#[derive(Debug, Clone)]
pub struct Progress {
    shown: Arc<ProgressDisplay>,
}

#[derive(Debug)]
enum ProgressDisplay {
    Nothing,
    Bar { bar: ProgressBar, unit: Unit },
    Lines(Lines),
}

impl Terminal {
    /// Shows the progress of `label`; see [`Progress`]. The total may be set later.
    pub fn progress(&self, label: &str, unit: Unit, total: Option<u64>) -> Progress {
        Progress::new(self, label, unit, total)
    }
}

impl Progress {
    fn new(terminal: &Terminal, label: &str, unit: Unit, total: Option<u64>) -> Self {
        let shown = if terminal.quiet {
            ProgressDisplay::Nothing
        } else if terminal.stderr_is_terminal() {
            let bar = terminal
                .bars
                .add(ProgressBar::no_length().with_message(label.to_owned()));
            bar.set_style(style(unit, total.is_some()));
            if let Some(total) = total {
                bar.set_length(total);
            }
            bar.enable_steady_tick(TICK_INTERVAL);
            ProgressDisplay::Bar { bar, unit }
        } else {
            ProgressDisplay::Lines(Lines::new(terminal.clone(), label, unit, total))
        };
        Self {
            shown: Arc::new(shown),
        }
    }

    /// Adds `amount` to the count. It is to be called for each batch, not for each row.
    pub fn add(&self, amount: u64) {
        match &*self.shown {
            ProgressDisplay::Nothing => {}
            ProgressDisplay::Bar { bar, .. } => bar.inc(amount),
            ProgressDisplay::Lines(lines) => lines.add(amount),
        }
    }

    /// Sets the total, or changes it.
    pub fn set_total(&self, total: u64) {
        match &*self.shown {
            ProgressDisplay::Nothing => {}
            ProgressDisplay::Bar { bar, unit } => {
                bar.set_style(style(*unit, true));
                bar.set_length(total);
            }
            ProgressDisplay::Lines(lines) => lines.total.store(total, Ordering::Relaxed),
        }
    }
}

impl Drop for ProgressDisplay {
    fn drop(&mut self) {
        if let Self::Bar { bar, .. } = self {
            bar.finish_and_clear();
        }
    }
}

fn style(unit: Unit, has_total: bool) -> ProgressStyle {
    let template = if has_total {
        "{msg} [{bar:24}] {done} of {total}, {rate}, {left} left"
    } else {
        "{spinner} {msg} {done}, {rate}"
    };
    type Out<'a> = &'a mut dyn fmt::Write;
    // Both templates are valid constants, and writing to the line cannot fail.
    ProgressStyle::with_template(template)
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
        .with_key("done", move |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&unit.amount(state.pos()));
        })
        .with_key("total", move |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&unit.amount(state.len().unwrap_or_default()));
        })
        .with_key("rate", move |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&unit.rate(state.per_sec()));
        })
        .with_key("left", |state: &ProgressState, out: Out<'_>| {
            let _ = out.write_str(&time_left(state.eta()));
        })
}

/// Formats the remaining time in whole seconds, because smaller units would flicker.
fn time_left(left: Duration) -> String {
    // The limit of 9,999 days: longer forecasts are meaningless.
    match (left.as_secs_f64().ceil() as u64).min(9_999 * 86_400) {
        seconds @ ..60 => format!("{seconds} s"),
        seconds => human::duration(Duration::from_secs(seconds)),
    }
}

/// Progress that is written as lines, if there is no terminal.
#[derive(Debug)]
struct Lines {
    terminal: Terminal,
    label: String,
    unit: Unit,
    done: AtomicU64,
    total: AtomicU64,
    since: Stopwatch,
    /// The time of the last line, in milliseconds since the start.
    last: AtomicU64,
}

impl Lines {
    fn new(terminal: Terminal, label: &str, unit: Unit, total: Option<u64>) -> Self {
        Self {
            terminal,
            label: label.to_owned(),
            unit,
            done: AtomicU64::new(0),
            total: AtomicU64::new(total.unwrap_or(UNKNOWN)),
            since: Stopwatch::start(),
            last: AtomicU64::new(0),
        }
    }

    fn add(&self, amount: u64) {
        let done = self.done.fetch_add(amount, Ordering::Relaxed) + amount;
        let elapsed = self.since.elapsed();
        let now = elapsed.as_millis() as u64;
        let last = self.last.load(Ordering::Relaxed);
        let due = now.saturating_sub(last) >= LINE_INTERVAL.as_millis() as u64;
        // Only one of the threads that find a line to be due writes it.
        if due
            && self
                .last
                .compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed)
                .is_ok()
        {
            let total = self.total.load(Ordering::Relaxed);
            self.terminal
                .note(&describe(&self.label, self.unit, done, total, elapsed));
        }
    }
}

/// Formats a line: `resample: 1,000 of 4,000 readings (25%), 500 readings/s, 6 s left`.
fn describe(label: &str, unit: Unit, done: u64, total: u64, elapsed: Duration) -> String {
    let per_second = done as f64 / elapsed.as_secs_f64().max(1e-3);
    let rate = unit.rate(per_second);
    let amount = unit.amount(done);
    let name = if unit.name().is_empty() {
        String::new()
    } else {
        format!(" {}", unit.name())
    };
    if total == UNKNOWN {
        return format!("{label}: {amount}{name}, {rate}");
    }
    let percent = done.min(total) as f64 / total.max(1) as f64 * 100.0;
    let total_text = unit.amount(total);
    let left = total.saturating_sub(done) as f64 / per_second.max(1e-9);
    let left = time_left(Duration::try_from_secs_f64(left).unwrap_or(Duration::MAX));
    format!("{label}: {amount} of {total_text}{name} ({percent:.0}%), {rate}, {left} left")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describe_shows_rate_and_time_left() {
        let two = Duration::from_secs(2);
        assert_eq!(
            describe("resample", Unit::Count("readings"), 1_000, 4_000, two),
            "resample: 1,000 of 4,000 readings (25%), 500 readings/s, 6 s left"
        );
        assert_eq!(
            describe("read", Unit::Bytes, 4_096, UNKNOWN, two),
            "read: 4.0 KiB, 2.0 KiB/s"
        );
        assert!(describe("x", Unit::Bytes, 0, 5, two).contains("(0%), 0 B/s, 9999 d left"));
    }

    #[test]
    fn progress_on_quiet_terminal_accepts_updates() {
        let progress = Terminal::new(true).progress("x", Unit::Bytes, None);
        progress.set_total(5);
        progress.clone().add(9);
    }
}
