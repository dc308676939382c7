//! The messages of a result, and the rows of a statement that is run for several rows of parameters.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use datafusion::common::DataFusionError;
use datafusion::execution::SendableRecordBatchStream;
use futures::stream::{self, BoxStream};
use futures::{Stream, StreamExt, TryStreamExt};
use tonic::Status;
use uuid::Uuid;

use crate::engine::{CancelToken, EvenBatches, QueryError, QuerySession, ReadyQuery};
use crate::lake::storage::scanned_bytes::ScannedBytes;
use crate::server::errors::panics::catch_panics;
use crate::server::errors::status;
use crate::server::limits::MAX_SENT_MESSAGE_BYTES;
use crate::server::state::planning::FurtherRows;
use crate::server::wire::wire_types::to_wire_batch;

/// The target size of a message of a result, in bytes. Messages usually exceed it a little; some clients accept at most 4
/// MiB.
const TARGET_MESSAGE_BYTES: usize = 1 << 20;
/// The rows of a message, if their number must not depend on the layout of the rows in files.
const EVEN_BATCH_ROWS: usize = 8_192;
/// The maximum size of a row that can be sent, in bytes; 64 KiB are reserved for the rest of the message.
const MAX_ROW_BYTES: usize = MAX_SENT_MESSAGE_BYTES - (64 << 10);

/// The context in which a statement is run again for further rows of parameters.
pub(super) struct RunAgain {
    pub session: QuerySession,
    pub further: Arc<FurtherRows>,
    pub scanned: ScannedBytes,
    pub token: CancelToken,
}

impl RunAgain {
    /// Returns the rows of `first`, and then those of the statement for each further row of parameters, in their order.
    pub fn after(
        self,
        first: SendableRecordBatchStream,
    ) -> BoxStream<'static, Result<RecordBatch, DataFusionError>> {
        let count = self.further.rows.count();
        let again = Arc::new(self);
        let further = stream::iter(1..count)
            .then(move |row| {
                let again = Arc::clone(&again);
                async move {
                    let ready = again.prepare(row).await.map_err(into_execution_error)?;
                    again.token.scope(|| ready.run())
                }
            })
            .try_flatten();
        first.chain(further).boxed()
    }

    async fn prepare(&self, row: usize) -> Result<ReadyQuery, QueryError> {
        let values = self.further.rows.values(row)?;
        let plan = self.session.plan(&self.further.query, &values).await?;
        let optimised = self.session.optimise(&plan)?;
        let (scanned, token) = (self.scanned.clone(), self.token.clone());
        self.session.prepare(&optimised, scanned, token).await
    }
}

fn into_execution_error(error: QueryError) -> DataFusionError {
    match error {
        QueryError::Sql(error) => *error,
        error => DataFusionError::External(Box::new(error)),
    }
}

/// Encodes batches for the client. With `is_even`, they are regrouped so that their sizes depend on the rows alone.
pub(super) fn encode_stream(
    batches: impl Stream<Item = Result<RecordBatch, DataFusionError>> + Send + Unpin + 'static,
    schema: SchemaRef,
    request: Uuid,
    is_even: bool,
) -> BoxStream<'static, Result<FlightData, Status>> {
    let wire_schema = Arc::clone(&schema);
    let batches = batches.map(move |batch| {
        let batch = batch.map_err(|error| {
            FlightError::Tonic(Box::new(status::from_execution_error(&error, request)))
        })?;
        to_wire_batch(&batch, &wire_schema).map_err(FlightError::from)
    });
    let batches = match is_even {
        true => EvenBatches::new(batches, Arc::clone(&schema), EVEN_BATCH_ROWS).left_stream(),
        false => batches.right_stream(),
    };
    let messages = FlightDataEncoderBuilder::new()
        .with_schema(schema)
        .with_max_flight_data_size(TARGET_MESSAGE_BYTES)
        .build(batches)
        .map(move |message| {
            let message = message.map_err(|error| from_flight_error(error, request))?;
            // The encoder does not divide a row.
            match message.data_body.len() {
                bytes if bytes > MAX_ROW_BYTES => Err(row_too_large(bytes)),
                _ => Ok(message),
            }
        });
    catch_panics(messages, request)
}

fn row_too_large(bytes: usize) -> Status {
    Status::invalid_argument(format!(
        "cannot send a row of {bytes} bytes; the limit is {MAX_ROW_BYTES}; return less data per row"
    ))
}

/// Converts the error of an encoder to a status.
fn from_flight_error(error: FlightError, request: Uuid) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        // A computed value cannot be converted to its wire type.
        FlightError::Arrow(error) => {
            status::from_execution_error(&DataFusionError::from(error), request)
        }
        error => status::hidden_error(&error, request, "cannot encode the result"),
    }
}
