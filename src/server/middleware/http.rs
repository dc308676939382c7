//! Types that the layers of HTTP share: the RPC of a call, and the interface between one layer and the next.

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};

use crate::server::connection::listener::Peer;
use crate::server::errors::status::limit_text;

/// The messages that an RPC receives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum RequestMessages {
    /// None that matters: the body is not read.
    Ignored,
    /// One message.
    One,
    /// A stream of messages, which may be large.
    LargeStream,
}

/// An RPC, as the layers of HTTP know it.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct Method {
    /// The name, as it is logged and recorded.
    pub name: &'static str,
    /// The messages that it receives.
    pub messages: RequestMessages,
    /// Whether it accepts passwords, and returns a credential.
    pub signs_in: bool,
}

/// A call whose headers have arrived.
pub(in crate::server) struct Arrival {
    /// The RPC.
    pub method: Method,
    /// The connection; none in tests without one.
    pub peer: Option<Peer>,
}

/// A layer of HTTP, which handles calls of which `K` is known.
pub(in crate::server) trait Serve<K>: Send + Sync + 'static {
    /// Returns the response to a call.
    fn serve(
        &self,
        request: Request<Body>,
        known: K,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Returns the response to a call that is refused.
pub(super) fn refuse(status: Status) -> Response<Body> {
    limit_text(status).into_http()
}
