//! The session messages of Flight.proto for which arrow-flight has no types. They are sent directly, not in an `Any`.

use std::collections::HashMap;

use prost::{Enumeration, Message, Oneof};

use crate::server::middleware::ZONELESS_TIMESTAMPS;

/// Names of session options, as clients send them.
pub(in crate::server) const OPTION_CATALOG: &str = "catalog";
pub(in crate::server) const OPTION_SCHEMA: &str = "schema";
pub(in crate::server) const OPTION_TIME_ZONE: &str = "time_zone";
pub(in crate::server) const OPTION_ZONELESS_TIMESTAMPS: &str = ZONELESS_TIMESTAMPS;

/// The body of `SetSessionOptions`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct SetSessionOptionsRequest {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// The value of an option; none resets the option to its default.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct SessionOptionValue {
    #[prost(oneof = "OptionValue", tags = "1, 2, 3, 4, 5")]
    pub option_value: Option<OptionValue>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(in crate::server) enum OptionValue {
    #[prost(string, tag = "1")]
    String(String),
    #[prost(bool, tag = "2")]
    Bool(bool),
    #[prost(sfixed64, tag = "3")]
    Int64(i64),
    #[prost(double, tag = "4")]
    Double(f64),
    #[prost(message, tag = "5")]
    StringList(StringListValue),
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct StringListValue {
    #[prost(string, repeated, tag = "1")]
    pub values: Vec<String>,
}

/// The reason why an option was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(in crate::server) enum SetErrorValue {
    Unspecified = 0,
    InvalidName = 1,
    InvalidValue = 2,
    Error = 3,
}

#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct SetError {
    #[prost(enumeration = "SetErrorValue", tag = "1")]
    pub value: i32,
}

/// The result of `SetSessionOptions`: the options that were refused.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct SetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub errors: HashMap<String, SetError>,
}

/// The result of `GetSessionOptions`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct GetSessionOptionsResult {
    #[prost(map = "string, message", tag = "1")]
    pub session_options: HashMap<String, SessionOptionValue>,
}

/// The state of a session after `CloseSession`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Enumeration)]
#[repr(i32)]
pub(in crate::server) enum CloseStatus {
    Unspecified = 0,
    Closed = 1,
    Closing = 2,
    NotCloseable = 3,
}

/// The result of `CloseSession`.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct CloseSessionResult {
    #[prost(enumeration = "CloseStatus", tag = "1")]
    pub status: i32,
}
