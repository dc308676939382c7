//! Tests of the ledger, its reports, closed months and limits, on both databases.

use std::ops::RangeInclusive;

use chrono::{DateTime, TimeDelta, Utc};
use plantlake::config::JournalFullAction;
use plantlake::metering::{Caller, EndedBy, Meter, MeterSettings, ResponseEnd};
use plantlake::model::{Month, OrganisationId, UsageLimits, UsageRecord, UserId};
use plantlake::store::{
    LimitsChange, OrganisationStore, RecordFilter, ReportBy, ReportFilter, StoreError, UsageTotals,
};
use uuid::Uuid;

use crate::organisation::databases::{Fresh, Kind, actor, on_both, organisation, user};

fn month(text: &str) -> Month {
    text.parse().unwrap()
}

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// Returns the record of a billable request: one row, three bytes sent, five bytes scanned, one second.
fn record(organisation: OrganisationId, user: UserId, number: u128, ended: &str) -> UsageRecord {
    UsageRecord {
        request_id: Uuid::from_u128(number),
        organisation_id: organisation,
        user_id: user,
        api_key_id: None,
        session_id: None,
        server_id: Uuid::from_u128(1),
        endpoint: "DoGet/StatementQuery".into(),
        sql_fingerprint: None,
        sql_text: Some("SELECT 'ä' \n \u{1f600}".to_owned()),
        started_at: at(ended) - TimeDelta::seconds(1),
        ended_at: at(ended),
        first_byte_microseconds: Some(7),
        duration_microseconds: 1_000_000,
        rows: 1,
        bytes_sent: 3,
        bytes_scanned: 5,
        status: "OK".into(),
        cancelled: false,
        client_address: "10.0.0.7".into(),
        client_agent: "test".into(),
        billable: true,
    }
}

/// Creates two organisations, each with a user, that are older than the test's records.
async fn two(fresh: &Fresh) -> (OrganisationStore, [(OrganisationId, UserId); 2]) {
    let store = fresh.store().await;
    let mut made = Vec::new();
    for name in ["acme", "bolt"] {
        let id = organisation(&store, name, 9).await.id;
        made.push((
            id,
            user(&store, id, &format!("ada@{name}.example")).await.id,
        ));
    }
    fresh
        .sql("UPDATE organizations SET created_at = '2023-01-01T00:00:00.000000Z'")
        .await
        .unwrap();
    (store, made.try_into().unwrap())
}

fn all(months: RangeInclusive<Month>) -> ReportFilter {
    ReportFilter {
        organisation: None,
        user: None,
        months,
        by: ReportBy::default(),
    }
}

fn totals(requests: u64) -> UsageTotals {
    UsageTotals {
        requests,
        rows: requests,
        bytes_sent: 3 * requests,
        bytes_scanned: 5 * requests,
    }
}

/// Closes a month and returns the hashes of its statements.
async fn close(store: &OrganisationStore, text: &str) -> Vec<String> {
    let closings = store
        .close_month(&actor(), month(text), None)
        .await
        .unwrap();
    let hashes = closings
        .into_iter()
        .map(|closing| closing.statement.records_hash);
    hashes.collect()
}

