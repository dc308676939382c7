//! Tests of authentication and of the end of access, on both databases, through the same functions that the server
//! uses.

use std::time::Duration;

use chrono::TimeDelta;
use plantlake::auth::{
    AccessEnded, AdminCommand, Administrator, AuthError, Authenticator, FreshKey, KeyRing,
    Passwords, Proof, Requester, change_own_password,
};
use plantlake::clock::Stopwatch;
use plantlake::config::Settings;
use plantlake::model::{Grant, Role, UserId};
use plantlake::store::{AuditFilter, NewKey, NewUser, OrganisationStore, User, UserChange};

use crate::organisation::databases::{Fresh, Kind, actor, new_user, on_both, organisation};

const PASSWORD: &str = "correct horse battery";

async fn signed_up(fresh: &Fresh) -> (OrganisationStore, Authenticator, User) {
    let store = fresh.store().await;
    let acme = organisation(&store, "acme", 9).await;
    let authenticator = Authenticator::open(store.clone(), &fresh.settings.auth).unwrap();
    let passwords = Passwords::new().unwrap();
    let hash = passwords.hash(Requester::Address(None), PASSWORD, None);
    let hash = hash.await.unwrap();
    let new = NewUser {
        password_hash: Some(hash),
        may_ingest: true,
        ..new_user(acme.id, "ada@x.y")
    };
    let ada = store.create_user(&actor(), new).await.unwrap();
    (store, authenticator, ada)
}

async fn key(store: &OrganisationStore, user: UserId, may_ingest: bool) -> FreshKey {
    let fresh = FreshKey::new().unwrap();
    let new = NewKey {
        id: fresh.id.clone(),
        user,
        name: "test".to_owned(),
        secret_hash: fresh.secret_hash,
        may_ingest,
        expires_at: None,
    };
    store.create_key(&actor(), new).await.unwrap();
    fresh
}

fn token_settings(settings: &Settings, lifetime: TimeDelta) -> plantlake::config::AuthSettings {
    plantlake::config::AuthSettings {
        token_lifetime: lifetime,
        ..settings.auth.clone()
    }
}

/// Returns the reason for which an access ends within ten seconds after `change`, while the background tasks of a
/// server run.
async fn end_after(
    authenticator: &Authenticator,
    credential: &str,
    change: impl Future<Output = ()>,
) -> String {
    let watch = {
        let authenticator = authenticator.clone();
        tokio::spawn(async move { authenticator.run_background_tasks().await })
    };
    let access = authenticator.authenticate(credential).await.unwrap();
    // A check that finds no change does not end the access.
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    access.check().unwrap();
    change.await;
    let ended = tokio::time::timeout(Duration::from_secs(10), access.wait_for_end()).await;
    let ended = ended.expect("the access ends within seconds");
    assert!(access.check().is_err());
    watch.abort();
    ended.to_string()
}

