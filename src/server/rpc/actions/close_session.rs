//! The action `CloseSession`.

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action::FlightAction;
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::middleware::Call;
use crate::server::rpc::session_messages::{CloseSessionResult, CloseStatus};
use crate::server::state::server::Server;

pub(super) struct CloseSession;

#[async_trait]
impl FlightAction for CloseSession {
    fn name(&self) -> &'static str {
        "CloseSession"
    }

    fn description(&self) -> &'static str {
        "Resets the session options"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        Some(RateLimitKind::Action)
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Other
    }

    async fn run(&self, server: &Server, call: &Call, _: &[u8]) -> Result<Vec<Bytes>, Status> {
        server.sessions.close(call.principal());
        let result = CloseSessionResult {
            status: CloseStatus::Closed as i32,
        };
        Ok(vec![result.encode_to_vec().into()])
    }
}
