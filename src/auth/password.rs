//! Passwords: Argon2id with OWASP's parameters (19 MiB, two passes, one lane), off the async threads, and only a few at
//! a time, so that a flood of sign-ins cannot take the machine from the queries.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, PasswordHasher, PasswordVerifier};
use tokio::sync::Semaphore;

use super::AuthError;

/// No password may be shorter, in characters (NIST SP 800-63B-4 asks for 8 with a second factor, and 15 alone is its
/// advice; guesses are throttled here).
pub const SHORTEST_PASSWORD: usize = 12;
/// Longer ones serve nobody but those who want to keep the machine busy.
const LONGEST_PASSWORD: usize = 1024;
/// So many may wait for their turn; more are told to come again.
const QUEUE: usize = 64;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    turns: Arc<Semaphore>,
    waiting: Arc<AtomicUsize>,
    /// What the passwords of unknown users are checked against, so that it takes as long.
    nobody: Arc<str>,
}

/// Whether a password may be set, for the user with this address.
pub fn check_new(password: &str, email: &str) -> Result<(), AuthError> {
    let unfit = |reason: String| Err(AuthError::UnfitPassword(reason));
    if password.chars().count() < SHORTEST_PASSWORD {
        return unfit(format!(
            "it must have {SHORTEST_PASSWORD} characters or more"
        ));
    }
    if password.len() > LONGEST_PASSWORD {
        return unfit(format!(
            "it must not be longer than {LONGEST_PASSWORD} bytes"
        ));
    }
    if password.to_lowercase().contains(&email.to_lowercase()) {
        return unfit("it must not contain the e-mail address".to_owned());
    }
    if password.chars().all(|c| password.starts_with(c)) {
        return unfit("it must not be one character over and over".to_owned());
    }
    Ok(())
}

impl Passwords {
    /// With half of the cores for passwords.
    pub fn new() -> Result<Self, AuthError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            turns: Arc::new(Semaphore::new((cores / 2).max(1))),
            waiting: Arc::default(),
            nobody: hash("the password of nobody")?.into(),
        })
    }

    /// The hash of a password, in the PHC string format.
    pub async fn hash(&self, password: &str) -> Result<String, AuthError> {
        let password = password.to_owned();
        self.in_turn(move || hash(&password)).await?
    }

    /// Whether `password` has this hash. Without a hash it takes as long, and the answer is no.
    pub(super) async fn verify(
        &self,
        password: &str,
        hash: Option<&str>,
    ) -> Result<bool, AuthError> {
        let (password, known) = (password.to_owned(), hash.is_some());
        let hash = hash.unwrap_or(&self.nobody).to_owned();
        let matches = self.in_turn(move || verify(&password, &hash)).await?;
        Ok(matches && known)
    }

    /// Whether a hash was made with other parameters than today's.
    pub(super) fn is_outdated(&self, hash: &str) -> bool {
        let parameters = |hash: &str| {
            let hash = PasswordHash::new(hash).ok()?;
            Some((hash.algorithm, hash.version, hash.params))
        };
        parameters(hash) != parameters(&self.nobody)
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::SeqCst);
            }
        }
        let before = self.waiting.fetch_add(1, Ordering::SeqCst);
        let waiting = Waiting(&self.waiting);
        if before >= QUEUE {
            return Err(AuthError::Busy);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await;
        let turn = turn.map_err(|_| AuthError::Ending)?;
        drop(waiting);
        let work = tokio::task::spawn_blocking(move || {
            // One who goes away while it is computed does not give the turn to another.
            let _turn = turn;
            work()
        });
        work.await.map_err(|_| AuthError::Ending)
    }
}

fn hash(password: &str) -> Result<String, AuthError> {
    Argon2::default()
        .hash_password(password.as_bytes())
        .map(|hash| hash.to_string())
        .map_err(|error| AuthError::UnfitPassword(error.to_string()))
}

fn verify(password: &str, hash: &str) -> bool {
    if password.len() > LONGEST_PASSWORD {
        return false;
    }
    PasswordHash::new(hash).is_ok_and(|hash| {
        Argon2::default()
            .verify_password(password.as_bytes(), &hash)
            .is_ok()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_password_has_its_hash_and_nobody_has_one() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords.hash("correct horse battery").await.unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert!(
            passwords
                .verify("correct horse battery", Some(&hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("correct horse batterz", Some(&hash))
                .await
                .unwrap()
        );
        assert!(
            !passwords
                .verify("the password of nobody", None)
                .await
                .unwrap()
        );
        assert!(!passwords.verify("x", Some("damaged")).await.unwrap());
        assert_ne!(hash, passwords.hash("correct horse battery").await.unwrap());
        assert!(!passwords.is_outdated(&hash));
        assert!(passwords.is_outdated(&hash.replace("t=2", "t=1")));
    }

    #[tokio::test]
    async fn a_flood_is_told_to_come_again() {
        let passwords = Passwords::new().unwrap();
        let attempts = (0..3 * QUEUE).map(|_| passwords.verify("x", None));
        let outcomes = futures::future::join_all(attempts).await;
        let busy = outcomes
            .iter()
            .filter(|outcome| matches!(outcome, Err(AuthError::Busy)))
            .count();
        assert!((QUEUE..3 * QUEUE).contains(&busy), "{busy}");
        // Afterwards all is as it was.
        assert!(!passwords.verify("x", None).await.unwrap());
    }

    #[test]
    fn unfit_passwords_are_refused() {
        let long = "a1".repeat(600);
        for bad in [
            "",
            "short",
            "eleven char",
            "aaaaaaaaaaaaaa",
            "my ADA@example.com 1",
            &long,
        ] {
            assert!(check_new(bad, "ada@example.com").is_err(), "{bad}");
        }
        check_new("pässwörter mögen", "ada@example.com").unwrap();
    }
}
