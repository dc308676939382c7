//! The interface of an action.

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Status;

use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::middleware::Call;
use crate::server::state::server::Server;

/// An action of `DoAction`: all that dispatch, rate limits, metrics and `ListActions` need to know about it.
#[async_trait]
pub(super) trait FlightAction: Sync {
    /// Returns the name, as clients send it.
    fn name(&self) -> &'static str;

    /// Returns the description in `ListActions`.
    fn description(&self) -> &'static str;

    /// Returns the rate limit that is checked before the body is decoded; `None` for an action that only frees resources.
    fn rate_limit(&self) -> Option<RateLimitKind>;

    /// Returns the kind of the call in metrics.
    fn request_kind(&self) -> RequestKind;

    /// Decodes the body and runs the action. Returns the bodies of its results. The body is as long as the limit of
    /// messages allows, and everything that it declares is from the client.
    async fn run(&self, server: &Server, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status>;
}
