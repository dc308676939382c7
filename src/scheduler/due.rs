//! Decides what is due: a pure function of the declared jobs, their history and the time.
//!
//! - A job is due at the times of its schedule after its last run for a due time, or after it got that schedule.
//! - If several due times have passed, only the last one counts; it covers the others. With `missed = "skip"`, a due
//!   time that passed more than a minute ago is skipped.
//! - A job with `after` waits until each of those jobs has finished its own last due time that is not later. It is
//!   skipped if one of them failed at that time or was skipped. A success for a later due time counts, too. A job that
//!   waits for one that is behind runs for the last of its own due times that the other has reached.
//! - Due times in the future never count: runs left behind by a clock that was ahead have no effect, and a clock that
//!   is set back neither repeats nor omits a due time.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};

use crate::model::{JobSpec, MissedRunPolicy, Schedule};
use crate::store::JobState;

/// The delay up to which a due time does not count as missed.
const MAX_DELAY: TimeDelta = TimeDelta::minutes(1);

/// The action for a job now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobAction {
    /// Nothing is due.
    Idle,
    /// The job is due, and waits for other jobs.
    Wait,
    /// Run the job for this due time.
    Run(DateTime<Utc>),
    /// Record that the job is skipped for this due time.
    Skip {
        /// The due time.
        at: DateTime<Utc>,
        /// The reason.
        reason: String,
    },
}

/// The actions to take now, and the time of the next check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScheduleDecision {
    /// The actions, by job.
    pub actions: Vec<(String, JobAction)>,
    /// The next due time of any job.
    pub next: Option<DateTime<Utc>>,
}

/// A job that has a schedule, and its known state.
struct Scheduled<'a> {
    spec: &'a JobSpec,
    schedule: &'a Schedule,
    state: &'a JobState,
}

impl Scheduled<'_> {
    /// Returns the time up to which due times are done.
    fn done_until(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        // A schedule recorded by a clock that was ahead must not block the job.
        let since = Some(self.state.since).filter(|since| *since <= now);
        self.state.latest.max(since).unwrap_or(now)
    }

    /// Returns the last due time that is not after `at`, if it is later than the start of this schedule.
    fn latest_at(&self, at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        self.schedule
            .latest_at(at)
            .filter(|latest| *latest > self.state.since)
    }
}

/// Returns the actions to take at `now`. Jobs without a known state are left out.
pub fn decide(specs: &[JobSpec], states: &[JobState], now: DateTime<Utc>) -> ScheduleDecision {
    let states: BTreeMap<&str, &JobState> = states
        .iter()
        .map(|state| (state.job.as_str(), state))
        .collect();
    let scheduled = specs.iter().filter_map(|spec| {
        let state = states.get(spec.name.as_str())?;
        let schedule = spec.schedule.as_ref()?;
        Some((
            spec.name.as_str(),
            Scheduled {
                spec,
                schedule,
                state,
            },
        ))
    });
    let scheduled: BTreeMap<&str, Scheduled<'_>> = scheduled.collect();
    ScheduleDecision {
        next: scheduled
            .values()
            .filter_map(|job| job.schedule.next_after(now))
            .min(),
        actions: scheduled
            .iter()
            .map(|(name, job)| ((*name).to_owned(), job_action(job, &scheduled, now)))
            .collect(),
    }
}

