//! The action `SetSessionOptions`.

use std::collections::HashMap;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action::FlightAction;
use crate::engine::{CATALOG, SessionOption};
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::flightsql::commands::malformed;
use crate::server::middleware::Call;
use crate::server::rpc::session_messages::{
    OPTION_CATALOG, OPTION_SCHEMA, OPTION_TIME_ZONE, OPTION_ZONELESS_TIMESTAMPS, OptionValue,
    SetError, SetErrorValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use crate::server::state::server::Server;

/// The maximum number of options that one call sets.
const MAX_OPTIONS: usize = 16;
/// The maximum length of an option's name, and of its value, in bytes.
const MAX_OPTION_BYTES: usize = 256;

pub(super) struct SetSessionOptions;

#[async_trait]
impl FlightAction for SetSessionOptions {
    fn name(&self) -> &'static str {
        "SetSessionOptions"
    }

    fn description(&self) -> &'static str {
        "Sets catalog, schema, time_zone or zoneless_timestamps for the calls of this credential"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        Some(RateLimitKind::Action)
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Other
    }

    async fn run(&self, server: &Server, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        let request = SetSessionOptionsRequest::decode(body).map_err(malformed)?;
        let result = set_options(server, call, request)?;
        Ok(vec![result.encode_to_vec().into()])
    }
}

fn set_options(
    server: &Server,
    call: &Call,
    request: SetSessionOptionsRequest,
) -> Result<SetSessionOptionsResult, Status> {
    let options = &request.session_options;
    if options.len() > MAX_OPTIONS || options.keys().any(|name| name.len() > MAX_OPTION_BYTES) {
        return Err(Status::invalid_argument(format!(
            "a call may set at most {MAX_OPTIONS} options, with names of at most {MAX_OPTION_BYTES} bytes"
        )));
    }
    let mut errors = HashMap::new();
    for (name, value) in request.session_options {
        if let Err(error) = set_option(server, call, &name, value.option_value) {
            let value = error as i32;
            errors.insert(name, SetError { value });
        }
    }
    Ok(SetSessionOptionsResult { errors })
}

fn set_option(
    server: &Server,
    call: &Call,
    name: &str,
    value: Option<OptionValue>,
) -> Result<(), SetErrorValue> {
    let value = match value {
        Some(OptionValue::String(value)) if value.len() <= MAX_OPTION_BYTES => Some(value),
        Some(OptionValue::Bool(value)) if name == OPTION_ZONELESS_TIMESTAMPS => {
            Some(value.to_string())
        }
        None => None,
        Some(_) => return Err(SetErrorValue::InvalidValue),
    };
    let option = match (name, &value) {
        (OPTION_CATALOG, Some(value)) if value != CATALOG => {
            return Err(SetErrorValue::InvalidValue);
        }
        (OPTION_CATALOG, _) => return Ok(()),
        (OPTION_SCHEMA | OPTION_TIME_ZONE | OPTION_ZONELESS_TIMESTAMPS, None) => {
            server.sessions.set(call.principal(), |options| match name {
                OPTION_SCHEMA => options.schema = None,
                OPTION_ZONELESS_TIMESTAMPS => options.zoneless_timestamps = false,
                _ => options.time_zone = None,
            });
            return Ok(());
        }
        (OPTION_ZONELESS_TIMESTAMPS, Some(value)) => {
            SessionOption::parse(name, value).ok_or(SetErrorValue::InvalidValue)?
        }
        (_, value) => SessionOption::parse(name, value.as_deref().unwrap_or_default())
            .ok_or(SetErrorValue::InvalidName)?,
    };
    server
        .check_option(&option)
        .map_err(|_| SetErrorValue::InvalidValue)?;
    server
        .sessions
        .set(call.principal(), |options| options.set(option));
    Ok(())
}
