//! Tests of the guarantees of the organisation database, on both databases.

use std::sync::Arc;

use chrono::{TimeDelta, Utc};
use plantlake::auth::FreshKey;
use plantlake::model::{Grant, GrantAccess, OrganisationId, Role};
use plantlake::store::{
    AuditFilter, NewKey, OrganisationStore, SCHEMA, StoreError, UserChange, WritingOrganisation,
};
use tokio::task::JoinSet;

use crate::organisation::databases::{Fresh, Kind, actor, new_user, on_both, organisation, user};

fn now() -> chrono::DateTime<Utc> {
    plantlake::clock::now()
}

pub async fn emails(store: &OrganisationStore) -> Vec<String> {
    store
        .users(None)
        .await
        .unwrap()
        .into_iter()
        .map(|user| user.email)
        .collect()
}

async fn trail(store: &OrganisationStore) -> Vec<String> {
    let filter = AuditFilter {
        organisation: None,
        last: 1_000,
    };
    let entries = store.audit(&filter).await.unwrap();
    entries
        .iter()
        .rev()
        .map(|entry| format!("{} {}", entry.action, entry.subject))
        .collect()
}

on_both! {
    async fn open_concurrently_migrates_once(fresh) {
        let opened = (0..8).map(|_| OrganisationStore::open(fresh.url()));
        let opened = futures::future::join_all(opened).await;
        for outcome in opened {
            assert_eq!(outcome.unwrap().1.version, SCHEMA);
        }
        let (_, again) = OrganisationStore::open(fresh.url()).await.unwrap();
        assert!(again.made.is_empty());
        // A database of a later version is not changed.
        fresh.sql("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) \
                   SELECT 99, 'later', success, checksum, 0 FROM _sqlx_migrations WHERE version = 1").await.unwrap();
        let error = OrganisationStore::open(fresh.url()).await.unwrap_err();
        assert!(matches!(error, StoreError::SchemaTooNew { version: 99, .. }), "{error}");
    }

    async fn organisation_names_are_unique_in_any_case(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, " Acme Chemicals ", 3).await;
        assert_eq!((acme.name.as_str(), acme.users, acme.active), ("Acme Chemicals", 0, true));
        for name in ["ACME chemicals", &acme.id.to_string()] {
            assert_eq!(store.organisation(name).await.unwrap(), acme);
        }
        let again = plantlake::store::NewOrganisation {
            name: "aCME CHEMICALS".to_owned(),
            profile: Default::default(),
            user_limit: 1,
        };
        for (name, part) in [("aCME CHEMICALS", "already"), ("", "name"), (&acme.id.to_string(), "id")] {
            let new = plantlake::store::NewOrganisation { name: name.to_owned(), ..again.clone() };
            let error = store.create_organisation(&actor(), new).await.unwrap_err();
            assert!(error.to_string().contains(part), "{error}");
        }
        assert!(matches!(store.organisation("nobody").await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.organisations().await.unwrap(), std::slice::from_ref(&acme));
        assert!(store.set_organisation_active(&actor(), acme.id, false).await.unwrap());
        assert!(!store.set_organisation_active(&actor(), acme.id, false).await.unwrap());
        assert!(!store.organisation("acme chemicals").await.unwrap().active);
        assert_eq!(trail(&store).await, ["org.create Acme Chemicals", "org.deactivate Acme Chemicals"]);
    }

    async fn user_limit_holds_for_concurrent_creations(fresh) {
        let (first, second) = (fresh.store().await, fresh.store().await);
        let acme = organisation(&first, "acme", 17).await;
        let mut tasks = JoinSet::new();
        for i in 0..200 {
            // Two pools, like those of two processes.
            let store = if i % 2 == 0 { first.clone() } else { second.clone() };
            let new = new_user(acme.id, &format!("user{i}@acme.example"));
            tasks.spawn(async move { store.create_user(&actor(), new).await });
        }
        let (mut made, mut refused) = (0, 0);
        while let Some(outcome) = tasks.join_next().await {
            match outcome.unwrap() {
                Ok(_) => made += 1,
                Err(StoreError::LimitReached { limit: 17, holders, .. }) => {
                    assert_eq!(holders.0.len(), 17);
                    refused += 1;
                }
                Err(other) => panic!("{other:?}"),
            }
        }
        assert_eq!((made, refused), (17, 183));
        assert_eq!(first.users(Some(acme.id)).await.unwrap().len(), 17);
        assert_eq!(first.organisation("acme").await.unwrap().users, 17);
        assert_eq!(trail(&first).await.len(), 18);
    }

    async fn user_limit_holds_for_concurrent_creations_and_removals(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 3).await;
        let watch = {
            let store = store.clone();
            tokio::spawn(async move {
                let mut most = 0;
                for _ in 0..100 {
                    most = most.max(store.organisation("acme").await.unwrap().users);
                }
                most
            })
        };
        let mut tasks = JoinSet::new();
        for i in 0..20 {
            let store = store.clone();
            tasks.spawn(async move {
                for j in 0..5 {
                    if let Ok(user) = store.create_user(&actor(), new_user(acme.id, &format!("u{i}-{j}@x.y"))).await {
                        store.remove_user(&actor(), user.id).await.unwrap();
                    }
                }
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
        assert!(watch.await.unwrap() <= 3);
        assert_eq!(store.organisation("acme").await.unwrap().users, 0);
    }

    async fn deactivated_users_count_towards_limit_and_removed_ones_do_not(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 2).await;
        let ada = user(&store, acme.id, "Ada@acme.example").await;
        user(&store, acme.id, "bob@acme.example").await;
        let create = |email: &'static str| store.create_user_as(acme.id, email);
        let error = create("cleo@acme.example").await.unwrap_err().to_string();
        assert!(error.contains("limit of 2 users; it has Ada@acme.example, bob@acme.example"), "{error}");
        assert!(store.set_user_active(&actor(), ada.id, false).await.unwrap());
        let error = create("cleo@acme.example").await.unwrap_err().to_string();
        assert!(error.contains("Ada@acme.example (deactivated)"), "{error}");
        store.remove_user(&actor(), ada.id).await.unwrap();
        create("cleo@acme.example").await.unwrap();
        assert_eq!(emails(&store).await, ["bob@acme.example", "cleo@acme.example"]);
        assert!(matches!(store.user("ada@acme.example").await, Err(StoreError::NotFound { .. })));
        assert_eq!(store.user_by_id(ada.id).await.unwrap(), None);
        // The limit cannot be set below the number of users.
        let error = store.set_user_limit(&actor(), acme.id, 1).await.unwrap_err();
        assert!(matches!(error, StoreError::LimitTooLow { taken: 2, .. }), "{error}");
        assert_eq!(store.set_user_limit(&actor(), acme.id, 5).await.unwrap().user_limit, 5);
        assert!(store.set_user_limit(&actor(), acme.id, -1).await.is_err());
        // The address is free again, and both users are in the audit trail.
        create("ADA@acme.example").await.unwrap();
        let trail = trail(&store).await;
        for entry in ["user.create Ada@acme.example", "user.remove Ada@acme.example", "user.create ADA@acme.example"] {
            assert!(trail.contains(&entry.to_owned()), "{trail:?}");
        }
    }

    async fn addresses_are_unique_in_any_case_within_an_organisation(fresh) {
        let store = fresh.store().await;
        let (acme, other) = (organisation(&store, "acme", 9).await, organisation(&store, "other", 9).await);
        let ada = user(&store, acme.id, "Äda@Acme.example").await;
        for email in ["äda@acme.EXAMPLE", "ÄDA@acme.example"] {
            let error = store.create_user_as(acme.id, email).await.unwrap_err();
            assert!(matches!(error, StoreError::AlreadyExists { .. }), "{error}");
        }
        assert_eq!(store.user("ÄDA@ACME.example").await.unwrap(), ada);
        assert_eq!(store.credentials("äda@acme.example").await.unwrap().remove(0).user, ada);
        assert!(store.credentials("bob@acme.example").await.unwrap().is_empty());
        assert!(store.credentials("").await.unwrap().is_empty());
        // Another organisation may have the same address, and learns nothing of the first.
        let there = store.create_user_as(other.id, "äda@acme.example").await.unwrap();
        let users: Vec<_> = store.credentials("äda@acme.example").await.unwrap();
        assert_eq!(users.iter().map(|one| one.user.id).collect::<Vec<_>>(), [ada.id, there.id]);
        // One of several concurrent attempts succeeds.
        let twice = (0..20).map(|_| store.create_user_as(acme.id, "twin@acme.example"));
        let made = futures::future::join_all(twice).await.into_iter().filter(Result::is_ok).count();
        assert_eq!(made, 1);
    }

    async fn change_user_to_service_role_is_refused(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let wanted = UserChange { role: Some(Role::Admin), may_ingest: Some(true), name: None };
        let changed = store.change_user(&actor(), ada.id, &wanted).await.unwrap();
        assert_eq!((changed.role, changed.may_ingest), (Role::Admin, true));
        let wanted = UserChange { name: Some("Ada".to_owned()), ..UserChange::default() };
        let changed = store.change_user(&actor(), ada.id, &wanted).await.unwrap();
        assert_eq!((changed.role, changed.may_ingest, changed.name.as_str()), (Role::Admin, true, "Ada"));
        let wanted = UserChange { role: Some(Role::Service), ..UserChange::default() };
        assert!(store.change_user(&actor(), ada.id, &wanted).await.is_err());
    }

    async fn write_grants_are_added_revoked_and_checked(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 3).await;
        let zeta = organisation(&store, "zeta", 3).await;
        let rules = [Grant::parse("type", "pump").unwrap(), Grant::parse("type", "tank").unwrap()];
        let access = async || {
            let grants = store.asset_grants(acme.id).await.unwrap();
            grants.iter().map(|grant| grant.access).collect::<Vec<_>>()
        };
        let write = async |of: OrganisationId, rules: &[Grant]| {
            let check = |others: &[WritingOrganisation]| match others {
                [] => Ok(()),
                others => Err(format!("{} writes", others[0].name)),
            };
            store.grant_access(&actor(), of, rules, GrantAccess::Write, check).await
        };
        store.grant(&actor(), acme.id, &rules).await.unwrap();
        assert_eq!(access().await, [GrantAccess::Read; 2]);
        assert!(store.writing_organisations().await.unwrap().is_empty());
        // An existing grant for reading becomes one for writing; granting reading again does not change that.
        assert_eq!(write(acme.id, &rules[..1]).await.unwrap(), rules[..1]);
        assert!(write(acme.id, &rules[..1]).await.unwrap().is_empty());
        assert!(store.grant(&actor(), acme.id, &rules).await.unwrap().is_empty());
        assert_eq!(access().await, [GrantAccess::Write, GrantAccess::Read]);
        let writing = store.writing_organisations().await.unwrap();
        assert_eq!(writing, [WritingOrganisation { id: acme.id, name: "acme".to_owned(), rules: rules[..1].to_vec() }]);
        // The check receives the other organisations, and a refusal changes nothing.
        let refused = write(zeta.id, &rules).await.unwrap_err();
        assert_eq!(refused.to_string(), "acme writes");
        assert!(store.grants(zeta.id).await.unwrap().is_empty());
        // All grants must exist, or none is changed.
        assert!(store.revoke_writing(&actor(), acme.id, &rules).await.is_err());
        assert_eq!(access().await, [GrantAccess::Write, GrantAccess::Read]);
        store.revoke_writing(&actor(), acme.id, &rules[..1]).await.unwrap();
        assert_eq!(access().await, [GrantAccess::Read; 2]);
        assert_eq!(store.grants(acme.id).await.unwrap(), rules);
        let told = store.audit(&AuditFilter { organisation: None, last: 10 }).await.unwrap();
        let accesses = told.iter().filter_map(|entry| entry.details["access"].as_str());
        assert_eq!(accesses.collect::<Vec<_>>(), ["write", "write", "read"]);
    }

    async fn grants_are_stored_as_rules(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        assert!(store.grants(acme.id).await.unwrap().is_empty());
        let grant = |kind, value| Grant::parse(kind, value).unwrap();
        let grants = [grant("type", "pump"), grant("location", "Works / Unit 1*"), grant("all", "")];
        assert_eq!(store.grant(&actor(), acme.id, &grants).await.unwrap(), grants);
        assert!(store.grant(&actor(), acme.id, &grants[..1]).await.unwrap().is_empty());
        let kept = store.grants(acme.id).await.unwrap();
        assert!(kept.len() == 3 && grants.iter().all(|grant| kept.contains(grant)), "{kept:?}");
        // All grants are removed or none.
        let wrong = [grants[0].clone(), grant("type", "tank")];
        assert!(store.revoke_grants(&actor(), acme.id, &wrong).await.is_err());
        assert_eq!(store.grants(acme.id).await.unwrap().len(), 3);
        store.revoke_grants(&actor(), acme.id, &grants[..2]).await.unwrap();
        assert_eq!(store.grants(acme.id).await.unwrap(), [Grant::All]);
        assert_eq!(trail(&store).await, ["org.create acme", "org.grant acme", "org.revoke acme"]);
    }

    async fn keys_are_created_used_and_revoked(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let new = |may_ingest, expires_at| {
            let fresh = FreshKey::new().unwrap();
            NewKey {
                id: fresh.id,
                user: ada.id,
                name: " notebook ".to_owned(),
                secret_hash: fresh.secret_hash,
                may_ingest,
                expires_at,
            }
        };
        let wanted = new(false, None);
        let hash = wanted.secret_hash;
        let key = store.create_key(&actor(), wanted).await.unwrap();
        assert_eq!((key.name.as_str(), key.user.as_str(), key.last_used_at), ("notebook", "ada@x.y", None));
        assert_eq!(key.secret_hash, hash);
        assert_eq!(store.key(&key.id).await.unwrap(), Some(key.clone()));
        assert_eq!(store.key("").await.unwrap(), None);
        let error = store.create_key(&actor(), new(true, None)).await.unwrap_err();
        assert!(error.to_string().contains("may not send readings"), "{error}");
        assert!(store.create_key(&actor(), new(false, Some(now()))).await.is_err());
        let at = now();
        store.record_key_use(&key.id, at).await.unwrap();
        store.record_key_use(&key.id, at - TimeDelta::hours(1)).await.unwrap();
        let used = store.key(&key.id).await.unwrap().unwrap().last_used_at.unwrap();
        assert_eq!(used.timestamp_micros(), at.timestamp_micros());
        assert!(store.revoke_key(&actor(), &key.id).await.unwrap());
        assert!(!store.revoke_key(&actor(), &key.id).await.unwrap());
        assert!(matches!(store.revoke_key(&actor(), "x").await, Err(StoreError::NotFound { .. })));
        let other = store.create_key(&actor(), new(false, None)).await.unwrap();
        assert_eq!(store.keys(Some(acme.id), None).await.unwrap().len(), 2);
        assert_eq!(store.keys(None, Some(ada.id)).await.unwrap().len(), 2);
        // The keys of a removed user are revoked, and stay in the database.
        store.remove_user(&actor(), ada.id).await.unwrap();
        assert!(store.key(&other.id).await.unwrap().unwrap().revoked_at.is_some());
    }

    async fn sessions_begin_end_and_are_deleted(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let (start, hour) = (now(), TimeDelta::hours(1));
        let begin = || store.begin_session(ada.id, start, start + hour, "10.0.0.7");
        let (one, two, three) = (begin().await.unwrap(), begin().await.unwrap(), begin().await.unwrap());
        assert_eq!(store.sessions(Some(ada.id), start).await.unwrap().len(), 3);
        assert!(store.sessions(None, start + hour).await.unwrap().is_empty());
        assert!(store.revoke_session(&actor(), one).await.unwrap());
        assert!(!store.revoke_session(&actor(), one).await.unwrap());
        assert!(store.session(one).await.unwrap().unwrap().revoked_at.is_some());
        assert_eq!(store.revoke_sessions(&actor(), ada.id).await.unwrap(), 2);
        assert!(store.session(two).await.unwrap().unwrap().revoked_at.is_some());
        // A new password or a deactivation ends sessions.
        let four = begin().await.unwrap();
        store.set_password(&actor(), ada.id, "hash".to_owned()).await.unwrap();
        assert!(store.session(four).await.unwrap().unwrap().revoked_at.is_some());
        let five = begin().await.unwrap();
        store.set_user_active(&actor(), ada.id, false).await.unwrap();
        assert!(store.session(five).await.unwrap().unwrap().revoked_at.is_some());
        // Expired sessions are deleted when another begins.
        store.begin_session(ada.id, start + hour * 2, start + hour * 3, "").await.unwrap();
        assert_eq!(store.session(three).await.unwrap(), None);
        let last = store.user("ada@x.y").await.unwrap().last_sign_in_at.unwrap();
        assert_eq!(last.timestamp_micros(), (start + hour * 2).timestamp_micros());
    }

    async fn revision_grows_with_changes_of_access_only(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let before = store.revision().await.unwrap();
        store.begin_session(ada.id, now(), now() + TimeDelta::hours(1), "").await.unwrap();
        store.record_key_use("x", now()).await.unwrap();
        store.rehash_password(ada.id, "a", "b".to_owned()).await.unwrap();
        assert_eq!(store.revision().await.unwrap(), before);
        store.grant(&actor(), acme.id, &[Grant::All]).await.unwrap();
        let granted = store.revision().await.unwrap();
        assert!(granted > before);
        store.set_user_active(&actor(), ada.id, false).await.unwrap();
        assert!(store.revision().await.unwrap() > granted);
    }

    async fn audit_trail_is_append_only(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 1).await;
        let other = organisation(&store, "other", 1).await;
        let before = store.audit(&AuditFilter { organisation: None, last: 9 }).await.unwrap();
        let mut attempts = vec![
            "UPDATE audit_trail SET actor = 'nobody'",
            "DELETE FROM audit_trail",
            "DELETE FROM audit_trail WHERE id = 1",
        ];
        match fresh.kind {
            Kind::Postgres => attempts.push("TRUNCATE audit_trail"),
            Kind::Sqlite => attempts.push(
                "INSERT OR REPLACE INTO audit_trail (id, at, actor, action, subject, details) VALUES (1, '', '', '', '', '')",
            ),
        }
        for sql in attempts {
            let error = fresh.sql(sql).await.unwrap_err().to_string();
            assert!(error.contains("append-only"), "{sql}: {error}");
        }
        assert_eq!(store.audit(&AuditFilter { organisation: None, last: 9 }).await.unwrap(), before);
        // Failed changes have no entry; the entries of one organisation can be selected.
        assert!(store.create_user_as(other.id, "a@b.c").await.is_ok());
        assert!(store.create_user_as(other.id, "b@b.c").await.is_err());
        for (organisation, entries) in [(acme.id, 1), (other.id, 2)] {
            let filter = AuditFilter { organisation: Some(organisation), last: 9 };
            assert_eq!(store.audit(&filter).await.unwrap().len(), entries);
        }
    }

    async fn create_user_when_cancelled_leaves_no_partial_change(fresh) {
        let store = Arc::new(fresh.store().await);
        let acme = organisation(&store, "acme", 50).await;
        for i in 0..30 {
            let store = Arc::clone(&store);
            let task = tokio::spawn(async move { store.create_user_as(acme.id, &format!("u{i}@x.y")).await });
            tokio::time::sleep(std::time::Duration::from_micros(150 * i)).await;
            task.abort();
            let _ = task.await;
        }
        // The audit trail has exactly the existing users.
        let users = emails(&store).await;
        let trail = trail(&store).await;
        assert_eq!(trail.len(), users.len() + 1, "{users:?} {trail:?}");
        user(&store, acme.id, "last@x.y").await;
    }
}

