//! Parameters of prepared statements: how they are received, and how a handle stores them.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::FlightData;
use datafusion::common::ScalarValue;
use futures::Stream;
use tokio::time::timeout;
use tonic::Status;

use crate::server::wire::batch_decoder::{
    BatchDecoder, DecodeError, DecodeLimits, check_parameter_type,
};
use crate::server::wire::body_check::BodyLimits;

/// The maximum number of batches of parameters that one call may send.
const MAX_BATCHES: usize = 64;
/// The maximum number of messages of parameters that one call may send.
const MAX_MESSAGES: u64 = 4 * MAX_BATCHES as u64;
/// The maximum number of rows of parameters that one call may send.
const MAX_ROWS: usize = 1_000;
/// The maximum size of parameters, in bytes: the amount that a handle can store.
const MAX_BYTES: u64 = 2 << 20;

/// Returns the parameters that a call binds. All of them must arrive within `time_limit`.
pub(in crate::server) async fn receive_parameters(
    messages: impl Stream<Item = Result<FlightData, Status>> + Unpin + Send,
    time_limit: Duration,
) -> Result<Vec<RecordBatch>, Status> {
    let limits = DecodeLimits {
        max_bytes: MAX_BYTES,
        max_messages: MAX_MESSAGES,
        idle_timeout: time_limit,
        body: BodyLimits {
            max_bytes: MAX_BYTES,
            max_rows: MAX_ROWS as u64,
            min_row_bytes: 0,
            may_be_compressed: false,
        },
        check_type: check_parameter_type,
    };
    let mut batches = BatchDecoder::new(messages, limits);
    let all = async {
        let (mut bound, mut rows) = (Vec::new(), 0_usize);
        while let Some(batch) = batches.next().await.map_err(from_decode_error)? {
            if bound.len() == MAX_BATCHES {
                return Err(Status::invalid_argument(format!(
                    "too many batches of parameters; the limit is {MAX_BATCHES}"
                )));
            }
            rows = rows.saturating_add(batch.num_rows());
            if rows > MAX_ROWS {
                return Err(Status::invalid_argument(format!(
                    "cannot bind {rows} rows of parameters; the limit is {MAX_ROWS}"
                )));
            }
            if batch.num_rows() > 0 {
                bound.push(batch);
            }
        }
        Ok(bound)
    };
    let all = timeout(time_limit, all).await;
    all.unwrap_or_else(|_| Err(from_decode_error(DecodeError::Idle(time_limit))))
}

fn from_decode_error(error: DecodeError) -> Status {
    match error {
        DecodeError::Stream(status) => status,
        DecodeError::Idle(time) => Status::deadline_exceeded(format!(
            "the parameters did not arrive within {} s; send them again",
            time.as_secs()
        )),
        DecodeError::TooManyBytes(most) => Status::invalid_argument(format!(
            "the parameters have more than {most} bytes; send fewer parameters"
        )),
        error @ (DecodeError::TooManyMessages(_) | DecodeError::Invalid(_)) => {
            Status::invalid_argument(format!("cannot decode the parameters: {error}"))
        }
    }
}

/// Encodes the parameters as an Arrow IPC stream, which a handle stores.
pub(in crate::server) fn to_ipc(schema: &Schema, rows: &[RecordBatch]) -> Result<Vec<u8>, Status> {
    let write = || {
        let mut writer = StreamWriter::try_new(Vec::new(), schema)?;
        for batch in rows {
            writer.write(batch)?;
        }
        writer.into_inner()
    };
    write()
        .map_err(|error| Status::invalid_argument(format!("cannot encode the parameters: {error}")))
}

/// Returns the values of each row of parameters in a handle; none if nothing was bound.
pub(in crate::server) fn bound_rows(ipc: &[u8]) -> Result<Vec<Vec<ScalarValue>>, Status> {
    if ipc.is_empty() {
        return Ok(Vec::new());
    }
    let wrong = |error: &dyn std::fmt::Display| {
        Status::invalid_argument(format!("cannot decode the parameters: {error}"))
    };
    let mut rows = Vec::new();
    for batch in StreamReader::try_new(ipc, None).map_err(|error| wrong(&error))? {
        let batch = batch.map_err(|error| wrong(&error))?;
        if rows.len().saturating_add(batch.num_rows()) > MAX_ROWS {
            return Err(wrong(&format!("more than {MAX_ROWS} rows")));
        }
        for row in 0..batch.num_rows() {
            let columns = batch.columns().iter();
            let values = columns.map(|column| ScalarValue::try_from_array(column, row));
            let values = values.collect::<Result<_, _>>();
            rows.push(values.map_err(|error| wrong(&error))?);
        }
    }
    Ok(rows)
}
