//! Passwords: Argon2id with OWASP's parameters (19 MiB, two passes, one lane). They are hashed on blocking threads, and
//! only a few at a time, in the order of a [fair queue](super::hash_queue), so that a flood of sign-ins cannot take the
//! machine from the queries.
//!
//! Users of several organisations may have the same e-mail address. Their hashes share a salt, so that one hash of the
//! given password is compared with all of them. The duration of a sign-in therefore does not reveal how many users there
//! are.

use std::sync::Arc;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Argon2, CustomizedPasswordHasher, Params, PasswordHasher};

use super::error::AuthError;
use super::hash_queue::{HashQueue, Requester};

/// The minimum length of a password, in characters. NIST SP 800-63B-4 asks for 8 with a second factor and 15 without; 12
/// is enough here because guesses are throttled.
pub const MIN_PASSWORD_CHARS: usize = 12;
/// The maximum length of a password, in bytes. A longer one would only keep the machine busy.
const MAX_PASSWORD_BYTES: usize = 1024;
/// The maximum number of hashes with different salts or parameters that one sign-in computes.
const MAX_VARIANTS: usize = 4;

/// Hashes and checks passwords.
#[derive(Debug, Clone)]
pub struct Passwords {
    queue: HashQueue,
    /// A hash that passwords of unknown users are checked against, so that the check takes the same time.
    dummy_hash: Arc<str>,
}

/// Checks whether the user with this address may set this password.
pub fn check_new(password: &str, email: &str) -> Result<(), AuthError> {
    let unfit = |reason: String| Err(AuthError::UnacceptablePassword(reason));
    if password.chars().count() < MIN_PASSWORD_CHARS {
        return unfit(format!(
            "it must have at least {MIN_PASSWORD_CHARS} characters"
        ));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return unfit(format!(
            "it must not be longer than {MAX_PASSWORD_BYTES} bytes"
        ));
    }
    if password.to_lowercase().contains(&email.to_lowercase()) {
        return unfit("it must not contain the e-mail address".to_owned());
    }
    if password.chars().all(|c| password.starts_with(c)) {
        return unfit("it must not repeat a single character".to_owned());
    }
    Ok(())
}

impl Passwords {
    /// Creates a hasher that uses at most half of the cores.
    pub fn new() -> Result<Self, AuthError> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Self {
            queue: HashQueue::new(cores / 2),
            dummy_hash: hash("the password of nobody", None)?.into(),
        })
    }

    /// Returns the hash of a password, in the PHC string format. It has the salt of `relative` if given, the hash of a
    /// user with the same e-mail address.
    ///
    /// # Errors
    ///
    /// Too many hashes are waiting.
    pub async fn hash(
        &self,
        party: Requester,
        password: &str,
        relative: Option<&str>,
    ) -> Result<String, AuthError> {
        let password = password.to_owned();
        let relative = relative.map(str::to_owned);
        let work = move || hash(&password, relative.as_deref());
        self.run_queued(party, work).await?
    }

    /// Returns the index of the first of `hashes` that matches `password`. Without any hash it takes the same time.
    ///
    /// # Errors
    ///
    /// Too many hashes are waiting.
    pub(super) async fn verify(
        &self,
        party: Requester,
        password: &str,
        hashes: Vec<Option<String>>,
    ) -> Result<Option<usize>, AuthError> {
        let (password, nobody) = (password.to_owned(), Arc::clone(&self.dummy_hash));
        let work = move || find_match(&password, &hashes, &nobody);
        self.run_queued(party, work).await
    }

    /// Whether a hash was made with other parameters than the current ones.
    pub(super) fn is_outdated(&self, hash: &str) -> bool {
        let parameters = |hash: &str| {
            let hash = PasswordHash::new(hash).ok()?;
            Some((hash.algorithm, hash.version, hash.params))
        };
        parameters(hash) != parameters(&self.dummy_hash)
    }

    async fn run_queued<T: Send + 'static>(
        &self,
        party: Requester,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<T, AuthError> {
        let turn = self.queue.acquire(party).await?;
        let work = tokio::task::spawn_blocking(move || {
            // The permit is held until the hash is computed, even if the caller is cancelled.
            let _turn = turn;
            work()
        });
        work.await.map_err(|_| AuthError::ShuttingDown)
    }
}

