//! What can be wrong with the organisation database, or with what is asked of it.

use std::fmt;
use std::path::PathBuf;

use crate::config::DatabaseUrl;

/// Why something could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no connection to be had.
    #[error(
        "the organisation database {url} cannot be reached; check `organisation_url`, that the server runs and that the database exists"
    )]
    Unreachable {
        /// The URL, without its password.
        url: String,
        /// What the driver says.
        source: Box<sqlx::Error>,
    },
    /// The file of a SQLite database, or of its lock, cannot be made or opened.
    #[error("the organisation database's file {} cannot be opened; check that you may write there", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        source: std::io::Error,
    },
    /// The database was migrated by a later plantlake.
    #[error(
        "the organisation database {url} is of a later version of plantlake (it has step {version}); use that version"
    )]
    Newer {
        /// The URL, without its password.
        url: String,
        /// The step that is not known here.
        version: i64,
    },
    /// A step of the schema failed; nothing of it was done.
    #[error("the organisation database {url} cannot be brought up to date")]
    Migration {
        /// The URL, without its password.
        url: String,
        /// What the driver says.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// A statement failed.
    #[error("the organisation database did not do what it was asked")]
    Statement(#[source] Box<sqlx::Error>),
    /// A value is not of the form in which it is written here.
    #[error("the organisation database is damaged: column {column} has {found}")]
    Damaged {
        /// The column.
        column: String,
        /// What is there.
        found: String,
    },
    /// What is to be put into a table is not a copy of one.
    #[error("the copy of table {table} cannot be used: {problem}")]
    Copy {
        /// The table.
        table: String,
        /// What is wrong.
        problem: String,
    },
    /// There is no such organisation, user or key.
    #[error("there is no {what} {name:?}; `plantlake {command}` shows all")]
    NotFound {
        /// `organisation`, `user`, ….
        what: &'static str,
        /// What was asked for.
        name: String,
        /// The command that lists what there is.
        command: &'static str,
    },
    /// Another has the name already.
    #[error("there is {what} {name:?} already")]
    Taken {
        /// `an organisation`, `a user`.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// All places are taken.
    #[error(
        "organisation {organisation:?} has reached its limit of {limit} users; the places are held by {holders}. \
         Remove one with `plantlake user remove`, or raise the limit with `plantlake org set-limit`"
    )]
    LimitReached {
        /// Its name.
        organisation: String,
        /// How many users it may have.
        limit: i64,
        /// Who has the places.
        holders: Holders,
    },
    /// The new limit is below what is in use.
    #[error(
        "organisation {organisation:?} cannot have a limit of {limit}: {taken} places are held by {holders}. \
         Remove users first, with `plantlake user remove`"
    )]
    LimitTooLow {
        /// Its name.
        organisation: String,
        /// The limit that was asked for.
        limit: i64,
        /// How many users it has.
        taken: usize,
        /// Who they are.
        holders: Holders,
    },
    /// A text is too long to be stored, or has control characters.
    #[error(transparent)]
    Unfit(#[from] crate::model::UnfitText),
    /// What was asked for makes no sense for this user, key or organisation.
    #[error("{0}")]
    Refused(String),
}

/// Users by their addresses; of many, some.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holders(pub Vec<String>);

impl fmt::Display for Holders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 20;
        let shown: Vec<&str> = self.0.iter().take(SHOWN).map(String::as_str).collect();
        match (shown.as_slice(), self.0.len().saturating_sub(SHOWN)) {
            ([], _) => f.write_str("nobody"),
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

    /// Whether the database itself failed, as opposed to what was asked of it.
    pub fn is_outage(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. } | Self::Statement(_) | Self::File { .. }
        )
    }

    /// Whether the database will never take what it was given: it has no such organisation, or not such a value. Only the
    /// data is at fault, not the state that the database is in.
    pub fn is_refusal(&self) -> bool {
        let Self::Statement(source) = self else {
            return false;
        };
        source.as_database_error().is_some_and(|error| {
            let is_constraint = error.is_foreign_key_violation()
                || error.is_check_violation()
                || matches!(error.kind(), sqlx::error::ErrorKind::NotNullViolation);
            // Postgres's class of errors of data.
            is_constraint
                || error
                    .code()
                    .is_some_and(|code| code.len() == 5 && code.starts_with("22"))
        })
    }

    /// Whether a unique value exists already.
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
