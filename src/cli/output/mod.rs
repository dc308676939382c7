//! What commands write: results to standard output, remarks, progress and errors to standard error.
//!
//! No other code writes to either: a pipe that closes early is dealt with here, and lines do not run into bars.

pub mod csv;
pub mod human;
mod progress;
mod table;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::config::redact;
pub use progress::{Progress, Unit};
pub use table::{Align, Table};

/// What `Display` says of a closed pipe; also how it is recognised by [`is_closed_output`].
const CLOSED: &str = "the reader of standard output has closed it";

/// Why something could not be written to standard output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader went away, as `head` does. The program ends without complaint.
    #[error("{CLOSED}")]
    Closed,
    /// Anything else, such as a full disk.
    #[error("standard output cannot be written")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        if error.kind() == ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(error)
        }
    }
}

/// Whether `error` came about because the reader of standard output went away.
pub fn is_closed_output(error: &anyhow::Error) -> bool {
    // Formats that write through `Terminal::writer` wrap its errors, some as mere text.
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(OutputError::Closed))
            || cause.to_string().contains(CLOSED)
    })
}

/// Standard output and standard error. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Terminal {
    bars: MultiProgress,
    quiet: bool,
}

impl Terminal {
    /// With `quiet`, there is no progress and no remark.
    pub fn new(quiet: bool) -> Self {
        Self {
            bars: MultiProgress::new(),
            quiet,
        }
    }

    /// Writes `text` to standard output as it is.
    pub fn print(&self, text: &str) -> Result<(), OutputError> {
        self.bars.suspend(|| {
            let mut out = io::stdout().lock();
            out.write_all(text.as_bytes())?;
            out.flush()
        })?;
        Ok(())
    }

    /// Writes `text` and a line's end to standard output.
    pub fn line(&self, text: &str) -> Result<(), OutputError> {
        self.print(&format!("{text}\n"))
    }

    /// Writes `table` to standard output, fitted to the terminal if it is one.
    pub fn table(&self, table: &Table) -> Result<(), OutputError> {
        self.print(&table.render(self.width()))
    }

    /// The columns of the terminal that standard output is, if it is one.
    pub fn width(&self) -> Option<usize> {
        if !io::stdout().is_terminal() {
            return None;
        }
        terminal_size::terminal_size().map(|(terminal_size::Width(width), _)| usize::from(width))
    }

    /// A buffered writer to standard output, for long results. It must be flushed at the end.
    pub fn writer(&self) -> impl Write + Send + use<> {
        BufWriter::with_capacity(1 << 16, Stdout)
    }

    /// Says something that the user may like to know on standard error; not when quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr(format!("{text}\n").as_bytes());
        }
    }

    /// Says something that the user must know on standard error, even when quiet.
    pub fn warn(&self, text: &str) {
        self.stderr(format!("warning: {text}\n").as_bytes());
    }

    /// Says why the program fails; `text` has all the words.
    pub(super) fn error(&self, text: &str) {
        self.stderr(format!("{text}\n").as_bytes());
    }

    /// Shows how far `label` is; see [`Progress`]. The total may be set later.
    pub fn progress(&self, label: &str, unit: Unit, total: Option<u64>) -> Progress {
        Progress::new(self, label, unit, total)
    }

    /// Takes all progress away, even of threads that an interruption left behind.
    pub(super) fn end_progress(&self) {
        // Where this fails there is no terminal to clear.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Whether somebody looks at standard error.
    pub fn stderr_is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Writes to standard error, without credentials. If that fails there is no place left to say so.
    pub(super) fn stderr(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = redact(&text);
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// Standard output with an error that [`is_closed_output`] knows again.
struct Stdout;

fn marked(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), OutputError::from(error))
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(marked)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(marked)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_closed_pipe_is_known_again_but_only_that_of_standard_output() {
        let pipe = || io::Error::from(ErrorKind::BrokenPipe);
        for closed in [
            anyhow::Error::new(OutputError::from(pipe())),
            anyhow::Error::new(marked(pipe())).context("csv"),
            anyhow::anyhow!("csv: {}", marked(pipe())),
        ] {
            assert!(is_closed_output(&closed), "{closed:?}");
        }
        assert!(!is_closed_output(&anyhow::Error::new(pipe())));
        let full = OutputError::from(io::Error::from(ErrorKind::StorageFull));
        assert!(!is_closed_output(&full.into()));
    }
}
