//! Types on the wire, and the batches that clients send: checked, then decoded.

pub(super) mod batch_decoder;
pub(super) mod body_check;
pub(super) mod column_metadata;
pub(super) mod wire_types;
