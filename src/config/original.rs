//! The original system's variables, as another spelling of two URLs: `DB_HOST` and its kin for the mirror, `auth_host`
//! and its kin for the organisation database. The host is what counts: without it the others mean nothing here.

use std::collections::BTreeMap;

use url::Url;

use super::error::{ConfigError, Origin};
use super::raw::RawSettings;

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

/// Whether the original system has a variable of this name.
pub(super) fn is_known(name: &str) -> bool {
    SPELLINGS
        .iter()
        .any(|spelling| spelling.names().contains(&name))
}

/// The variables that were found, the strongest of each name.
#[derive(Default)]
pub(super) struct Parts {
    found: BTreeMap<String, (String, Origin)>,
}

impl Parts {
    /// Takes over a variable; it replaces that of a weaker source.
    pub(super) fn put(&mut self, name: &str, value: String, origin: Origin) {
        self.found.insert(name.to_owned(), (value, origin));
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
                .find(|(_, origin)| is_of_source(origin));
            let set_by_its_own_name = raw.origin(spelling.key).is_some_and(is_of_source);
            if let Some((_, origin)) = of_source
                && !set_by_its_own_name
                && let Some(url) = self.url(spelling)?
            {
                raw.put(spelling.key, url, origin.clone())?;
            }
        }
        Ok(())
    }

    /// What a variable says; an empty one says nothing.
    fn get(&self, name: &str) -> Option<&str> {
        let (value, _) = self.found.get(name)?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    fn url(&self, spelling: &Spelling) -> Result<Option<String>, ConfigError> {
        let Some(host) = self.get(spelling.host) else {
            return Ok(None);
        };
        let wrong = |name: &str, problem: &str| ConfigError::Syntax {
            origin: match self.found.get(name) {
                Some((_, origin)) => origin.clone(),
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
