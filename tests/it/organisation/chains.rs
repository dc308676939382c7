//! Tests of the hash chains over the audit trail and the ledger, on both databases: every change of a record is
//! found.

use chrono::{TimeDelta, Utc};
use plantlake::model::{OrganisationId, UsageRecord, UserId};
use plantlake::store::{
    ChainHeads, ChainKind, ChainVerification, FindingKind, OrganisationStore, StoreError,
};
use uuid::Uuid;

use crate::organisation::databases::{Fresh, Kind, actor, on_both, organisation, user};

/// Returns the record of a request that ended in a month that can be closed.
fn record(organisation: OrganisationId, user: UserId, number: u128) -> UsageRecord {
    let ended = "2024-01-05T00:00:00Z"
        .parse::<chrono::DateTime<Utc>>()
        .unwrap();
    UsageRecord {
        request_id: Uuid::from_u128(number),
        organisation_id: organisation,
        user_id: user,
        api_key_id: None,
        session_id: Some(plantlake::model::SessionId(Uuid::from_u128(5))),
        server_id: Uuid::from_u128(1),
        endpoint: "DoGet/StatementQuery".into(),
        sql_fingerprint: Some("ab".into()),
        sql_text: Some("SELECT 'ä\0' \n \u{1f600}".to_owned()),
        started_at: ended,
        ended_at: ended + TimeDelta::nanoseconds(1_999),
        first_byte_microseconds: Some(7),
        duration_microseconds: 2,
        rows: 4,
        bytes_sent: 3,
        bytes_scanned: 5,
        status: "OK".into(),
        cancelled: false,
        client_address: "10.0.0.7".into(),
        client_agent: "test".into(),
        billable: true,
    }
}

/// Creates an organisation and a user.
async fn acme(store: &OrganisationStore) -> (OrganisationId, UserId) {
    let id = organisation(store, "acme", 9).await.id;
    (id, user(store, id, "ada@acme.example").await.id)
}

async fn add(
    store: &OrganisationStore,
    of: (OrganisationId, UserId),
    numbers: std::ops::Range<u128>,
) {
    let records: Vec<_> = numbers.map(|number| record(of.0, of.1, number)).collect();
    assert_eq!(store.add_usage(&records).await.unwrap(), records.len());
}

/// Allows SQL to change the append-only tables.
async fn unlock(fresh: &Fresh) {
    let unlock = match fresh.kind {
        Kind::Sqlite => {
            "DROP TRIGGER api_usage_logs_no_update; DROP TRIGGER api_usage_logs_no_delete; \
             DROP TRIGGER audit_trail_no_update; DROP TRIGGER audit_trail_no_delete"
        }
        Kind::Postgres => {
            "ALTER TABLE api_usage_logs DISABLE TRIGGER USER; ALTER TABLE audit_trail DISABLE TRIGGER USER"
        }
    };
    fresh.sql(unlock).await.unwrap();
}

async fn verified(
    store: &OrganisationStore,
    kind: ChainKind,
    head: Option<&ChainHeads>,
) -> Vec<ChainVerification> {
    store.verify_chains(kind, None, head).await.unwrap()
}

/// Returns the findings of the only chain that has any: the kinds, and the records or places.
async fn found(
    store: &OrganisationStore,
    kind: ChainKind,
    head: Option<&ChainHeads>,
) -> Vec<(FindingKind, String)> {
    let chains = verified(store, kind, head).await;
    let findings = chains.into_iter().flat_map(|chain| chain.findings);
    let named = findings.map(|finding| {
        let place = finding.sequence.map(|place| place.to_string());
        (finding.kind, finding.record.or(place).unwrap_or_default())
    });
    named.collect()
}

fn id(number: u128) -> String {
    Uuid::from_u128(number).to_string()
}