trait CreateAs {
    async fn create_user_as(
        &self,
        organisation: OrganisationId,
        email: &str,
    ) -> Result<plantlake::store::User, StoreError>;
}

impl CreateAs for OrganisationStore {
    async fn create_user_as(
        &self,
        organisation: OrganisationId,
        email: &str,
    ) -> Result<plantlake::store::User, StoreError> {
        self.create_user(&actor(), new_user(organisation, email))
            .await
    }
}

#[tokio::test]
async fn open_error_hides_password() {
    let folder = tempfile::tempdir().unwrap();
    for url in [
        "postgres://me:hush@127.0.0.1:1/db".to_owned(),
        format!("sqlite:{}", folder.path().display()),
    ] {
        let settings = crate::organisation::databases::settings(folder.path(), &url);
        let error = OrganisationStore::open(&settings.organisation_url)
            .await
            .unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(!text.contains("hush"), "{text}");
        assert!(
            text.contains("127.0.0.1") || text.contains(folder.path().to_str().unwrap()),
            "{text}"
        );
    }
    let fresh = Fresh::new(Kind::Postgres).await;
    let wrong = fresh
        .url()
        .with_password()
        .replace("postgres:", "postgres:not")
        .replacen("postgres:not//", "postgres://", 1);
    let settings = crate::organisation::databases::settings(folder.path(), &wrong);
    let error = OrganisationStore::open(&settings.organisation_url)
        .await
        .unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error:?}");
}

/// A server opens its database once for its clients and once for its jobs, while other processes run commands on
/// it.
#[tokio::test]
async fn sqlite_file_opened_twice_survives_other_processes() {
    let fresh = Fresh::new(Kind::Sqlite).await;
    let first = fresh.store().await;
    organisation(&first, "first", 5).await;
    let second = fresh.store().await;
    for round in 0..20 {
        let name = format!("round {round}");
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_plantlake"))
            .args(["org", "create", &name])
            .env("PLANTLAKE_ORGANISATION_URL", fresh.url().with_password())
            .env("PLANTLAKE_STATE", &fresh.settings.state)
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        for store in [&first, &second] {
            organisation(store, &format!("{name} of {store:p}"), 5).await;
            assert_eq!(store.organisation(&name).await.unwrap().name, name);
        }
    }
    assert_eq!(first.organisations().await.unwrap().len(), 61);
}
