//! The operator that computes rollups of all three resolutions from raw readings in one pass. It takes batches and
//! returns batches, and does no I/O of its own.

mod assemble;
mod cell;
mod column_values;
mod conflicting;
mod exact_sum;
mod exec;
mod file_reducer;
mod left_out;
mod moments;
pub mod schema;
mod series;
mod summary;
mod sums;
#[cfg(test)]
mod tests;

pub use cell::Cell;
pub use exec::{FileOutcome, Outcome, Request, ResampleExec};
pub use file_reducer::{FileMinutes, FileReducer, FileTask};
pub use left_out::{LeftOut, Reason};
pub use moments::Moments;
pub use summary::{MinuteRow, Summary};
