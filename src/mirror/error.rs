//! Errors of a mirror run, and whether a retry may succeed.

use std::time::Duration;

use crate::config::DatabaseUrl;
use crate::lake::delta::error::TableError;
use crate::lake::records::runs::RunsError;

/// The reason for which a mirror run failed. Its transaction was rolled back, so that readers of the mirror see no
/// change.
#[derive(Debug, thiserror::Error)]
pub enum MirrorError {
    /// Postgres or the connection to it failed.
    #[error("the mirror {url} failed while {doing}{}", remedy(source))]
    Database {
        /// The URL, without its password.
        url: String,
        /// The operation.
        doing: &'static str,
        /// The error of the driver.
        source: Box<sqlx::Error>,
    },
    /// Postgres did not answer in time.
    #[error(
        "the mirror {url} did not answer within {} s while {doing}: check the server, or raise `mirror.timeout`",
        timeout.as_secs()
    )]
    TimedOut {
        /// The URL, without its password.
        url: String,
        /// The operation.
        doing: &'static str,
        /// The timeout.
        timeout: Duration,
    },
    /// Another run holds the lock.
    #[error("another run mirrors to {url}: {holder}. Wait until it ends, or stop it")]
    Held {
        /// The URL, without its password.
        url: String,
        /// The holder, as far as Postgres reveals it.
        holder: String,
        /// Whether the holder is a lost connection of this process, which Postgres has not noticed yet.
        is_own: bool,
    },
    /// Tables with the same names exist that plantlake did not create.
    #[error("{}", table_exists_text(url, table, *is_original))]
    TableExists {
        /// The URL, without its password.
        url: String,
        /// The name of the first of them.
        table: String,
        /// Whether it belongs to the original system.
        is_original: bool,
    },
    /// A later version of plantlake has migrated the database.
    #[error(
        "the mirror {url} was migrated by a later version of plantlake (it has migration {version}); use that version"
    )]
    NewerSchema {
        /// The URL, without its password.
        url: String,
        /// The unknown migration.
        version: i64,
    },
    /// A table does not have the columns that plantlake writes.
    #[error(
        "cannot write to the table {table} of the mirror {url}: it {problem}. Change the table, or drop the tables of the mirror; the next run creates them again"
    )]
    UnexpectedColumns {
        /// The URL, without its password.
        url: String,
        /// The name of the table.
        table: &'static str,
        /// The difference.
        problem: String,
    },
    /// A migration failed and was rolled back.
    #[error("cannot migrate the tables of the mirror {url}")]
    Migration {
        /// The URL, without its password.
        url: String,
        /// The error of the driver.
        source: Box<sqlx::migrate::MigrateError>,
    },
    /// All attempts failed.
    #[error("cannot update the mirror: {attempts} attempts failed within {} s; the mirror is unchanged", waited.as_secs())]
    RetriesExhausted {
        /// The number of attempts.
        attempts: u32,
        /// Their total duration.
        waited: Duration,
        /// The error of the last attempt.
        source: Box<MirrorError>,
    },
    /// The lake's publications cannot be read.
    #[error("cannot read the publications of the lake")]
    Runs(#[from] RunsError),
    /// A table of the lake cannot be read.
    #[error("cannot read the lake's table {table}")]
    Table {
        /// The table's name.
        table: &'static str,
        /// The cause.
        source: Box<TableError>,
    },
    /// A table of the lake contains something that plantlake does not write.
    #[error("cannot mirror the lake's table {table}: {problem}")]
    UnexpectedData {
        /// The table's name.
        table: &'static str,
        /// The problem.
        problem: String,
    },
    /// The task that reads the lake stopped without a result.
    #[error("the task that reads the lake failed")]
    ReaderFailed,
}

impl MirrorError {
    pub(super) fn database(url: &str, doing: &'static str, source: sqlx::Error) -> Self {
        Self::Database {
            url: url.to_owned(),
            doing,
            source: Box::new(source),
        }
    }

