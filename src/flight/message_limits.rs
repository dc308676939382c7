//! The maximum sizes of messages.

/// The maximum size of a sent message, in bytes: the limit of ADBC.
pub(super) const MAX_SENT_MESSAGE_BYTES: usize = 16 << 20;
/// The maximum size of a DoPut message, in bytes: enough for a million readings, which some clients send in one message.
pub(super) const MAX_PUT_MESSAGE_BYTES: usize = 64 << 20;
/// The maximum size of any other received message, in bytes: twice the size of the longest statement handle.
pub(super) const MAX_MESSAGE_BYTES: usize = 4 << 20;
