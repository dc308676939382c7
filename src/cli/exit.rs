//! Exit codes, and the report of an error that ends the program.

use std::error::Error;
use std::fmt;

use super::output::{OutputError, Terminal, is_closed_output};
use crate::config::ConfigError;

/// The exit code of the program. Scripts rely on these codes: their meaning never changes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// The command succeeded.
    Success = 0,
    /// Something failed.
    Failure = 1,
    /// The command line or the settings are wrong.
    Usage = 2,
    /// Finished, but some input was left out (quarantined files).
    LeftOut = 3,
    /// Refused, because another run is active.
    Refused = 4,
    /// The checked data differs from what was recorded (`plantlake usage verify`).
    Differs = 5,
    /// Interrupted by Ctrl-C or SIGTERM.
    Interrupted = 130,
}

impl Exit {
    const ALL: [Self; 7] = [
        Self::Success,
        Self::Failure,
        Self::Usage,
        Self::LeftOut,
        Self::Refused,
        Self::Differs,
        Self::Interrupted,
    ];

    /// Returns the meaning of the code, for `--help`.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Success => "done",
            Self::Failure => "something failed",
            Self::Usage => "the command line or the settings are wrong",
            Self::LeftOut => {
                "finished, but some input was left out (quarantined files, an unusable catalog)"
            }
            Self::Refused => "refused, because another run is active",
            Self::Differs => {
                "the checked data differs from what was recorded (usage verify, audit verify)"
            }
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns all codes with their meanings, for `--help`.
    pub(super) fn table() -> String {
        let line = |exit: Self| format!("  {:>3}  {}\n", exit as u8, exit.meaning());
        format!("Exit codes:\n{}", Self::ALL.map(line).concat())
    }

    /// Wraps `error` so that it ends the program with this code instead of 1.
    pub fn wrap(self, error: impl Into<anyhow::Error>) -> anyhow::Error {
        anyhow::Error::new(WithExit {
            exit: self,
            error: error.into(),
        })
    }
}

/// An error with the exit code that it requires; its text is that of the wrapped error.
#[derive(Debug)]
pub struct WithExit {
    exit: Exit,
    error: anyhow::Error,
}

impl fmt::Display for WithExit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)
    }
}

impl Error for WithExit {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// Prints why the program failed, and returns the exit code.
///
/// If the reader closed standard output (`plantlake … | head`), that is not a failure, and nothing is printed.
pub fn report(error: &anyhow::Error) -> Exit {
    if is_closed_output(error) {
        return Exit::Success;
    }
    Terminal::new(true).error(&error_chain(error));
    exit_of(error)
}

/// Returns the exit code of an action that runs outside [`dispatch`](super::dispatch::dispatch).
pub(super) fn exit_of_output(outcome: Result<(), OutputError>) -> Exit {
    match outcome {
        Ok(()) => Exit::Success,
        Err(error) => report(&error.into()),
    }
}

fn exit_of(error: &anyhow::Error) -> Exit {
    error
        .chain()
        .find_map(|cause| {
            let wrong_settings = || cause.is::<ConfigError>().then_some(Exit::Usage);
            cause
                .downcast_ref::<WithExit>()
                .map(|with| with.exit)
                .or_else(wrong_settings)
        })
        .unwrap_or(Exit::Failure)
}

/// Returns the error and its causes, one per line.
///
/// Libraries often repeat a cause in the text of its effect; such a cause is left out.
fn error_chain(error: &anyhow::Error) -> String {
    let mut said = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if said.is_empty() {
            said = format!("error: {}", indent(&text));
        } else if !text.is_empty() && !said.contains(&indent(&text)) {
            said.push_str(&format!("\n  caused by: {}", indent(&text)));
        }
    }
    said
}

fn indent(text: &str) -> String {
    text.trim_end().replace('\n', "\n    ")
}

#[cfg(test)]
mod tests {
    use anyhow::anyhow;

    use super::*;

    #[test]
    fn error_chain_with_repeated_cause_lists_it_once() {
        let error = anyhow!("no space")
            .context("cannot write: no space")
            .context("commit failed");
        assert_eq!(
            error_chain(&error),
            "error: commit failed\n  caused by: cannot write: no space"
        );
        assert_eq!(error_chain(&anyhow!("a\nb")), "error: a\n    b");
    }

    #[test]
    fn error_with_exit_code_keeps_its_text() {
        let error = Exit::Refused
            .wrap(anyhow!("root").context("held"))
            .context("resample");
        assert_eq!(exit_of(&error), Exit::Refused);
        let expected = "error: resample\n  caused by: held\n  caused by: root";
        assert_eq!(error_chain(&error), expected);
        assert_eq!(exit_of(&anyhow!("plain")), Exit::Failure);
    }

    #[test]
    fn table_lists_every_code() {
        assert!(Exit::table().contains("  130  interrupted\n"));
        assert_eq!(Exit::table().lines().count(), 1 + Exit::ALL.len());
    }
}
