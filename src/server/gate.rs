//! The entrance of all calls: passes those of Flight to their layers, those of gRPC's health service to it, and counts
//! those that their clients cancel.
//!
//! tonic reads and decodes the message of a call before it calls the service. Therefore the layers that must come first
//! are in front of tonic.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as TowerService};

use super::connection::listener::Peer;
use super::connection::registry::ConnectionState;
use super::limits::MAX_SENT_MESSAGE_BYTES;
use super::middleware::request_body::{BodyLimits, RequestBody};
use super::middleware::{Arrival, HttpLayers, Serve, http_layers};
use super::rpc::service::{METHODS, Service};
use super::state::server::Server;

const FLIGHT_PREFIX: &str = "/arrow.flight.protocol.FlightService/";
const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";
/// The maximum size of a request of the health service, in bytes: it contains the name of a service.
const MAX_HEALTH_MESSAGE_BYTES: usize = 4 << 10;

/// All services of the server. Cheap to clone; `H` is gRPC's health service, which requires no credential.
#[derive(Clone)]
pub(super) struct Gate<H> {
    flight: Arc<HttpLayers<FlightServiceServer<Service>>>,
    health: H,
    health_limits: BodyLimits,
}

impl<H> Gate<H> {
    pub fn new(server: &Arc<Server>, health: H) -> Self {
        let service = Arc::new(Service(Arc::clone(server)));
        let flight = http_layers(server, |max_message_bytes| {
            FlightServiceServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(max_message_bytes)
                .max_encoding_message_size(MAX_SENT_MESSAGE_BYTES)
        });
        Self {
            flight: Arc::new(flight),
            health,
            health_limits: BodyLimits {
                max_message_bytes: MAX_HEALTH_MESSAGE_BYTES,
                message_timeout: server.limits.connections.handshake_timeout,
                idle_timeout: None,
            },
        }
    }
}

impl<H> TowerService<Request<Body>> for Gate<H>
where
    H: TowerService<Request<RequestBody<Body>>, Response = Response<Body>, Error = Infallible>,
    H: Clone + Send + Sync + 'static,
    H::Future: Send,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Response<Body>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Body>) -> Self::Future {
        let peer = request.extensions().get::<Peer>().cloned();
        let in_flight = CancellationGuard::start(peer.as_ref());
        let path = request.uri().path();
        let method = path.strip_prefix(FLIGHT_PREFIX);
        let method = method.and_then(|name| METHODS.iter().find(|method| method.name == name));
        if let Some(&method) = method {
            let flight = Arc::clone(&self.flight);
            return Box::pin(async move {
                let response = flight.serve(request, Arrival { method, peer }).await;
                in_flight.complete();
                Ok(response)
            });
        }
        if path.starts_with(HEALTH_PREFIX) {
            if let Some(peer) = &peer {
                peer.state.record_health_check();
            }
            let limits = self.health_limits;
            let mut health = self.health.clone();
            return Box::pin(async move {
                let request = request.map(|body| RequestBody::new(body, limits, None));
                let response = health.call(request).await;
                in_flight.complete();
                response
            });
        }
        in_flight.complete();
        let unknown = Status::unimplemented("unknown method; this server offers Flight SQL");
        Box::pin(std::future::ready(Ok(unknown.into_http())))
    }
}

/// A call in progress. If it is dropped before [`CancellationGuard::complete`], its client has cancelled it.
struct CancellationGuard(Option<Arc<ConnectionState>>);

impl CancellationGuard {
    fn start(peer: Option<&Peer>) -> Self {
        let state = peer.map(|peer| Arc::clone(&peer.state));
        if let Some(state) = &state {
            state.record_call();
        }
        Self(state)
    }

    fn complete(mut self) {
        self.0 = None;
    }
}

impl Drop for CancellationGuard {
    fn drop(&mut self) {
        if let Some(state) = &self.0 {
            state.record_cancellation();
        }
    }
}
