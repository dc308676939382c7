//! Errors in settings, with their origins.

use std::fmt;
use std::path::PathBuf;

/// The origin of a setting's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    /// The default.
    Default,
    /// A line of the settings file.
    File {
        /// The file, as given.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
    },
    /// A line of `.env`.
    DotEnv {
        /// The file.
        path: PathBuf,
        /// The line number, from 1.
        line: usize,
    },
    /// An environment variable, by name.
    Environment(String),
    /// A flag, such as `--lake`.
    Flag(&'static str),
}

impl Origin {
    /// Whether both are the same source (file, `.env`, environment, flags), at any line or name.
    pub(super) fn is_same_source(&self, other: &Self) -> bool {
        std::mem::discriminant(self) == std::mem::discriminant(other)
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::File { path, line } | Self::DotEnv { path, line } => {
                write!(f, "{}:{line}", path.display())
            }
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::Flag(flag) => write!(f, "flag {flag}"),
        }
    }
}

/// The reason for which the settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("cannot read the settings file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// The file of a secret, which a variable names, cannot be read.
    #[error("{origin}: cannot read the file {}; check that it exists and is readable", path.display())]
    SecretFile {
        /// The variable.
        origin: Origin,
        /// The file.
        path: PathBuf,
        /// The cause.
        source: std::io::Error,
    },
    /// A file or a variable is malformed. The message does not quote the line, which may hold a secret.
    #[error("{origin}: {message}")]
    Syntax {
        /// The line.
        origin: Origin,
        /// The problem.
        message: String,
    },
    /// No setting has this name.
    #[error("{origin}: unknown setting `{name}`; {}", suggestion(nearest.as_deref()))]
    Unknown {
        /// The place where it was found.
        origin: Origin,
        /// The name in that source.
        name: String,
        /// The known setting with the most similar name, as that source spells it; `None` if none is similar.
        nearest: Option<String>,
    },
    /// One source sets the same setting twice.
    #[error("{origin}: `{name}` is already set by {first}")]
    Duplicate {
        /// The second place.
        origin: Origin,
        /// The setting.
        name: String,
        /// The first place.
        first: Origin,
    },
    /// The value is of the wrong type or out of range.
    #[error("{0}")]
    Value(Box<InvalidValue>),
}

fn suggestion(nearest: Option<&str>) -> String {
    match nearest {
        Some(nearest) => format!("the nearest known one is `{nearest}`"),
        None => "`plantlake config --docs` lists all settings".to_owned(),
    }
}

/// A value that a setting cannot have.
#[derive(Debug)]
pub struct InvalidValue {
    /// The origin of the value.
    pub origin: Origin,
    /// The setting.
    pub key: String,
    /// The value, quoted if it is text; masked if it is a secret.
    pub found: String,
    /// The problem, as words that follow "which".
    pub problem: String,
    /// The accepted values.
    pub expected: &'static str,
}

impl fmt::Display for InvalidValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            origin,
            key,
            found,
            problem,
            expected,
        } = self;
        write!(
            f,
            "{origin}: `{key}` is {found}, which {problem}; expected {expected}"
        )
    }
}

impl From<InvalidValue> for ConfigError {
    fn from(wrong: InvalidValue) -> Self {
        Self::Value(Box::new(wrong))
    }
}
