//! Decodes the batches that clients send. Nothing that a message declares is trusted: lengths, offsets and decompressed
//! sizes are checked against the received bytes, and against limits, before Arrow decodes it.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType, Schema, SchemaRef};
use arrow::ipc::MessageHeader;
use arrow::ipc::reader::{RecordBatchDecoder, read_dictionary};
use arrow_flight::FlightData;
use futures::{Stream, StreamExt};
use tokio::time::timeout;
use tonic::Status;

use super::body_check::{BodyLimits, check_body};
use crate::decoding::{DecodingError, ipc};

/// The bytes that a message counts for in [`DecodeLimits::max_bytes`] in addition to its content.
const MESSAGE_OVERHEAD_BYTES: u64 = 64;

/// Limits on the messages of a client.
#[derive(Debug, Clone, Copy)]
pub(in crate::server) struct DecodeLimits {
    /// The maximum size of all messages together, decompressed, in bytes.
    pub max_bytes: u64,
    /// The maximum number of messages of any kind.
    pub max_messages: u64,
    /// The time limit for the next message.
    pub idle_timeout: Duration,
    /// The limits of each message.
    pub body: BodyLimits,
    /// A function that checks the type of a column.
    pub check_type: fn(&DataType) -> Result<(), DecodingError>,
}

/// The reason why no more batches can be decoded.
#[derive(Debug, thiserror::Error)]
pub(in crate::server) enum DecodeError {
    /// The stream of messages failed.
    #[error("{0}")]
    Stream(Status),
    /// A message is malformed, or declares something impossible.
    #[error(transparent)]
    Invalid(#[from] DecodingError),
    /// The messages exceed [`DecodeLimits::max_bytes`].
    #[error("more than {0} bytes")]
    TooManyBytes(u64),
    /// The number of messages exceeds [`DecodeLimits::max_messages`].
    #[error("more than {0} messages")]
    TooManyMessages(u64),
    /// No message arrived in time.
    #[error("no message for {} s", .0.as_secs())]
    Idle(Duration),
}

/// Decodes the batches of a stream of messages, one by one.
pub(in crate::server) struct BatchDecoder<S> {
    messages: S,
    limits: DecodeLimits,
    state: State,
}

/// The state after the messages so far.
#[derive(Default)]
struct State {
    bytes: u64,
    count: u64,
    schema: Option<SchemaRef>,
    dictionaries: HashMap<i64, ArrayRef>,
}

impl<S: Stream<Item = Result<FlightData, Status>> + Unpin> BatchDecoder<S> {
    /// Creates a decoder of `messages`: a schema, followed by batches.
    pub fn new(messages: S, limits: DecodeLimits) -> Self {
        Self {
            messages,
            limits,
            state: State::default(),
        }
    }

    /// Returns the schema of the batches, if it has arrived.
    pub fn schema(&self) -> Option<&SchemaRef> {
        self.state.schema.as_ref()
    }

    /// Returns the next batch, if there is one.
    ///
    /// # Errors
    /// Fails if a message is not a batch, exceeds the limits, or does not arrive in time.
    pub async fn next(&mut self) -> Result<Option<RecordBatch>, DecodeError> {
        let idle_timeout = self.limits.idle_timeout;
        loop {
            let message = timeout(idle_timeout, self.messages.next()).await;
            let message = message.map_err(|_| DecodeError::Idle(idle_timeout))?;
            let Some(message) = message else {
                return Ok(None);
            };
            let message = message.map_err(DecodeError::Stream)?;
            if let Some(batch) = self.state.accept(&message, &self.limits)? {
                return Ok(Some(batch));
            }
        }
    }
}

impl State {
    /// Decodes a message. Returns the batch, if it is one.
    fn accept(
        &mut self,
        data: &FlightData,
        limits: &DecodeLimits,
    ) -> Result<Option<RecordBatch>, DecodeError> {
        self.count += 1;
        if self.count > limits.max_messages {
            return Err(DecodeError::TooManyMessages(limits.max_messages));
        }
        let header_bytes = data.data_header.len() + data.app_metadata.len();
        self.charge(MESSAGE_OVERHEAD_BYTES + header_bytes as u64, limits)?;
        if data.data_header.is_empty() {
            // A message without data, which may carry metadata.
            self.charge(data.data_body.len() as u64, limits)?;
            return Ok(None);
        }
        // Arrow panics on some bytes that no Arrow library writes.
        let decoded = catch_unwind(AssertUnwindSafe(|| self.decode(data, limits)));
        decoded.unwrap_or_else(|_| Err(DecodingError::new("malformed Arrow data").into()))
    }

    fn charge(&mut self, bytes: u64, limits: &DecodeLimits) -> Result<(), DecodeError> {
        self.bytes = self.bytes.saturating_add(bytes);
        match self.bytes > limits.max_bytes {
            true => Err(DecodeError::TooManyBytes(limits.max_bytes)),
            false => Ok(()),
        }
    }

