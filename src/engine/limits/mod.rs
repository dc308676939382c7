//! The limits of a query: cancellation, memory and disk.

pub(super) mod cancellation;
pub(super) mod resource_limits;
pub(super) mod task_memory;
