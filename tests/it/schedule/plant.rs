//! Daemons on one database, with jobs that only count their runs.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use plantlake::clock::{Clock, new_id};
use plantlake::config::{DatabaseUrl, Inputs, load};
use plantlake::model::{JobKind, JobSpec, MissedRunPolicy, Schedule};
use plantlake::scheduler::{
    CheckIntervals, Job, JobContext, JobFailure, JobOutcome, Jobs, RunHistory, Scheduler,
    StopSender, Worker,
};
use plantlake::store::{
    JobEnd, JobHolder, JobRun, JobState, OrganisationStore, RunStatus, StoreError,
};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::schedule::clock::FakeClock;

pub fn time(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

/// A store that counts its calls in progress: while there are any, time must not pass.
struct Counted {
    store: OrganisationStore,
    under_way: Arc<Calls>,
}

#[derive(Default)]
struct Calls {
    count: AtomicUsize,
    total: AtomicUsize,
    none: Notify,
}

struct UnderWay<'a>(&'a Calls);

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if self.0.count.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.0.none.notify_one();
        }
    }
}

impl Counted {
    fn call(&self) -> UnderWay<'_> {
        self.under_way.count.fetch_add(1, Ordering::SeqCst);
        self.under_way.total.fetch_add(1, Ordering::SeqCst);
        UnderWay(&self.under_way)
    }
}

/// Implements methods that count the call and forward it to the store.
macro_rules! counted {
    ($(async fn $name:ident(&self $(, $argument:ident: $type:ty)*) -> $result:ty;)*) => {
        #[async_trait]
        impl RunHistory for Counted {
            $(async fn $name(&self $(, $argument: $type)*) -> Result<$result, StoreError> {
                let _call = self.call();
                RunHistory::$name(&self.store $(, $argument)*).await
            })*
        }
    };
}

counted! {
    async fn set_schedule(&self, job: &str, schedule: &str, now: DateTime<Utc>) -> ();
    async fn states(&self, now: DateTime<Utc>) -> Vec<JobState>;
    async fn open_runs(&self, now: DateTime<Utc>) -> Vec<JobRun>;
    async fn running_run(&self, job: &str) -> Option<JobRun>;
    async fn claim(&self, job: &str, at: DateTime<Utc>, by_hand: bool, holder: &JobHolder, now: DateTime<Utc>) -> Option<JobRun>;
    async fn skip(&self, job: &str, at: DateTime<Utc>, why: &str, holder: &JobHolder, now: DateTime<Utc>) -> bool;
    async fn take_over(&self, run: &JobRun, holder: &JobHolder, now: DateTime<Utc>) -> Option<JobRun>;
    async fn give_up(&self, run: &JobRun, status: RunStatus, why: &str, now: DateTime<Utc>) -> bool;
    async fn record_heartbeat(&self, run: Uuid, holder: Uuid, now: DateTime<Utc>) -> bool;
    async fn record_retry(&self, run: Uuid, holder: Uuid, tried: (u64, u64), error: &str, now: DateTime<Utc>) -> bool;
    async fn record_end(&self, run: Uuid, holder: Uuid, end: &JobEnd) -> bool;
    async fn delete_before(&self, before: DateTime<Utc>) -> u64;
}

