//! One input: the caller, the kind of call and the content. It is serialised as one line of JSON, so that an input with a
//! finding can be saved and replayed.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// One input of the fuzzer.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    pub caller: Caller,
    pub way: Way,
    /// The SQL statement, or the path of the call.
    pub text: String,
    /// The messages of bound parameters, or of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Bytes>,
    /// Damage of the encrypted ticket or handle: byte offsets, modulo its length, and the bits that are flipped there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<(usize, u8)>,
}

/// The caller of an input.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Caller {
    /// A program of an organisation with grants for everything.
    Operators,
    /// The admin of that organisation.
    Admin,
    /// A program of an organisation with a grant for one asset.
    Boilers,
    /// A caller without credentials.
    Nobody,
    /// A caller with this value of the header `authorization`.
    Header(String),
}

/// The kind of call by which an input is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// SQL by GetFlightInfo, then DoGet.
    Ask,
    /// SQL by PollFlightInfo, then DoGet.
    Poll,
    /// SQL by GetSchema.
    Schema,
    /// SQL as a prepared statement: created, bound, then GetFlightInfo and DoGet.
    Prepare,
    /// SQL as a prepared statement: created, bound, then DoGet with the handle.
    Fetch,
    /// SQL as an update, by DoPut.
    Update,
    /// Messages that are framed and sent to the path.
    Call,
    /// Bytes that are sent to the path as they are, so that the gRPC frames may be invalid, too.
    Frames,
    /// Bytes on a separate TCP connection, instead of HTTP/2.
    Connection,
    /// A raw Parquet file, which is not sent but read in this process as the server reads it.
    File,
}

impl Way {
    /// Whether the text is SQL.
    pub fn is_sql(self) -> bool {
        !matches!(
            self,
            Self::Call | Self::Frames | Self::Connection | Self::File
        )
    }
}

impl Input {
    /// Returns an input of SQL without parameters.
    pub fn sql(caller: Caller, way: Way, text: impl Into<String>) -> Self {
        Self {
            caller,
            way,
            text: text.into(),
            messages: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// Returns an input of messages to a path.
    pub fn call(caller: Caller, path: &str, messages: Vec<Vec<u8>>) -> Self {
        Self {
            messages: messages.into_iter().map(Bytes).collect(),
            ..Self::sql(caller, Way::Call, path)
        }
    }
}

impl fmt::Display for Input {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&serde_json::to_string(self).map_err(|_| fmt::Error)?)
    }
}

/// Bytes, serialised as Base64.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Bytes(pub Vec<u8>);

impl From<Bytes> for String {
    fn from(bytes: Bytes) -> Self {
        STANDARD.encode(bytes.0)
    }
}

impl TryFrom<String> for Bytes {
    type Error = base64::DecodeError;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        STANDARD.decode(text).map(Self)
    }
}