on_both! {
    async fn usage_months_are_in_utc(fresh) {
        let (store, [(acme, ada), _]) = two(&fresh).await;
        let ends = [
            "2023-12-31T23:59:59.999999Z", "2024-01-01T00:00:00Z", "2024-01-31T23:59:59.999999Z", "2024-02-01T00:00:00Z",
            "2024-02-01T01:00:00+02:00", "2024-01-31T23:00:00-02:00",
        ];
        let records: Vec<_> = ends.iter().zip(1..).map(|(end, number)| record(acme, ada, number, end)).collect();
        assert_eq!(store.add_usage(&records).await.unwrap(), 6);
        // Adding them again has no effect.
        assert_eq!(store.add_usage(&records).await.unwrap(), 0);
        let lines = store.usage_report(&all(Month::FIRST..=Month::LAST)).await.unwrap();
        let counted: Vec<_> = lines.iter().map(|line| (line.month.to_string(), line.sums.requests)).collect();
        assert_eq!(counted, [("2023-12".to_owned(), 1), ("2024-01".to_owned(), 3), ("2024-02".to_owned(), 2)]);
        let by = ReportBy { day: true, ..ReportBy::default() };
        let lines = store.usage_report(&ReportFilter { by, ..all(month("2024-01")..=month("2024-01")) }).await.unwrap();
        let days: Vec<_> = lines.iter().map(|line| (line.day.as_deref().unwrap(), line.sums.requests)).collect();
        assert_eq!(days, [("2024-01-01", 1), ("2024-01-31", 2)]);
    }

    async fn add_usage_of_any_number_of_records_keeps_their_values(fresh) {
        // Statements add 128, 16, 4 or 1 records at a time.
        let (store, [(acme, ada), (bolt, _)]) = two(&fresh).await;
        let mut next = 1;
        for many in [1, 15, 16, 17, 127, 128, 129, 287, 400] {
            let records: Vec<_> = (next..next + many).map(|number| {
                let organisation = if number % 3 == 0 { bolt } else { acme };
                UsageRecord {
                    rows: u64::try_from(number).unwrap(),
                    ..record(organisation, ada, number, "2024-01-05T00:00:00Z")
                }
            }).collect();
            assert_eq!(store.add_usage(&records).await.unwrap(), records.len());
            next += many;
        }
        let expected = |is_wanted: fn(u128) -> bool| {
            let rows = (1..next).filter(|number| is_wanted(*number)).map(|number| u64::try_from(number).unwrap());
            (rows.clone().count() as u64, rows.sum::<u64>())
        };
        let lines = store.usage_report(&all(month("2024-01")..=month("2024-01"))).await.unwrap();
        let found: Vec<_> = lines.iter().map(|line| (line.sums.requests, line.sums.rows)).collect();
        assert_eq!(found, [expected(|number| number % 3 != 0), expected(|number| number % 3 == 0)]);
        // All but the newest exist already.
        let records: Vec<_> = (1..=next).map(|number| record(acme, ada, number, "2024-01-05T00:00:00Z")).collect();
        assert_eq!(store.add_usage(&records).await.unwrap(), 1);
    }

    async fn record_refused_by_database_does_not_block_others(fresh) {
        let (store, [(acme, ada), _]) = two(&fresh).await;
        let folder = tempfile::tempdir().unwrap();
        let settings = MeterSettings {
            folder: folder.path().join("journal"),
            limit: 1 << 20,
            when_full: JournalFullAction::Refuse,
            sync: false,
            sql: false,
        };
        let meter = Meter::start(settings.clone(), store.clone()).unwrap();
        let stranger = OrganisationId(Uuid::from_u128(99));
        let ids: Vec<_> = [acme, stranger, acme].into_iter().map(|organisation_id| {
            let id = plantlake::clock::new_id();
            let caller = Caller {
                organisation_id,
                user_id: ada,
                api_key_id: None,
                session_id: None,
                address: "10.0.0.7".into(),
                agent: "test".into(),
            };
            let mut request = meter.open(id, caller).unwrap();
            request.count_sent(1, 2);
            assert!(request.end(ResponseEnd { status: "OK", by: EndedBy::Caller }).is_ok());
            id
        }).collect();
        meter.drain().await;
        let found = store.usage_report(&all(Month::FIRST..=Month::LAST)).await.unwrap();
        assert_eq!(found.iter().map(|line| line.sums.requests).sum::<u64>(), 2);
        let rejected = std::fs::read_to_string(settings.folder.join("rejected.jsonl")).unwrap();
        assert_eq!(rejected.lines().count(), 1);
        assert!(rejected.contains(&ids[1].to_string()), "{rejected}");
    }

    async fn add_usage_accepts_any_statement_text(fresh) {
        let (store, [(acme, ada), _]) = two(&fresh).await;
        for (number, sql) in (1..).zip(["SELECT 'a\0b'", "SELECT '\u{10ffff}\u{7f}\r\n'", "$1 ? {\"\\u0000\"}", ""]) {
            let mut record = record(acme, ada, number, "2024-01-01T00:00:00Z");
            record.sql_text = Some(sql.to_owned());
            assert_eq!(store.add_usage(&[record]).await.unwrap(), 1, "{sql:?}");
        }
    }

    async fn usage_report_follows_its_filter(fresh) {
        let (store, [(acme, ada), (bolt, bob)]) = two(&fresh).await;
        let zoe = user(&store, acme, "zoe@acme.example").await.id;
        let end = "2024-01-05T12:00:00Z";
        let changed = |mut record: UsageRecord, change: fn(&mut UsageRecord)| { change(&mut record); record };
        store.add_usage(&[
            record(acme, ada, 1, end),
            changed(record(acme, ada, 2, end), |record| record.billable = false),
            changed(record(acme, zoe, 3, end), |record| record.status = "INVALID_ARGUMENT".into()),
            changed(record(acme, zoe, 4, end), |record| { record.status = "CANCELLED".into(); record.cancelled = true; }),
            changed(record(acme, zoe, 5, end), |record| { record.status = "ABORTED".into(); record.endpoint = "DoPut".into(); }),
            record(bolt, bob, 6, end),
        ]).await.unwrap();
        let january = month("2024-01")..=month("2024-01");
        let [line, other] = &store.usage_report(&all(january.clone())).await.unwrap()[..] else { panic!() };
        assert_eq!((line.organisation.as_str(), other.organisation.as_str(), other.sums.requests), ("acme", "bolt", 1));
        let sums = line.sums;
        assert_eq!((sums.requests, sums.billable_requests, sums.rows, sums.bytes_sent, sums.bytes_scanned), (5, 4, 4, 12, 20));
        assert_eq!((sums.errors, sums.cancelled, sums.aborted, sums.late_requests), (1, 1, 1, 0));
        let by = ReportBy { user: true, endpoint: true, day: false };
        let own = ReportFilter { organisation: Some(acme), user: Some(zoe), by, ..all(january) };
        let lines = store.usage_report(&own).await.unwrap();
        let told: Vec<_> = lines.iter().map(|line| (line.user.as_deref().unwrap(), line.endpoint.as_deref().unwrap(), line.sums.requests)).collect();
        assert_eq!(told, [("zoe@acme.example", "DoGet/StatementQuery", 2), ("zoe@acme.example", "DoPut", 1)]);
        // The usage of a removed user is still listed under the user.
        store.remove_user(&actor(), zoe).await.unwrap();
        assert_eq!(store.usage_report(&own).await.unwrap(), lines);
    }

    async fn usage_pages_have_one_order(fresh) {
        let (store, [(acme, ada), (bolt, bob)]) = two(&fresh).await;
        let zoe = user(&store, acme, "zoe@acme.example").await.id;
        let mut records = Vec::new();
        for number in 0..50u128 {
            // Many requests end at the same time.
            let end = format!("2024-0{}-01T00:00:00.00000{}Z", 1 + number % 3, number % 2);
            records.push(record(acme, if number % 5 == 0 { zoe } else { ada }, 1_000 - number, &end));
        }
        store.add_usage(&records).await.unwrap();
        store.add_usage(&[record(bolt, bob, 7, "2024-01-01T00:00:00Z")]).await.unwrap();
        records.sort_by_key(|record| (Month::containing(record.ended_at), record.ended_at, record.request_id));
        let filter = RecordFilter { months: Month::FIRST..=Month::LAST, ..RecordFilter::month(acme, Month::FIRST) };
        for most in [1, 7, 50, 51] {
            let (mut read, mut after) = (Vec::new(), None);
            loop {
                let page = store.usage_page(&filter, after, most).await.unwrap();
                after = page.last().map(|entry| entry.position());
                read.extend(page.into_iter().map(|entry| entry.record));
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(read, records, "{most}");
        }
        let own = RecordFilter { user: Some(zoe), with_sql: false, ..filter.clone() };
        let page = store.usage_page(&own, None, 100).await.unwrap();
        assert_eq!(page.len(), 10);
        assert!(page.iter().all(|entry| entry.user == "zoe@acme.example" && entry.record.sql_text.is_none()));
        let ended = at("2024-02-01T00:00:00.000001Z")..=at("2024-03-01T00:00:00Z");
        let expected = records.iter().filter(|record| ended.contains(&record.ended_at)).count();
        let page = store.usage_page(&RecordFilter { ended, ..filter }, None, 100).await.unwrap();
        assert_eq!(page.len(), expected);
    }

    async fn late_record_is_billed_in_first_open_month(fresh) {
        let (store, [(acme, ada), (bolt, bob)]) = two(&fresh).await;
        store.add_usage(&[record(acme, ada, 1, "2024-01-31T23:59:59Z"), record(bolt, bob, 2, "2024-01-01T00:00:00Z")]).await.unwrap();
        let before = close(&store, "2024-01").await;
        store.add_usage(&[record(acme, ada, 3, "2024-02-01T00:00:00Z")]).await.unwrap();
        close(&store, "2024-02").await;
        let late = [record(acme, ada, 4, "2024-01-15T00:00:00Z"), record(acme, ada, 5, "2024-02-15T00:00:00Z")];
        assert_eq!(store.add_usage(&late).await.unwrap(), 2);
        assert_eq!(store.add_usage(&late).await.unwrap(), 0);
        assert_eq!(close(&store, "2024-01").await, before);
        let march = month("2024-03");
        let found = store.usage_adjustments(&all(march..=march)).await.unwrap();
        let told: Vec<_> = found.iter().map(|late| (late.from_month.to_string(), late.requests, late.bytes_sent)).collect();
        assert_eq!(told, [("2024-01".to_owned(), 1, 3), ("2024-02".to_owned(), 1, 3)]);
        let closings = store.close_month(&actor(), march, Some(acme)).await.unwrap();
        assert_eq!((closings.len(), closings[0].statement.totals, closings[0].statement.late_requests), (1, totals(2), 2));
        for text in ["2024-01", "2024-02", "2024-03"] {
            for found in store.verify_month(month(text), None).await.unwrap() {
                assert_eq!(found.differences, [], "{text}");
            }
        }
    }

    async fn months_close_in_order_once_and_after_their_end(fresh) {
        let (store, [(acme, ada), (bolt, bob)]) = two(&fresh).await;
        store.add_usage(&[record(acme, ada, 1, "2024-01-05T00:00:00Z"), record(bolt, bob, 2, "2024-03-05T00:00:00Z")]).await.unwrap();
        let now = Month::containing(plantlake::clock::now());
        let error = store.close_month(&actor(), now, None).await.unwrap_err();
        assert!(error.to_string().contains(&format!("{now} has not ended; it can be closed from {}", now.next())), "{error}");
        let error = store.close_month(&actor(), month("2024-02"), None).await.unwrap_err();
        assert!(matches!(&error, StoreError::Refused(why) if why.contains("2024-01 of acme")), "{error}");
        assert_eq!(store.usage_statements(None, Month::FIRST..=Month::LAST).await.unwrap(), []);
        // Months of another organisation can be closed.
        store.close_month(&actor(), month("2024-02"), Some(bolt)).await.unwrap();
        let closings = futures::future::join_all((0..8).map(|_| async { store.close_month(&actor(), month("2024-01"), None).await.unwrap() })).await;
        let new = closings.iter().filter(|closings| closings.iter().all(|closing| !closing.already)).count();
        assert_eq!(new, 1);
        assert!(closings.iter().all(|all| all.len() == 2 && all[0].statement == closings[0][0].statement));
        // A late record for a month before all closed ones goes into that month, which must then be closed first.
        store.add_usage(&[record(bolt, bob, 3, "2023-11-05T00:00:00Z")]).await.unwrap();
        let error = store.close_month(&actor(), month("2024-03"), None).await.unwrap_err();
        assert!(error.to_string().contains("2023-11 of bolt"), "{error}");
        close(&store, "2023-11").await;
        assert!(store.close_month(&actor(), month("2024-03"), Some(bolt)).await.is_ok());
    }

    async fn close_month_during_additions_stays_consistent(fresh) {
        let (store, [(acme, ada), _]) = two(&fresh).await;
        let other = fresh.store().await;
        let mut tasks = tokio::task::JoinSet::new();
        for number in 0..60u128 {
            let store = if number % 2 == 0 { store.clone() } else { other.clone() };
            tasks.spawn(async move {
                if number % 12 == 5 {
                    store.close_month(&actor(), month("2024-01"), None).await.unwrap();
                } else {
                    store.add_usage(&[record(acme, ada, number, "2024-01-31T00:00:00Z")]).await.unwrap();
                }
            });
        }
        while let Some(outcome) = tasks.join_next().await {
            outcome.unwrap();
        }
        let lines = store.usage_report(&all(month("2024-01")..=month("2024-02"))).await.unwrap();
        assert_eq!(lines.iter().map(|line| line.sums.requests).sum::<u64>(), 55);
        let [january, ..] = &store.verify_month(month("2024-01"), Some(acme)).await.unwrap()[..] else { panic!() };
        assert_eq!((january.closed, january.differences.len()), (true, 0));
        assert_eq!(january.totals.requests, lines[0].sums.requests);
    }

    async fn statements_are_append_only(fresh) {
        let (store, [(acme, ada), _]) = two(&fresh).await;
        store.add_usage(&[record(acme, ada, 1, "2024-01-05T00:00:00Z")]).await.unwrap();
        close(&store, "2024-01").await;
        for sql in ["UPDATE usage_statements SET rows = 0", "DELETE FROM usage_statements", "UPDATE api_usage_logs SET rows = 0"] {
            let error = fresh.sql(sql).await.unwrap_err().to_string();
            assert!(error.contains("append-only"), "{sql}: {error}");
        }
        let again = "INSERT INTO usage_statements SELECT * FROM usage_statements";
        assert!(fresh.sql(again).await.is_err());
        let tampering = match fresh.kind {
            Kind::Sqlite => "DROP TRIGGER api_usage_logs_no_update; UPDATE api_usage_logs SET bytes_sent = 4",
            Kind::Postgres => "ALTER TABLE api_usage_logs DISABLE TRIGGER USER; UPDATE api_usage_logs SET bytes_sent = 4",
        };
        fresh.sql(tampering).await.unwrap();
        let [found, ..] = &store.verify_month(month("2024-01"), None).await.unwrap()[..] else { panic!() };
        let told: Vec<_> = found.differences.iter().map(|difference| (difference.place, difference.what)).collect();
        assert_eq!(told, [("usage_totals", "bytes_sent"), ("statement", "bytes_sent"), ("statement", "records_hash")]);
        assert!(store.close_month(&actor(), month("2024-01"), None).await.is_err());
    }

    async fn limits_change_independently(fresh) {
        let (store, [(acme, _), (bolt, _)]) = two(&fresh).await;
        assert_eq!(store.organisation_limits(acme).await.unwrap(), UsageLimits::default());
        let before = store.revision().await.unwrap();
        let change = |wanted: LimitsChange| { let store = store.clone(); async move { store.change_organisation_limits(&actor(), acme, &wanted).await } };
        let (limits, changed) = change(LimitsChange { requests_per_second: Some(Some(0.5)), monthly_requests: Some(Some(0)), ..Default::default() }).await.unwrap();
        assert!(changed && limits.requests_per_second == Some(0.5) && limits.monthly_requests == Some(0));
        let (limits, _) = change(LimitsChange { monthly_bytes_sent: Some(Some(u64::MAX >> 1)), requests_per_second: Some(None), ..Default::default() }).await.unwrap();
        assert_eq!(limits, UsageLimits { monthly_requests: Some(0), monthly_bytes_sent: Some(u64::MAX >> 1), ..Default::default() });
        assert_eq!(store.organisation_limits(acme).await.unwrap(), limits);
        assert_eq!(store.organisation_limits(bolt).await.unwrap(), UsageLimits::default());
        assert!(!change(LimitsChange::default()).await.unwrap().1);
        for rate in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let wanted = LimitsChange { requests_per_second: Some(Some(rate)), ..Default::default() };
            assert!(matches!(change(wanted).await, Err(StoreError::Refused(_))), "{rate}");
        }
        assert!(change(LimitsChange { concurrent_queries: Some(Some(0)), ..Default::default() }).await.is_err());
        assert_eq!(store.revision().await.unwrap(), before + 2);
    }
}

