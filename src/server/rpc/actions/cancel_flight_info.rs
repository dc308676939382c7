//! The action `CancelFlightInfo`.

use arrow_flight::sql::{Any, TicketStatementQuery};
use arrow_flight::{CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo};
use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action::FlightAction;
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::flightsql::commands::malformed;
use crate::server::middleware::Call;
use crate::server::state::server::Server;
use crate::server::state::ticket::HandleKind;

pub(super) struct CancelFlightInfo;

#[async_trait]
impl FlightAction for CancelFlightInfo {
    fn name(&self) -> &'static str {
        "CancelFlightInfo"
    }

    fn description(&self) -> &'static str {
        "Cancels a query that is running on this server"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        None
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Other
    }

    async fn run(&self, server: &Server, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        let request = CancelFlightInfoRequest::decode(body).map_err(malformed)?;
        let result = CancelFlightInfoResult {
            status: cancel(server, call, request.info.as_ref()) as i32,
        };
        Ok(vec![result.encode_to_vec().into()])
    }
}

/// Cancels the query whose result the tickets are for.
fn cancel(server: &Server, call: &Call, info: Option<&FlightInfo>) -> CancelStatus {
    let endpoints = info
        .map(|info| info.endpoint.as_slice())
        .unwrap_or_default();
    let mut cancelled = false;
    for endpoint in endpoints {
        let sealed = endpoint
            .ticket
            .as_ref()
            .and_then(|ticket| Any::decode(ticket.ticket.as_ref()).ok())
            .and_then(|any| any.unpack::<TicketStatementQuery>().ok().flatten());
        if let Some(sealed) = sealed
            && let Ok(held) =
                server.decrypt_handle(call, HandleKind::Ticket, &sealed.statement_handle)
        {
            cancelled |= server.running.cancel(held.query());
        }
    }
    if cancelled {
        CancelStatus::Cancelled
    } else {
        // The query has ended, or runs on another server.
        CancelStatus::NotCancellable
    }
}
