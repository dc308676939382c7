//! Who someone is: organisations, users, sessions and keys by their ids, and what a user's role allows.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// Declares an id that is a UUID, so that one kind cannot be taken for another.
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
    /// An organisation.
    OrganisationId
    /// A user of an organisation.
    UserId
    /// A sign-in, which access tokens belong to.
    SessionId
}

/// What a user may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Manages the users and keys of the own organisation, and sees its whole usage.
    Admin,
    /// Queries, and sees the own usage.
    Analyst,
    /// A program: has keys only, and cannot sign in with a password.
    Service,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 3] = [Self::Admin, Self::Analyst, Self::Service];

    /// The role as text, as the database and the command line have it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Admin => "admin",
            Self::Analyst => "analyst",
            Self::Service => "service",
        }
    }

    /// The role of this name.
    pub fn of(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|role| role.name() == name)
    }

    /// Whether users of the role manage their organisation's users and keys, and see its whole usage.
    pub const fn manages_organisation(self) -> bool {
        matches!(self, Self::Admin)
    }

    /// Whether users of the role may sign in with a password.
    pub const fn has_password(self) -> bool {
        !matches!(self, Self::Service)
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// An e-mail address as a user gave it; compared without regard to case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Email(String);

/// The text is not an e-mail address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not an e-mail address; expected something like ada@example.com")]
pub struct MalformedEmail {
    text: String,
}

impl Email {
    /// The longest address that mail can be sent to (RFC 5321, 4.5.3.1.3, less the angle brackets).
    const LONGEST: usize = 254;

    /// Checks the form only: something, an @, and a domain. Whether the address exists, only mail can tell.
    pub fn parse(text: &str) -> Result<Self, MalformedEmail> {
        let trimmed = text.trim();
        let is_word = |part: &str| {
            !part.is_empty() && !part.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        let is_address = trimmed.len() <= Self::LONGEST
            && trimmed.rsplit_once('@').is_some_and(|(local, domain)| {
                // A colon would end the name in the header that user and password come in.
                is_word(local)
                    && is_word(domain)
                    && !trimmed.contains([':', ',', ';', '<', '>'])
                    && !local.contains('@')
            });
        if is_address {
            Ok(Self(trimmed.to_owned()))
        } else {
            Err(MalformedEmail {
                text: super::printable(text, 60),
            })
        }
    }

    /// The address as the user gave it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What two spellings of one address have in common.
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
    fn addresses_are_compared_without_regard_to_case() {
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
    fn roles_are_known_by_name() {
        for role in Role::ALL {
            assert_eq!(Role::of(role.name()), Some(role));
        }
        assert_eq!(Role::of("Admin"), None);
    }
}
