//! One call of a client: its id, the client's address, and the principal that makes it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tonic::metadata::MetadataMap;
use tonic::{Response, Status};
use tracing::Instrument;
use uuid::Uuid;

use super::credentials::Credentials;
use super::error_text;
use super::metered::Meter;
use super::status::{self, REQUEST_ID};
use crate::auth::{Access, Authenticator, Principal};
use crate::memory::{self, QueryMemory};
use crate::metrics::RequestKind;

/// An authenticated call.
#[derive(Debug)]
pub(super) struct Call {
    /// The id of the call in logs, response headers and errors.
    pub id: Uuid,
    /// The access of the principal that makes the call.
    pub access: Access,
    /// The address of the client.
    pub address: Option<IpAddr>,
    /// The name of the RPC.
    pub rpc: &'static str,
    /// The usage record of the call.
    pub meter: Meter,
}

impl Call {
    /// Returns the principal that makes the call.
    pub fn principal(&self) -> &Principal {
        self.access.principal()
    }

    /// Sets the command of the call in its usage record.
    pub fn set_command(&self, command: &str) {
        self.meter.set_command(self.rpc, command);
    }

    /// Sets the kind of the action that the call runs, for metrics.
    pub fn set_action_kind(&self, kind: RequestKind) {
        self.meter.set_action_kind(kind);
    }

    /// Runs the work of the call, and adds the call's id to everything that is logged meanwhile. If a library panics, the
    /// call ends with an error instead of no response. State that calls share is behind locks, and never left half changed.
    pub async fn run<T>(&self, work: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
        let span = tracing::info_span!("call", request = %self.id);
        let query = QueryMemory::start();
        let work = query.charge_to(Box::pin(work));
        let worked = AssertUnwindSafe(work).catch_unwind().instrument(span).await;
        // Any later failure is a consequence.
        if query.is_exhausted() && !matches!(worked, Ok(Ok(_))) {
            return Err(status::out_of_memory());
        }
        worked.unwrap_or_else(|panic| {
            if memory::is_out_of_memory(&*panic) {
                return Err(status::out_of_memory());
            }
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let error = PanicError(text.unwrap_or_default().to_owned());
            let what = "the call failed on the server";
            Err(status::hidden_error(&error, self.id, what))
        })
    }
}

/// The work on a call panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct PanicError(String);

/// Authenticates a call by its headers.
pub(super) async fn authenticate(
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
pub(super) async fn authenticate_handshake(
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

/// Adds the id of the call to its response.
pub(super) fn add_request_id<T>(
    answer: Result<Response<T>, Status>,
    id: Uuid,
) -> Result<Response<T>, Status> {
    match answer {
        Ok(mut response) => {
            response.metadata_mut().extend_id(id);
            Ok(response)
        }
        Err(status) => Err(with_request_id(status, id)),
    }
}

/// Adds the id of the call to an error, whose text is brought within the limits.
pub(super) fn with_request_id(status: Status, id: Uuid) -> Status {
    let mut status = error_text::limit_text(status);
    status.metadata_mut().extend_id(id);
    status
}

/// Adds the id of a call to headers.
trait ExtendId {
    fn extend_id(&mut self, id: Uuid);
}

impl ExtendId for MetadataMap {
    fn extend_id(&mut self, id: Uuid) {
        // A UUID is always a valid header.
        if let Ok(id) = id.to_string().parse() {
            self.insert(REQUEST_ID, id);
        }
    }
}
