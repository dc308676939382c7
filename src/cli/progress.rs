//! How far a long command is: a bar on a terminal, plain lines elsewhere, nothing if asked.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressState, ProgressStyle};

use crate::clock::Stopwatch;

/// Time between two plain lines: often enough to see that it lives, too seldom to fill a log.
const BETWEEN_LINES: Duration = Duration::from_secs(5);

/// Where a command tells how far it is. May be called from several threads, and often.
pub trait Reporter: Send + Sync {
    /// `done` of `total` are done, in the unit that the reporter was made for.
    fn report(&self, done: u64, total: u64);

    /// It is over: what was drawn is taken away.
    fn finish(&self);
}

/// The reporter that fits standard error: a bar if that is a terminal, else lines.
///
/// `what` names what is counted, such as `readings`.
pub fn for_stderr(what: &'static str) -> Box<dyn Reporter> {
    if io::stderr().is_terminal() {
        Box::new(Bar::new(what))
    } else {
        Box::new(Lines::new(what, io::stderr()))
    }
}

/// Tells nobody.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Reporter for Silent {
    fn report(&self, _: u64, _: u64) {}

    fn finish(&self) {}
}

/// A bar with rate and time left.
struct Bar(ProgressBar);

impl Bar {
    fn new(what: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
        let template =
            format!("{{wide_bar}} {{percent}}% of {{human_len}} {what}, {{rate}}, {{eta}} left");
        // The template is fixed, so it is only wrong while being edited; then the default does.
        if let Ok(style) = ProgressStyle::with_template(&template) {
            let rate = |state: &ProgressState, out: &mut dyn std::fmt::Write| {
                // A bar that cannot be drawn must not stop the command.
                let _ = out.write_str(&per_second(state.per_sec()));
            };
            bar.set_style(style.with_key("rate", rate));
        }
        Self(bar)
    }
}

impl Reporter for Bar {
    fn report(&self, done: u64, total: u64) {
        if self.0.length() != Some(total) {
            self.0.set_length(total);
        }
        // Workers report out of turn; a bar that goes back would look broken.
        if done > self.0.position() {
            self.0.set_position(done);
        }
    }

    fn finish(&self) {
        self.0.finish_and_clear();
    }
}

/// A line from time to time.
struct Lines<W> {
    what: &'static str,
    watch: Stopwatch,
    state: Mutex<(Duration, W)>,
}

impl<W: Write + Send> Lines<W> {
    fn new(what: &'static str, out: W) -> Self {
        Self {
            what,
            watch: Stopwatch::start(),
            state: Mutex::new((Duration::ZERO, out)),
        }
    }
}

impl<W: Write + Send> Reporter for Lines<W> {
    fn report(&self, done: u64, total: u64) {
        let elapsed = self.watch.elapsed();
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if elapsed.saturating_sub(state.0) < BETWEEN_LINES || total == 0 {
            return;
        }
        state.0 = elapsed;
        let rate = done as f64 / elapsed.as_secs_f64();
        let left = if done == 0 {
            "unknown".to_owned()
        } else {
            format!("{:.0} s", (total.saturating_sub(done)) as f64 / rate)
        };
        // Standard error may be closed; that is no reason to stop.
        let _ = writeln!(
            state.1,
            "{}% of {total} {}, {}, {left} left",
            done * 100 / total,
            self.what,
            per_second(rate)
        );
    }

    fn finish(&self) {}
}

fn per_second(rate: f64) -> String {
    match rate {
        r if r >= 1e6 => format!("{:.1} million/s", r / 1e6),
        r if r >= 1e3 => format!("{:.1} thousand/s", r / 1e3),
        r => format!("{r:.0}/s"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_seldom() {
        let lines = Lines::new("readings", Vec::new());
        for done in 0..1_000 {
            lines.report(done, 1_000);
        }
        assert!(lines.state.lock().unwrap().1.is_empty());
    }

    #[test]
    fn rates_are_short() {
        assert_eq!(per_second(12_345_678.0), "12.3 million/s");
        assert_eq!(per_second(1_234.0), "1.2 thousand/s");
        assert_eq!(per_second(7.0), "7/s");
    }
}
