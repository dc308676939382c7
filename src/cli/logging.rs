//! Writes log lines to standard error without overwriting progress bars.

use std::io;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use super::output::Terminal;
use crate::config::{LogFormat, LogSettings};

/// Starts logging for the process.
pub(super) fn start(settings: &LogSettings, terminal: &Terminal) -> anyhow::Result<()> {
    let mut filter = EnvFilter::try_new(&settings.filter).context("cannot parse the log filter")?;
    // The crate warns about its own flags, which users of plantlake cannot change.
    if !settings.filter.contains("qdrant_edge") {
        filter = filter.add_directive("qdrant_edge=error".parse()?);
    }
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(terminal.stderr_is_terminal())
        .with_writer(LogWriter {
            terminal: terminal.clone(),
        });
    let started = match settings.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
    started.map_err(|error| anyhow::anyhow!(error).context("cannot start logging"))
}

/// A writer that hides the progress bars while it writes an entry.
#[derive(Clone)]
struct LogWriter {
    terminal: Terminal,
}

impl io::Write for LogWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let line = String::from_utf8_lossy(bytes);
        self.terminal
            .stderr(indent_continuation_lines(&line).as_bytes());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Returns an entry of the log with its later lines indented, so that text from a client cannot look like a separate
/// entry.
fn indent_continuation_lines(text: &str) -> String {
    let body = text.strip_suffix('\n').unwrap_or(text);
    format!("{}\n", body.replace('\r', "\\r").replace('\n', "\n    "))
}

impl<'a> MakeWriter<'a> for LogWriter {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}
