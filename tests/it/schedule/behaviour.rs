//! Tests of the schedule under failures and manual intervention.

use std::sync::Arc;

use chrono::TimeDelta;
use plantlake::clock::Clock;
use plantlake::model::MissedRunPolicy;
use plantlake::scheduler::{LEASE_TIMEOUT, RunOnceOutcome, StopSender, run_once};
use plantlake::store::RunStatus;
use tokio::sync::oneshot;

use crate::schedule::plant::{Plant, in_zone, seconds, spec, time};

const NOON: &str = "2026-05-01T12:00:30Z";

fn ok(at: &str) -> (String, RunStatus) {
    (at.to_owned(), RunStatus::Ok)
}

#[tokio::test]
async fn missed_due_times_run_once_or_are_skipped() {
    let plant = Plant::new(NOON, |_, _| (seconds(5), Ok(())));
    let mut skipping = spec("skipping", "0 * * * *");
    skipping.missed = MissedRunPolicy::Skip;
    let specs = [spec("once", "0 * * * *"), skipping];
    let daemon = plant.start(&specs).await;
    plant.pass(seconds(3_600)).await;
    daemon.kill();
    // No daemon runs from 13:00:30 to 16:30:30.
    plant.pass(seconds(3 * 3_600 + 1_800)).await;
    let daemon = plant.start(&specs).await;
    plant.pass(seconds(3_600)).await;
    assert_eq!(
        plant.outcome("once").await,
        [ok("01 13:00"), ok("01 16:00"), ok("01 17:00")]
    );
    let skipped = ("01 16:00".to_owned(), RunStatus::Skipped);
    assert_eq!(
        plant.outcome("skipping").await,
        [ok("01 13:00"), skipped, ok("01 17:00")]
    );
    let runs = plant.runs().await;
    let run = runs
        .iter()
        .find(|run| run.status == RunStatus::Skipped)
        .unwrap();
    assert!(run.error.as_ref().unwrap().contains("missed"), "{run:?}");
    daemon.kill();
}

#[tokio::test]
async fn clock_jumps_repeat_and_block_no_due_time() {
    let plant = Plant::new(NOON, |_, _| (seconds(5), Ok(())));
    let specs = [spec("hourly", "0 * * * *")];
    let daemon = plant.start(&specs).await;
    plant.pass(seconds(2 * 3_600)).await;
    // The clock moves from 14:00:30 to 12:10:30. The runs for 13:00 and 14:00 are done.
    plant.clock.jump(-TimeDelta::minutes(110));
    plant.pass(seconds(2 * 3_600)).await;
    assert_eq!(
        plant.outcome("hourly").await,
        [ok("01 13:00"), ok("01 14:00")]
    );
    plant.pass(seconds(3_600)).await;
    // The clock moves from 15:10:30 to a month later, and back after ten minutes.
    plant.clock.jump(TimeDelta::days(31));
    plant.pass(seconds(600)).await;
    plant.clock.jump(-TimeDelta::days(31));
    plant.pass(seconds(3_600)).await;
    let outcome = plant.outcome("hourly").await;
    assert_eq!(
        outcome,
        [
            ok("01 13:00"),
            ok("01 14:00"),
            ok("01 15:00"),
            ok("01 16:00"),
            ok("01 15:00")
        ],
        "a month later, the last"
    );
    daemon.kill();
}

#[tokio::test]
async fn jobs_at_clock_changes_run_once_a_day() {
    let berlin = chrono_tz::Europe::Berlin;
    for (start, expected) in [
        // 02:30 exists on the 28th and the 30th; on the 29th the job runs at 03:00.
        ("2026-03-27T12:00:00Z", ["28 01:30", "29 01:00", "30 00:30"]),
        // 02:30 exists twice on the 25th.
        ("2026-10-23T12:00:00Z", ["24 00:30", "25 00:30", "26 01:30"]),
    ] {
        let plant = Plant::new(start, |_, _| (seconds(5), Ok(())));
        let specs = [in_zone("nightly", "30 2 * * *", berlin)];
        let daemons = [plant.start(&specs).await, plant.start(&specs).await];
        plant.pass(seconds(3 * 86_400)).await;
        assert_eq!(plant.outcome("nightly").await, expected.map(ok));
        daemons
            .into_iter()
            .for_each(crate::schedule::plant::Daemon::kill);
    }
}