    pub(super) fn invalid_url(url: &DatabaseUrl, source: sqlx::Error) -> Self {
        Self::database(&url.to_string(), "reading its URL", source)
    }

    pub(super) fn table(table: &'static str) -> impl Fn(TableError) -> Self {
        move |source| Self::Table {
            table,
            source: Box::new(source),
        }
    }

    /// Whether the same operation may succeed later without intervention.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::Database { source, .. } => is_transient(source),
            Self::Migration { source, .. } => match &**source {
                sqlx::migrate::MigrateError::Execute(source)
                | sqlx::migrate::MigrateError::ExecuteMigration(source, _) => is_transient(source),
                _ => false,
            },
            Self::TimedOut { .. } | Self::Held { is_own: true, .. } => true,
            _ => false,
        }
    }
}

/// Returns the SQLSTATE of an error from Postgres.
fn code(error: &sqlx::Error) -> Option<String> {
    Some(error.as_database_error()?.code()?.into_owned())
}

fn is_transient(error: &sqlx::Error) -> bool {
    let Some(code) = code(error) else {
        return matches!(error, sqlx::Error::Io(_));
    };
    match code.as_str() {
        // Too many connections (53300); a lock that another transaction holds (55P03).
        "53300" | "55P03" => true,
        // Connection errors (08), conflicts with other transactions (40), and interruptions (57): by `statement_timeout`,
        // an administrator or a crash.
        code => ["08", "40", "57"]
            .iter()
            .any(|class| code.starts_with(class)),
    }
}

/// Returns a remedy, if the SQLSTATE implies one.
fn remedy(error: &sqlx::Error) -> &'static str {
    match code(error).as_deref() {
        Some("53100") => {
            ": its disk is full. Free space there, or mirror less (`mirror.window_min` and the related settings)"
        }
        Some("57014") => ": it took longer than `mirror.timeout`, or was cancelled",
        Some("42501") => ": the user lacks a permission, see below",
        Some("25006") => ": it is read-only, like a standby. Set `mirror_url` to the primary",
        Some("3D000") => ": create the database first, with CREATE DATABASE",
        Some("28P01" | "28000") => ": check user and password in `mirror_url`",
        None if matches!(error, sqlx::Error::Io(_) | sqlx::Error::Tls(_)) => {
            ": check `mirror_url`, and that the server runs"
        }
        _ => "",
    }
}

fn table_exists_text(url: &str, table: &str, is_original: bool) -> String {
    let whose = match is_original {
        true => "belongs to the original system (it has the column pk_id)",
        false => "was not created by plantlake",
    };
    format!(
        "cannot create the mirror in {url}: the table {table} exists already and {whose}; nothing was changed. Rename it \
         (ALTER TABLE {table} RENAME TO {table}_before), drop it, or use a separate database for the mirror, and run again"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_transient_is_true_for_transient_errors_only() {
        let io = |kind| sqlx::Error::Io(std::io::Error::from(kind));
        let refused = io(std::io::ErrorKind::ConnectionRefused);
        let error = MirrorError::database("postgres://me:******@host/db", "connecting", refused);
        assert!(error.is_transient());
        let text = error.to_string();
        assert!(
            text.contains("while connecting: check `mirror_url`"),
            "{text}"
        );
        let gone = MirrorError::database("url", "reading", sqlx::Error::RowNotFound);
        assert!(!gone.is_transient());
        let held = |is_own| MirrorError::Held {
            url: String::new(),
            holder: String::new(),
            is_own,
        };
        assert!(held(true).is_transient() && !held(false).is_transient());
    }

    #[test]
    fn table_exists_text_names_table_and_remedy() {
        let text = table_exists_text("postgres://host/chemical", "data_min", true);
        for part in [
            "pk_id",
            "ALTER TABLE data_min RENAME TO data_min_before",
            "nothing was changed",
        ] {
            assert!(text.contains(part), "{text}");
        }
    }
}
