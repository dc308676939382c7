//! The entry point of authentication: signs users in with a password, and turns credentials into access.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use tokio::task::JoinSet;

use super::api_key::PresentedKey;
use super::digest::digest;
use super::error::AuthError;
use super::failures::SignInFailures;
use super::hash_queue::Requester;
use super::key_ring::KeyRing;
use super::live::{Access, LiveAccess, REVISION_INTERVAL};
use super::password::Passwords;
use super::principal::{Principal, Proof};
use super::throttle::{Attempt, Throttle};
use super::token::TokenIssuer;
use crate::clock;
use crate::config::AuthSettings;
use crate::metrics::{Cache, METRICS};
use crate::model::{AssetGrant, GrantAccess, SessionId};
use crate::store::{Credential, OrganisationStore, User};

/// The minimum time between two records of the use of one key.
const KEY_USE_INTERVAL: TimeDelta = TimeDelta::minutes(1);
/// The address that is recorded for a sign-in from the command line.
const LOCAL_ADDRESS: &str = "local";

/// Authenticates people and programs. Cheap to clone.
#[derive(Clone)]
pub struct Authenticator {
    store: OrganisationStore,
    tokens: TokenIssuer,
    token_lifetime: TimeDelta,
    passwords: Passwords,
    throttle: Throttle,
    failures: SignInFailures,
    live: LiveAccess,
    /// The time at which the use of each key was last recorded.
    last_recorded: Arc<Mutex<HashMap<String, DateTime<Utc>>>>,
    /// Writes of key uses that are in progress.
    pending_writes: Arc<Mutex<JoinSet<()>>>,
}

/// The result of a sign-in. `Debug` does not show the token.
pub struct SignedIn {
    /// The access token, to be sent as a bearer token.
    pub token: String,
    /// The id of the session, which can be revoked.
    pub session: SessionId,
    /// The time at which the token and the session expire.
    pub expires_at: DateTime<Utc>,
}

impl std::fmt::Debug for SignedIn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SignedIn")
            .field("session", &self.session)
            .finish_non_exhaustive()
    }
}

impl Authenticator {
    /// Opens an authenticator for the users of `store`; creates a first signing key if there is none.
    pub fn open(store: OrganisationStore, settings: &AuthSettings) -> Result<Self, AuthError> {
        Ok(Self {
            store,
            tokens: TokenIssuer {
                keys: KeyRing::open(&settings.keys_dir)?,
                issuer: settings.issuer.clone(),
                audience: settings.audience.clone(),
            },
            token_lifetime: settings.token_lifetime,
            passwords: Passwords::new()?,
            throttle: Throttle::default(),
            failures: SignInFailures::default(),
            live: LiveAccess::default(),
            last_recorded: Arc::default(),
            pending_writes: Arc::default(),
        })
    }

