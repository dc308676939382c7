//! The action that runs an administration command. Its body is an [`AdminCommand`] as JSON, and its result an
//! [`AdminOutcome`](crate::auth::AdminOutcome) as JSON.

use async_trait::async_trait;
use bytes::Bytes;
use tonic::Status;

use super::action::FlightAction;
use crate::auth::{AdminCommand, Administrator, change_own_password};
use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::server::action_names::ADMINISTER;
use crate::server::errors::status;
use crate::server::middleware::Call;
use crate::server::state::server::Server;

/// The maximum size of an order, in bytes.
const MAX_ORDER_BYTES: usize = 64 << 10;

pub(super) struct Administer;

#[async_trait]
impl FlightAction for Administer {
    fn name(&self) -> &'static str {
        ADMINISTER
    }

    fn description(&self) -> &'static str {
        "Administers users and keys of the own organisation, for admins; the body is an order as JSON"
    }

    fn rate_limit(&self) -> Option<RateLimitKind> {
        Some(RateLimitKind::Action)
    }

    fn request_kind(&self) -> RequestKind {
        RequestKind::Other
    }

    async fn run(&self, server: &Server, call: &Call, body: &[u8]) -> Result<Vec<Bytes>, Status> {
        if body.len() > MAX_ORDER_BYTES {
            return Err(Status::invalid_argument(format!(
                "the order is {} bytes long; the limit is {MAX_ORDER_BYTES}",
                body.len()
            )));
        }
        let (store, passwords) = (server.store.clone(), server.auth.passwords().clone());
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
                change_own_password(
                    &server.auth,
                    &server.store,
                    principal,
                    address,
                    &current,
                    &new,
                )
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
}