#[tokio::test]
async fn failed_job_is_retried_with_growing_waits() {
    let plant = Plant::new(NOON, |_, nth| {
        (seconds(10), if nth < 4 { Err("no luck") } else { Ok(()) })
    });
    let mut patient = spec("patient", "0 13 * * *");
    patient.retries = 3;
    let daemon = plant.start(&[patient]).await;
    // 13:00 is 59:30 ahead; then three attempts fail, with waits of about one, two and four minutes.
    plant.pass(seconds(3_570 + 40 + 300)).await;
    assert_eq!(
        plant.outcome("patient").await,
        [("01 13:00".to_owned(), RunStatus::Running)]
    );
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!(
        (run.attempt, run.failures, run.error.as_deref()),
        (4, 3, Some("no luck"))
    );
    plant.pass(seconds(300)).await;
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!(
        (run.status, run.attempt, run.failures, run.rows),
        (RunStatus::Ok, 4, 3, Some(7))
    );
    assert_eq!(run.error, None);
    let took = run.ended_at.unwrap() - run.started_at;
    assert!(
        (TimeDelta::seconds(360)..TimeDelta::seconds(560)).contains(&took),
        "{took}"
    );
    daemon.kill();
}

#[tokio::test]
async fn failed_job_skips_its_dependents() {
    let plant = Plant::new(NOON, |context, _| {
        let fails =
            context.spec.name == "first" && context.scheduled_for == time("2026-05-01T13:00:00Z");
        (seconds(100), if fails { Err("no luck") } else { Ok(()) })
    });
    let first = spec("first", "0 * * * *");
    let mut second = spec("second", "0 * * * *");
    second.after = vec!["first".to_owned()];
    let mut third = spec("third", "1 * * * *");
    third.after = vec!["second".to_owned()];
    let specs = [first, second, third];
    let daemons = [plant.start(&specs).await, plant.start(&specs).await];
    plant.pass(seconds(2 * 3_600 + 400)).await;
    for (job, minute, status) in [
        ("first", "00", RunStatus::Failed),
        ("second", "00", RunStatus::Skipped),
        ("third", "01", RunStatus::Skipped),
    ] {
        let mut outcome = plant.outcome(job).await;
        // At 12:01, the jobs that it waits for had not been due yet.
        outcome.retain(|(at, _)| at != "01 12:01");
        assert_eq!(
            outcome,
            [
                (format!("01 13:{minute}"), status),
                ok(&format!("01 14:{minute}"))
            ],
            "{job}"
        );
    }
    let runs = plant.runs().await;
    let last_run = |job: &str| runs.iter().rfind(|run| run.job == job).unwrap();
    // Each job began after the previous one had ended.
    assert!(last_run("second").started_at >= last_run("first").ended_at.unwrap());
    assert!(last_run("third").started_at >= last_run("second").ended_at.unwrap());
    daemons
        .into_iter()
        .for_each(crate::schedule::plant::Daemon::kill);
}

#[tokio::test]
async fn job_over_its_timeout_is_ended_and_panic_is_a_failure() {
    let plant = Plant::new(NOON, |context, _| match context.spec.name.as_str() {
        "endless" => (seconds(1_000_000), Ok(())),
        _ => (seconds(1), Err("panic")),
    });
    let mut endless = spec("endless", "0 13 * * *");
    endless.timeout = seconds(120);
    let daemon = plant.start(&[endless, spec("panics", "0 13 * * *")]).await;
    plant.pass(seconds(4_000)).await;
    let [endless, panics] = plant.runs().await.try_into().unwrap();
    assert_eq!(endless.status, RunStatus::TimedOut);
    assert!(endless.error.unwrap().contains("120 s"));
    assert_eq!(panics.status, RunStatus::Failed);
    assert!(panics.error.unwrap().contains("as if by a mistake"));
    assert!(!daemon.has_ended());
    daemon.kill();
}