fn job_action(
    job: &Scheduled<'_>,
    all: &BTreeMap<&str, Scheduled<'_>>,
    now: DateTime<Utc>,
) -> JobAction {
    let done = job.done_until(now);
    let Some(at) = job.schedule.latest_at(now).filter(|at| *at > done) else {
        return JobAction::Idle;
    };
    if job.spec.missed == MissedRunPolicy::Skip && now - at > MAX_DELAY {
        let why = format!(
            "missed: no process could run it until {}",
            now.format("%Y-%m-%dT%H:%M:%SZ")
        );
        return JobAction::Skip { at, reason: why };
    }
    let others: Vec<&Scheduled<'_>> = job
        .spec
        .after
        .iter()
        .filter_map(|name| all.get(name.as_str()))
        .collect();
    // The run must not be for a time that one of the other jobs has not reached.
    let reached = others.iter().filter_map(|other| {
        let awaited = other.latest_at(at)?;
        let reached = other.state.latest_ended.filter(|ended| *ended < awaited)?;
        Some(other.schedule.next_after(reached)? - TimeDelta::seconds(1))
    });
    let reached = reached.min().unwrap_or(at);
    let Some(at) = job
        .schedule
        .latest_at(reached.min(at))
        .filter(|at| *at > done)
    else {
        return JobAction::Wait;
    };
    for other in others {
        let Some(awaited) = other.latest_at(at) else {
            // The other job has not been due since it got its schedule.
            continue;
        };
        let reached =
            |latest: Option<DateTime<Utc>>| latest.is_some_and(|latest| latest >= awaited);
        if reached(other.state.latest_ok) {
            continue;
        }
        if reached(other.state.latest_ended) {
            let why = format!(
                "{} did not succeed for {}",
                other.spec.name,
                awaited.format("%Y-%m-%dT%H:%M:%SZ")
            );
            return JobAction::Skip { at, reason: why };
        }
        return JobAction::Wait;
    }
    JobAction::Run(at)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use chrono_tz::Tz;
    use proptest::prelude::*;

    use super::*;
    use crate::model::JobKind;

    fn time(text: &str) -> DateTime<Utc> {
        format!("2026-03-{text}Z").parse().unwrap()
    }

    fn spec(name: &str, cron: &str, missed: MissedRunPolicy, after: &[&str]) -> JobSpec {
        JobSpec {
            name: name.to_owned(),
            kind: JobKind::new("resample", &[]),
            schedule: Some(Schedule::parse(cron, Tz::UTC).unwrap()),
            timeout: Duration::from_secs(60),
            retries: 0,
            backoff: Duration::from_secs(1),
            missed,
            after: after.iter().map(|name| (*name).to_owned()).collect(),
            arguments: BTreeMap::new(),
        }
    }

    fn state(job: &str, latest: Option<&str>) -> JobState {
        let latest = latest.map(time);
        JobState {
            job: job.to_owned(),
            since: time("01T00:30:00"),
            latest,
            latest_ok: latest,
            latest_ended: latest,
            succeeded_at: latest,
            done_as_of: latest,
        }
    }

    fn step_of(name: &str, specs: &[JobSpec], states: &[JobState], now: &str) -> JobAction {
        let outlook = decide(specs, states, time(now));
        let found = outlook.actions.into_iter().find(|(job, _)| job == name);
        found.unwrap().1
    }

    #[test]
    fn new_job_waits_for_its_next_due_time() {
        let hourly = [spec("a", "0 * * * *", MissedRunPolicy::Once, &[])];
        let new = [state("a", None)];
        assert_eq!(step_of("a", &hourly, &new, "01T00:59:59"), JobAction::Idle);
        assert_eq!(
            step_of("a", &hourly, &new, "01T01:00:00"),
            JobAction::Run(time("01T01:00:00"))
        );
        assert_eq!(
            decide(&hourly, &new, time("01T00:59:59")).next,
            Some(time("01T01:00:00"))
        );
        assert_eq!(decide(&hourly, &[], time("01T01:00:00")).actions, []);
    }

    #[test]
    fn missed_due_times_run_once_or_are_skipped() {
        let states = [state("a", Some("01T01:00:00"))];
        let once = [spec("a", "0 * * * *", MissedRunPolicy::Once, &[])];
        assert_eq!(
            step_of("a", &once, &states, "01T05:17:00"),
            JobAction::Run(time("01T05:00:00"))
        );
        let skip = [spec("a", "0 * * * *", MissedRunPolicy::Skip, &[])];
        let JobAction::Skip { at, reason: why } = step_of("a", &skip, &states, "01T05:17:00")
        else {
            panic!("it is not skipped");
        };
        assert_eq!(at, time("01T05:00:00"));
        assert!(why.contains("missed"), "{why}");
        assert_eq!(
            step_of("a", &skip, &states, "01T05:00:59"),
            JobAction::Run(time("01T05:00:00"))
        );
    }

    #[test]
    fn clock_set_back_repeats_no_due_time() {
        let hourly = [spec("a", "0 * * * *", MissedRunPolicy::Once, &[])];
        // The clock was set back from 05:00 to 03:10. The states are as of now and contain nothing from the future.
        assert_eq!(
            step_of(
                "a",
                &hourly,
                &[state("a", Some("01T03:00:00"))],
                "01T03:10:00"
            ),
            JobAction::Idle
        );
        // The schedule was recorded by a clock that was four weeks ahead.
        let mut ahead = state("a", None);
        ahead.since = time("30T00:00:00");
        assert_eq!(
            step_of("a", &hourly, std::slice::from_ref(&ahead), "01T03:10:00"),
            JobAction::Idle
        );
        ahead.latest = Some(time("01T02:00:00"));
        assert_eq!(
            step_of("a", &hourly, &[ahead], "01T03:10:00"),
            JobAction::Run(time("01T03:00:00"))
        );
    }

    #[test]
    fn dependent_job_waits_and_is_skipped_if_its_dependency_fails() {
        let specs = [
            spec("a", "0 * * * *", MissedRunPolicy::Once, &[]),
            spec("b", "5 */2 * * *", MissedRunPolicy::Once, &["a"]),
        ];
        let b = || state("b", Some("01T02:05:00"));
        let now = "01T04:05:00";
        for (a, expected) in [
            (state("a", Some("01T03:00:00")), JobAction::Wait),
            (
                state("a", Some("01T04:00:00")),
                JobAction::Run(time("01T04:05:00")),
            ),
        ] {
            assert_eq!(step_of("b", &specs, &[a, b()], now), expected);
        }
        let failed = JobState {
            latest_ok: Some(time("01T03:00:00")),
            ..state("a", Some("01T04:00:00"))
        };
        let JobAction::Skip { at, reason: why } = step_of("b", &specs, &[failed.clone(), b()], now)
        else {
            panic!("it is not skipped");
        };
        assert_eq!(
            (at, why.as_str()),
            (
                time("01T04:05:00"),
                "a did not succeed for 2026-03-01T04:00:00Z"
            )
        );
        // The job has since succeeded for a later due time, which is at least as good.
        let later = JobState {
            latest_ok: Some(time("01T05:00:00")),
            ..state("a", Some("01T05:00:00"))
        };
        assert_eq!(
            step_of("b", &specs, &[later, b()], "01T05:30:00"),
            JobAction::Run(time("01T04:05:00"))
        );
        // A running job has not ended.
        let running = JobState {
            latest: Some(time("01T04:00:00")),
            ..state("a", Some("01T03:00:00"))
        };
        assert_eq!(step_of("b", &specs, &[running, b()], now), JobAction::Wait);
        // A job that was never due is not waited for.
        let mut new = state("a", None);
        new.since = time("01T04:01:00");
        assert_eq!(
            step_of("b", &specs, &[new, b()], now),
            JobAction::Run(time("01T04:05:00"))
        );
    }

    #[test]
    fn dependent_of_a_slow_job_does_not_starve() {
        let specs = [
            spec("a", "* * * * *", MissedRunPolicy::Once, &[]),
            spec("b", "* * * * *", MissedRunPolicy::Once, &["a"]),
        ];
        // `a` takes more than a minute: when it ends, it is due again.
        let a = JobState {
            latest: Some(time("01T01:02:00")),
            ..state("a", Some("01T01:01:00"))
        };
        let b = state("b", Some("01T01:00:00"));
        assert_eq!(
            step_of("b", &specs, &[a, b], "01T01:03:20"),
            JobAction::Run(time("01T01:01:00"))
        );
    }

    proptest! {
        /// No due time is run twice, and each run is for a due time of the schedule, even if the clock jumps.
        #[test]
        fn decide_with_a_jumping_clock_repeats_no_due_time(
            minutes in prop::collection::vec(-90..200_i64, 1..60),
            cron in prop::sample::select(&["*/7 * * * *", "0 * * * *", "30 2 * * *"][..]),
        ) {
            let specs = [spec("a", cron, MissedRunPolicy::Once, &[])];
            let schedule = specs[0].schedule.clone().unwrap();
            let mut now = time("10T00:00:00");
            let mut done: Vec<DateTime<Utc>> = Vec::new();
            for step in minutes {
                now += TimeDelta::minutes(step);
                let mut state = state("a", None);
                state.since = time("09T00:00:00");
                state.latest = done.iter().copied().filter(|at| *at <= now).max();
                if let JobAction::Run(at) = decide(&specs, &[state], now).actions.remove(0).1 {
                    prop_assert!(at <= now);
                    prop_assert_eq!(schedule.latest_at(at), Some(at));
                    prop_assert!(!done.contains(&at), "{} comes twice", at);
                    done.push(at);
                }
            }
        }
    }
}