/// The hash of the records below, computed by Python; `tests/python/ledger.py` has the canonical form, too.
const HASH: &str = "c87f9da81a83eb17bb35441e352dec736c7fe0bb7feb9e2f2b5634baa67cb744";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn records_hash_is_equal_on_both_databases() {
    let mut hashes = Vec::new();
    for kind in [Kind::Sqlite, Kind::Postgres] {
        let fresh = Fresh::new(kind).await;
        let store = fresh.store().await;
        let (acme, ada) = (
            "11111111-1111-7111-8111-111111111111",
            "22222222-2222-7222-8222-222222222222",
        );
        let time = "'2023-01-01T00:00:00.000000Z'";
        fresh
            .sql(&format!(
                "INSERT INTO organizations VALUES ('{acme}', 'acme', 'acme', '', '', '', 9, true, {time}, {time}); \
                 INSERT INTO users VALUES ('{ada}', '{acme}', 'a@x.y', 'a@x.y', '', 'analyst', NULL, false, true, {time}, {time}, NULL, NULL)"
            ))
            .await
            .unwrap();
        let (acme, ada) = (acme.parse().unwrap(), ada.parse().unwrap());
        store
            .add_usage(&[
                record(acme, ada, 2, "2024-01-31T23:59:59.999999Z"),
                record(acme, ada, 1, "2024-01-31T23:59:59.999999Z"),
            ])
            .await
            .unwrap();
        hashes.extend(close(&store, "2024-01").await);
    }
    assert_eq!(hashes, [HASH, HASH]);
}
