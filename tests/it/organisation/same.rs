//! Compares SQLite with Postgres: the same random changes give the same results and the same state on both.

use fastrand::Rng;
use plantlake::model::{Grant, Role};
use plantlake::store::{
    AuditFilter, NewOrganisation, NewUser, OrganisationStore, StoreError, UserChange,
};

use crate::organisation::databases::{Fresh, Kind, actor, new_user};

/// A random change of an organisation or a user.
struct Change {
    kind: u64,
    number: u64,
    name: &'static str,
    email: &'static str,
}

impl Change {
    fn random(dice: &mut Rng) -> Self {
        let organisations = ["Acme", "ACME", "Bolt", "Cürie", "CÜRIE"];
        let addresses = [
            "a@x.y", "A@X.Y", "b@x.y", "ß@x.y", "c@x.y", "É@x.y", "é@x.y",
        ];
        let name = organisations[dice.u64(..5) as usize];
        let email = addresses[dice.u64(..7) as usize];
        let (kind, number) = (dice.u64(..12), dice.u64(..4));
        Self {
            kind,
            number,
            name,
            email,
        }
    }

    /// Makes the change. Returns its result as text without ids and times.
    async fn apply(&self, store: &OrganisationStore) -> String {
        let outcome = match self.kind {
            0 => self.create_organisation(store).await,
            1..=4 => self.change_organisation(store).await,
            5 | 6 => self.create_user(store).await,
            _ => self.change_user(store).await,
        };
        let Self {
            kind,
            number,
            name,
            email,
        } = self;
        match outcome {
            Ok(result) => format!("{kind} {name} {email} {number}: {result}"),
            Err(error) => format!("{kind} {name} {email} {number}: {error}"),
        }
    }

    async fn create_organisation(&self, store: &OrganisationStore) -> Result<String, StoreError> {
        let new = NewOrganisation {
            name: self.name.to_owned(),
            profile: Default::default(),
            user_limit: self.number as i64,
        };
        Ok(store.create_organisation(&actor(), new).await?.name)
    }

    async fn change_organisation(&self, store: &OrganisationStore) -> Result<String, StoreError> {
        let number = self.number;
        let id = store.organisation(self.name).await?.id;
        Ok(match self.kind {
            1 => {
                let changed = store.set_user_limit(&actor(), id, number as i64).await?;
                format!("{} of {}", changed.users, changed.user_limit)
            }
            2 => {
                let active = number > 1;
                let changed = store.set_organisation_active(&actor(), id, active).await?;
                changed.to_string()
            }
            3 => {
                let grants = [
                    Grant::All,
                    Grant::Type(format!("t{number}")),
                    Grant::Location("Wörks".to_owned()),
                ];
                let grants = &grants[..number.min(3) as usize];
                format!("{:?}", store.grant(&actor(), id, grants).await?)
            }
            _ => {
                let grants = [Grant::Type(format!("t{number}"))];
                store.revoke_grants(&actor(), id, &grants).await?;
                String::new()
            }
        })
    }

    async fn create_user(&self, store: &OrganisationStore) -> Result<String, StoreError> {
        let organisation = store.organisation(self.name).await?;
        let new = NewUser {
            role: Role::ALL[self.number.min(2) as usize],
            ..new_user(organisation.id, self.email)
        };
        Ok(store.create_user(&actor(), new).await?.email)
    }

    async fn change_user(&self, store: &OrganisationStore) -> Result<String, StoreError> {
        let number = self.number;
        let organisation = store.organisation(self.name).await?;
        let user = store.user_within(self.email, Some(organisation.id)).await?;
        Ok(match self.kind {
            7 => {
                let active = number > 1;
                let changed = store.set_user_active(&actor(), user.id, active).await?;
                changed.to_string()
            }
            8 => {
                let wanted = UserChange {
                    role: Some(Role::ALL[number.min(2) as usize]),
                    may_ingest: Some(number > 1),
                    name: None,
                };
                let changed = store.change_user(&actor(), user.id, &wanted).await?;
                format!("{:?}", changed.role)
            }
            9 => {
                let password = "x".to_owned();
                store.set_password(&actor(), user.id, password).await?;
                String::new()
            }
            10 => store.revoke_sessions(&actor(), user.id).await?.to_string(),
            _ => {
                store.remove_user(&actor(), user.id).await?;
                String::new()
            }
        })
    }
}

/// Returns the whole state as text without ids and times.
async fn state(store: &OrganisationStore) -> Vec<String> {
    let mut lines = vec![format!("revision {}", store.revision().await.unwrap())];
    for organisation in store.organisations().await.unwrap() {
        let grants = store.grants(organisation.id).await.unwrap();
        lines.push(format!(
            "{} {} of {} {} {grants:?}",
            organisation.name, organisation.users, organisation.user_limit, organisation.active
        ));
    }
    for user in store.users(None).await.unwrap() {
        lines.push(format!(
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
        lines.push(format!(
            "{} {} {:?} {}",
            entry.id, entry.action, entry.organisation, entry.subject
        ));
    }
    lines
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
        let mut results = Vec::new();
        for _ in 0..150 {
            let (on_sqlite, on_postgres) = (
                Change::random(&mut one).apply(&sqlite).await,
                Change::random(&mut two).apply(&postgres).await,
            );
            assert_eq!(on_sqlite, on_postgres, "seed {seed}");
            results.push(on_sqlite);
        }
        assert_eq!(
            state(&sqlite).await,
            state(&postgres).await,
            "seed {seed}: {results:#?}"
        );
        // Checks that not all changes failed.
        assert!(
            sqlite.revision().await.unwrap() > 20,
            "seed {seed}: {results:#?}"
        );
    }
}
