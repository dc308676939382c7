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

use super::timer::QueryTimer;
use super::turn_slot::TurnSlot;
use super::turns::Turns;
use super::{CutShort, LaneLimits, MOMENT};
use crate::memory::QueryMemory;
use crate::model::OrganisationId;
use crate::workers::{NICE, NICEST, ThreadId};

/// Plans statements on threads of their own.
#[derive(Debug)]
pub(super) struct PlanningLane {
    turns: Turns,
    wait: Duration,
    threads: Arc<PlanningThreads>,
    /// The runtime for file access and timers during planning.
    runtime: Handle,
}

impl PlanningLane {
    /// Creates a scheduler that plans as many statements at once as there may be long queries, and at least two.
    pub fn new(limits: &LaneLimits, runtime: Handle) -> Self {
        let places = limits.places.max(2);
        Self {
            turns: Turns::new(places, None),
            wait: limits.wait,
            threads: Arc::new(PlanningThreads {
                stack: limits.stack,
                max_idle: places,
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
    ) -> Result<T, CutShort> {
        let turn = timeout(self.wait, self.turns.wait(organisation, false)).await;
        let turn = TurnSlot::new(turn.map_err(|_| CutShort::Waited(self.wait))?);
        // The memory is charged to the query that waits for the plan, if there is one.
        let memory = QueryMemory::current().unwrap_or_else(QueryMemory::start);
        let (sender, mut receiver) = oneshot::channel();
        let place = Arc::new(Place::default());
        let job = {
            let (place, turn, token) = (Arc::clone(&place), turn.clone(), timer.token().clone());
            let runtime = self.runtime.clone();
            let work = work.in_current_span();
            let job: Job = Box::new(move || {
                place.begin();
                let release = turn.release_on_drop();
                let plan = || token.scope(|| memory.enter(|| runtime.block_on(work)));
                let planned = std::panic::catch_unwind(AssertUnwindSafe(plan));
                // Mark the job as finished before the caller continues, because the caller cancels jobs that are not
                // finished.
                let keeps_on = place.finish();
                drop(release);
                // The panic hook has reported a panic in a library. The caller may have left already.
                let _ = planned.map(|planned| sender.send(planned));
                keeps_on
            });
            job
        };
        timer.resume();
        let _watch = Watch {
            place: &place,
            turn: &turn,
            timer,
        };
        self.threads.run(job).map_err(|_| CutShort::Lost)?;
        let moment = MOMENT.min(timer.remaining());
        let planned = match timeout(moment, &mut receiver).await {
            Ok(planned) => planned,
            Err(_) => {
                place.step_back(NICE);
                let planned = timeout(timer.remaining(), &mut receiver).await;
                planned.map_err(|_| CutShort::Planned(timer.limit()))?
            }
        };
        planned.map_err(|_| CutShort::Lost)
    }
}

/// Stops the timer when the caller has its result or leaves, and cancels work that is not finished.
struct Watch<'a> {
    place: &'a Place,
    turn: &'a TurnSlot,
    timer: &'a QueryTimer,
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        self.timer.pause();
        if self.place.step_back(NICEST) {
            self.timer.token().cancel();
            self.turn.abandon();
        }
    }
}

/// The thread and the progress of a job.
#[derive(Debug, Default)]
struct Place(Mutex<Progress>);

#[derive(Debug, Default)]
struct Progress {
    thread: Option<ThreadId>,
    is_finished: bool,
    has_stepped_back: bool,
}

impl Place {
    fn begin(&self) {
        let mut progress = self.locked();
        let thread = ThreadId::current();
        progress.thread = Some(thread);
        if progress.has_stepped_back {
            thread.set_nice(NICE);
        }
    }

    /// Marks the job as finished. Returns whether the thread kept its priority and can run another job.
    fn finish(&self) -> bool {
        let mut progress = self.locked();
        progress.is_finished = true;
        !progress.has_stepped_back
    }

    /// Lowers the priority of the thread if the job is still running; returns whether it is.
    fn step_back(&self, nice: i32) -> bool {
        let mut progress = self.locked();
        if progress.is_finished {
            return false;
        }
        progress.has_stepped_back = true;
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
    stack: usize,
    max_idle: usize,
    idle: Mutex<Vec<Sender<Job>>>,
}

impl PlanningThreads {
    /// Runs the job on an idle thread, or on a new one.
    fn run(self: &Arc<Self>, mut job: Job) -> std::io::Result<()> {
        while let Some(idle) = self.pop() {
            match idle.send(job) {
                Ok(()) => return Ok(()),
                Err(unsent) => job = unsent.0,
            }
        }
        let threads = Arc::downgrade(self);
        let thread = std::thread::Builder::new()
            .name("planning".to_owned())
            .stack_size(self.stack);
        thread.spawn(move || work(&threads, job)).map(drop)
    }

    fn pop(&self) -> Option<Sender<Job>> {
        self.locked().pop()
    }

    fn locked(&self) -> MutexGuard<'_, Vec<Sender<Job>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The main function of a planning thread. It runs jobs until one lowered the thread's priority, enough other threads
/// are idle, or the scheduler is gone.
fn work(threads: &Weak<PlanningThreads>, first: Job) {
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
        crate::memory::give_back_freed();
        match receiver.recv() {
            Ok(next) => job = next,
            Err(_) => return,
        }
    }
}
