//! The original system's variables, as another spelling of two URLs: `DB_HOST` and its kin for the mirror, `auth_host`
//! and its kin for the organisation database. The host is what counts: without it the others mean nothing here.
//! `DB_PASSWORD_FILE` and `auth_password_FILE` name a file that has the password, which the original system did not know.

use std::collections::BTreeMap;

use url::Url;

use super::error::{ConfigError, Origin};
use super::raw::RawSettings;
use super::secret::{self, FILE};

/// The variables that spell one URL. What is not set is as it was in the original.
struct Spelling {
    /// The setting.
    key: &'static str,
    host: &'static str,
    port: &'static str,
    database: &'static str,
    user: &'static str,
    password: &'static str,
    default_database: &'static str,
}

const SPELLINGS: [Spelling; 2] = [
    Spelling {
        key: "mirror_url",
        host: "DB_HOST",
        port: "DB_PORT",
        database: "DB_NAME",
        user: "DB_USER",
        password: "DB_PASSWORD",
        default_database: "chemical",
    },
    Spelling {
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

impl Spelling {
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

/// Whether the original system has a variable of this name, or has the password that is in the file which it names.
pub(super) fn is_known(name: &str) -> bool {
    let is_spelt = |spelling: &Spelling| spelling.names().contains(&name);
    SPELLINGS.iter().any(is_spelt) || password_of_file(name).is_some()
}

/// The password's variable, if `name` is that of the file which has it: `DB_PASSWORD` of `DB_PASSWORD_FILE`.
fn password_of_file(name: &str) -> Option<&'static str> {
    let password = name.strip_suffix(FILE)?;
    SPELLINGS
        .iter()
        .map(|spelling| spelling.password)
        .find(|known| *known == password)
}

/// The variables that were found, the strongest of each name.
#[derive(Default)]
pub(super) struct Parts {
    found: BTreeMap<String, Part>,
}

struct Part {
    value: String,
    /// It was in the file that the variable names.
    is_from_file: bool,
    origin: Origin,
}

impl Parts {
    /// Takes over a variable, or what is in the file that it names; it replaces that of a weaker source.
    pub(super) fn put(
        &mut self,
        name: &str,
        value: String,
        origin: Origin,
    ) -> Result<(), ConfigError> {
        let password = password_of_file(name);
        let name = password.unwrap_or(name);
        let part = Part {
            value: match password {
                Some(_) => secret::read_file(&value, &origin)?,
                None => value,
            },
            is_from_file: password.is_some(),
            origin,
        };
        // Both spellings in one place: nobody can tell which is meant.
        if let Some(first) = self.found.get(name)
            && first.is_from_file != part.is_from_file
            && first.origin.same_source(&part.origin)
        {
            return Err(ConfigError::Twice {
                origin: part.origin,
                name: name.to_owned(),
                first: first.origin.clone(),
            });
        }
        self.found.insert(name.to_owned(), part);
        Ok(())
    }

    /// Puts together the URLs that have a part from the source that was just read.
    pub(super) fn settle(
        &self,
        raw: &mut RawSettings,
        is_of_source: fn(&Origin) -> bool,
    ) -> Result<(), ConfigError> {
        for spelling in &SPELLINGS {
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

    /// What a variable says; an empty one says nothing.
    fn get(&self, name: &str) -> Option<&str> {
        let part = self.found.get(name)?;
        Some(part.value.as_str()).filter(|value| !value.is_empty())
    }

    fn url(&self, spelling: &Spelling) -> Result<Option<String>, ConfigError> {
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
            // The folder of a local server's socket.
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
        // Refused for URLs without a host only, and this one has a host.
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
