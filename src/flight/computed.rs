//! Answers as they are computed. An expression that panics is the statement's error, as one that fails is, and not the
//! server's: the same statement would break off again.

use std::panic::AssertUnwindSafe;

use datafusion::common::DataFusionError;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::Status;
use uuid::Uuid;

use super::call::stamped;
use super::status;
use crate::memory;

/// The messages of the answer to a call, until one cannot be computed.
pub(super) fn computed<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    request: Uuid,
) -> BoxStream<'static, Result<T, Status>> {
    let messages = AssertUnwindSafe(messages).catch_unwind();
    messages
        .map(move |message| {
            message.unwrap_or_else(|panic| {
                if memory::is_out_of_memory(&*panic) {
                    return Err(stamped(status::out_of_memory(), request));
                }
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let text = text.unwrap_or_default();
                tracing::error!(%request, "an expression panicked: {text}");
                Err(stamped(
                    status::of_execution(&broke_off(), request),
                    request,
                ))
            })
        })
        .boxed()
}

/// What is said of an expression that panicked.
pub(super) fn broke_off() -> DataFusionError {
    DataFusionError::Execution(
        "cannot compute the statement: an expression failed, probably because a value is out of range"
            .to_owned(),
    )
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_panic_is_an_error_of_the_statement_after_what_was_computed_before() {
        let messages = stream::iter(0..5).map(|number| {
            assert!(number < 2, "as if by a function");
            Ok(number)
        });
        let found: Vec<_> = computed(messages, Uuid::nil()).collect().await;
        let [Ok(0), Ok(1), Err(status)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(!status::is_ours(status));
    }
}
