//! The innermost layer of HTTP: limits the messages of a call in size, time and memory, and passes it to tonic, which reads
//! and decodes them.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use tonic::body::Body;
use tonic::codegen::Service;
use tonic::codegen::http::{Request, Response};
use tonic::{Code, Status};

use super::authentication::AuthenticatedCall;
use super::http::{RequestMessages, Serve};
use super::request_id::is_error_of_work;

use super::request_body::{BodyLimits, MessageMemory, RequestBody};
use crate::server::limits::{MAX_MESSAGE_BYTES, MAX_PUT_MESSAGE_BYTES, ServerLimits};

/// A margin on the time limit between messages, so that the reader of the messages reports a timeout first.
const IDLE_MARGIN: Duration = Duration::from_secs(5);
/// The beginning of prost's text for a message that cannot be decoded.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// The layer around tonic's server `S`.
pub(in crate::server) struct MessageLimits<S> {
    /// The server with the limit for ordinary messages, and with the limit for the large ones of a stream.
    small: S,
    large: S,
    memory: MessageMemory,
    /// The time limit for a message to arrive.
    message_timeout: Duration,
    /// The time limit for the next message of a stream.
    idle_timeout: Duration,
}

impl<S> MessageLimits<S> {
    /// Creates the layer. `server` creates tonic's server with a limit on the size of a message, in bytes.
    pub fn new(limits: &ServerLimits, server: impl Fn(usize) -> S) -> Self {
        let memory = limits.connections.message_memory_bytes;
        Self {
            small: server(MAX_MESSAGE_BYTES),
            large: server(MAX_PUT_MESSAGE_BYTES),
            memory: MessageMemory::new(memory, MAX_PUT_MESSAGE_BYTES),
            message_timeout: limits.connections.message_timeout,
            idle_timeout: limits.ingest.idle_timeout + IDLE_MARGIN,
        }
    }
}

impl<S> Serve<AuthenticatedCall> for MessageLimits<S>
where
    S: Service<Request<RequestBody<Body>>, Response = Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send,
{
    async fn serve(&self, request: Request<Body>, call: AuthenticatedCall) -> Response<Body> {
        let AuthenticatedCall {
            method,
            id,
            address,
            ..
        } = call;
        let (mut server, max_message_bytes, idle_timeout) = match method.messages {
            RequestMessages::LargeStream => {
                let idle = Some(self.idle_timeout);
                (self.large.clone(), MAX_PUT_MESSAGE_BYTES, idle)
            }
            RequestMessages::One | RequestMessages::Ignored => {
                (self.small.clone(), MAX_MESSAGE_BYTES, None)
            }
        };
        let limits = BodyLimits {
            max_message_bytes,
            message_timeout: self.message_timeout,
            idle_timeout,
        };
        let account = self.memory.open(call.access.principal().organisation_id);
        let (mut parts, mut body) = request.into_parts();
        if method.messages == RequestMessages::Ignored {
            body = Body::empty();
        }
        parts.extensions.insert(call);
        let body = RequestBody::new(body, limits, Some(Arc::clone(&account)));
        let Ok(mut response) = server.call(Request::from_parts(parts, body)).await;
        // The memory of the request message, which may be large, was in use until here.
        drop(account);
        if let Some(status) = response.extensions().get::<Status>()
            && !is_error_of_work(&response)
        {
            // The call ended before its message arrived.
            tracing::info!(request = %id, call = method.name, ?address, "refused: {}", status.message());
            if let Some(status) = undecodable_message(status) {
                response = status.into_http();
            }
        }
        response
    }
}

/// Returns the error for a message that tonic could not decode, if `status` is that. tonic reports it as `INTERNAL`, which
/// here means a failure of the server.
fn undecodable_message(status: &Status) -> Option<Status> {
    let problem = status.message().strip_prefix(UNDECODABLE)?;
    (status.code() == Code::Internal).then(|| {
        Status::invalid_argument(format!("cannot decode the message of the call{problem}"))
    })
}
