//! One call of a client: its id, where it comes from, and who makes it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use tracing::Instrument;
use uuid::Uuid;

use super::credentials::Credentials;
use super::error_text;
use super::metered::Meter;
use super::status::{self, REQUEST_ID};
use crate::auth::{Access, Authenticator, Principal};
use crate::clock::Stopwatch;
use crate::memory::{self, QueryMemory};

/// A call that was let in.
#[derive(Debug)]
pub(super) struct Call {
    /// Names it in logs, response headers and errors.
    pub id: Uuid,
    /// The one who makes it.
    pub access: Access,
    /// Where it comes from.
    pub address: Option<IpAddr>,
    /// The RPC.
    pub rpc: &'static str,
    /// Its record.
    pub meter: Meter,
}

impl Call {
    /// The one who makes it.
    pub fn principal(&self) -> &Principal {
        self.access.principal()
    }

    /// Says which command it has, for its record.
    pub fn asks(&self, command: &str) {
        self.meter.asks(self.rpc, command);
    }

    /// Works on the call, and names it in what is logged on its behalf. A mistake of a library that panics ends the call
    /// with an error, and not without an answer. What calls share is behind locks, and never left half changed.
    pub async fn work<T>(
        &self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let span = tracing::info_span!("call", request = %self.id);
        let query = QueryMemory::start();
        let work = query.charge_to(Box::pin(work));
        let worked = AssertUnwindSafe(work).catch_unwind().instrument(span).await;
        // Whatever it failed by after that is a consequence.
        if query.is_exhausted() && !matches!(worked, Ok(Ok(_))) {
            return Err(status::out_of_memory());
        }
        worked.unwrap_or_else(|panic| {
            if memory::is_out_of_memory(&*panic) {
                return Err(status::out_of_memory());
            }
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let error = BrokeOff(text.unwrap_or_default().to_owned());
            let what = "the call broke off on the server's side";
            Err(status::hidden(&error, self.id, what))
        })
    }
}

/// The work on a call panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct BrokeOff(String);

/// A call whose caller was let in by its headers, as the gate hands it to the service.
#[derive(Clone)]
pub(super) struct Entry {
    /// Names the call.
    pub id: Uuid,
    /// Since its headers are there.
    pub since: Stopwatch,
    /// The one who makes it.
    pub access: Access,
    /// The credential that a handshake answers with.
    pub credential: Option<String>,
    /// Where the call comes from.
    pub address: Option<IpAddr>,
}

/// Where a call comes from.
pub(super) fn address_of<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<Entry>()?.address
}

/// Lets in who sent these headers, or says why not.
pub(super) async fn authorise(
    authenticator: &Authenticator,
    headers: &MetadataMap,
    id: Uuid,
) -> Result<Access, Status> {
    let sent = Credentials::of(headers);
    let credential = match sent.map_err(|error| Status::unauthenticated(error.to_string()))? {
        Credentials::Bearer(credential) => credential,
        // Tools that cannot send a token send it as the password.
        Credentials::Basic { password, .. } if Authenticator::is_credential(&password) => password,
        Credentials::Basic { .. } => {
            return Err(Status::unauthenticated(
                "a password is for Handshake only; send the token that it answers with as `authorization: Bearer`",
            ));
        }
    };
    authenticator
        .authenticate(&credential)
        .await
        .map_err(|error| status::of_auth(&error, id))
}

/// Lets in who shakes hands, and says which credential is to be sent from then on, and what it is good for.
pub(super) async fn shake_hands(
    authenticator: &Authenticator,
    headers: &MetadataMap,
    address: Option<IpAddr>,
    id: Uuid,
) -> Result<(String, Access), Status> {
    let refused = |error| status::of_auth(&error, id);
    let sent = Credentials::of(headers);
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

/// Names the call in its answer.
pub(super) fn stamp<T>(
    answer: Result<Response<T>, Status>,
    id: Uuid,
) -> Result<Response<T>, Status> {
    match answer {
        Ok(mut response) => {
            response.metadata_mut().extend_id(id);
            Ok(response)
        }
        Err(status) => Err(stamped(status, id)),
    }
}

/// Names the call in an error, whose text is brought within the limits.
pub(super) fn stamped(status: Status, id: Uuid) -> Status {
    let mut status = error_text::within_limits(status);
    status.metadata_mut().extend_id(id);
    status
}

/// Puts a call's id among headers.
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
