//! Identities: the ids of organisations, users and sessions, and the permissions of a user's role.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Declares ids as separate UUID types, so that one kind cannot be used as another.
macro_rules! uuid_id {
    ($($(#[$doc:meta])* $name:ident)*) => {$(
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;

            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::try_parse(text).map(Self)
            }
        }
    )*};
}

uuid_id! {
    /// The id of an organisation.
    OrganisationId
    /// The id of a user of an organisation.
    UserId
    /// The id of a session. A session starts at sign-in and owns access tokens.
    SessionId
}

/// The role of a user, which determines the user's permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Manages the users and keys of the user's own organisation, and sees all of its usage.
    Admin,
    /// Queries data, and sees the user's own usage.
    Analyst,
    /// A program: it has API keys only and cannot sign in with a password.
    Service,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Analyst, Self::Service];

    /// Returns the role's name, as used in the database and on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Analyst => "analyst",
            Self::Service => "service",
        }
    }

    /// Returns the role with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether users with the role manage their organisation's users and keys, and see all of its usage.
    pub const fn manages_organisation(self) -> bool {
        matches!(self, Self::Admin)
    }

    /// Whether users with the role may sign in with a password.
    pub const fn has_password(self) -> bool {
        !matches!(self, Self::Service)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An e-mail address as the user entered it. Addresses are compared case-insensitively.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Email(String);

/// The error for a text that is not an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an e-mail address; expected something like ada@example.com")]
pub struct MalformedEmail {
    text: String,
}

impl Email {
    /// The maximum length of an address in bytes (RFC 5321, section 4.5.3.1.3, without the angle brackets).
    const MAX_BYTES: usize = 254;

    /// Parses an address. Checks the form only: a local part, an `@` and a domain. It does not check that the address
    /// exists.
    pub fn parse(text: &str) -> Result<Self, MalformedEmail> {
        let trimmed = text.trim();
        let is_word = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        let is_address = trimmed.len() <= Self::MAX_BYTES
            && trimmed.rsplit_once('@').is_some_and(|(local, domain)| {
                // A colon would end the name in the HTTP header that carries user and password.
                is_word(local)
                    && is_word(domain)
                    && !trimmed.contains([':', ',', ';', '<', '>'])
                    && !local.contains('@')
            });
        if is_address {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(MalformedEmail {
                text: super::text::printable(text, 60),
            })
        }
    }

    /// Returns the address as the user entered it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the address in lower case, as the key for comparisons.
    pub fn key(&self) -> String {
        self.0.to_lowercase()
    }
}

impl fmt::Display for Email {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn email_key_ignores_case_and_parse_rejects_malformed() {
        let email = Email::parse(" Ada.Lovelace+plant@Example.COM ").unwrap();
        assert_eq!(email.as_str(), "Ada.Lovelace+plant@Example.COM");
        assert_eq!(email.key(), "ada.lovelace+plant@example.com");
        assert_eq!(Email::parse("ÄDA@example").unwrap().key(), "äda@example");
        let long = format!("{}@example.com", "a".repeat(250));
        for bad in [
            "",
            "ada",
            "@b",
            "a@",
            "a b@c",
            "a@b@c",
            "a:b@c",
            "a@b\u{0}",
            long.as_str(),
        ] {
            assert!(Email::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn role_from_its_name_is_the_role() {
        for role in Role::ALL {
            assert_eq!(Role::from_name(role.name()), Some(role));
        }
        assert_eq!(Role::from_name("Admin"), None);
    }
}
