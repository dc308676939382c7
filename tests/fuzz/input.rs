//! One input: who sends what, and how. It is one line of JSON, so that one that was found can be kept and sent again.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

/// What is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Input {
    pub caller: Caller,
    pub way: Way,
    /// SQL, or the path of the call.
    pub text: String,
    /// Messages: of parameters that are bound, or of the call.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub messages: Vec<Bytes>,
    /// Where the sealed ticket or handle is damaged, and by which bits.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damage: Vec<(usize, u8)>,
}

/// Who sends it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Caller {
    /// A program to whose organisation everything is granted.
    Operators,
    /// The admin of that organisation.
    Admin,
    /// A program to whose organisation one asset is granted.
    Boilers,
    /// Without a credential.
    Nobody,
    /// With this in the header `authorization`.
    Header(String),
}

/// How it is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Way {
    /// SQL by GetFlightInfo, and the answer by DoGet.
    Ask,
    /// The same, by PollFlightInfo.
    Poll,
    /// SQL whose schema is asked for.
    Schema,
    /// SQL that is prepared, bound, asked and fetched.
    Prepare,
    /// SQL that is prepared, bound and fetched by its handle.
    Fetch,
    /// SQL that is to change something, by DoPut.
    Update,
    /// Messages to the path.
    Call,
    /// Messages to the path, with nothing around them: also what frames them may be wrong.
    Frames,
    /// Bytes on a connection of their own, in place of HTTP/2.
    Connection,
    /// A Parquet file in raw, which is not sent, but read as the server reads it.
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
    /// SQL without parameters.
    pub fn sql(caller: Caller, way: Way, text: impl Into<String>) -> Self {
        Self {
            caller,
            way,
            text: text.into(),
            messages: Vec::new(),
            damage: Vec::new(),
        }
    }

    /// Messages to a path.
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

/// Bytes, in Base64 where they are written down.
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
