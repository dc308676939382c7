//! The action `ClosePreparedStatement`. The server keeps no state of a prepared statement, so there is nothing to release.
//! An unknown handle counts as closed.

use arrow_flight::sql::ActionClosePreparedStatementRequest;
use async_trait::async_trait;
use bytes::Bytes;
use tonic::Status;

use super::action::FlightAction;
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::flightsql::commands::unpack;
use crate::server::middleware::Call;
use crate::server::state::server::Server;

pub(super) struct ClosePreparedStatement;

#[async_trait]
impl FlightAction for ClosePreparedStatement {
    fn name(&self) -> &'static str {
        "ClosePreparedStatement"
    }

    fn description(&self) -> &'static str {
        "Closes a prepared statement"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        None
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Plan
    }

    async fn run(&self, _: &Server, _: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        let _: ActionClosePreparedStatementRequest = unpack(body)?;
        Ok(Vec::new())
    }
}
