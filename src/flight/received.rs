//! Batches that clients send: bytes that may be anything.

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use futures::{FutureExt, StreamExt};

/// The next batch, if there is one.
pub(super) async fn next_batch(
    batches: &mut FlightRecordBatchStream,
) -> Result<Option<RecordBatch>, FlightError> {
    // The library panics on some bytes that no library has written.
    let next = AssertUnwindSafe(batches.next()).catch_unwind().await;
    let next = next.unwrap_or_else(|_| {
        let text = "they are not as Arrow has them";
        Some(Err(FlightError::DecodeError(text.to_owned())))
    });
    next.transpose()
}
