//! The URL of a database; its password is never shown.

use std::fmt;
use std::path::PathBuf;

use url::Url;

use crate::config::redact;

/// The kind of database that a URL names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DatabaseKind {
    /// A file on this machine.
    Sqlite(PathBuf),
    /// A Postgres server.
    Postgres,
}

/// The URL of a database. `Debug` and `Display` mask the password.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl {
    text: String,
    kind: DatabaseKind,
}

impl DatabaseUrl {
    /// Parses a URL of SQLite or Postgres; the error describes the problem.
    pub(in crate::config) fn parse_organisation(text: &str) -> Result<Self, String> {
        match text.strip_prefix("sqlite:") {
            Some(path) => {
                // Both `sqlite:path` and `sqlite://path` are common; `sqlite:///path` is absolute.
                let path = path.strip_prefix("//").unwrap_or(path);
                if path.is_empty() || path.contains(":memory:") {
                    return Err("names no file".to_owned());
                }
                if path.contains('?') {
                    return Err("has parameters, which are not supported for SQLite".to_owned());
                }
                Ok(Self {
                    text: text.to_owned(),
                    kind: DatabaseKind::Sqlite(PathBuf::from(path)),
                })
            }
            None => Self::parse_postgres(text),
        }
    }

    /// Parses a Postgres URL; returns `None` for an empty text.
    pub(in crate::config) fn parse_mirror(text: &str) -> Result<Option<Self>, String> {
        if text.trim().is_empty() {
            return Ok(None);
        }
        Self::parse_postgres(text).map(Some)
    }

    fn parse_postgres(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is not a URL ({error})"))?;
        if !matches!(url.scheme(), "postgres" | "postgresql") {
            return Err(format!("has the unknown scheme {:?}", url.scheme()));
        }
        Ok(Self {
            text: text.to_owned(),
            kind: DatabaseKind::Postgres,
        })
    }

    /// Returns the URL with its password, for connecting.
    pub fn with_password(&self) -> &str {
        &self.text
    }

    /// Returns the kind of database.
    pub fn kind(&self) -> &DatabaseKind {
        &self.kind
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&redact::mask_value(&self.text, false))
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parse_accepts_sqlite_files_and_postgres_servers() {
        for (text, path) in [
            ("sqlite:a/b.db", "a/b.db"),
            ("sqlite://a.db", "a.db"),
            ("sqlite:///srv/a.db", "/srv/a.db"),
            ("sqlite:/srv/a.db", "/srv/a.db"),
        ] {
            let url = DatabaseUrl::parse_organisation(text).unwrap();
            assert_eq!(url.kind(), &DatabaseKind::Sqlite(PathBuf::from(path)));
        }
        let url = DatabaseUrl::parse_organisation("postgres://me:hush@host/db").unwrap();
        assert_eq!(url.kind(), &DatabaseKind::Postgres);
        for bad in [
            "",
            "sqlite:",
            "sqlite::memory:",
            "sqlite:a?mode=ro",
            "mysql://host/db",
            "a.db",
        ] {
            assert!(DatabaseUrl::parse_organisation(bad).is_err(), "{bad}");
        }
        assert_eq!(DatabaseUrl::parse_mirror(""), Ok(None));
        assert!(DatabaseUrl::parse_mirror("sqlite:a.db").is_err());
    }

    #[test]
    fn display_and_debug_mask_the_password() {
        let url =
            DatabaseUrl::parse_organisation("postgres://me:hush@host/db?password=hush").unwrap();
        assert!(!format!("{url} {url:?}").contains("hush"));
        assert!(url.with_password().contains("hush"));
    }
}
