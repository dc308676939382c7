//! Batches as they are computed. An expression that panics is the statement's error, as one that fails is, and not the
//! server's: the same statement would break off again.

use std::panic::AssertUnwindSafe;

use arrow::array::RecordBatch;
use datafusion::common::DataFusionError;
use futures::{Stream, StreamExt};
use uuid::Uuid;

/// The batches of the statement of a call, until one cannot be computed.
pub(super) fn computed(
    batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static,
    request: Uuid,
) -> impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + 'static {
    let batches = AssertUnwindSafe(batches).catch_unwind();
    batches.map(move |batch| {
        batch.unwrap_or_else(|panic| {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let text = text.unwrap_or_default();
            tracing::error!(%request, "an expression panicked: {text}");
            Err(broke_off())
        })
    })
}

/// What is said of an expression that panicked.
pub(super) fn broke_off() -> DataFusionError {
    DataFusionError::Execution(
        "the statement cannot be computed: an expression of it broke off, probably at a value that is out of its range"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::datatypes::Schema;
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_after_what_was_computed_before() {
        let empty = RecordBatch::new_empty(Arc::new(Schema::empty()));
        let batches = stream::iter(0..5).map(move |number| {
            assert!(number < 2, "as if by a function");
            Ok(empty.clone())
        });
        let found: Vec<_> = computed(batches, Uuid::nil()).collect().await;
        let [Ok(_), Ok(_), Err(error)] = &found[..] else {
            panic!("{found:?}");
        };
        assert!(matches!(error, DataFusionError::Execution(_)), "{error}");
    }
}