fn hash(password: &str, relative: Option<&str>) -> Result<String, AuthError> {
    let relative = relative.and_then(|hash| PasswordHash::new(hash).ok());
    let salt = relative.and_then(|hash| hash.salt);
    let hasher = Argon2::default();
    let hash = match salt {
        Some(salt) => hasher.hash_password_with_salt(password.as_bytes(), &salt),
        None => hasher.hash_password(password.as_bytes()),
    };
    hash.map(|hash| hash.to_string())
        .map_err(|error| AuthError::Hashing(error.to_string()))
}

/// Hashes a password with the salt and the parameters of `like`.
fn hash_with_parameters(password: &str, like: &PasswordHash) -> Option<PasswordHash> {
    let salt = like.salt.as_ref()?;
    let parameters = Params::try_from(like).ok()?;
    let algorithm = Some(like.algorithm.as_str());
    Argon2::default()
        .hash_password_customized(
            password.as_bytes(),
            salt,
            algorithm,
            like.version,
            parameters,
        )
        .ok()
}

fn find_match(password: &str, hashes: &[Option<String>], nobody: &str) -> Option<usize> {
    if password.len() > MAX_PASSWORD_BYTES {
        return None;
    }
    let mut computed: Vec<PasswordHash> = Vec::new();
    let mut found = None;
    for (place, stored) in hashes.iter().enumerate() {
        let Some(stored) = stored
            .as_deref()
            .and_then(|hash| PasswordHash::new(hash).ok())
        else {
            continue;
        };
        let is_alike = |made: &&PasswordHash| {
            made.salt == stored.salt
                && (made.algorithm, made.version) == (stored.algorithm, stored.version)
                && made.params == stored.params
        };
        let known = computed.iter().find(is_alike).cloned();
        let made = match known {
            Some(made) => made,
            None if computed.len() == MAX_VARIANTS => continue,
            None => match hash_with_parameters(password, &stored) {
                Some(made) => {
                    computed.push(made.clone());
                    made
                }
                None => continue,
            },
        };
        // The comparison takes constant time.
        if stored.hash.is_some() && made.hash == stored.hash && found.is_none() {
            found = Some(place);
        }
    }
    if computed.is_empty()
        && let Ok(nobody) = PasswordHash::new(nobody)
    {
        hash_with_parameters(password, &nobody);
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOBODY: Requester = Requester::Address(None);

    async fn verify(passwords: &Passwords, password: &str, hashes: &[&str]) -> Option<usize> {
        let hashes = hashes.iter().map(|hash| Some((*hash).to_owned())).collect();
        passwords.verify(NOBODY, password, hashes).await.unwrap()
    }

    #[tokio::test]
    async fn verify_matches_only_the_right_password() {
        let passwords = Passwords::new().unwrap();
        let hash = passwords
            .hash(NOBODY, "correct horse battery", None)
            .await
            .unwrap();
        assert!(
            hash.starts_with("$argon2id$v=19$m=19456,t=2,p=1$"),
            "{hash}"
        );
        assert_eq!(
            verify(&passwords, "correct horse battery", &[&hash]).await,
            Some(0)
        );
        assert_eq!(
            verify(&passwords, "correct horse batterz", &[&hash]).await,
            None
        );
        assert_eq!(
            verify(&passwords, "the password of nobody", &[]).await,
            None
        );
        assert_eq!(verify(&passwords, "x", &["damaged"]).await, None);
        let again = passwords
            .hash(NOBODY, "correct horse battery", None)
            .await
            .unwrap();
        assert_ne!(hash, again);
        assert!(!passwords.is_outdated(&hash));
        assert!(passwords.is_outdated(&hash.replace("t=2", "t=1")));
    }

    #[tokio::test]
    async fn verify_finds_the_user_among_hashes_with_shared_salt() {
        let passwords = Passwords::new().unwrap();
        let one = passwords
            .hash(NOBODY, "correct horse battery", None)
            .await
            .unwrap();
        let two = passwords
            .hash(NOBODY, "another horse battery", Some(&one))
            .await
            .unwrap();
        let salt = |hash: &str| PasswordHash::new(hash).unwrap().salt;
        assert_eq!(salt(&one), salt(&two));
        assert_ne!(one, two);
        let stranger = passwords
            .hash(NOBODY, "a third horse battery", None)
            .await
            .unwrap();
        let hashes = ["damaged", one.as_str(), two.as_str(), stranger.as_str()];
        for (password, place) in [
            ("correct horse battery", Some(1)),
            ("another horse battery", Some(2)),
            ("a third horse battery", Some(3)),
            ("no horse battery", None),
        ] {
            assert_eq!(
                verify(&passwords, password, &hashes).await,
                place,
                "{password}"
            );
        }
    }

    #[test]
    fn check_new_refuses_weak_passwords() {
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
