//! Wire types: data is sent in plain types that every driver knows, and all calls about a result announce the same schema.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::{IpcMessage, SchemaAsIpc};
use bytes::Bytes;
use tonic::Status;

use super::column_metadata::{TableName, result_column, table_column};

/// The maximum nesting depth of a type. Readers of Arrow IPC messages accept about thirty levels.
const MAX_TYPE_DEPTH: usize = 20;

/// The maximum number of columns of a result that are sent with metadata, which takes about 100 bytes for each.
const MAX_DESCRIBED_COLUMNS: usize = 1_000;

/// Returns the schema of a result. Every column is nullable: the nullability in a plan changes while it is optimised, and
/// drivers refuse a result whose schema differs from the announced one. With `zoneless`, timestamps have no time zone;
/// their values are in UTC.
///
/// # Errors
/// Fails if the type of a column is nested more than [`MAX_TYPE_DEPTH`] levels deep.
pub(in crate::server) fn result_schema(
    schema: &Schema,
    zoneless: bool,
) -> Result<SchemaRef, Status> {
    let is_described = schema.fields().len() <= MAX_DESCRIBED_COLUMNS;
    let fields = schema.fields().iter();
    let fields = fields.map(|field| {
        let kind = wire_type(field.data_type(), zoneless);
        if nesting_depth(&kind) > MAX_TYPE_DEPTH {
            return Err(Status::invalid_argument(format!(
                "cannot send the column {:?}: its lists or structs are nested more than {MAX_TYPE_DEPTH} levels deep",
                field.name()
            )));
        }
        let column = Field::new(field.name(), kind, true);
        Ok(match is_described {
            true => result_column(column),
            false => column,
        })
    });
    Ok(Arc::new(Schema::new(
        fields.collect::<Result<Vec<_>, _>>()?,
    )))
}

/// Returns the nesting depth of a type.
fn nesting_depth(kind: &DataType) -> usize {
    let inside = match kind {
        DataType::List(field) | DataType::FixedSizeList(field, _) | DataType::Map(field, _) => {
            nesting_depth(field.data_type())
        }
        DataType::Struct(fields) => {
            let depths = fields.iter().map(|field| nesting_depth(field.data_type()));
            depths.max().unwrap_or(0)
        }
        _ => 0,
    };
    inside + 1
}

/// Returns the schema of a table as it is described to clients; `zoneless` as in [`result_schema`].
pub(in crate::server) fn table_schema(
    schema: &Schema,
    table: &TableName<'_>,
    zoneless: bool,
) -> Schema {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| {
        let kind = wire_type(field.data_type(), zoneless);
        table_column(Field::new(field.name(), kind, field.is_nullable()), table)
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Returns the schema of parameters as it is described to clients.
pub(in crate::server) fn parameter_schema(schema: &Schema) -> Schema {
    let fields = schema.fields().iter();
    let fields = fields.map(|field| {
        let kind = wire_type(field.data_type(), false);
        Field::new(field.name(), kind, field.is_nullable())
    });
    Schema::new(fields.collect::<Vec<_>>())
}

/// Encodes a schema as an encapsulated IPC message.
pub(in crate::server) fn schema_bytes(schema: &Schema) -> Result<Bytes, Status> {
    let options = IpcWriteOptions::default();
    let message: IpcMessage =
        SchemaAsIpc::new(schema, &options)
            .try_into()
            .map_err(|error: ArrowError| {
                Status::internal(format!("cannot encode the schema: {error}"))
            })?;
    Ok(message.0)
}

/// Casts `batch` to a schema that [`result_schema`] returned.
pub(in crate::server) fn to_wire_batch(
    batch: &RecordBatch,
    schema: &SchemaRef,
) -> Result<RecordBatch, ArrowError> {
    let columns = batch.columns().iter().zip(schema.fields());
    let columns = columns.map(|(column, field)| {
        if column.data_type() == field.data_type() {
            Ok(Arc::clone(column))
        } else {
            cast(column, field.data_type())
        }
    });
    let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
    RecordBatch::try_new_with_options(
        Arc::clone(schema),
        columns.collect::<Result<_, _>>()?,
        &options,
    )
}

/// Returns the type that is sent to clients: no views, which older drivers do not know, no encodings, and no time zones
/// with `zoneless`.
fn wire_type(kind: &DataType, zoneless: bool) -> DataType {
    let inside = |field: &FieldRef| {
        let field = field.as_ref().clone();
        let kind = wire_type(field.data_type(), zoneless);
        Arc::new(field.with_data_type(kind))
    };
    match kind {
        DataType::Utf8View => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        DataType::Dictionary(_, value) => wire_type(value, zoneless),
        DataType::RunEndEncoded(_, value) => wire_type(value.data_type(), zoneless),
        // The cast keeps the instant: the values of a column without a zone are in UTC, whatever its zone was.
        DataType::Timestamp(unit, Some(_)) if zoneless => DataType::Timestamp(*unit, None),
        // The encoder of arrow-flight sends the type of a large list as a list, whatever schema was announced. No row needs
        // a large list.
        DataType::List(field)
        | DataType::ListView(field)
        | DataType::LargeList(field)
        | DataType::LargeListView(field) => DataType::List(inside(field)),
        DataType::FixedSizeList(field, size) => DataType::FixedSizeList(inside(field), *size),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(inside).collect()),
        DataType::Map(field, sorted) => DataType::Map(inside(field), *sorted),
        other => other.clone(),
    }
}