#[tokio::test]
async fn slow_job_runs_once_at_a_time_and_merges_due_times() {
    let plant = Plant::new(NOON, |_, _| (seconds(5 * 60 + 30), Ok(())));
    let specs = [spec("slow", "* * * * *")];
    let daemons = [plant.start(&specs).await, plant.start(&specs).await];
    plant.pass(seconds(20 * 60)).await;
    let runs = plant.runs().await;
    let mut ended = time(NOON);
    for run in &runs {
        assert!(run.started_at >= ended, "two at once: {runs:?}");
        ended = run.ended_at.unwrap_or(run.started_at);
    }
    assert_eq!(runs.len(), 4, "{runs:?}");
    daemons
        .into_iter()
        .for_each(crate::schedule::plant::Daemon::kill);
}

#[tokio::test]
async fn stop_waits_for_jobs_and_aborts_late_ones() {
    let plant = Plant::new(NOON, |context, _| match context.spec.name.as_str() {
        "quick" => (seconds(40), Ok(())),
        _ => (seconds(300), Ok(())),
    });
    let specs = [spec("quick", "0 13 * * *"), spec("long", "0 13 * * *")];
    let daemon = plant.start(&specs).await;
    plant.pass(seconds(3_580)).await;
    daemon.stopper.stop();
    plant.pass(seconds(30)).await;
    assert!(!daemon.has_ended(), "it waits for a minute");
    plant.pass(seconds(40)).await;
    assert!(daemon.has_ended());
    let status = |runs: &[plantlake::store::JobRun]| {
        runs.iter()
            .map(|run| (run.job.clone(), run.status))
            .collect::<Vec<_>>()
    };
    let aborted = [
        ("long".to_owned(), RunStatus::Aborted),
        ("quick".to_owned(), RunStatus::Ok),
    ];
    assert_eq!(status(&plant.runs().await), aborted);
    // The next process resumes the run for its due time.
    let next = plant.start(&specs).await;
    plant.pass(seconds(400)).await;
    assert_eq!(plant.outcome("long").await, [ok("01 13:00")]);
    assert_eq!(plant.runs().await[0].attempt, 1);
    next.kill();
}

#[tokio::test]
async fn stopped_processes_do_not_count_as_deaths() {
    let plant = Plant::new(NOON, |_, _| (seconds(300), Ok(())));
    let specs = [spec("long", "0 13 * * *")];
    let mut daemon = plant.start(&specs).await;
    plant.pass(seconds(3_580)).await;
    // More often than a run is resumed after deaths.
    for _ in 0..12 {
        daemon.stopper.stop();
        plant.pass(seconds(70)).await;
        assert!(daemon.has_ended());
        daemon = plant.start(&specs).await;
        plant.pass(seconds(20)).await;
    }
    daemon.kill();
    let daemon = plant.start(&specs).await;
    plant.pass(LEASE_TIMEOUT + seconds(400)).await;
    assert_eq!(plant.outcome("long").await, [ok("01 13:00")]);
    assert_eq!(plant.runs().await[0].attempt, 2, "one process died");
    daemon.kill();
}

#[tokio::test]
async fn aborted_run_of_a_removed_job_causes_no_frequent_checks() {
    let plant = Plant::new(NOON, |_, _| (seconds(300), Ok(())));
    let daemon = plant.start(&[spec("removed", "0 13 * * *")]).await;
    plant.pass(seconds(3_580)).await;
    daemon.stopper.stop();
    plant.pass(seconds(70)).await;
    let aborted = [("01 13:00".to_owned(), RunStatus::Aborted)];
    assert_eq!(plant.outcome("removed").await, aborted);
    let daemon = plant.start(&[spec("other", "0 23 * * *")]).await;
    let before = plant.calls();
    plant.pass(seconds(600)).await;
    // About ten checks, each with a few calls; at the interval for busy times, there would be 120.
    let calls = plant.calls() - before;
    assert!((10..90).contains(&calls), "{calls}");
    assert_eq!(plant.outcome("removed").await, aborted);
    daemon.kill();
}

