//! Messages of Flight SQL: decoding those of clients, encoding schemas, and the errors of unsupported ones.

use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::sql::{Any, Command, ProstMessageExt};
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use prost::Message;
use tonic::Status;

/// Decodes the command in a message.
pub(super) fn decode_command(message: &[u8]) -> Result<Command, Status> {
    let any = Any::decode(message).map_err(malformed)?;
    Command::try_from(any)
        .map_err(|error| Status::invalid_argument(format!("invalid Flight SQL command: {error}")))
}

pub(super) fn no_transactions() -> Status {
    Status::unimplemented(
        "transactions are not supported: each query sees one consistent set of table versions",
    )
}

pub(super) fn no_substrait() -> Status {
    Status::unimplemented("Substrait plans are not supported; send SQL")
}

pub(super) fn malformed(error: prost::DecodeError) -> Status {
    Status::invalid_argument(format!("cannot decode the message: {error}"))
}

/// Decodes the body of an action, which is in an `Any`.
pub(super) fn unpack<M: ProstMessageExt>(body: &[u8]) -> Result<M, Status> {
    let any = Any::decode(body).map_err(malformed)?;
    match any.unpack::<M>() {
        Ok(Some(message)) => Ok(message),
        _ => Err(Status::invalid_argument(
            "the type of the body does not match the action",
        )),
    }
}

/// Encodes a schema as an encapsulated IPC message.
pub(super) fn schema_bytes(schema: &arrow::datatypes::Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage = SchemaAsIpc::new(schema, &options).try_into().map_err(
        |error: arrow::error::ArrowError| {
            Status::internal(format!("cannot encode the schema: {error}"))
        },
    )?;
    Ok(message.0)
}
