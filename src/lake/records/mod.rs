//! The records of runs: intents, publications, the lease, the history.

pub(super) mod history;
pub mod lease;
mod process;
pub mod runs;
