//! The context of a call: what the gate learned from its headers, before its body is read.

use std::net::IpAddr;

use tonic::Request;
use uuid::Uuid;

use crate::auth::Access;
use crate::clock::Stopwatch;

/// An authenticated call, as the gate passes it to the service.
#[derive(Clone)]
pub(super) struct CallContext {
    /// The id of the call.
    pub id: Uuid,
    /// Started when the headers of the call arrived.
    pub stopwatch: Stopwatch,
    /// The access of the principal that makes the call.
    pub access: Access,
    /// The credential that a handshake returns.
    pub credential: Option<String>,
    /// The address of the client.
    pub address: Option<IpAddr>,
}

/// Returns the address of the client that makes a call.
pub(super) fn client_address<T>(request: &Request<T>) -> Option<IpAddr> {
    request.extensions().get::<CallContext>()?.address
}