    /// Begins a session for the user with this address and password. Takes the same time if no such user exists.
    pub async fn sign_in(
        &self,
        email: &str,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<SignedIn, AuthError> {
        let attempt = self.throttle.admit(email, address).await?;
        let credential = self.check_password(attempt, email, password, address, |_| true);
        let credential = credential.await?;
        let user = &credential.user;
        if let Err(error) = check_access(user) {
            let organisations = [user.organisation_id];
            self.failures.record(email, address, &organisations);
            return Err(error);
        }
        if let Some(hash) = &credential.password_hash
            && self.passwords.is_outdated(hash)
        {
            let party = Requester::Organisation(Some(user.organisation_id));
            // If the hashing queue is full, the next sign-in rehashes the password.
            if let Ok(fresh) = self.passwords.hash(party, password, Some(hash)).await {
                self.store.rehash_password(user.id, hash, fresh).await?;
            }
        }
        // The times in a token are whole seconds.
        let now = clock::now().trunc_subsecs(0);
        let expires_at = now + self.token_lifetime;
        let from = address.map_or_else(|| LOCAL_ADDRESS.to_owned(), |address| address.to_string());
        let session = self
            .store
            .begin_session(user.id, now, expires_at, &from)
            .await?;
        let who = (user.id, user.organisation_id, user.role);
        let token = self.tokens.issue(who, session, now, expires_at)?;
        Ok(SignedIn {
            token,
            session,
            expires_at,
        })
    }

    /// Checks the caller's own password. It is throttled like a sign-in, against guesses by someone who holds a stolen
    /// token.
    pub(super) async fn check_own_password(
        &self,
        principal: &Principal,
        password: &str,
        address: Option<IpAddr>,
    ) -> Result<(), AuthError> {
        let email = &principal.user;
        let attempt = self.throttle.admit(email, address).await?;
        let is_own = |user: &User| user.id == principal.user_id;
        let checked = self.check_password(attempt, email, password, address, is_own);
        checked.await.map(drop).map_err(|error| match error {
            AuthError::WrongPassword | AuthError::IncompleteKey => AuthError::WrongCurrentPassword,
            error => error,
        })
    }

    /// Returns the user with this address and password, among those that `may_be_meant` accepts.
    async fn check_password(
        &self,
        attempt: Attempt,
        email: &str,
        password: &str,
        address: Option<IpAddr>,
        may_be_meant: impl Fn(&User) -> bool,
    ) -> Result<Credential, AuthError> {
        let checked = async {
            let mut credentials = self.store.credentials(email).await?;
            credentials.retain(|one| may_be_meant(&one.user));
            let organisations = credentials.iter().map(|one| one.user.organisation_id);
            let organisations: Vec<_> = organisations.collect();
            credentials.retain(|one| one.user.role.has_password());
            let hashes = credentials.iter().map(|one| one.password_hash.clone());
            let hashes = hashes.collect();
            let place = self.passwords.verify(attempt.requester(), password, hashes);
            Ok::<_, AuthError>((place.await?, credentials, organisations))
        };
        let (place, mut credentials, organisations) = match checked.await {
            Ok(checked) => checked,
            Err(error) => {
                attempt.cancel();
                return Err(error);
            }
        };
        if let Some(place) = place {
            attempt.succeed();
            return Ok(credentials.swap_remove(place));
        }
        self.failures.record(email, address, &organisations);
        attempt.fail().await?;
        let is_part_of_key =
            PresentedKey::has_key_prefix(password) && PresentedKey::parse(password).is_none();
        Err(match is_part_of_key {
            true => AuthError::IncompleteKey,
            false => AuthError::WrongPassword,
        })
    }

    /// Whether `text` has the format of an API key or an access token, so that it is not a password.
    pub fn is_credential(text: &str) -> bool {
        // The first part of a JWT is base64 of JSON that begins with `{"`.
        PresentedKey::parse(text).is_some()
            || text.starts_with("eyJ") && text.split('.').count() == 3
    }

    /// The hasher of passwords. The whole process shares its bounded set of threads.
    pub fn passwords(&self) -> &Passwords {
        &self.passwords
    }

    /// The keys, which also encrypt tickets.
    pub fn keys(&self) -> &KeyRing {
        &self.tokens.keys
    }

    /// Returns the access that this API key or access token gives.
    pub async fn authenticate(&self, credential: &str) -> Result<Access, AuthError> {
        let fingerprint = digest(credential.as_bytes());
        let known = self.live.get_confirmed(&fingerprint);
        METRICS
            .engine
            .count_lookup(Cache::Credentials, known.is_some());
        if let Some(access) = known {
            self.record_key_use(access.principal());
            return Ok(access);
        }
        let looked_up = async {
            // The revision is read first, so that later changes cause another check.
            let revision = self.store.revision().await?;
            Ok((self.resolve_credential(credential).await?, revision))
        };
        match looked_up.await {
            Ok((principal, revision)) => {
                let access = self.live.insert(fingerprint, principal, revision);
                self.record_key_use(access.principal());
                Ok(access)
            }
            Err(AuthError::Store(error)) if error.is_outage() => {
                match self.live.get_during_outage(&fingerprint) {
                    Some(access) => Ok(access),
                    None => Err(error.into()),
                }
            }
            Err(error) => Err(error),
        }
    }

    /// Waits until all pending records are in the database; called before the program ends.
    pub async fn flush(&self) {
        let notes = std::mem::take(
            &mut *self
                .pending_writes
                .lock()
                .unwrap_or_else(PoisonError::into_inner),
        );
        notes.join_all().await;
        self.failures.write(&self.store, true, true).await;
    }

    /// Checks every second whether an access has ended, and writes failed sign-ins. Runs until the future is dropped.
    pub async fn run_background_tasks(&self) {
        tokio::join!(
            self.poll_revision(),
            self.failures.write_periodically(&self.store)
        );
    }

    async fn poll_revision(&self) {
        let mut ticks = tokio::time::interval(REVISION_INTERVAL);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut is_away = false;
        loop {
            ticks.tick().await;
            match self.recheck_credentials().await {
                Ok(()) => {
                    is_away = false;
                    METRICS.health.record_database_response();
                }
                Err(error) if !is_away => {
                    is_away = true;
                    tracing::warn!("permissions unavailable: {error}");
                }
                Err(_) => {}
            }
            self.live.end_expired(clock::now());
        }
    }

    /// Checks the remembered credentials again that were last checked at another revision of the database.
    async fn recheck_credentials(&self) -> Result<(), AuthError> {
        let revision = self.store.revision().await?;
        for (fingerprint, principal, checked_at) in self.live.all() {
            // The removal of a signing key does not change the database's revision.
            if checked_at != revision || !self.is_signing_key_present(&principal.proof)? {
                match self.principal(principal.proof.clone()).await {
                    Err(error) if !error.is_refusal() => return Err(error),
                    outcome => self.live.apply_check(&fingerprint, outcome, revision),
                }
            }
        }
        self.live.mark_confirmed();
        Ok(())
    }

    fn is_signing_key_present(&self, proof: &Proof) -> Result<bool, AuthError> {
        match proof {
            Proof::Session { signing_key, .. } => Ok(self.tokens.keys.find(signing_key)?.is_some()),
            Proof::Key { .. } => Ok(true),
        }
    }

    async fn resolve_credential(&self, credential: &str) -> Result<Principal, AuthError> {
        if PresentedKey::has_key_prefix(credential) {
            let presented = PresentedKey::parse(credential).ok_or(AuthError::InvalidKey)?;
            let key = self
                .store
                .key(presented.id)
                .await?
                .ok_or(AuthError::InvalidKey)?;
            if !presented.has_secret(&key.secret_hash) {
                self.failures
                    .record_wrong_secret(&key.id, key.organisation_id);
                return Err(AuthError::InvalidKey);
            }
            return self
                .principal(Proof::Key {
                    id: key.id.into(),
                    expires_at: key.expires_at,
                })
                .await;
        }
        if credential.split('.').count() != 3 {
            return Err(AuthError::MalformedCredential);
        }
        let (claims, signing_key) = self.tokens.check(credential, clock::now())?;
        let malformed = AuthError::InvalidToken("a claim is missing or malformed");
        let proof = Proof::Session {
            id: claims.sid,
            signing_key,
            expires_at: DateTime::from_timestamp(claims.exp, 0).ok_or(malformed)?,
        };
        let principal = self.principal(proof).await?;
        if (principal.user_id, principal.organisation_id) != (claims.sub, claims.org) {
            return Err(AuthError::InvalidToken("it does not match its session"));
        }
        Ok(principal)
    }

    /// Returns the caller with this proof, in its present state.
    async fn principal(&self, proof: Proof) -> Result<Principal, AuthError> {
        let now = clock::now();
        let (user, may_ingest) = match &proof {
            Proof::Session { id, .. } => {
                let over = |state| AuthError::NoLongerValid {
                    what: "access token",
                    state,
                };
                if !self.is_signing_key_present(&proof)? {
                    return Err(over("is signed with a key that was removed"));
                }
                let session = self.store.session(*id).await?;
                let session = session.ok_or_else(|| over("belongs to a session that has ended"))?;
                if session.revoked_at.is_some() {
                    return Err(over("was revoked"));
                }
                if session.expires_at <= now {
                    return Err(over("has expired; sign in again"));
                }
                (session.user_id, true)
            }
            Proof::Key { id, .. } => {
                let over = |state| AuthError::NoLongerValid {
                    what: "API key",
                    state,
                };
                let key = self.store.key(id).await?.ok_or(AuthError::InvalidKey)?;
                if key.revoked_at.is_some() {
                    return Err(over("was revoked"));
                }
                if key.expires_at.is_some_and(|end| end <= now) {
                    return Err(over("has expired"));
                }
                (key.user_id, key.may_ingest)
            }
        };
        let user = self.store.user_by_id(user).await?;
        let user = user.ok_or(AuthError::NoAccess("the user was removed"))?;
        check_access(&user)?;
        let grants = self.store.asset_grants(user.organisation_id).await?;
        Ok(Principal {
            grants: AssetGrant::rules(&grants, GrantAccess::Read),
            write_grants: AssetGrant::rules(&grants, GrantAccess::Write),
            organisation_id: user.organisation_id,
            organisation: user.organisation,
            user_id: user.id,
            user: user.email,
            role: user.role,
            may_ingest: may_ingest && user.may_ingest,
            proof,
        })
    }

    /// Records the use of a key, at most once a minute and in the background.
    fn record_key_use(&self, principal: &Principal) {
        let Proof::Key { id, .. } = &principal.proof else {
            return;
        };
        let now = clock::now();
        let mut noted = self
            .last_recorded
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if noted
            .get(id.as_str())
            .is_some_and(|last| now - *last < KEY_USE_INTERVAL)
        {
            return;
        }
        noted.retain(|_, last| now - *last < KEY_USE_INTERVAL);
        noted.insert(id.to_string(), now);
        let (store, id) = (self.store.clone(), id.clone());
        let mut notes = self
            .pending_writes
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        while notes.try_join_next().is_some() {}
        notes.spawn(async move {
            if let Err(error) = store.record_key_use(&id, now).await {
                tracing::warn!("cannot record the use of API key {id}: {error}");
            }
        });
    }
}

fn check_access(user: &User) -> Result<(), AuthError> {
    if !user.organisation_active {
        return Err(AuthError::NoAccess("the organisation is deactivated"));
    }
    if !user.active {
        return Err(AuthError::NoAccess("the user is deactivated"));
    }
    Ok(())
}
