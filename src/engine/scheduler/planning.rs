//! Threads that plan statements. Planning evaluates constants, which cannot be interrupted. So it has threads of its
//! own, new threads replace those that are stuck, and each organisation has a share of them.

use std::panic::AssertUnwindSafe;
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::oneshot;
use tokio::time::timeout;
use tracing::Instrument;

use super::aborted::QueryAborted;
use super::fair_queue::FairQueue;
use super::limits::{SHORT_QUERY_TIMEOUT, SchedulerLimits};
use super::permit_slot::PermitSlot;
use super::timer::QueryTimer;
use crate::memory::QueryMemory;
use crate::model::OrganisationId;
use crate::workers::{NICE, OVERDUE_NICE, ThreadId};

/// Plans statements on threads of their own.
#[derive(Debug)]
pub(super) struct PlanningScheduler {
    queue: FairQueue,
    queue_timeout: Duration,
    threads: Arc<PlanningThreads>,
    /// The runtime for file access and timers during planning.
    runtime: Handle,
}

impl PlanningScheduler {
    /// Creates a scheduler that plans as many statements at once as there may be long queries, and at least two.
    pub fn new(limits: &SchedulerLimits, runtime: Handle) -> Self {
        let permits = limits.permits.max(2);
        Self {
            queue: FairQueue::new(permits, None),
            queue_timeout: limits.queue_timeout,
            threads: Arc::new(PlanningThreads {
                stack_bytes: limits.stack_bytes,
                max_idle: permits,
                idle: Mutex::default(),
            }),
            runtime,
        }
    }

    /// Runs `work` on a planning thread while `timer` has time left. The priority of the thread is lowered after
    /// `SHORT_QUERY_TIMEOUT`. When the time is up, the caller gets an error, and the work is cancelled and goes on at
    /// the lowest priority. Dropping the future cancels the work, too.
    pub async fn run<T: Send + 'static>(
        &self,
        organisation: OrganisationId,
        timer: &QueryTimer,
        work: impl Future<Output = T> + Send + 'static,
    ) -> Result<T, QueryAborted> {
        let permit = timeout(self.queue_timeout, self.queue.acquire(organisation, false)).await;
        let permit =
            PermitSlot::new(permit.map_err(|_| QueryAborted::QueueTimedOut(self.queue_timeout))?);
        // The memory is charged to the query that waits for the plan, if there is one.
        let memory = QueryMemory::current().unwrap_or_else(QueryMemory::start);
        let (sender, mut receiver) = oneshot::channel();
        let job_state = Arc::new(PlanningJobState::default());
        let job = {
            let (job_state, permit, token) = (
                Arc::clone(&job_state),
                permit.clone(),
                timer.token().clone(),
            );
            let runtime = self.runtime.clone();
            let work = work.in_current_span();
            let job: Job = Box::new(move || {
                job_state.start();
                let release = permit.release_on_drop();
                let plan = || token.scope(|| memory.enter(|| runtime.block_on(work)));
                let planned = std::panic::catch_unwind(AssertUnwindSafe(plan));
                // Mark the job as finished before the caller continues, because the caller cancels jobs that are not
                // finished.
                let is_thread_reusable = job_state.finish();
                drop(release);
                // The panic hook has reported a panic in a library. The caller may have left already.
                let _ = planned.map(|planned| sender.send(planned));
                is_thread_reusable
            });
            job
        };
        timer.resume();
        let _watch = CancelOnDrop {
            job_state: &job_state,
            permit: &permit,
            timer,
        };
        self.threads.run(job).map_err(|_| QueryAborted::Failed)?;
        let moment = SHORT_QUERY_TIMEOUT.min(timer.remaining());
        let planned = match timeout(moment, &mut receiver).await {
            Ok(planned) => planned,
            Err(_) => {
                job_state.lower_priority(NICE);
                let planned = timeout(timer.remaining(), &mut receiver).await;
                planned.map_err(|_| QueryAborted::PlanningTimedOut(timer.limit()))?
            }
        };
        planned.map_err(|_| QueryAborted::Failed)
    }
}

/// Stops the timer when the caller has its result or leaves, and cancels work that is not finished.
struct CancelOnDrop<'a> {
    job_state: &'a PlanningJobState,
    permit: &'a PermitSlot,
    timer: &'a QueryTimer,
}

impl Drop for CancelOnDrop<'_> {
    fn drop(&mut self) {
        self.timer.pause();
        if self.job_state.lower_priority(OVERDUE_NICE) {
            self.timer.token().cancel();
            self.permit.abandon();
        }
    }
}

/// The thread and the progress of a job.
#[derive(Debug, Default)]
struct PlanningJobState(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    thread: Option<ThreadId>,
    is_finished: bool,
    has_lowered_priority: bool,
}

impl PlanningJobState {
    fn start(&self) {
        let mut progress = self.locked();
        let thread = ThreadId::current();
        progress.thread = Some(thread);
        if progress.has_lowered_priority {
            thread.set_nice(NICE);
        }
    }

    /// Marks the job as finished. Returns whether the thread kept its priority and can run another job.
    fn finish(&self) -> bool {
        let mut progress = self.locked();
        progress.is_finished = true;
        !progress.has_lowered_priority
    }

    /// Lowers the priority of the thread if the job is still running; returns whether it is.
    fn lower_priority(&self, nice: i32) -> bool {
        let mut progress = self.locked();
        if progress.is_finished {
            return false;
        }
        progress.has_lowered_priority = true;
        if let Some(thread) = progress.thread {
            thread.set_nice(nice);
        }
        true
    }

    fn locked(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A planning job. Returns whether its thread can run another.
type Job = Box<dyn FnOnce() -> bool + Send>;

/// Threads for planning, one for each job. Up to `max_idle` threads wait for the next job.
#[derive(Debug)]
struct PlanningThreads {
    stack_bytes: usize,
    max_idle: usize,
    idle: Mutex<Vec<Sender<Job>>>,
}

impl PlanningThreads {
    /// Runs the job on an idle thread, or on a new one.
    fn run(self: &Arc<Self>, mut job: Job) -> std::io::Result<()> {
        while let Some(idle) = self.pop_idle() {
            match idle.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => job = unsent.0,
            }
        }
        let threads = Arc::downgrade(self);
        let thread = std::thread::Builder::new()
            .name("planning".to_owned())
            .stack_size(self.stack_bytes);
        thread.spawn(move || run_jobs(&threads, job)).map(drop)
    }

    fn pop_idle(&self) -> Option<Sender<Job>> {
        self.locked().pop()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main function of a planning thread. It runs jobs until one lowered the thread's priority, enough other threads
/// are idle, or the scheduler is gone.
fn run_jobs(threads: &Weak<PlanningThreads>, first: Job) {
    let mut job = first;
    while job() {
        let (sender, receiver) = channel();
        {
            let Some(threads) = threads.upgrade() else {
                return;
            };
            let mut idle = threads.locked();
            if idle.len() >= threads.max_idle {
                return;
            }
            idle.push(sender);
        }
        crate::memory::release_freed_memory();
        match receiver.recv() {
            Ok(next) => job = next,
            Err(_) => return,
        }
    }
}
