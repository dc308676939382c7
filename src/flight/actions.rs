//! Actions: prepared statements, cancellation, session options, administration.

use std::collections::HashMap;

use arrow_flight::sql::{
    ActionClosePreparedStatementRequest, ActionCreatePreparedStatementRequest,
    ActionCreatePreparedStatementResult, Any, ProstMessageExt, TicketStatementQuery,
};
use arrow_flight::{
    Action, ActionType, CancelFlightInfoRequest, CancelFlightInfoResult, CancelStatus, FlightInfo,
};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

use super::action_names::ADMINISTER;
use super::commands::{malformed, no_substrait, no_transactions};
use super::middleware::{Call, Work};
use super::server::Server;
use super::session_messages::{
    CloseSessionResult, CloseStatus, GetSessionOptionsResult, OptionValue, SessionOptionValue,
    SetError, SetErrorValue, SetSessionOptionsRequest, SetSessionOptionsResult,
};
use super::status;
use super::ticket::HandleKind;
use crate::auth::{AdminCommand, Administrator, change_own_password};
use crate::engine::{CATALOG, PUBLIC, SessionOption};
use crate::metering::RateLimitKind;
use crate::model::printable;

/// The names and descriptions of the supported actions.
const ACTIONS: [(&str, &str); 7] = [
    ("CreatePreparedStatement", "Prepares a statement"),
    ("ClosePreparedStatement", "Closes a prepared statement"),
    (
        "CancelFlightInfo",
        "Cancels a query that is running on this server",
    ),
    (
        "SetSessionOptions",
        "Sets catalog, schema or time_zone for the calls of this credential",
    ),
    ("GetSessionOptions", "Returns the session options"),
    ("CloseSession", "Resets the session options"),
    (
        ADMINISTER,
        "Administers users and keys of the own organisation, for admins; the body is an order as JSON",
    ),
];

/// The maximum size of an order, in bytes.
const MAX_ORDER_BYTES: usize = 64 << 10;
/// The maximum number of options that one call sets.
const MAX_OPTIONS: usize = 16;
/// The maximum length of an option's name, and of its value, in bytes.
const MAX_OPTION_BYTES: usize = 256;

/// Names of session options, as clients send them.
const OPTION_CATALOG: &str = "catalog";
const OPTION_SCHEMA: &str = "schema";
const OPTION_TIME_ZONE: &str = "time_zone";

/// Returns the result of `ListActions`.
pub(super) fn list_actions() -> Vec<ActionType> {
    let of = |(name, about): (&str, &str)| ActionType {
        r#type: name.to_owned(),
        description: about.to_owned(),
    };
    ACTIONS.map(of).to_vec()
}

/// Returns the work that an action asks for.
pub(super) fn work(action: &Action) -> Work<'_> {
    // An unknown name may be long and contain anything, so it is not recorded.
    let known = ACTIONS.iter().find(|(name, _)| *name == action.r#type);
    Work {
        command: Some(known.map_or("unknown", |(name, _)| name)),
        rate_limit: match action.r#type.as_str() {
            "CreatePreparedStatement" => Some(RateLimitKind::Prepare),
            // These free resources.
            "ClosePreparedStatement" | "CancelFlightInfo" => None,
            _ => Some(RateLimitKind::Action),
        },
    }
}

