//! The format of API keys: `pl_<id>_<secret>`, where the id is public and the secret has 256 random bits.
//!
//! The secret is stored as its SHA-256. A slow hash is not needed, because a random secret of this length cannot be
//! guessed.

use std::fmt;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use chrono::{DateTime, NaiveDate, NaiveTime, SubsecRound, TimeDelta, Utc};

use super::digest::digest;
use super::error::AuthError;
use super::random::random;
use crate::model::hex;

const PREFIX: &str = "pl_";
/// The number of hexadecimal digits of the id; `SECRET_LENGTH` is that of the secret.
const ID_LENGTH: usize = 16;
const SECRET_LENGTH: usize = 64;

/// A newly created key. Its secret is not stored, so this is the only time that the server knows it. `Debug` does not
/// show it.
pub struct FreshKey {
    /// The public part.
    pub id: String,
    /// The SHA-256 of the secret, which is stored.
    pub secret_hash: [u8; 32],
    text: String,
}

impl FreshKey {
    /// Creates a random key.
    pub fn new() -> Result<Self, AuthError> {
        let id = hex(&random::<{ ID_LENGTH / 2 }>()?);
        let secret = hex(&random::<{ SECRET_LENGTH / 2 }>()?);
        Ok(Self {
            secret_hash: digest(secret.as_bytes()),
            text: format!("{PREFIX}{id}_{secret}"),
            id,
        })
    }

    /// The whole key, to be shown once to its owner.
    pub fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for FreshKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FreshKey")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

/// A key as a client presents it.
pub(super) struct PresentedKey<'a> {
    pub id: &'a str,
    secret: &'a str,
}

impl<'a> PresentedKey<'a> {
    /// Whether `text` begins like a key.
    pub fn has_key_prefix(text: &str) -> bool {
        text.starts_with(PREFIX)
    }

    /// Parses a key; returns `None` if `text` is not a key. Each key has exactly one textual form.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (id, secret) = text.strip_prefix(PREFIX)?.split_once('_')?;
        let is_hex = |part: &str, length: usize| {
            part.len() == length
                && part
                    .bytes()
                    .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
        };
        (is_hex(id, ID_LENGTH) && is_hex(secret, SECRET_LENGTH)).then_some(Self { id, secret })
    }

    /// Whether the secret has this hash. The comparison takes constant time.
    pub fn has_secret(&self, hash: &[u8]) -> bool {
        verify_slices_are_equal(&digest(self.secret.as_bytes()), hash).is_ok()
    }
}

/// Returns the expiry time of a key: a number of days from `now` (`90d`), or the end of a date in UTC (`2027-06-30`).
///
/// # Errors
///
/// The text is neither, or the time is in the past.
pub fn parse_expiry(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    let wrong = || {
        format!(
            "invalid expiry {text:?}; use a number of days such as 90d or a date such as 2027-06-30"
        )
    };
    let end = if let Some(days) = text.strip_suffix('d') {
        let days: i64 = days.parse().map_err(|_| wrong())?;
        TimeDelta::try_days(days).and_then(|days| now.trunc_subsecs(0).checked_add_signed(days))
    } else {
        let date: NaiveDate = text.parse().map_err(|_| wrong())?;
        date.succ_opt()
            .map(|next| next.and_time(NaiveTime::MIN).and_utc())
    };
    let end = end.ok_or_else(wrong)?;
    if end <= now {
        return Err(format!("{text:?} is in the past"));
    }
    Ok(end)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presented_key_matches_only_its_exact_text() {
        let key = FreshKey::new().unwrap();
        let text = key.text();
        assert_eq!(text.len(), 3 + ID_LENGTH + 1 + SECRET_LENGTH);
        let presented = PresentedKey::parse(text).unwrap();
        assert_eq!(presented.id, key.id);
        assert!(presented.has_secret(&key.secret_hash));
        assert!(!format!("{key:?}").contains(presented.secret));
        // Changing any character makes the key invalid.
        for at in 0..text.len() {
            for other in ['0', 'f', 'A', '_', ' '] {
                let mut changed: Vec<char> = text.chars().collect();
                if std::mem::replace(&mut changed[at], other) == other {
                    continue;
                }
                let changed: String = changed.into_iter().collect();
                let same = PresentedKey::parse(&changed).is_some_and(|presented| {
                    presented.id == key.id && presented.has_secret(&key.secret_hash)
                });
                assert!(!same, "{changed}");
            }
        }
        for text in [
            "",
            "pl_",
            "pl__",
            &text[..text.len() - 1],
            &format!("{text}0"),
            &format!("{text} "),
        ] {
            assert!(PresentedKey::parse(text).is_none(), "{text}");
        }
    }

    #[test]
    fn expiry_accepts_days_and_dates_in_the_future() {
        let now = "2026-11-24T08:00:00Z".parse().unwrap();
        let end = |text| parse_expiry(text, now).map(|end| end.to_rfc3339());
        assert_eq!(end("2d"), Ok("2026-11-26T08:00:00+00:00".to_owned()));
        assert_eq!(
            end("2026-11-24"),
            Ok("2026-11-25T00:00:00+00:00".to_owned())
        );
        for bad in [
            "",
            "d",
            "0d",
            "-1d",
            "2026-11-23",
            "2026-13-01",
            "99999999999d",
            "soon",
        ] {
            assert!(end(bad).is_err(), "{bad}");
        }
    }
}
