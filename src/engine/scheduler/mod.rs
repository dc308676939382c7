//! The query scheduler. Short queries run on the thread that serves the request. Long queries run on threads of their
//! own, with limits on their number and time, and fair shares between organisations. Statements are planned on threads
//! of their own.

mod aborted;
mod fair_queue;
mod limits;
mod long_query;
mod organisation_threads;
mod permit_slot;
mod planning;
mod query_scheduler;
mod result_stream;
mod timer;

pub use aborted::QueryAborted;
pub use limits::SchedulerLimits;
pub use query_scheduler::QueryScheduler;
pub use timer::QueryTimer;

#[cfg(test)]
mod tests;
