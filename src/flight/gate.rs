//! The gate in front of the service: authenticates a call by its headers, and lets its body be read only if they have a
//! valid credential.
//!
//! tonic reads and decodes the message of a call before it calls the service. The gate rejects a call without a valid
//! credential before its body is read.

use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use arrow_flight::flight_service_server::FlightServiceServer;
use tonic::body::Body;
use tonic::codegen::http::{Request, Response};
use tonic::codegen::{BoxFuture, Service as TowerService};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use uuid::Uuid;

use super::call::{authenticate, authenticate_handshake, with_request_id};
use super::call_context::CallContext;
use super::connections::ConnectionState;
use super::listener::Peer;
use super::message_limits::{MAX_MESSAGE_BYTES, MAX_PUT_MESSAGE_BYTES, MAX_SENT_MESSAGE_BYTES};
use super::proxies::resolve_client_address;
use super::request_body::{BodyLimits, MessageMemory, RequestBody};
use super::server::Server;
use super::service::Service;
use super::status::REQUEST_ID;
use crate::auth::Access;
use crate::clock::{self, Stopwatch};

const FLIGHT_PREFIX: &str = "/arrow.flight.protocol.FlightService/";
const HEALTH_PREFIX: &str = "/grpc.health.v1.Health/";
/// The maximum size of a request of the health service, in bytes: it contains the name of a service.
const MAX_HEALTH_MESSAGE_BYTES: usize = 4 << 10;
/// A margin on the time limit between messages, so that the reader of the messages reports a timeout first.
const IDLE_MARGIN: Duration = Duration::from_secs(5);

/// The beginning of prost's text for a message that cannot be decoded.
const UNDECODABLE: &str = "failed to decode Protobuf message";

/// The methods of the service, as they are logged and recorded.
const METHODS: [&str; 10] = [
    "Handshake",
    "ListFlights",
    "GetFlightInfo",
    "PollFlightInfo",
    "GetSchema",
    "DoGet",
    "DoPut",
    "DoExchange",
    "DoAction",
    "ListActions",
];

/// All services of the server, behind the gate. Cheap to clone; `H` is gRPC's health service, which requires no credential.
#[derive(Clone)]
pub(super) struct Gate<H> {
    server: Arc<Server>,
    /// The service with the limit for ordinary messages, and with the limit for those of DoPut.
    small: FlightServiceServer<Service>,
    large: FlightServiceServer<Service>,
    health: H,
    memory: MessageMemory,
}

impl<H> Gate<H> {
    pub fn new(server: Arc<Server>, health: H) -> Self {
        let service = Arc::new(Service(Arc::clone(&server)));
        let with_limit = |limit| {
            FlightServiceServer::from_arc(Arc::clone(&service))
                .max_decoding_message_size(limit)
                .max_encoding_message_size(MAX_SENT_MESSAGE_BYTES)
        };
        let memory = server.limits.connections.message_memory_bytes;
        Self {
            small: with_limit(MAX_MESSAGE_BYTES),
            large: with_limit(MAX_PUT_MESSAGE_BYTES),
            health,
            memory: MessageMemory::new(memory, MAX_PUT_MESSAGE_BYTES),
            server,
        }
    }

