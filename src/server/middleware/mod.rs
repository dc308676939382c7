//! The layers around every RPC. A handler implements [`Rpc`], and contains only the work of the RPC.
//!
//! | layer, from the outermost | file | what it makes for the next one |
//! |---|---|---|
//! | request id | `request_id` | `IdentifiedCall` |
//! | authentication | `authentication` | `AuthenticatedCall` |
//! | limits of messages | `messages` | a body that tonic may read |
//! | metering | `metering` (`meter`, `metered_stream`, `message_size`) | [`Call`] |
//! | rate limits | `rate_limit` | the call, admitted |
//!
//! The first three see HTTP, and are composed by [`http_layers`]. The others see messages, because neither rows nor
//! commands are known before messages are decoded, and are composed by [`respond`], the only function that calls a handler.
//! A layer accepts only what the layer before it makes, and only that layer can make it, so a layer that is left out is a
//! compile error. A handler borrows its [`Call`], which only the layers can make, and its result becomes a response only
//! where the call is owned.
//!
//! The layers of HTTP are no `tower::Layer`s: each would box the future of each call, and pass what it knows to the next
//! one through a map of types that may lack it. The whole stack is one tower service (`gate`).

mod authentication;
mod call;
pub(super) mod credentials;
mod http;
mod message_size;
mod messages;
mod meter;
mod metered_stream;
mod metering;
mod rate_limit;
pub(super) mod request_body;
mod request_id;

use tonic::{Request, Response, Status};

pub(super) use call::Call;
pub(super) use http::{Arrival, Method, RequestMessages, Serve};
pub(super) use metering::{MessageStream, OneMessage, Reply, ZONELESS_TIMESTAMPS};
pub(super) use rate_limit::{Work, admit_further};

use super::state::server::Server;
use authentication::Authentication;
use messages::MessageLimits;
use request_id::RequestIds;

/// An RPC: its properties that the layers must know, and its work.
pub(super) trait Rpc {
    /// The messages that it receives.
    const MESSAGES: RequestMessages = RequestMessages::One;
    /// Whether it accepts passwords, and returns a credential.
    const SIGNS_IN: bool = false;
    /// The message that tonic decodes, or the stream of messages.
    type Request: Send;
    /// The request, decoded as far as necessary to know the work that it asks for.
    type Task: Send;
    /// The result of the work.
    type Reply: Reply;

    /// Decodes a request.
    fn decode(request: Self::Request) -> impl Future<Output = Result<Self::Task, Status>> + Send;

    /// Returns the work that a request asks for.
    fn work(task: &Self::Task) -> Work<'_>;

    /// Does the work.
    fn handle(
        server: &Server,
        call: &Call,
        task: Self::Task,
    ) -> impl Future<Output = Result<Self::Reply, Status>> + Send;
}

/// Returns the RPC `R` as the layers of HTTP know it.
pub(super) const fn method<R: Rpc>(name: &'static str) -> Method {
    Method {
        name,
        messages: R::MESSAGES,
        signs_in: R::SIGNS_IN,
    }
}

/// The content of the responses of an RPC.
pub(super) type Content<R> = <<R as Rpc>::Reply as Reply>::Content;

/// Passes a call through the layers that see messages, to its handler and back.
pub(super) async fn respond<R: Rpc>(
    server: &Server,
    mut request: Request<R::Request>,
) -> Result<Response<Content<R>>, Status> {
    let call = metering::open(&server.meter, &mut request)?;
    let work = async {
        let task = R::decode(request.into_inner()).await?;
        rate_limit::admit(&server.meter, &call, &R::work(&task))?;
        R::handle(server, &call, task).await
    };
    let answer = call.run(work).await;
    // Handshakes are logged where they are authenticated, whether or not that succeeds.
    if !R::SIGNS_IN {
        call.log(&answer);
    }
    R::Reply::into_response(answer, call).await
}

/// The layers of HTTP around tonic's server `S`.
pub(super) type HttpLayers<S> = RequestIds<Authentication<MessageLimits<S>>>;

/// Composes the layers of HTTP. `tonic` creates tonic's server with a limit on the size of a message, in bytes.
pub(super) fn http_layers<S>(server: &Server, tonic: impl Fn(usize) -> S) -> HttpLayers<S> {
    let messages = MessageLimits::new(&server.limits, tonic);
    RequestIds {
        inner: Authentication {
            authenticator: server.auth.clone(),
            meter: server.meter.clone(),
            trusted_proxies: server.limits.connections.trusted_proxies.clone(),
            inner: messages,
        },
    }
}
