//! Names of actions that servers and clients share.

/// The action that runs an administration command. Its body is an [`AdminCommand`](crate::auth::AdminCommand) as JSON, and
/// its result an [`AdminOutcome`](crate::auth::AdminOutcome) as JSON.
pub(super) const ADMINISTER: &str = "plantlake.Administer";
