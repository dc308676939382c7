//! The actions of `DoAction`. Each has a file with a type that implements [`FlightAction`], and a line in [`ACTIONS`];
//! dispatch, rate limits, metrics and `ListActions` follow from it.

mod action;
mod administer;
mod cancel_flight_info;
mod close_prepared_statement;
mod close_session;
mod create_prepared_statement;
mod get_session_options;
mod set_session_options;

use arrow_flight::{Action, ActionType};
use bytes::Bytes;
use tonic::Status;

use super::call::Call;
use super::messages::{no_substrait, no_transactions};
use super::server::Server;
use crate::metering::RateLimitKind;
use crate::model::printable;
use action::FlightAction;
pub(super) use administer::ADMINISTER;

/// The supported actions, in the order of `ListActions`.
static ACTIONS: [&dyn FlightAction; 7] = [
    &create_prepared_statement::CreatePreparedStatement,
    &close_prepared_statement::ClosePreparedStatement,
    &cancel_flight_info::CancelFlightInfo,
    &set_session_options::SetSessionOptions,
    &get_session_options::GetSessionOptions,
    &close_session::CloseSession,
    &administer::Administer,
];

/// Returns the result of `ListActions`.
pub(super) fn list_actions() -> Vec<ActionType> {
    let describe = |action: &dyn FlightAction| ActionType {
        r#type: action.name().to_owned(),
        description: action.description().to_owned(),
    };
    ACTIONS.map(describe).to_vec()
}

impl Server {
    /// Runs an action. Returns the bodies of its results.
    pub(super) async fn run_action(
        &self,
        call: &Call,
        requested: &Action,
    ) -> Result<Vec<Bytes>, Status> {
        let name = requested.r#type.as_str();
        let Some(action) = ACTIONS.into_iter().find(|action| action.name() == name) else {
            // An unknown name may be long and contain anything, so it is not recorded.
            call.set_command("unknown");
            self.check_rate_limit(call, RateLimitKind::Action)?;
            return Err(unsupported_action(name));
        };
        call.set_command(action.name());
        call.set_action_kind(action.request_kind());
        if let Some(limit) = action.rate_limit() {
            self.check_rate_limit(call, limit)?;
        }
        action.run(self, call, &requested.body).await
    }
}

fn unsupported_action(name: &str) -> Status {
    match name {
        "BeginTransaction" | "EndTransaction" | "BeginSavepoint" | "EndSavepoint" => {
            no_transactions()
        }
        "CreatePreparedSubstraitPlan" => no_substrait(),
        other => Status::unimplemented(format!(
            "unknown action {:?}; ListActions returns the supported actions",
            printable(other, 60)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metrics::RequestKind;

    #[test]
    fn actions_on_prepared_statements_count_as_planning() {
        for action in ACTIONS {
            let expected = match action.name() {
                "CreatePreparedStatement" | "ClosePreparedStatement" => RequestKind::Plan,
                _ => RequestKind::Other,
            };
            assert_eq!(action.request_kind(), expected, "{}", action.name());
        }
    }

    #[test]
    fn actions_without_rate_limit_free_resources() {
        let unlimited = ACTIONS
            .iter()
            .filter(|action| action.rate_limit().is_none());
        let names: Vec<&str> = unlimited.map(|action| action.name()).collect();
        assert_eq!(names, ["ClosePreparedStatement", "CancelFlightInfo"]);
    }
}
