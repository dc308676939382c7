//! Tests of the limits of an organisation and of a user, and of changes by users to themselves.

use chrono::TimeDelta;
use plantlake::auth::FreshKey;
use plantlake::clock::now;
use plantlake::model::{Grant, Role};
use plantlake::store::{
    AccountLimits, Actor, AuditFilter, NewKey, NewOrganisation, NewUser, StoreError, UserChange,
};

use crate::organisation::conformance::emails;
use crate::organisation::databases::{actor, new_user, on_both, organisation, user};

on_both! {
    async fn texts_too_long_are_refused(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let long = "x".repeat(5 << 20);
        let is_unfit = |error: StoreError| assert!(matches!(error, StoreError::InvalidText(_)), "{error}");
        let mut profile = plantlake::store::Profile::default();
        let named = |name: &str, profile| NewOrganisation { name: name.to_owned(), profile, user_limit: 1 };
        is_unfit(store.create_organisation(&actor(), named(&long, profile.clone())).await.unwrap_err());
        profile.address = long.clone();
        is_unfit(store.create_organisation(&actor(), named("bolt", profile)).await.unwrap_err());
        let new = NewUser { name: long.clone(), ..new_user(acme.id, "bob@x.y") };
        is_unfit(store.create_user(&actor(), new).await.unwrap_err());
        let wanted = UserChange { name: Some(long.clone()), ..UserChange::default() };
        is_unfit(store.change_user(&actor(), ada.id, &wanted).await.unwrap_err());
        let fresh_key = FreshKey::new().unwrap();
        let key = NewKey {
            id: fresh_key.id,
            user: ada.id,
            name: long.clone(),
            secret_hash: fresh_key.secret_hash,
            may_ingest: false,
            expires_at: None,
        };
        is_unfit(store.create_key(&actor(), key).await.unwrap_err());
        is_unfit(store.user(&long).await.unwrap_err());
        is_unfit(store.organisation(&long).await.unwrap_err());
        is_unfit(store.revoke_key(&actor(), &long).await.unwrap_err());
        let grant = [Grant::Type(long.clone())];
        is_unfit(store.grant(&actor(), acme.id, &grant).await.unwrap_err());
        assert!(Grant::parse("asset", &long).unwrap_err().to_string().len() < 300);
        let long_actor = Actor(long);
        store.set_user_active(&long_actor, ada.id, false).await.unwrap();
        let trail = store.audit(&AuditFilter { organisation: None, last: 9 }).await.unwrap();
        assert!(serde_json::to_string(&trail).unwrap().len() < 5_000);
    }

    async fn keys_sessions_and_changes_are_limited(fresh) {
        let caps = AccountLimits { keys_per_organisation: 2, sessions_per_user: 3, changes_per_day: 4 };
        let store = fresh.store().await.with_account_limits(caps);
        let acme = organisation(&store, "acme", 50).await;
        let ada = user(&store, acme.id, "ada@x.y").await;
        let create = || async {
            let fresh = FreshKey::new().unwrap();
            let new = NewKey {
                id: fresh.id,
                user: ada.id,
                name: "k".to_owned(),
                secret_hash: fresh.secret_hash,
                may_ingest: false,
                expires_at: None,
            };
            store.create_key(&actor(), new).await
        };
        let first = create().await.unwrap();
        create().await.unwrap();
        let error = create().await.unwrap_err().to_string();
        assert!(error.contains("auth.keys_per_organisation"), "{error}");
        store.revoke_key(&actor(), &first.id).await.unwrap();
        create().await.unwrap();
        // The oldest session is deleted, and the revision grows, so that servers check again.
        let (start, hour) = (now(), TimeDelta::hours(1));
        let mut sessions = Vec::new();
        let before = store.revision().await.unwrap();
        for second in 0..5 {
            let at = start + TimeDelta::seconds(second);
            sessions.push(store.begin_session(ada.id, at, start + hour, "").await.unwrap());
        }
        assert!(store.revision().await.unwrap() > before);
        for (place, session) in sessions.into_iter().enumerate() {
            assert_eq!(store.session(session).await.unwrap().is_some(), place >= 2, "{place}");
        }
        // Changes by a user are limited, those by an operator are not; removing access is always possible.
        let admin = Actor::user("admin@x.y");
        for place in 0..6 {
            let name = Some(format!("name {place}"));
            let wanted = UserChange { name, ..UserChange::default() };
            let changed = store.change_user(&admin, ada.id, &wanted).await;
            assert_eq!(changed.is_ok(), place < 4, "{place}: {changed:?}");
        }
        store.change_user(&actor(), ada.id, &UserChange::default()).await.unwrap();
        store.change_user(&Actor::user("other@x.y"), ada.id, &UserChange::default()).await.unwrap();
        store.set_user_active(&admin, ada.id, false).await.unwrap();
        assert!(store.set_user_active(&admin, ada.id, true).await.is_err());
    }

    async fn last_admin_is_removable_by_operators_only(fresh) {
        let store = fresh.store().await;
        let acme = organisation(&store, "acme", 9).await;
        let admin = |email: &str| NewUser { role: Role::Admin, ..new_user(acme.id, email) };
        let ada = store.create_user(&actor(), admin("ada@x.y")).await.unwrap();
        let bob = store.create_user(&actor(), admin("bob@x.y")).await.unwrap();
        let by_ada = Actor::user("ada@x.y");
        store.set_user_active(&by_ada, bob.id, false).await.unwrap();
        let demoted = UserChange { role: Some(Role::Analyst), ..UserChange::default() };
        let refusals = [
            store.remove_user(&by_ada, ada.id).await.map(|()| true),
            store.set_user_active(&by_ada, ada.id, false).await,
            store.change_user(&by_ada, ada.id, &demoted).await.map(|_| true),
        ];
        for refusal in refusals {
            let error = refusal.unwrap_err().to_string();
            assert!(error.contains("the last active admin"), "{error}");
        }
        // A change that keeps the role is possible, and so is leaving if there is another admin.
        let renamed = UserChange { name: Some("Ada".to_owned()), role: Some(Role::Admin), ..UserChange::default() };
        store.change_user(&by_ada, ada.id, &renamed).await.unwrap();
        store.set_user_active(&by_ada, bob.id, true).await.unwrap();
        // If two admins remove each other at the same time, one stays.
        let by_bob = Actor::user("bob@x.y");
        let (one, two) = tokio::join!(store.remove_user(&by_ada, bob.id), store.remove_user(&by_bob, ada.id));
        assert!(one.is_ok() != two.is_ok(), "{one:?} {two:?}");
        let last = emails(&store).await.remove(0);
        let last = store.user(&last).await.unwrap();
        store.remove_user(&actor(), last.id).await.unwrap();
    }
}
