//! The layer of metering: opens the usage record of a call before its work begins, and makes a response of the result of
//! the work, which ends only when the record is written.
//!
//! It sees messages rather than the bytes of HTTP: the rows of a message, and the bytes that are billed for it, are known
//! only before it is encoded, and after the last byte the record would be too late.

use ecow::{EcoString, eco_format};
use futures::StreamExt;
use futures::stream::{self, BoxStream};
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status};
use uuid::Uuid;

use super::authentication::AuthenticatedCall;
use super::call::Call;
use super::message_size::Metered;
use super::meter::metering_unavailable;
use super::metered_stream::{MeteredStream, count, to_end};
use super::request_id::with_request_id;
use crate::auth::Proof;
use crate::metering::{Caller, EndOutcome, Meter, OpenRequest};

/// The header that warns that a quota is nearly used up.
const WARNING_HEADER: &str = "plantlake-warning";
/// The header that sets the session option of the same name for one call. The JDBC driver sends properties that it does
/// not know as headers.
pub(in crate::server) const ZONELESS_TIMESTAMPS: &str = "zoneless_timestamps";
/// The maximum length of a client's user agent in a record, in characters.
const MAX_AGENT_CHARS: usize = 200;

/// Opens the usage record of a call that came through the layers of HTTP.
///
/// # Errors
/// Fails if the call cannot be recorded, or did not come through those layers.
pub(super) fn open<T>(meter: &Meter, request: &mut Request<T>) -> Result<Call, Status> {
    let call = request.extensions_mut().remove::<AuthenticatedCall>();
    // There is no other way in.
    let call = call.ok_or_else(|| Status::unauthenticated("the call was not authenticated"))?;
    let id = call.id;
    let record = meter.open(id, caller(&call, request.metadata()));
    let record = record.map_err(|error| with_request_id(metering_unavailable(&error, id), id))?;
    let zoneless = request.metadata().get(ZONELESS_TIMESTAMPS);
    let zoneless = zoneless.map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
    Ok(Call::new(call, record, zoneless))
}

/// Returns the caller of a request, for its usage record.
fn caller(call: &AuthenticatedCall, headers: &MetadataMap) -> Caller {
    let principal = call.access.principal();
    let (api_key_id, session_id) = match &principal.proof {
        Proof::Key { id, .. } => (Some(id.clone()), None),
        Proof::Session { id, .. } => (None, Some(*id)),
    };
    let address = call.address.map(|address| eco_format!("{address}"));
    Caller {
        organisation_id: principal.organisation_id,
        user_id: principal.user_id,
        api_key_id,
        session_id,
        address: address.unwrap_or_default(),
        agent: user_agent(headers),
    }
}

fn user_agent(headers: &MetadataMap) -> EcoString {
    let agent = headers.get("user-agent");
    let agent = agent.and_then(|agent| agent.to_str().ok());
    let agent = agent.unwrap_or_default();
    // Header text is ASCII, so the cut is at a character boundary.
    agent.get(..MAX_AGENT_CHARS).unwrap_or(agent).into()
}

/// The result of the work of a call. Only this layer makes a response of it, because only it owns the call.
pub(in crate::server) trait Reply: Sized + Send {
    /// The content of the response.
    type Content;

    /// Ends the call, and returns its response.
    ///
    /// # Errors
    /// Returns the error of the work, or fails if the record of the call cannot be written.
    fn into_response(
        answer: Result<Self, Status>,
        call: Call,
    ) -> impl Future<Output = Result<Response<Self::Content>, Status>> + Send;
}

/// A result of one message.
pub(in crate::server) struct OneMessage<T>(pub T);

/// A result of any number of messages.
pub(in crate::server) struct MessageStream<T>(BoxStream<'static, Result<T, Status>>);

impl<T: Send + 'static> MessageStream<T> {
    /// Creates a result of messages that are computed while they are sent.
    pub fn new(messages: BoxStream<'static, Result<T, Status>>) -> Self {
        Self(messages)
    }

    /// Creates a result of messages that are known.
    pub fn known(messages: impl IntoIterator<Item = T, IntoIter: Send + 'static>) -> Self {
        Self(stream::iter(messages.into_iter().map(Ok)).boxed())
    }
}

impl<T: Metered> Reply for OneMessage<T> {
    type Content = T;

    async fn into_response(
        answer: Result<Self, Status>,
        call: Call,
    ) -> Result<Response<T>, Status> {
        let id = call.id;
        let answer = answer.map(|Self(message)| message);
        let recorded = end(call.meter.into_request(), answer.as_ref(), id).await;
        let answer = recorded.and(answer).map(Response::new);
        answer.map_err(|status| with_request_id(status, id))
    }
}

impl<T: Metered + Unpin + 'static> Reply for MessageStream<T> {
    type Content = MeteredStream<T>;

    async fn into_response(
        answer: Result<Self, Status>,
        call: Call,
    ) -> Result<Response<MeteredStream<T>>, Status> {
        let id = call.id;
        let warning = call.meter.warning();
        let record = call.meter.into_request();
        match answer {
            Ok(Self(messages)) => {
                let messages = MeteredStream::begin(messages, record, id).await;
                let mut response = Response::new(messages);
                // A warning that is not valid header text is only in the log.
                if let Some(warning) = warning.and_then(|warning| warning.parse().ok()) {
                    response.metadata_mut().insert(WARNING_HEADER, warning);
                }
                Ok(response)
            }
            Err(status) => {
                let recorded = end::<T>(record, Err(&status), id).await;
                let status = recorded.err().unwrap_or(status);
                Err(with_request_id(status, id))
            }
        }
    }
}

/// Writes the record of a call whose response is one message or an error.
async fn end<T: Metered>(
    mut record: OpenRequest,
    answer: Result<&T, &Status>,
    id: Uuid,
) -> Result<(), Status> {
    if let Ok(message) = answer {
        count(&mut record, message);
    }
    match record.end(to_end(answer.err())) {
        Ok(EndOutcome::Recorded) => Ok(()),
        Ok(EndOutcome::Syncing(syncing)) => syncing
            .await
            .map_err(|error| metering_unavailable(&error, id)),
        Err(error) => Err(metering_unavailable(&error, id)),
    }
}
