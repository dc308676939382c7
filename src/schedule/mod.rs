//! The schedule: runs jobs when they are due, each time once, whoever else does so too.
//!
//! | file | what it knows |
//! |---|---|
//! | `due` | what is due, from what is declared and what was done; no I/O |
//! | `job` | what a job is, and how it ends |
//! | `history` | where runs are written down, and claimed |
//! | `work` | one run that was claimed: its lease, attempts, timeout and end |
//! | `daemon` | runs what is due, takes over from those that died |
//! | `once` | runs one job because somebody asks for it |
//! | `webhook` | tells of failures |
//!
//! Several processes and machines may run the same schedule: they meet in the organisation database. A run is begun by
//! adding its row, and the table's keys let in one for each due time, and one at a time for each job. Whoever has a run
//! says so every few seconds, by counting; where the count stands still, by the *onlooker's* watch, the one who had it is
//! dead, and another goes on. Clocks that differ or jump thus neither take a run from who has it, nor keep it from others.
//!
//! A run whose process is killed after the job was done, and before that was written down, is done again: jobs must be
//! such that this changes nothing.

mod daemon;
mod due;
mod history;
mod job;
mod once;
mod webhook;
mod work;

pub use daemon::{Pace, Scheduler};
pub use due::{Outlook, Step, outlook};
pub use history::History;
pub use job::{Job, JobContext, JobFailure, JobOutcome, Jobs, Stop, Stopper};
pub use once::{Once, run_once};
pub use webhook::{Webhook, WebhookError};
pub use work::{Cause, HEARTBEAT, LEASE, Worker};
