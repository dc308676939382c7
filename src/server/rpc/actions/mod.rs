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

use crate::metering::RateLimitKind;
use crate::metrics::RequestKind;
use crate::model::printable;
use crate::server::flightsql::commands::{no_substrait, no_transactions};
use crate::server::middleware::{Call, Work};
use crate::server::state::server::Server;
use action::FlightAction;

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
pub(in crate::server) fn list_actions() -> Vec<ActionType> {
    let describe = |action: &dyn FlightAction| ActionType {
        r#type: action.name().to_owned(),
        description: action.description().to_owned(),
    };
    ACTIONS.map(describe).to_vec()
}

/// Returns the action with a name.
fn find_action(name: &str) -> Option<&'static dyn FlightAction> {
    ACTIONS.into_iter().find(|action| action.name() == name)
}

/// Returns the work that an action asks for.
pub(in crate::server) fn work(requested: &Action) -> Work<'_> {
    match find_action(&requested.r#type) {
        Some(action) => Work {
            command: Some(action.name()),
            rate_limit: action.rate_limit(),
            action_kind: action.request_kind(),
        },
        // An unknown name may be long and contain anything, so it is not recorded.
        None => Work {
            command: Some("unknown"),
            rate_limit: Some(RateLimitKind::Action),
            action_kind: RequestKind::Other,
        },
    }
}

impl Server {
    /// Runs an action. Returns the bodies of its results.
    pub(in crate::server) async fn run_action(
        &self,
        call: &Call,
        requested: &Action,
    ) -> Result<Vec<Bytes>, Status> {
        match find_action(&requested.r#type) {
            Some(action) => action.run(self, call, &requested.body).await,
            None => Err(unsupported_action(&requested.r#type)),
        }
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
