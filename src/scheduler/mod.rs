//! The schedule: runs jobs when they are due, once for each due time, however many processes run it.
//!
//! | file | responsibility |
//! |---|---|
//! | `due` | decides what is due, from the declared jobs and their history; no I/O |
//! | `job` | defines a job and its outcomes |
//! | `history` | the interface to the store in which runs are recorded and claimed |
//! | `worker` | executes one claimed run: its lease, attempts, timeout and end |
//! | `daemon` | runs due jobs, and takes over runs of dead processes |
//! | `once` | runs one job on request |
//! | `webhook` | reports failures |
//!
//! Several processes and machines may run the same schedule; the organisation database coordinates them. A run begins
//! with the insertion of its row. The table's keys allow one run for each due time, and one running run for each job.
//! The holder of a run increments a heartbeat counter every few seconds. If the counter does not advance, by the
//! *observer's* monotonic clock, the holder is dead and another process resumes the run. Clocks that differ or jump
//! therefore neither take a run from its holder nor keep it from others.
//!
//! A run whose process is killed after the job finished, but before the result was recorded, is executed again: jobs
//! must be idempotent.

mod daemon;
mod due;
mod history;
mod job;
mod once;
mod webhook;
mod worker;

pub use daemon::{CheckIntervals, Scheduler};
pub use due::{JobAction, ScheduleDecision, decide};
pub use history::RunHistory;
pub use job::{Job, JobContext, JobFailure, JobOutcome, Jobs, StopSender, StopSignal};
pub use once::{RunOnceOutcome, run_once};
pub use webhook::{Webhook, WebhookError};
pub use worker::{FailureCause, HEARTBEAT_INTERVAL, LEASE_TIMEOUT, Worker};
