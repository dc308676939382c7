//! Catches panics while a response is computed. An expression that panics counts as an error of the statement, like one
//! that fails, and not of the server: the same statement would panic again.

use std::panic::AssertUnwindSafe;

use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use tonic::Status;
use uuid::Uuid;

use super::status::{self, panic_error};
use crate::memory;

/// Returns the messages of a response. A panic ends the response with an error.
pub(in crate::server) fn catch_panics<T: Send + 'static>(
    messages: impl Stream<Item = Result<T, Status>> + Send + 'static,
    request: Uuid,
) -> BoxStream<'static, Result<T, Status>> {
    let messages = AssertUnwindSafe(messages).catch_unwind();
    messages
        .map(move |message| {
            message.unwrap_or_else(|panic| {
                if memory::is_out_of_memory(&*panic) {
                    return Err(status::out_of_memory());
                }
                let text = panic.downcast_ref::<String>().map(String::as_str);
                let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
                let text = text.unwrap_or_default();
                tracing::error!(%request, "an expression panicked: {text}");
                Err(status::from_execution_error(&panic_error(), request))
            })
        })
        .boxed()
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn catch_panics_after_messages_returns_error_of_statement() {
        let messages = stream::iter(0..5).map(|number| {
            assert!(number < 2, "as if by a function");
            Ok(number)
        });
        let found: Vec<_> = catch_panics(messages, Uuid::nil()).collect().await;
        let [Ok(0), Ok(1), Err(status)] = &found[..] else {
            panic!("{found:?}");
        };
        assert_eq!(status.code(), Code::InvalidArgument, "{status}");
        assert!(!status::is_server_fault(status));
    }
}
