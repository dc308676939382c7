//! Flight SQL commands: decodes them from messages; statuses for what is not supported.

use arrow_flight::sql::{Any, Command, ProstMessageExt};
use prost::Message;
use tonic::Status;

/// Decodes the command in a message.
pub(in crate::server) fn decode_command(message: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(message).map_err(malformed)?;
    Command::try_from(any)
        .map_err(|error| Status::invalid_argument(format!("invalid Flight SQL command: {error}")))
}

/// Returns the name of a command in usage records, such as `StatementQuery`.
pub(in crate::server) fn command_name(command: &Command) -> &str {
    // The client's name for it may be megabytes long, and would be stored.
    if matches!(command, Command::Unknown(_)) {
        return "unknown";
    }
    let url = command.type_url();
    let name = url.rsplit('.').next().unwrap_or_default();
    let mut kinds = ["Command", "Ticket"].iter();
    kinds
        .find_map(|kind| name.strip_prefix(kind))
        .unwrap_or(name)
}

/// Returns the status for a message that cannot be decoded.
pub(in crate::server) fn malformed(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("cannot decode the message: {error}"))
}

/// Returns the status for transactions.
pub(in crate::server) fn no_transactions() -> Status {
    Status::unimplemented(
        "transactions are not supported: each query sees one consistent set of table versions",
    )
}

/// Returns the status for Substrait plans.
pub(in crate::server) fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not supported; send SQL")
}

/// Returns the status for a command that the RPC does not support.
pub(in crate::server) fn unsupported_command() -> Status {
    Status::unimplemented("this Flight SQL command is not supported")
}

/// Decodes the body of an action, which is in an `Any`.
pub(in crate::server) fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(malformed)?;
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        _ => Err(Status::invalid_argument(
            "the type of the body does not match the action",
        )),
    }
}