    /// Handles a call of the Flight service.
    async fn handle(
        self,
        method: &'static str,
        request: Request<Body>,
        peer: Option<Peer>,
    ) -> Response<Body> {
        let (id, since) = (clock::new_id(), Stopwatch::start());
        let (mut parts, body) = request.into_parts();
        // These two bodies are not needed: a handshake consists of headers, and DoExchange is not supported.
        let body = match method {
            "Handshake" | "DoExchange" => Body::empty(),
            _ => body,
        };
        let trusted = &self.server.limits.connections.trusted_proxies;
        let address = peer
            .as_ref()
            .map(|peer| resolve_client_address(peer.address, &parts.headers, trusted));
        let headers = MetadataMap::from_headers(parts.headers);
        let admitted = self.authenticate(method, &headers, address, id).await;
        parts.headers = headers.into_headers();
        let state = peer.as_ref().map(|peer| &peer.state);
        let (access, credential) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                if let Some(state) = state {
                    state.record_refusal();
                }
                return with_request_id(status, id).into_http();
            }
        };
        let organisation = access.principal().organisation_id;
        if let Some(state) = state
            && state.authenticate(organisation).is_err()
        {
            tracing::info!(request = %id, call = method, %organisation, ?address, "refused: too many connections");
            return with_request_id(too_many_connections(), id).into_http();
        }
        let account = self.memory.open(organisation);
        parts.extensions.insert(CallContext {
            id,
            stopwatch: since,
            access,
            credential,
            address,
        });
        let body = RequestBody::new(body, self.body_limits(method), Some(Arc::clone(&account)));
        let request = Request::from_parts(parts, body);
        let Ok(mut response) = match method {
            "DoPut" => self.large.clone().call(request).await,
            _ => self.small.clone().call(request).await,
        };
        // The memory of the request message, which may be large, was in use until here.
        drop(account);
        if let Some(status) = response.extensions().get::<Status>()
            && !response.headers().contains_key(REQUEST_ID)
        {
            // The call ended before its message arrived.
            tracing::info!(request = %id, call = method, ?address, "refused: {}", status.message());
            if let Some(status) = undecodable_message(status) {
                response = status.into_http();
            }
            if let Ok(id) = id.to_string().parse() {
                response.headers_mut().insert(REQUEST_ID, id);
            }
        }
        response
    }

    /// Authenticates the caller by the headers. Returns its access, and the credential that a handshake returns.
    async fn authenticate(
        &self,
        method: &'static str,
        headers: &MetadataMap,
        address: Option<IpAddr>,
        id: Uuid,
    ) -> Result<(Access, Option<String>), Status> {
        let auth = &self.server.auth;
        let outcome = if method == "Handshake" {
            let outcome = authenticate_handshake(auth, headers, address, id).await;
            let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
            tracing::info!(request = %id, call = method, ?address, ?code, "answered");
            outcome.map(|(credential, access)| (access, Some(credential)))
        } else {
            let outcome = authenticate(auth, headers, id).await;
            outcome.map(|access| (access, None)).inspect_err(|status| {
                tracing::info!(request = %id, call = method, ?address, "refused: {}", status.message());
            })
        };
        outcome.inspect_err(|_| self.server.meter.count_unknown(address))
    }

    fn body_limits(&self, method: &str) -> BodyLimits {
        let limits = &self.server.limits;
        let message_timeout = limits.connections.message_timeout;
        match method {
            "DoPut" => BodyLimits {
                max_message_bytes: MAX_PUT_MESSAGE_BYTES,
                message_timeout,
                idle_timeout: Some(limits.ingest.idle_timeout + IDLE_MARGIN),
            },
            _ => BodyLimits {
                max_message_bytes: MAX_MESSAGE_BYTES,
                message_timeout,
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
        let method = method.and_then(|method| METHODS.iter().copied().find(|it| *it == method));
        if let Some(method) = method {
            let gate = self.clone();
            return Box::pin(async move {
                let response = gate.handle(method, request, peer).await;
                in_flight.complete();
                Ok(response)
            });
        }
        if path.starts_with(HEALTH_PREFIX) {
            if let Some(peer) = &peer {
                peer.state.record_health_check();
            }
            let limits = BodyLimits {
                max_message_bytes: MAX_HEALTH_MESSAGE_BYTES,
                message_timeout: self.server.limits.connections.handshake_timeout,
                idle_timeout: None,
            };
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

/// Returns the error for a message that tonic could not decode, if `status` is that. tonic reports it as `INTERNAL`, which
/// here means a failure of the server.
fn undecodable_message(status: &Status) -> Option<Status> {
    let problem = status.message().strip_prefix(UNDECODABLE)?;
    (status.code() == Code::Internal).then(|| {
        Status::invalid_argument(format!("cannot decode the message of the call{problem}"))
    })
}

fn too_many_connections() -> Status {
    Status::unavailable(
        "your organisation has too many connections to this server; close some, or send more calls over each",
    )
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
