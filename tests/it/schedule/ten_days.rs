//! Runs two daemons on one lake for ten simulated days, and kills one of them at random times: every due job runs
//! once.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, TimeDelta, Utc};
use fastrand::Rng;
use plantlake::clock::Clock;
use plantlake::model::JobSpec;
use plantlake::store::{JobRun, RunStatus};

use crate::schedule::plant::{Daemon, Plant, in_zone, seconds, spec};

fn due(spec: &JobSpec, from: DateTime<Utc>, to: DateTime<Utc>) -> BTreeSet<DateTime<Utc>> {
    let schedule = spec.schedule.as_ref().unwrap();
    let times = std::iter::successors(schedule.next_after(from), |at| schedule.next_after(*at));
    times.take_while(|at| *at <= to).collect()
}

const SEED: u64 = 20_260_325;

#[tokio::test]
async fn due_jobs_run_once_while_daemons_are_killed() {
    // The 29th has no hour from 2 to 3 in Berlin, and the month ends on the 31st.
    let start = "2026-03-25T22:30:00Z";
    let mut plant = Plant::new(start, |context, nth| {
        // The durations differ, but are the same in each run of the test.
        let salt = context.scheduled_for.timestamp() as u64 / 60 + nth as u64;
        let takes = match context.spec.name.as_str() {
            "hourly" => 20 + salt * 37 % 180,
            "often" => 2 + salt * 13 % 30,
            _ => 30 + salt * 53 % 400,
        };
        // Some first attempts fail.
        let outcome = if nth == 1 && salt.is_multiple_of(11) {
            Err("it failed")
        } else {
            Ok(())
        };
        (seconds(takes), outcome)
    });
    // Checks without due jobs would take most of the test's time.
    plant.pace.idle = seconds(120);
    let specs = job_specs();
    let begun_at = plant.clock.now();
    let (daemons, kills) = run_and_kill_daemons(&plant, &specs).await;
    // Running jobs may end.
    let ended_at = plant.clock.now();
    plant.pass(seconds(900)).await;
    for daemon in &daemons {
        daemon.stopper.stop();
    }
    plant.pass(seconds(120)).await;
    assert!(daemons.iter().all(Daemon::has_ended));
    assert!(kills >= 10, "{kills}");

    let runs = plant.runs().await;
    let done = plant.job.done.lock().unwrap().clone();
    let mut taken_over = 0;
    for spec in &specs {
        let wanted = due(spec, begun_at, ended_at);
        let (found, resumed) = successful_runs(&runs, spec, ended_at);
        taken_over += resumed;
        assert_eq!(found, wanted, "seed {SEED}, {}", spec.name);
        let really: BTreeSet<DateTime<Utc>> = done
            .iter()
            .filter(|(job, at)| *job == spec.name && *at <= ended_at)
            .map(|(_, at)| *at)
            .collect();
        assert_eq!(really, wanted, "seed {SEED}, {}", spec.name);
    }
    assert!(taken_over >= 3, "no daemon was killed while it ran a job");
    // A job whose daemon was killed before the result was recorded ran again.
    let distinct: BTreeSet<_> = done.iter().collect();
    assert!(
        done.len() - distinct.len() <= kills,
        "{} of {}",
        done.len(),
        distinct.len()
    );
    println!(
        "{} runs, {kills} kills, {taken_over} taken over, {} done again",
        runs.len(),
        done.len() - distinct.len()
    );
}

fn job_specs() -> Vec<JobSpec> {
    let mut often = spec("often", "*/20 * * * *");
    often.after = vec!["hourly".to_owned()];
    [
        spec("hourly", "0 * * * *"),
        often,
        in_zone("nightly", "30 2 * * *", chrono_tz::Europe::Berlin),
        spec("month-end", "30 23 L * *"),
    ]
    .into_iter()
    .map(|mut spec| {
        spec.retries = 2;
        spec.backoff = seconds(20);
        spec
    })
    .collect()
}

/// Runs two daemons for ten days, and kills one of them again and again. Returns the last daemons, and the number of
/// kills.
async fn run_and_kill_daemons(plant: &Plant, specs: &[JobSpec]) -> (Vec<Daemon>, usize) {
    let mut dice = Rng::with_seed(SEED);
    let end = plant.clock.now() + TimeDelta::days(10);
    let mut daemons: [Option<Daemon>; 2] = [
        Some(plant.start(specs).await),
        Some(plant.start(specs).await),
    ];
    plant.wait_until_idle().await;
    let mut kills = 0;
    while plant.clock.now() < end {
        // Minutes to many hours; in half of the cases until just after a due time.
        let hours = dice.u64(..20);
        let wait = match dice.u64(..2) {
            0 => hours * 3_600 + dice.u64(..3_600),
            _ => {
                let past = plant.clock.now().timestamp() as u64 % 1_200;
                hours * 3_600 + 1_200 - past + dice.u64(..60)
            }
        };
        plant.pass(seconds(wait)).await;
        // The daemon that runs a job, if there is one. The other one is idle.
        let open = plant
            .store()
            .await
            .open_job_runs(plant.clock.now())
            .await
            .unwrap();
        let holds = |daemon: &Option<Daemon>| {
            daemon
                .as_ref()
                .is_some_and(|daemon| open.iter().any(|run| run.holder == daemon.id))
        };
        let at = daemons
            .iter()
            .position(holds)
            .unwrap_or(dice.u64(..2) as usize);
        // Sometimes kills it in the middle of a database call instead of while all tasks wait.
        for _ in 0..dice.u64(..40) {
            tokio::task::yield_now().await;
        }
        if let Some(daemon) = daemons[at].take() {
            daemon.kill();
            kills += 1;
        }
        plant.pass(seconds(60 * dice.u64(..50))).await;
        daemons[at] = Some(plant.start(specs).await);
    }
    (daemons.into_iter().flatten().collect(), kills)
}

/// Returns the due times of a job's runs, of which each must have succeeded once, and how often a run was taken over.
fn successful_runs(
    runs: &[JobRun],
    spec: &JobSpec,
    until: DateTime<Utc>,
) -> (BTreeSet<DateTime<Utc>>, u64) {
    let mut taken_over = 0;
    let mut found: BTreeMap<DateTime<Utc>, usize> = BTreeMap::new();
    for run in runs
        .iter()
        .filter(|run| run.job == spec.name && run.scheduled_for <= until)
    {
        assert_eq!(run.status, RunStatus::Ok, "seed {SEED}: {run:?}");
        *found.entry(run.scheduled_for).or_default() += 1;
        taken_over += run.attempt - 1 - run.failures;
    }
    assert!(
        found.values().all(|count| *count == 1),
        "seed {SEED}, {}: {found:?}",
        spec.name
    );
    (found.into_keys().collect(), taken_over)
}
