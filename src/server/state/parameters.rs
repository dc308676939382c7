//! Parameters of prepared statements: how they are received, and how a handle stores them.

use std::time::Duration;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::FlightData;
use datafusion::common::{DataFusionError, ScalarValue};
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

/// The rows of parameters that are bound to a query. They stay columns, because a dictionary may repeat a long value in each
/// row: the values of all rows can be a thousand times as large as the message.
#[derive(Debug, Default)]
pub(in crate::server) struct BoundRows(Vec<RecordBatch>);

impl BoundRows {
    /// Decodes the rows in a handle; none if nothing was bound.
    pub fn decode(ipc: &[u8]) -> Result<Self, Status> {
        let mut rows = Self::default();
        if ipc.is_empty() {
            return Ok(rows);
        }
        for batch in StreamReader::try_new(ipc, None).map_err(|error| undecodable(&error))? {
            rows.0.push(batch.map_err(|error| undecodable(&error))?);
            if rows.count() > MAX_ROWS {
                return Err(undecodable(&format!("more than {MAX_ROWS} rows")));
            }
        }
        Ok(rows)
    }

    /// Returns the number of rows.
    pub fn count(&self) -> usize {
        let counts = self.0.iter().map(RecordBatch::num_rows);
        counts.fold(0, usize::saturating_add)
    }

    /// Returns the values of a row; none if there is no such row.
    pub fn values(&self, mut row: usize) -> Result<Vec<ScalarValue>, DataFusionError> {
        for batch in &self.0 {
            if row < batch.num_rows() {
                let columns = batch.columns().iter();
                return columns
                    .map(|column| ScalarValue::try_from_array(column, row))
                    .collect();
            }
            row -= batch.num_rows();
        }
        Ok(Vec::new())
    }
}

/// Returns the error for parameters that cannot be decoded.
pub(in crate::server) fn undecodable(error: &dyn std::fmt::Display) -> Status {
    Status::invalid_argument(format!("cannot decode the parameters: {error}"))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, DictionaryArray, Int32Array, StringArray};
    use arrow::datatypes::Int32Type;

    use super::*;

    #[test]
    fn rows_of_several_batches_are_read_one_at_a_time() {
        let long = "a".repeat(100_000);
        let column = |keys: Vec<i32>| {
            let values = Arc::new(StringArray::from(vec![long.as_str(), "b"]));
            Arc::new(DictionaryArray::<Int32Type>::new(
                Int32Array::from(keys),
                values,
            )) as ArrayRef
        };
        let batch = |keys| RecordBatch::try_from_iter([("x", column(keys))]).unwrap();
        let batches = [batch(vec![0; 990]), batch(vec![]), batch(vec![0, 1])];
        let ipc = to_ipc(&batches[0].schema(), &batches).unwrap();
        let rows = BoundRows::decode(&ipc).unwrap();
        assert_eq!(rows.count(), 992);
        // Copies of the value for each row would take 99 MB.
        let held: usize = rows.0.iter().map(RecordBatch::get_array_memory_size).sum();
        assert!(held < 1 << 20, "{held}");
        let text = |row| rows.values(row).unwrap()[0].to_string();
        assert_eq!(text(991), "b");
        assert_eq!(text(990).len(), long.len());
        assert!(rows.values(992).unwrap().is_empty());
        assert_eq!(BoundRows::decode(&[]).unwrap().count(), 0);
        let many = [batch(vec![1; 600]), batch(vec![1; 600])];
        let ipc = to_ipc(&many[0].schema(), &many).unwrap();
        assert!(BoundRows::decode(&ipc).is_err());
    }
}
