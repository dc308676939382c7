//! The action `CreatePreparedStatement`.

use arrow_flight::sql::{
    ActionCreatePreparedStatementRequest, ActionCreatePreparedStatementResult, ProstMessageExt,
};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action::FlightAction;
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::flightsql::commands::{no_transactions, unpack};
use crate::server::middleware::Call;
use crate::server::state::server::Server;

pub(super) struct CreatePreparedStatement;

#[async_trait]
impl FlightAction for CreatePreparedStatement {
    fn name(&self) -> &'static str {
        "CreatePreparedStatement"
    }

    fn description(&self) -> &'static str {
        "Prepares a statement"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        Some(RateLimitKind::Prepare)
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Plan
    }

    async fn run(&self, server: &Server, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        let request: ActionCreatePreparedStatementRequest = unpack(body)?;
        if request.transaction_id.is_some() {
            return Err(no_transactions());
        }
        let prepared = server.prepare(call, request.query).await?;
        let result = ActionCreatePreparedStatementResult {
            prepared_statement_handle: prepared.handle.into(),
            dataset_schema: prepared.description.schema,
            parameter_schema: prepared.description.parameters,
        };
        Ok(vec![result.as_any().encode_to_vec().into()])
    }
}
