//! The output of commands: results go to standard output; notes, progress and errors go to standard error.
//!
//! No other code writes to either. Thus a pipe that closes early is handled here, and lines do not overwrite progress
//! bars.

pub mod csv;
pub mod human;
mod progress;
mod table;

use std::io::{self, BufWriter, ErrorKind, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};

use crate::config::redact;
pub use progress::{Progress, Unit};
pub use table::{Align, Table};

/// The text of [`OutputError::Closed`], by which [`is_closed_output`] recognises it.
const CLOSED_OUTPUT_TEXT: &str = "the reader of standard output has closed it";

/// An error of writing to standard output.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader closed the pipe, as `head` does. The program ends without an error.
    #[error("{CLOSED_OUTPUT_TEXT}")]
    Closed,
    /// Any other error, such as a full disk.
    #[error("cannot write to standard output")]
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

/// Whether the cause of `error` is that the reader closed standard output.
pub fn is_closed_output(error: &anyhow::Error) -> bool {
    // Libraries that write through `Terminal::writer` wrap its errors, some of them only as text.
    error.chain().any(|cause| {
        matches!(cause.downcast_ref(), Some(OutputError::Closed))
            || cause.to_string().contains(CLOSED_OUTPUT_TEXT)
    })
}

/// Standard output and standard error. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Terminal {
    bars: MultiProgress,
    quiet: bool,
}

impl Terminal {
    /// Creates a terminal. With `quiet`, progress and notes are suppressed.
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

    /// Writes `text` and a line feed to standard output.
    pub fn line(&self, text: &str) -> Result<(), OutputError> {
        self.print(&format!("{text}\n"))
    }

    /// Writes `table` to standard output, fitted to the terminal if it is one.
    pub fn table(&self, table: &Table) -> Result<(), OutputError> {
        self.print(&table.render(self.width()))
    }

    /// Returns the width of standard output in columns, if it is a terminal.
    pub fn width(&self) -> Option<usize> {
        if !io::stdout().is_terminal() {
            return None;
        }
        terminal_size::terminal_size().map(|(terminal_size::Width(width), _)| usize::from(width))
    }

    /// Returns a buffered writer to standard output, for long results. The caller must flush it at the end.
    pub fn writer(&self) -> impl Write + Send + use<> {
        BufWriter::with_capacity(1 << 16, Stdout)
    }

    /// Writes a note to standard error, unless the terminal is quiet.
    pub fn note(&self, text: &str) {
        if !self.quiet {
            self.stderr(format!("{text}\n").as_bytes());
        }
    }

    /// Writes a warning to standard error, even if the terminal is quiet.
    pub fn warn(&self, text: &str) {
        self.stderr(format!("warning: {text}\n").as_bytes());
    }

    /// Writes the error that ends the program to standard error; `text` is the complete message.
    pub(super) fn error(&self, text: &str) {
        self.stderr(format!("{text}\n").as_bytes());
    }

    /// Shows the progress of `label`; see [`Progress`]. The total may be set later.
    pub fn progress(&self, label: &str, unit: Unit, total: Option<u64>) -> Progress {
        Progress::new(self, label, unit, total)
    }

    /// Removes all progress bars, even those of threads that an interruption left running.
    pub(super) fn end_progress(&self) {
        // If this fails, there is no terminal to clear.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Whether standard error is a terminal.
    pub fn stderr_is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Writes to standard error, with credentials masked. If that fails, there is no place to report it.
    pub(super) fn stderr(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = redact(&text);
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// Standard output, with errors that [`is_closed_output`] recognises.
struct Stdout;

fn to_output_error(error: io::Error) -> io::Error {
    io::Error::new(error.kind(), OutputError::from(error))
}

impl Write for Stdout {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stdout().write(bytes).map_err(to_output_error)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stdout().flush().map_err(to_output_error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_closed_output_recognises_standard_output_only() {
        let pipe = || io::Error::from(ErrorKind::BrokenPipe);
        for closed in [
            anyhow::Error::new(OutputError::from(pipe())),
            anyhow::Error::new(to_output_error(pipe())).context("csv"),
            anyhow::anyhow!("csv: {}", to_output_error(pipe())),
        ] {
            assert!(is_closed_output(&closed), "{closed:?}");
        }
        assert!(!is_closed_output(&anyhow::Error::new(pipe())));
        let full = OutputError::from(io::Error::from(ErrorKind::StorageFull));
        assert!(!is_closed_output(&full.into()));
    }
}
