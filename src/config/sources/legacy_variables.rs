//! The original system's variables, as an alternative to two URLs: `DB_HOST` and the related variables for the mirror,
//! `auth_host` and the related variables for the organisation database. Without the host the others are ignored.
//! `DB_PASSWORD_FILE` and `auth_password_FILE` name a file that contains the password; the original system did not have
//! them.

use std::collections::BTreeMap;

use url::Url;

use crate::config::error::{ConfigError, Origin};
use crate::config::spec::setting::RawSettings;
use crate::config::values::secret;
use crate::config::values::secret::FILE_SUFFIX;

/// The variables that make up one URL. Unset ones have the defaults of the original system.
struct VariableNames {
    /// The setting.
    key: &'static str,
    host: &'static str,
    port: &'static str,
    database: &'static str,
    user: &'static str,
    password: &'static str,
    default_database: &'static str,
}

const DATABASE_VARIABLES: [VariableNames; 2] = [
    VariableNames {
        key: "mirror_url",
        host: "DB_HOST",
        port: "DB_PORT",
        database: "DB_NAME",
        user: "DB_USER",
        password: "DB_PASSWORD",
        default_database: "chemical",
    },
    VariableNames {
        key: "organisation_url",
        host: "auth_host",
        port: "auth_port",
        database: "auth_db",
        user: "auth_user",
        password: "auth_password",
        default_database: "organisation",
    },
];

const DEFAULT_USER: &str = "postgres";

impl VariableNames {
    fn names(&self) -> [&'static str; 5] {
        [
            self.host,
            self.port,
            self.database,
            self.user,
            self.password,
        ]
    }
}

/// Whether `name` is a variable of the original system, or one that names the file of its password.
pub(in crate::config) fn is_known(name: &str) -> bool {
    let is_spelt = |spelling: &VariableNames| spelling.names().contains(&name);
    DATABASE_VARIABLES.iter().any(is_spelt) || password_variable(name).is_some()
}

/// Returns the password's variable if `name` is that of its file: `DB_PASSWORD` for `DB_PASSWORD_FILE`.
fn password_variable(name: &str) -> Option<&'static str> {
    let password = name.strip_suffix(FILE_SUFFIX)?;
    DATABASE_VARIABLES
        .iter()
        .map(|spelling| spelling.password)
        .find(|known| *known == password)
}

/// The variables that were found, each from the source with the highest precedence.
#[derive(Default)]
pub(in crate::config) struct LegacyVariables {
    found: BTreeMap<String, LegacyVariable>,
}

struct LegacyVariable {
    value: String,
    /// Whether the value was read from the file that the variable names.
    is_from_file: bool,
    origin: Origin,
}

impl LegacyVariables {
    /// Adds a variable, or the content of the file that it names. It replaces the value of a source with lower
    /// precedence.
    pub(in crate::config) fn put(
        &mut self,
        name: &str,
        value: String,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let password = password_variable(name);
        let name = password.unwrap_or(name);
        let part = LegacyVariable {
            value: match password {
                Some(_) => secret::read_file(&value, &origin)?,
                None => value,
            },
            is_from_file: password.is_some(),
            origin,
        };
        // One source has both the password and the file, so that the choice is ambiguous.
        if let Some(first) = self.found.get(name)
            && first.is_from_file != part.is_from_file
            && first.origin.is_same_source(&part.origin)
        {
            return Err(ConfigError::Duplicate {
                origin: part.origin,
                name: name.to_owned(),
                first: first.origin.clone(),
            });
        }
        self.found.insert(name.to_owned(), part);
        Ok(())
    }

    /// Assembles the URLs that have a part from the source that was just read.
    pub(in crate::config) fn assemble_urls(
        &self,
        raw: &mut RawSettings,
        is_of_source: fn(&Origin) -> bool,
    ) -> Result<(), ConfigError> {
        for spelling in &DATABASE_VARIABLES {
            let found = spelling.names().into_iter();
            let of_source = found
                .filter_map(|name| self.found.get(name))
                .find(|part| is_of_source(&part.origin));
            let set_by_its_own_name = raw.origin(spelling.key).is_some_and(is_of_source);
            if let Some(part) = of_source
                && !set_by_its_own_name
                && let Some(url) = self.url(spelling)?
            {
                raw.put(spelling.key, url, part.origin.clone())?;
            }
        }
        Ok(())
    }

    /// Returns the value of a variable; `None` if it is empty or not set.
    fn get(&self, name: &str) -> Option<&str> {
        let part = self.found.get(name)?;
        Some(part.value.as_str()).filter(|value| !value.is_empty())
    }

    fn url(&self, spelling: &VariableNames) -> Result<Option<String>, ConfigError> {
        let Some(host) = self.get(spelling.host) else {
            return Ok(None);
        };
        let wrong = |name: &str, problem: &str| ConfigError::Syntax {
            origin: match self.found.get(name) {
                Some(part) => part.origin.clone(),
                None => Origin::Default,
            },
            message: format!("`{name}` is not {problem}"),
        };
        let base = || Url::parse("postgres://localhost/").ok();
        let mut url = base().ok_or_else(|| wrong(spelling.host, "usable"))?;
        if host.starts_with('/') {
            // The folder of a Unix socket.
            url.query_pairs_mut().append_pair("host", host);
        } else {
            let host = if host.contains(':') && !host.starts_with('[') {
                format!("[{host}]")
            } else {
                host.to_owned()
            };
            url.set_host(Some(&host))
                .map_err(|_| wrong(spelling.host, "the name of a host"))?;
        }
        let port = self.get(spelling.port).map(str::parse::<u16>).transpose();
        let port = port.map_err(|_| wrong(spelling.port, "a port, from 1 to 65535"))?;
        let user = self.get(spelling.user).unwrap_or(DEFAULT_USER);
        // These fail only for URLs without a host, and this one has a host.
        let set = url
            .set_port(port)
            .and_then(|()| url.set_username(user))
            .and_then(|()| url.set_password(self.get(spelling.password)));
        set.map_err(|()| wrong(spelling.host, "the name of a host"))?;
        url.set_path(
            self.get(spelling.database)
                .unwrap_or(spelling.default_database),
        );
        Ok(Some(url.into()))
    }
}
