//! Tests of copies of whole databases that the Python tests cannot cover: of an older schema, and into a database
//! in use.

use plantlake::store::{ChainKind, OrganisationStore, SCHEMA, StoreError};

use crate::organisation::databases::{Fresh, Kind, actor, on_both, organisation};

/// Returns the parts of a copy.
async fn copied(store: &OrganisationStore) -> Vec<(String, Vec<u8>)> {
    let mut parts = Vec::new();
    let take = |part: plantlake::store::CopyPart<'_>| {
        parts.push((part.table.to_owned(), part.text.to_vec()));
        Ok::<_, StoreError>(())
    };
    store.copy(take).await.unwrap();
    parts
}

async fn fill(store: &OrganisationStore, parts: &[(String, Vec<u8>)]) -> Result<(), StoreError> {
    let mut restoring = store.begin_restore().await?;
    for (table, text) in parts {
        restoring.add(table, text).await?;
    }
    restoring.commit().await
}

fn tables(parts: &[(String, Vec<u8>)]) -> Vec<&str> {
    parts.iter().map(|(table, _)| table.as_str()).collect()
}

on_both! {
    async fn copy_of_older_schema_is_migrated_after_restore(fresh) {
        const OLD: i64 = 2;
        let old = OrganisationStore::open_at(fresh.url(), OLD).await.unwrap();
        let time = "'2023-01-01T00:00:00.000000Z'";
        fresh.sql(&format!(
            "INSERT INTO organizations VALUES ('11111111-1111-7111-8111-111111111111', 'acme', 'acme', '', '', '', 9, true, {time}, {time}); \
             INSERT INTO audit_trail (at, actor, action, organization_id, subject, details) \
             VALUES ({time}, 'operator', 'org.create', '11111111-1111-7111-8111-111111111111', 'acme', '{{}}')"
        )).await.unwrap();
        let parts = copied(&old).await;
        assert!(!tables(&parts).contains(&"job_runs"));
        for kind in [Kind::Sqlite, Kind::Postgres] {
            let other = Fresh::new(kind).await;
            let store = OrganisationStore::open_at(other.url(), OLD).await.unwrap();
            fill(&store, &parts).await.unwrap();
            assert_eq!(copied(&store).await, parts);
            store.close().await;
            let (store, migrated) = OrganisationStore::open(other.url()).await.unwrap();
            assert_eq!((migrated.made[0].as_str(), migrated.version), ("3 jobs", SCHEMA));
            assert_eq!(store.organisations().await.unwrap().len(), 1);
            assert!(tables(&copied(&store).await).contains(&"job_runs"));
            // The chain of the audit trail begins over the existing entries.
            organisation(&store, "Bolt", 3).await;
            store.set_user_limit(&actor(), "11111111-1111-7111-8111-111111111111".parse().unwrap(), 4).await.unwrap();
            for chain in store.verify_chains(ChainKind::Audit, None, None).await.unwrap() {
                assert!(chain.begun && chain.findings.is_empty(), "{chain:?}");
            }
            // A database with a later schema cannot be opened at an older one.
            let refused = OrganisationStore::open_at(other.url(), OLD).await;
            assert!(matches!(refused, Err(StoreError::SchemaTooNew { version: 3.., .. })));
        }
    }

    async fn restore_into_used_database_is_refused(fresh) {
        let from = Fresh::new(Kind::Sqlite).await;
        let source = from.store().await;
        organisation(&source, "Acme", 3).await;
        let parts = copied(&source).await;
        let store = fresh.store().await;
        let mut first = store.begin_restore().await.unwrap();
        for (table, text) in &parts {
            first.add(table, text).await.unwrap();
        }
        // Nothing is visible before the commit, and no other restore begins.
        let beside = OrganisationStore::open(fresh.url()).await.unwrap().0;
        assert!(beside.organisations().await.unwrap().is_empty());
        let second = tokio::spawn({
            let (store, parts) = (beside.clone(), parts.clone());
            async move { fill(&store, &parts).await }
        });
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        first.commit().await.unwrap();
        let refused = second.await.unwrap().unwrap_err();
        assert!(matches!(refused, StoreError::InvalidCopy { .. }), "{refused}");
        assert_eq!(copied(&beside).await, parts);
        // A dropped restore leaves nothing.
        let other = Fresh::new(fresh.kind).await;
        let store = other.store().await;
        let mut given_up = store.begin_restore().await.unwrap();
        given_up.add(&parts[0].0, &parts[0].1).await.unwrap();
        drop(given_up);
        assert!(store.filled_tables().await.unwrap().is_empty());
        assert!(store.begin_restore().await.is_ok());
    }
}
