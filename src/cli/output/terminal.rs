//! Standard output and standard error.

use std::io::{self, BufWriter, IsTerminal, Write};

use indicatif::{MultiProgress, ProgressDrawTarget};

use super::error::OutputError;
use super::table::Table;
use crate::config::redact;

/// Standard output and standard error. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Terminal {
    pub(super) bars: MultiProgress,
    pub(super) quiet: bool,
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
    pub(in crate::cli) fn error(&self, text: &str) {
        self.stderr(format!("{text}\n").as_bytes());
    }

    /// Removes all progress bars, even those of threads that an interruption left running.
    pub(in crate::cli) fn end_progress(&self) {
        // If this fails, there is no terminal to clear.
        let _ = self.bars.clear();
        self.bars.set_draw_target(ProgressDrawTarget::hidden());
    }

    /// Whether standard error is a terminal.
    pub fn stderr_is_terminal(&self) -> bool {
        io::stderr().is_terminal()
    }

    /// Writes to standard error, with credentials masked. If that fails, there is no place to report it.
    pub(in crate::cli) fn stderr(&self, bytes: &[u8]) {
        let text = String::from_utf8_lossy(bytes);
        let text = redact(&text);
        self.bars.suspend(|| {
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}

/// Standard output, with errors that [`is_closed_output`](super::error::is_closed_output) recognises.
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
    use std::io::ErrorKind;

    use super::*;
    use crate::cli::output::error::is_closed_output;

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