#[tokio::test]
async fn run_stopped_before_its_first_attempt_is_aborted_with_its_reason() {
    let plant = Plant::new(NOON, |_, _| (seconds(5), Ok(())));
    let stopper = StopSender::default();
    stopper.stop();
    let worker = plant.worker().await;
    let hourly = spec("hourly", "0 * * * *");
    let ran = run_once(&worker, &hourly, stopper.subscribe()).await;
    let Ok(RunOnceOutcome::Completed { status, error, .. }) = ran else {
        panic!("{ran:?}");
    };
    assert_eq!(status, RunStatus::Aborted);
    assert_eq!(error.as_deref(), Some("its process was asked to stop"));
    assert!(plant.job.begun.lock().unwrap().is_empty());
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!((run.status, run.error), (RunStatus::Aborted, error));
}

#[tokio::test]
async fn job_whose_processes_die_finally_fails() {
    let plant = Plant::new(NOON, |_, _| (seconds(300), Ok(())));
    let specs = [spec("deadly", "0 13 * * *")];
    let mut daemon = plant.start(&specs).await;
    plant.pass(seconds(3_600)).await;
    for _ in 0..12 {
        daemon.kill();
        daemon = plant.start(&specs).await;
        plant.pass(LEASE_TIMEOUT + seconds(20)).await;
    }
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!(run.status, RunStatus::Failed);
    assert!(
        run.error.unwrap().contains("its process ended"),
        "{}",
        run.attempt
    );
    daemon.kill();
}

#[tokio::test]
async fn run_once_runs_job_unless_already_running() {
    let plant = Arc::new(Plant::new(NOON, |_, nth| {
        (seconds(120), if nth < 3 { Ok(()) } else { Err("no luck") })
    }));
    let hourly = spec("hourly", "0 * * * *");
    let once = |worker: plantlake::scheduler::Worker| {
        let (sender, receiver) = oneshot::channel();
        let (spec, stopper) = (hourly.clone(), StopSender::default());
        let task = tokio::spawn(async move {
            let _ = sender.send(run_once(&worker, &spec, stopper.subscribe()).await);
        });
        (task, receiver)
    };
    let (_, first) = once(plant.worker().await);
    plant.pass(seconds(20)).await;
    let (_, mut second) = once(plant.worker().await);
    plant.pass(seconds(10)).await;
    let refused = second.try_recv().unwrap().unwrap();
    assert!(
        matches!(&refused, RunOnceOutcome::AlreadyRunning(run) if run.by_hand),
        "{refused:?}"
    );
    plant.pass(seconds(100)).await;
    let ran = first.await.unwrap().unwrap();
    assert!(
        matches!(
            &ran,
            RunOnceOutcome::Completed {
                status: RunStatus::Ok,
                error: None,
                ..
            }
        ),
        "{ran:?}"
    );
    // A run whose process has died is detected, and does not block the schedule.
    let (task, _) = once(plant.worker().await);
    plant.pass(seconds(10)).await;
    task.abort();
    plant.wait_until_idle().await;
    let (_, mut third) = once(plant.worker().await);
    plant.pass(LEASE_TIMEOUT).await;
    assert!(third.try_recv().is_err(), "it runs");
    plant.pass(seconds(130)).await;
    let ran = third.try_recv().unwrap().unwrap();
    assert!(matches!(ran, RunOnceOutcome::Completed { .. }), "{ran:?}");
    let runs = plant.runs().await;
    let statuses: Vec<RunStatus> = runs.iter().map(|run| run.status).collect();
    assert_eq!(statuses, [RunStatus::Ok, RunStatus::Aborted, RunStatus::Ok]);
    let daemon = plant.start(std::slice::from_ref(&hourly)).await;
    plant.pass(seconds(3_600)).await;
    assert_eq!(plant.outcome("hourly").await, [ok("01 13:00")]);
    daemon.kill();
}