impl Server {
    /// Runs an action. Returns the bodies of its results.
    pub(super) async fn run_action(
        &self,
        call: &Call,
        action: &Action,
    ) -> Result<Vec<Bytes>, Status> {
        let body = &action.body;
        match action.r#type.as_str() {
            "CreatePreparedStatement" => {
                let request: ActionCreatePreparedStatementRequest = unpack(body)?;
                if request.transaction_id.is_some() {
                    return Err(no_transactions());
                }
                let prepared = self.prepare(call, request.query).await?;
                let result = ActionCreatePreparedStatementResult {
                    prepared_statement_handle: prepared.handle.into(),
                    dataset_schema: prepared.description.schema,
                    parameter_schema: prepared.description.parameters,
                };
                Ok(vec![result.as_any().encode_to_vec().into()])
            }
            // The server keeps no state of a prepared statement, so there is nothing to release. An unknown handle counts
            // as closed.
            "ClosePreparedStatement" => {
                let _: ActionClosePreparedStatementRequest = unpack(body)?;
                Ok(Vec::new())
            }
            "CancelFlightInfo" => {
                let request = CancelFlightInfoRequest::decode(body.as_ref()).map_err(malformed)?;
                let status = self.cancel(call, request.info.as_ref());
                let result = CancelFlightInfoResult {
                    status: status as i32,
                };
                Ok(vec![result.encode_to_vec().into()])
            }
            "SetSessionOptions" => {
                let request = SetSessionOptionsRequest::decode(body.as_ref()).map_err(malformed)?;
                let result = self.set_options(call, request)?;
                Ok(vec![result.encode_to_vec().into()])
            }
            "GetSessionOptions" => Ok(vec![self.get_options(call).encode_to_vec().into()]),
            "CloseSession" => {
                self.sessions.close(call.principal());
                let result = CloseSessionResult {
                    status: CloseStatus::Closed as i32,
                };
                Ok(vec![result.encode_to_vec().into()])
            }
            ADMINISTER => self.administer(call, body).await,
            "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
                Err(no_transactions())
            }
            "CreatePreparedSubstraitPlan" => Err(no_substrait()),
            other => Err(Status::unimplemented(format!(
                "unknown action {:?}; ListActions returns the supported actions",
                printable(other, 60)
            ))),
        }
    }

    async fn administer(&self, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        if body.len() > MAX_ORDER_BYTES {
            return Err(Status::invalid_argument(format!(
                "the order is {} bytes long; the limit is {MAX_ORDER_BYTES}",
                body.len()
            )));
        }
        let (store, passwords) = (self.store.clone(), self.auth.passwords().clone());
        let administrator = Administrator::for_principal(call.principal(), store, passwords);
        // The error of serde may quote a password, so it is not passed on.
        let order = serde_json::from_slice::<AdminCommand>(body)
            .map_err(|_| Status::invalid_argument("the order is not JSON of the expected form"));
        let is_for_everybody = order.as_ref().is_ok_and(AdminCommand::is_self_service);
        if administrator.is_none() && !is_for_everybody {
            return Err(Status::permission_denied(
                "only an admin of the organisation may do this",
            ));
        }
        let order = order?;
        tracing::info!(request = %call.id, order = order.name(), "administration order");
        let outcome = match (order, administrator) {
            (AdminCommand::ChangeOwnPassword { current, new }, _) => {
                let (principal, address) = (call.principal(), call.address);
                change_own_password(&self.auth, &self.store, principal, address, &current, &new)
                    .await
            }
            (order, Some(administrator)) => administrator.run(order).await,
            (_, None) => return Err(Status::internal("the order has no administrator")),
        };
        let outcome = outcome.map_err(|error| status::from_auth_error(&error, call.id))?;
        let body = serde_json::to_vec(&outcome);
        let body = body
            .map_err(|error| status::hidden_error(&error, call.id, "cannot encode the result"))?;
        Ok(vec![body.into()])
    }

    /// Cancels the query whose result the tickets are for.
    fn cancel(&self, call: &Call, info: Option<&FlightInfo>) -> CancelStatus {
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
                    self.decrypt_handle(call, HandleKind::Ticket, &sealed.statement_handle)
            {
                cancelled |= self.running.cancel(held.query());
            }
        }
        if cancelled {
            CancelStatus::Cancelled
        } else {
            // The query has ended, or runs on another server.
            CancelStatus::NotCancellable
        }
    }

    fn set_options(
        &self,
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
            if let Err(error) = self.set_option(call, &name, value.option_value) {
                let value = error as i32;
                errors.insert(name, SetError { value });
            }
        }
        Ok(SetSessionOptionsResult { errors })
    }

    fn set_option(
        &self,
        call: &Call,
        name: &str,
        value: Option<OptionValue>,
    ) -> Result<(), SetErrorValue> {
        let value = match value {
            Some(OptionValue::String(value)) if value.len() <= MAX_OPTION_BYTES => Some(value),
            None => None,
            Some(_) => return Err(SetErrorValue::InvalidValue),
        };
        let option = match (name, &value) {
            (OPTION_CATALOG, Some(value)) if value != CATALOG => {
                return Err(SetErrorValue::InvalidValue);
            }
            (OPTION_CATALOG, _) => return Ok(()),
            (OPTION_SCHEMA | OPTION_TIME_ZONE, None) => {
                self.sessions.set(call.principal(), |options| match name {
                    OPTION_SCHEMA => options.schema = None,
                    _ => options.time_zone = None,
                });
                return Ok(());
            }
            (_, value) => SessionOption::parse(name, value.as_deref().unwrap_or_default())
                .ok_or(SetErrorValue::InvalidName)?,
        };
        self.check_option(&option)
            .map_err(|_| SetErrorValue::InvalidValue)?;
        self.sessions
            .set(call.principal(), |options| options.set(option));
        Ok(())
    }

    fn get_options(&self, call: &Call) -> GetSessionOptionsResult {
        let options = self.sessions.options(call.principal());
        let value = |text: String| SessionOptionValue {
            option_value: Some(OptionValue::String(text)),
        };
        let schema = options.schema.unwrap_or_else(|| PUBLIC.to_owned());
        let zone = options.time_zone.unwrap_or_else(|| "UTC".to_owned());
        GetSessionOptionsResult {
            session_options: HashMap::from([
                (OPTION_CATALOG.to_owned(), value(CATALOG.to_owned())),
                (OPTION_SCHEMA.to_owned(), value(schema)),
                (OPTION_TIME_ZONE.to_owned(), value(zone)),
            ]),
        }
    }
}

fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(malformed)?;
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        _ => Err(Status::invalid_argument(
            "the type of the body does not match the action",
        )),
    }
}
