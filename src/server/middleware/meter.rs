//! The usage record of a call while the call is handled, and the errors of limits and of metering.

use std::sync::{Mutex, MutexGuard, PoisonError};

use ecow::eco_format;
use tonic::Status;
use uuid::Uuid;

use crate::engine::FingerprintCache;
use crate::lake::storage::scanned_bytes::ScannedBytes;
use crate::metering::{IS_DISABLED, LimitExceeded, OpenRequest, StatementRefused};
use crate::metrics::RequestKind;
use crate::server::errors::status;

/// The usage record of a call, shared by the code that handles the call.
#[derive(Debug)]
pub(in crate::server) struct CallMeter {
    request: Mutex<OpenRequest>,
    warning: Mutex<Option<String>>,
}

impl CallMeter {
    /// Creates the meter of a call of the RPC `name`.
    pub(super) fn new(mut request: OpenRequest, name: &str) -> Self {
        request.set_endpoint(name.into());
        Self {
            request: Mutex::new(request),
            warning: Mutex::default(),
        }
    }

    /// Sets the command of the call.
    pub(super) fn set_command(&self, rpc: &str, command: &str) {
        self.lock().set_endpoint(eco_format!("{rpc}/{command}"));
    }

    /// Sets the kind of the action that the call runs, for metrics.
    pub(super) fn set_action_kind(&self, kind: RequestKind) {
        self.lock().set_action_kind(kind);
    }

    /// Sets the statement of the call.
    pub fn set_statement(&self, sql: &str, known: &FingerprintCache) {
        if !IS_DISABLED {
            let fingerprint = known.get(sql);
            self.lock().set_statement(sql, fingerprint);
        }
    }

    /// Marks the call as billable, because it runs a statement. Before the client receives any data, the start of the
    /// call must be [persisted](Self::persist_start), or the response must be a [`MeteredStream`](super::metered_stream::MeteredStream).
    ///
    /// # Errors
    /// Fails if the organisation is over a limit, or the call cannot be recorded.
    pub fn mark_billable(&self, request: Uuid) -> Result<(), Status> {
        let begun = self.lock().mark_billable();
        let warning = begun.map_err(|error| match error {
            StatementRefused::OverLimit(over) => over_limit_status(&over),
            StatementRefused::Journal(error) => metering_unavailable(&error, request),
        })?;
        if let Some(warning) = warning {
            *self.warning.lock().unwrap_or_else(PoisonError::into_inner) = Some(warning);
        }
        Ok(())
    }

    /// Persists that the statement is being run.
    ///
    /// # Errors
    /// Fails if that cannot be recorded.
    pub fn persist_start(&self, request: Uuid) -> Result<(), Status> {
        let kept = self.lock().persist_start();
        kept.map_err(|error| metering_unavailable(&error, request))
    }

    /// Returns the warning for the client, if a quota is nearly used up.
    pub(super) fn warning(&self) -> Option<String> {
        self.warning
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Counts ingested readings.
    pub fn count_ingested(&self, rows: usize) {
        self.lock().count_ingested(rows as u64);
    }

    /// Returns the counter of bytes read from the lake's files.
    pub fn scanned(&self) -> ScannedBytes {
        self.lock().scanned()
    }

    /// Returns the record.
    pub(super) fn into_request(self) -> OpenRequest {
        self.request
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn lock(&self) -> MutexGuard<'_, OpenRequest> {
        self.request.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns the status for a call whose organisation is over a limit.
pub(super) fn over_limit_status(over: &LimitExceeded) -> Status {
    let retry_after = match over {
        LimitExceeded::Quota { .. } => return Status::failed_precondition(over.to_string()),
        LimitExceeded::Rate { retry_after, .. } => retry_after.as_secs_f64().ceil().max(1.0) as u64,
        LimitExceeded::Concurrency { .. } => 1,
    };
    let mut status = Status::unavailable(over.to_string());
    status
        .metadata_mut()
        .insert("retry-after", retry_after.into());
    status
}

/// Returns the status for a request that cannot be recorded.
pub(super) fn metering_unavailable(error: &dyn std::error::Error, request: Uuid) -> Status {
    status::hidden_error(
        error,
        request,
        "metering is unavailable: cannot record requests, so none is processed",
    )
}
