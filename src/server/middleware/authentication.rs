//! The layer that authenticates each call by its headers. A call without a valid credential ends here, before its body is
//! read, and its connection is held to the limits of those without one.

use std::net::IpAddr;

use tonic::body::Body;
use tonic::codegen::http::header::AUTHORIZATION;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::metadata::MetadataMap;
use tonic::{Code, Status};
use uuid::Uuid;

use super::http::{Arrival, Method, Serve, refuse};
use super::request_id::IdentifiedCall;

use super::credentials::Credentials;
use crate::auth::{Access, Authenticator};
use crate::clock::Stopwatch;
use crate::config::Networks;
use crate::metering::Meter;
use crate::server::connection::proxies::resolve_client_address;
use crate::server::errors::status;

/// A call whose caller is known. Only this layer makes one.
#[derive(Clone)]
pub(super) struct AuthenticatedCall {
    /// The RPC.
    pub method: Method,
    /// The id of the call.
    pub id: Uuid,
    /// Started when the headers of the call arrived.
    pub stopwatch: Stopwatch,
    /// The access of the principal that makes the call.
    pub access: Access,
    /// The credential that a handshake returns.
    pub issued_credential: Option<String>,
    /// The address of the client.
    pub address: Option<IpAddr>,
    _made_by_layer: (),
}

/// The layer around `S`.
pub(in crate::server) struct Authentication<S> {
    pub(super) authenticator: Authenticator,
    pub(super) meter: Meter,
    pub(super) trusted_proxies: Networks,
    pub(super) inner: S,
}

impl<S: Serve<AuthenticatedCall>> Serve<IdentifiedCall> for Authentication<S> {
    async fn serve(&self, mut request: Request<Body>, call: IdentifiedCall) -> Response<Body> {
        let IdentifiedCall {
            arrival,
            id,
            stopwatch,
            ..
        } = call;
        let Arrival { method, peer } = arrival;
        let address = peer.as_ref().map(|peer| {
            resolve_client_address(peer.address, request.headers(), &self.trusted_proxies)
        });
        let headers = MetadataMap::from_headers(std::mem::take(request.headers_mut()));
        let admitted = match method.signs_in {
            true => self.sign_in(&headers, method.name, address, id).await,
            false => self.authenticate(&headers, method.name, address, id).await,
        };
        *request.headers_mut() = headers.into_headers();
        let state = peer.as_ref().map(|peer| &peer.state);
        let (access, issued) = match admitted {
            Ok(admitted) => admitted,
            Err(status) => {
                self.meter.count_unknown(address);
                if let Some(state) = state {
                    state.record_refusal();
                }
                return refuse(status);
            }
        };
        let organisation = access.principal().organisation_id;
        if let Some(state) = state
            && state.authenticate(organisation).is_err()
        {
            tracing::info!(request = %id, call = method.name, %organisation, ?address, "refused: too many connections");
            return refuse(too_many_connections());
        }
        let header = match issued.as_ref().map(to_header).transpose() {
            Ok(header) => header,
            Err(status) => return refuse(status),
        };
        let call = AuthenticatedCall {
            method,
            id,
            stopwatch,
            access,
            issued_credential: issued,
            address,
            _made_by_layer: (),
        };
        let mut response = self.inner.serve(request, call).await;
        if let Some(header) = header
            && response.extensions().get::<Status>().is_none()
        {
            response.headers_mut().insert(AUTHORIZATION, header);
        }
        response
    }
}

impl<S> Authentication<S> {
    /// Authenticates the caller by the headers. Returns its access, and no credential.
    async fn authenticate(
        &self,
        headers: &MetadataMap,
        rpc: &'static str,
        address: Option<IpAddr>,
        id: Uuid,
    ) -> Result<(Access, Option<String>), Status> {
        let outcome = authenticate(&self.authenticator, headers, id).await;
        outcome.map(|access| (access, None)).inspect_err(|status| {
            tracing::info!(request = %id, call = rpc, ?address, "refused: {}", status.message());
        })
    }

    /// Authenticates the caller of a handshake. Returns its access, and the credential that the handshake returns.
    async fn sign_in(
        &self,
        headers: &MetadataMap,
        rpc: &'static str,
        address: Option<IpAddr>,
        id: Uuid,
    ) -> Result<(Access, Option<String>), Status> {
        let outcome = authenticate_handshake(&self.authenticator, headers, address, id).await;
        let code = outcome.as_ref().map_or_else(Status::code, |_| Code::Ok);
        tracing::info!(request = %id, call = rpc, ?address, ?code, "answered");
        outcome.map(|(credential, access)| (access, Some(credential)))
    }
}

/// Authenticates a call by its headers.
async fn authenticate(
    authenticator: &Authenticator,
    headers: &MetadataMap,
    id: Uuid,
) -> Result<Access, Status> {
    let sent = Credentials::from_headers(headers);
    let credential = match sent.map_err(|error| Status::unauthenticated(error.to_string()))? {
        Credentials::Bearer(credential) => credential,
        // Tools that cannot send a token send it as the password.
        Credentials::Basic { password, .. } if Authenticator::is_credential(&password) => password,
        Credentials::Basic { .. } => {
            return Err(Status::unauthenticated(
                "passwords are accepted by Handshake only; send the token that it returns as `authorization: Bearer`",
            ));
        }
    };
    authenticator
        .authenticate(&credential)
        .await
        .map_err(|error| status::from_auth_error(&error, id))
}

/// Authenticates a handshake. Returns the credential that the client is to send from then on, and the access that it gives.
async fn authenticate_handshake(
    authenticator: &Authenticator,
    headers: &MetadataMap,
    address: Option<IpAddr>,
    id: Uuid,
) -> Result<(String, Access), Status> {
    let refused = |error| status::from_auth_error(&error, id);
    let sent = Credentials::from_headers(headers);
    let credential = match sent.map_err(|error| Status::unauthenticated(error.to_string()))? {
        Credentials::Bearer(credential) => credential,
        Credentials::Basic { password, .. } if Authenticator::is_credential(&password) => password,
        Credentials::Basic { user, password } => {
            let signed_in = authenticator.sign_in(&user, &password, address).await;
            signed_in.map_err(refused)?.token
        }
    };
    let access = authenticator.authenticate(&credential).await;
    Ok((credential, access.map_err(refused)?))
}

fn to_header(credential: &String) -> Result<HeaderValue, Status> {
    HeaderValue::try_from(format!("Bearer {credential}"))
        .map_err(|_| Status::internal("the token is not a valid header value"))
}

fn too_many_connections() -> Status {
    Status::unavailable(
        "your organisation has too many connections to this server; close some, or send more calls over each",
    )
}