#[tokio::test]
async fn busy_job_waits_without_counting_attempts() {
    let plant = Plant::new(NOON, |_, nth| {
        (seconds(1), if nth < 4 { Err("busy") } else { Ok(()) })
    });
    let daemon = plant.start(&[spec("polite", "0 13 * * *")]).await;
    plant.pass(seconds(4_200)).await;
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!(
        (run.status, run.attempt, run.failures),
        (RunStatus::Ok, 1, 0)
    );
    daemon.kill();
}

#[tokio::test]
async fn changed_schedule_does_not_run_past_due_times() {
    let plant = Plant::new(NOON, |_, _| (seconds(5), Ok(())));
    let daemon = plant.start(&[spec("a", "0 * * * *")]).await;
    plant.pass(seconds(3_600)).await;
    // At 13:00:30, the schedule of `a` changes, and `b` is added.
    daemon.specs.send_replace(Arc::from(
        [spec("a", "55 * * * *"), spec("b", "30 * * * *")].as_slice(),
    ));
    plant.pass(seconds(3_600)).await;
    assert_eq!(plant.outcome("a").await, [ok("01 13:00"), ok("01 13:55")]);
    assert_eq!(plant.outcome("b").await, [ok("01 13:30")]);
    daemon.specs.send_replace(Arc::from([].as_slice()));
    plant.pass(seconds(2 * 3_600)).await;
    assert_eq!(plant.runs().await.len(), 3);
    daemon.kill();
}

#[tokio::test]
async fn old_runs_are_deleted_except_the_last_of_each_status() {
    let plant = Plant::new(NOON, |context, _| {
        let fails = context.scheduled_for == time("2026-05-02T12:00:00Z");
        (seconds(5), if fails { Err("no luck") } else { Ok(()) })
    });
    let daily = spec("daily", "0 12 * * *");
    let daemon = plant.start(std::slice::from_ref(&daily)).await;
    plant.pass(seconds(5 * 86_400)).await;
    assert_eq!(plant.runs().await.len(), 5);
    plant.clock.jump(TimeDelta::days(100));
    plant.pass(seconds(7_200)).await;
    let outcome = plant.outcome("daily").await;
    let failed = ("02 12:00".to_owned(), RunStatus::Failed);
    assert_eq!(
        outcome,
        [failed, ok("14 12:00")],
        "the failure, and the last that was done"
    );
    daemon.kill();
}

#[tokio::test]
async fn run_taken_over_stops_on_its_former_holder() {
    let plant = Plant::new(NOON, |_, _| (seconds(200), Ok(())));
    let specs = [spec("long", "0 13 * * *")];
    let daemon = plant.start(&specs).await;
    plant.pass(seconds(3_600)).await;
    // Another process takes over the run.
    let store = plant.store().await;
    let [run] = plant.runs().await.try_into().unwrap();
    let thief = plant.worker().await.holder;
    let taken = store
        .take_over_job_run(&run, &thief, plant.clock.now())
        .await
        .unwrap();
    assert!(taken.is_some());
    plant.pass(seconds(10)).await;
    assert_eq!(
        plant
            .job
            .begun
            .lock()
            .unwrap()
            .values()
            .copied()
            .collect::<Vec<_>>(),
        [1]
    );
    plant.pass(seconds(5)).await;
    let [run] = plant.runs().await.try_into().unwrap();
    assert_eq!((run.status, run.holder), (RunStatus::Running, thief.id));
    assert!(plant.job.done.lock().unwrap().is_empty());
    // That process is dead, too.
    plant.pass(LEASE_TIMEOUT + seconds(250)).await;
    assert_eq!(plant.outcome("long").await, [ok("01 13:00")]);
    daemon.kill();
}
