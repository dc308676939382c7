//! The action `GetSessionOptions`.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action::FlightAction;
use crate::engine::{CATALOG, PUBLIC};
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::middleware::Call;
use crate::server::rpc::session_messages::{
    GetSessionOptionsResult, OPTION_CATALOG, OPTION_SCHEMA, OPTION_TIME_ZONE,
    OPTION_ZONELESS_TIMESTAMPS, OptionValue, SessionOptionValue,
};
use crate::server::state::server::Server;

pub(super) struct GetSessionOptions;

#[async_trait]
impl FlightAction for GetSessionOptions {
    fn name(&self) -> &'static str {
        "GetSessionOptions"
    }

    fn description(&self) -> &'static str {
        "Returns the session options"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        Some(RateLimitKind::Action)
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Other
    }

    async fn run(&self, server: &Server, call: &Call, _: &[u8]) -> Result<Vec<Bytes>, Status> {
        let options = server.sessions.options(call.principal());
        let value = |text: String| SessionOptionValue {
            option_value: Some(OptionValue::String(text)),
        };
        let schema = options.schema.unwrap_or_else(|| PUBLIC.to_owned());
        let zone = options.time_zone.unwrap_or_else(|| "UTC".to_owned());
        let result = GetSessionOptionsResult {
            session_options: HashMap::from([
                (OPTION_CATALOG.to_owned(), value(CATALOG.to_owned())),
                (OPTION_SCHEMA.to_owned(), value(schema)),
                (OPTION_TIME_ZONE.to_owned(), value(zone)),
                (
                    OPTION_ZONELESS_TIMESTAMPS.to_owned(),
                    value(options.zoneless_timestamps.to_string()),
                ),
            ]),
        };
        Ok(vec![result.encode_to_vec().into()])
    }
}
