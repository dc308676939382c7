//! Tickets and handles: what a client brings back to get what it asked for. They are sealed, so any server that shares
//! the keys can answer, and none has to remember; they are no credentials: whoever brings one proves who it is anew.

use prost::Message;
use tonic::Status;
use uuid::Uuid;

use crate::auth::{KeyRing, Principal};
use crate::clock;
use crate::config::TICKET_LIFE;

/// How long a prepared statement is, in seconds.
const STATEMENT_LIFE: i64 = 24 * 3_600;
/// Longest sealed content, in bytes: SQL text and parameters.
const LONGEST: usize = 2 << 20;

/// A statement that a client holds on to.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Held {
    /// [`Kind`].
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    organisation: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    user: Vec<u8>,
    /// Seconds since the epoch.
    #[prost(int64, tag = "4")]
    expires_at: i64,
    /// As the client sent it.
    #[prost(string, tag = "5")]
    pub sql: String,
    /// Bound parameters, an Arrow IPC stream; empty for none.
    #[prost(bytes = "vec", tag = "6")]
    pub parameters: Vec<u8>,
    /// The run whose tables the statement sees; none for those that are newest when it runs.
    #[prost(uint64, optional, tag = "7")]
    pub run: Option<u64>,
    /// The query, for logs and for cancelling.
    #[prost(bytes = "vec", tag = "8")]
    query: Vec<u8>,
    /// The session's time zone and schema when the statement was planned.
    #[prost(string, optional, tag = "9")]
    pub time_zone: Option<String>,
    /// See above.
    #[prost(string, optional, tag = "10")]
    pub schema: Option<String>,
}

/// What a sealed statement is for; one cannot be used as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// To fetch an answer.
    Ticket,
    /// A prepared statement, perhaps with parameters bound.
    Statement,
}

impl Kind {
    const fn purpose(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Statement => "statement",
        }
    }
}

impl Held {
    /// A statement of `principal`.
    pub fn new(principal: &Principal, query: Uuid, sql: String) -> Self {
        Self {
            organisation: principal.organisation_id.0.as_bytes().to_vec(),
            user: principal.user_id.0.as_bytes().to_vec(),
            query: query.as_bytes().to_vec(),
            sql,
            ..Self::default()
        }
    }

    /// The query's id.
    pub fn query(&self) -> Uuid {
        Uuid::from_slice(&self.query).unwrap_or_default()
    }

    /// The same for another query.
    pub fn for_query(mut self, query: Uuid) -> Self {
        self.query = query.as_bytes().to_vec();
        self
    }

    /// Seals it, good from now for as long as its kind is.
    pub fn seal(&self, kind: Kind, keys: &KeyRing) -> Result<Vec<u8>, Status> {
        let mut held = self.clone();
        held.kind = kind as u32;
        let life = match kind {
            Kind::Ticket => TICKET_LIFE.num_seconds(),
            Kind::Statement => STATEMENT_LIFE,
        };
        held.expires_at = clock::now().timestamp() + life;
        let content = held.encode_to_vec();
        if content.len() > LONGEST {
            return Err(Status::invalid_argument(format!(
                "the statement with its parameters has {} bytes, more than {LONGEST}; send fewer parameters",
                content.len()
            )));
        }
        keys.seal(kind.purpose(), &content).map_err(|error| {
            tracing::error!("a ticket cannot be sealed: {error}");
            Status::unavailable(
                "the server cannot make tickets now; its operator finds the reason in its log",
            )
        })
    }

    /// Opens what `principal` brings back.
    pub fn open(
        kind: Kind,
        sealed: &[u8],
        keys: &KeyRing,
        principal: &Principal,
    ) -> Result<Self, Status> {
        let name = match kind {
            Kind::Ticket => "ticket",
            Kind::Statement => "prepared statement",
        };
        // One text for all that is not this caller's own: whose it is, is not told.
        let refused = || {
            Status::not_found(format!(
                "there is no such {name}; run the query again, or prepare it again"
            ))
        };
        if sealed.len() > 2 * LONGEST {
            return Err(refused());
        }
        let content = keys.unseal(kind.purpose(), sealed).map_err(|_| refused())?;
        let held = Self::decode(content.as_slice()).map_err(|_| refused())?;
        let is_theirs = held.kind == kind as u32
            && held.organisation == principal.organisation_id.0.as_bytes()
            && held.user == principal.user_id.0.as_bytes();
        if !is_theirs {
            return Err(refused());
        }
        if held.expires_at <= clock::now().timestamp() {
            return Err(Status::not_found(format!(
                "the {name} has expired; run the query again, or prepare it again"
            )));
        }
        Ok(held)
    }
}