    fn decode(
        &mut self,
        data: &FlightData,
        limits: &DecodeLimits,
    ) -> Result<Option<RecordBatch>, DecodeError> {
        let message = ipc::parse_message(&data.data_header)?;
        let version = message.version();
        let missing = || DecodingError::new("a message has no content");
        match message.header_type() {
            MessageHeader::NONE => Ok(None),
            MessageHeader::Schema => {
                if self.schema.is_some() {
                    return Err(DecodingError::new("more than one schema was sent").into());
                }
                self.charge(data.data_body.len() as u64, limits)?;
                let schema = message.header_as_schema().ok_or_else(missing)?;
                let schema = ipc::convert_schema(schema)?;
                for field in schema.fields() {
                    (limits.check_type)(field.data_type())?;
                }
                self.schema = Some(Arc::new(schema));
                Ok(None)
            }
            MessageHeader::DictionaryBatch => {
                let schema = self.known_schema()?;
                let batch = message.header_as_dictionary_batch().ok_or_else(missing)?;
                let values = batch.data().ok_or_else(missing)?;
                let kind = dictionary_type(&schema, batch.id())?;
                let body = &limits.body.for_dictionary();
                let mut size = check_body(values, &data.data_body, &[&kind], version, body)?;
                if let Some(known) = self.dictionaries.get(&batch.id())
                    && batch.isDelta()
                {
                    // A delta copies the dictionary that it extends.
                    size = size.saturating_add(known.get_array_memory_size() as u64);
                }
                self.charge(size, limits)?;
                let buffer = aligned_body(data);
                let dictionaries = &mut self.dictionaries;
                read_dictionary(&buffer, batch, &schema, dictionaries, &version)
                    .map_err(|error| DecodingError::new(error.to_string()))?;
                Ok(None)
            }
            MessageHeader::RecordBatch => {
                let schema = self.known_schema()?;
                let batch = message.header_as_record_batch().ok_or_else(missing)?;
                let kinds: Vec<_> = schema.fields().iter().map(|it| it.data_type()).collect();
                let size = check_body(batch, &data.data_body, &kinds, version, &limits.body)?;
                self.charge(size, limits)?;
                let buffer = aligned_body(data);
                let dictionaries = &self.dictionaries;
                let schema = Arc::clone(&schema);
                let batch =
                    RecordBatchDecoder::try_new(&buffer, batch, schema, dictionaries, &version)
                        .and_then(RecordBatchDecoder::read_record_batch)
                        .map_err(|error| DecodingError::new(error.to_string()))?;
                Ok(Some(batch))
            }
            other => {
                let name = other.variant_name().unwrap_or("of an unknown kind");
                Err(DecodingError::new(format!("a message is {name}, not a batch")).into())
            }
        }
    }

    fn known_schema(&self) -> Result<SchemaRef, DecodingError> {
        let schema = self.schema.as_ref().map(Arc::clone);
        schema.ok_or_else(|| DecodingError::new("a batch came before the schema"))
    }
}

/// Returns the body of a message, aligned as Arrow's arrays require.
fn aligned_body(data: &FlightData) -> Buffer {
    match data.data_body.as_ptr().addr().is_multiple_of(64) {
        true => Buffer::from(data.data_body.clone()),
        false => Buffer::from(data.data_body.as_ref()),
    }
}

/// Returns the type of the values of a dictionary.
#[expect(
    deprecated,
    reason = "Arrow has no other way to find the dictionary of a message"
)]
fn dictionary_type(schema: &Schema, id: i64) -> Result<DataType, DecodingError> {
    let fields = schema.fields_with_dict_id(id);
    match fields.first().map(|field| field.data_type()) {
        Some(DataType::Dictionary(_, values)) => Ok(values.as_ref().clone()),
        _ => Err(DecodingError::new(format!(
            "the schema has no dictionary {id}"
        ))),
    }
}

/// Accepts any type: columns that are not read may be of any.
pub(in crate::server) fn accept_any_type(_: &DataType) -> Result<(), DecodingError> {
    Ok(())
}

/// Accepts the types of parameters: those whose values cannot refer to the same bytes repeatedly.
pub(in crate::server) fn check_parameter_type(kind: &DataType) -> Result<(), DecodingError> {
    match kind {
        DataType::Dictionary(_, values) => check_plain_type(values),
        kind => check_plain_type(kind),
    }
}

fn check_plain_type(kind: &DataType) -> Result<(), DecodingError> {
    match kind {
        DataType::List(field)
        | DataType::LargeList(field)
        | DataType::FixedSizeList(field, _)
        | DataType::Map(field, _) => check_plain_type(field.data_type()),
        DataType::Struct(fields) => fields
            .iter()
            .try_for_each(|field| check_plain_type(field.data_type())),
        DataType::Dictionary(..)
        | DataType::RunEndEncoded(..)
        | DataType::ListView(_)
        | DataType::LargeListView(_)
        | DataType::Union(..) => Err(DecodingError::new(format!(
            "the type {kind} is not supported; send plain values"
        ))),
        _ => Ok(()),
    }
}
