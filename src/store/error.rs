//! Errors of the organisation database and of requests to it.

use std::fmt;
use std::path::PathBuf;

use crate::config::DatabaseUrl;

/// The reason why something could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No connection can be established.
    #[error(
        "cannot reach the organisation database {url}; \
         check `organisation_url`, that the server is running and that the database exists"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// The driver's error.
        source: Box<sqlx::Error>,
    },
    /// The file of a SQLite database, or its lock file, cannot be created or opened.
    #[error("cannot open the organisation database file {}; check that you may write to its folder", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        source: std::io::Error,
    },
    /// The database is to be read, but the file of a SQLite database does not exist.
    #[error(
        "cannot open the organisation database {}: it does not exist; check --lake, --state and `organisation_url`, or \
         create it with `plantlake migrate`", path.display()
    )]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// A later version of plantlake migrated the database.
    #[error(
        "the organisation database {url} is of a later version of plantlake (it has step {version}); use that version"
    )]
    SchemaTooNew {
        /// The URL, without its password.
        url: String,
        /// The migration step that this version does not know.
        version: i64,
    },
    /// A migration step failed and was rolled back.
    #[error("cannot migrate the organisation database {url}")]
    Migration {
        /// The URL, without its password.
        url: String,
        /// The driver's error.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A statement failed.
    #[error("the organisation database failed")]
    Statement(#[source] Box<sqlx::Error>),
    /// A stored value does not have the format in which this program writes it.
    #[error("the organisation database is damaged: column {column} has {found}")]
    Damaged {
        /// The column.
        column: String,
        /// The value found.
        found: String,
    },
    /// The content to be restored into a table is not a valid copy of it.
    #[error("cannot restore table {table}: {problem}")]
    InvalidCopy {
        /// The table.
        table: String,
        /// The problem found.
        problem: String,
    },
    /// No organisation, user, key or session has this name or id.
    #[error("there is no {what} {name:?}; `plantlake {command}` shows all")]
    NotFound {
        /// `organisation`, `user`, ….
        what: &'static str,
        /// The requested name or id.
        name: String,
        /// The command that lists the existing ones.
        command: &'static str,
    },
    /// The name is already in use.
    #[error("{what} {name:?} already exists")]
    AlreadyExists {
        /// `an organisation`, `a user`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// The organisation has as many users as its limit allows.
    #[error(
        "organisation {organisation:?} has reached its limit of {limit} users; it has {holders}. \
         Remove one with `plantlake user remove`, or raise the limit with `plantlake org set-limit`"
    )]
    LimitReached {
        /// The organisation's name.
        organisation: String,
        /// The maximum number of users.
        limit: i64,
        /// The users who count towards the limit.
        holders: UserAddresses,
    },
    /// The new limit is below the current number of users.
    #[error(
        "cannot set the user limit of organisation {organisation:?} to {limit}: it has {taken} users: {holders}. \
         Remove users first, with `plantlake user remove`"
    )]
    LimitTooLow {
        /// The organisation's name.
        organisation: String,
        /// The requested limit.
        limit: i64,
        /// The current number of users.
        taken: usize,
        /// The users who count towards the limit.
        holders: UserAddresses,
    },
    /// A text is too long to be stored, or has control characters.
    #[error(transparent)]
    InvalidText(#[from] crate::model::InvalidText),
    /// The request is not allowed for this user, key or organisation; the text says why.
    #[error("{0}")]
    Refused(String),
}

/// Users by their addresses. `Display` lists at most 20 of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserAddresses(pub Vec<String>);

impl fmt::Display for UserAddresses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let shown: Vec<&str> = self.0.iter().take(SHOWN).map(String::as_str).collect();
        match (shown.as_slice(), self.0.len().saturating_sub(SHOWN)) {
            ([], _) => f.write_str("none"),
            (shown, 0) => f.write_str(&shown.join(", ")),
            (shown, more) => write!(f, "{} and {more} more", shown.join(", ")),
        }
    }
}

impl StoreError {
    pub(super) fn unreachable(url: &DatabaseUrl, source: sqlx::Error) -> Self {
        Self::Unreachable {
            url: url.to_string(),
            source: Box::new(source),
        }
    }

    pub(super) fn damaged(column: &str, found: &dyn fmt::Display) -> Self {
        Self::Damaged {
            column: column.to_owned(),
            found: found.to_string(),
        }
    }

    /// Whether the database itself failed, as opposed to the request being invalid.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Statement(_) | Self::File { .. }
        )
    }

    /// Whether the database rejects the data permanently: it violates a constraint, for example by an unknown
    /// organisation, or is not a valid value. The data is at fault, not the state of the database.
    pub fn is_refusal(&self) -> bool {
        let Self::Statement(source) = self else {
            return false;
        };
        source.as_database_error().is_some_and(|error| {
            let is_constraint = error.is_foreign_key_violation()
                || error.is_check_violation()
                || matches!(error.kind(), sqlx::error::ErrorKind::NotNullViolation);
            // Postgres error class 22: data exceptions.
            is_constraint
                || error
                    .code()
                    .is_some_and(|code| code.len() == 5 && code.starts_with("22"))
        })
    }

    /// Whether a unique constraint was violated.
    pub(super) fn is_duplicate(&self) -> bool {
        matches!(self, Self::Statement(source) if source
            .as_database_error()
            .is_some_and(|error| error.is_unique_violation()))
    }
}

impl From<sqlx::Error> for StoreError {
    fn from(source: sqlx::Error) -> Self {
        Self::Statement(Box::new(source))
    }
}
