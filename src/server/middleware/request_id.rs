//! The outermost layer: gives each call its id, and adds the id to the headers of its response.
//!
//! Errors in the midst of a response are in its trailers, which are part of its body. The layer of metering, which sees
//! the messages, adds the id to them, and brings their texts within the limits.

use std::str::FromStr;

use tonic::Status;
use tonic::body::Body;
use tonic::codegen::http::{HeaderValue, Request, Response};
use tonic::metadata::{Ascii, MetadataValue};
use uuid::Uuid;

use super::http::{Arrival, Serve};
use crate::clock::{self, Stopwatch};
use crate::server::errors::status::limit_text;

/// The name of the header and trailer that contains the id of a call.
pub(super) const REQUEST_ID: &str = "plantlake-request-id";

/// A call with an id. Only this layer makes one.
pub(super) struct IdentifiedCall {
    /// The call as it arrived.
    pub arrival: Arrival,
    /// The id of the call.
    pub id: Uuid,
    /// Started when the headers of the call arrived.
    pub stopwatch: Stopwatch,
    _made_by_layer: (),
}

/// The layer around `S`.
pub(in crate::server) struct RequestIds<S> {
    pub(super) inner: S,
}

impl<S: Serve<IdentifiedCall>> Serve<Arrival> for RequestIds<S> {
    async fn serve(&self, request: Request<Body>, arrival: Arrival) -> Response<Body> {
        let id = clock::new_id();
        let call = IdentifiedCall {
            arrival,
            id,
            stopwatch: Stopwatch::start(),
            _made_by_layer: (),
        };
        let mut response = self.inner.serve(request, call).await;
        let headers = response.headers_mut();
        // An error of the work of the call has it already.
        if !headers.contains_key(REQUEST_ID)
            && let Some(id) = to_header::<HeaderValue>(id)
        {
            headers.insert(REQUEST_ID, id);
        }
        response
    }
}

/// Adds the id of the call to an error, whose text is brought within the limits.
pub(super) fn with_request_id(status: Status, id: Uuid) -> Status {
    let mut status = limit_text(status);
    if let Some(id) = to_header::<MetadataValue<Ascii>>(id) {
        status.metadata_mut().insert(REQUEST_ID, id);
    }
    status
}

/// Whether [`with_request_id`] made the response: an error of the work of the call, and not of reading its message.
pub(super) fn is_error_of_work<B>(response: &Response<B>) -> bool {
    response.headers().contains_key(REQUEST_ID)
}

/// Returns the id as the value of a header. A UUID always is a valid one.
fn to_header<T: FromStr>(id: Uuid) -> Option<T> {
    let mut text = Uuid::encode_buffer();
    id.hyphenated().encode_lower(&mut text).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::errors::status::{is_server_fault, mark_caused_by_caller};

    #[test]
    fn with_request_id_keeps_who_caused_the_error() {
        let id = Uuid::from_u128(7);
        let status = with_request_id(Status::unavailable("busy"), id);
        assert_eq!(
            status.metadata().get(REQUEST_ID).unwrap(),
            "00000000-0000-0000-0000-000000000007"
        );
        assert!(is_server_fault(&status));
        let status = mark_caused_by_caller(Status::unavailable("ask again"));
        let status = with_request_id(status, id);
        assert!(!is_server_fault(&status));
    }
}
