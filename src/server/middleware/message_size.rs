//! The sizes of messages of responses, as they are counted and billed.

use arrow::ipc::root_as_message;
use arrow_flight::{
    ActionType, FlightData, FlightInfo, HandshakeResponse, PollInfo, PutResult, SchemaResult,
};
use prost::Message;

/// A message of a response.
pub(in crate::server) trait Metered: Message {
    /// Returns the number of table rows in the message, and the bytes that are billed for it.
    fn size(&self) -> (u64, u64) {
        (0, self.encoded_len() as u64)
    }
}

impl Metered for FlightData {
    /// The padding of buffers to multiples of 64 bytes, and the bitmaps of nulls, which batches without nulls do not
    /// have, are not billed: both depend on the order of rows, and therefore on the order in which the partitions of a
    /// query became ready.
    fn size(&self) -> (u64, u64) {
        let message = root_as_message(&self.data_header).ok();
        let Some(batch) = message.and_then(|message| message.header_as_record_batch()) else {
            return (0, self.encoded_len() as u64);
        };
        let buffers = batch.buffers().into_iter().flatten();
        let body: u64 = buffers.map(|buffer| buffer.length().unsigned_abs()).sum();
        let nodes = batch.nodes().into_iter().flatten();
        let nodes = nodes.filter(|node| node.null_count() != 0);
        let bitmaps: u64 = nodes
            .map(|node| node.length().unsigned_abs().div_ceil(8))
            .sum();
        let rest = self.data_header.len() + self.app_metadata.len();
        (
            batch.length().unsigned_abs(),
            body.saturating_sub(bitmaps) + rest as u64,
        )
    }
}

impl Metered for ActionType {}
impl Metered for FlightInfo {}
impl Metered for HandshakeResponse {}
impl Metered for PollInfo {}
impl Metered for PutResult {}
impl Metered for SchemaResult {}
impl Metered for arrow_flight::Result {}
