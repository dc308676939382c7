//! Tickets and handles, which clients present to fetch results and to run prepared statements. They are encrypted and
//! contain all state, so any server that shares the keys can process them, and none has to store them. They are no
//! credentials: the client that presents one is authenticated again.

use prost::Message;
use tonic::Status;
use uuid::Uuid;

use crate::auth::{KeyRing, Principal};
use crate::clock;
use crate::config::TICKET_LIFETIME;

/// The lifetime of a prepared statement, in seconds.
const STATEMENT_LIFETIME_SECONDS: i64 = 24 * 3_600;
/// The maximum size of the content before encryption, in bytes: SQL text and parameters.
const MAX_CONTENT_BYTES: usize = 2 << 20;

/// The content of a ticket or a handle: a statement.
#[derive(Clone, PartialEq, Message)]
pub(in crate::server) struct StatementHandle {
    /// The [`HandleKind`], as a number.
    #[prost(uint32, tag = "1")]
    kind: u32,
    #[prost(bytes = "vec", tag = "2")]
    organisation: Vec<u8>,
    #[prost(bytes = "vec", tag = "3")]
    user: Vec<u8>,
    /// The time of expiry, in seconds since the epoch.
    #[prost(int64, tag = "4")]
    expires_at: i64,
    /// The SQL text, as the client sent it.
    #[prost(string, tag = "5")]
    pub sql: String,
    /// The bound parameters as an Arrow IPC stream; empty for none.
    #[prost(bytes = "vec", tag = "6")]
    pub parameters: Vec<u8>,
    /// The run whose tables the statement sees; none for the newest tables when it runs.
    #[prost(uint64, optional, tag = "7")]
    pub run: Option<u64>,
    /// The id of the query, for logs and for cancelling.
    #[prost(bytes = "vec", tag = "8")]
    query: Vec<u8>,
    /// The time zone of the session when the statement was planned.
    #[prost(string, optional, tag = "9")]
    pub time_zone: Option<String>,
    /// The schema of the session when the statement was planned.
    #[prost(string, optional, tag = "10")]
    pub schema: Option<String>,
    /// Whether timestamps of the result have no time zone.
    #[prost(bool, tag = "11")]
    pub zoneless_timestamps: bool,
}

/// The purpose of an encrypted statement; one cannot be used as the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::server) enum HandleKind {
    /// A ticket to fetch a result.
    Ticket,
    /// A prepared statement, possibly with bound parameters.
    Statement,
}

impl HandleKind {
    const fn purpose(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Statement => "statement",
        }
    }
}

impl StatementHandle {
    /// Creates a statement of `principal`.
    pub fn new(principal: &Principal, query: Uuid, sql: String) -> Self {
        Self {
            organisation: principal.organisation_id.0.as_bytes().to_vec(),
            user: principal.user_id.0.as_bytes().to_vec(),
            query: query.as_bytes().to_vec(),
            sql,
            ..Self::default()
        }
    }

    /// Returns the id of the query.
    pub fn query(&self) -> Uuid {
        Uuid::from_slice(&self.query).unwrap_or_default()
    }

    /// Returns the same statement for another query.
    pub fn for_query(mut self, query: Uuid) -> Self {
        self.query = query.as_bytes().to_vec();
        self
    }

    /// Encrypts the statement, valid from now for the lifetime of its kind.
    ///
    /// # Errors
    /// Fails if the content is too large, or cannot be encrypted.
    pub fn encrypt(&self, kind: HandleKind, keys: &KeyRing) -> Result<Vec<u8>, Status> {
        let mut held = self.clone();
        held.kind = kind as u32;
        let life = match kind {
            HandleKind::Ticket => TICKET_LIFETIME.num_seconds(),
            HandleKind::Statement => STATEMENT_LIFETIME_SECONDS,
        };
        held.expires_at = clock::now().timestamp() + life;
        let content = held.encode_to_vec();
        if content.len() > MAX_CONTENT_BYTES {
            return Err(Status::invalid_argument(format!(
                "the statement with its parameters has {} bytes, more than {MAX_CONTENT_BYTES}; send fewer parameters",
                content.len()
            )));
        }
        keys.encrypt(kind.purpose(), &content).map_err(|error| {
            tracing::error!("cannot encrypt a ticket: {error}");
            Status::unavailable("cannot create a ticket; the server's log has the reason")
        })
    }

    /// Decrypts a ticket or a handle that `principal` presents.
    ///
    /// # Errors
    /// Fails if it is not of this kind and this principal, or has expired.
    pub fn decrypt(
        kind: HandleKind,
        sealed: &[u8],
        keys: &KeyRing,
        principal: &Principal,
    ) -> Result<Self, Status> {
        let name = match kind {
            HandleKind::Ticket => "ticket",
            HandleKind::Statement => "prepared statement",
        };
        // The error is the same for everything that is not this caller's own, so that it does not reveal the owner.
        let refused = || {
            Status::not_found(format!(
                "there is no such {name}; run the query again, or prepare it again"
            ))
        };
        if sealed.len() > 2 * MAX_CONTENT_BYTES {
            return Err(refused());
        }
        let content = keys
            .decrypt(kind.purpose(), sealed)
            .map_err(|_| refused())?;
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