on_both! {
    async fn verify_names_changed_inserted_and_removed_records(fresh) {
        let store = fresh.store().await;
        let of = acme(&store).await;
        add(&store, of, 1..4).await;
        add(&store, of, 4..7).await;
        assert_eq!(found(&store, ChainKind::Ledger, None).await, []);
        let head = store.chain_heads(None).await.unwrap();
        unlock(&fresh).await;
        let (three, five) = (id(3), id(5));
        let columns = "request_id, organization_id, user_id, api_key_id, session_id, server_id, endpoint, sql_fingerprint, sql_text, \
            started_at, ended_at, billing_month, first_byte_microseconds, duration_microseconds, rows, bytes_sent, bytes_scanned, \
            status, cancelled, client_address, client_agent, billable, chain_sequence, chain_hash";
        let copy = |place: &str, hash: &str| {
            let values = columns.replace("request_id", &format!("'{}'", id(9))).replace("chain_sequence", place).replace("chain_hash", hash);
            format!("INSERT INTO api_usage_logs ({columns}) SELECT {values} FROM api_usage_logs WHERE request_id = '{three}'")
        };
        let gone = format!("CREATE TABLE kept AS SELECT * FROM api_usage_logs WHERE request_id = '{three}'; DELETE FROM api_usage_logs WHERE request_id = '{three}'");
        let back = "INSERT INTO api_usage_logs SELECT * FROM kept; DROP TABLE kept".to_owned();
        let out = format!("DELETE FROM api_usage_logs WHERE request_id = '{}'", id(9));
        let swap = format!(
            "UPDATE api_usage_logs SET chain_sequence = CASE request_id WHEN '{three}' THEN 5 ELSE 3 END WHERE request_id IN ('{three}', '{five}')"
        );
        let swap_back = swap.replace("THEN 5 ELSE 3", "THEN 3 ELSE 5");
        let end = "UPDATE record_chains SET length = length + 1 WHERE chain = 'ledger'".to_owned();
        let cases = [
            (copy("NULL", "NULL"), out.clone(), vec![(FindingKind::Inserted, id(9))]),
            (copy("3", "chain_hash"), out.clone(), vec![(FindingKind::Inserted, id(9))]),
            (copy("77", "chain_hash"), out.clone(), vec![(FindingKind::Inserted, id(9))]),
            (gone, back, vec![(FindingKind::Removed, "3".to_owned())]),
            (swap, swap_back, [&five, &id(4), &three, &id(6)].map(|name| (FindingKind::Changed, name.clone())).into()),
            (end.clone(), end.replace("+ 1", "- 1"), vec![(FindingKind::Cut, "7".to_owned())]),
        ];
        for (sql, undo, expected) in cases {
            fresh.sql(&sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
            assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, expected, "{sql}");
            fresh.sql(&undo).await.unwrap();
            assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, [], "undone: {sql}");
        }
        // The chain continues.
        add(&store, of, 20..23).await;
        assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, []);
    }

    async fn verify_with_exported_head_finds_truncation_and_rewrite(fresh) {
        let store = fresh.store().await;
        let of = acme(&store).await;
        add(&store, of, 1..4).await;
        let before = store.chain_heads(None).await.unwrap();
        add(&store, of, 4..7).await;
        let head = store.chain_heads(None).await.unwrap();
        // The head goes through its file format.
        let head = ChainHeads::parse(&serde_json::to_string(&head).unwrap()).unwrap();
        unlock(&fresh).await;
        let end = before.heads.iter().find(|head| head.organisation_id.is_some()).unwrap().ledger.clone();
        let cut = format!(
            "DELETE FROM api_usage_logs WHERE chain_sequence > 3; \
             UPDATE record_chains SET length = {}, hash = '{}' WHERE chain = 'ledger'", end.length, end.hash
        );
        fresh.sql(&cut).await.unwrap();
        assert_eq!(found(&store, ChainKind::Ledger, None).await, [], "the database alone does not tell");
        assert_eq!(found(&store, ChainKind::Ledger, Some(&before)).await, []);
        assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, [(FindingKind::Cut, "4".to_owned())]);
        // Other records take their places.
        add(&store, of, 30..40).await;
        assert_eq!(found(&store, ChainKind::Ledger, Some(&before)).await, []);
        assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, [(FindingKind::Rewritten, String::new())]);
        // The whole chain is deleted.
        fresh.sql("DELETE FROM api_usage_logs; DELETE FROM record_chains WHERE chain = 'ledger'").await.unwrap();
        assert_eq!(found(&store, ChainKind::Ledger, Some(&head)).await, [(FindingKind::Cut, "1".to_owned())]);
    }

    async fn audit_trail_has_one_chain_per_organisation_and_one_without(fresh) {
        let store = fresh.store().await;
        acme(&store).await;
        organisation(&store, "bolt", 2).await;
        for number in 0..4 {
            store.record_event(&actor(), "key.create", &format!("k{number}")).await.unwrap();
        }
        let chains = verified(&store, ChainKind::Audit, None).await;
        let told: Vec<_> = chains.iter().map(|chain| (chain.organisation.as_deref(), chain.records, chain.findings.len())).collect();
        assert_eq!(told, [(None, 4, 0), (Some("acme"), 2, 0), (Some("bolt"), 1, 0)]);
        unlock(&fresh).await;
        fresh.sql("UPDATE audit_trail SET actor = 'user ada' WHERE subject = 'k2'").await.unwrap();
        let [(kind, _)] = &found(&store, ChainKind::Audit, None).await[..] else { panic!() };
        assert_eq!(*kind, FindingKind::Changed);
        fresh.sql("DELETE FROM audit_trail WHERE subject = 'k2'").await.unwrap();
        assert_eq!(found(&store, ChainKind::Audit, None).await, [(FindingKind::Removed, "3".to_owned())]);
    }

    async fn chain_of_concurrent_writers_does_not_fork(fresh) {
        let store = fresh.store().await;
        let of = acme(&store).await;
        store.set_user_limit(&actor(), of.0, 1_000).await.unwrap();
        let mut tasks = tokio::task::JoinSet::new();
        for writer in 0..6u128 {
            let store = fresh.store().await;
            tasks.spawn(async move {
                for batch in 0..8 {
                    let first = 1_000 * (writer + 1) + 10 * batch;
                    add(&store, of, first..first + 5).await;
                    store.record_event(&actor(), "key.create", "k").await.unwrap();
                    user(&store, of.0, &format!("u{writer}.{batch}@acme.example")).await;
                    if batch == 3 {
                        store.chain_heads(None).await.unwrap();
                    }
                }
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
        for (kind, lengths) in [(ChainKind::Ledger, vec![240]), (ChainKind::Audit, vec![48, 2 + 48 + 1])] {
            let chains = verified(&store, kind, None).await;
            assert!(chains.iter().all(|chain| chain.findings.is_empty()), "{chains:?}");
            let found: Vec<_> = chains.iter().map(|chain| (chain.records, chain.end.length)).collect();
            let expected: Vec<_> = lengths.into_iter().map(|length| (length, length)).collect();
            assert_eq!(found, expected);
        }
    }

    async fn records_older_than_the_chain_are_anchored(fresh) {
        let store = fresh.store().await;
        let of = acme(&store).await;
        add(&store, of, 1..6).await;
        unlock(&fresh).await;
        // Restores the state of a database of an earlier version.
        fresh.sql("UPDATE api_usage_logs SET chain_sequence = NULL, chain_hash = NULL; \
            UPDATE api_usage_logs SET billing_month = '2023-12' WHERE bytes_sent = 3 AND request_id <= '00000000-0000-0000-0000-000000000002'; \
            UPDATE audit_trail SET chain_sequence = NULL, chain_hash = NULL; DELETE FROM record_chains").await.unwrap();
        let [chain] = &verified(&store, ChainKind::Ledger, None).await[..] else { panic!() };
        assert_eq!((chain.begun, chain.records, chain.findings.len()), (false, 5, 0));
        // The chain begins with the next record or when its head is read.
        let head = store.chain_heads(None).await.unwrap();
        add(&store, of, 6..9).await;
        organisation(&store, "bolt", 2).await;
        let [chain, _] = &verified(&store, ChainKind::Ledger, Some(&head)).await[..] else { panic!() };
        assert_eq!((chain.begun, chain.records, chain.end.length, chain.findings.len()), (true, 8, 8, 0));
        for (sql, expected) in [
            ("UPDATE api_usage_logs SET rows = 8 WHERE billing_month = '2023-12'", vec!["2023-12"]),
            ("UPDATE api_usage_logs SET billing_month = '2024-01' WHERE billing_month = '2023-12'", vec!["2023-12", "2024-01"]),
            ("DELETE FROM api_usage_logs WHERE chain_sequence IS NULL", vec!["2023-12", "2024-01"]),
        ] {
            fresh.sql(sql).await.unwrap();
            let chains = verified(&store, ChainKind::Ledger, Some(&head)).await;
            let told: Vec<_> = chains[0].findings.iter().map(|finding| (finding.kind, finding.text.clone())).collect();
            assert_eq!(told.len(), expected.len(), "{told:?}");
            for ((kind, text), month) in told.iter().zip(expected) {
                assert!(*kind == FindingKind::Anchor && text.contains(month), "{text}");
            }
        }
    }

    async fn copy_has_the_same_chains(fresh) {
        let store = fresh.store().await;
        let of = acme(&store).await;
        add(&store, of, 1..5).await;
        let head = store.chain_heads(None).await.unwrap();
        for kind in [Kind::Sqlite, Kind::Postgres] {
            let other = Fresh::new(kind).await;
            let copy = other.store().await;
            let mut parts = Vec::new();
            let take = |part: plantlake::store::CopyPart<'_>| {
                parts.push((part.table.to_owned(), part.text.to_vec()));
                Ok::<_, StoreError>(())
            };
            store.copy(take).await.unwrap();
            let mut restoring = copy.begin_restore().await.unwrap();
            for (table, text) in &parts {
                restoring.add(table, text).await.unwrap();
            }
            restoring.commit().await.unwrap();
            for (of, first) in [(of, 10), (of, 20)] {
                add(&copy, of, first..first + 2).await;
                user(&copy, of.0, &format!("u{first}@acme.example")).await;
            }
            for chain in [ChainKind::Audit, ChainKind::Ledger] {
                assert_eq!(found(&copy, chain, Some(&head)).await, []);
            }
        }
    }
}
