//! The layer of rate limits: admits the work of a call before it begins, if the rate of the caller's organisation allows,
//! and records which command it is.
//!
//! What a call requests is in its message, and for `DoPut` in the first of them; so this layer sees messages, too. Each RPC
//! must say what a message requests ([`Rpc::work`](super::Rpc::work)).

use tonic::Status;

use super::call::Call;
use super::meter::over_limit_status;
use crate::metering::{Meter, RateLimitKind};
use crate::metrics::RequestKind;

/// The work that a call requests.
pub(in crate::server) struct Work<'a> {
    /// The name of the command, for the usage record of the call; none if the RPC has no commands.
    pub command: Option<&'a str>,
    /// The rate limit that the work counts against; none if it belongs to another call that counts, or ends work.
    pub rate_limit: Option<RateLimitKind>,
    /// The kind of the action in metrics; `Other` if it is no action.
    pub action_kind: RequestKind,
}

impl Work<'_> {
    /// The work of an RPC without commands that counts against no limit.
    pub const UNLIMITED: Self = Work {
        command: None,
        rate_limit: None,
        action_kind: RequestKind::Other,
    };
}

/// Records the work of a call, and admits it.
///
/// # Errors
/// Fails if the organisation is over its limit.
pub(super) fn admit(meter: &Meter, call: &Call, work: &Work<'_>) -> Result<(), Status> {
    if let Some(command) = work.command {
        call.set_command(command);
    }
    call.meter.set_action_kind(work.action_kind);
    match work.rate_limit {
        Some(kind) => admit_further(meter, call, kind),
        None => Ok(()),
    }
}

/// Admits work that turns out to be further work while a call is handled: a result that is fetched once more.
///
/// # Errors
/// Fails if the organisation is over its limit.
pub(in crate::server) fn admit_further(
    meter: &Meter,
    call: &Call,
    kind: RateLimitKind,
) -> Result<(), Status> {
    let organisation = call.principal().organisation_id;
    let admitted = meter.check_rate_limit(organisation, kind);
    admitted.map_err(|over| over_limit_status(&over))
}
