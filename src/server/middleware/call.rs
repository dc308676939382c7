//! One call of a client: its id, the client's address, and the principal that makes it.

use std::net::IpAddr;
use std::panic::AssertUnwindSafe;

use futures::FutureExt;
use tonic::{Code, Status};
use tracing::Instrument;
use uuid::Uuid;

use super::authentication::AuthenticatedCall;
use super::meter::CallMeter;
use crate::auth::{Access, Principal};
use crate::clock::Stopwatch;
use crate::memory::{self, QueryMemory};
use crate::metering::OpenRequest;
use crate::server::errors::status;

/// A call that is authenticated and has a usage record. Only the layers make one, so whoever has one went through them.
pub(in crate::server) struct Call {
    /// The id of the call in logs, response headers and errors.
    pub id: Uuid,
    /// The access of the principal that makes the call.
    pub access: Access,
    /// The address of the client.
    pub address: Option<IpAddr>,
    /// The usage record of the call.
    pub meter: CallMeter,
    /// The name of the RPC.
    rpc: &'static str,
    /// Started when the headers of the call arrived.
    stopwatch: Stopwatch,
    /// The credential that a handshake returns.
    issued_credential: Option<String>,
    /// The header that sets the session option of the same name for this call.
    zoneless_timestamps: Option<String>,
}

impl Call {
    /// Creates the call whose usage record is `record`.
    pub(super) fn new(
        call: AuthenticatedCall,
        record: OpenRequest,
        zoneless_timestamps: Option<String>,
    ) -> Self {
        let rpc = call.method.name;
        Self {
            id: call.id,
            access: call.access,
            address: call.address,
            meter: CallMeter::new(record, rpc),
            rpc,
            stopwatch: call.stopwatch,
            issued_credential: call.issued_credential,
            zoneless_timestamps,
        }
    }

    /// Returns the value of the header `zoneless_timestamps`.
    pub fn zoneless_timestamps(&self) -> Option<&str> {
        self.zoneless_timestamps.as_deref()
    }

    /// Returns the principal that makes the call.
    pub fn principal(&self) -> &Principal {
        self.access.principal()
    }

    /// Returns the credential that a handshake returns.
    pub fn issued_credential(&self) -> Option<&str> {
        self.issued_credential.as_deref()
    }

    /// Sets the command of the call in its usage record.
    pub(super) fn set_command(&self, command: &str) {
        self.meter.set_command(self.rpc, command);
    }

    /// Runs the work of the call, and adds the call's id to everything that is logged meanwhile. If a library panics, the
    /// call ends with an error instead of no response. State that calls share is behind locks, and never left half changed.
    pub(super) async fn run<T>(
        &self,
        work: impl Future<Output = Result<T, Status>>,
    ) -> Result<T, Status> {
        let span = tracing::info_span!("call", request = %self.id);
        let query = QueryMemory::start();
        let work = query.charge_to(Box::pin(work));
        let worked = AssertUnwindSafe(work).catch_unwind().instrument(span).await;
        // Any later failure is a consequence.
        if query.is_exhausted() && !matches!(worked, Ok(Ok(_))) {
            return Err(status::out_of_memory());
        }
        worked.unwrap_or_else(|panic| {
            if memory::is_out_of_memory(&*panic) {
                return Err(status::out_of_memory());
            }
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            let error = PanicError(text.unwrap_or_default().to_owned());
            let what = "the call failed on the server";
            Err(status::hidden_error(&error, self.id, what))
        })
    }

    /// Logs the outcome of the work of the call.
    pub(super) fn log<T>(&self, answer: &Result<T, Status>) {
        let principal = self.principal();
        let code = match answer {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        tracing::info!(
            request = %self.id,
            call = self.rpc,
            organisation = %principal.organisation_id,
            user = %principal.user_id,
            ?code,
            seconds = self.stopwatch.seconds(),
            "answered"
        );
    }
}

/// The work on a call panicked.
#[derive(Debug, thiserror::Error)]
#[error("panicked: {0}")]
struct PanicError(String);
