//! Compares SQLite with Postgres: the same random changes give the same results and the same state on both.

use fastrand::Rng;
use plantlake::model::{Grant, Role};
use plantlake::store::{AuditFilter, NewUser, OrganisationStore, StoreError, User, UserChange};

use crate::databases::{Fresh, Kind, actor, new_user};

/// Makes one random change. Returns its result as text without ids and times.
async fn change(store: &OrganisationStore, dice: &mut Rng) -> String {
    let organisations = ["Acme", "ACME", "Bolt", "Cürie", "CÜRIE"];
    let addresses = [
        "a@x.y", "A@X.Y", "b@x.y", "ß@x.y", "c@x.y", "É@x.y", "é@x.y",
    ];
    let name = organisations[dice.u64(..5) as usize];
    let email = addresses[dice.u64(..7) as usize];
    let (kind, number) = (dice.u64(..12), dice.u64(..4));
    let outcome = async {
        Ok::<_, plantlake::store::StoreError>(match kind {
            0 => {
                let new = plantlake::store::NewOrganisation {
                    name: name.to_owned(),
                    profile: Default::default(),
                    user_limit: number as i64,
                };
                store.create_organisation(&actor(), new).await?.name
            }
            1 => {
                let organisation = store.organisation(name).await?;
                let changed = store
                    .set_user_limit(&actor(), organisation.id, number as i64)
                    .await?;
                format!("{} of {}", changed.users, changed.user_limit)
            }
            2 => {
                let organisation = store.organisation(name).await?;
                let active = number > 1;
                store
                    .set_organisation_active(&actor(), organisation.id, active)
                    .await?
                    .to_string()
            }
            3 => {
                let organisation = store.organisation(name).await?;
                let grants = [
                    Grant::All,
                    Grant::Type(format!("t{number}")),
                    Grant::Location("Wörks".to_owned()),
                ];
                format!(
                    "{:?}",
                    store
                        .grant(&actor(), organisation.id, &grants[..number.min(3) as usize])
                        .await?
                )
            }
            4 => {
                let organisation = store.organisation(name).await?;
                store
                    .revoke_grants(
                        &actor(),
                        organisation.id,
                        &[Grant::Type(format!("t{number}"))],
                    )
                    .await?;
                String::new()
            }
            5 | 6 => {
                let organisation = store.organisation(name).await?;
                let role = Role::ALL[number.min(2) as usize];
                let new = NewUser {
                    role,
                    ..new_user(organisation.id, email)
                };
                store.create_user(&actor(), new).await?.email
            }
            7 => {
                let user = of(store, name, email).await?;
                store
                    .set_user_active(&actor(), user.id, number > 1)
                    .await?
                    .to_string()
            }
            8 => {
                let user = of(store, name, email).await?;
                let role = Role::ALL[number.min(2) as usize];
                let wanted = UserChange {
                    role: Some(role),
                    may_ingest: Some(number > 1),
                    name: None,
                };
                format!(
                    "{:?}",
                    store.change_user(&actor(), user.id, &wanted).await?.role
                )
            }
            9 => {
                let user = of(store, name, email).await?;
                store
                    .set_password(&actor(), user.id, "x".to_owned())
                    .await?;
                String::new()
            }
            10 => {
                let user = of(store, name, email).await?;
                store.revoke_sessions(&actor(), user.id).await?.to_string()
            }
            _ => {
                let user = of(store, name, email).await?;
                store.remove_user(&actor(), user.id).await?;
                String::new()
            }
        })
    };
    match outcome.await {
        Ok(told) => format!("{kind} {name} {email} {number}: {told}"),
        Err(error) => format!("{kind} {name} {email} {number}: {error}"),
    }
}

/// Returns the user of this organisation with this address.
async fn of(store: &OrganisationStore, name: &str, email: &str) -> Result<User, StoreError> {
    let organisation = store.organisation(name).await?;
    store.user_within(email, Some(organisation.id)).await
}

/// Returns the whole state as text without ids and times.
async fn state(store: &OrganisationStore) -> Vec<String> {
    let mut told = vec![format!("revision {}", store.revision().await.unwrap())];
    for organisation in store.organisations().await.unwrap() {
        let grants = store.grants(organisation.id).await.unwrap();
        told.push(format!(
            "{} {} of {} {} {grants:?}",
            organisation.name, organisation.users, organisation.user_limit, organisation.active
        ));
    }
    for user in store.users(None).await.unwrap() {
        told.push(format!(
            "{} {} {} {} {} {}",
            user.email,
            user.organisation,
            user.role,
            user.may_ingest,
            user.active,
            user.organisation_active
        ));
    }
    for entry in store
        .audit(&AuditFilter {
            organisation: None,
            last: 10_000,
        })
        .await
        .unwrap()
    {
        told.push(format!(
            "{} {} {:?} {}",
            entry.id, entry.action, entry.organisation, entry.subject
        ));
    }
    told
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn same_changes_give_same_results_on_both_databases() {
    for seed in 1..=4u64 {
        let (sqlite, postgres) = (
            Fresh::new(Kind::Sqlite).await,
            Fresh::new(Kind::Postgres).await,
        );
        let (sqlite, postgres) = (sqlite.store().await, postgres.store().await);
        let (mut one, mut two) = (Rng::with_seed(seed), Rng::with_seed(seed));
        let mut told = Vec::new();
        for _ in 0..150 {
            let (on_sqlite, on_postgres) = (
                change(&sqlite, &mut one).await,
                change(&postgres, &mut two).await,
            );
            assert_eq!(on_sqlite, on_postgres, "seed {seed}");
            told.push(on_sqlite);
        }
        assert_eq!(
            state(&sqlite).await,
            state(&postgres).await,
            "seed {seed}: {told:#?}"
        );
        // Checks that not all changes failed.
        assert!(
            sqlite.revision().await.unwrap() > 20,
            "seed {seed}: {told:#?}"
        );
    }
}