on_both! {
    async fn sign_in_requires_password_of_active_user(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        let signed_in = authenticator.sign_in(" ADA@x.y ", PASSWORD, None).await.unwrap();
        let access = authenticator.authenticate(&signed_in.token).await.unwrap();
        let principal = access.principal();
        assert_eq!((principal.user_id, principal.role, principal.may_ingest), (ada.id, Role::Analyst, true));
        assert!(matches!(&principal.proof, Proof::Session { id, .. } if *id == signed_in.session));
        assert!(principal.grants.is_empty());
        for (email, password) in [
            ("ada@x.y", "correct horse batterz"), ("ada@x.y", ""), ("bob@x.y", PASSWORD), ("", PASSWORD), ("ada@x.y\0", PASSWORD),
        ] {
            let outcome = authenticator.sign_in(email, password, None).await;
            assert!(matches!(outcome, Err(AuthError::WrongPassword)), "{email} {outcome:?}");
        }
        let part_of_a_key = authenticator.sign_in("ada@x.y", "pl_0123456789abcdef_0123", None).await;
        assert!(matches!(part_of_a_key, Err(AuthError::IncompleteKey)), "{part_of_a_key:?}");
        let whole_key = format!("pl_{}_{}", "0".repeat(16), "0".repeat(64));
        let outcome = authenticator.sign_in("ada@x.y", &whole_key, None).await;
        assert!(matches!(outcome, Err(AuthError::WrongPassword)), "{outcome:?}");
        // The right password of a user without access is answered with the reason, a wrong one never is.
        store.set_user_active(&actor(), ada.id, false).await.unwrap();
        let outcome = authenticator.sign_in("ada@x.y", PASSWORD, None).await;
        assert!(matches!(outcome, Err(AuthError::NoAccess("the user is deactivated"))), "{outcome:?}");
        let outcome = authenticator.sign_in("ada@x.y", "correct horse batterz", None).await;
        assert!(matches!(outcome, Err(AuthError::WrongPassword)), "{outcome:?}");
        assert!(authenticator.authenticate(&signed_in.token).await.is_err());
        // A service user cannot sign in, even if the database has a password hash.
        let hash = Passwords::new().unwrap().hash(Requester::Address(None), PASSWORD, None).await.unwrap();
        fresh.sql(&format!("UPDATE users SET active = TRUE, role = 'service', password_hash = '{hash}'")).await.unwrap();
        let outcome = authenticator.sign_in("ada@x.y", PASSWORD, None).await;
        assert!(matches!(outcome, Err(AuthError::WrongPassword)), "{outcome:?}");
    }

    async fn sign_in_guesses_are_delayed_and_right_password_succeeds(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        let mut took = Vec::new();
        for email in ["ada@x.y", "nobody@x.y"] {
            let began = Stopwatch::start();
            for _ in 0..8 {
                let outcome = authenticator.sign_in(email, "a wrong password", None).await;
                assert!(matches!(outcome, Err(AuthError::WrongPassword)), "{outcome:?}");
            }
            took.push(began.elapsed());
        }
        // The delays are a quarter of a second, half a second, and one second.
        for each in &took {
            assert!((1.75..8.0).contains(&each.as_secs_f64()), "{took:?}");
        }
        let began = Stopwatch::start();
        authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        // All failures are in the audit trail; those of an unknown address belong to no organisation.
        authenticator.flush().await;
        let trail = store.audit(&AuditFilter { organisation: None, last: 99 }).await.unwrap();
        let failed: Vec<_> = trail.iter().filter(|entry| entry.action == "sign-in.fail").collect();
        for (email, organisation) in [("ada@x.y", Some(ada.organisation_id)), ("nobody@x.y", None)] {
            let entry = failed.iter().find(|entry| entry.subject == email).unwrap();
            assert_eq!(entry.organisation_id, organisation);
            assert_eq!((&entry.details["count"], &entry.details["addresses"][0]), (&8.into(), &"local".into()));
        }
        assert_eq!(failed.len(), 2);
    }

    async fn sign_in_with_shared_address_selects_organisation_by_password(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        let other = organisation(&store, "other", 9).await;
        let administrator = Administrator::operator(store.clone(), Passwords::new().unwrap(), actor());
        let order = AdminCommand::CreateUser {
            organisation: Some("other".to_owned()),
            email: "ADA@x.y".to_owned(),
            name: String::new(),
            role: Role::Analyst,
            password: Some("another horse battery".to_owned()),
            may_ingest: false,
        };
        administrator.run(order).await.unwrap();
        for (password, organisation) in [(PASSWORD, ada.organisation_id), ("another horse battery", other.id)] {
            let signed_in = authenticator.sign_in("ada@x.y", password, None).await.unwrap();
            let access = authenticator.authenticate(&signed_in.token).await.unwrap();
            assert_eq!(access.principal().organisation_id, organisation);
        }
        let hashes = store.credentials("ada@x.y").await.unwrap();
        let salts = hashes.iter().map(|one| one.password_hash.as_ref().unwrap().split('$').nth(4).unwrap());
        let salts: std::collections::BTreeSet<_> = salts.collect();
        assert_eq!((hashes.len(), salts.len()), (2, 1), "one hash is compared with both");
        // The address alone is ambiguous, so the error lists the users.
        let error = store.user("ada@x.y").await.unwrap_err().to_string();
        assert!(error.contains("the address of 2 users") && error.contains(&ada.id.to_string()), "{error}");
        assert_eq!(store.user_within("ada@x.y", Some(ada.organisation_id)).await.unwrap().id, ada.id);
    }

    async fn change_own_password_requires_current_password(fresh) {
        let (store, authenticator, _) = signed_up(&fresh).await;
        let signed_in = authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        let access = authenticator.authenticate(&signed_in.token).await.unwrap();
        let principal = access.principal();
        let change = |current, new| change_own_password(&authenticator, &store, principal, None, current, new);
        let wrong = change("a wrong password", "another horse battery").await;
        assert!(matches!(wrong, Err(AuthError::WrongCurrentPassword)), "{wrong:?}");
        assert!(matches!(change(PASSWORD, "short").await, Err(AuthError::UnacceptablePassword(_))));
        change(PASSWORD, "another horse battery").await.unwrap();
        assert!(authenticator.sign_in("ada@x.y", PASSWORD, None).await.is_err());
        authenticator.sign_in("ada@x.y", "another horse battery", None).await.unwrap();
    }

    async fn key_grants_permissions_of_its_user(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        store.grant(&actor(), ada.organisation_id, &[Grant::All]).await.unwrap();
        for may_ingest in [false, true] {
            let key = key(&store, ada.id, may_ingest).await;
            let access = authenticator.authenticate(key.text()).await.unwrap();
            let principal = access.principal();
            assert_eq!((principal.may_ingest, principal.grants.as_slice()), (may_ingest, &[Grant::All][..]));
            // Changing any character makes the key invalid.
            let text = key.text();
            for at in 0..text.len() {
                let mut changed = text.as_bytes().to_vec();
                changed[at] = if changed[at] == b'a' { b'b' } else { b'a' };
                let changed = String::from_utf8(changed).unwrap();
                assert!(authenticator.authenticate(&changed).await.is_err(), "{changed}");
            }
            store.revoke_key(&actor(), &key.id).await.unwrap();
            let error = authenticator.authenticate(text).await.unwrap_err().to_string();
            assert_eq!(error, "the API key was revoked");
        }
        // The user's permission limits that of the key.
        let key = key(&store, ada.id, true).await;
        let wanted = UserChange { may_ingest: Some(false), ..UserChange::default() };
        store.change_user(&actor(), ada.id, &wanted).await.unwrap();
        assert!(!authenticator.authenticate(key.text()).await.unwrap().principal().may_ingest);
        for nothing in ["", "pl_", "Bearer x", "a.b", "a.b.c.d"] {
            assert!(authenticator.authenticate(nothing).await.is_err(), "{nothing}");
        }
    }

    async fn access_when_revoked_ends_within_seconds(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        let signed_in = authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        let ended = end_after(&authenticator, &signed_in.token, async {
            store.revoke_session(&actor(), signed_in.session).await.unwrap();
        }).await;
        assert_eq!(ended, "access has ended: the access token was revoked");

        let key = key(&store, ada.id, true).await;
        store.grant(&actor(), ada.organisation_id, &[Grant::All]).await.unwrap();
        let ended = end_after(&authenticator, key.text(), async {
            store.revoke_grants(&actor(), ada.organisation_id, &[Grant::All]).await.unwrap();
        }).await;
        assert!(ended.contains("permissions were reduced"), "{ended}");
        // The key is still valid, with fewer permissions.
        assert!(authenticator.authenticate(key.text()).await.unwrap().principal().grants.is_empty());
        let ended = end_after(&authenticator, key.text(), async {
            store.set_organisation_active(&actor(), ada.organisation_id, false).await.unwrap();
        }).await;
        assert!(ended.contains("the organisation is deactivated"), "{ended}");
        store.set_organisation_active(&actor(), ada.organisation_id, true).await.unwrap();
        let ended = end_after(&authenticator, key.text(), async {
            store.remove_user(&actor(), ada.id).await.unwrap();
        }).await;
        assert!(ended.contains("revoked"), "{ended}");
    }

    async fn sessions_survive_key_rotation_and_end_with_key_removal(fresh) {
        let (_, authenticator, _) = signed_up(&fresh).await;
        let ring = KeyRing::open(&fresh.settings.auth.keys_dir).unwrap();
        let first = ring.list().unwrap().pop().unwrap();
        let before = authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
        ring.rotate().unwrap();
        tokio::time::sleep(Duration::from_millis(1_100)).await;
        let after = authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        authenticator.authenticate(&before.token).await.unwrap();
        let ended = end_after(&authenticator, &before.token, async { ring.remove(&first.id).unwrap() }).await;
        assert!(ended.contains("removed"), "{ended}");
        assert!(authenticator.authenticate(&before.token).await.is_err());
        authenticator.authenticate(&after.token).await.unwrap();
    }

    async fn token_ends_at_its_expiry(fresh) {
        let (store, _, _) = signed_up(&fresh).await;
        let settings = token_settings(&fresh.settings, TimeDelta::seconds(3));
        let authenticator = Authenticator::open(store, &settings).unwrap();
        let signed_in = authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        let ended = end_after(&authenticator, &signed_in.token, async {}).await;
        assert!(ended.contains("expired"), "{ended}");
        assert!(authenticator.authenticate(&signed_in.token).await.is_err());
    }

    async fn sign_in_with_outdated_hash_renews_it(fresh) {
        let (store, authenticator, ada) = signed_up(&fresh).await;
        let weak = argon2::Params::new(64, 1, 1, None).unwrap();
        let weak = argon2::Argon2::new(argon2::Algorithm::Argon2id, argon2::Version::V0x13, weak);
        let weak: argon2::password_hash::phc::PasswordHash =
            argon2::PasswordHasher::hash_password(&weak, PASSWORD.as_bytes()).unwrap();
        store.set_password(&actor(), ada.id, weak.to_string()).await.unwrap();
        authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
        let hash = store.credentials("ada@x.y").await.unwrap().remove(0).password_hash.unwrap();
        assert!(hash.contains("m=19456,t=2,p=1"), "{hash}");
        authenticator.sign_in("ada@x.y", PASSWORD, None).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn access_during_database_outage_continues() {
    let fresh = Fresh::new(Kind::Sqlite).await;
    let (store, authenticator, ada) = signed_up(&fresh).await;
    let (known, unknown) = (
        key(&store, ada.id, false).await,
        key(&store, ada.id, false).await,
    );
    let watch = {
        let authenticator = authenticator.clone();
        tokio::spawn(async move { authenticator.run_background_tasks().await })
    };
    let access = authenticator.authenticate(known.text()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(1_200)).await;
    fresh
        .sql("ALTER TABLE access_revision RENAME TO away")
        .await
        .unwrap();
    // Longer than the lifetime of a confirmation.
    tokio::time::sleep(Duration::from_millis(4_000)).await;
    access.check().unwrap();
    authenticator.authenticate(known.text()).await.unwrap();
    let error = authenticator
        .authenticate(unknown.text())
        .await
        .unwrap_err();
    assert!(!error.is_refusal(), "{error}");
    fresh
        .sql("ALTER TABLE away RENAME TO access_revision")
        .await
        .unwrap();
    store.revoke_key(&actor(), &known.id).await.unwrap();
    let ended = tokio::time::timeout(Duration::from_secs(10), access.wait_for_end())
        .await
        .unwrap();
    assert_eq!(
        ended,
        AccessEnded::CredentialInvalid("the API key was revoked".to_owned())
    );
    watch.abort();
}
