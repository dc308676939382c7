//! Tests of runs of jobs: each due time is run once, a job runs once at a time, and an active run is never taken
//! over.

use chrono::{DateTime, TimeDelta, Utc};
use plantlake::clock::new_id;
use plantlake::store::{JobEnd, JobHolder, RunStatus};
use tokio::task::JoinSet;

use crate::organisation::databases::on_both;

fn at(minute: i64) -> DateTime<Utc> {
    DateTime::<Utc>::from_timestamp(1_800_000_000, 0).unwrap() + TimeDelta::minutes(minute)
}

fn holder() -> JobHolder {
    JobHolder {
        id: new_id(),
        host: "plant7".to_owned(),
        pid: 4_711,
    }
}

fn end(status: RunStatus, minute: i64) -> JobEnd {
    JobEnd {
        status,
        failures: u64::from(status.is_failure()),
        at: at(minute),
        rows: Some(12),
        error: status.is_failure().then(|| "no luck".to_owned()),
        summary: Some(serde_json::json!({"run": 3})),
    }
}

on_both! {
    async fn claim_of_concurrent_processes_succeeds_once(fresh) {
        let stores = [fresh.store().await, fresh.store().await];
        let mut tasks = JoinSet::new();
        for number in 0..40_usize {
            let store = stores[number % 2].clone();
            let minute = (number / 20) as i64;
            tasks.spawn(async move { (minute, store.claim_job_run("a", at(minute), false, &holder(), at(5)).await.unwrap()) });
        }
        let claimed: Vec<_> = tasks.join_all().await.into_iter().filter_map(|(minute, run)| Some((minute, run?))).collect();
        let [(minute, run)] = claimed.as_slice() else {
            panic!("a job runs once at a time: {claimed:?}");
        };
        assert_eq!((run.status, run.attempt, run.scheduled_for), (RunStatus::Running, 1, at(*minute)));
        let store = &stores[0];
        // Another job is independent of it.
        assert!(store.claim_job_run("b", at(0), false, &holder(), at(5)).await.unwrap().is_some());
        assert!(store.end_job_run(run.id, run.holder, &end(RunStatus::Ok, 6)).await.unwrap());
        // Its due time cannot be claimed again; another one can.
        assert!(store.claim_job_run("a", at(*minute), false, &holder(), at(7)).await.unwrap().is_none());
        assert!(store.claim_job_run("a", at(1 - minute), false, &holder(), at(7)).await.unwrap().is_some());
    }

    async fn take_over_without_heartbeat_succeeds_once(fresh) {
        let store = fresh.store().await;
        let first = holder();
        let run = store.claim_job_run("a", at(0), false, &first, at(0)).await.unwrap().unwrap();
        assert!(store.record_job_heartbeat(run.id, first.id, at(1)).await.unwrap());
        // It had a heartbeat since.
        assert!(store.take_over_job_run(&run, &holder(), at(2)).await.unwrap().is_none());
        assert!(!store.abandon_job_run(&run, RunStatus::Aborted, "gone", at(2)).await.unwrap());
        let seen = store.open_job_runs(at(2)).await.unwrap().remove(0);
        assert_eq!((seen.heartbeats, seen.renewed_at), (1, at(1)));
        let mut tasks = JoinSet::new();
        for _ in 0..20 {
            let (store, seen) = (store.clone(), seen.clone());
            tasks.spawn(async move { store.take_over_job_run(&seen, &holder(), at(3)).await.unwrap() });
        }
        let taken: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
        let [taken] = taken.as_slice() else {
            panic!("one takes it: {taken:?}");
        };
        assert_eq!((taken.attempt, taken.status, taken.id), (2, RunStatus::Running, run.id));
        // The former holder has lost the run.
        assert!(!store.record_job_heartbeat(run.id, first.id, at(4)).await.unwrap());
        assert!(!store.record_job_retry(run.id, first.id, (3, 1), "no luck", at(4)).await.unwrap());
        assert!(!store.end_job_run(run.id, first.id, &end(RunStatus::Ok, 4)).await.unwrap());
        assert!(store.record_job_retry(run.id, taken.holder, (3, 1), "no luck", at(4)).await.unwrap());
        assert!(store.end_job_run(run.id, taken.holder, &end(RunStatus::Failed, 5)).await.unwrap());
        assert!(!store.end_job_run(run.id, taken.holder, &end(RunStatus::Ok, 6)).await.unwrap());
        let ended = store.job_run(run.id).await.unwrap().unwrap();
        assert_eq!((ended.status, ended.attempt, ended.failures), (RunStatus::Failed, 3, 1));
        assert_eq!((ended.rows, ended.error.as_deref(), ended.ended_at), (Some(12), Some("no luck"), Some(at(5))));
        assert_eq!(ended.summary, Some(serde_json::json!({"run": 3})));
    }

    async fn aborted_run_is_resumed_unless_the_job_runs(fresh) {
        let store = fresh.store().await;
        let first = holder();
        let run = store.claim_job_run("a", at(0), false, &first, at(0)).await.unwrap().unwrap();
        assert!(store.end_job_run(run.id, first.id, &end(RunStatus::Aborted, 1)).await.unwrap());
        let aborted = store.open_job_runs(at(2)).await.unwrap();
        assert_eq!(aborted.len(), 1);
        let other = store.claim_job_run("a", at(1), true, &holder(), at(2)).await.unwrap().unwrap();
        assert!(store.take_over_job_run(&aborted[0], &holder(), at(3)).await.unwrap().is_none());
        assert!(store.end_job_run(other.id, other.holder, &end(RunStatus::Ok, 3)).await.unwrap());
        let taken = store.take_over_job_run(&aborted[0], &holder(), at(4)).await.unwrap().unwrap();
        assert_eq!((taken.attempt, taken.ended_at), (1, None), "a process that was stopped is no failed attempt");
        assert_eq!(store.running_job("a").await.unwrap().unwrap().id, run.id);
        // Once a later due time has a run, the aborted run stays aborted.
        assert!(store.end_job_run(run.id, taken.holder, &end(RunStatus::Aborted, 5)).await.unwrap());
        assert!(store.skip_job_run("a", at(6), "missed", &holder(), at(6)).await.unwrap());
        assert!(!store.skip_job_run("a", at(6), "missed", &holder(), at(6)).await.unwrap());
        assert!(store.open_job_runs(at(7)).await.unwrap().is_empty());
    }

    async fn job_states_ignore_due_times_in_the_future(fresh) {
        let store = fresh.store().await;
        store.set_job_schedule("a", "0 * * * * UTC", at(0)).await.unwrap();
        store.set_job_schedule("a", "0 * * * * UTC", at(9)).await.unwrap();
        let [state] = store.job_states(at(10)).await.unwrap().try_into().unwrap();
        assert_eq!((state.since, state.latest, state.latest_ok, state.latest_ended), (at(0), None, None, None));
        for (minute, status) in [(1, RunStatus::Ok), (2, RunStatus::Failed), (3, RunStatus::Aborted), (50, RunStatus::Ok)] {
            let run = store.claim_job_run("a", at(minute), false, &holder(), at(minute)).await.unwrap().unwrap();
            assert!(store.end_job_run(run.id, run.holder, &end(status, minute + 1)).await.unwrap());
        }
        let by_hand = store.claim_job_run("a", at(4), true, &holder(), at(4)).await.unwrap().unwrap();
        assert!(store.end_job_run(by_hand.id, by_hand.holder, &end(RunStatus::Ok, 5)).await.unwrap());
        let [state] = store.job_states(at(10)).await.unwrap().try_into().unwrap();
        assert_eq!((state.latest, state.latest_ok, state.latest_ended), (Some(at(3)), Some(at(1)), Some(at(2))));
        assert_eq!((state.succeeded_at, state.done_as_of), (Some(at(5)), Some(at(4))));
        store.set_job_schedule("a", "5 * * * * UTC", at(9)).await.unwrap();
        assert_eq!(store.job_states(at(10)).await.unwrap()[0].since, at(9));

        let all = store.job_runs(None, 100).await.unwrap();
        let started: Vec<_> = all.iter().map(|run| run.started_at).collect();
        assert_eq!(started, [50, 4, 3, 2, 1].map(at), "the newest first");
        assert_eq!(store.job_runs(Some("b".to_owned()), 100).await.unwrap(), []);
        assert_eq!(store.job_runs(Some("a".to_owned()), 2).await.unwrap(), all[..2]);
        assert_eq!(store.last_job_runs().await.unwrap(), all[..1]);
        let failed = store.claim_job_run("b", at(60), false, &holder(), at(60)).await.unwrap().unwrap();
        assert!(store.end_job_run(failed.id, failed.holder, &end(RunStatus::TimedOut, 61)).await.unwrap());
        assert!(store.skip_job_run("b", at(62), "missed", &holder(), at(62)).await.unwrap());
        let ended: Vec<_> = store.last_ended_job_runs().await.unwrap().into_iter().map(|run| (run.job, run.status)).collect();
        assert_eq!(ended, [("a".to_owned(), RunStatus::Ok), ("b".to_owned(), RunStatus::TimedOut)]);
        // The last scheduled and the last manual run of each job and status stay.
        assert_eq!(store.delete_old_job_runs(at(100)).await.unwrap(), 1);
        assert_eq!(store.job_runs(Some("a".to_owned()), 100).await.unwrap().len(), 4);
    }
}