/// The behaviour of a job: the duration of an attempt, and its result.
pub type Script = dyn Fn(&JobContext, usize) -> (Duration, Result<(), &'static str>) + Send + Sync;

/// A job that sleeps and counts.
pub struct Counting {
    clock: FakeClock,
    script: Arc<Script>,
    pub begun: Mutex<HashMap<(String, DateTime<Utc>), usize>>,
    pub done: Mutex<Vec<(String, DateTime<Utc>)>>,
}

#[async_trait]
impl Job for Counting {
    async fn run(&self, context: &JobContext) -> Result<JobOutcome, JobFailure> {
        let key = (context.spec.name.clone(), context.scheduled_for);
        let nth = {
            let mut begun = self.begun.lock().unwrap();
            let count = begun.entry(key.clone()).or_default();
            *count += 1;
            *count
        };
        let (takes, outcome) = (self.script)(context, nth);
        self.clock.sleep(takes).await;
        match outcome {
            Err("busy") => Err(JobFailure::Busy("something else is at it".into())),
            Err("panic") => panic!("as if by a mistake"),
            Err(error) => Err(JobFailure::from_error(error)),
            Ok(()) => {
                self.done.lock().unwrap().push(key);
                Ok(JobOutcome {
                    rows: Some(7),
                    ..JobOutcome::default()
                })
            }
        }
    }
}

/// A database, a clock and jobs; daemons come and go.
pub struct Plant {
    pub clock: FakeClock,
    pub job: Arc<Counting>,
    pub url: DatabaseUrl,
    pub grace: Duration,
    pub pace: CheckIntervals,
    under_way: Arc<Calls>,
    _folder: tempfile::TempDir,
}

/// A daemon, as if in a process of its own.
pub struct Daemon {
    pub stopper: StopSender,
    pub specs: watch::Sender<Arc<[JobSpec]>>,
    pub id: Uuid,
    task: JoinHandle<()>,
}

impl Daemon {
    /// Ends the daemon like `kill -9`: work in progress is lost.
    pub fn kill(self) {
        self.task.abort();
    }

    pub fn has_ended(&self) -> bool {
        self.task.is_finished()
    }
}

pub fn spec(name: &str, cron: &str) -> JobSpec {
    in_zone(name, cron, chrono_tz::UTC)
}

pub fn in_zone(name: &str, cron: &str, zone: chrono_tz::Tz) -> JobSpec {
    JobSpec {
        name: name.to_owned(),
        kind: JobKind::new("resample", &[]),
        schedule: Some(Schedule::parse(cron, zone).unwrap()),
        timeout: Duration::from_secs(3_600),
        retries: 0,
        backoff: Duration::from_secs(60),
        missed: MissedRunPolicy::Once,
        after: Vec::new(),
        arguments: BTreeMap::new(),
    }
}

pub fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn url_of(folder: &Path) -> DatabaseUrl {
    let inputs = Inputs {
        folder: folder.to_owned(),
        environment: vec![("PLANTLAKE_STATE".into(), folder.into())],
        ..Inputs::default()
    };
    load(&inputs).unwrap().settings.organisation_url
}

impl Plant {
    pub fn new(
        now: &str,
        script: impl Fn(&JobContext, usize) -> (Duration, Result<(), &'static str>)
        + Send
        + Sync
        + 'static,
    ) -> Self {
        // In memory if possible: nothing here depends on a disk, and simulated days have many writes.
        let folder = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let clock = FakeClock::at(time(now));
        Self {
            job: Arc::new(Counting {
                clock: clock.clone(),
                script: Arc::new(script),
                begun: Mutex::default(),
                done: Mutex::default(),
            }),
            clock,
            url: url_of(folder.path()),
            grace: seconds(60),
            pace: CheckIntervals {
                idle: seconds(60),
                busy: seconds(5),
            },
            under_way: Arc::default(),
            _folder: folder,
        }
    }

    pub async fn store(&self) -> OrganisationStore {
        OrganisationStore::open(&self.url).await.unwrap().0
    }

    /// A worker with connections of its own.
    pub async fn worker(&self) -> Worker {
        let history = Counted {
            store: self.store().await,
            under_way: Arc::clone(&self.under_way),
        };
        Worker {
            history: Arc::new(history),
            clock: Arc::new(self.clock.clone()),
            jobs: Jobs::from([("resample", Arc::clone(&self.job) as Arc<dyn Job>)]),
            webhook: None,
            grace: self.grace,
            holder: JobHolder {
                id: new_id(),
                host: "here".to_owned(),
                pid: 1,
            },
        }
    }

    pub async fn start(&self, specs: &[JobSpec]) -> Daemon {
        self.start_with(self.worker().await, specs)
    }

    pub fn start_with(&self, worker: Worker, specs: &[JobSpec]) -> Daemon {
        let (sender, specs) = watch::channel(Arc::from(specs));
        let id = worker.holder.id;
        let scheduler = Scheduler {
            worker: Arc::new(worker),
            specs,
            history: TimeDelta::days(90),
            intervals: self.pace,
        };
        let stopper = StopSender::default();
        Daemon {
            task: tokio::spawn(scheduler.run(stopper.subscribe())),
            stopper,
            specs: sender,
            id,
        }
    }

    /// Waits until all tasks have done what they can without time passing. The runtime has one thread.
    pub async fn wait_until_idle(&self) {
        loop {
            for _ in 0..30 {
                tokio::task::yield_now().await;
            }
            match self.under_way.count.load(Ordering::SeqCst) {
                0 => return,
                _ => self.under_way.none.notified().await,
            }
        }
    }

    /// Advances the clock by `time`.
    pub async fn pass(&self, time: Duration) {
        let until = self.clock.elapsed() + time;
        loop {
            self.wait_until_idle().await;
            if !self.clock.pass(until) {
                break;
            }
        }
        self.wait_until_idle().await;
    }

    /// Returns the number of calls of all workers so far.
    pub fn calls(&self) -> usize {
        self.under_way.total.load(Ordering::SeqCst)
    }

    /// Returns all runs, sorted by job and due time.
    pub async fn runs(&self) -> Vec<JobRun> {
        let mut runs = self.store().await.job_runs(None, 1_000_000).await.unwrap();
        runs.sort_by_key(|run| (run.job.clone(), run.scheduled_for));
        runs
    }

    /// Returns the due times of one job, with the status of each run.
    pub async fn outcome(&self, job: &str) -> Vec<(String, RunStatus)> {
        let runs = self.runs().await;
        let runs = runs
            .into_iter()
            .filter(|run| run.job == job && !run.by_hand);
        runs.map(|run| (run.scheduled_for.format("%d %H:%M").to_string(), run.status))
            .collect()
    }
}
